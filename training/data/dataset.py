"""What the trainer packs from: the world's clips, prepared data sets, or a mixture by weight."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from training.config import ConfigError, DataConfig
from training.data.cache import LatentDataset, open_dataset
from training.data.prepared import Embeddings, Prepared, open_prepared

WORLD = "world:"


class Dataset(Protocol):
    """N clips of any sizes; `LatentDataset` says what the members mean."""

    @property
    def captions(self) -> list[str]: ...
    @property
    def sizes(self) -> np.ndarray: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def frames_per_latent(self) -> int: ...
    def __len__(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def epoch(self) -> int:
        """Visits of an epoch."""

    def visit(self, slot: int, epoch: int) -> int:
        """The clip that is shown at a slot of an epoch."""

    def size(self, clip: int) -> tuple[int, int, int]: ...
    def latents(self, clip: int) -> Tensor: ...
    def still_latents(self, clip: int, frames: Sequence[int]) -> Tensor: ...
    @property
    def starts_from_image(self) -> bool: ...
    def first_latents(self, clip: int) -> Tensor: ...
    def image_tokens(self, clip: int) -> Tensor | None: ...


@dataclass(frozen=True)
class Portion:
    """Clips of a mixture that follow each other, and how many visits of an epoch they get.

    An epoch shows the next so many of them, and begins again after the last: however many visits
    there are, each clip has had as many as any other, or one more.
    """

    first: int
    count: int
    visits: int

    def at(self, slot: int, epoch: int) -> int:
        """The clip of a visit."""
        return self.first + (epoch * self.visits + slot) % self.count


class Mixture:
    """Clips out of several data sets, in shares by weight.

    Args:
        parts: where latents are.
        places: `(N, 2)`: of each clip, the part and the clip there.
        captions: of each clip.
        portions: that the clips fall into.
        fingerprint: of the whole.
        texts: embeddings of the captions, by part; of row 0 of any, that of no caption.
    """

    def __init__(
        self,
        parts: Sequence[LatentDataset],
        places: np.ndarray,
        captions: list[str],
        portions: Sequence[Portion],
        fingerprint: str,
        texts: Sequence[Embeddings | None] = (),
    ) -> None:
        self.captions = captions
        self.fingerprint = fingerprint
        self.frames_per_latent = parts[0].frames_per_latent
        self.sizes = np.array([parts[part].sizes[clip] for part, clip in places]).reshape(-1, 4)
        self._parts, self._places, self._texts = parts, places, texts
        self._portions = portions

    def __len__(self) -> int:
        return len(self.captions)

    @property
    def channels(self) -> int:
        """C, the same for all."""
        return int(self.sizes[0, 1])

    @property
    def epoch(self) -> int:
        """Visits of an epoch."""
        return sum(portion.visits for portion in self._portions)

    def visit(self, slot: int, epoch: int) -> int:
        """The clip that is shown at a slot of an epoch."""
        for portion in self._portions:
            if slot < portion.visits:
                return portion.at(slot, epoch)
            slot -= portion.visits
        raise IndexError(slot)

    def size(self, clip: int) -> tuple[int, int, int]:
        """Return T, h and w of a clip's latents."""
        part, place = self._places[clip].tolist()
        size: tuple[int, int, int] = self._parts[part].size(place)
        return size

    def latents(self, clip: int) -> Tensor:
        """Return the latents of a clip, `(C, T, h, w)` fp32."""
        part, place = self._places[clip].tolist()
        latents: Tensor = self._parts[part].latents(place)
        return latents

    def still_latents(self, clip: int, frames: Sequence[int]) -> Tensor:
        """Return the last pixel frames of some latent frames, each encoded alone, fp32."""
        part, place = self._places[clip].tolist()
        latents: Tensor = self._parts[part].still_latents(place, frames)
        return latents

    @property
    def starts_from_image(self) -> bool:
        """Whether there are `first_latents` of all clips."""
        return all(part.starts_from_image for part in self._parts)

    def first_latents(self, clip: int) -> Tensor:
        """Return the latents of a clip's first frame with grey after it, `(C, T, h, w)` fp32."""
        part, place = self._places[clip].tolist()
        latents: Tensor = self._parts[part].first_latents(place)
        return latents

    def image_tokens(self, clip: int) -> Tensor | None:
        """Return what the image encoder says of a clip's first frame, `(S, D)` fp32, if it does."""
        part, place = self._places[clip].tolist()
        tokens: Tensor | None = self._parts[part].image_tokens(place)
        return tokens

    def text(self, row: int) -> Tensor:
        """Return the embedding of a caption `(L, D)`: that of none at 0, of clip n at n + 1.

        Raises:
            ConfigError: for a clip of the world, whose captions are never embedded beforehand.
        """
        part, place = self._places[max(row - 1, 0)].tolist()
        texts = self._texts[part] if self._texts else None
        if texts is None:
            raise ConfigError("text.cached: the world's captions are not embedded beforehand")
        found: Tensor = texts[place + 1 if row else 0]
        return found


