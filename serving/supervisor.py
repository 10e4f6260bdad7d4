"""Keeps worker processes alive beside the API, and takes them along when the service ends."""

import contextlib
import fcntl
import json
import logging
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import sqlalchemy as sa

from serving.database import UNAVAILABLE
from serving.leases import evict
from serving.settings import Settings

SHORTEST_DELAY, LONGEST_DELAY = 0.5, 30.0
"""Seconds before a worker that died is started again; doubled each time it dies young."""
YOUNG_SECONDS = 60.0
LEAVE_SECONDS = 5.0
"""Time that a worker has to be gone, after its grace, before it is killed."""
UNUSABLE_MODEL = 78
"""A worker's exit status (sysexits.h, EX_CONFIG) for a model that no restart makes loadable."""

log = logging.getLogger("kinetograph")


class DataFolderInUse(Exception):
    """Another service holds the data folder."""


@contextlib.contextmanager
def locked(settings: Settings) -> Iterator[int]:
    """Hold the data folder's lock; gives its descriptor, for the workers to hold as well.

    The lock lasts until all have let go, so a service never meets the workers of a killed one.

    Raises:
        DataFolderInUse: if another service still holds it after the workers' grace.
    """
    settings.data.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + settings.grace + LEAVE_SECONDS
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
    """Runs the worker of one slot until `stop`; `give_up` is called when it is of no use.

    index: number of the slot on this machine. lock: descriptor of the data folder's lock.
    """

    def __init__(
        self,
        settings: Settings,
        engine: sa.Engine,
        slot: str,
        index: int,
        lock: int,
        give_up: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._slot, self._index = slot, index
        self._lock = lock
        self._give_up = give_up
        self._stopping = threading.Event()
        self._spawning = threading.Lock()  # nothing is born once stopping is set
        self._process, self._pulse = self._spawn()
        self._thread = threading.Thread(target=self._watch, name=f"supervisor-{slot}")
        self._thread.start()

    def stop(self) -> None:
        """Ask the worker to leave, and start no other."""
        with self._spawning:
            self._stopping.set()
            self._process.terminate()

    def join(self) -> None:
        """Wait until the worker that was asked to leave is gone, or see to it."""
        try:
            self._process.wait(self._settings.grace + LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._thread.join()

    def _spawn(self) -> tuple[subprocess.Popen[bytes], int]:
        """A worker, and the descriptor of what it writes while it lives."""
        pulse, beat = os.pipe()
        # A session of its own: Ctrl-C is for the service, which stops the worker in order.
        process = subprocess.Popen(
            [sys.executable, "-m", "serving.slot"],
            stdin=subprocess.PIPE,
            pass_fds=[self._lock, beat],
            start_new_session=True,
        )
        os.close(beat)
        # Not as an argument: a database's URL may hold a password, and everybody can see those.
        told = {"slot": self._slot, "index": self._index, "pulse": beat}
        told["settings"] = self._settings.to_json()
        assert process.stdin
        with contextlib.suppress(BrokenPipeError):  # it died at once; `_watch` sees to that
            process.stdin.write(json.dumps(told).encode() + b"\n")
            process.stdin.flush()
        return process, pulse

    def _watch(self) -> None:
        delay = SHORTEST_DELAY
        while True:
            born = time.monotonic()
            with self._process as process:
                self._listen(process)
                status = process.wait()
            if self._stopping.is_set():
                return
            if status == UNUSABLE_MODEL:
                return self._give_up()
            if time.monotonic() - born > YOUNG_SECONDS:
                delay = SHORTEST_DELAY
            log.warning("%s died (%s); starting it again in %.1f s.", self._slot, status, delay)
            self._evict()
            self._stopping.wait(delay)
            with self._spawning:
                if self._stopping.is_set():
                    return
                self._process, self._pulse = self._spawn()
            delay = min(2 * delay, LONGEST_DELAY)

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        """Return once the worker is gone; kill it if it stands still.

        By then its job has gone to another. A process that was stopped within a write to SQLite
        keeps everybody from writing for as long as it is there.
        """
        patience = self._settings.lease + self._settings.grace
        silence = None  # no limit until it is first heard: its libraries may be on a slow disk
        pulse = select.poll()
        pulse.register(self._pulse, select.POLLIN)
        while pulse.poll(silence):
            if not os.read(self._pulse, 4096):
                break
            silence = 1000 * patience
        else:
            log.warning("%s stands still for %.0f s; it is killed.", self._slot, patience)
            process.kill()
        os.close(self._pulse)

    def _evict(self) -> None:
        # Dead for certain, so that nobody need wait for its silence to last.
        try:
            evict(self._engine, self._slot)
        except UNAVAILABLE as error:
            log.warning("The slot %s was not cleared: %s", self._slot, type(error).__name__)
