"""`kinetograph demo`: the whole way once, as a client sees it, with the time of every stage."""

import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serving.progress import ProgressBar
from serving.server import READY

FALLBACK_PROMPT = "A cat walks along a wall in the evening sun"
POLL_SECONDS = 0.1
STOP_SECONDS = 15.0


class DemoFailed(Exception):
    """The demo could not do its job; the message says why, in a sentence."""


def run(model: str, prompt: str | None, output: Path) -> None:
    """Start a service with `model`, have it make `prompt`, write `output`, stop the service.

    Raises:
        DemoFailed: if any of it does not work. Nothing that was started is left running.
    """
    # Both, whatever was inherited: a shell has its background jobs ignore SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    print(f"Starting the service with {model} ...", flush=True)
    with tempfile.TemporaryDirectory(prefix="kinetograph-demo-") as data:
        begun = time.perf_counter()
        with _service(model, data) as url:
            timings = {"start": time.perf_counter() - begun}
            print(f"It listens at {url}.", flush=True)
            video = _make(url, prompt)
            timings |= video["timings"]
            timings["download"] = _download(f"{url}/v1/videos/{video['id']}/content", output)
    print(f"Wrote {output}: {video['size']}, {video['seconds']} s. Seconds spent on each stage:")
    for stage, seconds in timings.items():
        print(f"  {stage:<9}{seconds:6.2f}")


@contextlib.contextmanager
def _service(model: str, data: str) -> Iterator[str]:
    """A running service; gives its URL, and stops it whatever happens."""
    command = [sys.executable, "-m", "serving.cli", "serve", "--port", "0"]
    command += ["--model", model, "--data", data]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        ready = re.match(READY.format(url="(.+)", model=".+"), process.stdout.readline())
        if ready is None:
            raise DemoFailed("The service did not start; its own words are above.")
        yield ready[1]
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def _make(url: str, prompt: str | None) -> dict[str, Any]:
    if not prompt:
        (model,) = _json(f"{url}/v1/models")["data"]
        prompt = (model["examples"] or [FALLBACK_PROMPT])[0]
    print(f"Prompt: {prompt}", flush=True)
    video = _json(f"{url}/v1/videos", {"prompt": prompt, "seed": 0})
    for warning in video["warnings"]:
        print(f"warning: {warning}", flush=True)
    bar = ProgressBar(sys.stdout)
    try:
        while video["status"] in ("queued", "in_progress"):
            bar.show(video["status"], video["progress"], 100)
            time.sleep(POLL_SECONDS)
            video = _json(f"{url}/v1/videos/{video['id']}")
        bar.show(video["status"], video["progress"], 100)
    finally:
        bar.close()
    if video["status"] == "failed":
        raise DemoFailed(f"The video could not be made: {video['error']['message']}")
    return video


def _json(url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with _opener.open(request) as response:
            answer: dict[str, Any] = json.load(response)
            return answer
    except urllib.error.HTTPError as error:
        raise DemoFailed(json.load(error)["error"]["message"]) from None
    except OSError as error:
        raise DemoFailed(f"The service does not answer: {error}") from None


def _download(url: str, output: Path) -> float:
    begun = time.perf_counter()
    output.parent.mkdir(parents=True, exist_ok=True)
    with _opener.open(url) as response, open(output, "wb") as file:
        shutil.copyfileobj(response, file)
    return time.perf_counter() - begun


# No proxy: one that is set for the outside world does not know this machine's loopback.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
