"""Corruptions break what they say and nothing else: in the state, and so in the pixels."""

import math

import numpy as np
import pytest

from world import FAMILIES, corrupt, font, render, sample
from world.corruptions import CORRUPTIONS, NAMES

PAIRS = [(family, name) for family in FAMILIES for name in NAMES[family]]
MAY_DIFFER = {
    "bite_heals": {"bitten"},
    "bite_absent": {"bitten"},
    "bite_moved": {"bite_centre"},
    "bite_early": {"bitten"},
    "leg_extra": {"hips", "feet", "near", "stance"},
    "leg_missing": {"hips", "feet", "near", "stance"},
    "legs_swapped": {"feet", "stance"},
    "glide": {"hips", "feet", "stance"},
    "vanish": {"ball", "mover", "square", "tree", "body", "hips", "feet", "cookie", "bite_centre"},
    "duplicate": set(),
    "teleport": {"ball", "mover", "square", "tree", "body", "hips", "feet"},
    "recolour": {"colour", "other_colour"},
    "resize": {"ball", "mover", "square", "radius", "radii", "half_side", "crown"},
    "slows": {"ball", "turn"},
    "never_emerges": {"ball"},
    "wrong_side": {"ball", "turn"},
    "gravity_reversed": {"ball"},
    "gravity_changed": {"ball", "impacts"},
    "hover": {"ball", "impacts"},
    "no_transfer": {"after", "turn", "mover", "target"},
    "energy_gain": {"after", "turn", "mover", "target"},
    "pass_through": {"after", "turn", "mover", "target"},
    "rod_stretch": {"bob"},
    "period_drift": {"bob", "angle"},
    "volume": {
        *("destination_volume", "destination_level", "stream_bottom", "stream_top"),
        *("stream_volume", "puddle", "puddle_area"),
    },
    "stream_upward": {"stream_speed", "stream_top", "stream_bottom"},
    "surface_tilted": {"destination_slope"},
    "ice_grows": {"half_side", "corner", "ice_area"},
    "swapped": {"square", "circle"},
    "colours_swapped": {"colour", "other_colour"},
    "events_swapped": {"ball", "square", "start", "release", "landing"},
    "simultaneous": {"ball", "square", "start", "release", "landing"},
    "event_missing": {"ball", "square", "start", "release", "landing"},
    "miscount": {"balls", "radii", "eyes"},
    "glyph_wrong": {"glyphs"},
    "glyphs_shuffled": {"glyphs"},
    "shadow_side": {"tip"},
    "shadow_length": {"tip", "length"},
    "shadow_trend": {"tip", "length"},
    "background_still": {"far", "tufts", "ornament"},
}
"""What of the state a corruption may change; corruptions of the frames themselves are not here."""


def scene_for(family, name, seed):
    """A scene that the corruption applies to: crossed legs are for cats that have four."""
    return sample(family, seed, slots={"legs": "four"} if name == "legs_swapped" else None)


def differs(before, after):
    """Whether two arrays differ in each frame `(17,)`; a change of what has no time is in all."""
    if before.shape != after.shape or before.shape[:1] != (17,):
        return np.full(17, before.shape != after.shape or not np.array_equal(before, after))
    return (before != after).reshape(17, -1).any(axis=1)


@pytest.mark.parametrize(("family", "name"), PAIRS)
@pytest.mark.parametrize("seed", range(3))
def test_only_what_is_named_differs_and_only_then(family, name, seed):
    """State outside of the table is the same object's value; a frame whose state is the same is
    the same frame, pixel by pixel, so nothing happens before the event.
    """
    scene = scene_for(family, name, seed)
    broken = corrupt(scene, name)
    assert (broken.caption, broken.slots, broken.seed) == (scene.caption, scene.slots, scene.seed)
    clean, wrong = render(scene, 32), render(broken, 32)
    assert wrong.shape == clean.shape and (wrong != clean).any()
    if name not in MAY_DIFFER:
        assert broken.state is scene.state and broken.retouches
        return
    assert not broken.retouches
    touched = np.zeros(17, bool)
    for key, value in scene.state.items():
        frames = differs(value, broken.state[key])
        assert key in MAY_DIFFER[name] or not frames.any(), key
        if key not in ("impacts", "landing", "start", "release", "after"):
            touched |= frames
    for first, end, changed in broken.changes:
        assert changed.keys() <= MAY_DIFFER[name]
        touched[first:end] = True
    if broken.extras:
        (extra,) = broken.extras
        twin = next(
            value for key, value in extra.items() if value.shape == (17, 2) and (value > -1).any()
        )
        touched |= (twin > -1).all(axis=1)
    assert ((wrong != clean).any((1, 2, 3)) <= touched).all()


