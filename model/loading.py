"""A checkpoint folder, or a repository on the Hugging Face Hub, to the components in memory."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import diffusers
import huggingface_hub
import torch
import transformers
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from safetensors import SafetensorError

from model.autoencoder import VideoAutoencoder
from model.components import Components
from model.description import ModelDescription, describe
from model.fast import prepare_for_inference
from model.manifest import CheckpointError, Manifest, read_object
from model.placement import Placement, place
from model.quantize import quantize_linears
from model.transformer import SpacetimeTransformer

PIPELINES = ("WanPipeline", "WanImageToVideoPipeline")
TRANSFORMERS = ("WanTransformer3DModel", "SpacetimeTransformer")
COMPONENTS = (
    *("tokenizer", "text_encoder", "image_processor", "image_encoder"),
    *("transformer", "transformer_2", "vae", "scheduler"),
)
Want = Literal["index", "configuration", "weights"]
EMPTY: Mapping[str, Any] = MappingProxyType({})
SUPPORTED = (
    "supported are text-to-video and image-to-video of Wan2.1 and Wan2.2, "
    "and models of the same layout"
)


def load(
    source: str | Path, placement: Placement, told: Mapping[str, Any] = EMPTY
) -> tuple[Components, ModelDescription]:
    """Open a checkpoint folder or hub repository of Wan's diffusers layout.

    `told` stands in place of what `model_index.json` says of name, limits and defaults.

    Raises:
        CheckpointError: for a source that is not there, a component that is missing or damaged, or
            a form of checkpoint that is not supported.
    """
    # The index comes first: a form that is not supported is refused before gigabytes arrive.
    index, manifest = _read_index(*locate(source, "index"), told)
    folder, name = locate(source, "weights")
    seeing = ("image_processor",) if _names(index, "image_encoder") else ()
    loaded = {
        part: load_component(folder, part, _component_class(index, part))
        for part in ("tokenizer", *seeing)
    }
    parts = _assemble(folder, index, manifest, placement, partial(load_network, folder), loaded)
    if placement.text_int8:
        quantize_linears(parts.text_encoder)
    _check_fit(name, parts)
    description = _describe(name, folder, manifest, parts)
    for expert in (parts.transformer, parts.transformer_2):
        if expert is not None:
            compiled = placement.compiled and placement.offload == "none"
            prepare_for_inference(expert, placement.device, compiled)
    return replace(parts, release=place(parts.networks, placement)), description


def outline(
    source: str | Path, placement: Placement, told: Mapping[str, Any] = EMPTY
) -> tuple[Components, ModelDescription]:
    """Read what `load` would give, but for the weights: networks are on the meta device.

    Of a hub repository only the configurations are fetched.

    Raises:
        CheckpointError: as `load`, but for weights, which are not looked at.
    """
    folder, name = locate(source, "configuration")
    index, manifest = _read_index(folder, name, told)
    parts = _assemble(folder, index, manifest, placement, partial(outline_network, folder), {})
    if placement.text_int8:
        quantize_linears(parts.text_encoder)
    _check_fit(name, parts)
    return parts, _describe(name, folder, manifest, parts)


def _assemble(
    folder: Path,
    index: Mapping[str, Any],
    told: Manifest,
    placement: Placement,
    make: Callable[[str, Any, torch.dtype], Any],
    loaded: Mapping[str, Any],
) -> Components:
    def network(part: str, dtype: torch.dtype) -> Any:
        return make(part, _component_class(index, part), dtype)

    def optional(part: str, dtype: torch.dtype) -> Any:
        return network(part, dtype) if _names(index, part) else None

    return Components(
        tokenizer=loaded.get("tokenizer"),
        text_encoder=network("text_encoder", placement.dtype),
        image_processor=loaded.get("image_processor"),
        image_encoder=optional("image_encoder", torch.float32),
        transformer=network("transformer", placement.dtype),
        transformer_2=optional("transformer_2", placement.dtype),
        vae=network("vae", torch.float32),
        scheduler=load_component(folder, "scheduler", _component_class(index, "scheduler")),
        boundary_ratio=told.boundary_ratio,
        placement=placement,
    )


def shift_key(scheduler: Any) -> str | None:
    """The key under which a diffusers scheduler's configuration keeps the flow shift, if it has."""
    return next((key for key in ("flow_shift", "shift") if key in scheduler.config), None)


def locate(source: str | Path, want: Want) -> tuple[Path, str]:
    """Find the folder, and its name; of a repository on the hub, fetch what is wanted of it.

    Raises:
        CheckpointError: if there is neither a folder nor a repository.
    """
    folder = Path(source).expanduser()
    if str(source) and folder.is_dir():
        return folder, folder.resolve().name
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", str(source)):
        raise CheckpointError(
            f"{source}: no such folder; allowed are a checkpoint folder or a hub id (owner/name)"
        )
    folder = _download(str(source), ["model_index.json"])
    if want == "configuration":
        folder = _download(str(source), ["*.json", "*.txt", "*.model"])
    elif want == "weights":
        index = read_index(folder, str(source))
        parts = [part for part, kind in index.items() if isinstance(kind, list)]
        folder = _download(str(source), ["*.json", *(f"{part}/*" for part in parts)])
    return folder, str(source) if want == "index" else str(source).split("/")[1]


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


