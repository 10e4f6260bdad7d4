"""Configuration: what a training run is told. How it is read is in `training.section`."""

import math
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveFloat,
    model_validator,
)

import world
from training.section import ConfigError, Section, load_config, parse_arguments
from world import captions

__all__ = [
    "AutoencoderConfig",
    "BatchConfig",
    "ConfigError",
    "DataConfig",
    "FlowConfig",
    "LoraConfig",
    "NetworkConfig",
    "OptimConfig",
    "ParallelConfig",
    "SamplingConfig",
    "TextConfig",
    "TrainConfig",
    "load_config",
    "parse_arguments",
]

Share = Field(ge=0.0, le=1.0)
Unquoted = BeforeValidator(lambda value: "no" if value is False else value)
"""YAML reads a bare no as false."""
FRAMES_PER_LATENT = 4
PIXELS_PER_PATCH = 16


def _known_family(name: str) -> str:
    if name not in world.FAMILIES:
        raise ValueError(f"the world has {', '.join(world.FAMILIES)}")
    return name


Family = Annotated[str, AfterValidator(_known_family)]


def _known_slots(slots: captions.Known) -> captions.Known:
    for family, values in slots.items():
        for name, value in values.items():
            if name not in (names := captions.slot_names(family)):
                raise ValueError(f"{family} has no slot {name!r}, but {', '.join(names)}")
            if value not in (choices := captions.CHOICES[name]):
                raise ValueError(f"{family}.{name} is {value!r}; it can be {', '.join(choices)}")
    return slots


def _whole_groups(frames: int) -> int:
    if frames % FRAMES_PER_LATENT != 1:
        raise ValueError(f"frames come as 1 + {FRAMES_PER_LATENT}k, as the autoencoder takes them")
    return frames


Length = Annotated[int, Field(gt=0, le=world.MAX_FRAMES), AfterValidator(_whole_groups)]


def _whole_patches(size: str) -> str:
    if not re.fullmatch(r"[1-9]\d{0,3}x[1-9]\d{0,3}", size):
        raise ValueError(f"{size!r} is no WIDTHxHEIGHT in pixels, as 80x48 is")
    if any(int(side) % PIXELS_PER_PATCH for side in size.split("x")):
        raise ValueError(f"{size}: width and height must be multiples of {PIXELS_PER_PATCH}")
    return size


class NetworkConfig(Section):
    """The transformer, and the text encoder trained with it; a start by `init_from` has its own."""

    heads: int = Field(4, gt=0)
    """Attention heads."""
    head_dim: int = Field(64, gt=0, multiple_of=2)
    """Channels of a head; heads times these is the width."""
    layers: int = Field(8, gt=0)
    """Transformer blocks."""
    ffn_dim: int = Field(1024, gt=0)
    """Inner width of the feed-forward."""
    freq_dim: int = Field(256, gt=0, multiple_of=2)
    """Sinusoids of the timestep."""
    max_sequence_length: int = Field(32, gt=0)
    """Text tokens of a prompt; shorter ones are padded, and the padding is attended."""
    reference_tokens: bool = False
    """Learn every mode of conditioning (training/masks.py), not text alone."""


class DataConfig(Section):
    """Which clips: prepared data sets, the world's, or both; and where the world's latents are."""

    sets: dict[str, PositiveFloat] = {}
    """Data sets with their weights: folders of training.data.prepare, and world:; {}: the world."""
    where: str = ""
    """Which clips of prepared data sets, as in motion > 0.2; empty: as they were prepared."""
    held_out: float = Field(0.0, ge=0, lt=1)
    """Share of the source videos that is not trained on but measured with."""

    clips: int = Field(40_000, gt=0)
    """How many; clip n is the scene of seed n."""
    sizes: tuple[Annotated[str, AfterValidator(_whole_patches)], ...] = Field(
        ("64x64",), min_length=1
    )
    """Widths and heights in pixels; a clip has one of them."""
    frames: tuple[Length, ...] = Field((world.NUM_FRAMES,), min_length=1)
    """Lengths; a clip has one of those that its family can have, and begins at the first frame."""
    mix: dict[Family, PositiveFloat] = {}
    """Families of the world with their weights; needed where its clips are."""
    slots: Annotated[dict[Family, dict[str, str]], AfterValidator(_known_slots)] = {}
    """Where a family is to show one value of a slot alone, as in bite: {times: once}."""
    autoencoder: Path
    """Folder of the autoencoder that makes the latents."""
    cache: Path = Path("runs/cache")
    """Folder of the latents; they are made once for each world, mix and autoencoder."""
    workers: int = Field(2, gt=0)
    """Processes that render and encode."""

    @model_validator(mode="after")
    def _every_family_has_a_length(self) -> Self:
        for family in self.mix:
            if min(self.frames) > (most := world.longest(family)):
                raise ValueError(f"frames are {list(self.frames)}, but {family} has {most} at most")
        return self

    @model_validator(mode="after")
    def _has_families(self) -> "DataConfig":
        if not self.mix and (not self.sets or "world:" in self.sets):
            families = ", ".join(world.FAMILIES)
            raise ValueError(f"mix is needed for the world's clips; families are {families}")
        return self

    @property
    def known(self) -> captions.Known:
        """The part of the world that a network trained on this data knows."""
        return {family: self.slots.get(family, {}) for family in self.mix}