@pytest.mark.parametrize(("family", "name"), PAIRS)
def test_a_person_can_see_it(family, name):
    """At nominal severity at least 0.05 % of a clip's pixels change by more than 24 of 255.

    The least are a third front leg of a black cat at night, and a shadow's end.
    """
    for seed in range(3):
        scene = scene_for(family, name, seed)
        change = np.abs(render(corrupt(scene, name), 48).astype(int) - render(scene, 48)).max(-1)
        assert (change > 24).mean() > 0.0005


def test_what_cannot_be_done_is_said():
    drop, cat = sample("drop", 0), sample("walk", 0, slots={"legs": "two"})
    with pytest.raises(ValueError, match="corruption is 'bite_heals'; drop can have vanish, dup"):
        corrupt(drop, "bite_heals")
    with pytest.raises(ValueError, match="value of 'vanish' is 40; allowed is 1 to 10 frames"):
        corrupt(drop, "vanish", 40)
    with pytest.raises(ValueError, match="value of 'vanish' is 2.5"):
        corrupt(drop, "vanish", 2.5)
    with pytest.raises(ValueError, match="value of 'gravity_reversed' is 2; allowed is 1"):
        corrupt(drop, "gravity_reversed", 2)
    with pytest.raises(ValueError, match="a cat with 2 legs can miss 1 at most"):
        corrupt(cat, "leg_missing", 2)
    with pytest.raises(ValueError, match="needs a cat with four legs"):
        corrupt(cat, "legs_swapped")


def test_every_family_can_go_wrong_and_every_corruption_has_a_family():
    assert all(NAMES[family] for family in FAMILIES)
    assert {name for _, name in PAIRS} == set(CORRUPTIONS)
    assert set(MAY_DIFFER) < set(CORRUPTIONS)
    for kind in CORRUPTIONS.values():
        assert kind.lowest <= kind.nominal <= kind.highest


@pytest.mark.parametrize("seed", range(20))
def test_bites(seed):
    scene = sample("bite", seed)
    contact = np.ceil(scene.state["contact"]).astype(int)
    healed = corrupt(scene, "bite_heals", 3).state["bitten"]
    assert (healed.sum(0) == 3).all() and (healed.argmax(0) == contact).all()
    early = corrupt(scene, "bite_early", 4).state["bitten"]
    assert (early.argmax(0) == np.maximum(contact - 4, 0)).all()
    assert corrupt(scene, "bite_absent").state["bitten"][:, -1].sum() == 0
    rim = scene.state["bite_centre"][0] - scene.state["cookie"]
    moved = corrupt(scene, "bite_moved", 90).state["bite_centre"][0] - scene.state["cookie"]
    assert rim @ moved == pytest.approx(0.0, abs=1e-12) and moved[1] < 0


@pytest.mark.parametrize("seed", range(20))
def test_legs(seed):
    scene = sample("walk", seed)
    count = len(scene.state["near"])
    ((first, end, changed),) = corrupt(scene, "leg_extra", 3).changes
    assert end - first == 3 and changed["feet"].shape[1] == count + 1
    ahead = (changed["feet"][:, -1, 0] - scene.state["body"][:, 0]) * scene.state["facing"]
    others = (scene.state["feet"][..., 0] - scene.state["body"][:, :1]) * scene.state["facing"]
    assert (ahead[:, None] > others + 2.5 * scene.state["unit"]).all()
    assert corrupt(scene, "leg_missing").state["feet"].shape[1] == count - 1
    glide = corrupt(scene, "glide").state["feet"][..., 0]
    steps = np.diff(glide, axis=0) - np.diff(scene.state["body"][:, :1], axis=0)
    assert steps == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_objects(seed):
    for family in ("roll", "drop", "hide", "beside", "two_balls", "cat_and_ball", "pan", "order"):
        scene = sample(family, seed)
        path = {"beside": "square", "pan": "tree"}.get(family, "ball")
        ((first, end, changed),) = corrupt(scene, "vanish", 4).changes
        assert end - first == 4 and first > 0 and end < 17 and (changed[path] < -1).all()
        moved = corrupt(scene, "teleport", 8).state[path] - scene.state[path]
        pixels = np.round(np.abs(moved[:, 0]) * 64, 9)
        assert set(pixels) == {0.0, 8.0} and (np.diff(pixels) >= 0).all()
        assert (moved[:, 1] == 0).all()
        (extra,) = corrupt(scene, "duplicate", 4).extras
        there = extra[path][:, 0] > -1
        assert there.sum() == 4
        assert (np.abs(extra[path] - scene.state[path])[there, 0] > 8 / 64).all()
        ((_, _, sized),) = corrupt(scene, "resize", 25).changes
        key = {"beside": "half_side", "pan": "crown"}.get(family, "radius")
        assert sized[key] == pytest.approx(1.25 * scene.state[key])


