"""What a server on this machine takes while it is measured: memory, device memory and energy."""

import shutil
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import httpx
import psutil

APART = 0.25
"""Seconds between two looks."""
COUNTERS = "intel-rapl:[0-9]/energy_uj"
"""Of processor packages, in millionths of a joule, where the kernel shows them to this user."""
ASKED = ("nvidia-smi", "--query-gpu=memory.used,power.draw", "--format=csv,noheader,nounits")


def local_server(base_url: str) -> psutil.Process | None:
    """The process that listens at an address of this machine; None elsewhere, or if hidden."""
    url = httpx.URL(base_url)
    if url.host not in ("127.0.0.1", "localhost", "::1"):
        return None
    port = url.port or (443 if url.scheme == "https" else 80)
    with suppress(psutil.AccessDenied):
        for found in psutil.net_connections("tcp"):
            if found.status == psutil.CONN_LISTEN and found.laddr[1:] == (port,) and found.pid:
                return psutil.Process(found.pid)
    return None


class Watch:
    """Looks at a process with its children and at the GPUs four times a second, in a thread.

    Attributes:
        found: once the context has ended, what could be read: `rss_peak_gb` and `device_peak_gb`,
            in 10⁹ bytes, and `energy_j`, of the whole machine's processors and GPUs.
    """

    def __init__(
        self, process: psutil.Process | None, powercap: Path = Path("/sys/class/powercap")
    ):
        self.found: dict[str, float] = {}
        self._process, self._powercap = process, powercap
        self._smi = shutil.which(ASKED[0])
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)

    def __enter__(self) -> "Watch":
        if self._process is not None:
            self._before = self._counted()
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if self._process is None:
            return
        self._ended.set()
        self._thread.join()
        after = self._counted()
        if after is not None and self._before is not None and after >= self._before:
            self._add(energy_j=after - self._before)
        self.found = {name: round(value, 4) for name, value in self.found.items()}

    def _look_on(self) -> None:
        assert self._process is not None
        before = time.monotonic()
        while True:
            self._most(rss_peak_gb=resident(self._process) / 1e9)
            if self._smi is not None:
                memory, power = _gpus()
                self._most(device_peak_gb=memory)
                now = time.monotonic()
                self._add(energy_j=power * (now - before))
                before = now
            if self._ended.wait(APART):
                return

    def _most(self, **values: float) -> None:
        for name, value in values.items():
            self.found[name] = max(self.found.get(name, 0.0), value)

    def _add(self, **values: float) -> None:
        for name, value in values.items():
            self.found[name] = self.found.get(name, 0.0) + value

    def _counted(self) -> float | None:
        """Joules that the processors have counted; None where that cannot be read."""
        try:
            counters = [int(file.read_text()) for file in self._powercap.glob(COUNTERS)]
        except OSError:
            return None
        return sum(counters) / 1e6 if counters else None


def resident(process: psutil.Process) -> int:
    """Bytes of main memory that a process and its children hold; pages they share count in each."""
    held = 0
    with suppress(psutil.NoSuchProcess):
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                held += one.memory_info().rss
    return held


def _gpus() -> tuple[float, float]:
    """10⁹ bytes in use and watts drawn, of all of this machine's GPUs."""
    told = subprocess.run(ASKED, capture_output=True, text=True, check=False).stdout
    memory = power = 0.0
    for line in told.splitlines():
        with suppress(ValueError):  # such as "[N/A]"
            used, _, drawn = line.partition(",")
            memory += float(used) * 2**20 / 1e9
            power += float(drawn)
    return memory, power
