"""What a clip's tokens look at besides each other, and what the steps of one video share of it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from model.tokens import Segments, Tokens

WAN_TEXT_LENGTH = 512


class Context(NamedTuple):
    """Text and, in I2V-2.1, image tokens, all clips' one after another.

    Attributes:
        text: `(M, d)`, and `text_segments` its lengths.
        image: `(S, d)`, and `image_segments` its lengths.
        log_counts: log of how often each key of a clip's text is there, `(M / clips,)` fp32; None:
            once each.
        kept: what one block made of this context, keys and values as a rule, once it has; None: it
            is not kept.
    """

    text: Tensor
    text_segments: Segments
    image: Tensor | None = None
    image_segments: Segments | None = None
    log_counts: Tensor | None = None
    kept: list[Tensor] | None = None

    def check(self, image_rows: int | None) -> None:
        """Raise ValueError unless segments divide what they are of, clip by clip.

        Args:
            image_rows: the image tokens that every clip must have, where the network says how many.
        """
        self.text_segments.check("text", len(self.text))
        if self.image is None:
            return
        count = 0 if self.image_segments is None else len(self.image_segments)
        if self.image_segments is None or count != len(self.text_segments):
            raise ValueError(f"{count} image segments, but {len(self.text_segments)} text segments")
        self.image_segments.check("image", len(self.image))
        if image_rows is not None and set(self.image_segments.lengths) != {image_rows}:
            raise ValueError(
                f"image segments are {self.image_segments.lengths} long; "
                f"this model's pos_embed_seq_len asks for {image_rows} rows a clip"
            )

    def joined(self) -> Context:
        """Every clip's image tokens put in front of its text."""
        assert self.image is not None and self.image_segments is not None
        image = self.image.split(self.image_segments.lengths)
        text = self.text.split(self.text_segments.lengths)
        clips = [torch.cat(pair) for pair in zip(image, text, strict=True)]
        return Context(torch.cat(clips), Segments(tuple(map(len, clips))))

    def parted(self) -> Context:
        """The last 512 rows of every clip's context as its text, those before as its image.

        I2V-2.1 weights are only ever used with text padded to 512 rows; the rule, and what it does
        to other lengths, is diffusers'.
        """
        clips = self.text.split(self.text_segments.lengths)
        cuts = [len(clip) - WAN_TEXT_LENGTH for clip in clips]
        text = [clip[cut:] for clip, cut in zip(clips, cuts, strict=True)]
        image = [clip[:cut] for clip, cut in zip(clips, cuts, strict=True)]
        return Context(
            torch.cat(text),
            Segments(tuple(map(len, text))),
            torch.cat(image),
            Segments(tuple(map(len, image))),
        )

    def collapsed(self, repeats: int) -> Context:
        """The same for an even batch, its last `repeats` rows of text, which are equal, as one.

        A key that is there n times weighs as one whose logit is greater by log n.
        """
        length = self.text_segments.common_length
        assert length is not None
        repeats = min(repeats, length)
        kept = length - repeats + 1
        text = self.text.unflatten(0, (-1, length))[:, :kept].flatten(0, 1)
        counts = text.new_zeros(kept, dtype=torch.float32)
        counts[-1] = math.log(repeats)
        segments = Segments.even(len(self.text_segments), kept)
        return self._replace(text=text, text_segments=segments, log_counts=counts)


class Prompt:
    """Text and image tokens that all steps of a video see: keys and values are made of them once.

    A Wan network attends to the zero rows behind a text. They are equal, so that one key can stand
    for them.

    Args:
        text: `(B, L, text_dim)`.
        image: `(B, S, image_dim)`, or `(2B, S, image_dim)` for first and last image.
    """

    def __init__(self, text: Tensor, image: Tensor | None = None) -> None:
        self.text = text
        self.image = image
        self.repeats = 1 if text.is_meta else _equal_rows(text)
        self.kept: dict[nn.Module, list[Context]] = {}
        """Of each network that has seen it, a context for every block."""


def _equal_rows(text: Tensor) -> int:
    """How many rows at the end of every text `(B, L, D)` are equal to its last one."""
    equal = (text == text[:, -1:]).all(-1).all(0)
    return int(equal.flip(0).cumprod(0).sum())


class Times(NamedTuple):
    """Time `(R, d)`, its six modulations `(R, 6, d)`, and the rotary table of the tokens."""

    temb: Tensor
    modulation: Tensor
    rotary: Tensor


class Schedule:
    """The timesteps of all steps of a video: time embeddings and angles are worked out once.

    Args:
        timesteps: `(S,)`, in 0..1000.
        known: tokens that are at timestep 0 at every step, `(T, H, W)`.
    """

    def __init__(self, timesteps: Tensor, known: Tensor | None = None) -> None:
        self.rows = torch.cat([timesteps, timesteps.new_zeros(1)])
        self.index = None if known is None else known.flatten().long()
        self.kept: dict[tuple[nn.Module, int], Times] = {}
        """Of each network and number of clips, the times of all rows."""

    def __getitem__(self, step: int) -> Moment:
        return Moment(self, step)


class Moment(NamedTuple):
    """One step of a schedule."""

    schedule: Schedule
    step: int

    def of(self, rows: Tensor) -> Tensor:
        """This step's own of the schedule's rows: the one of its timestep and, if need be, of 0."""
        if self.schedule.index is None:
            return rows[self.step : self.step + 1]
        return rows[[self.step, -1]]

    def tokens(self, tokens: Tokens) -> Tokens:
        """The same tokens at this step's timesteps."""
        index = self.schedule.index
        if index is not None:
            index = index.repeat(len(tokens.segments))
        return replace(tokens, timesteps=self.of(self.schedule.rows), timestep_index=index)
