"""The blind judging: what counts as right, and that the committed result is of these weights."""

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

import world
from benchmarks.reel import (
    BITE,
    CLIPS_PER_FAMILY,
    COLUMNS,
    KNOWN,
    Prompt,
    agreed,
    bite_stays,
    checkpoint_hash,
    judged,
    nearest_clips,
    prompts,
    shuffled,
    summarise,
    wrong_slots,
)
from model.autoencoder import VideoAutoencoder
from model.latents import encode_video
from training.data.cache import LatentDataset
from world import HELD_OUT
from world.scene import combination

ROOT = Path(__file__).parents[2]


def reading(prompt: Prompt, **seen: str) -> dict[str, str]:
    """What a judge writes who sees just what the prompt names, but for `seen`."""
    side = prompt.named.get("direction", "")
    bite = dict(zip(BITE, ("whole", side, "bitten"), strict=True))
    return dict.fromkeys(COLUMNS, "") | prompt.named | bite | seen


def test_half_of_the_prompts_are_combinations_that_training_never_sees() -> None:
    assert Counter(p.named["family"] for p in prompts()) == dict.fromkeys(KNOWN, CLIPS_PER_FAMILY)
    held_out = [p for p in prompts() if p.held_out]
    assert len(held_out) == len(prompts()) / 2
    for prompt in held_out:
        family = prompt.named["family"]
        assert combination(family, prompt.named) in HELD_OUT[family]


def test_blind_rows_are_all_prompts_in_another_order() -> None:
    assert sorted(shuffled("a")) == list(range(len(prompts())))
    assert shuffled("a") != shuffled("b"), "a judge of one version does not know the next one's"


@pytest.mark.parametrize("prompt", prompts(), ids=lambda p: p.text)
def test_a_row_is_right_only_if_everything_its_prompt_names_was_seen(prompt: Prompt) -> None:
    assert wrong_slots(prompt, reading(prompt)) == []
    for name in prompt.named:
        assert wrong_slots(prompt, reading(prompt, **{name: "something else"})) == [name]


def test_what_more_than_half_of_the_judges_saw_is_what_counts() -> None:
    prompt = next(p for p in prompts() if p.named["family"] == "walk")
    right, wrong = reading(prompt), reading(prompt, legs="unclear")
    other = reading(prompt, legs="three")
    assert agreed([right, wrong, right])["legs"] == "four"
    assert agreed([right, wrong, wrong])["legs"] == "unclear"
    assert agreed([right, wrong, other])["legs"] == "unclear", "three judges of three minds"
    assert agreed([right, other])["legs"] == "unclear", "half is not more than half"
    assert agreed([wrong | {"remark": "a smear"}])["remark"] == "a smear"


def test_a_bite_must_be_absent_then_on_the_asked_side_then_still_there() -> None:
    bites = [p for p in prompts() if p.named["family"] == "bite"]
    others = [p for p in prompts() if p.named["family"] != "bite"]
    assert all(bite_stays(p, reading(p)) is None for p in others)
    for prompt in bites:
        other = {"left": "right", "right": "left"}[prompt.named["direction"]]
        assert bite_stays(prompt, reading(prompt))
        assert not bite_stays(prompt, reading(prompt, cookie_first="bitten"))
        assert not bite_stays(prompt, reading(prompt, cookie_bitten_side=other))
        assert not bite_stays(prompt, reading(prompt, cookie_last="whole"))


def test_a_training_clip_is_nearest_to_itself_and_the_distance_is_what_it_says() -> None:
    """Latents moved by 0.05 everywhere lie 0.05 away, but for bf16 (8 bits of at most 1): 4e-3."""
    autoencoder = VideoAutoencoder(z_dim=4, hidden_channels=8, num_blocks=0,
                                   latents_mean=(0.0,) * 4, latents_std=(1.0,) * 4)  # fmt: skip
    frames = np.stack([world.render(world.sample("drop", seed)) for seed in range(5)])
    video = torch.from_numpy(frames).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    with torch.no_grad():
        latents = encode_video(autoencoder, video) + 0.05
    stored = latents.transpose(1, 2).bfloat16().view(torch.int16).numpy()
    sizes = np.array([stored.shape[1:]] * 5)
    flat = stored.reshape(-1)
    dataset = LatentDataset(flat, flat, np.arange(5) * stored[0].size, sizes, [""] * 5)
    for index, (found, distance) in enumerate(nearest_clips(autoencoder, dataset, frames)):
        assert found == index
        assert distance == pytest.approx(0.05, abs=4e-3)


@pytest.mark.parametrize(
    ("result", "model"), [("reel", "pretrained"), ("reel-wide", "pretrained-wide")]
)
def test_the_committed_summary_is_of_these_weights_and_follows_from_its_readings(
    result: str, model: str
) -> None:
    folder = ROOT / "docs" / "results" / result
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["checkpoint_sha256"] == checkpoint_hash(ROOT / "model" / model), "stale"
    readings, by_judge = judged(folder, shuffled(summary["checkpoint_sha256"]))
    assert summary["right_by_judge"] == by_judge["right_by_judge"]
    with (folder / "verdicts.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    verdicts: list[dict[str, object]] = []
    for prompt, row, seen in zip(prompts(), rows, readings, strict=True):
        assert row["prompt"] == prompt.text and row.items() >= seen.items()
        keeps = bite_stays(prompt, row)
        verdicts.append(
            {
                "right": not wrong_slots(prompt, row),
                "held_out": prompt.held_out,
                "bite_stays": "" if keeps is None else keeps,
            }
        )
    for name, value in summarise(verdicts).items():
        assert summary[name] == value, name
