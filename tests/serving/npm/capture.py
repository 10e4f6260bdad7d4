"""Keep what the npm openai client sends, byte for byte: `python capture.py`, from this folder.

Needs node and `npm install openai` in this folder or above it. A request is one file, named by its
call in capture.mjs; the id of every video in them is 32 zeros, to be replaced by one as long.
"""

import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).parent
name = ""


class Recorder(BaseHTTPRequestHandler):
    """Writes each request to a file, and answers every one with an empty object."""

    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        """Read a head and its body, as they are on the wire."""
        global name
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.rfile.readline()
            if not line:
                self.close_connection = True
                return
            head += line
        length = int(head.lower().partition(b"\r\ncontent-length:")[2].split(b"\r\n")[0] or 0)
        path = head.split()[1].decode()
        if path.startswith("/capture/"):
            name = path.removeprefix("/capture/")
        else:
            (HERE / f"{name}.http").write_bytes(head + self.rfile.read(length))
        kind = b"content-type: application/json\r\ncontent-length: 2\r\nconnection: close"
        self.wfile.write(b"HTTP/1.1 200 OK\r\n" + kind + b"\r\n\r\n{}")
        self.close_connection = True


def main() -> None:
    """Record every call once."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    port = server.server_port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    subprocess.run(["node", "capture.mjs", f"http://127.0.0.1:{port}/v1"], cwd=HERE, check=True)
    server.shutdown()


if __name__ == "__main__":
    main()
