"""What a checkpoint can be asked for: read from its folder, or derived from its form."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CAPABILITIES = ("text", "first_frame", "two_experts")
"""All that a checkpoint may claim.

`text`: a prompt alone suffices. `first_frame`: the video may start from an image, and must where
`text` is missing. `two_experts`: a second transformer takes over at low noise, with a guidance
scale of its own."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be opened; the message says what, and what would be allowed."""


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
    index: Mapping[str, Any],
    *,
    latent_channels: int,
    condition_channels: int,
    pixels_per_cell: int,
    frames_per_latent: int,
    flow_shift: float | None,
    parameters: int,
) -> ModelDescription:
    """Take what `model_index.json` and `examples.json` say, and derive the rest as for Wan.

    Args:
        index: the content of `model_index.json`.
        latent_channels: of the autoencoder.
        condition_channels: what the transformer reads beyond the noisy latents.
        pixels_per_cell: side of the square that one token covers.
        frames_per_latent: frames that each latent frame after the first stands for.

    Raises:
        CheckpointError: for a capability that is not known or that the network has no input for,
            or a size that does not divide into tokens.
    """
    capabilities = _capabilities(index, latent_channels, condition_channels, frames_per_latent)
    family = _wan_family(index, capabilities)
    limits, defaults = index.get("limits") or {}, index.get("defaults") or {}
    _check_limits(name, limits, pixels_per_cell, frames_per_latent)
    lengths = range(family["num_frames"], 0, -frames_per_latent)
    told = _examples(folder)
    return ModelDescription(
        name=name,
        capabilities=capabilities,
        sizes=tuple(limits.get("sizes", family["sizes"])),
        size_multiple=None if "sizes" in limits else pixels_per_cell,
        num_frames=tuple(limits.get("num_frames", lengths)),
        fps=limits.get("fps", family["fps"]),
        num_inference_steps=defaults.get("num_inference_steps", family["num_inference_steps"]),
        guidance_scale=defaults.get("guidance_scale", family["guidance_scale"]),
        guidance_scale_2=defaults.get("guidance_scale_2", family["guidance_scale_2"]),
        flow_shift=flow_shift,
        max_sequence_length=index.get("max_sequence_length", 512),
        words=told.get("words"),
        grammar=told.get("grammar"),
        examples=told.get("examples"),
        parameters=parameters,
    )


def _capabilities(
    index: Mapping[str, Any], latent_channels: int, condition_channels: int, frames_per_latent: int
) -> tuple[str, ...]:
    if condition_channels not in (0, latent_channels + frames_per_latent):
        raise CheckpointError(
            f"transformer: in_channels is {latent_channels + condition_channels}; allowed are "
            f"{latent_channels} (text) and {2 * latent_channels + frames_per_latent} (first frame) "
            f"with an autoencoder of {latent_channels} channels"
        )
    if condition_channels:
        found = ["first_frame"]
    elif index.get("expand_timesteps"):
        found = ["text", "first_frame"]
    else:
        found = ["text"]
    told = index.get("capabilities") or found
    if unknown := [name for name in told if name not in CAPABILITIES]:
        raise CheckpointError(f"capabilities has {unknown}; known are {', '.join(CAPABILITIES)}")
    if condition_channels and "text" in told:
        raise CheckpointError(
            "capabilities has 'text', but the transformer always reads a first frame; "
            "allowed is first_frame"
        )
    experts = ["two_experts"] if index.get("boundary_ratio") is not None else []
    return tuple(name for name in CAPABILITIES if name in [*told, *experts])


def _check_limits(
    name: str, limits: Mapping[str, Any], pixels_per_cell: int, frames_per_latent: int
) -> None:
    for size in limits.get("sizes", ()):
        match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", str(size))
        if not match or any(int(side) % pixels_per_cell for side in match.groups()):
            raise CheckpointError(
                f"{name}: limits.sizes has {size!r}; allowed is WIDTHxHEIGHT "
                f"in multiples of {pixels_per_cell}"
            )
    for length in limits.get("num_frames", ()):
        if not isinstance(length, int) or length < 1 or (length - 1) % frames_per_latent:
            raise CheckpointError(
                f"{name}: limits.num_frames has {length!r}; allowed is 1 more than a multiple "
                f"of {frames_per_latent}"
            )
    for key in ("sizes", "num_frames"):
        if key in limits and not limits[key]:
            raise CheckpointError(f"{name}: limits.{key} is empty; leave it out to set no limit")


def _wan_family(index: Mapping[str, Any], capabilities: tuple[str, ...]) -> dict[str, Any]:
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
    if index.get("expand_timesteps"):  # TI2V-5B
        return family | {"sizes": ("1280x704", "704x1280"), "num_frames": 121, "fps": 24}
    if "text" not in capabilities:  # I2V
        family["num_inference_steps"] = 40
    if "two_experts" in capabilities:  # A14B: (high noise, low noise)
        high, low = (4.0, 3.0) if "text" in capabilities else (3.5, 3.5)
        family |= {"num_inference_steps": 40, "guidance_scale": high, "guidance_scale_2": low}
    return family


def _examples(folder: Path) -> dict[str, tuple[str, ...]]:
    file = folder / "examples.json"
    if not file.is_file():
        return {}
    return {key: tuple(value) for key, value in json.loads(file.read_text("utf-8")).items()}
