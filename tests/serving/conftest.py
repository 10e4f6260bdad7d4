"""A tiny checkpoint of random weights in the real format, and services that run on it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

WORDS = ["a", "red", "blue", "ball", "is", "dropped", "and", "bounces", "cat", "walks", "left"]
EXAMPLES = ["a red ball is dropped and bounces", "a blue cat walks left"]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the embedded model's: 64x64, 17 frames, 8 a second, a few words."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    from model.autoencoder import VideoAutoencoder
    from model.text import build_tokenizer

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    WanPipeline(
        tokenizer=build_tokenizer(WORDS),
        text_encoder=UMT5EncoderModel(
            UMT5Config(
                vocab_size=3 + len(WORDS), d_model=16, d_kv=8, num_heads=2, num_layers=1, d_ff=16
            )
        ),
        transformer=WanTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=12,
            text_dim=16,
            freq_dim=16,
            ffn_dim=24,
            num_layers=1,
            in_channels=16,
            out_channels=16,
        ),
        vae=VideoAutoencoder(hidden_channels=8, num_blocks=1),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=2.0),
    ).save_pretrained(folder)
    index = json.loads((folder / "model_index.json").read_text())
    index |= {
        "capabilities": ["text"],
        "max_sequence_length": 12,
        "limits": {"sizes": ["64x64"], "num_frames": [17, 9], "fps": 8},
        "defaults": {"num_inference_steps": 2, "guidance_scale": 2.5},
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    known = {"words": WORDS, "grammar": ["a {c} ball is dropped and bounces"], "examples": EXAMPLES}
    (folder / "examples.json").write_text(json.dumps(known))
    return folder


@dataclass
class Served:
    """A running `kinetograph serve`, a client of it, and what it has written to stderr."""

    process: subprocess.Popen[str]
    url: str
    data: Path
    api: httpx.Client
    log: Path

    def worker_pid(self) -> int:
        """The process id of its worker, its only child."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        (pid,) = {pid for task in tasks for pid in (task / "children").read_text().split()}
        return int(pid)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Signal it, if it still runs, wait for its end and give its exit status."""
        self.api.close()
        with self.process:
            self.process.send_signal(how)
            return self.process.wait(20)

    def create(self, prompt: str, **fields: Any) -> dict[str, Any]:
        """Queue a video."""
        response = self.api.post("/v1/videos", json={"prompt": prompt, **fields})
        assert response.status_code == 200, response.text
        video: dict[str, Any] = response.json()
        return video

    def wait(self, video_id: str, until: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Poll a video until it is as wanted; the service is given three minutes."""
        deadline = time.monotonic() + 180
        while True:
            video: dict[str, Any] = self.api.get(f"/v1/videos/{video_id}").json()
            if until(video):
                return video
            assert time.monotonic() < deadline, video
            time.sleep(0.02)

    def finish(self, video_id: str) -> dict[str, Any]:
        """Poll a video until its job is over."""
        return self.wait(video_id, lambda video: video["status"] in ("completed", "failed"))


Serve = Callable[[Path, Path], Served]


@pytest.fixture(scope="session")
def serve_on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Give `serve_on(model, data)`, which starts a service on a free port and waits for it."""
    running: list[Served] = []

    def serve_on(model: Path, data: Path) -> Served:
        log = tmp_path_factory.mktemp("log") / "stderr"
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "serving.cli", "serve", "--port", "0"]
                + ["--model", str(model), "--data", str(data)],
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        assert process.stdout
        line = process.stdout.readline()
        assert " is ready at http" in line, log.read_text()
        url = line.split(" at ")[1].split()[0]
        api = httpx.Client(base_url=url, trust_env=False, timeout=30)
        running.append(Served(process, url, data, api, log))
        return running[-1]

    yield serve_on
    for served in running:
        served.stop()


@pytest.fixture(scope="session")
def service(serve_on: Serve, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """One service for all the tests that do not break theirs."""
    return serve_on(checkpoint, tmp_path_factory.mktemp("service"))
