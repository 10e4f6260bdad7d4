"""The sentences of the world: templates, the words in them, and a parser back to slots."""

import re

from world.palette import BACKGROUNDS, COLOURS

DIRECTIONS = ("left", "right")
TEMPLATES: dict[str, str] = {
    "bite": "a {colour} monster bites a cookie once from the {direction}",
    "walk": "a {colour} cat with four legs walks {direction}",
    "drop": "a {colour} ball is dropped and bounces",
    "beside": "a {colour} square is to the {direction} of a {other_colour} circle",
}
SYNONYMS = {"an": "a"}
"""Words that a prompt may use for others; captions never do."""
BACKGROUND_SUFFIX = " on a {background} background"
CHOICES: dict[str, tuple[str, ...]] = {
    "colour": tuple(COLOURS),
    "other_colour": tuple(COLOURS),
    "direction": DIRECTIONS,
    "background": tuple(BACKGROUNDS),
}


def slot_names(template: str) -> list[str]:
    """The slots of a template in the order of the sentence."""
    return re.findall(r"{(\w+)}", template)


def caption(family: str, slots: dict[str, str], name_background: bool) -> str:
    """The sentence of a family with its slots filled."""
    template = TEMPLATES[family] + (BACKGROUND_SUFFIX if name_background else "")
    return template.format(**slots)


def _pattern(template: str) -> re.Pattern[str]:
    sentence = re.escape(template + "#").replace(r"\{", "{").replace(r"\}", "}")
    suffix = re.escape(BACKGROUND_SUFFIX).replace(r"\{", "{").replace(r"\}", "}")
    sentence = sentence.replace(r"\#", f"(?:{suffix})?").replace(r"a\ {", r"an?\ {")
    for name in slot_names(template + BACKGROUND_SUFFIX):
        sentence = sentence.replace(f"{{{name}}}", f"(?P<{name}>{'|'.join(CHOICES[name])})")
    return re.compile(sentence)


_PATTERNS = {family: _pattern(template) for family, template in TEMPLATES.items()}


def parse(text: str) -> dict[str, str] | None:
    """The family and slots that a sentence names, or None if the world has no such sentence.

    Case, spacing and a final full stop do not matter, and "an" is read as "a". A background that
    the sentence leaves open is absent.
    """
    text = " ".join(text.lower().split()).removesuffix(".")
    for family, pattern in _PATTERNS.items():
        if match := pattern.fullmatch(text):
            named = {name: value for name, value in match.groupdict().items() if value}
            if named.get("other_colour") == named["colour"]:
                return None
            return {"family": family, **named}
    return None


def words() -> list[str]:
    """Every word that a caption can hold, sorted."""
    sentences = " ".join((*TEMPLATES.values(), BACKGROUND_SUFFIX))
    plain = re.sub(r"{\w+}", " ", sentences).split()
    return sorted({*plain, *(word for choice in CHOICES.values() for word in choice)})


def grammar() -> list[str]:
    """The templates with their choices written out, for people to read."""
    options = {name: "{" + "|".join(choice) + "}" for name, choice in CHOICES.items()}
    ending = " [on a {background} background]"
    return [(template + ending).format(**options) for template in TEMPLATES.values()]


def examples() -> list[str]:
    """A dozen prompts that show what the world can do."""
    return [
        "a green monster bites a cookie once from the left on a meadow background",
        "a purple monster bites a cookie once from the right",
        "a blue monster bites a cookie once from the left on a room background",
        "a black cat with four legs walks right on a meadow background",
        "a white cat with four legs walks left on a night background",
        "a yellow cat with four legs walks left",
        "a red ball is dropped and bounces on a desert background",
        "a yellow ball is dropped and bounces on a night background",
        "a blue ball is dropped and bounces",
        "a red square is to the left of a blue circle on a room background",
        "a yellow square is to the right of a purple circle on a night background",
        "a green square is to the left of a white circle",
    ]
