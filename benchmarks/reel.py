"""Does a checkpoint draw what its prompts name? Thirty-two clips, judged blind.

    python -m benchmarks.reel draw --model model/pretrained -o out/reel
    python -m benchmarks.reel join --model model/pretrained -o out/reel --config configs/toy.yaml

`draw` renders eight prompts a family, four of them combinations that were never trained on, once
each and in the order of their seeds, and writes them shuffled and without their prompts
(`blind_*.png`). Judges then write what each sees in each numbered row into `readings_1.csv` and so
on. `join` takes what more than half of them saw, brings it together with the prompts, row by row,
and puts the nearest training clip under each.
"""

import argparse
import csv
import hashlib
import json
import os
import platform
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray

import world
from model.autoencoder import VideoAutoencoder
from model.latents import encode_video
from model.pipeline import GenerationRequest, VideoPipeline
from training.config import TrainConfig, load_config
from training.data.cache import LatentDataset, clip_scene, open_dataset
from training.noise import generator
from world import captions
from world.sheet import contact_sheet

CLIPS_PER_FAMILY = 8
KNOWN: dict[str, dict[str, str]] = {
    "bite": {"times": "once"},
    "walk": {"legs": "four"},
    "drop": {},
    "beside": {},
}
"""What is asked: these families, and of some of their slots one value only, so that results of
models that know more stay comparable."""
FIRST_SEED = 10**6
"""Prompts are those of scenes from this seed on; training clips have smaller seeds."""
ROWS_PER_BLIND_SHEET = 8
SEEN = ("family", "colour", "other_colour", "direction", "background", "legs")
BITE = ("cookie_first", "cookie_bitten_side", "cookie_last")
COLUMNS = ("row", *SEEN, *BITE, "remark")

Reading = dict[str, str]
"""What was seen in a row, by the names of `COLUMNS`."""


@dataclass(frozen=True)
class Prompt:
    """A prompt, what it names, and whether its combination was kept from training."""

    text: str
    named: dict[str, str]
    held_out: bool


def prompts() -> list[Prompt]:
    """Return the benchmark's prompts: for every family, half of them held-out combinations."""
    chosen = []
    for family, slots in KNOWN.items():
        for index in range(CLIPS_PER_FAMILY):
            held_out = index < CLIPS_PER_FAMILY // 2
            scene = world.sample(family, FIRST_SEED + index, held_out, slots)
            named = captions.parse(scene.caption)
            assert named is not None
            named.pop("times", None)  # what is asked of a bite is in the columns `BITE`
            chosen.append(Prompt(scene.caption, named, held_out))
    return chosen


def shuffled(checkpoint: str) -> list[int]:
    """Return the prompt's index of each row of the blind sheets, another order a checkpoint."""
    count = len(prompts())
    return torch.randperm(count, generator=generator("reel", checkpoint)).tolist()


def draw(model: Path, folder: Path) -> None:
    """Generate every prompt once and write the clips and the blind sheets."""
    folder.mkdir(parents=True, exist_ok=True)
    pipeline = VideoPipeline.from_pretrained(model)
    clips = []
    for seed, prompt in enumerate(prompts()):
        clips.append(pipeline.render(GenerationRequest(prompt.text, seed=seed)).frames)
        print(f"{seed + 1}/{len(prompts())}", end="\r", flush=True)
    np.savez_compressed(folder / "clips.npz", clips=np.stack(clips))
    drawn = conditions(model)
    (folder / "conditions.json").write_text(json.dumps(drawn, indent=2) + "\n")
    order = shuffled(drawn["checkpoint_sha256"])
    for start in range(0, len(order), ROWS_PER_BLIND_SHEET):
        numbers = range(start, min(start + ROWS_PER_BLIND_SHEET, len(order)))
        rows = [(f"row {n}", clips[order[n]]) for n in numbers]
        contact_sheet(rows, stride=1, scale=2).save(folder / f"blind_{start:02d}.png")
    print(f"{len(clips)} clips; judge {folder}/blind_*.png into {folder}/readings_N.csv")
    print(f"columns: {','.join(COLUMNS)}")


