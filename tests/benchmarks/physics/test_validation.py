"""The validation counts right, refuses tuned seeds, and lets no bad detector through."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks.physics import detectors
from benchmarks.physics.__main__ import main
from benchmarks.physics.detectors import MOST, SEMANTIC, excess
from benchmarks.physics.detectors.families import LAWS, THINGS
from benchmarks.physics.detectors.thresholds import bounds
from benchmarks.physics.validation import gates, nuisances, validate
from benchmarks.physics.validation.statistics import (
    UNMEASURABLE,
    area_under_curve,
    corruption_rows,
    decoded_rows,
    detector_rows,
    smallest_caught,
)
from benchmarks.physics.validation.trials import (
    CLEAN,
    CORRUPT,
    DECODED,
    QUICK,
    Outcome,
    Treatment,
    still_true,
    treatments,
    trial,
)
from model.video import read_video, write_mp4
from world import captions, corruptions
from world.__main__ import main as world_command
from world.corruptions import CORRUPTIONS, NAMES
from world.families import FAMILIES
from world.render import render
from world.scene import sample

HERE = Path(validate.__file__).parent


def outcome(treatment: Treatment, seed: int = 0, **errors: float) -> Outcome:
    return Outcome(treatment, seed, True, not any(e > 1 for e in errors.values()), errors, {})


def test_every_family_of_the_world_is_read_and_judged() -> None:
    assert set(FAMILIES) == set(THINGS) == set(LAWS)


def test_every_corruption_names_what_it_breaks_and_no_other_is_named() -> None:
    listed = validate.breaks()
    assert set(listed) == set(CORRUPTIONS)
    known = {name.split(".")[0] for name in bounds()["default"]} | SEMANTIC
    for name, law in listed.items():
        for family in CORRUPTIONS[name].families:
            target = law.target(family)
            assert target and target <= known | {UNMEASURABLE}, (name, family)
        assert set(law.targets) <= {*CORRUPTIONS[name].families, "else"}, name
        assert law.entailed <= known, name


def test_severities_are_values_that_the_corruptions_take() -> None:
    listed = yaml.safe_load((HERE / "severities.yaml").read_text())
    for name, values in listed.items():
        kind = CORRUPTIONS[name]
        assert all(kind.lowest <= value <= kind.highest for value in values), name
    graded = {name for name, kind in CORRUPTIONS.items() if kind.lowest < kind.highest}
    assert graded - set(listed) <= {"bite_absent"}


@pytest.mark.parametrize(("first", "clips"), [(0, 1), (99_999, 40), (50_000, 200)])
def test_seeds_that_calibration_used_are_refused(first: int, clips: int) -> None:
    with pytest.raises(ValueError, match="were used to tune the bounds"):
        validate.first_seed(first, clips)
    assert main(["validate", "--out", "/nowhere", "--first-seed", str(first)]) == 2


def test_fresh_seeds_are_taken() -> None:
    assert validate.first_seed(None, 200) == 500_000
    assert validate.first_seed(100_000, 200) == 100_000


def test_area_under_the_curve_by_hand() -> None:
    assert area_under_curve([0.0, 0.5], [1.0, 2.0]) == 1.0
    assert area_under_curve([0.0, 1.0], [1.0, 0.0]) == 0.5
    assert area_under_curve([0.1, 0.4, 0.35], [0.8, 0.3]) == pytest.approx(4 / 6)


def test_an_unmeasurable_clip_is_missed_and_what_fires_off_target_is_counted() -> None:
    clean = Treatment("roll", CLEAN)
    gone = Treatment("roll", CORRUPT, "vanish", 4)
    groups = {
        clean: [outcome(clean, s, O1=0.1, C2=0.0) for s in range(4)],
        gone: [
            outcome(gone, 0, O1=3.0, C2=0.0),
            outcome(gone, 1, O1=2.0, C2=1.5),
            outcome(gone, 2, O1=0.4, C2=0.0),
            Outcome(gone, 3, False, False, {}, {}),
        ],
    }
    (row,) = corruption_rows(groups, validate.breaks())
    assert (row["clips"], row["caught"], row["off_target"]) == (4, 2, {"C2": 1})
    assert row["auroc"] == 0.75
    detector = {r["detector"]: r for r in detector_rows(groups, validate.breaks(), {"vanish": 4})}
    assert detector["O1"]["precision"] == 1.0
    assert detector["O1"]["recall_alone"] == 0.5
    assert detector["C2"]["recall_alone"] is None


def test_clips_that_the_autoencoder_smeared_are_counted_by_their_targets() -> None:
    gone = Treatment("roll", DECODED, "vanish", 4)
    found = [outcome(gone, 0, O1=3.0), outcome(gone, 1, C2=2.0), outcome(gone, 2, O1=0.5)]
    (row,) = decoded_rows({gone: found}, validate.breaks())
    assert (row["clips"], row["caught"], row["failed"]) == (3, 1, 2)


def test_what_leaves_nothing_to_judge_is_caught_as_that_and_nothing_else() -> None:
    """`frozen` has that target for bite, and for no other family."""
    groups = {}
    for family in ("bite", "roll"):
        clean, still = Treatment(family, CLEAN), Treatment(family, CORRUPT, "frozen", 17)
        groups[clean] = [outcome(clean, 0, O1=0.1)]
        groups[still] = [Outcome(still, 0, False, False, {}, {})]
    rows = corruption_rows(groups, validate.breaks())
    assert [(row["family"], row["caught"]) for row in rows] == [("bite", 1), ("roll", 0)]


def test_the_smallest_value_caught_is_that_of_the_curve() -> None:
    rows = [
        {"family": "roll", "corruption": "resize", "value": v, "caught": c, "clips": 40}
        for v, c in ((5, 4), (15, 38), (25, 40))
    ]
    assert smallest_caught(rows) == {"roll/resize": 15}


def test_gates_fall_where_a_rate_misses_its_bound() -> None:
    assert gates.least("x", 198, 200, 0.99, quick=False).passed
    assert not gates.least("x", 197, 200, 0.99, quick=False).passed
    assert gates.most("x", 4, 200, 0.02, quick=False).passed
    assert not gates.most("x", 5, 200, 0.02, quick=False).passed


def test_a_quick_gate_falls_only_where_the_bound_is_out_of_reach() -> None:
    """Wilson at 95 %: 38 of 40 reach 0.986, 39 of 40 reach 0.996."""
    assert gates.least("x", 39, 40, 0.99, quick=True).passed
    assert not gates.least("x", 38, 40, 0.99, quick=True).passed
    assert gates.most("x", 1, 10, 0.02, quick=True).passed
    assert not gates.most("x", 3, 10, 0.02, quick=True).passed


def test_one_gate_down_is_exit_one_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clean, gone = Treatment("roll", CLEAN), Treatment("roll", CORRUPT, "vanish", 4)
    found = [outcome(clean, s, O1=0.1) for s in range(40)]
    found += [outcome(gone, s, O1=0.2) for s in range(10)]  # a detector that sees nothing
    monkeypatch.setattr(validate, "run", lambda *_: iter(found))
    assert main(["validate", "--out", str(tmp_path), "--quick"]) == 1
    assert "recall: roll/vanish" in capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    fallen = {gate["name"] for gate in report["gates"] if not gate["passed"]}
    assert fallen == {"recall: roll/vanish"}
    assert "recall: roll/vanish" in (tmp_path / "README.md").read_text()


def test_the_plan_has_every_corruption_at_its_nominal_value() -> None:
    planned = {(t.family, t.name, t.value) for t, _ in treatments(QUICK, {}) if t.kind == CORRUPT}
    nominal = {(f, n, CORRUPTIONS[n].nominal) for f in FAMILIES for n in NAMES[f]}
    assert planned == nominal


def test_a_corruption_that_leaves_the_caption_true_is_no_trial() -> None:
    scenes = [sample("two_balls", seed) for seed in range(20)]
    same = [s.slots["direction"] == s.slots["other_direction"] for s in scenes]
    assert any(same) and not all(same)
    assert [still_true(scene, "colours_swapped") for scene in scenes] == same
    swap = Treatment("two_balls", CORRUPT, "colours_swapped", 1.0)
    assert trial(swap, same.index(True)) is None


def test_nuisances_keep_the_picture() -> None:
    """25 dB: what the strongest of them, 4 % noise, leaves (20 log10 25 = 28) less a margin."""
    rng = np.random.default_rng(0)
    frames = render(sample("drop", 11))
    for name, nuisance in nuisances.NUISANCES.items():
        changed, fps = nuisance(frames, rng)
        if changed.shape != frames.shape or "jitter" in name:
            continue
        error = np.mean((changed.astype(float) - frames) ** 2)
        assert 10 * math.log10(255**2 / error) > 25, name
        assert fps == 8.0


def test_excess_is_one_at_the_bound() -> None:
    assert excess(0.2, 0.2) == 1.0
    assert excess(0.0, 0.0) == 1.0
    assert excess(-2.9, -3.0) == pytest.approx(1.1)
    assert excess(float("nan"), 0.2) == excess(float("inf"), 0.0) == MOST


@pytest.mark.parametrize(("family", "seed"), [("walk", 50005), ("pour", 50001), ("melt", 50001)])
def test_a_right_clip_that_the_world_wrote_passes(family: str, seed: int, tmp_path: Path) -> None:
    """Of thin things, which 4:2:0 at the size of the drawing leaves no colour of their own."""
    clip = str(tmp_path / "clip.mp4")
    assert world_command(["render", "--family", family, "--seed", str(seed), "-o", clip]) == 0
    frames, fps = read_video(clip)
    assert frames.shape == (17, 256, 256, 3)
    expect = captions.parse(sample(family, seed).caption)
    found = detectors.judge(detectors.read(frames, family, expect or {}, fps))
    assert found.passed, found.errors


def test_inspect_prints_a_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = next(
        s for s in map(lambda k: sample("walk", k), range(50)) if s.slots["legs"] == "four"
    )
    write_mp4(tmp_path / "cat.mp4", render(scene, 128), 8)
    expect = json.dumps({"legs": 4, "direction": scene.slots["direction"]})
    command = ["inspect", str(tmp_path / "cat.mp4"), "--family", "walk", "--json", "--expect"]
    assert main([*command, expect]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["measurable"] and printed["semantic"] and printed["physics"]
    assert {"errors", "evidence_frames"} <= set(printed)
    assert main([*command, json.dumps({"legs": 2})]) == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed["errors"]["L1"] > 1.0 and printed["evidence_frames"]


def test_inspect_sees_a_bite_that_heals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = corruptions.corrupt(sample("bite", 11), "bite_heals")
    write_mp4(tmp_path / "bite.mp4", render(scene, 128), 8)
    assert main(["inspect", str(tmp_path / "bite.mp4"), "--family", "bite"]) == 1
    assert "physics no" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("expect", "message"),
    [("{", "must be JSON"), ("[]", "must be an object"), ('{"legs": 9}', "legs is '9'")],
)
def test_inspect_refuses_what_it_cannot_ask(
    expect: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_mp4(tmp_path / "cat.mp4", render(sample("walk", 11)), 8)
    clip = str(tmp_path / "cat.mp4")
    assert main(["inspect", clip, "--family", "walk", "--expect", expect]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.proof
def test_the_detectors_are_fit_to_judge(tmp_path: Path) -> None:
    """A quick validation on fresh seeds: no gate is out of reach (Wilson, 95 %)."""
    assert main(["validate", "--out", str(tmp_path), "--quick"]) == 0
