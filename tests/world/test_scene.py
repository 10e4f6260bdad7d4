"""Scenes: one seed decides everything, held-out combinations stay out, captions tell the truth."""

import hashlib
import re
import subprocess
import sys
from functools import cache
from itertools import product

import numpy as np
import pytest

from world import FAMILIES, HELD_OUT, Scene, captions, render, sample
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


@cache
def thousand(family: str, held_out: bool = False) -> list[Scene]:
    """The scenes of a family's first thousand seeds."""
    return [sample(family, seed, held_out) for seed in range(1000)]


@FAMILY
def test_a_thousand_seeds_give_a_thousand_clips(family):
    """All differ in state; of 150, frames of 16 pixels a side already tell them apart.

    Distinct seeds draw from continuous ranges, so that no number bounds the clips but the seeds'.
    """
    states = {repr({k: v.tobytes() for k, v in s.state.items()}) for s in thousand(family)}
    assert len(states) == 1000
    assert len({render(scene, 16).tobytes() for scene in thousand(family)[:150]}) == 150


@FAMILY
def test_held_out_combinations_never_reach_training(family):
    """A thousand seeds meet every allowed combination and no held-out one, and the reverse.

    The rarest has 1 chance in 56: a thousand draws miss some one once in 10^6.
    """
    train = {combination(family, scene.slots) for scene in thousand(family)}
    kept = {combination(family, scene.slots) for scene in thousand(family, held_out=True)}
    names = ("colour", "word", "direction", "background")
    choices = [captions.CHOICES[name] for name in names if name in captions.slot_names(family)]
    assert kept == HELD_OUT[family]
    assert train == set(product(*choices)) - HELD_OUT[family]


def test_held_out_tables_leave_an_eighth_and_spread_it():
    """One name for each direction and background; each is seen in all families but two at most."""
    for family, table in HELD_OUT.items():
        cells = [combo[1:] if family != "pour" else combo for combo in table]
        assert len(set(cells)) == len(table)
        if family not in ("pour", "melt"):
            assert {combo[-1] for combo in table} == set(BACKGROUNDS)
            assert len({combo[0] for combo in table}) == len(table)
    kept = [combo for table in HELD_OUT.values() for combo in table]
    assert max(kept.count(combo) for combo in kept) == 2
    assert set(HELD_OUT) == set(captions.TEMPLATES) >= set(FAMILIES)


@FAMILY
def test_a_caption_parses_back_to_its_slots(family):
    for scene in (*thousand(family)[:300], *thousand(family, held_out=True)[:300]):
        expected = {"family": family, **scene.slots}
        if not scene.caption.endswith(" background"):
            del expected["background"]
        assert captions.parse(scene.caption) == expected
    named = sum(scene.caption.endswith(" background") for scene in thousand(family)[:300])
    # A fair coin leaves this range once in 10^7 (binomial, 300 throws, 5.3 sigma).
    assert 104 < named < 196
    assert all(scene.caption.endswith(" background") for scene in thousand(family, held_out=True))


@pytest.mark.parametrize("family", captions.TEMPLATES)
def test_every_sentence_of_the_grammar_parses_back(family):
    names = captions.slot_names(family)
    rng = np.random.default_rng(0)
    for ground in (False, True):
        for _ in range(100):
            slots = {name: str(rng.choice(captions.CHOICES[name])) for name in names}
            text = captions.caption(family, slots, ground)
            kept = slots if ground else {n: v for n, v in slots.items() if n != "background"}
            twins = slots.get("colour") == slots.get("other_colour", "")
            assert captions.parse(text) == (None if twins else {"family": family, **kept})


def test_captions_follow_the_templates_word_for_word():
    slots = {"colour": "red", "other_colour": "blue", "direction": "left", "background": "night"}
    slots |= {"times": "twice", "legs": "two", "speed": "slow", "number": "five", "word": "stop"}
    slots["other_direction"] = "right"
    assert [captions.caption(family, slots, family == "walk") for family in captions.TEMPLATES] == [
        "a red monster bites a cookie twice from the left",
        "a red cat with two legs walks left on a night background",
        "a red ball is dropped and bounces",
        "a red square is to the left of a blue circle",
        "a red ball rolls left at slow speed",
        "a red ball hits a resting blue ball",
        "a red ball goes behind a grey wall and comes out",
        "a red pendulum swings",
        "water is poured from the left cup into the other",
        "an ice cube melts",
        "first the red ball falls, then the blue square moves left",
        "five red balls stay on the floor",
        "a sign shows the word stop",
        "a lamp on the left casts the shadow of a red box",
        "a red cat walks left and a blue ball rolls right",
        "a red ball rolls left and a blue ball rolls right",
        "the camera pans left past a red tree",
    ]


