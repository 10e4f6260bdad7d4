"""The whole road on eight real clips: files, data set, training, and the clips come back."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import world
from model.autoencoder import VideoAutoencoder
from model.pipeline import GenerationRequest, VideoPipeline
from model.video import write_mp4
from tests.training.finetuning import configured, write_checkpoint
from training.data.clips import covering, cropped, read_clip
from training.data.prepare.__main__ import main as prepare
from training.data.prepare.__main__ import parse_arguments
from training.data.prepared import open_prepared
from training.train import main as train

ROOT = Path(__file__).parents[2]
CAPTIONS = [f"a number {k} drifts" for k in range(8)]


def psnr(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """In dB, over all pixels."""
    error = np.square(one.astype(float) - other).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


@pytest.mark.proof
@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_eight_clips_are_learned_by_heart(tmp_path: Path) -> None:
    """The loss ends near zero, below 0.05 from above 1, and each clip is drawn at 25 dB or more.

    Random weights of Wan's layout behind the embedded autoencoder, which reconstructs what it
    encodes (to 29 dB and more); eight scenes of the world as MP4 files, 9 frames each, at 32 x 32.
    """
    for k, caption in enumerate(CAPTIONS):
        family = ("drop", "walk", "beside")[k % 3]
        frames = world.render(world.sample(family, 900 + k), 64)[:9]
        (tmp_path / "in").mkdir(exist_ok=True)
        write_mp4(tmp_path / "in" / f"{k}.mp4", frames, world.FPS)
        (tmp_path / "in" / f"{k}.txt").write_text(caption)
    vae = VideoAutoencoder.from_pretrained(ROOT / "model/pretrained/vae")
    shape = {"attention_head_dim": 32, "num_attention_heads": 4, "ffn_dim": 512, "num_layers": 4}
    base, data = write_checkpoint(tmp_path / "base", vae, **shape), tmp_path / "data"
    index = json.loads((base / "model_index.json").read_text())
    (base / "model_index.json").write_text(json.dumps({**index, "max_sequence_length": 8}))
    told = ["--fps", str(world.FPS), "--frames", "9", "--min-frames", "9", "--area", "32"]
    prepare(parse_arguments([str(tmp_path / "in"), "-o", str(data), "--model", str(base), *told,
                             "--where", "", "--workers", "1"]))  # fmt: skip
    clips = open_prepared(data, "", 0.0)[0].rows
    assert len(clips) == 8
    run = tmp_path / "run"
    changes: dict[str, Any] = {
        "steps": 1200,
        "batch": {"tokens": 384, "image_share": 0.0, "text_dropout": 0.0},
        "optim": {"muon": True, "muon_lr": 0.02, "lr": 2e-3, "warmup_steps": 20,
                  "decay_share": 0.5, "ema_decay": 0.98},
        "sampling": {"num_inference_steps": 24},
        "log_every": 100,
    }  # fmt: skip
    train(configured(run, base, data, **changes))
    losses = [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    pipeline = VideoPipeline.from_pretrained(run / "checkpoint")
    found = []
    for clip in clips:
        size = clip["clip_width"], clip["clip_height"]
        real = cropped(read_clip(clip, Fraction(world.FPS), covering(*size)), *size)
        drawn = pipeline.render(GenerationRequest(clip["caption"], seed=5)).frames
        found.append(psnr(drawn, real))
    first, last = np.mean(losses[:5]), np.mean(losses[-20:])
    print(f"loss {first:.3f} to {last:.4f}; PSNR {min(found):.1f} to {max(found):.1f} dB")
    assert first > 1 and last < 0.05
    assert min(found) >= 25