@pytest.mark.parametrize("seed", range(20))
def test_gravity(seed):
    scene = sample("drop", seed)
    state = scene.state
    release, fall = float(state["release"]), float(state["impacts"][0] - state["release"])
    lowest = float(state["floor"] - state["radius"])
    faster = corrupt(scene, "gravity_changed", 1.5).state
    turn, t = release + fall / 2, np.arange(17)
    inside = np.flatnonzero((t >= turn) & (t < faster["impacts"][0]))
    assert np.diff(faster["ball"][inside, 1], 2) == pytest.approx(1.5 * state["gravity"], abs=1e-9)
    assert (faster["ball"][t < turn] == state["ball"][t < turn]).all()
    assert faster["ball"][:, 1].max() <= lowest + 1e-9
    assert faster["impacts"][0] < state["impacts"][0]
    upward = corrupt(scene, "gravity_reversed").state["ball"][:, 1]
    assert upward[0] == pytest.approx(lowest) and upward.min() < lowest - 0.3
    assert upward + state["ball"][:, 1] == pytest.approx(lowest + state["ball"][0, 1])
    still = np.diff(corrupt(scene, "hover", 4).state["ball"][:, 1]) == 0
    moving = still[math.ceil(release) + 1 :]
    assert moving.sum() == 4 and np.ptp(np.flatnonzero(moving)) == 3


@pytest.mark.parametrize("seed", range(20))
def test_collisions(seed):
    """Momentum and energy after contact, from the speeds between the last two frames."""
    scene = sample("hit", seed)
    mass, before = scene.state["mass"], scene.state["before"]

    def after(name, value=None):
        state = corrupt(scene, name, value).state
        late = np.stack([state[k][-1, 0] - state[k][-2, 0] for k in ("mover", "target")])
        return mass @ late, mass @ late**2

    momentum, energy = mass @ before, mass @ before**2
    assert after("no_transfer") == pytest.approx((0.0, 0.0), abs=1e-12)
    assert after("no_transfer", 0.3)[0] == pytest.approx(0.7 * momentum)
    assert after("energy_gain", 40)[1] == pytest.approx(1.4 * energy)
    assert after("pass_through") == pytest.approx((momentum, energy))


@pytest.mark.parametrize("seed", range(20))
def test_pendulums(seed):
    scene = sample("swing", seed)
    rod = corrupt(scene, "rod_stretch", 25).state["bob"] - scene.state["pivot"]
    length = np.hypot(*rod.T) / scene.state["length"]
    assert length[0] == pytest.approx(1.0) and length[-1] == pytest.approx(1.25)
    assert (np.diff(length) > -1e-9).all()
    drift = corrupt(scene, "period_drift", 50).state
    assert (drift["angle"][:6] == scene.state["angle"][:6]).all()
    assert np.hypot(*(drift["bob"] - scene.state["pivot"]).T) == pytest.approx(
        float(scene.state["length"])
    )


