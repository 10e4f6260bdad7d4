"""However long a film is, preparing it takes no more memory."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.training.finetuning import write_checkpoint
from tests.training.videos import even, picture, write_video
from training.data.prepare.scenes import CutSettings, _Look

ROOT = Path(__file__).parents[2]
WIDTH, HEIGHT = 96, 72
SHORT, LONG = 200, 5000
HELD = {"MALLOC_ARENA_MAX": "1"} | dict.fromkeys(
    ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(1 << 16)
)
"""Has the C library give back at once what is freed, so that the peak is what was really held.

What it would keep for later differs by 20 MB between runs of the same film; with these, by 1.
"""


def peak(folder: Path, count: int, model: Path) -> int:
    """The most bytes in memory of a process that cuts, scores and encodes a film."""
    loop = [picture(k, WIDTH, HEIGHT, 5) for k in range(100)]
    film = folder / f"{count}" / "film.mp4"
    write_video(film, even(count, 16), (WIDTH, HEIGHT), draw=lambda k, *_: loop[k % len(loop)])
    command = [sys.executable, "-m", "tests.training.measured_prepare", film.parent]
    command += ["-o", folder / f"out{count}", "--model", model, "--area", "64", "--workers", "1"]
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=280,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | HELD,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    sizes = folder.glob(f"out{count}/latents/*/sizes.npy")
    encoded = sum(int(np.load(file)[:, 0].sum()) for file in sizes)
    assert encoded >= count // 5, "a latent frame stands for four frames of the film"
    return int(done.stdout.split()[-1])


@pytest.mark.proof
def test_a_long_film_takes_the_memory_of_a_short_one(tmp_path: Path) -> None:
    """It has 25 times the frames; what it takes more is less than a tenth of their pixels."""
    model = write_checkpoint(tmp_path / "base")
    short, long = (peak(tmp_path, count, model) for count in (SHORT, LONG))
    pixels = (LONG - SHORT) * WIDTH * HEIGHT * 3
    print(f"  {SHORT} frames: {short >> 20} MiB at most; {LONG} frames: {long >> 20} MiB "
          f"({pixels >> 20} MiB of pixels more)")  # fmt: skip
    assert long - short < pixels / 10


def test_of_frames_whose_clip_is_known_nothing_is_kept() -> None:
    """Neither scores nor pictures; a clip is known a few frames after its end."""
    look = _Look(CutSettings(fps=8, frames=17, least=5))
    held = []
    for k in range(120):
        look.see(picture(k % 40, 64, 48, k // 40))
        held.append((len(look._scores), len(look._pictures)))
    assert max(scores for scores, _ in held) <= 17 + 3
    assert max(pictures for _, pictures in held) <= 11
    clips = look.clips()
    edges = [clip["first"] for clip in clips]
    assert {0, 17, 34, 40, 57, 74, 80, 97, 114} == set(edges), "cut at 40 and at 80"
    assert look._scores == []
