"""A bitmap font of capital letters, five dots wide and seven high."""

from collections.abc import Iterable

import numpy as np

from world.palette import Floats

WIDTH, HEIGHT = 5, 7

# One hexadecimal byte a row from the top; the lowest five bits are the dots, the left one first.
_ROWS = {
    "a": "0e11111f111111",
    "b": "1e11111e11111e",
    "c": "0e11101010110e",
    "d": "1e11111111111e",
    "e": "1f10101e10101f",
    "f": "1f10101e101010",
    "g": "0e11101711110f",
    "h": "1111111f111111",
    "i": "0e04040404040e",
    "j": "0702020202120c",
    "k": "11121418141211",
    "l": "1010101010101f",
    "m": "111b1515111111",
    "n": "11191513111111",
    "o": "0e11111111110e",
    "p": "1e11111e101010",
    "q": "0e11111115120d",
    "r": "1e11111e141211",
    "s": "0f10100e01011e",
    "t": "1f040404040404",
    "u": "1111111111110e",
    "v": "11111111110a04",
    "w": "11111115151b11",
    "x": "11110a040a1111",
    "y": "11110a04040404",
    "z": "1f01020408101f",
}


def glyph(letter: str) -> Floats:
    """The dots of a letter, `(7, 5)`, 1 where there is ink. Raises `KeyError` for others."""
    rows = np.frombuffer(bytes.fromhex(_ROWS[letter.lower()]), np.uint8)
    return np.unpackbits(rows[:, None], axis=1)[:, 8 - WIDTH :].astype(np.float64)


def glyphs(word: Iterable[str]) -> Floats:
    """The dots of each letter of a word, `(N, 7, 5)`."""
    return np.stack([glyph(letter) for letter in word])
