"""Clips a second from files to latents in memory, beside a plain PyAV loop and HF datasets.

    python -m benchmarks.data [--json] [-o docs/results/data.json]

Makes some videos and goes through them in one run, turn and turn about. `decode` counts frames a
second in one process: ours (every frame with its time, upright, in sRGB), a plain loop over PyAV
that does nothing else, the same loop with one scaler in one thread for all frames of a file, and HF
datasets that stream the same files, which hand over bytes and are decoded by the plain loop; the
frames are the same, bit by bit. `inspect` and `encode` count clips a second of those stages of
`training.data.prepare` with two processes, their start aside, and `embed` captions a second through
the text encoder; `read` counts gigabytes a second of cached latents, ours (as the fp32 tensors that
a step takes) and a plain read of the same files.
Medians of the repeats; `ratio` is the median of ours over the plain one, round by round, and
`cpu_ratio` the same by seconds of the processor, which other work on the machine does not disturb.
"""

import argparse
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import datasets
import numpy as np
from av.video.reformatter import VideoReformatter

from benchmarks.environment import environment, write_results
from model.video import write_mp4
from training.data.cache import LatentDataset, mapped
from training.data.decode import Video
from training.data.prepare.encode import SHARD, Encoder, encode_latents, encode_texts, shards
from training.data.prepare.rows import rows_of
from training.data.prepare.scenes import CutSettings, inspect
from training.data.prepare.sources import find
from training.data.prepare.workers import each

ROOT = Path(__file__).parents[1]
WORKERS = 2
RATE, FPS = 24, 16
"""Frames a second of the files, and of clips."""


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        files, frames, side: of the videos.
        captions, together: how many texts are embedded, and of how many a shard is.
        clips: of the cached latents.
        latents: T, C, h and w of each; those of Wan's 81 frames at 832 x 480.
        repeats: of each measurement.
    """

    files: int = 8
    frames: int = 96
    side: int = 256
    captions: int = 16 * SHARD
    together: int = SHARD
    clips: int = 32
    latents: tuple[int, ...] = (21, 16, 60, 104)
    repeats: int = 9


def write_videos(folder: Path, size: Size) -> list[Path]:
    """Make the files: a coarse texture that drifts, another one in each."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0 : size.side, 0 : size.side] * 8 // size.side
    paths = []
    for number in range(size.files):
        texture = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)[y, x]
        frames = (np.roll(texture, (k, 2 * k), (0, 1)) for k in range(size.frames))
        paths.append(folder / f"{number}.mp4")
        write_mp4(paths[-1], frames, RATE)
    return paths


def decode_ours(paths: list[Path]) -> int:
    """Frames decoded."""
    count = 0
    for path in paths:
        with path.open("rb") as file, Video(file) as video:
            count += sum(1 for _ in video.seen(Fraction(RATE), lambda w, h: (w, h)))
    return count


def decode_plainly(paths: list[Path]) -> int:
    """Frames decoded."""
    return sum(_decode(str(path)) for path in paths)


def decode_with_one_scaler(paths: list[Path]) -> int:
    """Frames decoded."""
    count = 0
    for path in paths:
        scaler = VideoReformatter()
        with av.open(str(path), "r") as container:
            for frame in container.decode(video=0):
                scaled = scaler.reformat(frame, format="rgb24", threads=1)
                count += scaled.to_ndarray().ndim == 3
    return count


def decode_streamed(paths: list[Path]) -> int:
    """Frames decoded of what HF datasets stream."""
    stream = datasets.load_dataset(
        "videofolder", data_dir=str(paths[0].parent), split="train", streaming=True
    ).cast_column("video", datasets.Video(decode=False))
    return sum(_decode(io.BytesIO(_content(row["video"]))) for row in stream)


def _content(video: dict[str, Any]) -> bytes:
    return video["bytes"] or Path(video["path"]).read_bytes()


def _decode(file: str | io.BytesIO) -> int:
    with av.open(file, "r") as container:
        return sum(
            frame.to_ndarray(format="rgb24").ndim == 3 for frame in container.decode(video=0)
        )


