"""Files of strangers, decoded in processes of their own: see `serving.intake.zygote`."""

import atexit
import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
from typing import IO, Any

from serving.intake import Unfit

PATIENCE_SECONDS = 1000.0
"""More than a decoder is given; then its zygote itself must be at fault."""
MOST_AT_ONCE = 2
"""Decoders beside each other, so that many uploads do not add up in memory."""
LONGEST_ANSWER = 1 << 16


class Jail:
    """Decoders of one process, begun when the first is needed, gone when the process is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._few = threading.BoundedSemaphore(MOST_AT_ONCE)
        self._zygote: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None

    def picture(self, source: IO[bytes]) -> IO[bytes]:
        """An image as an upright RGB PNG, in a temporary file."""
        target = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (the caller's)
        try:
            self._run("picture", source, target)
        except BaseException:
            target.close()
            raise
        return target

    def measure(self, source: IO[bytes]) -> dict[str, Any]:
        """Of a video: width, height, num_frames, fps and container."""
        with open(os.devnull, "wb") as nothing:
            return self._run("measure", source, nothing)

    def frames(self, source: IO[bytes], target: IO[bytes]) -> dict[str, Any]:
        """Write all frames of a video, as RGB bytes; gives their shape and fps."""
        return self._run("frames", source, target)

    def verify(self, source: IO[bytes], anchors: str) -> dict[str, Any]:
        """Who made an MP4, by its manifest; anchors: the authorities that are trusted, as PEM."""
        with open(os.devnull, "wb") as nothing:
            return self._run("verify", source, nothing, anchors=anchors)

    def close(self) -> None:
        """End the zygote; the next task begins another."""
        with self._lock:
            self._end()

    def _run(self, task: str, source: IO[bytes], target: IO[bytes], **asked: str) -> dict[str, Any]:
        source.flush()
        with self._few:
            told = self._ask({"task": task, **asked}, source, target)
        if "unfit" in told:
            raise Unfit(*told["unfit"])
        return told

    def _ask(self, asked: dict[str, str], source: IO[bytes], target: IO[bytes]) -> dict[str, Any]:
        result, written = os.pipe()
        try:
            with open(result, "rb", buffering=0) as answer:
                self._send(asked, [source.fileno(), target.fileno(), written])
                os.close(written)
                written = -1
                ready = select.select([answer], [], [], PATIENCE_SECONDS)[0]
                text = answer.read(LONGEST_ANSWER) if ready else b""
        finally:
            if written >= 0:
                os.close(written)
        if not text:  # ended by one of its limits, or by the system
            raise Unfit("file_too_large", "a file that can be decoded in the time and memory given")
        told: dict[str, Any] = json.loads(text)
        return told

    def _send(self, asked: dict[str, str], descriptors: list[int]) -> None:
        message = json.dumps(asked).encode()
        with self._lock:
            for _ in range(2):
                with contextlib.suppress(BrokenPipeError, ConnectionError):
                    socket.send_fds(self._begun(), [message], descriptors)
                    return
                self._end()
        raise OSError("no decoder can be started")

    def _begun(self) -> socket.socket:
        if self._requests is None:
            self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            # No variable of ours, which may hold keys, is a decoder's business.
            kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
            with theirs:
                self._zygote = subprocess.Popen(
                    [sys.executable, "-m", "serving.intake.zygote", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env=kept,
                    start_new_session=True,  # Ctrl-C is not for it
                )
        return self._requests

    def _end(self) -> None:
        if self._requests is not None:
            self._requests.close()
            self._requests = None
        if self._zygote is not None:
            self._zygote.kill()
            self._zygote.wait()
            self._zygote = None


JAIL = Jail()
"""That of this process."""
atexit.register(JAIL.close)