class BatchConfig(Section):
    """What one optimizer step sees: packs of samples, so many over all processes together."""

    tokens: int = Field(7680, gt=0)
    """Tokens of a pack."""
    packs: int = Field(1, gt=0)
    """Packs of a step; a process takes its share of them one after another."""
    segments: int = Field(512, gt=0)
    """Most samples of a pack."""
    open_packs: int = Field(64, gt=0)
    """Packs that wait for samples that fit."""
    window: int = Field(16, gt=0)
    """Steps among which packs of equal cost are found."""
    image_share: float = Share
    """Share of the samples that are single frames."""
    first_frame_share: float = Field(0.0, ge=0, le=1)
    """Share of the clips that are told their first frame, where there are no reference_tokens."""
    text_dropout: float = Share
    """Share of the samples whose caption is left out, for guidance."""


class TextConfig(Section):
    """What the text encoder learns before the first step (training/layout.py)."""

    steps: int = Field(0, ge=0)
    """Steps on captions and coarse layouts alone, then it is kept; 0 trains it with the network."""
    new_words: bool = False
    """Do so after `init_from`, too, for words that its encoder has not; all else of it stays."""
    batch: int = Field(256, gt=0)
    """Captions of a step."""
    lr: float = Field(1e-3, gt=0)
    """Learning rate."""
    cached: bool = False
    """Fine-tune init_from on captions that its text encoder embedded when data was prepared."""


class LoraConfig(Section):
    """A low-rank adapter of a checkpoint's transformer, in place of all of its weights."""

    rank: int = Field(0, ge=0)
    """Rank of each pair of matrices; 0 trains the transformer itself."""
    alpha: float | None = Field(None, gt=0)
    """Weight of the adapter, times the rank; null: the rank, which is a weight of 1."""
    targets: tuple[str, ...] = Field(("to_q", "to_k", "to_v", "to_out.0"), min_length=1)
    """Ends of the names of the linear layers of the blocks that get one."""


class FlowConfig(Section):
    """The law of timesteps: a logit-normal for each sample, or for each of its latent frames."""

    logit_mean: float = 0.5
    """Mean of logit(t); positive favours noise."""
    logit_std: float = Field(1.0, gt=0)
    """Its standard deviation."""
    uniform_share: float = Share
    """Share of the draws that are uniform instead."""
    by_tokens: bool = False
    """More noise for larger samples, on top of logit_mean."""
    independent_share: float = Field(0.0, ge=0, le=1)
    """Share of the samples in which every latent frame has a t of its own."""
    rising_share: float = Field(0.0, ge=0, le=1)
    """Share of the samples whose later frames are noisier."""

    def mean(self, tokens: int) -> float:
        """The mean of logit(t) for a sample of so many tokens.

        By tokens, t is shifted by s = √(N / 1024) within 1 to 6, as resolution shifts it (Esser et
        al., 2024, §5.3.2): log s on the logit.
        """
        shift = min(max(math.sqrt(tokens / 1024), 1.0), 6.0) if self.by_tokens else 1.0
        return self.logit_mean + math.log(shift)


class ParallelConfig(Section):
    """How the processes share the work; their number is the product of the first three."""

    replicate: int = Field(1, gt=0)
    """Copies of the network, each on packs of its own."""
    shard: int = Field(1, gt=0)
    """Processes over which a copy's parameters are split (FSDP); each has packs of its own."""
    sequence: int = Field(1, gt=0)
    """Processes that share the tokens of each pack (Ulysses); it divides the heads."""
    checkpointing: Literal["none", "selective", "full"] = "none"
    """What is computed twice to save memory: nothing, what is cheap, or whole blocks."""
    timeout_minutes: float = Field(10.0, gt=0)
    """How long processes wait for one that is lost; drawing one clip must take less."""


