"""Saving and finding training states: whole or not at all, the last two kept."""

import os
import shutil
from pathlib import Path

import torch

from training.files import whole_folder
from training.state import TrainState

KEEP = 2


class StateMismatch(ValueError):
    """A saved state that does not fit the network at hand."""


def save(run: Path, state: TrainState) -> Path:
    """Write `run/states/step_N/state.pt`; the folder takes its name only when it is whole."""
    folder = run / "states" / f"step_{state.step:07d}"
    with whole_folder(folder) as partial, (partial / "state.pt").open("wb") as file:
        torch.save(state.state_dict(), file)
        file.flush()
        os.fsync(file.fileno())
    for old in saved(run)[:-KEEP]:
        shutil.rmtree(old)
    return folder


def saved(run: Path) -> list[Path]:
    """Return the folders of whole states, oldest first."""
    return sorted(p for p in (run / "states").glob("step_*") if not p.suffix)


def load_latest(run: Path, state: TrainState) -> bool:
    """Load the newest state of a run; return whether there was one."""
    folders = saved(run)
    if folders:
        path = folders[-1] / "state.pt"
        saved_state = torch.load(path, map_location="cpu", weights_only=True)
        try:
            state.load_state_dict(saved_state)
        except (RuntimeError, ValueError, KeyError):
            raise StateMismatch(
                f"run: {path} is of another network than the configuration's; "
                "use its configuration, or another run folder"
            ) from None
    return bool(folders)
