"""Which models a service offers, as the files `configs/models/*.yaml` say.

A worker makes its host of it (`serving.worker`); the command `kinetograph models` writes and shows
it. Keys are those of `Entry`; what one leaves out is the checkpoint's own.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import uuid4

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serving.settings import EMBEDDED_MODEL, Settings

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.:-]{0,63}$")]
Size = Annotated[str, Field(pattern=r"^[1-9]\d{0,4}x[1-9]\d{0,4}$")]
Guidance = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class CatalogError(ValueError):
    """A catalogue that cannot be served; the message names the file, the key and the allowed."""


class Part(BaseModel):
    """A group of keys; others are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TextEncoder(Part):
    """Where the text encoder is and how wide its weights are."""

    device: str | None = Field(
        None, description="cpu, cuda or cuda:0; where the model is if absent"
    )
    dtype: Literal["auto", "int8"] = Field("auto", description="auto or int8")


class Limits(Part):
    """What may be asked for; the first of a list is the default."""

    sizes: tuple[Size, ...] | None = Field(
        None, min_length=1, description="a list of WIDTHxHEIGHT in pixels, the default first"
    )
    num_frames: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        None, min_length=1, description="a list of lengths in frames, the default first"
    )
    fps: int | None = Field(None, ge=1, le=240, description="a whole number from 1 to 240")


class Defaults(Part):
    """What is done where nothing is asked."""

    num_inference_steps: int | None = Field(
        None, ge=1, le=1000, description="a whole number from 1 to 1000"
    )
    guidance_scale: Guidance | None = Field(None, description="a number from 0 to 100")
    guidance_scale_2: Guidance | None = Field(None, description="a number from 0 to 100")


class Rewriter(Part):
    """A chat endpoint that speaks OpenAI's protocol and rewrites prompts before they are read."""

    url: str = Field(
        pattern=r"^https?://", description="the http(s) URL in front of /chat/completions"
    )
    model: str = Field(min_length=1, description="the name of a model of that endpoint")
    api_key_env: str | None = Field(
        None, description="the name of the environment variable that holds the key"
    )
    instructions: str | None = Field(
        None, min_length=1, description="what the model is told to do; the built-in words if absent"
    )
    timeout: float = Field(30.0, gt=0, le=600, description="seconds from 0 to 600")


class Entry(Part):
    """One model."""

    name: Name = Field(description="1 to 64 letters, digits and . : _ -, by which it is asked")
    path: str = Field(min_length=1, description="a folder, or a hub id (owner/name)")
    default: bool = Field(False, description="true for the one that is meant if none is asked")
    aliases: tuple[Name, ...] = Field((), description="a list of further names")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto", description="auto, bfloat16, float16 or float32"
    )
    offload: Literal["none", "model", "group"] = Field("none", description="none, model or group")
    text_encoder: TextEncoder = Field(TextEncoder(), description="an object of device and dtype")
    limits: Limits = Field(Limits(), description="an object of sizes, num_frames and fps")
    defaults: Defaults = Field(
        Defaults(),
        description="an object of num_inference_steps, guidance_scale and guidance_scale_2",
    )
    loras: str | None = Field(None, description="a folder of NAME.safetensors")
    prompt_rewriter: Rewriter | None = Field(
        None, description="an object of url, model, api_key_env, instructions and timeout"
    )

    def served(self) -> dict[str, Any]:
        """The arguments of `model.host.ServedModel`."""
        return {
            "name": self.name,
            "path": self.path,
            "dtype": None if self.dtype == "auto" else self.dtype,
            "offload": self.offload,
            "text_device": self.text_encoder.device,
            "text_int8": self.text_encoder.dtype == "int8",
            "limits": self.limits.model_dump(exclude_none=True),
            "defaults": self.defaults.model_dump(exclude_none=True),
            "loras": None if self.loras is None else Path(self.loras),
        }


_PARTS: Mapping[str, type[BaseModel]] = {
    "text_encoder": TextEncoder,
    "limits": Limits,
    "defaults": Defaults,
    "prompt_rewriter": Rewriter,
}
"""The keys that hold keys."""


def entries(settings: Settings) -> list[Entry]:
    """The models that a service offers, the default first.

    Raises:
        CatalogError: for a catalogue that is not as it must be.
    """
    if settings.model is not None:
        return [single(settings.model)]
    if not any(settings.models_dir.glob("*.yaml")):
        return [single(EMBEDDED_MODEL)]
    return read(settings.models_dir)


