"""What a run says: a row of metrics a step, curves and clips, a line now and then, its configs."""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from PIL import Image

from training.config import TrainConfig
from training.packing import Pack
from training.speed import Cost, peak_flops, peak_memory


class Log:
    """Writes the files of a run folder and its tracker; on the leading process alone."""

    def __init__(self, config: TrainConfig, accelerator: Accelerator, step: int, cost: Cost):
        """Note the configuration and the step it holds from.

        Rows of steps after the one that is gone on from are dropped: they are taken again.
        """
        self._config = config
        self._accelerator = accelerator
        self._writes = accelerator.is_main_process
        self._metrics = config.run / "metrics.jsonl"
        self._validation = config.run / "validation.jsonl"
        self._cost = cost
        self._first = step
        self._started = self._last = time.monotonic()
        peak = peak_flops(accelerator.device)
        self._peak = peak and peak * accelerator.num_processes
        accelerator.init_trackers(
            config.name,
            init_kwargs={
                "tensorboard": {"purge_step": step + 1},
                "wandb": {"dir": str(config.run), "id": _id(config.run), "resume": "allow"},
            },
        )
        if not self._writes:
            return
        _append(config.run / "configs.jsonl", {"from_step": step, **config.model_dump(mode="json")})
        for file in (self._metrics, self._validation):
            if file.exists():
                rows = file.read_text().splitlines(keepends=True)
                kept = [row for row in rows if _step_of(row, default=step + 1) <= step]
                file.write_text("".join(kept))

    def say(self, text: str) -> None:
        """Print a line."""
        if self._writes:
            print(text, flush=True)

    def step(self, step: int, loss: float, grad_norm: float, packs: list[Pack], lr: float) -> None:
        """Append a step's row; print it every `log_every` steps, with the time that is left.

        Tokens, samples and rates are over all processes, memory in GB is this one's. `mfu` is the
        share of the devices' peak that the network's operations are (Chowdhery et al., 2022, §4.1).
        """
        now = time.monotonic()
        seconds, self._last = now - self._last, now
        if not self._writes:
            return
        tokens, samples = sum(p.tokens for p in packs), sum(len(p.ids) for p in packs)
        row: dict[str, Any] = {
            "step": step,
            "loss": loss,
            "grad_norm": grad_norm,
            "tokens": tokens,
            "samples": samples,
            "lr": lr,
            "tokens_per_s": tokens / seconds,
            "samples_per_s": samples / seconds,
            "memory_gb": round(peak_memory(self._accelerator.device) / 1e9, 3),
        }
        if self._peak:
            row["mfu"] = self._cost.of(packs) / seconds / self._peak
        _append(self._metrics, row)
        self._accelerator.log(row, step=step)
        if step % self._config.log_every == 0:
            elapsed = now - self._started
            left = elapsed / (step - self._first) * (self._config.steps - step)
            self.say(
                f"step {step}/{self._config.steps} loss {loss:.4f} grad {grad_norm:.2f} "
                f"{row['samples_per_s']:.1f} clips/s {row['memory_gb']:.1f} GB "
                f"{elapsed / 60:.1f} min, about {left / 60:.0f} min left"
            )

    def stopped(self, step: int, clips: list[dict[str, Any]]) -> Path:
        """Write the clips of a step that must not be taken, a line each; gives the file."""
        file = self._config.run / f"stopped_{step:07d}.jsonl"
        if self._writes:
            file.write_text("".join(json.dumps(clip) + "\n" for clip in clips))
        return file

    def validation(self, step: int, scores: dict[str, float]) -> None:
        """Append scores to `validation.jsonl`, print and track them."""
        _append(self._validation, {"step": step, **scores})
        self._accelerator.log({f"validation/{name}": value for name, value in scores.items()}, step)
        self.say(f"step {step} " + " ".join(f"{name} {v:.4f}" for name, v in scores.items()))

    def sheet(self, step: int, sheet: Image.Image) -> None:
        """Save a contact sheet of validation clips, and show it in the tracker."""
        sheet.save(self._config.run / f"samples_{step:07d}.png")
        for tracker in self._accelerator.trackers:
            layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            tracker.log_images({"validation": np.array(sheet)[None]}, step=step, **layout)


def _id(run: Path) -> str:
    """A name that W&B takes and that no run in another folder has."""
    digest = hashlib.blake2b(str(run.resolve()).encode(), digest_size=4).hexdigest()
    return f"{run.name}-{digest}"


def _append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def _step_of(row: str, default: int) -> int:
    """The step of a row, or `default` for one that a killed process left half-written."""
    try:
        return int(json.loads(row)["step"])
    except ValueError:
        return default
