"""How much memory a request really takes: the peak of the process, by the kernel's own account.

    python tests/model/measure_memory.py FOLDER WIDTH HEIGHT FRAMES

prints the bytes by which opening the folder and making that video raise the resident set (VmHWM of
/proc/self/status) above what the process held before. A small video is made first, so that code and
kernels are in memory. Freed memory must go back to the system at once for that: run it with
MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ set low, as test_memory does.
"""

import ctypes
import gc
import sys
from pathlib import Path

from model.pipeline import GenerationRequest, VideoPipeline
from model.sampler import BATCHED_TOKENS


def status(key: str) -> int:
    """A line of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (value,) = (line.split()[1] for line in lines if line.startswith(f"{key}:"))
    return int(value) * 1024


def render(folder: str, width: int, height: int, num_frames: int) -> None:
    pipeline = VideoPipeline.from_pretrained(folder, "cpu")
    pipeline.render(
        GenerationRequest(
            "a cat", width=width, height=height, num_frames=num_frames, num_inference_steps=1
        )
    )


def main(folder: str, width: int, height: int, num_frames: int) -> int:
    BATCHED_TOKENS.clear()  # or the small video would not take the way of the large one
    render(folder, 32, 32, 5)
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
    render(folder, width, height, num_frames)
    return status("VmHWM") - before


if __name__ == "__main__":
    print(main(sys.argv[1], *map(int, sys.argv[2:])))
