"""What a measurement must be quoted with: commit, versions, hardware and load."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

CPUINFO = Path("/proc/cpuinfo")


def environment() -> dict[str, Any]:
    """Describe this process: commit, versions, processor, threads, load before it began."""
    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "commit": git.stdout.strip(),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "diffusers", "transformers")},
        },
        "hardware": f"{processor()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "load": [round(x, 2) for x in os.getloadavg()],
    }


def processor() -> str:
    """The processor's own name, and the GPU's where there is one."""
    name = platform.processor() or platform.machine()
    if CPUINFO.exists():
        names = [line for line in CPUINFO.read_text().splitlines() if line.startswith("model name")]
        name = names[0].split(":")[1].strip() if names else name
    if torch.cuda.is_available():
        name += f" with {torch.cuda.get_device_name()}"
    return name
