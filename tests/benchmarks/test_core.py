"""It tells a ratio that is known, sees answers that differ, and measures every kind of row."""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from benchmarks import core
from benchmarks.checkpoint import write_tiny

COLUMNS = {"case", "dtype", "ours_s", "theirs_s", "ratio", "ratio_low", "ratio_high"}
COLUMNS |= {"max_abs_diff", "bar"}
SHAPE = {
    "heads": 2, "head_dim": 12, "layers": 2, "ffn_dim": 40, "text_dim": 16, "channels": 5,
    "size": [3, 6, 4], "text": 9, "words": 4,
}  # fmt: skip


class Clock:
    """Time that passes only where it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def side(clock: Clock, seconds: list[float], answer: float) -> Iterator[np.ndarray]:
    for spent in seconds:
        clock.now += spent
        yield np.array([answer])


def test_a_known_ratio_is_found_with_an_interval_that_holds_it() -> None:
    """Turns of 1 ± 0.1 s against twice as long ones, 200 of them; the answers are 0.25 apart."""
    clock, draw = Clock(), np.random.default_rng(0)
    ours, theirs = draw.normal(1, 0.1, 200).tolist(), draw.normal(2, 0.2, 200).tolist()
    race = core.Race(lambda: side(clock, ours, 1.0), lambda: side(clock, theirs, 1.25))
    row = core.run(race, 1, clock)
    assert row["ours_s"] == pytest.approx(sum(ours), abs=1e-4)
    assert row["theirs_s"] == pytest.approx(sum(theirs), abs=1e-4)
    assert row["ratio_low"] < row["ratio"] < row["ratio_high"]
    assert row["ratio_low"] < 2 < row["ratio_high"] and row["ratio_high"] - row["ratio_low"] < 0.1
    assert row["max_abs_diff"] == 0.25


def test_who_begins_changes_from_turn_to_turn() -> None:
    begun: list[str] = []

    def turns(name: str) -> Iterator[float]:
        for _ in range(4):
            begun.append(name)
            yield 0.0

    ticks = count()
    race = core.Race(lambda: turns("ours"), lambda: turns("theirs"))
    core.run(race, 1, lambda: float(next(ticks)))
    assert begun[4:] == ["theirs", "ours", "ours", "theirs"] * 2  # after two turns each to warm up


@pytest.mark.parametrize("per_token", [False, True])
@torch.no_grad()
def test_both_networks_answer_alike_and_other_weights_are_seen(per_token: bool) -> None:
    """A pass and a loop of three steps; fp32 rounding, grown by a guidance of 5."""
    load = core.Workload.of(SHAPE, {"dtype": "float32", "per_token": per_token})
    for race, bound in ((load.forward(2), 1e-5), (load.loop(3), 1e-4)):
        assert core.run(race, 1)["max_abs_diff"] <= bound
    torch.manual_seed(1)
    other = type(load.theirs).from_config(load.theirs.config).eval()
    assert core.run(replace(load, theirs=other).loop(3), 1)["max_abs_diff"] > 0.01


def test_every_kind_of_row_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a prompt to an MP4, frames are at most two shades of 255 apart."""
    write_tiny(tmp_path / "tiny")
    cases = {
        "shapes": {"small": SHAPE},
        "autoencoders": {
            "own": {
                "kind": "VideoAutoencoder",
                "arguments": {"hidden_channels": 8, "num_blocks": 1},
                "latents": [1, 16, 2, 3, 4],
            }
        },
        "forward": [{"shape": "small", "dtype": "bfloat16", "repeats": 2}],
        "loop": [{"shape": "small", "dtype": "float32", "steps": 2, "repeats": 1, "bar": 100.0}],
        "decode": [{"autoencoder": "own", "repeats": 2}],
        "pipeline": [{"checkpoint": str(tmp_path / "tiny"), "text": None, "repeats": 2}],
    }
    (tmp_path / "cases.yaml").write_text(yaml.safe_dump(cases))
    arguments = ["core", "--cases", str(tmp_path / "cases.yaml"), "-o", str(tmp_path / "out.json")]
    monkeypatch.setattr("sys.argv", arguments)
    core.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[-1] for line in lines] == ["", "missed", "", ""]
    report = json.loads((tmp_path / "out.json").read_text())
    told = {"commit", "versions", "hardware", "memory_gb", "threads", "load"}
    assert told == set(report["environment"])
    names = ["forward small", "loop small", "decode own", "pipeline, equal text rows"]
    assert [row["case"] for row in report["rows"]] == names
    assert all(set(row) == COLUMNS and row["ratio"] > 0 for row in report["rows"])
    apart = [row["max_abs_diff"] for row in report["rows"]]
    assert apart[1] <= 1e-4 and apart[2] == 0 and apart[3] <= 2


def test_the_cases_that_are_measured_are_whole() -> None:
    cases = yaml.safe_load(core.CASES.read_text())
    told = [(c["shape"], c["dtype"], c.get("per_token", False)) for c in cases["forward"]]
    assert {shape for shape, _, _ in told} == {"tiny", "1600", "6000"}
    assert {dtype for _, dtype, _ in told} == {"float32", "bfloat16"}
    assert {per_token for _, _, per_token in told} == {False, True}
    assert {c.get("bar") for c in cases["loop"] if c["shape"] == "1600"} == {1.10, 1.15, 1.30}
