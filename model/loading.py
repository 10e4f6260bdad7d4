"""A checkpoint folder, or a repository on the Hugging Face Hub, to the components in memory."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import huggingface_hub
import torch
import transformers
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from safetensors import SafetensorError

from model.autoencoder import VideoAutoencoder
from model.description import ModelDescription, describe
from model.manifest import CheckpointError, Manifest, read_object
from model.transformer import SpacetimeTransformer

PIPELINES = ("WanPipeline", "WanImageToVideoPipeline")
TRANSFORMERS = ("WanTransformer3DModel", "SpacetimeTransformer")
COMPONENTS = (
    *("tokenizer", "text_encoder", "image_processor", "image_encoder"),
    *("transformer", "transformer_2", "vae", "scheduler"),
)
SUPPORTED = (
    "supported are text-to-video and image-to-video of Wan2.1 and Wan2.2, "
    "and models of the same layout"
)


@dataclass(frozen=True)
class Components:
    """What a checkpoint consists of, on its device and ready for inference.

    `transformer_2` takes over below `boundary_ratio` of the scheduler's timesteps; both are None
    where there is one expert. `image_encoder` and `image_processor` are None but in Wan2.1
    image-to-video. Autoencoder and image encoder are always fp32, as Wan asks for.
    """

    tokenizer: Any
    text_encoder: Any
    image_processor: Any
    image_encoder: Any
    transformer: Any
    transformer_2: Any
    vae: Any
    scheduler: Any
    boundary_ratio: float | None


def load(
    source: str | Path, device: torch.device, dtype: torch.dtype
) -> tuple[Components, ModelDescription]:
    """Open a checkpoint folder or hub repository of Wan's diffusers layout.

    Raises:
        CheckpointError: for a source that is not there, a component that is missing or damaged, or
            a form of checkpoint that is not supported.
    """
    folder, name = _locate(source)
    index, told = _read_index(folder, name)

    def network(part: str, dtype: torch.dtype) -> Any:
        return _load_network(folder, part, _class(index, part), device, dtype)

    seeing = _names(index, "image_encoder")
    parts = Components(
        tokenizer=_load(folder, "tokenizer", _class(index, "tokenizer")),
        text_encoder=network("text_encoder", dtype),
        image_processor=(
            _load(folder, "image_processor", _class(index, "image_processor")) if seeing else None
        ),
        image_encoder=network("image_encoder", torch.float32) if seeing else None,
        transformer=network("transformer", dtype),
        transformer_2=network("transformer_2", dtype) if _names(index, "transformer_2") else None,
        vae=network("vae", torch.float32),
        scheduler=_load(folder, "scheduler", _class(index, "scheduler")),
        boundary_ratio=told.boundary_ratio,
    )
    _check_fit(name, parts)
    return parts, _describe(name, folder, told, parts)


def shift_key(scheduler: Any) -> str | None:
    """The key under which a diffusers scheduler's configuration keeps the flow shift, if it has."""
    return next((key for key in ("flow_shift", "shift") if key in scheduler.config), None)


def _locate(source: str | Path) -> tuple[Path, str]:
    """Find the folder, fetching it from the hub where `source` is a repository's id."""
    folder = Path(source).expanduser()
    if str(source) and folder.is_dir():
        return folder, folder.resolve().name
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", str(source)):
        raise CheckpointError(
            f"{source}: no such folder; allowed are a checkpoint folder or a hub id (owner/name)"
        )
    # The index comes first: a form that is not supported is refused before gigabytes arrive.
    _read_index(_download(str(source), ["model_index.json"]), str(source))
    files = ["*.json", *(f"{name}/*" for name in COMPONENTS)]
    return _download(str(source), files), str(source).split("/")[1]


def _download(repository: str, files: list[str]) -> Path:
    try:
        return Path(huggingface_hub.snapshot_download(repository, allow_patterns=files))
    except LocalEntryNotFoundError as error:
        reason = "the Hugging Face Hub cannot be reached and holds no earlier copy here"
        raise CheckpointError(f"{repository}: no such folder, and {reason}") from error
    except RepositoryNotFoundError as error:
        reason = "no such repository on the Hugging Face Hub, or it needs a token (hf auth login)"
        raise CheckpointError(f"{repository}: no such folder, and {reason}") from error
    except (HfHubHTTPError, OSError) as error:
        raise CheckpointError(f"{repository}: download failed: {_first_line(error)}") from error


def _read_index(folder: Path, name: str) -> tuple[dict[str, Any], Manifest]:
    """Read `model_index.json`, and refuse what this code would load but not run."""
    try:
        index = read_object(folder / "model_index.json")
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{name}: model_index.json is missing; allowed is a diffusers checkpoint folder"
        ) from error
    pipeline = index.get("_class_name")
    if pipeline not in PIPELINES:
        raise CheckpointError(f"{name}: a {pipeline} checkpoint; {SUPPORTED}")
    for part in COMPONENTS:
        match index.get(part):
            case None | [str() | None, str() | None]:
                pass
            case other:
                raise CheckpointError(f"{part} is {other!r:.80}; allowed is [library, class]")
    told = Manifest.of(index)
    experts = _names(index, "transformer_2")
    if experts != (told.boundary_ratio is not None):
        raise CheckpointError(
            f"{name}: transformer_2 {'without' if experts else 'is missing, with'} boundary_ratio; "
            "two experts need both"
        )
    return index, told


