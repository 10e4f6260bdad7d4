"""An S3-compatible server of its own process, with one empty bucket."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx


@contextmanager
def served(bucket: str) -> Iterator[str]:
    """The address of moto's server once it has the bucket."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    url = f"http://127.0.0.1:{port}"
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **quiet) as server:
        deadline = time.monotonic() + 120
        with httpx.Client(trust_env=False) as client:
            while True:
                with suppress(httpx.TransportError):
                    if client.put(f"{url}/{bucket}").is_success:
                        break
                assert server.poll() is None and time.monotonic() < deadline
                time.sleep(0.2)
        yield url
        server.terminate()
