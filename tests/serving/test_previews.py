"""A preview is drawn for those who watch, for nobody else, and costs a job next to nothing."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from serving import previews, sketches
from serving.previews import Preview, Previews
from serving.sketches import Sketches, animation
from serving.store import Store

STILLS = np.random.default_rng(0).integers(0, 255, (3, 48, 80, 3)).astype(np.uint8)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path / 'kinetograph.db'}")
    store.create_tables()
    yield store
    store.close()


class Hand:
    """Draws stills, and counts how often it was asked to."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> NDArray[np.uint8]:
        self.asked += 1
        return STILLS


def test_nothing_is_drawn_unless_somebody_watches(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sketches, "SHARE", 1.0)
    watchers, hand = Previews(store.engine), Hand()
    drawing = Sketches(store.engine, {"id": "v", "attempt": 1})
    drawing.offer(1, hand)
    drawing.offer(1, None)
    assert hand.asked == 0 and watchers.look("v") is None
    drawing.offer(2, hand)
    first = watchers.look("v")
    assert hand.asked == 1 and first is not None and (first.attempt, first.step) == (1, 2)
    assert watchers.look("v", first) is None, "the same preview is not told twice"
    drawing.offer(3, hand)
    later = watchers.look("v", first)
    assert later is not None and later.step == 3
    drawing.close()
    assert not watchers.wanted("v")


def test_watching_ends_by_itself(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    watchers = Previews(store.engine)
    watchers.look("v")
    assert watchers.wanted("v")
    monkeypatch.setattr(previews, "WATCH_SECONDS", -100.0)
    watchers.look("w")
    assert not watchers.wanted("w")
    watchers.look("x")  # what nobody watches any more is cleared away
    watchers.put("w", Preview(1, 1, b"image"))
    monkeypatch.setattr(previews, "WATCH_SECONDS", 6.0)
    assert watchers.look("w") is None


def test_previews_take_at_most_their_share_of_the_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(sketches.time, "monotonic", lambda: clock[0])
    drawing = Sketches(store.engine, {"id": "v", "attempt": 1})
    Previews(store.engine).look("v")
    spent = 0

    def slowly() -> NDArray[np.uint8]:
        nonlocal spent
        clock[0] += 1
        spent += 1
        return STILLS

    for step in range(200):
        clock[0] += 1
        drawing.offer(step, slowly)
    assert 0.09 <= (spent - 1) / clock[0] <= 0.1  # the first one comes at once


def test_a_superseded_attempt_shows_nothing(store: Store) -> None:
    watchers = Previews(store.engine)
    watchers.look("v")
    watchers.put("v", Preview(2, 1, b"new"))
    watchers.put("v", Preview(1, 9, b"old"))
    seen = watchers.look("v")
    assert seen is not None and seen.image == b"new"


def test_a_preview_that_cannot_be_drawn_costs_the_job_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sketches, "SHARE", 1.0)
    drawing, asked = Sketches(store.engine, {"id": "v", "attempt": 1}), []
    Previews(store.engine).look("v")

    def broken() -> NDArray[np.uint8]:
        asked.append(1)
        raise MemoryError

    drawing.offer(1, broken)
    drawing.offer(2, broken)
    assert len(asked) == 1


def test_an_animation_holds_every_still() -> None:
    with Image.open(io.BytesIO(animation(STILLS))) as image:
        assert (image.format, image.size, image.n_frames) == ("WEBP", (80, 48), 3)  # type: ignore[attr-defined]
        assert image.info["loop"] == 0
