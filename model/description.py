"""What a checkpoint can be asked for: read from its folder, or derived from its form."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.manifest import CheckpointError, Examples, Manifest

CAPABILITIES = ("text", "first_frame", "two_experts")
"""All that a checkpoint may claim.

`text`: a prompt alone suffices. `first_frame`: the video may start from an image, and must where
`text` is missing. `two_experts`: a second transformer takes over at low noise, with a guidance
scale of its own.

Whether a transformer without input channels for it was trained to go on from a first frame cannot
be told from its files: there, `first_frame` is the folder's word, or Wan's `expand_timesteps`."""


@dataclass(frozen=True)
class ModelDescription:
    """What a checkpoint can do and does by default; plain values, so JSON carries it whole.

    Attributes:
        name: of the folder, or of the repository on the hub.
        capabilities: of `CAPABILITIES`.
        sizes: "WIDTHxHEIGHT" in pixels, the default first.
        size_multiple: sides may also be any multiples of this, up to the area of the largest of
            `sizes`; None allows `sizes` alone.
        num_frames: allowed lengths in frames, the default first.
        fps: frames a second the model was trained for.
        num_inference_steps, guidance_scale, guidance_scale_2, flow_shift: the defaults;
            guidance_scale_2 is None without a second expert, flow_shift None where the scheduler
            has none to set.
        max_sequence_length: text tokens; what a prompt has beyond them is cut.
        words, grammar, examples: vocabulary, sentence templates and prompts of a model with a small
            world, else None.
        parameters: weights in the transformer, or in both.
    """

    name: str
    capabilities: tuple[str, ...]
    sizes: tuple[str, ...]
    size_multiple: int | None
    num_frames: tuple[int, ...]
    fps: int
    num_inference_steps: int
    guidance_scale: float
    guidance_scale_2: float | None
    flow_shift: float | None
    max_sequence_length: int
    words: tuple[str, ...] | None
    grammar: tuple[str, ...] | None
    examples: tuple[str, ...] | None
    parameters: int


def describe(
    name: str,
    folder: Path,
    told: Manifest,
    *,
    latent_channels: int,
    condition_channels: int,
    pixels_per_cell: int,
    frames_per_latent: int,
    flow_shift: float | None,
    parameters: int,
) -> ModelDescription:
    """Take what a folder tells of itself, and derive the rest as for Wan.

    Args:
        told: from `model_index.json`.
        latent_channels: of the autoencoder.
        condition_channels: what the transformer reads beyond the noisy latents.
        pixels_per_cell: sides are multiples of this, so that they divide into tokens.
        frames_per_latent: frames that each latent frame after the first stands for.

    Raises:
        CheckpointError: for capabilities that the network has no input for or that allow nothing,
            a size or a length that does not divide into tokens, or a malformed `examples.json`.
    """
    capabilities = _capabilities(told, latent_channels, condition_channels, frames_per_latent)
    family = _wan_family(told, capabilities)
    family["num_frames"] = tuple(range(family["num_frames"], 0, -frames_per_latent))
    family["sizes"] = tuple(s for s in family["sizes"] if _divides(s, pixels_per_cell))
    limits = told.limits.model_dump(exclude_none=True)
    settings = family | limits | told.defaults.model_dump(exclude_none=True)
    _check_limits(settings["sizes"], settings["num_frames"], pixels_per_cell, frames_per_latent)
    known = Examples.of(folder)
    return ModelDescription(
        name=told.name or name,
        capabilities=capabilities,
        size_multiple=None if told.limits.sizes else pixels_per_cell,
        flow_shift=flow_shift,
        max_sequence_length=told.max_sequence_length,
        words=known.words or None,
        grammar=known.grammar or None,
        examples=known.examples or None,
        parameters=parameters,
        **settings,
    )


def _capabilities(
    told: Manifest, latent_channels: int, condition_channels: int, frames_per_latent: int
) -> tuple[str, ...]:
    if condition_channels not in (0, latent_channels + frames_per_latent):
        raise CheckpointError(
            f"transformer: in_channels is {latent_channels + condition_channels}; allowed are "
            f"{latent_channels} (text) and {2 * latent_channels + frames_per_latent} (first frame) "
            f"with an autoencoder of {latent_channels} channels"
        )
    experts = {"two_experts"} if told.boundary_ratio is not None else set()
    if told.capabilities is not None:
        able = set(told.capabilities)
    else:
        able = {"first_frame"} if condition_channels else {"text"}
        able |= {"first_frame"} if told.expand_timesteps else set()
    if not able & {"text", "first_frame"}:
        raise CheckpointError(f"capabilities is {sorted(able)}; needed is text or first_frame")
    if condition_channels and "text" in able:
        raise CheckpointError(
            "capabilities has 'text', but the transformer always reads a first frame; "
            "allowed is first_frame"
        )
    if "two_experts" in able - experts:
        raise CheckpointError(
            "capabilities has 'two_experts', which needs transformer_2 and boundary_ratio"
        )
    return tuple(name for name in CAPABILITIES if name in able | experts)


def _divides(size: str, pixels_per_cell: int) -> bool:
    return all(int(side) % pixels_per_cell == 0 for side in size.split("x"))


def _check_limits(
    sizes: Sequence[str], lengths: Sequence[int], pixels_per_cell: int, frames_per_latent: int
) -> None:
    if not sizes:
        raise CheckpointError(
            f"limits.sizes is missing, and none of Wan's is a multiple of {pixels_per_cell}"
        )
    for size in sizes:
        if not _divides(size, pixels_per_cell):
            raise CheckpointError(
                f"limits.sizes has {size!r}; allowed is WIDTHxHEIGHT "
                f"in multiples of {pixels_per_cell}"
            )
    for length in lengths:
        if (length - 1) % frames_per_latent:
            raise CheckpointError(
                f"limits.num_frames has {length}; allowed is 1 more than a multiple "
                f"of {frames_per_latent}"
            )


def _wan_family(told: Manifest, capabilities: tuple[str, ...]) -> dict[str, Any]:
    """What Wan's own configurations say (wan/configs of Wan2.1 and Wan2.2)."""
    small, large = ("832x480", "480x832"), ("1280x720", "720x1280")
    family: dict[str, Any] = {
        "sizes": small + large,
        "num_frames": 81,
        "fps": 16,
        "num_inference_steps": 50,
        "guidance_scale": 5.0,
        "guidance_scale_2": None,
    }
    if told.expand_timesteps:  # TI2V-5B
        return family | {"sizes": ("1280x704", "704x1280"), "num_frames": 121, "fps": 24}
    if "text" not in capabilities:  # I2V
        family["num_inference_steps"] = 40
    if "two_experts" in capabilities:  # A14B: (high noise, low noise)
        high, low = (4.0, 3.0) if "text" in capabilities else (3.5, 3.5)
        family |= {"num_inference_steps": 40, "guidance_scale": high, "guidance_scale_2": low}
    return family
