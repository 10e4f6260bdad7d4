"""What a run is worth so far: losses on held-out clips, and clips it draws, beside real ones."""

import json
import shutil
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from model.latents import encode_frames
from training.batch import Batches
from training.config import TrainConfig
from training.data.dataset import Dataset
from training.distances import described, features, kernel_distance
from training.heartbeat import Heartbeat
from training.log import Log
from training.network import TextToVideo
from training.noise import generator
from training.parallel import Place
from training.precision import autocast
from training.samples import draw, lay_out
from training.state import TrainState
from training.tasks import Task

BUCKETS = 5
"""Equal parts of the time from data to noise, each with a loss of its own."""
LEAST = 8
"""Clips on each side from which a distance is worth saying."""


class Validation:
    """Exports what was learned, and measures it; all processes do it together."""

    def __init__(
        self,
        config: TrainConfig,
        task: Task,
        held_out: Dataset | None,
        accelerator: Accelerator,
        at: Place,
        heart: Heartbeat,
        log: Log,
    ) -> None:
        self._config, self._task, self._held_out = config, task, held_out
        self._accelerator, self._at, self._heart, self._log = accelerator, at, heart, log
        self._best = config.run / "best.json"

    def export(self, model: nn.Module, network: TextToVideo, state: TrainState) -> dict[str, float]:
        """Write the averaged weights, and give their losses on held-out clips."""
        with state.ema.swapped():
            self._task.export(network)
            self._heart.beat(state.step)
            return self._losses(model, network, state.step)

    def __call__(self, model: nn.Module, network: TextToVideo, state: TrainState) -> None:
        """Export, measure, draw, and keep the best."""
        scores: dict[str, Any] = self.export(model, network, state)
        self._accelerator.wait_for_everyone()
        rank, processes = self._accelerator.process_index, self._accelerator.num_processes
        pipeline, clips, seen = self._task.open(), [], []
        self._heart.beat(state.step)
        requests = list(enumerate(self._task.requests(pipeline)))
        for place, request in requests[rank::processes]:
            frames = draw(pipeline, request)
            clips.append((place, request.prompt, frames))
            if self._held_out is not None:
                encoded = encode_frames(pipeline.components.vae, torch.from_numpy(frames.copy()))
                seen.append(features(encoded[0]))
            self._heart.beat(state.step)
        clips, seen = gather_object(clips), gather_object(seen)
        if not self._accelerator.is_main_process:
            return
        if clips:
            self._log.sheet(state.step, lay_out(clips))
        if self._held_out is not None:
            if min(len(seen), len(self._held_out)) >= LEAST:
                held = self._held_out
                real = described(held.latents(n) for n in range(len(held)))
                scores["kernel_distance"] = kernel_distance(real, torch.stack(seen))
            self._log.validation(state.step, scores)
            self._keep_best(state.step, scores)

    @torch.no_grad()
    def _losses(self, model: nn.Module, network: TextToVideo, step: int) -> dict[str, float]:
        """The loss on held-out clips, in all and by parts of the time; each clip has its noise."""
        if self._held_out is None:
            return {}
        held, at, config = self._held_out, self._at, self._config
        batches = Batches(config, held, network.transformer.config.patch_size)
        texts = self._task.texts(held)
        budget = config.batch.tokens if config.compile or at.sequence else None
        # As many for each process, since all take part in each forward pass of a sharded network.
        count = max(1, len(held) // at.data_size)
        mine = [(at.data + k * at.data_size) % len(held) for k in range(count)]
        found: dict[str, float] = {}
        for bucket in range(BUCKETS):
            losses = []
            for clip in mine:
                self._heart.beat(step)
                g = generator(config.seed, "validation", clip, bucket)
                t = (bucket + float(torch.rand((), generator=g))) / BUCKETS
                batch = at.share(batches.measured(clip, t, g, budget))
                tokens, target = batch.tokens.to(at.device), batch.target.to(at.device)
                told = (part.to(at.device) for part in (*texts[batch.rows], *batch.images))
                with autocast(config, at.device):
                    predicted = model(tokens, *told)
                error = (predicted - target).square().mean(dim=1)
                losses.append((tokens.loss_weight * error).sum() / batch.weight.to(at.device))
            total = at.total(losses) / at.total([torch.tensor(float(len(losses)))])
            found[f"loss_{bucket / BUCKETS:.1f}_{(bucket + 1) / BUCKETS:.1f}"] = total.item()
        return {"held_out_loss": sum(found.values()) / BUCKETS, **found}

    def _keep_best(self, step: int, scores: dict[str, Any]) -> None:
        """Copy what was exported where its score is below all before."""
        metric = self._config.best_by
        if metric not in scores:
            return
        before = json.loads(self._best.read_text())[metric] if self._best.exists() else None
        if before is not None and scores[metric] >= before:
            return
        for name in ("checkpoint", "loras"):
            if (self._config.run / name).exists():
                shutil.rmtree(self._config.run / "best" / name, ignore_errors=True)
                shutil.copytree(self._config.run / name, self._config.run / "best" / name)
        self._best.write_text(json.dumps({"step": step, **scores}) + "\n")
