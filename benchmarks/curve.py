"""The loss of a training run over its steps.

python -m benchmarks.curve runs/toy/metrics.jsonl -o loss.png
"""

import argparse
import json
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

WINDOW = 25
"""Steps of one kind that a point of the smooth line averages over."""
LABELS = {"images": "single frames", "clips": "clips of 17 frames", "packs": "packs of both"}


def draw(metrics: Path, output: Path) -> None:
    """Draw every step's loss faintly and its running mean plainly, a line a kind of step.

    Rows without a `kind` are of packs, in which frames and clips are mixed.
    """
    rows = [{"kind": "packs"} | json.loads(line) for line in metrics.read_text().splitlines()]
    kinds = {row["kind"] for row in rows}
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for kind in [kind for kind in LABELS if kind in kinds]:
        steps = np.array([row["step"] for row in rows if row["kind"] == kind])
        losses = np.array([row["loss"] for row in rows if row["kind"] == kind])
        window = min(WINDOW, max(1, len(steps)))
        (line,) = axes.plot(steps, losses, alpha=0.2, linewidth=0.6)
        mean = np.convolve(losses, np.ones(window) / window, mode="valid")[: len(steps)]
        axes.plot(steps[window - 1 :], mean, color=line.get_color(), label=LABELS[kind])
    axes.set(xlabel="optimizer step", ylabel="velocity loss", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(output, dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("metrics", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    if not options.metrics.is_file():
        parser.error(f"{options.metrics} does not exist")
    draw(options.metrics, options.output)