def read(folder: Path) -> list[Entry]:
    """The models of a folder's `*.yaml`, the default first, the others by file name.

    Raises:
        CatalogError: for a file that is not as it must be, names that are taken twice, or no file.
    """
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise CatalogError(f"{folder} has no *.yaml; allowed is a folder with one file a model")
    entries = [_read(file) for file in files]
    taken: dict[str, Path] = {}
    for file, entry in zip(files, entries, strict=True):
        for name in (entry.name, *entry.aliases):
            if name in taken:
                raise CatalogError(f"{file}: {name} is also a name or alias in {taken[name]}")
            taken[name] = file
    if len([entry for entry in entries if entry.default]) > 1:
        raise CatalogError(f"{folder}: default is true in more than one file; allowed is one")
    return sorted(entries, key=lambda entry: not entry.default)


def single(path: str) -> Entry:
    """The entry of one checkpoint that is served as it is, under its own name."""
    folder = Path(path).expanduser()
    name = folder.resolve().name if folder.is_dir() else path.split("/")[-1]
    index = folder / "model_index.json"
    if index.is_file():
        with suppress(ValueError, AttributeError):  # the worker says what is wrong with it
            name = json.loads(index.read_text("utf-8")).get("name") or name
    return Entry(name=re.sub(r"[^\w.:-]+", "-", name).strip("-._:") or "model", path=path)


def add(folder: Path, name: str, path: str, loras: Path | None = None) -> Path:
    """Write the file of a new model, in which all but its LoRAs is left to the checkpoint.

    Raises:
        CatalogError: for a name that is taken, a path that is neither a checkpoint folder nor a
            hub id, or LoRAs that are no folder.
    """
    source = Path(path).expanduser()
    if source.is_dir():
        if not (source / "model_index.json").is_file():
            raise CatalogError(
                f"{path} has no model_index.json; allowed is a diffusers checkpoint folder"
            )
        path = str(source.resolve())
    elif not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", path):
        raise CatalogError(f"{path}: no such folder; allowed are a folder or a hub id (owner/name)")
    told = {"name": name, "path": path}
    if loras is not None:
        if not loras.is_dir():
            raise CatalogError(f"--loras {loras}: no such folder")
        told["loras"] = str(loras.resolve())
    entry = _checked(told, "models add")
    others = read(folder) if list(folder.glob("*.yaml")) else []
    if name in {taken for other in others for taken in (other.name, *other.aliases)}:
        raise CatalogError(f"{name} is taken in {folder}; give another name")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{re.sub(r'[^A-Za-z0-9._-]', '-', name)}.yaml"
    if file.exists():
        raise CatalogError(f"{file} is there already; give another name")
    part = file.with_name(f".{file.name}.{uuid4().hex}.part")
    try:
        part.write_text(yaml.safe_dump({**told, "name": entry.name}, sort_keys=False))
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)
    return file


def _read(file: Path) -> Entry:
    try:
        content = yaml.safe_load(file.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise CatalogError(f"{file} is not YAML: {reason}") from error
    if not isinstance(content, Mapping):
        raise CatalogError(f"{file} is not a mapping; needed are name and path")
    entry = _checked(content, str(file))
    paths = {"path": _beside(file, entry.path)}
    if entry.loras is not None:
        paths["loras"] = _beside(file, entry.loras)
    return Entry.model_validate(entry.model_dump() | paths)


def _beside(file: Path, path: str) -> str:
    """A path that begins with a dot is relative to the file that names it."""
    return str((file.parent / path).resolve()) if path.startswith(".") else path


def _checked(content: Mapping[Any, Any], where: str) -> Entry:
    try:
        return Entry.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        keys = [key for key in problem["loc"] if isinstance(key, str)]  # without places in lists
        key = ".".join(keys)
        if problem["type"] == "extra_forbidden":
            known = ", ".join(_fields(keys[:-1]))
            raise CatalogError(f"{where}: {key} is no key; allowed are {known}") from error
        allowed = _fields(keys[:-1])[keys[-1]].description
        if problem["type"] == "missing":
            raise CatalogError(f"{where}: {key} is missing; it must be {allowed}") from error
        value = f"{problem['input']!r:.80}"
        raise CatalogError(f"{where}: {key} is {value}; it must be {allowed}") from error


def _fields(keys: Sequence[str]) -> Mapping[str, Any]:
    """The fields of the part that `keys` lead to."""
    return (_PARTS[keys[0]] if keys else Entry).model_fields


def table() -> str:
    """The keys of a model's file as a table of Markdown, the one in docs/service.md."""
    lines = ["| key | default | must be |", "|---|---|---|"]
    for name, field in Entry.model_fields.items():
        inner = _fields([name]).items() if name in _PARTS else ()
        for key, part in [(f"{name}.{key}", part) for key, part in inner] or [(name, field)]:
            default = f"`{part.default}`" if part.default and not part.is_required() else ""
            needed = "needed" if part.is_required() else default
            lines.append(f"| `{key}` | {needed} | {part.description} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
