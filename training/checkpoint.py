"""Saving and finding training states: whole or not at all, the last two kept."""

import os
import shutil
from pathlib import Path

import torch

from training.state import TrainState

KEEP = 2


def save(run: Path, state: TrainState) -> Path:
    """Write `run/states/step_N/state.pt`; the folder takes its name only when it is whole."""
    folder = run / "states" / f"step_{state.step:07d}"
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with (partial / "state.pt").open("wb") as file:
        torch.save(state.state_dict(), file)
        file.flush()
        os.fsync(file.fileno())
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    for old in saved(run)[:-KEEP]:
        shutil.rmtree(old)
    return folder


def saved(run: Path) -> list[Path]:
    """Return the folders of whole states, oldest first."""
    return sorted(p for p in (run / "states").glob("step_*") if p.suffix != ".partial")


def load_latest(run: Path, state: TrainState) -> bool:
    """Load the newest state of a run; return whether there was one."""
    folders = saved(run)
    if folders:
        path = folders[-1] / "state.pt"
        state.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return bool(folders)
