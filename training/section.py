"""Groups of settings: frozen pydantic models, read from one YAML file and dotted overrides."""

import argparse
import difflib
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError


class Section(BaseModel):
    """A frozen group of settings that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


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
    """Build a configuration from `--config FILE`, the switches and `key=value` behind it."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", type=Path, required=True, help="a YAML file under configs/")
    parser.add_argument("--init-from", type=Path, help="a checkpoint folder to start from")
    parser.add_argument("--dry-run", action="store_true", help="print what a step would take")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="dotted overrides")
    options = parser.parse_intermixed_args()  # settings before and after a switch
    if options.init_from:
        options.overrides.append(f"init_from={options.init_from}")
    if options.dry_run:
        options.overrides.append("dry_run=true")
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
