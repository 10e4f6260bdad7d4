"""The outline style: other pixels, the same state, the same names of colours."""

import copy

import numpy as np
import pytest

from world import FAMILIES, render, sample
from world.palette import BACKGROUNDS, COLOURS, COOKIE
from world.style import STYLES


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(3))
def test_a_style_changes_pixels_and_no_state(family, seed):
    scene = sample(family, seed)
    before = copy.deepcopy(scene.state)
    plain, outline = render(scene, 32), render(scene, 32, "outline")
    assert (plain == render(scene, 32, "plain")).all()
    assert (np.abs(plain.astype(int) - outline).max(-1) > 4).mean() > 0.5
    assert before.keys() == scene.state.keys()
    assert all(np.array_equal(before[key], value) for key, value in scene.state.items())


@pytest.mark.parametrize(
    ("family", "path"),
    [("roll", "ball"), ("drop", "ball"), ("beside", "square"), ("lamp", "box"), ("pan", "tree")],
)
def test_actors_stay_where_they_are(family, path):
    """The middle of the pixels in the actor's colour is the same to 0.6 pixels of 64 in all frames,
    though contours of another width leave other pixels to it.
    """
    for seed in range(6):
        scene = sample(family, seed)
        middles = []
        for name, style in STYLES.items():
            frames = render(scene, 96, name) / 255.0
            painted = style.paint(scene.state["colour"])
            mask = np.linalg.norm(frames - painted, axis=-1) < 0.12
            place = np.broadcast_to(scene.state[path], (17, 2))
            x, y = np.meshgrid((np.arange(96) + 0.5) / 96, (np.arange(96) + 0.5) / 96)
            near = np.hypot(x - place[:, :1, None], y - place[:, 1:, None]) < 0.15
            mask &= near
            middles.append([(mask * axis).sum((1, 2)) / mask.sum((1, 2)) for axis in (x, y)])
        assert np.abs(np.subtract(*middles)).max() < 0.6 / 64


def lab(rgb):
    """CIE 1976 L*a*b* under D65 of sRGB in [0, 1] (IEC 61966-2-1)."""
    rgb = np.asarray(rgb, float)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = linear @ np.transpose(to_xyz) / (0.9505, 1.0, 1.089)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def test_names_keep_their_colours_and_their_distance():
    """In the other palette a name is another colour (2.3 is just noticeable), still nearest to its
    own name in the first palette, far from all other names, and from all grounds.
    """
    style = STYLES["outline"]
    first = lab([*COLOURS.values(), COOKIE])
    other = lab([style.paint(np.array(c)) for c in (*COLOURS.values(), COOKIE)])
    grounds = [style.paint(np.array(c)) for rows in BACKGROUNDS.values() for c in rows]
    distance = np.linalg.norm(other[:, None] - first, axis=-1)
    assert (distance.argmin(1) == np.arange(len(first))).all()
    assert (np.diag(distance) > 2.3).all() and (np.diag(distance) < 14).all()
    apart = np.linalg.norm(other[:, None] - other, axis=-1) + 1e3 * np.eye(len(other))
    assert apart.min() > 28
    assert np.linalg.norm(other[:, None] - lab(grounds), axis=-1).min() > 14


def test_an_unknown_style_is_refused_by_name():
    with pytest.raises(ValueError, match="style is 'comic'; allowed are plain, outline"):
        render(sample("roll", 0), 32, "comic")