def open_data(config: DataConfig) -> tuple[Dataset, Dataset | None]:
    """Open what a configuration trains on, and what is held out of it, if anything is.

    No source video is on both sides.

    Raises:
        ConfigError: for a data set that is not there or does not fit the others.
    """
    weights = config.sets or {WORLD: 1.0}
    if list(weights) == [WORLD] and not config.held_out:
        return open_dataset(config), None
    sides: list[list[tuple[float, Opened]]] = [[], []]
    for name, weight in weights.items():
        for side, opened in zip(sides, _open_one(name, config), strict=True):
            side.append((weight, opened))
    held = {source for _, one in sides[1] for source in one.sources}
    sides[0] = [(weight, one.without(held)) for weight, one in sides[0]]
    for name, (_, opened) in zip(weights, sides[0], strict=True):
        if not opened.clips:
            raise ConfigError(
                f"data.sets: {name} has 0 clips to train on; change data.where, or data.held_out"
            )
    _check_fit(sides[0], list(weights))
    assert not held & {source for _, one in sides[0] for source in one.sources}
    return _mix(sides[0]), _mix(sides[1]) if held else None


@dataclass(frozen=True)
class Opened:
    """Some clips of one data set.

    Attributes:
        parts: where their latents are.
        texts: embeddings of each part's captions, where there are any.
        clips: part and place of each.
        captions, sources: of each.
        fingerprint: of what they depend on.
    """

    parts: list[LatentDataset]
    texts: list[Embeddings | None]
    clips: list[tuple[int, int]]
    captions: list[str]
    sources: list[str]
    fingerprint: str

    @classmethod
    def of(cls, prepared: Prepared) -> "Opened":
        """Those of a prepared data set."""
        shards, texts = prepared.shards(), prepared.texts()
        place = {number: k for k, number in enumerate(shards)}
        return cls(
            list(shards.values()),
            list(texts.values()),
            [(place[row["shard"]], row["row"]) for row in prepared.rows],
            prepared.captions,
            [row["group"] for row in prepared.rows],
            prepared.fingerprint(),
        )

    def without(self, sources: set[str]) -> "Opened":
        """The same without clips of some sources."""
        kept = [k for k, source in enumerate(self.sources) if source not in sources]
        clips, captions, left = (
            [some[k] for k in kept] for some in (self.clips, self.captions, self.sources)
        )
        return Opened(self.parts, self.texts, clips, captions, left, self.fingerprint)  # type: ignore[arg-type]


def _open_one(name: str, config: DataConfig) -> tuple[Opened, Opened]:
    """What is trained on of a data set, and what is held out."""
    if name != WORLD:
        one, other = open_prepared(Path(name), config.where, config.held_out)
        return Opened.of(one), Opened.of(other)
    dataset = open_dataset(config)
    first = len(dataset) - round(config.held_out * len(dataset))  # a clip of the world is a source

    def some(clips: range) -> Opened:
        captions = [dataset.captions[n] for n in clips]
        sources, places = [f"{WORLD}{n}" for n in clips], [(0, n) for n in clips]
        return Opened([dataset], [None], places, captions, sources, dataset.fingerprint)

    return some(range(first)), some(range(first, len(dataset)))


def _check_fit(side: Sequence[tuple[float, Opened]], names: Sequence[str]) -> None:
    found = {n: one.parts[0].channels for n, (_, one) in zip(names, side, strict=True)}
    if len(set(found.values())) > 1:
        raise ConfigError(f"data.sets: latents have {found} channels; allowed is one autoencoder")


def _mix(side: Sequence[tuple[float, Opened]]) -> Mixture:
    side = [(weight, opened) for weight, opened in side if opened.clips]
    # The part that is largest for its weight is shown once in an epoch, the others more often.
    length = max(len(opened.clips) / weight for weight, opened in side)
    parts: list[LatentDataset] = []
    texts: list[Embeddings | None] = []
    places: list[tuple[int, int]] = []
    captions: list[str] = []
    portions: list[Portion] = []
    for weight, opened in side:
        visits = max(1, round(length * weight))
        portions.append(Portion(len(captions), len(opened.clips), visits))
        places += [(len(parts) + part, place) for part, place in opened.clips]
        captions += opened.captions
        parts += opened.parts
        texts += opened.texts
    told = [[weight, opened.fingerprint, opened.sources] for weight, opened in side]
    fingerprint = hashlib.blake2b(json.dumps(told).encode(), digest_size=8).hexdigest()
    return Mixture(parts, np.array(places), captions, portions, fingerprint, texts)


def usual_sizes(dataset: Dataset) -> torch.Tensor:
    """The sizes `(T, C, h, w)` that clips have, the most frequent first."""
    sizes, counts = np.unique(dataset.sizes, axis=0, return_counts=True)
    return torch.from_numpy(sizes[np.argsort(-counts, kind="stable")])
