"""How full are the packs, and how evenly do they load the ranks? Two mixes of native sizes.

    python -m benchmarks.packing [--json]

A mix is 40,000 clips: a fifth of them images, durations log-normal around 4.5 s at 16 frames a
second, seven aspect ratios, areas from 256² or from 256² to 768² pixels; 16 pixels and 4 frames a
token. One row a mix: `fill`, the share of the budget that is clips and not padding; `balance`, the
share of 64 ranks' time that is not spent waiting for the slowest; `kept`, the share of all tokens
that is in some pack; milliseconds of packing and dealing a clip.
"""

import argparse
import json
import time
from dataclasses import dataclass

import numpy as np

from training.packing import Packer, balance, deal

CLIPS, IMAGES, RANKS, WIDTH = 40_000, 0.2, 64, 1536
WINDOW = 16 * RANKS
"""Packs among which those of equal cost are found."""
ASPECTS = {
    16 / 9: 0.52, 9 / 16: 0.20, 4 / 3: 0.09, 1.0: 0.08, 21 / 9: 0.05, 3 / 4: 0.03, 3 / 2: 0.03
}  # fmt: skip
FPS, MEDIAN_SECONDS, SIGMA, SECONDS = 16, 4.5, 0.7, (1.0, 16.0)
PIXELS_PER_TOKEN, FRAMES_PER_LATENT = 16, 4


@dataclass(frozen=True)
class Mix:
    """Sides of the square areas in pixels with their shares, and the tokens of a pack."""

    sides: dict[int, float]
    budget: int


MIXES = {
    "256": Mix({256: 1.0}, 32_768),
    "mixed": Mix({256: 0.45, 384: 0.25, 512: 0.20, 768: 0.10}, 294_912),
}


def sizes(mix: Mix, count: int = CLIPS, seed: int = 0) -> np.ndarray:
    """Draw `count` clips of a mix: frames, rows and columns in tokens, `(count, 3)`."""
    rng = np.random.default_rng(seed)
    aspect = rng.choice(list(ASPECTS), count, p=list(ASPECTS.values()))
    side = rng.choice(list(mix.sides), count, p=list(mix.sides.values()))
    area = (side / PIXELS_PER_TOKEN) ** 2 * rng.uniform(0.8, 1.0, count)
    columns = np.maximum(1, np.rint(np.sqrt(area * aspect)))
    rows = np.maximum(1, np.rint(np.sqrt(area / aspect)))
    seconds = np.clip(MEDIAN_SECONDS * np.exp(SIGMA * rng.standard_normal(count)), *SECONDS)
    frames = 1 + np.rint((seconds * FPS - 1) / FRAMES_PER_LATENT)
    frames[rng.random(count) < IMAGES] = 1
    return np.stack([frames, rows, columns], axis=1).astype(int)


def lengths(mix: Mix, count: int = CLIPS, seed: int = 0) -> list[int]:
    """Draw the tokens of `count` clips of a mix."""
    tokens: list[int] = sizes(mix, count, seed).prod(axis=1).tolist()
    return tokens


def measure(name: str, mix: Mix, count: int = CLIPS) -> dict[str, float | str]:
    """Pack a mix and deal it to the ranks; gives one row of the report."""
    tokens = lengths(mix, count)
    started = time.process_time()
    packer = Packer(mix.budget, min(tokens))
    packs = [pack for clip, n in enumerate(tokens) for pack in packer.add(clip, n)]
    packs += packer.flush()
    waiting, rounds = [], []
    for pack in packs:
        waiting.append(pack)
        if len(waiting) == WINDOW:
            rounds += deal(waiting, RANKS, WIDTH)
            waiting = []
    rounds += deal(waiting, RANKS, WIDTH)
    seconds = time.process_time() - started
    packed = sum(pack.tokens for pack in packs)
    return {
        "mix": name,
        "fill": round(packed / (mix.budget * len(packs)), 4),
        "balance": round(balance(rounds, WIDTH), 4),
        "kept": round(packed / sum(tokens), 6),
        "ms_per_clip": round(1000 * seconds / count, 5),
    }


def main() -> None:
    """Measure both mixes and print a row each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.packing", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON list, for programs")
    arguments = parser.parse_args()
    rows = [measure(name, mix) for name, mix in MIXES.items()]
    if arguments.json:
        print(json.dumps(rows))
        return
    print(*rows[0], sep="\t")
    for row in rows:
        print(*row.values(), sep="\t")


if __name__ == "__main__":
    main()
