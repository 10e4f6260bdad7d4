"""Scenes: one seed decides everything, held-out combinations stay out, captions tell the truth."""

import hashlib
import subprocess
import sys
from itertools import product

import numpy as np
import pytest

from world import FAMILIES, HELD_OUT, captions, render, sample
from world.palette import BACKGROUNDS, COLOURS
from world.scene import combination

FAMILY = pytest.mark.parametrize("family", FAMILIES)


def digest(family: str, seed: int) -> str:
    """A fingerprint of a scene's caption and pixels."""
    scene = sample(family, seed)
    return hashlib.sha256(scene.caption.encode() + render(scene, 32).tobytes()).hexdigest()


@FAMILY
def test_a_seed_gives_the_same_clip_in_another_process(family):
    script = (
        "import hashlib; from world import render, sample;"
        f"s = sample({family!r}, 11);"
        "print(hashlib.sha256(s.caption.encode() + render(s, 32).tobytes()).hexdigest())"
    )
    other = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert digest(family, 11) == digest(family, 11) == other


@FAMILY
def test_a_thousand_seeds_give_a_thousand_clips(family):
    """Seeds are distinct in state; a frame of 16 pixels a side already tells them apart."""
    seen = {render(sample(family, seed), 16).tobytes() for seed in range(1000)}
    assert len(seen) == 1000


@FAMILY
def test_held_out_combinations_never_reach_training(family):
    """2,000 seeds meet every allowed combination and no held-out one, and the reverse."""
    train, kept = set(), set()
    for seed in range(2000):
        train.add(combination(family, sample(family, seed).slots))
        kept.add(combination(family, sample(family, seed, held_out=True).slots))
    directions = [()] if family == "drop" else [("left",), ("right",)]
    everything = {
        (colour, *direction, background)
        for colour, direction, background in product(COLOURS, directions, BACKGROUNDS)
    }
    assert kept == HELD_OUT[family]
    assert train == everything - HELD_OUT[family]
    assert len(HELD_OUT[family]) == len(everything) // 8


@FAMILY
def test_held_out_table_has_one_colour_for_each_direction_and_background(family):
    table = HELD_OUT[family]
    cells = [combo[1:] for combo in table]
    assert len(set(cells)) == len(cells)
    assert {combo[-1] for combo in table} == set(BACKGROUNDS)
    assert len({combo[0] for combo in table}) == len(table)
    if len(table) == len(COLOURS):
        assert {combo[0] for combo in table} == set(COLOURS)
    others = [HELD_OUT[name] for name in FAMILIES if name != family]
    assert all(not table & other for other in others)


@FAMILY
def test_a_caption_parses_back_to_its_slots(family):
    named = 0
    for seed in range(300):
        for held_out in (False, True):
            scene = sample(family, seed, held_out)
            expected = {"family": family, **scene.slots}
            if not scene.caption.endswith(" background"):
                assert not held_out
                del expected["background"]
            assert captions.parse(scene.caption) == expected
        named += sample(family, seed).caption.endswith(" background")
    # A fair coin leaves this range once in 10^7 (binomial, 300 throws, 5.3 sigma).
    assert 104 < named < 196


def test_captions_follow_the_templates_word_for_word():
    slots = {"colour": "red", "other_colour": "blue", "direction": "left", "background": "night"}
    assert [captions.caption(family, slots, family == "walk") for family in FAMILIES] == [
        "a red monster bites a cookie once from the left",
        "a red cat with four legs walks left on a night background",
        "a red ball is dropped and bounces",
        "a red square is to the left of a blue circle",
    ]


def test_parse_forgives_form_and_refuses_what_the_world_does_not_know():
    assert captions.parse("An orange  ball is dropped and bounces.") == {
        "family": "drop",
        "colour": "orange",
    }
    for text in (
        "",
        "a pink ball is dropped and bounces",
        "a red ball is dropped and bounces on a lava background",
        "a red ball is dropped and bounces twice",
        "a red square is to the left of a red circle",
    ):
        assert captions.parse(text) is None


def test_examples_are_sentences_of_the_grammar_that_training_has_seen():
    words = set(captions.words())
    for text in captions.examples():
        slots = captions.parse(text)
        assert slots is not None
        assert set(text.split()) <= words
        family = slots.pop("family")
        assert combination(family, slots) not in HELD_OUT[family]
    assert {captions.parse(text)["family"] for text in captions.examples()} == set(FAMILIES)
    assert len(captions.grammar()) == len(FAMILIES)


def test_what_cannot_be_sampled_is_refused_by_name():
    with pytest.raises(ValueError, match="'fly'.*bite, walk"):
        sample("fly", 0)
    with pytest.raises(ValueError, match="seed is -1"):
        sample("bite", -1)
    with pytest.raises(ValueError, match="size is 4"):
        render(sample("bite", 0), 4)


@FAMILY
def test_colour_size_and_place_are_independent(family):
    """Correlation over 600 seeds stays below 0.2: chance alone gives |r| > 0.2 in one of 10^6."""
    place = {"bite": "cookie", "walk": "body", "drop": "ball", "beside": "square"}[family]
    size = {"bite": "radius", "walk": "unit", "drop": "radius", "beside": "half_side"}[family]
    rows = []
    for seed in range(600):
        scene = sample(family, seed)
        x = float(np.mean(scene.state[place][..., 0]))
        side = -1.0 if scene.slots.get("direction") == "left" else 1.0
        rows.append(
            (
                list(COLOURS).index(scene.slots["colour"]),
                list(BACKGROUNDS).index(scene.slots["background"]),
                float(scene.state[size]),
                x * side if family == "beside" else x,
            )
        )
    correlation = np.corrcoef(np.array(rows).T) - np.eye(4)
    assert np.abs(correlation).max() < 0.2
