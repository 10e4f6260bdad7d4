"""What a checkpoint can be asked for: read from its folder, or derived from its form."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from model.manifest import Capability, CheckpointError, Examples, Manifest

IN_PLACE = ("first_frame", "extend", "inpaint")
"""What takes tokens that are given in place, at timestep 0."""
BESIDE = ("last_frame", "keyframes", "extend_backward", "join", "loop")
"""What takes reference tokens, which a network has a learned flag for, or has not."""
CAPABILITIES: tuple[str, ...] = get_args(Capability)


@dataclass(frozen=True)
class Memory:
    """Peak bytes on the device by stage of a request; plain values, so JSON carries it whole.

    Attributes:
        stages: coefficients (c0, c1, c2) of c0 + c1·area + c2·area·latent frames, area in pixels
            of a frame: c0 is what the weights that are there take.
        frames_per_latent: frames that each latent frame after the first stands for.
        limit: bytes that there are for it; None if that is not known.
        batched: area times latent frames up to which guidance runs both of its passes as one batch,
            where nothing is shown beside the clip.
        adapted: coefficients of the stage denoise with a LoRA in the networks, by its name.
    """

    stages: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    frames_per_latent: int = 4
    limit: int | None = None
    batched: int = 0
    adapted: dict[str, tuple[float, float, float]] = field(default_factory=dict)

    def peak(
        self,
        width: int,
        height: int,
        num_frames: int,
        references: int = 0,
        lora: str | None = None,
    ) -> float:
        """The most bytes that a request of that shape takes at any time.

        Args:
            references: frames that are shown beside the clip; the network sees so many more.
            lora: name of the adapter that is asked for.
        """
        area, latent_frames = width * height, (num_frames - 1) // self.frames_per_latent + 1
        seen = latent_frames + references
        if not references and area * latent_frames <= self.batched:
            seen = 2 * latent_frames
        stages = self.stages
        if lora in self.adapted:
            stages = stages | {"denoise": self.adapted[lora]}
        return max(
            c0 + c1 * area + c2 * area * (seen if stage == "denoise" else latent_frames)
            for stage, (c0, c1, c2) in stages.items()
        )


@dataclass(frozen=True)
class ModelDescription:
    """What a checkpoint can do and does by default; plain values, so JSON carries it whole.

    Attributes:
        name: of the folder, or of the repository on the hub.
        capabilities: of `model.manifest.Capability`, which says what they mean.
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
        loras: names of the adapters that a request may ask for.
        memory: what a request takes of it; None if that was not estimated.
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
    loras: tuple[str, ...] = ()
    memory: Memory | None = None


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
    reference_tokens: bool = False,
    channel_frames: Sequence[str] = ("first_frame",),
) -> ModelDescription:
    """Take what a folder tells of itself, and derive the rest as for Wan.

    Args:
        told: from `model_index.json`.
        latent_channels: of the autoencoder.
        condition_channels: what the transformer reads beyond the noisy latents.
        pixels_per_cell: sides are multiples of this, so that they divide into tokens.
        frames_per_latent: frames that each latent frame after the first stands for.
        reference_tokens: whether the transformer knows frames that are shown beside a clip.
        channel_frames: the capabilities that condition channels are for.

    Raises:
        CheckpointError: for capabilities that the network has no input for or that allow nothing,
            a size or a length that does not divide into tokens, or a malformed `examples.json`.
    """
    _check_channels(latent_channels, condition_channels, frames_per_latent)
    capabilities = _capabilities(
        told, channel_frames if condition_channels else (), reference_tokens
    )
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


def _check_channels(latent_channels: int, condition_channels: int, frames_per_latent: int) -> None:
    if condition_channels not in (0, latent_channels + frames_per_latent):
        raise CheckpointError(
            f"transformer: in_channels is {latent_channels + condition_channels}; allowed are "
            f"{latent_channels} (text) and {2 * latent_channels + frames_per_latent} (first frame) "
            f"with an autoencoder of {latent_channels} channels"
        )


def _capabilities(
    told: Manifest, channel_frames: Sequence[str], reference_tokens: bool
) -> tuple[str, ...]:
    experts = {"two_experts"} if told.boundary_ratio is not None else set()
    if channel_frames:
        possible = derived = set(channel_frames)
    else:
        possible = {"text", "remix", *IN_PLACE, *(BESIDE if reference_tokens else ())}
        derived = {"text"} | ({"first_frame"} if told.expand_timesteps else set())
        derived = possible if reference_tokens else derived
    able = derived if told.capabilities is None else set[str](told.capabilities)
    if not able & {"text", "first_frame", "last_frame"}:
        raise CheckpointError(f"capabilities is {sorted(able)}; needed is text or first_frame")
    if channel_frames and "text" in able:
        raise CheckpointError(
            "capabilities has 'text', but the transformer always reads a first frame; "
            f"allowed is {' and '.join(channel_frames)}"
        )
    if "two_experts" in able - experts:
        raise CheckpointError(
            "capabilities has 'two_experts', which needs transformer_2 and boundary_ratio"
        )
    for name in sorted(able - experts - possible):
        needed = "no input channels for images" if channel_frames else "reference_tokens"
        raise CheckpointError(
            f"capabilities has {name!r}, which needs a transformer with {needed}; "
            f"allowed is any of {', '.join(n for n in CAPABILITIES if n in possible)}"
        )
    able |= experts | ({"remix"} if "text" in able else set())
    return tuple(name for name in CAPABILITIES if name in able)


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
