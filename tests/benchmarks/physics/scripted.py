"""HTTP servers that do what a script says, on a free port each, for as long as they are needed."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class ScriptedHandler(BaseHTTPRequestHandler):
    """Answers with whole bodies, and logs nothing."""

    def log_message(self, *_: object) -> None:
        """Tests are quiet."""

    def send(self, status: int, body: bytes, kind: str = "application/json") -> None:
        """Answer with a body."""
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def running(handler: type[ScriptedHandler], script: object) -> Iterator[str]:
    """Run a server whose handlers have that `script`; gives the base URL."""
    scripted = type("Scripted", (handler,), {"script": script})
    server = ThreadingHTTPServer(("127.0.0.1", 0), scripted)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
