"""A sign's word can be read off the pixels, dot by dot."""

from itertools import combinations
from string import ascii_lowercase

import numpy as np
import pytest

from world import captions, font, render, sample


def test_every_letter_is_unlike_every_other():
    """Any two of the 26 letters differ in at least two of 35 dots."""
    dots = font.glyphs(ascii_lowercase)
    assert dots.shape == (26, 7, 5)
    assert min(np.abs(a - b).sum() for a, b in combinations(dots, 2)) >= 2


@pytest.mark.parametrize("seed", range(16))
@pytest.mark.parametrize("style", ["plain", "outline"])
def test_dots_are_whole_pixels_and_spell_the_word(seed, style):
    """At 64 pixels a dot is 2 x 2 pixels, all ink or all paper, in every frame."""
    scene = sample("sign", seed)
    frames = render(scene, 64, style).astype(int).sum(-1)
    x, y = np.round(scene.state["text"] * 64).astype(int)
    word = scene.slots["word"]
    assert word in captions.CHOICES["word"]
    for number, letter in enumerate(word):
        left = x + 12 * number
        cell = frames[:, y : y + 14, left : left + 10]
        dark = cell < 300
        assert (dark | (cell > 600)).all()
        expected = np.kron(font.glyph(letter), np.ones((2, 2)))
        assert (dark == expected).all()
        assert (frames[:, y : y + 14, left - 2 : left] > 600).all()


@pytest.mark.parametrize("seed", range(100))
def test_the_board_is_in_view_and_the_bird_off_the_letters(seed):
    state = sample("sign", seed).state
    middle, half = state["board"]
    assert (middle - half > 0).all() and middle[0] + half[0] < 1
    assert middle[1] + half[1] < state["floor"]
    assert (state["bird"][:, 1] + state["bird_size"] < state["text"][1]).all()
