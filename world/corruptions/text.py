"""Signs that are misspelt."""

import string

import numpy as np

from world import font
from world.corruptions.corruption import Corruption, length, with_change, with_state
from world.scene import Scene

DOTS = 8  # in which a wrong letter differs at least from the right one, of 35


def glyph_wrong(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """`value` of the letters are others, which the word does not have and which look otherwise."""
    glyphs = scene.state["glyphs"].copy()
    others = font.glyphs([x for x in string.ascii_lowercase if x not in scene.slots["word"]])
    for place in rng.permutation(len(glyphs))[: int(value)]:
        unlike = others[np.abs(others - glyphs[place]).sum((1, 2)) >= DOTS]
        glyphs[place] = unlike[rng.integers(len(unlike))]
    return with_state(scene, glyphs=glyphs)


def glyphs_shuffled(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """For `value` frames the letters are in another wrong order in each."""
    frames, glyphs = int(value), scene.state["glyphs"]
    first = int(rng.integers(0, length(scene) - frames + 1))
    order = np.arange(len(glyphs))
    for frame in range(first, first + frames):
        before = order
        while (order == before).all() or (order == np.arange(len(glyphs))).all():
            order = rng.permutation(len(glyphs))
        scene = with_change(scene, frame, frame + 1, {"glyphs": glyphs[order]})
    return scene


CORRUPTIONS = {
    "glyph_wrong": Corruption(glyph_wrong, "letters", 1, 1, 4, ("sign",)),
    "glyphs_shuffled": Corruption(glyphs_shuffled, "frames", 17, 1, 17, ("sign",)),
}
