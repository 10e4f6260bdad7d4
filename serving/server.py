"""`kinetograph serve`: the API in this process, the worker beside it, both gone together."""

import contextlib
import logging
import signal
import socket
import threading
import time

import uvicorn

from serving.app import create_app
from serving.files import Files
from serving.jobs import JobQueue
from serving.service import Service
from serving.settings import Settings
from serving.store import Store
from serving.supervisor import DataFolderInUse, Supervisor, locked

READY = "Kinetograph is ready at {url} with {model}."
"""The one line on standard output, printed when a job that is queued would be run."""

SLOWEST_ANSWER = 5
"""Seconds that answers under way are given when the service is asked to stop."""


class CannotServe(Exception):
    """The service cannot start; the message says why, in a sentence."""


def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises:
        CannotServe: if the port or the data folder is taken, or the model cannot be loaded.
    """
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s", level=logging.WARNING)
    # uvicorn hands a signal on when it has shut down; as an interrupt it unwinds what is below.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
        try:
            lock = stack.enter_context(locked(settings))
        except DataFolderInUse as error:
            raise CannotServe(str(error)) from None
        listener = stack.enter_context(_listen(settings))
        service = _assemble(settings)
        stack.callback(service.jobs.close)
        stack.callback(service.store.close)
        config = uvicorn.Config(
            create_app(service), log_config=None, timeout_graceful_shutdown=SLOWEST_ANSWER
        )
        server = uvicorn.Server(config)
        useless = threading.Event()

        def give_up() -> None:
            useless.set()
            server.should_exit = True

        stack.enter_context(Supervisor(settings, lock, give_up))
        threading.Thread(
            target=_announce, args=(server, service, listener), name="announcer", daemon=True
        ).start()
        server.run(sockets=[listener])
        if useless.is_set():
            raise CannotServe("The service has stopped: its model cannot be loaded.")


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        message = f"Cannot listen on {settings.host}, port {settings.port} ({error.strerror}); "
        raise CannotServe(message + "choose others with --host and --port.") from None
    return listener


def _assemble(settings: Settings) -> Service:
    JobQueue.create_tables(settings.database_url)
    store = Store(settings.database_url)
    store.create_tables()
    store.forget_models()
    return Service(store, JobQueue(settings.database_url), Files(settings.videos))


def _announce(server: uvicorn.Server, service: Service, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    while not (server.started and (models := service.store.models())):
        if server.should_exit:
            return
        time.sleep(0.05)
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    print(READY.format(url=url, model=models[0]["description"]["name"]), flush=True)
