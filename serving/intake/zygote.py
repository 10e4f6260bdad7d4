"""The process from which decoders are forked: one a file, with limits that end it and nothing else.

A decoder may use so much memory and time, write so many bytes, and open no file and no connection:
it has its source, its target and the pipe for its answer, and no descriptor is left to be given.
"""

import contextlib
import json
import os
import resource
import signal
import socket
import sys
from typing import NoReturn

from serving.intake import decoder

MEMORY_BYTES = 2 << 30
"""Address space of a decoder: the largest frames, as many as H.264 refers to."""
CHECKED_SECONDS, DECODED_SECONDS = 20, 300
"""Seconds of the processor to look into a file, and to decode all of it."""
WAITED = 3
"""Times as many on the clock, as others want the processor too."""
LONGEST_MESSAGE = 1 << 17
PICTURE_BYTES = 64 << 20
"""Of a PNG of the most pixels, compressed or not."""


def serve(requests: socket.socket) -> None:
    """Fork a decoder for every request, until the other end is gone."""
    decoder.warm_up()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, LONGEST_MESSAGE, 3)
        if not message:
            return
        if os.fork() == 0:
            requests.close()
            _decode(json.loads(message), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _decode(asked: dict[str, str], source: int, target: int, result: int) -> NoReturn:
    with contextlib.suppress(BaseException):
        _lock_in(asked["task"])
        with open(source, "rb") as given, open(target, "wb") as written:
            given.seek(0)
            os.write(result, decoder.answer(asked, given, written))
    os._exit(0)


def _lock_in(task: str) -> None:
    seconds = DECODED_SECONDS if task == "frames" else CHECKED_SECONDS
    written = 3 * decoder.MOST_VIDEO_PIXELS if task == "frames" else PICTURE_BYTES
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.alarm(WAITED * seconds)  # whose signal ends the process
    for limit, value in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, written),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 0),
    ):
        resource.setrlimit(limit, (value, value))


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
