"""A progress bar for a terminal, and a line a stage where there is none."""

import sys
import time
from typing import TextIO

WIDTH = 30


class ProgressBar:
    """One line that is drawn again and again, with the seconds since the bar was made."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._born = time.perf_counter()
        self._open = False

    def show(self, label: str, done: int, total: int) -> None:
        """Draw `done` of `total`; on a stream that is no terminal, only when the two are equal."""
        filled = WIDTH * done // total
        seconds = time.perf_counter() - self._born
        line = (
            f"{label:<9} [{'#' * filled}{'.' * (WIDTH - filled)}] {done}/{total} {seconds:6.1f} s"
        )
        if self._stream.isatty():
            self._stream.write(f"\r\x1b[K{line}")
            self._open = True
        elif done == total:
            self._stream.write(f"{line}\n")
        self._stream.flush()

    def close(self) -> None:
        """Leave the line as it is, and go to the next."""
        if self._open:
            self._stream.write("\n")
            self._open = False
