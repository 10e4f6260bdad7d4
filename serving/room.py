"""Whether there is memory: what those say who find none, and a look."""

import mmap

NO_MEMORY = (
    *("out of memory", "can't allocate memory", "cannot allocate memory", "bad_alloc"),
    *("can't start new thread", "unable to start watchdog thread"),
    "failed to map segment",
)
"""What the allocators of torch, CUDA, the system and C++ say, and threads without room for a stack
and libraries without room for themselves, in lower case."""

ENCODER_BYTES = 512 << 20
"""More than x264 takes for a video of 1920x1080."""


def has_room() -> bool:
    """Whether the system would give this process what an encoder takes."""
    try:
        mmap.mmap(-1, ENCODER_BYTES).close()
    except OSError:
        return False
    return True