class OptimConfig(Section):
    """Muon on the blocks' matrices, AdamW elsewhere; one schedule for both."""

    muon: bool = True
    """Whether there is Muon; else all is AdamW's."""
    muon_lr: float = Field(0.01, ge=0)
    """Learning rate of Muon."""
    lr: float = Field(1e-3, ge=0)
    """Learning rate of AdamW."""
    weight_decay: float = Field(0.0, ge=0)
    """Of both."""
    warmup_steps: int = Field(100, ge=0)
    """Steps over which the rates rise from zero."""
    decay_share: float = Share
    """Share of all steps, at the end, over which they fall to zero in a line."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Norm to which larger gradients are clipped."""
    ema_decay: float = Field(0.999, ge=0, lt=1)
    """Weight of the past in the averaged weights, which are what is exported."""


class SamplingConfig(Section):
    """How the trained checkpoint samples by default."""

    num_inference_steps: int = Field(24, gt=0)
    """Steps of the scheduler."""
    guidance_scale: float = Field(2.5, ge=0)
    """Of classifier-free guidance."""
    shift: float = Field(2.0, gt=0)
    """Above 1, more of the steps are spent at high noise."""


class TrainConfig(Section):
    """One training run of the transformer."""

    run: Path
    """Folder of the run: states, checkpoint, metrics and sheets."""
    name: str = Field("kinetograph-mini", min_length=1)
    """Name of the model, in the API."""
    seed: int = 0
    """Of weights, order and noise."""
    steps: int = Field(gt=0)
    """Optimizer steps, those of earlier starts included."""
    precision: Annotated[Literal["no", "bf16", "fp8"], Unquoted] = "bf16"
    """Of matrix products (fp8: of the blocks' maps, the rest bf16); weights and sums are fp32."""
    compile: bool = False
    """Compile each block (torch.compile); packs are then padded to one shape."""
    init_from: Path | None = None
    """Checkpoint folder whose weights a new run starts from."""
    dry_run: bool = False
    """Print what a step would take, and end; as --dry-run."""
    tracker: Literal["tensorboard", "wandb"] = "tensorboard"
    """Where curves and validation clips go; metrics.jsonl and sheets are written anyway."""
    log_every: int = Field(10, gt=0)
    """Steps between two lines on the terminal; metrics.jsonl has every step."""
    save_every: int = Field(200, gt=0)
    """Steps between two states."""
    sample_every: int = Field(500, gt=0)
    """Steps between two checkpoints with their contact sheets."""
    best_by: Literal["held_out_loss", "kernel_distance"] = "held_out_loss"
    """Score on data.held_out by which best/ is kept."""
    network: NetworkConfig = NetworkConfig()
    data: DataConfig
    text: TextConfig = TextConfig()
    lora: LoraConfig = LoraConfig()
    batch: BatchConfig
    parallel: ParallelConfig = ParallelConfig()
    flow: FlowConfig
    optim: OptimConfig
    sampling: SamplingConfig = SamplingConfig()

    @model_validator(mode="after")
    def _fine_tunes_a_checkpoint(self) -> Self:
        if self.lora.rank and not self.text.cached:
            raise ValueError("lora.rank needs text.cached, which fine-tunes init_from")
        if not self.text.cached:
            return self
        if self.init_from is None or not self.data.sets or "world:" in self.data.sets:
            raise ValueError("text.cached needs init_from, and data.sets of prepared folders alone")
        if self.text.steps or self.network.reference_tokens:
            raise ValueError("text.cached allows no text.steps and no network.reference_tokens")
        return self

    @property
    def teaches_text(self) -> bool:
        """Whether a fresh text encoder learns the layout of clips before the first step."""
        return self.text.steps > 0 and (self.init_from is None or self.text.new_words)


class AutoencoderConfig(Section):
    """One training run of the autoencoder: principal components first, then the decoder."""

    run: Path
    seed: int = 0
    steps: int = Field(ge=0)
    precision: Annotated[Literal["no", "bf16"], Unquoted] = "bf16"
    init_from: Path | None = None
    families: tuple[Family, ...] = Field(min_length=1)
    z_dim: int = Field(24, gt=0, le=192)
    hidden_channels: int = Field(128, gt=0)
    num_blocks: int = Field(6, ge=0)
    component_clips: int = Field(600, gt=0)
    eval_clips: int = Field(64, gt=0)
    batch: int = Field(24, gt=0, multiple_of=2)  # two latent frames of each clip
    lr: float = Field(1e-3, gt=0)
    warmup_steps: int = Field(50, gt=0)
    foreground_weight: float = Field(3.0, ge=0)
    latent_noise: float = Field(0.05, ge=0)
    ema_decay: float = Field(0.995, ge=0, lt=1)
    log_every: int = Field(20, gt=0)
    eval_every: int = Field(500, gt=0)
