"""`python -m world render`: a clip and its state on disk are those of the scene asked for."""

import json

import imageio.v3 as iio
import numpy as np
import pytest

from world import corrupt, render, sample
from world.__main__ import main


def test_a_clip_and_its_state_come_back(tmp_path, capsys):
    """H.264 at 8 frames a second; within 6 of 255 on average of what was drawn (measured: 2)."""
    clip, described = tmp_path / "new" / "clip.mp4", tmp_path / "state.json"
    arguments = ["render", "--family", "drop", "--seed", "3", "--corrupt", "teleport=6"]
    arguments += ["--style", "outline", "-o", str(clip), "--state", str(described)]
    arguments += ["--scale", "1"]
    assert main(arguments) == 0
    assert "is dropped and bounces" in capsys.readouterr().out
    scene = corrupt(sample("drop", 3), "teleport", 6)
    frames = iio.imread(clip, plugin="pyav")
    assert iio.immeta(clip, plugin="pyav")["fps"] == 8
    assert frames.shape == (17, 64, 64, 3)
    assert np.abs(frames.astype(int) - render(scene, 64, "outline")).mean() < 6
    state = json.loads(described.read_text())
    assert (state["caption"], state["slots"], state["seed"]) == (scene.caption, scene.slots, 3)
    assert (state["corrupted"], state["style"]) == ("teleport=6", "outline")
    assert state["state"].keys() == scene.state.keys()
    for name, value in scene.state.items():
        assert np.array_equal(state["state"][name], value)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        "clip.mp4",
        "state.json",
    ]


def test_what_is_only_there_for_some_frames_is_in_the_state(tmp_path):
    clip, described = tmp_path / "clip.mp4", tmp_path / "state.json"
    asked = ["render", "--family", "roll", "--seed", "1", "-o", str(clip), "--state"]
    assert main([*asked, str(described), "--corrupt", "vanish"]) == 0
    (change,) = json.loads(described.read_text())["changes"]
    ((first, end, state),) = corrupt(sample("roll", 1), "vanish").changes
    assert (change["first"], change["end"]) == (first, end)
    assert np.array_equal(change["state"]["ball"], state["ball"])
    assert main([*asked, str(described), "--corrupt", "duplicate"]) == 0
    (extra,) = json.loads(described.read_text())["extras"]
    assert np.array_equal(extra["ball"], corrupt(sample("roll", 1), "duplicate").extras[0]["ball"])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--corrupt", "fly"], "corruption is 'fly'; roll can have vanish, duplicate"),
        (["--corrupt", "vanish=99"], "value of 'vanish' is 99; allowed is 1 to 10 frames"),
        (["--corrupt", "vanish=few"], "--corrupt is 'vanish=few'; the value must be a number"),
        (["--corrupt", "resize=nan"], "value of 'resize' is nan"),
        (["--size", "33"], "--size is 33; H.264 needs an even number"),
        (["--size", "4"], "size is 4"),
        (["--scale", "0"], "--scale is 0; it must be 1 or more"),
        (["--seed", "-2"], "seed is -2"),
        (["--style", "comic"], "invalid choice: 'comic'"),
        (["--family", "fly"], "invalid choice: 'fly'"),
        (["-o", "clip.gif"], "--output is clip.gif; the name must end in .mp4"),
        (["-o", "/dev/null/clip.mp4"], "/dev/null"),
    ],
)
def test_what_cannot_be_rendered_is_said(arguments, complaint, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = ["render", "--family", "roll", "--seed", "0", "-o", "clip.mp4", *arguments]
    with pytest.raises(SystemExit) as stop:
        main(asked)
    assert stop.value.code == 2
    assert complaint in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
