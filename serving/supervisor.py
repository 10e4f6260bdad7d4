"""Keeps one worker process alive beside the API, and takes it along when the service ends."""

import fcntl
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from serving.settings import Settings

SHORTEST_DELAY, LONGEST_DELAY = 0.5, 30.0
"""Seconds before a worker that died is started again; doubled each time it dies young."""
YOUNG_SECONDS = 60.0
GRACE_SECONDS = 5.0
"""Time a worker has to hand its job back before it is killed."""
UNUSABLE_MODEL = 78
"""A worker's exit status (sysexits.h, EX_CONFIG) for a model that no restart makes loadable."""

log = logging.getLogger("kinetograph")


class DataFolderInUse(Exception):
    """Another service holds the data folder."""


@contextmanager
def locked(settings: Settings) -> Iterator[int]:
    """Hold the data folder's lock; gives its descriptor, for a worker to hold as well.

    The lock lasts until both have let go, so a service never meets the worker of a killed one.

    Raises:
        DataFolderInUse: if another service still holds it after `GRACE_SECONDS`.
    """
    settings.data.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + GRACE_SECONDS
    with open(settings.lock_file, "a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    message = f"Another service is using the data folder {settings.data}; "
                    raise DataFolderInUse(message + "stop it or give --data.") from None
                time.sleep(0.1)
        yield file.fileno()


class Supervisor:
    """Runs the worker while the context lasts; `give_up` is called when it is of no use."""

    def __init__(self, settings: Settings, lock: int, give_up: Callable[[], None]) -> None:
        self._settings = settings
        self._lock = lock
        self._give_up = give_up
        self._stopping = threading.Event()
        self._spawning = threading.Lock()  # nothing is born once stopping is set
        self._process = self._spawn()
        self._thread = threading.Thread(target=self._watch, name="supervisor")

    def __enter__(self) -> "Supervisor":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._spawning:
            self._stopping.set()
            self._process.terminate()
        try:
            self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._thread.join()

    def _spawn(self) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C is for the service, which stops the worker in order.
        return subprocess.Popen(
            [sys.executable, "-m", "serving.worker", self._settings.to_json()],
            stdin=subprocess.PIPE,
            pass_fds=[self._lock],
            start_new_session=True,
        )

    def _watch(self) -> None:
        delay = SHORTEST_DELAY
        while True:
            born = time.monotonic()
            with self._process as process:
                status = process.wait()
            if self._stopping.is_set():
                return
            if status == UNUSABLE_MODEL:
                return self._give_up()
            if time.monotonic() - born > YOUNG_SECONDS:
                delay = SHORTEST_DELAY
            log.warning("The worker died (%s); starting it again in %.1f s.", status, delay)
            self._stopping.wait(delay)
            with self._spawning:
                if self._stopping.is_set():
                    return
                self._process = self._spawn()
            delay = min(2 * delay, LONGEST_DELAY)
