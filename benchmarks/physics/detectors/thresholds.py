"""The bounds of every figure, from one file that its hash freezes."""

import hashlib
from functools import cache
from pathlib import Path

import yaml

FILE = Path(__file__).with_name("thresholds.yaml")


@cache
def bounds() -> dict[str, dict[str, float]]:
    """Bounds by figure under `default`, and under the name of a family where it has its own."""
    return {
        group: {name: float(value) for name, value in values.items()}
        for group, values in yaml.safe_load(FILE.read_text()).items()
    }


def bound(family: str, figure: str) -> float:
    """The largest value of a figure that passes in a family. Raises `KeyError` if it has none."""
    return {**bounds()["default"], **bounds().get(family, {})}[figure]


def digest() -> str:
    """SHA-256 of the bounds as they are on disk."""
    return hashlib.sha256(FILE.read_bytes()).hexdigest()
