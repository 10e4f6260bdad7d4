"""Kinds of question: what is asked, about which frames, and what answer passes.

Each gives a credit in [0, 1]: the share of its askings that came out right, by the judge's own
probability where it gives one.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.physics.l2.endpoint import Endpoint, Reply
from benchmarks.physics.l2.frames import Shown, pick, shown

Question = Mapping[str, Any]

SEMANTIC = ("present", "side", "order", "count", "text")
PHYSICS = ("outcome", "question", "change", "polarity")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
YES_NO = ' Answer "yes", "no" or "cannot tell".'


@dataclass(frozen=True)
class Answered:
    """A question's kind, the answers that it got, its credit and whether it passes."""

    kind: str
    text: str
    answers: list[str]
    credit: float
    passed: bool


@dataclass(frozen=True)
class Viewer:
    """A clip in front of a judge; `seed` decides the order in which choices are put."""

    judge: Endpoint
    frames: NDArray[np.uint8]
    fps: float
    seed: str

    def all(self) -> list[Shown]:
        """The frames that stand for the whole clip."""
        return [shown(self.frames, index, self.fps) for index in pick(self.frames)]

    def at(self, share: float, mirrored: bool = False) -> Shown:
        """The frame at a share of the clip's length."""
        index = round(share * (len(self.frames) - 1))
        return shown(self.frames, index, self.fps, mirrored)

    def toss(self, *words: object) -> bool:
        """A coin that falls the same way each time it is asked of the same clip and words."""
        return random.Random(f"{self.seed} {words}").random() < 0.5


def kind_of(question: Question) -> str:
    """The kind of a question: its first key. Raises `ValueError` if it is not a known one."""
    kind = next(iter(question))
    if kind not in KINDS:
        raise ValueError(f"question kind is {kind!r}; allowed are {', '.join(KINDS)}")
    return kind


def ask(question: Question, viewer: Viewer) -> Answered:
    """Put a question to the judge."""
    kind = kind_of(question)
    replies, right = KINDS[kind](question, viewer)
    credits = [_credit(reply, good) for reply, good in zip(replies, right, strict=True)]
    all_needed = kind in ("count", "side", "polarity")
    passed = all(right) if all_needed else 2 * sum(right) > len(right)
    answers = [reply.answer for reply in replies]
    return Answered(kind, str(question[kind]), answers, float(np.mean(credits)), passed)


def _credit(reply: Reply, right: bool) -> float:
    sure = 1.0 if reply.probability is None else reply.probability
    return sure if right else 1.0 - sure


Replies = tuple[list[Reply], list[bool]]


def _yes_no(texts: tuple[str, ...], expect: str, viewer: Viewer) -> Replies:
    replies = [viewer.judge.ask(text + YES_NO, viewer.all()) for text in texts]
    return replies, [reply.answer == expect for reply in replies]


def _present(question: Question, viewer: Viewer) -> Replies:
    what = question["present"]
    texts = (f"Does the video show this: {what}?", f"Can this be seen: {what}?",
             f"Is this what happens or is there in the frames: {what}?")  # fmt: skip
    return _yes_no(texts, "yes", viewer)


def _outcome(question: Question, viewer: Viewer) -> Replies:
    what = question["outcome"]
    texts = (f"Is this true of the video? {what}", f"Do the frames show this? {what}",
             f"Judge this statement by the frames alone: {what} Is it right?")  # fmt: skip
    return _yes_no(texts, str(question.get("expect", "yes")), viewer)


def _question(question: Question, viewer: Viewer) -> Replies:
    what = question["question"]
    texts = (what, f"Look at every frame. {what}", f"{what} Judge by the frames alone.")
    return _yes_no(texts, str(question.get("expect", "yes")), viewer)


def _change(question: Question, viewer: Viewer) -> Replies:
    what = question["change"]
    replies, right = [], []
    for wording in ("Which picture shows more {}?", "In which picture is there more {}?",
                    "Compare the pictures: where is more {}?"):  # fmt: skip
        early_first = viewer.toss(what, wording)
        pictures = [viewer.at(0.05), viewer.at(0.95)]
        pair = pictures if early_first else pictures[::-1]
        named = [Shown(f"picture {n}", p.picture) for n, p in zip("AB", pair, strict=True)]
        text = wording.format(what) + ' Answer "a", "b", "same" or "cannot tell".'
        replies.append(viewer.judge.ask(text, named))
        right.append(
            replies[-1].answer == ("a" if early_first == (question["more"] == "before") else "b")
        )
    return replies, right


