"""An endpoint that captions as a vision model would, by OpenAI's protocol."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Say = Callable[[dict[str, Any]], str]
"""What is asked to what is answered."""


class Endpoint:
    """Answers by a script of status codes, then with 200 for good; keeps what it is asked."""

    def __init__(self, statuses: list[int], say: Say | None = None) -> None:
        self.statuses = statuses
        self.asked: list[dict[str, Any]] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                if len(body := self.rfile.read(length)) < length:
                    return  # who asked is gone
                asked = {"key": self.headers["Authorization"], **json.loads(body)}
                endpoint.asked.append(asked)
                status = endpoint.statuses.pop(0) if endpoint.statuses else 200
                text = f"what is\nseen, {len(endpoint.asked)}"
                text = say(asked) if say else text
                answer = {"choices": [{"message": {"content": text}}]}
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
