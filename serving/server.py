"""`kinetograph serve`: API and workers, all gone together; `kinetograph api`: the API alone."""

import contextlib
import ipaddress
import logging
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence

import uvicorn

from serving import logs, tracing
from serving.app import create_app
from serving.database import UNAVAILABLE, reason
from serving.egress import Egress
from serving.jobs import JobQueue
from serving.leases import forget
from serving.objects import open_files
from serving.policy import BadPolicy, load
from serving.service import Service
from serving.settings import Settings
from serving.store import Store
from serving.supervisor import DataFolderInUse, Supervisor, locked

READY = "Kinetograph is ready at {url} with {model}."
"""The one line on standard output, printed when a job that is queued would be run."""
API_READY = "Kinetograph's API is ready at {url}; its workers are elsewhere."
"""The same without workers of our own, printed when requests are answered."""

SLOWEST_ANSWER = 5
"""Seconds that answers under way are given when the service is asked to stop."""


class CannotServe(Exception):
    """The service cannot start; the message says why, in a sentence."""


def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM, with workers of our own.

    Raises:
        CannotServe: if the port or the data folder is taken, the database is not there, or the
            model cannot be loaded.
    """
    with _stoppable(settings), contextlib.ExitStack() as stack:
        try:
            lock = stack.enter_context(locked(settings))
        except DataFolderInUse as error:
            raise CannotServe(str(error)) from None
        listener = stack.enter_context(_listen(settings))
        service = stack.enter_context(_assembled(settings))
        _check_keys(settings, service)
        server = _server(service)
        useless = threading.Event()

        def give_up() -> None:
            useless.set()
            server.should_exit = True

        slots = [f"{socket.gethostname()}-{i}" for i in range(settings.workers)]
        engine = service.store.engine
        forget(engine, slots)
        workers: list[Supervisor] = []
        stack.callback(_stop, workers)
        for index, slot in enumerate(slots):
            workers.append(Supervisor(settings, engine, slot, index, lock, give_up))
        _run(server, service, listener, READY)
        if useless.is_set():
            raise CannotServe("The service has stopped: its model cannot be loaded.")


def serve_api(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM; `kinetograph worker` runs the jobs, on this machine or others.

    Raises:
        CannotServe: if the port is taken or the database is not there.
    """
    settings.data.mkdir(parents=True, exist_ok=True)
    with _stoppable(settings), _listen(settings) as listener, _assembled(settings) as service:
        _check_keys(settings, service)
        _run(_server(service), service, listener, API_READY)


@contextlib.contextmanager
def _stoppable(settings: Settings) -> Iterator[None]:
    # A line an answer is for machines to read.
    level = logging.INFO if settings.logs == "json" else logging.WARNING
    logs.configure(settings.logs, level, settings.log_prompts)
    tracing.configure("api")
    # uvicorn hands a signal on when it has shut down; as an interrupt it unwinds what is below.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        yield


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # Named as TCP, or asyncio leaves Nagle's algorithm on and every answer waits 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        message = f"Cannot listen on {settings.host}, port {settings.port} ({error.strerror}); "
        raise CannotServe(message + "choose others with --host and --port.") from None
    return listener


@contextlib.contextmanager
def _assembled(settings: Settings) -> Iterator[Service]:
    store = Store(settings.database_url, settings.retention)
    try:
        policy, files = load(settings.policy), open_files(settings)
        JobQueue.create_tables(settings.database_url)
        store.create_tables()
        jobs = JobQueue(store.engine)
    except UNAVAILABLE as error:
        raise CannotServe(f"The database cannot be used: {reason(error)}") from None
    except (BadPolicy, ValueError) as error:
        raise CannotServe(str(error)) from None
    try:
        limits = settings.lease, settings.most_queued
        egress = Egress(settings.private_networks)
        yield Service(store, jobs, files, *limits, egress, policy, settings.anchors)
    finally:
        jobs.close()
        store.close()


def _check_keys(settings: Settings, service: Service) -> None:
    if not (settings.keyless or _is_loopback(settings.host) or service.keys.any()):
        message = f"Whoever reaches {settings.host} could use this service, which has no API keys; "
        raise CannotServe(message + "make one by `kinetograph keys create`, or say --keyless yes.")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _server(service: Service) -> uvicorn.Server:
    config = uvicorn.Config(
        create_app(service),
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=SLOWEST_ANSWER,
    )
    return uvicorn.Server(config)


def _run(
    server: uvicorn.Server, service: Service, listener: socket.socket, announcement: str
) -> None:
    arguments = (server, service, listener, announcement)
    threading.Thread(target=_announce, args=arguments, name="announcer", daemon=True).start()
    server.run(sockets=[listener])


def _announce(
    server: uvicorn.Server, service: Service, listener: socket.socket, announcement: str
) -> None:
    model = None
    while not (server.started and (model or announcement == API_READY)):
        if server.should_exit:
            return
        time.sleep(0.05)
        with contextlib.suppress(*UNAVAILABLE):
            model = next((row["name"] for row in service.served()), None)
    host, port = listener.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    print(announcement.format(url=url, model=model), flush=True)


def _stop(workers: Sequence[Supervisor]) -> None:
    for worker in workers:
        worker.stop()
    for worker in workers:
        worker.join()
