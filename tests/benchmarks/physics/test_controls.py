"""Control rows are what they are called, or a score beside them means nothing."""

from pathlib import Path

import numpy as np
import pytest

import world
from benchmarks.physics import controls, detectors
from benchmarks.physics.cases import Case, case_scene, world_cases
from model.video import read_video, write_mp4
from world import captions


@pytest.fixture(scope="module", autouse=True)
def few_training_scenes() -> None:
    """Fifty scenes of each family are enough to look for a caption in."""
    controls._training.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(controls, "TRAINING_SEEDS", 50)
        controls._training()


def test_words_are_counted_that_must_change() -> None:
    a = ["a", "red", "ball", "rolls", "left"]
    assert controls.edit_distance(a, a) == 0
    assert controls.edit_distance(a, ["a", "blue", "ball", "rolls", "right"]) == 2
    assert controls.edit_distance(a, ["a", "red", "ball", "rolls"]) == 1
    assert controls.edit_distance([], a) == 5


def test_the_nearest_training_clip_has_the_caption_if_training_has() -> None:
    """Of equal captions the first seed's clip; of a held-out one, a caption of the family."""
    trained = world.sample("drop", 7)
    seeds = [s for s in range(50) if world.sample("drop", s).caption == trained.caption]
    nearest = controls.nearest_training_clip(trained)
    assert (nearest == world.render(world.sample("drop", seeds[0]))).all()
    held_out = next(c for c in world_cases(2) if c.case_id == "drop-01")
    scene = controls.scene_of(held_out)
    assert scene and scene.caption not in [caption for caption, _ in controls._training()]
    found = controls.nearest_training_clip(scene)
    assert found.shape == (17, 64, 64, 3) and (found != world.render(scene)).any()


def test_constant_velocity_keeps_what_was_given_and_rolls_on() -> None:
    """A ball that rolls by v a frame is where rolling on takes it, to 1.5 pixels."""
    scene = next(
        s for s in (world.sample("roll", n) for n in range(40)) if s.slots["speed"] == "slow"
    )
    truth, moved = world.render(scene), controls.constant_velocity(scene)
    assert (moved[:3] == truth[:3]).all()
    colour = truth[2].reshape(-1, 3)[np.abs(truth[2].astype(int) - truth[0]).sum(-1).argmax()]

    def middle(frame: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> float:
        near = np.abs(frame.astype(int) - colour).sum(-1) < 60
        return float(np.nonzero(near)[1].mean())

    assert middle(moved[6]) == pytest.approx(middle(truth[6]), abs=1.5)
    assert abs(middle(moved[6]) - middle(moved[2])) > 1.5


@pytest.mark.parametrize(("family", "index"), [("bite", 1), ("hit", 1), ("hit", 3)])
def test_the_truth_passes_once_it_is_a_file(family: str, index: int, tmp_path: Path) -> None:
    """Cases that fell on the board: white actors before the pale wall of a room."""
    scene = case_scene(family, index)
    write_mp4(tmp_path / "truth.mp4", controls.ground_truth(scene), world.FPS, controls.ENLARGE)
    expect = captions.parse(scene.caption)
    assert expect and (expect["colour"], expect["background"]) == ("white", "room")
    frames, fps = read_video(tmp_path / "truth.mp4")
    found = detectors.judge(detectors.read(frames, family, expect, fps))
    assert found.passed, found.errors


def test_a_frozen_frame_is_frozen_and_a_random_clip_hangs_on_nothing_but_the_prompt() -> None:
    scene = world.sample("swing", 3)
    frozen = controls.frozen_frame(scene)
    assert (frozen == frozen[0]).all() and (frozen[0] == world.render(scene)[0]).all()
    assert (controls.random_clip(scene) == controls.random_clip(world.sample("swing", 3))).all()
    families = {
        tuple(controls.random_clip(world.sample("drop", n)).mean((0, 1, 2)).round(3))
        for n in range(6)
    }
    assert len(families) > 3


def test_a_case_has_the_scene_of_its_prompt_or_none() -> None:
    for case in world_cases(2)[::5]:
        scene = controls.scene_of(case)
        assert scene and scene.caption == case.prompt
        assert captions.parse(scene.caption)
    assert controls.scene_of(Case("drop-00", "drop", "another prompt")) is None
    assert controls.scene_of(Case("B01", "bite", "a woman bites")) is None
