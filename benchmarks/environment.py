"""Results files, and what a measurement must be quoted with: commit, versions, hardware, load."""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch

CPUINFO = Path("/proc/cpuinfo")


def environment(*packages: str) -> dict[str, Any]:
    """Describe this process: commit, versions, processor, threads, load before it began.

    packages: those that count besides the ones that always do.
    """
    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "commit": git.stdout.strip(),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "diffusers", "transformers", *packages)},
        },
        "hardware": f"{processor()}, {os.cpu_count()} cores",
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "threads": torch.get_num_threads(),
        "load": [round(x, 2) for x in os.getloadavg()],
    }


def write_results(path: Path, told: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
    """Write a results file, whole or not at all: where it was measured, and a row a case."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps({"environment": told, "rows": list(rows)}, indent=1) + "\n")
    part.replace(path)


def processor() -> str:
    """The processor's own name, and the GPU's where there is one."""
    name = platform.processor() or platform.machine()
    if CPUINFO.exists():
        names = [line for line in CPUINFO.read_text().splitlines() if line.startswith("model name")]
        name = names[0].split(":")[1].strip() if names else name
    if torch.cuda.is_available():
        name += f" with {torch.cuda.get_device_name()}"
    return name