def _names(index: Mapping[str, Any], part: str) -> bool:
    """Whether `model_index.json` names a class for a component."""
    return (index.get(part) or [None, None])[1] is not None


def _class(index: Mapping[str, Any], name: str) -> Any:
    """The class that `model_index.json` names; only of libraries we know, never an import."""
    library, class_name = index.get(name) or (None, None)
    if class_name is None:
        raise CheckpointError(f"{name}: model_index.json names none; a checkpoint needs one")
    if name.startswith("transformer"):
        if class_name in TRANSFORMERS:
            return SpacetimeTransformer
        raise CheckpointError(f"{name}: a {class_name}; {SUPPORTED}")
    if class_name == "VideoAutoencoder":
        return VideoAutoencoder
    libraries = {"diffusers": diffusers, "transformers": transformers}
    found = getattr(libraries.get(str(library)), class_name, None)
    if not isinstance(found, type):
        raise CheckpointError(
            f"{name}: {library}.{class_name} is not known; allowed are classes of diffusers "
            f"{diffusers.__version__} and transformers {transformers.__version__}"
        )
    return found


def _load(folder: Path, name: str, kind: Any, **arguments: Any) -> Any:
    if not (folder / name).is_dir():
        raise CheckpointError(f"{name}: the folder {folder / name} is missing")
    try:
        return kind.from_pretrained(folder / name, **arguments)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{name}: {folder / name}: {_first_line(error)}") from error


def _load_network(
    folder: Path, name: str, kind: Any, device: torch.device, dtype: torch.dtype
) -> Any:
    key = "dtype" if issubclass(kind, transformers.PreTrainedModel) else "torch_dtype"
    network, report = _load(
        folder, name, kind, use_safetensors=True, output_loading_info=True, **{key: dtype}
    )
    if missing := sorted(report["missing_keys"]):
        raise CheckpointError(
            f"{name}: {folder / name} lacks {len(missing)} tensors, the first {missing[0]}"
        )
    return network.to(device).eval().requires_grad_(False)


def _check_fit(name: str, parts: Components) -> None:
    """Refuse components that do not speak to each other, or that ask for what is not here."""
    _check_network(f"{name}: the transformer", parts.transformer.config, parts)
    if parts.transformer_2:
        _check_network(f"{name}: transformer_2", parts.transformer_2.config, parts)
        for key in ("in_channels", "patch_size"):
            first, second = (p.config[key] for p in (parts.transformer, parts.transformer_2))
            if first != second:
                raise CheckpointError(
                    f"{name}: {key} is {first} in transformer, but {second} in transformer_2; "
                    "two experts share one input"
                )
    if parts.scheduler.config.get("use_dynamic_shifting"):
        raise CheckpointError(f"{name}: scheduler: use_dynamic_shifting is on; allowed is off")


def _check_network(network: str, config: Any, parts: Components) -> None:
    written = config.out_channels or config.in_channels
    if written != parts.vae.config.z_dim:
        raise CheckpointError(
            f"{network} writes {written} channels, "
            f"but the autoencoder reads {parts.vae.config.z_dim}"
        )
    width = parts.text_encoder.config.d_model
    if config.text_dim != width:
        raise CheckpointError(
            f"{network} reads text of width {config.text_dim}, but the text encoder writes {width}"
        )
    if (config.image_dim is None) != (parts.image_encoder is None):
        raise CheckpointError(
            f"{network} reads {'image tokens' if config.image_dim else 'no image tokens'}, "
            f"but image_encoder {'is missing' if config.image_dim else 'is there'}"
        )
    if config.pos_embed_seq_len is not None:
        raise CheckpointError(f"{network} reads a last frame as well as a first; {SUPPORTED}")
    if config.patch_size[0] != 1:
        raise CheckpointError(
            f"{network} has patch_size {tuple(config.patch_size)}; allowed is 1 latent frame, "
            "since the first of them stands for a single frame"
        )


def _describe(name: str, folder: Path, told: Manifest, parts: Components) -> ModelDescription:
    network, vae = parts.transformer.config, parts.vae.config
    experts = [expert for expert in (parts.transformer, parts.transformer_2) if expert]
    key = shift_key(parts.scheduler)
    return describe(
        name,
        folder,
        told,
        latent_channels=vae.z_dim,
        condition_channels=network.in_channels - vae.z_dim,
        pixels_per_cell=vae.scale_factor_spatial * math.lcm(*network.patch_size[1:]),
        frames_per_latent=vae.scale_factor_temporal,
        flow_shift=parts.scheduler.config[key] if key else None,
        parameters=sum(p.numel() for expert in experts for p in expert.parameters()),
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0]
