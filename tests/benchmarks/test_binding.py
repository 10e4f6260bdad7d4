"""The instrument tells a network that reads the order of words from one that cannot."""

from pathlib import Path

import pytest
import torch

from benchmarks import binding
from model.pipeline import VideoPipeline

ROOT = Path(__file__).parents[2]
CLIPS = 12


@pytest.fixture
def at_noise(monkeypatch: pytest.MonkeyPatch) -> VideoPipeline:
    """The embedded model, asked at t = 1 alone."""
    monkeypatch.setattr(binding, "TIMES", (1.0,))
    return VideoPipeline.from_pretrained(ROOT / "model/pretrained")


def test_the_embedded_model_reads_which_word_goes_with_which(at_noise: VideoPipeline) -> None:
    """At least 10 of 12 clips each; by chance that is 2 % of the time."""
    (row,) = binding.rows(at_noise, CLIPS)
    assert row["side_seen"] >= 10 / CLIPS and row["colours_seen"] >= 10 / CLIPS


def test_without_positions_exchanged_colours_are_the_same_caption(at_noise: VideoPipeline) -> None:
    """An encoder whose attention knows no distances gives each word the same row wherever it is."""
    with torch.no_grad():
        for block in at_noise.components.text_encoder.encoder.block:
            block.layer[0].SelfAttention.relative_attention_bias.weight.zero_()
    (row,) = binding.rows(at_noise, CLIPS)
    assert row["colours_loss"] == pytest.approx(row["true_loss"], rel=1e-5)
