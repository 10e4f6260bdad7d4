"""Configurations: bases, overrides, and errors that name the key and what is allowed."""

from pathlib import Path

import pytest

from training.config import (
    AutoencoderConfig,
    ConfigError,
    TrainConfig,
    load_config,
    parse_arguments,
)

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("name", ["toy", "debug", "wide"])
def test_the_shipped_training_configs_load(name: str) -> None:
    config = load_config(TrainConfig, CONFIGS / f"{name}.yaml", [])
    assert config.run == Path("runs") / name


def test_the_shipped_autoencoder_config_loads() -> None:
    load_config(AutoencoderConfig, CONFIGS / "autoencoder.yaml", [])


def test_a_config_wins_over_its_base_key_by_key_and_an_override_over_both() -> None:
    config = load_config(TrainConfig, CONFIGS / "debug.yaml", ["optim.lr=0.5", "network.heads=3"])
    assert config.optim.lr == 0.5 and config.network.heads == 3
    assert config.optim.warmup_steps == 5, "from debug.yaml"
    assert config.optim.muon_lr == 0.01, "from toy.yaml"


def test_settings_may_stand_before_and_after_a_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    file = str(CONFIGS / "debug.yaml")
    line = ["train.py", "steps=7", "--config", file, "run=runs/x", "--dry-run", "optim.lr=0.5"]
    monkeypatch.setattr("sys.argv", line)
    config = parse_arguments(TrainConfig, "")
    assert (config.steps, config.run, config.optim.lr) == (7, Path("runs/x"), 0.5)
    assert config.dry_run


def test_a_bare_no_is_a_precision() -> None:
    """YAML reads it as false, in a file and in an override."""
    assert load_config(TrainConfig, CONFIGS / "toy.yaml", ["precision=no"]).precision == "no"


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("optim.lrr=1", r"optim\.lrr: no such key; did you mean 'lr'\?"),
        ("stepz=3", r"stepz: no such key; did you mean 'steps'\?"),
        ("steps=many", r"steps: .*integer.*'many'"),
        ("steps=0", r"steps: .*greater than 0.*got 0"),
        ("precision=fp4", r"precision: .*'no', 'bf16' or 'fp8'.*'fp4'"),
        ("batch.image_share=1.5", r"batch\.image_share: .*less than or equal to 1.*1\.5"),
        ("steps.more=1", r"steps\.more: steps is a value, not a section"),
        ("data.mix.fly=1", r"data\.mix\.fly.*the world has bite, walk, drop, beside"),
        (
            "data.slots.bite.times=thrice",
            r"data\.slots.*bite\.times is 'thrice'; .* once, twice",
        ),
        ("data.slots.bite.legs=two", r"data\.slots.*bite has no slot 'legs', but colour, times"),
        ("steps=[1", r"override steps is not YAML"),
        ("steps", r"'steps' is not of the form key\.sub=value"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_what_is_allowed(override: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_config(TrainConfig, CONFIGS / "debug.yaml", [override])


def test_a_base_that_is_missing_or_has_a_base_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("base: nowhere.yaml")
    (tmp_path / "two.yaml").write_text("base: one.yaml")
    with pytest.raises(ConfigError, match=r"nowhere\.yaml does not exist"):
        load_config(TrainConfig, tmp_path / "one.yaml", [])
    with pytest.raises(ConfigError, match=r"base one\.yaml has a base of its own"):
        load_config(TrainConfig, tmp_path / "two.yaml", [])


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml does not exist"):
        load_config(TrainConfig, Path("nowhere.yaml"), [])