def read_index(folder: Path, name: str) -> dict[str, Any]:
    """Read `model_index.json`, whatever pipeline it describes.

    Raises:
        CheckpointError: if it is missing, or no JSON object.
    """
    try:
        return read_object(folder / "model_index.json")
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{name}: model_index.json is missing; allowed is a diffusers checkpoint folder"
        ) from error


def override(index: dict[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """An index with keys, and keys of its objects, in place of its own."""
    changed = {
        key: {**(index.get(key) or {}), **value} if isinstance(value, Mapping) else value
        for key, value in told.items()
    }
    return index | changed


def _read_index(
    folder: Path, name: str, told: Mapping[str, Any]
) -> tuple[dict[str, Any], Manifest]:
    """Read `model_index.json`, and refuse what this code would load but not run."""
    index = override(read_index(folder, name), told)
    pipeline = index.get("_class_name")
    if pipeline not in PIPELINES:
        raise CheckpointError(f"{name}: a {pipeline} checkpoint; {SUPPORTED}")
    for part in COMPONENTS:
        match index.get(part):
            case None | [str() | None, str() | None]:
                pass
            case other:
                raise CheckpointError(f"{part} is {other!r:.80}; allowed is [library, class]")
    manifest = Manifest.of(index)
    experts = _names(index, "transformer_2")
    if experts != (manifest.boundary_ratio is not None):
        raise CheckpointError(
            f"{name}: transformer_2 {'without' if experts else 'is missing, with'} boundary_ratio; "
            "two experts need both"
        )
    return index, manifest


def _names(index: Mapping[str, Any], part: str) -> bool:
    """Whether `model_index.json` names a class for a component."""
    return (index.get(part) or [None, None])[1] is not None


def _component_class(index: Mapping[str, Any], name: str) -> Any:
    """The class that stands for what `model_index.json` names, in a checkpoint of Wan's layout."""
    class_name = (index.get(name) or (None, None))[1]
    if class_name is None:
        raise CheckpointError(f"{name}: model_index.json names none; a checkpoint needs one")
    if name.startswith("transformer"):
        if class_name in TRANSFORMERS:
            return SpacetimeTransformer
        raise CheckpointError(f"{name}: a {class_name}; {SUPPORTED}")
    return VideoAutoencoder if class_name == "VideoAutoencoder" else library_class(index, name)


def library_class(index: Mapping[str, Any], name: str) -> Any:
    """The class that `model_index.json` names; only of libraries we know, never an import.

    Raises:
        CheckpointError: for any other.
    """
    library, class_name = index[name]
    libraries = {"diffusers": diffusers, "transformers": transformers}
    found = getattr(libraries.get(str(library)), class_name, None)
    if not isinstance(found, type):
        raise CheckpointError(
            f"{name}: {library}.{class_name} is not known; allowed are classes of diffusers "
            f"{diffusers.__version__} and transformers {transformers.__version__}"
        )
    return found


def load_component(folder: Path, name: str, kind: Any, **arguments: Any) -> Any:
    if not (folder / name).is_dir():
        raise CheckpointError(f"{name}: the folder {folder / name} is missing")
    try:
        return kind.from_pretrained(folder / name, **arguments)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{name}: {folder / name}: {_first_line(error)}") from error


def load_network(folder: Path, name: str, kind: Any, dtype: torch.dtype) -> Any:
    key = "dtype" if issubclass(kind, transformers.PreTrainedModel) else "torch_dtype"
    network, report = load_component(
        folder, name, kind, use_safetensors=True, output_loading_info=True, **{key: dtype}
    )
    if missing := sorted(report["missing_keys"]):
        raise CheckpointError(
            f"{name}: {folder / name} lacks {len(missing)} tensors, the first {missing[0]}"
        )
    return network.eval().requires_grad_(False)


def outline_network(folder: Path, name: str, kind: Any, dtype: torch.dtype) -> Any:
    """A network of the same form, in the dtypes that loading it would give, without weights."""
    if issubclass(kind, transformers.PreTrainedModel):
        config = load_component(folder, name, kind.config_class)
        with torch.device("meta"):
            return kind(config).to(dtype).eval().requires_grad_(False)
    try:
        config = read_object(folder / name / "config.json")
    except FileNotFoundError as error:
        raise CheckpointError(f"{name}: {folder / name / 'config.json'} is missing") from error
    with torch.device("meta"):
        network = kind.from_config(config).eval().requires_grad_(False)
    kept = set(network._keep_in_fp32_modules or ())
    for key, parameter in network.named_parameters():
        if not kept & set(key.split(".")):
            parameter.data = parameter.data.to(dtype)
    return network


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
    if config.pos_embed_seq_len is not None and parts.image_encoder is not None:
        seen = parts.image_encoder.config
        images = 2 * ((seen.image_size // seen.patch_size) ** 2 + 1)
        if config.pos_embed_seq_len != images:
            raise CheckpointError(
                f"{network} has pos_embed_seq_len {config.pos_embed_seq_len}; allowed is {images}, "
                "as the image encoder gives for a first and a last frame"
            )
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
        reference_tokens=all(expert.config.reference_tokens for expert in experts),
        channel_frames=_channel_frames(network),
    )


def _channel_frames(network: Any) -> tuple[str, ...]:
    """The frames that Wan's image-to-video networks start from, where they are such.

    Those of Wan2.1 also look at image tokens, of one image or, with a position for each, of two.
    """
    if network.pos_embed_seq_len is not None:
        return ("last_frame",)
    return ("first_frame",) if network.image_dim is not None else ("first_frame", "last_frame")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0]