@pytest.mark.parametrize("seed", range(20))
def test_water(seed):
    scene = sample("pour", seed)
    more = corrupt(scene, "volume", 25).state
    assert more["destination_volume"] == pytest.approx(1.25 * scene.state["destination_volume"])
    depth = (more["destination"][1] - more["destination_level"]) * more["destination_size"][0]
    assert depth == pytest.approx(more["destination_volume"])
    upward = corrupt(scene, "stream_upward").state
    lengths = [s["stream_bottom"] - s["stream_top"] for s in (scene.state, upward)]
    assert lengths[1] == pytest.approx(lengths[0], abs=1e-12) and upward["stream_speed"] < 0
    ends = np.flatnonzero(lengths[0] > 0)
    top = upward["stream_top"][ends]
    assert top[0] > top[len(ends) // 2]
    tilted = corrupt(scene, "surface_tilted", 15).state["destination_slope"]
    assert np.abs(tilted[-1]) == pytest.approx(math.tan(math.radians(15)))
    ice = corrupt(sample("melt", seed), "ice_grows", 25).state["ice_area"]
    start = int(ice.argmin())
    assert ice[-1] == pytest.approx(1.25 * ice[start]) and (np.diff(ice[start:]) > 0).all()


@pytest.mark.parametrize("seed", range(20))
def test_order(seed):
    scene = sample("order", seed)
    lowest = float(scene.state["floor"] - scene.state["radius"])

    def onsets(name):
        state = corrupt(scene, name).state
        falls = np.abs(np.diff(state["ball"][:, 1])) > 1e-12
        moves = np.abs(np.diff(state["square"][:, 0])) > 1e-12
        return [int(np.argmax(m)) if m.any() else 99 for m in (falls, moves)], state

    (falls, moves), state = onsets("events_swapped")
    assert moves + 2 < falls < 99
    assert state["ball"][-1, 1] == pytest.approx(lowest)
    (falls, moves), state = onsets("simultaneous")
    assert falls == moves
    assert state["square"][-1, 0] == pytest.approx(scene.state["square"][-1, 0])
    (falls, moves), _ = onsets("event_missing")
    assert (falls == 99) != (moves == 99)


@pytest.mark.parametrize("seed", range(20))
def test_counts_and_letters(seed):
    scene = sample("count", seed)
    ((first, end, changed),) = corrupt(scene, "miscount", 4).changes
    seen = (changed["balls"][first, :, 0] > 0).sum()
    assert end - first == 4 and abs(seen - scene.state["balls"].shape[1]) == 1
    sign = sample("sign", seed)
    wrong = (corrupt(sign, "glyph_wrong", 2).state["glyphs"] != sign.state["glyphs"]).any((1, 2))
    assert wrong.sum() == 2
    shuffled = corrupt(sign, "glyphs_shuffled", 5).changes
    letters = font.glyphs(sign.slots["word"])
    assert len(shuffled) == 5
    for _, _, changed in shuffled:
        same = (changed["glyphs"][:, None] == letters).all((2, 3))
        assert same.sum() == 4 and not np.diag(same).all()


@pytest.mark.parametrize("seed", range(20))
def test_shadows_and_cameras(seed):
    scene = sample("lamp", seed)
    state = corrupt(scene, "shadow_side").state
    assert (state["away"] * (state["tip"] - state["box"][0]) < 0).all()
    state = corrupt(scene, "shadow_length", -40).state
    far = state["box"][0] + state["away"] * state["half_side"]
    assert state["away"] * (state["tip"] - far) == pytest.approx(0.6 * scene.state["length"])
    trend = np.diff(corrupt(scene, "shadow_trend").state["length"])
    assert (trend * np.diff(scene.state["length"]) < 0).all()
    pan = corrupt(sample("pan", seed), "background_still").state
    assert np.ptp(pan["far"], axis=0).max() == 0 and np.ptp(pan["tree"][:, 0]) > 0.3


def test_playback():
    """The frames are the clean clip's own, in the order that the name says."""
    clean = render(sample("roll", 3))
    wrong = {name: render(corrupt(sample("roll", 3), name)) for name in NAMES["roll"]}
    assert (wrong["reversed"] == clean[::-1]).all()
    assert (wrong["mirrored"] == clean[:, :, ::-1]).all()
    assert (wrong["frozen"] == clean[0]).all()
    assert (wrong["looped"] == clean[np.arange(17) % 8]).all()
    assert (
        wrong["dropped"] == clean[[0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 10, 12, 12, 14, 14, 16]]
    ).all()
    key = [frame.tobytes() for frame in clean]
    assert sorted(frame.tobytes() for frame in wrong["shuffled"]) == sorted(key)
    some = render(corrupt(sample("roll", 3), "frozen", 5))
    assert (some[:5] == clean[0]).all() and (some[5:] == clean[1:13]).all()
