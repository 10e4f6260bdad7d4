"""The process that holds a slot: a worker, its jobs, and the threads that look after both.

Run by `serving.supervisor`, which holds the other end of its standard input: when that closes, the
service is gone and the worker leaves too. `kinetograph worker` runs one by itself.
"""

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict

from serving import logs, tracing
from serving.caretaker import Caretaker
from serving.catalog import CatalogError, entries
from serving.database import UNAVAILABLE, reason
from serving.egress import Egress
from serving.jobs import JobQueue, run_jobs
from serving.leases import HEARTBEAT_SECONDS, Lease, SlotTaken
from serving.objects import open_files
from serving.provenance import CannotSign, Provenance
from serving.settings import Settings
from serving.store import Store
from serving.supervisor import UNUSABLE_MODEL
from serving.webhooks import Courier
from serving.worker import CannotOpen, Worker, next_device, open_host

NOT_NOW = 75
"""A worker's exit status (sysexits.h, EX_TEMPFAIL) where a restart is worth a try."""
LOOK_SECONDS = 0.2
"""How often a worker looks whether it was asked to stop; a signal usually wakes it at once."""

log = logging.getLogger("kinetograph.worker")


class CannotWork(Exception):
    """The worker cannot start; a sentence that says why, and the status to exit with."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def run(settings: Settings, slot: str, index: int = 0) -> None:
    """Hold the slot and run jobs until SIGTERM or SIGINT; it does not return.

    index: number of the worker on this machine, which chooses its GPU.

    Raises:
        CannotWork: if the slot is held by a worker that is alive, the database is not there, or
            a model cannot be opened.
    """
    logs.configure(settings.logs, logging.INFO)
    tracing.configure("worker")
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: asked.append(number))
    try:
        # Those of one `serve` know of each other; others have to be told by --memory-limit.
        devices = [settings.device or next_device(i) for i in range(settings.workers)]
        _work(settings, slot, devices[index], devices.count(devices[index]), asked)
    except (CannotOpen, CatalogError) as error:
        raise CannotWork(f"The model cannot be loaded: {error}", UNUSABLE_MODEL) from None
    except CannotSign as error:
        raise CannotWork(str(error), UNUSABLE_MODEL) from None
    except SlotTaken as error:
        raise CannotWork(str(error), NOT_NOW) from None
    except UNAVAILABLE as error:
        raise CannotWork(f"The database cannot be used: {reason(error)}", NOT_NOW) from None


def _work(settings: Settings, slot: str, device: str, sharing: int, asked: Sequence[int]) -> None:
    store = Store(settings.database_url, settings.retention)
    JobQueue.create_tables(settings.database_url)
    store.create_tables()
    lease = Lease(store.engine, slot, device, settings.lease)
    lease.take()
    _in_background(lambda: lease.hold(lambda: _exit(NOT_NOW, "another worker has its slot")))
    served, files = entries(settings), open_files(settings)
    provenance = Provenance.of(
        settings.provenance,
        settings.signing_certificate,
        settings.signing_key,
        settings.prompt_in_manifest,
    )
    host = open_host(served, device, settings.memory_limit, settings.compile, sharing)
    limits = settings.step_timeout, provenance, settings.visible_mark
    worker = Worker(host, served, store, files, slot, *limits)
    described = zip(host.descriptions(), served, strict=True)
    lease.publish([asdict(d) | {"aliases": entry.aliases} for d, entry in described])
    courier = Courier(store, Egress(settings.private_networks))
    run_jobs(settings.database_url, lease.incarnation, worker.make_video, courier.deliver)
    caretaker = Caretaker(store, JobQueue(store.engine), files, lease, lambda: worker.at_hand)
    _in_background(caretaker.run)
    log.info("%s takes jobs on %s", lease.incarnation, device)
    while not asked:  # no event without end: a signal that another thread took would not wake it
        time.sleep(LOOK_SECONDS)
    worker.stop(settings.grace)
    with suppress(*UNAVAILABLE):
        lease.leave()
    _exit(0, "asked to stop")


def _in_background(work: Callable[[], None]) -> None:
    threading.Thread(target=work, daemon=True).start()


def _exit(status: int, why: str) -> None:
    log.info("leaving: %s", why)
    # Not sys.exit: it would wait for the job's thread, which may hang or is not to go on.
    os._exit(status)


def main() -> None:
    """Run the worker that `serving.supervisor` asks for on standard input."""
    with open(0, "rb", buffering=0, closefd=False) as orders:
        line = orders.readline()
    if not line:
        return  # whoever was to give them is gone
    told = json.loads(line)
    _in_background(lambda: _beat(told["pulse"]))
    _in_background(_leave_with_parent)
    try:
        run(Settings.from_json(told["settings"]), told["slot"], told["index"])
    except CannotWork as error:
        print(error, file=sys.stderr)
        sys.exit(error.status)


def _beat(pulse: int) -> None:
    """Show the supervisor every second that this process does not stand still."""
    os.set_inheritable(pulse, False)  # it ends with this process
    with suppress(BrokenPipeError):
        while os.write(pulse, b"."):
            time.sleep(HEARTBEAT_SECONDS)


def _leave_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
