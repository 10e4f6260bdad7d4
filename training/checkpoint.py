"""Saving and finding training states, by as many processes as there are and for any number.

torch's distributed checkpoint writes every process's shards and reads them back into whatever
shards there are then. It writes in the background, into a folder that takes its name only once the
last byte is on the disk; the last two are kept.
"""

import shutil
import threading
from concurrent.futures import Future
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save

from training.files import no_room
from training.heartbeat import says_lost
from training.state import DataChanged, TrainState

KEEP = 2
PARTIAL = ".partial"


class StateMismatch(ValueError):
    """A saved state that does not fit the network at hand."""


class StateNotWritten(RuntimeError):
    """A state could not be written; the one before it is whole."""


class Checkpoints:
    """The states of one run, in `run/states/step_N`."""

    def __init__(self, run: Path, patience: timedelta) -> None:
        """Take the run folder, and how long processes wait for one that is lost."""
        self._folder = run / "states"
        self._alone = not dist.is_initialized()
        self._leads = self._alone or dist.get_rank() == 0
        # A group of its own: the training's collectives must not meet those of the background.
        self._group = None if self._alone else dist.new_group(timeout=patience, backend="gloo")
        self._publishing = threading.Lock()
        self._writing: tuple[Future[Any], Path] | None = None
        if self._leads:
            for left in self._folder.glob(f"*{PARTIAL}"):
                shutil.rmtree(left)
        if not self._alone:
            dist.barrier()

    def save(self, state: TrainState) -> None:
        """Take a copy of the state now and write it in the background."""
        self.wait()
        folder = self._folder / f"step_{state.step:07d}"
        if folder.exists():
            return
        partial = folder.with_name(folder.name + PARTIAL)
        future = async_save(
            state.state_dict(),
            checkpoint_id=partial,
            process_group=self._group,
            no_dist=self._alone,
        )
        assert isinstance(future, Future)
        self._writing = future, folder
        future.add_done_callback(lambda _: self._publish(folder))

    def wait(self) -> None:
        """Wait until what is being written is whole; call it at the end."""
        if self._writing is None:
            return
        future, folder = self._writing
        self._writing = None
        try:
            future.result()
        except (CheckpointException, OSError, RuntimeError) as error:
            if says_lost(error):
                raise
            cause = _cause(error)
            remedy = "make room" if no_room(cause) else "mend that"
            raise StateNotWritten(
                f"run: {folder} could not be written ({_last_line(cause)}); {remedy} and start "
                "again: the run goes on from the last state that is whole"
            ) from None
        self._publish(folder)
        if not self._alone:
            dist.barrier()

    def _publish(self, folder: Path) -> None:
        """Give a state that is whole its name, once; called when it is written, and by `wait`."""
        partial = folder.with_name(folder.name + PARTIAL)
        with self._publishing:
            if self._leads and (partial / ".metadata").exists():
                partial.rename(folder)
                for old in saved(self._folder.parent)[:-KEEP]:
                    shutil.rmtree(old)

    def load_latest(self, state: TrainState) -> bool:
        """Load the newest state; tell whether there was one.

        Raises:
            StateMismatch: if it is of another network.
        """
        folders = saved(self._folder.parent)
        if folders:
            values = state.state_dict()
            try:
                _check_names(folders[-1], values["network"])
                load(values, checkpoint_id=folders[-1], no_dist=self._alone)
            except (CheckpointException, RuntimeError, ValueError, KeyError):
                raise StateMismatch(
                    f"run: {folders[-1]} is of another network than the configuration's; "
                    "use its configuration, or another run folder"
                ) from None
            try:
                state.load_state_dict(values)
            except DataChanged as error:
                raise StateMismatch(
                    f"run: {folders[-1]} is {error}; the world, the mix or the autoencoder is "
                    "another; use another run folder, with --init-from to keep the weights"
                ) from None
        return bool(folders)


def saved(run: Path) -> list[Path]:
    """Return the folders of whole states, oldest first."""
    return sorted(p for p in (run / "states").glob("step_*") if not p.suffix)


def _check_names(folder: Path, network: dict[str, Any]) -> None:
    """Raise KeyError unless the saved parameters are the network's; `load` would skip the rest."""
    saved_names = FileSystemReader(folder).read_metadata().state_dict_metadata
    parameters = {n.removeprefix("network.") for n in saved_names if n.startswith("network.")}
    if different := parameters ^ network.keys():
        raise KeyError(min(different))


def _cause(error: BaseException) -> BaseException:
    """What went wrong on the first process that has something to say."""
    if isinstance(error, CheckpointException) and error.failures:
        return next(iter(error.failures.values()))[0]
    return error


def _last_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
