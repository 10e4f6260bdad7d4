"""A data set that `training.data.prepare` wrote, open: rows of its index, latents, embeddings."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from training.config import ConfigError
from training.data.cache import LatentDataset, mapped
from training.data.where import WhereError, select

HELD_OUT_OF = 2**32


@dataclass(frozen=True)
class Prepared:
    """The rows of a data set that an expression chooses, by clip id in an order of chance.

    Attributes:
        folder: where it is.
        rows: of its index, as dicts.
        told: what `dataset.json` says.
    """

    folder: Path
    rows: list[dict[str, Any]]
    told: dict[str, Any]

    @property
    def captions(self) -> list[str]:
        """One a row."""
        return [row["caption"] for row in self.rows]

    def fingerprint(self) -> str:
        """Of everything that a training on these rows depends on."""
        made_by = [self.told.get(name) for name in ("vae", "text_encoder", "first_frames")]
        told = [*made_by, self.told["fps"]]
        rows = [[row["id"], row["caption"], row["clip_width"], row["frames"]] for row in self.rows]
        return hashlib.blake2b(json.dumps([told, rows]).encode(), digest_size=8).hexdigest()

    def shards(self) -> dict[int, LatentDataset]:
        """The latents, by the number of their shard.

        Raises:
            ConfigError: if they were not made, or are damaged.
        """
        if not self.told.get("vae"):
            raise ConfigError(
                f"data.sets: {self.folder} has no latents; needed is training.data.prepare --model"
            )
        numbers = sorted({row["shard"] for row in self.rows})
        return {number: self._shard(number) for number in numbers}

    def texts(self) -> dict[int, "Embeddings"]:
        """The embeddings of the captions, by the number of their shard."""
        numbers = sorted({row["shard"] for row in self.rows})
        return {n: Embeddings.open(self.folder / "text" / f"{n:05d}") for n in numbers}

    def _shard(self, number: int) -> LatentDataset:
        folder = self.folder / "latents" / f"{number:05d}"
        sizes = np.load(folder / "sizes.npy")
        clips = mapped(folder / "clips.bf16")
        if len(clips) != sizes.prod(axis=1).sum():
            raise ConfigError(
                f"data.sets: {folder} holds {len(clips)} numbers, and {sizes.prod(axis=1).sum()} "
                "belong there; remove it and start training.data.prepare again"
            )
        given = self.told.get("first_frames")
        images = folder / "images.npy"
        return LatentDataset(
            clips=clips,
            stills=mapped(folder / "stills.bf16"),
            offsets=np.concatenate([[0], sizes.prod(axis=1).cumsum()[:-1]]),
            sizes=sizes,
            captions=[""] * len(sizes),
            firsts=mapped(folder / "firsts.bf16") if given else None,
            images=np.load(images, mmap_mode="c") if images.exists() else None,
        )


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of a shard's captions, cut at their lengths; that of no caption comes first."""

    bits: np.ndarray
    offsets: np.ndarray
    shapes: np.ndarray

    @classmethod
    def open(cls, folder: Path) -> "Embeddings":
        """Map a shard that `prepare` wrote."""
        shapes = np.load(folder / "lengths.npy").T
        offsets = np.concatenate([[0], shapes.prod(axis=1).cumsum()[:-1]])
        return cls(mapped(folder / "text.bf16"), offsets, shapes)

    def __getitem__(self, row: int) -> Tensor:
        """Of row `row - 1` of the shard, `(L, D)` fp32; of no caption at 0."""
        start, shape = int(self.offsets[row]), self.shapes[row]
        flat = torch.from_numpy(self.bits[start : start + int(shape.prod())])
        return flat.view(torch.bfloat16).view(*shape.tolist()).float()


def open_prepared(folder: Path, where: str, held_out: float) -> tuple[Prepared, Prepared]:
    """Open a data set, divided by source video: what is trained on, and what is held out.

    Args:
        folder: of the data set.
        where: which clips; empty for the data set's own choice.
        held_out: share of the groups of files. A file, and those that show the same, are one group,
            and on the same side however the data set grows, but for so few that one side would be
            empty: there is at least one group on each if there are two.

    Raises:
        ConfigError: if there is no such data set, or the expression is none.
    """
    if not (folder / "index.parquet").is_file():
        raise ConfigError(
            f"data.sets: {folder} has no index.parquet; allowed are 'world:' and folders that "
            "training.data.prepare wrote"
        )
    table = pq.read_table(folder / "index.parquet", memory_map=True)
    told = json.loads((folder / "dataset.json").read_text())
    clips = table.filter(pc.is_null(table.column("reason")))
    try:
        chosen = clips.filter(select(clips, where or told["where"]))
    except WhereError as error:
        raise ConfigError(f"data.{error}") from None
    rows = sorted(chosen.to_pylist(), key=lambda row: _chance(row["id"]))
    apart = held_out_groups({row["group"] for row in rows}, held_out)
    sides = [[row for row in rows if (row["group"] in apart) is side] for side in (False, True)]
    return Prepared(folder, sides[0], told), Prepared(folder, sides[1], told)


def held_out_groups(groups: set[str], share: float) -> set[str]:
    """Those that are held out: by their names alone, but that no side may be empty."""
    if not share or len(groups) < 2:
        return set()
    ordered = sorted(groups, key=_chance)
    below = [group for group in ordered if _chance(group) < share * HELD_OUT_OF]
    return set(below[: len(groups) - 1] or ordered[:1])


def _chance(name: str) -> int:
    """A number below 2^32 that a name always has."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest())