def compare(ways: dict[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """The median rate of each way, turn and turn about, after a first round that does not count.

    `ratio` is the median over the rounds of ours over the plain one, `cpu_ratio` that by seconds of
    the processor.
    """
    rates: dict[str, list[float]] = {name: [] for name in ways}
    by_cpu: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, work in ways.items():
            started, used = time.perf_counter(), time.process_time()
            count = work()
            if repeat:
                rates[name].append(count / (time.perf_counter() - started))
                by_cpu[name].append(count / (time.process_time() - used))
    found = {name: statistics.median(values) for name, values in rates.items()}
    for name, values in (("ratio", rates), ("cpu_ratio", by_cpu)):
        rounds = zip(values["ours"], values["plain"], strict=True)
        found[name] = statistics.median(ours / plain for ours, plain in rounds)
    return found


def measure_stages(folder: Path, paths: list[Path], size: Size) -> list[dict[str, Any]]:
    """Clips and captions a second of what prepare does, with two processes, from the first that is
    done on.
    """
    sources = find([str(paths[0].parent)], None, {})
    settings = CutSettings(FPS, 33, 17)
    inspected, clips_per_second = _timed(partial(inspect, settings=settings), sources)
    rows = rows_of(inspected, FPS, 128**2, 16, ())
    clips = [row for row in rows if row["reason"] is None]
    encoder = Encoder(str(ROOT / "model/pretrained"), FPS)
    some = shards(folder / "latents", clips, 1, "benchmark", ("id",))
    _, shards_per_second = _timed(partial(encode_latents, encoder), some)
    texts = [{"id": f"{k}", "caption": caption(k)} for k in range(size.captions)]
    told = shards(folder / "text", texts, size.together, "benchmark", ("id", "caption"))
    _, texts_per_second = _timed(partial(encode_texts, encoder), told)
    per_file = len(clips) / len(paths)
    embedded = round(texts_per_second * size.captions / len(told), 2)
    return [
        {"stage": "inspect", "unit": "clips/s", "ours": round(clips_per_second * per_file, 2)},
        {"stage": "encode", "unit": "clips/s", "ours": round(shards_per_second, 2)},
        {"stage": "embed", "unit": "captions/s", "ours": embedded},
    ]


def caption(number: int) -> str:
    """A sentence of the embedded model's words, another one for every number below 1764."""
    colours = ("red", "green", "blue", "white", "black", "purple", "orange")
    things = ("ball", "cat", "cookie", "monster", "square", "circle")
    number, one = divmod(number, len(colours))
    number, two = divmod(number, len(things))
    number, three = divmod(number, len(colours))
    four = number % len(things)
    return f"a {colours[one]} {things[two]} is to the left of a {colours[three]} {things[four]}"


def _timed(work: Callable[[Any], Any], items: list[Any]) -> tuple[list[Any], float]:
    """Results, and items a second after those that came first, one a process."""
    results, times = [], []
    for result in each(work, items, WORKERS):
        results.append(result)
        times.append(time.perf_counter())
    return results, (len(items) - WORKERS) / (times[-1] - times[WORKERS - 1])


def measure_reading(folder: Path, size: Size) -> dict[str, Any]:
    """Gigabytes a second of cached latents."""
    numbers = int(np.prod(size.latents))
    file = folder / "clips.bf16"
    np.random.default_rng(0).integers(0, 2**14, size.clips * numbers, dtype=np.int16).tofile(file)
    bits = mapped(file)
    sizes = np.array([size.latents] * size.clips)
    offsets = np.arange(size.clips) * numbers
    dataset = LatentDataset(bits, bits, offsets, sizes, [""] * size.clips)
    gigabytes = file.stat().st_size / 1e9

    def ours() -> float:
        for clip in range(size.clips):
            dataset.latents(clip)
        return gigabytes

    def plainly() -> float:
        with file.open("rb", buffering=0) as raw:
            for _ in range(size.clips):
                raw.read(2 * numbers)
        return gigabytes

    return _row("read", "GB/s", compare({"ours": ours, "plain": plainly}, size.repeats))


def _row(stage: str, unit: str, rates: dict[str, float]) -> dict[str, Any]:
    return {"stage": stage, "unit": unit, **{n: round(value, 3) for n, value in rates.items()}}


def measure(size: Size) -> list[dict[str, Any]]:
    """All rows of the report."""
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = write_videos(folder / "videos", size)
        rates = compare(
            {
                "ours": lambda: decode_ours(paths),
                "plain": lambda: decode_plainly(paths),
                "one_scaler": lambda: decode_with_one_scaler(paths),
                "streamed": lambda: decode_streamed(paths),
            },
            size.repeats,
        )
        rows = [_row("decode", "frames/s", rates)]
        return [*rows, *measure_stages(folder, paths, size), measure_reading(folder, size)]


def main() -> None:
    """Measure, and print a row for each stage."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON list, for programs")
    parser.add_argument("-o", "--output", type=Path, help="a JSON file of environment and rows")
    arguments = parser.parse_args()
    told, rows = environment("av"), measure(Size())
    if arguments.output:
        write_results(arguments.output, told, rows)
    if arguments.json:
        return print(json.dumps(rows))
    for row in rows:
        print(*(f"{name} {value}" for name, value in row.items()), sep="\t")


if __name__ == "__main__":
    main()