def join(model: Path, folder: Path, config: TrainConfig) -> None:
    """Compare the readings with the prompts; write `verdicts.csv`, `summary.json`, `sheet.png`."""
    drawn = json.loads((folder / "conditions.json").read_text())
    if drawn["checkpoint_sha256"] != checkpoint_hash(model):
        raise SystemExit(f"{model} is not the checkpoint that {folder}/clips.npz was drawn with")
    clips = np.load(folder / "clips.npz")["clips"]
    order = shuffled(drawn["checkpoint_sha256"])
    readings, by_judge = judged(folder, order)
    autoencoder = VideoAutoencoder.from_pretrained(model / "vae")
    nearest = nearest_clips(autoencoder, open_dataset(config.data), clips)
    verdicts: list[dict[str, object]] = []
    rows = []
    for index, prompt in enumerate(prompts()):
        reading = readings[index]
        wrong = wrong_slots(prompt, reading)
        keeps = bite_stays(prompt, reading)
        training_clip, distance = nearest[index]
        scene = clip_scene(training_clip, config.data)
        kind = "held-out combination" if prompt.held_out else "trained combination"
        right = "right" if not wrong else "wrong: " + ", ".join(wrong)
        bite = "" if keeps is None else "; the bite stays" if keeps else "; the bite does not stay"
        rows.append((f"{prompt.text}   [{kind}; {right}{bite}]", clips[index]))
        title = f"    nearest training clip, distance {distance:.2f}: {scene.caption}"
        rows.append((title, world.render(scene)))
        verdicts.append(
            {
                "prompt": prompt.text,
                "held_out": prompt.held_out,
                "right": not wrong,
                "wrong": " ".join(wrong),
                "bite_stays": "" if keeps is None else keeps,
                "nearest": scene.caption,
                "distance": round(distance, 3),
                **{name: reading[name] for name in COLUMNS},
            }
        )
    with (folder / "verdicts.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(verdicts[0]))
        writer.writeheader()
        writer.writerows(verdicts)
    contact_sheet(rows, scale=2).save(folder / "sheet.png")
    summary = summarise(verdicts) | by_judge | drawn
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(json.dumps(summary, indent=2))


def judged(folder: Path, order: list[int]) -> tuple[list[Reading], dict[str, object]]:
    """Return what most judges saw of each prompt's clip, and how many each finds right.

    Args:
        folder: with a `readings_*.csv` a judge.
        order: the prompt of each blind row.
    """
    paths = sorted(folder.glob("readings_*.csv"))
    if not paths:
        raise SystemExit(f"{folder}/readings_1.csv is missing; it holds what was seen")
    tables = [read_readings(path, rows=len(order)) for path in paths]
    rows = [order.index(index) for index in range(len(order))]
    alone = [
        sum(not wrong_slots(p, table[row]) for p, row in zip(prompts(), rows, strict=True))
        for table in tables
    ]
    return [agreed([table[row] for table in tables]) for row in rows], {"right_by_judge": alone}


def agreed(readings: list[Reading]) -> Reading:
    """Return what more than half of the readings of a clip say; "unclear" where none does."""
    found = {}
    for name in (*SEEN, *BITE):
        value, votes = Counter(reading[name].strip() for reading in readings).most_common(1)[0]
        found[name] = value if 2 * votes > len(readings) else "unclear"
    remarks = " / ".join(reading["remark"].strip() for reading in readings)
    return {"row": readings[0]["row"], **found, "remark": remarks}


def read_readings(path: Path, rows: int) -> dict[int, Reading]:
    """Return the reading of each blind row; the table must have `COLUMNS` and every row once."""
    with path.open(newline="") as file:
        table = list(csv.DictReader(file))
    if not table or set(table[0]) != set(COLUMNS):
        raise SystemExit(f"{path}: the columns must be {','.join(COLUMNS)}")
    readings = {int(row["row"]): row for row in table}
    if len(table) != rows or readings.keys() != set(range(rows)):
        raise SystemExit(f"{path}: each of the rows 0 to {rows - 1} is needed once")
    return readings


def wrong_slots(prompt: Prompt, reading: Reading) -> list[str]:
    """Return the names of what the prompt says and the clip, as it was read, does not show."""
    return [name for name, value in prompt.named.items() if reading[name].strip() != value]


def bite_stays(prompt: Prompt, reading: Reading) -> bool | None:
    """Tell whether a cookie was whole, then bitten on the asked side, then still bitten."""
    if prompt.named["family"] != "bite":
        return None
    seen = [reading[name].strip() for name in BITE]
    return seen == ["whole", prompt.named["direction"], "bitten"]


def nearest_clips(
    autoencoder: VideoAutoencoder, dataset: LatentDataset, clips: NDArray[np.uint8]
) -> list[tuple[int, float]]:
    """Return each clip's training clip of smallest L2 distance in normalised latents.

    Args:
        autoencoder: the one that the data set was encoded with.
        dataset: N training clips.
        clips: `(B, T, H, W, 3)`.

    Returns:
        B pairs of index and distance, the root mean square over all numbers of the latents.
    """
    video = torch.from_numpy(clips).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    with torch.no_grad():
        latents = encode_video(autoencoder, video)
    count = latents[0].numel()
    squares = [
        torch.cdist(latents.flatten(1), _stacked(dataset, ids)).square() / count
        for ids in torch.arange(len(dataset)).split(500)
    ]
    best = torch.cat(squares, dim=1).min(dim=1)
    return list(zip(best.indices.tolist(), best.values.sqrt().tolist(), strict=True))


def _stacked(dataset: LatentDataset, ids: torch.Tensor) -> torch.Tensor:
    return torch.stack([dataset.latents(clip).flatten() for clip in ids.tolist()])


def summarise(verdicts: list[dict[str, object]]) -> dict[str, object]:
    """Count what was right: of all, of held-out combinations, by family, and the bites."""
    bites = [v["bite_stays"] for v in verdicts if v["bite_stays"] != ""]
    by_family: dict[str, int] = {}
    for family, start in zip(KNOWN, range(0, len(verdicts), CLIPS_PER_FAMILY), strict=True):
        rows = verdicts[start : start + CLIPS_PER_FAMILY]
        by_family[family] = sum(bool(v["right"]) for v in rows)
    return {
        "right": sum(bool(v["right"]) for v in verdicts),
        "of": len(verdicts),
        "held_out_right": sum(bool(v["right"]) for v in verdicts if v["held_out"]),
        "held_out_of": sum(bool(v["held_out"]) for v in verdicts),
        "right_by_family": by_family,
        "bite_stays": sum(bool(b) for b in bites),
        "bites": len(bites),
    }


def checkpoint_hash(model: Path) -> str:
    """Return the SHA-256 of all files of a checkpoint but its card, in the order of their names."""
    digest = hashlib.sha256()
    for file in sorted(model.rglob("*")):
        if file.suffix in (".safetensors", ".json"):
            digest.update(file.relative_to(model).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()


def conditions(model: Path) -> dict[str, str]:
    """Return what a result must be quoted with: checkpoint, versions, hardware."""
    return {
        "checkpoint_sha256": checkpoint_hash(model),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "hardware": f"{cpuinfo()}, {os.cpu_count()} cores",
    }


def cpuinfo() -> str:
    """Return the processor's name as the system tells it."""
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main() -> None:
    """Run `draw` or `join`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reel", description=__doc__)
    parser.add_argument("action", choices=["draw", "join"])
    parser.add_argument("--model", type=Path, required=True, help="a checkpoint folder")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the benchmark's folder")
    parser.add_argument("--config", type=Path, default=Path("configs/toy.yaml"))
    options = parser.parse_args()
    if not (options.model / "model_index.json").is_file():
        parser.error(f"--model {options.model}: no checkpoint folder (it has no model_index.json)")
    if options.action == "draw":
        draw(options.model, options.output)
    else:
        config = load_config(TrainConfig, options.config, [f"data.autoencoder={options.model}/vae"])
        join(options.model, options.output, config)


if __name__ == "__main__":
    main()
