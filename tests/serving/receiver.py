"""A receiver of webhooks, and other answers of an address on the web, on a free port."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Received:
    """A request: its headers, in lower case, and its body."""

    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """What came, and the status that it is answered with."""

    url: str
    status: int = 200
    received: list[Received] = field(default_factory=list)


@contextmanager
def listening(answer: Answer, port: int = 0, host: str = "127.0.0.1") -> Iterator[str]:
    """Answer every request by `answer`; gives the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((host, port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://{host}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def receiving(port: int = 0) -> Iterator[Receiver]:
    """A receiver that keeps what comes."""
    receiver = Receiver("")

    def keep(handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["content-length"]))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        receiver.received.append(Received(headers, body))
        handler.send_response(receiver.status)
        handler.send_header("content-length", "0")
        handler.end_headers()

    with listening(keep, port) as url:
        receiver.url = url
        yield receiver
