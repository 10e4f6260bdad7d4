"""Configuration: frozen pydantic models read from one YAML file and dotted overrides."""

import argparse
import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    ValidationError,
)

import world

Share = Field(ge=0.0, le=1.0)


def _known_family(name: str) -> str:
    if name not in world.FAMILIES:
        raise ValueError(f"the world has {', '.join(world.FAMILIES)}")
    return name


Family = Annotated[str, AfterValidator(_known_family)]


class Section(BaseModel):
    """A frozen group of settings that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NetworkConfig(Section):
    """The transformer and the text encoder trained with it."""

    heads: int = Field(4, gt=0)
    head_dim: int = Field(64, gt=0, multiple_of=2)
    layers: int = Field(8, gt=0)
    ffn_dim: int = Field(1024, gt=0)
    freq_dim: int = Field(256, gt=0, multiple_of=2)
    max_sequence_length: int = Field(32, gt=0)


class DataConfig(Section):
    """The world's clips and where their latents are kept."""

    clips: int = Field(40_000, gt=0)
    mix: dict[Family, PositiveFloat] = Field(min_length=1)
    autoencoder: Path
    cache: Path = Path("runs/cache")
    workers: int = Field(2, gt=0)


class BatchConfig(Section):
    """How many clips or single frames one optimizer step sees, over all processes."""

    clips: int = Field(24, gt=0)
    images: int = Field(96, gt=0)
    image_steps: int = Field(0, ge=0)  # the first steps see single frames only
    image_share: float = Share  # of the steps after them
    text_dropout: float = Share


class FlowConfig(Section):
    """The law of timesteps."""

    logit_mean: float = 0.5
    logit_std: float = Field(1.0, gt=0)
    uniform_share: float = Share


class OptimConfig(Section):
    """Muon on the blocks' matrices, AdamW elsewhere; one schedule for both."""

    muon_lr: float = Field(0.01, ge=0)
    lr: float = Field(1e-3, ge=0)
    weight_decay: float = Field(0.0, ge=0)
    warmup_steps: int = Field(100, ge=0)
    decay_share: float = Share  # of all steps, at the end, linear to zero
    max_grad_norm: float = Field(1.0, gt=0)
    ema_decay: float = Field(0.999, ge=0, lt=1)


class SamplingConfig(Section):
    """How the trained checkpoint samples by default."""

    num_inference_steps: int = Field(24, gt=0)
    guidance_scale: float = Field(2.5, ge=0)
    shift: float = Field(2.0, gt=0)


class TrainConfig(Section):
    """One training run of the transformer."""

    run: Path
    name: str = Field("kinetograph-mini", min_length=1)  # of the model, in the API
    seed: int = 0
    steps: int = Field(gt=0)
    precision: Literal["no", "bf16"] = "bf16"
    compile: bool = False
    init_from: Path | None = None
    log_every: int = Field(10, gt=0)
    save_every: int = Field(200, gt=0)
    sample_every: int = Field(500, gt=0)
    network: NetworkConfig = NetworkConfig()
    data: DataConfig
    batch: BatchConfig
    flow: FlowConfig
    optim: OptimConfig
    sampling: SamplingConfig = SamplingConfig()


class AutoencoderConfig(Section):
    """One training run of the autoencoder: principal components first, then the decoder."""

    run: Path
    seed: int = 0
    steps: int = Field(ge=0)
    precision: Literal["no", "bf16"] = "bf16"
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


C = TypeVar("C", bound=Section)


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the key and what is allowed."""


def load_config(kind: type[C], path: Path, overrides: list[str]) -> C:
    """Read a YAML file, apply `key.sub=value` overrides, and validate.

    A file may name one other with `base:`; its own keys then win over the base's.

    Args:
        kind: the section to build.
        path: the YAML file.
        overrides: dotted assignments; values are parsed as YAML.

    Raises:
        ConfigError: with one sentence for every wrong key.
    """
    values = _read(path)
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise ConfigError(f"override {override!r} is not of the form key.sub=value")
        _assign(values, key.split("."), _parse(text, f"override {key}"))
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(kind, e) for e in error.errors())) from None


def parse_arguments(kind: type[C], description: str) -> C:
    """Build a configuration from `--config FILE [--init-from FOLDER] [key=value ...]`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", type=Path, required=True, help="a YAML file under configs/")
    parser.add_argument("--init-from", type=Path, help="a checkpoint folder to start from")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="dotted overrides")
    options = parser.parse_args()
    if options.init_from:
        options.overrides.append(f"init_from={options.init_from}")
    try:
        return load_config(kind, options.config, options.overrides)
    except ConfigError as error:
        parser.error(str(error))


def _read(path: Path) -> dict[str, Any]:
    values = _read_mapping(path)
    base = values.pop("base", None)
    if base is None:
        return values
    below = _read_mapping(path.parent / str(base))
    if "base" in below:
        raise ConfigError(f"config file {path}: its base {base} has a base of its own")
    return _merge(below, values)


def _read_mapping(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"config file {path} does not exist")
    values = _parse(path.read_text(), f"config file {path}") or {}
    if not isinstance(values, dict):
        raise ConfigError(f"config file {path} holds a {type(values).__name__}, not a mapping")
    return values


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not YAML: {' '.join(str(error).split())}") from None


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if nested else value
    return merged


def _assign(values: dict[str, Any], path: list[str], value: Any) -> None:
    for key in path[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise ConfigError(f"override {'.'.join(path)}: {key} is a value, not a section")
    values[path[-1]] = value


def _explain(kind: type[BaseModel], error: Any) -> str:
    path = [str(part) for part in error["loc"]]
    name = ".".join(path)
    if error["type"] != "extra_forbidden":
        return f"{name}: {error['msg']} (got {error.get('input')!r})"
    section: Any = kind
    for key in path[:-1]:
        section = section.model_fields[key].annotation
    near = difflib.get_close_matches(path[-1], section.model_fields, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(section.model_fields)}"
    return f"{name}: no such key; {hint}"