def test_parse_forgives_form_and_refuses_what_the_world_does_not_know():
    assert captions.parse("An orange  ball is dropped and bounces.") == {
        "family": "drop",
        "colour": "orange",
    }
    assert captions.parse("A ice cube melts!") == {"family": "melt"}
    assert captions.parse("first the red ball falls then the blue square moves left") == {
        "family": "order",
        "colour": "red",
        "other_colour": "blue",
        "direction": "left",
    }
    for text in (
        "",
        "a pink ball is dropped and bounces",
        "a red ball is dropped and bounces on a lava background",
        "a red ball is dropped and bounces twice",
        "a red square is to the left of a red circle",
        "a red ball rolls left and a red ball rolls right",
        "six red balls stay on the floor",
    ):
        assert captions.parse(text) is None


def test_examples_are_sentences_of_the_grammar_that_training_has_seen():
    words = set(captions.words())
    for text in captions.examples():
        slots = captions.parse(text)
        assert slots is not None
        assert set(re.findall(r"\w+", text)) <= words | set(captions.SYNONYMS)
        family = slots.pop("family")
        assert combination(family, slots) not in HELD_OUT[family]
    shown = {captions.parse(text)["family"] for text in captions.examples()}
    assert shown == set(captions.TEMPLATES)
    assert len(captions.grammar()) == len(captions.TEMPLATES)
    assert not words & set(captions.SYNONYMS)


@FAMILY
def test_a_scene_can_be_asked_for_by_its_slots(family):
    """Any value of any slot is met, held out or not, and asking for all that was drawn is moot."""
    for name in captions.slot_names(family):
        for value in captions.CHOICES[name]:
            held_out = family == "melt" and value == "night"
            assert sample(family, 1, held_out, {name: value}).slots[name] == value
    scene = sample(family, 5)
    assert sample(family, 5, slots=scene.slots).slots == scene.slots


def test_values_that_were_fixed_once_still_give_the_same_scenes():
    """A model was trained on cats with four legs: asking for them draws what it was shown."""
    scene = sample("walk", 10**6 + 5, slots={"legs": "four"})
    assert scene.caption == "a blue cat with four legs walks right on a room background"
    other = sample("bite", 10**6, slots={"times": "once"})
    assert other.caption == "a black monster bites a cookie once from the right"


def test_what_cannot_be_sampled_is_refused_by_name():
    with pytest.raises(ValueError, match="'fly'.*bite, walk"):
        sample("fly", 0)
    with pytest.raises(ValueError, match="seed is -1"):
        sample("bite", -1)
    with pytest.raises(ValueError, match="slots has 'legs'; drop has colour, background"):
        sample("drop", 0, slots={"legs": "two"})
    with pytest.raises(ValueError, match="direction 'up'; allowed is left, right"):
        sample("bite", 0, slots={"direction": "up"})
    with pytest.raises(ValueError, match="no trained combination of drop"):
        sample("drop", 0, slots={"colour": "purple", "background": "meadow"})
    with pytest.raises(ValueError, match="size is 4"):
        render(sample("bite", 0), 4)


PLACE_AND_SIZE = {
    "bite": ("cookie", "radius"),
    "walk": ("body", "unit"),
    "drop": ("ball", "radius"),
    "beside": ("square", "half_side"),
    "roll": ("ball", "radius"),
    "hit": ("target", "radii"),
    "hide": ("wall", "radius"),
    "swing": ("pivot", "length"),
    "order": ("ball", "radius"),
    "count": ("balls", "radii"),
    "cat_and_ball": ("body", "radius"),
    "two_balls": ("ball", "radius"),
}


@pytest.mark.parametrize(("family", "keys"), PLACE_AND_SIZE.items())
def test_colour_size_and_place_are_independent(family, keys):
    """Correlation over 600 seeds stays below 0.2: chance alone gives |r| > 0.2 in one of 10^6."""
    rows = []
    for scene in thousand(family)[:600]:
        x, size = float(scene.state[keys[0]][..., 0].mean()), float(scene.state[keys[1]].max())
        side = -1.0 if scene.slots.get("direction") == "left" else 1.0
        rows.append(
            (
                list(COLOURS).index(scene.slots["colour"]),
                list(BACKGROUNDS).index(scene.slots["background"]),
                # Two balls of one size, or five smaller ones, fill the floor: sizes go with number.
                float(scene.slots["number"] == "two") if family == "count" else size,
                x * side if family == "beside" else x,
            )
        )
    correlation = np.corrcoef(np.array(rows).T) - np.eye(4)
    assert np.abs(correlation).max() < 0.2
