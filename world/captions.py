"""The sentences of the world: templates, the words in them, and a parser back to slots."""

import re
from collections.abc import Mapping

from world.held_out import DIRECTIONS
from world.palette import BACKGROUNDS, COLOURS

TEMPLATES: dict[str, str] = {
    "bite": "a {colour} monster bites a cookie {times} from the {direction}",
    "walk": "a {colour} cat with {legs} legs walks {direction}",
    "drop": "a {colour} ball is dropped and bounces",
    "beside": "a {colour} square is to the {direction} of a {other_colour} circle",
    "roll": "a {colour} ball rolls {direction} at {speed} speed",
    "hit": "a {colour} ball hits a resting {other_colour} ball",
    "hide": "a {colour} ball goes behind a grey wall and comes out",
    "swing": "a {colour} pendulum swings",
    "pour": "water is poured from the {direction} cup into the other",
    "melt": "an ice cube melts",
    "order": "first the {colour} ball falls, then the {other_colour} square moves {direction}",
    "count": "{number} {colour} balls stay on the floor",
    "sign": "a sign shows the word {word}",
    "lamp": "a lamp on the {direction} casts the shadow of a {colour} box",
    "cat_and_ball": (
        "a {colour} cat walks {direction} and a {other_colour} ball rolls {other_direction}"
    ),
    "two_balls": (
        "a {colour} ball rolls {direction} and a {other_colour} ball rolls {other_direction}"
    ),
    "pan": "the camera pans {direction} past a {colour} tree",
}
SYNONYMS = {"an": "a"}
"""Words that are read as others."""
BACKGROUND_SUFFIX = " on a {background} background"
CHOICES: dict[str, tuple[str, ...]] = {
    "colour": tuple(COLOURS),
    "other_colour": tuple(COLOURS),
    "direction": DIRECTIONS,
    "other_direction": DIRECTIONS,
    "speed": ("slow", "medium", "fast"),
    "times": ("once", "twice"),
    "legs": ("two", "four"),
    "number": ("two", "three", "four", "five"),
    # Four letters each, no letter twice in a word: any change to a word can be read.
    "word": ("open", "stop", "exit", "play", "home", "cafe", "jump", "fish"),
    "background": tuple(BACKGROUNDS),
}


def slot_names(family: str) -> list[str]:
    """The slots of a family's sentence in their order, the background last."""
    return re.findall(r"{(\w+)}", TEMPLATES[family] + BACKGROUND_SUFFIX)


def caption(family: str, slots: dict[str, str], name_background: bool) -> str:
    """The sentence of a family with its slots filled."""
    template = TEMPLATES[family] + (BACKGROUND_SUFFIX if name_background else "")
    return template.format(**slots)


def _plain(text: str) -> str:
    """Words alone, each in the form that stands for its synonyms; braces of slots are kept."""
    return " ".join(SYNONYMS.get(word, word) for word in re.findall(r"{?\w+}?", text))


def _pattern(template: str) -> re.Pattern[str]:
    sentence = f"{_plain(template)}(?: {_plain(BACKGROUND_SUFFIX)})?"
    options = {name: f"(?P<{name}>{'|'.join(choice)})" for name, choice in CHOICES.items()}
    return re.compile(re.sub(r"{(\w+)}", lambda slot: options[slot[1]], sentence))


_PATTERNS = {family: _pattern(template) for family, template in TEMPLATES.items()}


def parse(text: str) -> dict[str, str] | None:
    """The family and slots that a sentence names, or None if the world has no such sentence.

    Case, spacing and punctuation do not matter, and "an" is read as "a". A background that the
    sentence leaves open is absent.
    """
    sentence = _plain(text.lower())
    for family, pattern in _PATTERNS.items():
        if match := pattern.fullmatch(sentence):
            named = {name: value for name, value in match.groupdict().items() if value}
            if "colour" in named and named["colour"] == named.get("other_colour"):
                return None
            return {"family": family, **named}
    return None


Known = Mapping[str, Mapping[str, str]]
"""Families, and for each the slots that have one value only: a part of the world."""
EVERYTHING: Known = {family: {} for family in TEMPLATES}


def words(known: Known = EVERYTHING) -> list[str]:
    """Every word that a caption of these families can hold, sorted, but for synonyms of another."""
    said = {BACKGROUND_SUFFIX}
    for family, slots in known.items():
        said.add(TEMPLATES[family])
        said.update(*(_choices(name, slots) for name in slot_names(family)))
    return sorted(set(_plain(re.sub(r"{\w+}", " ", " ".join(said))).split()))


def grammar(known: Known = EVERYTHING) -> list[str]:
    """The templates with their choices written out, for people to read."""
    written = []
    for family, slots in known.items():
        options = {name: _choices(name, slots) for name in slot_names(family)}
        texts = {n: c[0] if len(c) == 1 else f"{{{'|'.join(c)}}}" for n, c in options.items()}
        written.append(f"{TEMPLATES[family]} [{BACKGROUND_SUFFIX.strip()}]".format(**texts))
    return written


def _choices(name: str, slots: Mapping[str, str]) -> tuple[str, ...]:
    return (slots[name],) if name in slots else CHOICES[name]


def examples(known: Known = EVERYTHING) -> list[str]:
    """Prompts that show what these families can do, at least one a family."""

    def shown(prompt: str) -> bool:
        named = parse(prompt) or {}
        slots = known.get(named["family"])
        return slots is not None and slots.items() <= named.items()

    return [prompt for prompt in _EXAMPLES if shown(prompt)]


_EXAMPLES = [
    "a green monster bites a cookie once from the left on a meadow background",
    "a purple monster bites a cookie once from the right",
    "a red monster bites a cookie twice from the right",
    "a blue monster bites a cookie once from the left on a room background",
    "a black cat with four legs walks right on a meadow background",
    "a white cat with four legs walks left on a night background",
    "a yellow cat with four legs walks left",
    "a blue cat with two legs walks right",
    "a red ball is dropped and bounces on a desert background",
    "a yellow ball is dropped and bounces on a night background",
    "a blue ball is dropped and bounces",
    "a red square is to the left of a blue circle on a room background",
    "a yellow square is to the right of a purple circle on a night background",
    "a green square is to the left of a white circle",
    "an orange ball rolls right at fast speed on a meadow background",
    "a purple ball hits a resting yellow ball on a night background",
    "a red ball goes behind a grey wall and comes out",
    "a green pendulum swings on a room background",
    "water is poured from the left cup into the other on a meadow background",
    "an ice cube melts on a desert background",
    "first the blue ball falls, then the orange square moves right on a night background",
    "three red balls stay on the floor on a room background",
    "a sign shows the word play on a meadow background",
    "a lamp on the left casts the shadow of a blue box on a room background",
    "a white cat walks left and a red ball rolls right on a night background",
    "a red ball rolls right and a purple ball rolls left on a meadow background",
    "the camera pans right past a green tree on a meadow background",
]
