"""PhyWorld's errors: the floors of both parsers, and what is added to them by a fault."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.physics import phyworld as scores
from benchmarks.physics.__main__ import main
from benchmarks.physics.phyworld import PARSERS
from model.video import write_mp4
from world import phyworld


def test_a_place_is_read_in_the_parsers_own_coordinates() -> None:
    """One full red pixel in column 3 and row 5 of 11: 3/11 or 3/10 of the side, y upwards."""
    frames = np.full((1, 11, 11, 3), 255, np.uint8)
    frames[0, 4:7, 2:5] = (255, 0, 0)
    frames[0, 8:10, 8:10] = (0, 0, 255)
    for name, side in (("paper", 11), ("corrected, hard", 10), ("corrected", 10)):
        (place,) = scores.places(frames, 0, PARSERS[name])
        np.testing.assert_allclose(place, (30 / side, 10 - 50 / side), atol=1e-12)


def test_a_ball_that_the_border_cuts_is_not_followed() -> None:
    frames = np.full((1, 64, 64, 3), 255, np.uint8)
    frames[0, 20:30, :8] = (0, 0, 255)
    assert np.isnan(scores.places(frames, 1, PARSERS["corrected"])).all()


@pytest.mark.parametrize(("size", "published"), [(128, 0.0193), (96, 0.0259), (64, 0.0387)])
def test_floors_of_the_papers_parser_over_even_motion(size: int, published: float) -> None:
    """Within 20 %: speeds from 1 to 4 scatter the mean of 40 clips by 6 %."""
    found = scores.floor("uniform", "id", size, PARSERS["paper"], range(40))
    assert found.clip == pytest.approx(published, rel=0.2)


@pytest.mark.parametrize(
    ("parser", "size", "published"),
    [
        ("corrected, hard", 128, 0.0018),
        ("corrected", 128, 0.0014),
        ("corrected, hard", 64, 0.0055),
        ("corrected", 64, 0.0042),
    ],
)
def test_floors_of_corrected_parsers_are_no_higher(
    parser: str, size: int, published: float
) -> None:
    """At most a fifth above: a mean of 40 clips that is all rounding scatters by as much."""
    found = scores.floor("uniform", "id", size, PARSERS[parser], range(40))
    assert 0.0 < found.clip < 1.2 * published


@pytest.mark.parametrize(
    ("parser", "size", "published"),
    [("corrected, hard", 64, 0.0055), ("corrected", 64, 0.0042), ("corrected", 128, 0.0014)],
)
def test_with_the_error_across_the_motion_corrected_floors_are_the_published_ones(
    parser: str, size: int, published: float
) -> None:
    """Within 20 %: an even ball has no velocity across its way, and the suite counts none there."""
    found = []
    for seed in range(40):
        truth = phyworld.sample("uniform", seed)
        read = scores.places(phyworld.render(truth, size, "paper"), 0, PARSERS[parser])
        seen = np.flatnonzero(~np.isnan(read[:, 0]))
        gaps = (np.diff(seen) * phyworld.TIMESTEP)[:, None]
        off = np.diff(read[seen] - truth.positions[seen, 0], axis=0) / gaps
        found.append(float(np.hypot(*off.mean(0))))
    assert np.mean(found) == pytest.approx(published, rel=0.2)


@pytest.mark.proof
@pytest.mark.parametrize(
    ("task", "published"), [("uniform", 0.0099), ("collision", 0.0117), ("parabola", 0.0210)]
)
def test_the_papers_floors_at_its_own_size(task: str, published: float) -> None:
    """The paper's errors of true clips at 256 pixels, within 20 %."""
    found = scores.floor(task, "id", 256, PARSERS["paper"], range(60))
    print(f"{task}: {found.clip:.5f} (published {published})")
    assert found.clip == pytest.approx(published, rel=0.2)


def test_a_wrong_speed_is_its_error() -> None:
    """A clip that is 0.3 units a second too fast has that error, to its floor at 128 pixels."""
    truth = phyworld.sample("uniform", 4)
    t = phyworld.TIMESTEP * np.arange(phyworld.NUM_FRAMES)
    faster = truth.positions + 0.3 * t[:, None, None] * (1.0, 0.0)
    frames = phyworld.render(replace(truth, positions=faster), 128, "paper")
    found = scores.velocity_error(frames, truth, PARSERS["corrected"])
    assert found is not None and found.clip == pytest.approx(0.3, abs=0.01)


def test_a_collision_that_does_not_take_place_is_seen_after_it_alone() -> None:
    truth = phyworld.sample("collision", 2)
    start, before = truth.positions[0], truth.velocities[0]
    t = phyworld.TIMESTEP * np.arange(phyworld.NUM_FRAMES)
    through = start + t[:, None, None] * before
    frames = phyworld.render(replace(truth, positions=through), 128, "paper")
    found = scores.velocity_error(frames, truth, PARSERS["corrected"])
    right = scores.velocity_error(phyworld.render(truth, 128, "paper"), truth, PARSERS["corrected"])
    assert found is not None and right is not None
    assert found.clip > 0.3 > 10 * right.clip


def test_a_folder_is_scored_beside_its_floor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """H.264 adds less than half as much again; a clip without a ball is lost, not dropped."""
    made = tmp_path / "made"
    assert main(["phyworld", "--write", str(made), "--clips", "2", "--size", "128"]) == 0
    assert "12 clips" in capsys.readouterr().out
    assert {path.name for path in made.iterdir()} == {
        f"{task}-{split}-{seed}.mp4"
        for task in phyworld.TASKS for split in phyworld.SPLITS for seed in (0, 1)
    }  # fmt: skip
    for seed in (0, 1):
        (made / f"uniform-id-{seed}.mp4").rename(tmp_path / f"uniform-id-{seed}.mp4")
    blank = np.full((phyworld.NUM_FRAMES, 128, 128, 3), 255, np.uint8)
    write_mp4(tmp_path / "uniform-id-3.mp4", blank, 10)
    assert main(["phyworld", "--videos", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    paper = next(line for line in lines if "parser paper" in line)
    assert "clips 3" in paper and "lost 1" in paper
    fields = dict(part.rsplit(" ", 1) for part in paper.split("  "))
    assert 0 <= abs(float(fields["excess"])) < 0.5 * float(fields["floor"])
    assert main(["phyworld", "--videos", str(tmp_path / "none")]) == 2
    assert "has no clip named like" in capsys.readouterr().err