def _order(question: Question, viewer: Viewer) -> Replies:
    events = (question["order"], question["then"])
    replies, right = [], []
    for wording in ("Which came first?", "What happened earlier?", "Which of the two began first?"):
        straight = viewer.toss(events, wording)
        one, two = events if straight else events[::-1]
        text = f'{wording} 1: {one}. 2: {two}. Answer "1", "2", "neither" or "cannot tell".'
        replies.append(viewer.judge.ask(text, viewer.all()))
        right.append(replies[-1].answer == ("1" if straight else "2"))
    return replies, right


def _count(question: Question, viewer: Viewer) -> Replies:
    """At three times the same number, or at the ends the numbers that are said."""
    what = question["count"]
    if "number" in question:
        expected = [(0.1, question["number"]), (0.5, question["number"]), (0.9, question["number"])]
    else:
        expected = [(0.0, question["first"]), (1.0, question["last"])]
    text = f"How many of these are in the picture: {what}? Answer with a whole number."
    replies = [viewer.judge.ask(text, [viewer.at(share)]) for share, _ in expected]
    return replies, [
        _number(reply.answer) == _number(str(number))
        for reply, (_, number) in zip(replies, expected, strict=True)
    ]


def _number(text: str) -> int | None:
    if text.isdecimal():
        return int(text)
    return NUMBERS.index(text) if text in NUMBERS else None


def _side(question: Question, viewer: Viewer) -> Replies:
    """In the mirror the answer must flip: who always says "left" fails."""
    text = f"Is {question['side']} to the left or to the right of {question['of']}? "
    text += 'Answer "left", "right", "neither" or "cannot tell".'
    flipped = {"left": "right", "right": "left"}
    answer = question["answer"]
    replies = [viewer.judge.ask(text, [viewer.at(0.5, mirrored)]) for mirrored in (False, True)]
    return replies, [replies[0].answer == answer, replies[1].answer == flipped[answer]]


def _polarity(question: Question, viewer: Viewer) -> Replies:
    """A statement and its opposite: who agrees with both fails."""
    replies, right = [], []
    for statement, expect in ((question["polarity"], "yes"), (question["antonym"], "no")):
        found, good = _yes_no((f"Is this true of the video? {statement}",), expect, viewer)
        replies += found
        right += good
    return replies, right


def _text(question: Question, viewer: Viewer) -> Replies:
    wanted = "".join(str(question["reads"]).lower().split())
    text = f"What does {question['text']} read? Answer with its letters and digits exactly."
    replies = [viewer.judge.ask(text, [viewer.at(share)]) for share in (0.5, 0.75, 1.0)]
    return replies, ["".join(reply.answer.split()) == wanted for reply in replies]


KINDS: dict[str, Callable[[Question, Viewer], Replies]] = {
    "present": _present,
    "outcome": _outcome,
    "question": _question,
    "change": _change,
    "order": _order,
    "count": _count,
    "side": _side,
    "polarity": _polarity,
    "text": _text,
}


def describe(viewer: Viewer, statements: list[str]) -> float | None:
    """The share of statements that a blind description supports, as a second call reads it."""
    if not statements:
        return None
    told = viewer.judge.ask(
        "Describe what happens, in order, in a few sentences.", viewer.all()
    ).answer
    checked = [
        viewer.judge.ask(f"A video was described so: {told} Does it follow that: {text}?{YES_NO}")
        for text in statements
    ]
    return float(np.mean([reply.answer == "yes" for reply in checked]))


def naturalness(viewer: Viewer) -> dict[str, int | None]:
    """How natural the clip looks, 0 to 3, and how well it keeps to physics, 1 to 5."""
    scales = {
        "naturalness": "How natural is the video? 0 fantastical, 1 highly unrealistic, "
        "2 slightly unrealistic, 3 almost realistic. Answer with the number.",
        "physical commonsense": "How well does the video keep to everyday physics, from 1, not at "
        "all, to 5, entirely? Answer with the number.",
    }
    return {
        name: _number(viewer.judge.ask(text, viewer.all()).answer) for name, text in scales.items()
    }
