"""What a worker draws of an unfinished video: little, seldom, and only for those who watch."""

import io
import logging
import time
from collections.abc import Callable

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from PIL import Image

from serving.database import UNAVAILABLE
from serving.previews import Preview, Previews
from serving.tables import Row

SHARE = 0.1
"""Of a job's time, what its previews may take at most."""
STILL_MILLISECONDS = 400

log = logging.getLogger("kinetograph.worker")


class Sketches:
    """The previews of one attempt at a job."""

    def __init__(self, engine: sa.Engine, row: Row) -> None:
        self._previews = Previews(engine)
        self._video_id, self._attempt = row["id"], row["attempt"]
        self._next = 0.0
        self._drawn = self._failed = False

    def offer(self, step: int, draw: Callable[[], NDArray[np.uint8]] | None) -> None:
        """Have `draw` give stills `(n, H, W, 3)`, if somebody watches and it is time.

        Nothing that goes wrong here is worth losing the video for.
        """
        if draw is None or self._failed or time.monotonic() < self._next:
            return
        begun = time.monotonic()
        try:
            if not self._previews.wanted(self._video_id):
                return
            image = animation(draw())
            self._drawn = True
            self._previews.put(self._video_id, Preview(self._attempt, step, image))
        except UNAVAILABLE:
            pass
        except Exception as error:
            self._failed = True
            log.warning("%s is drawn without previews: %s", self._video_id, type(error).__name__)
        ended = time.monotonic()
        self._next = ended + (ended - begun) * (1 / SHARE - 1)

    def close(self) -> None:
        """Leave nothing of them behind."""
        if self._drawn:
            try:
                self._previews.drop(self._video_id)
            except UNAVAILABLE:
                log.warning("the preview of %s is left for a while", self._video_id)


def animation(stills: NDArray[np.uint8]) -> bytes:
    """Pictures `(n, H, W, 3)` as an animated WebP that begins again and again."""
    first, *others = [Image.fromarray(still) for still in stills]
    file = io.BytesIO()
    first.save(
        file,
        "WEBP",
        save_all=True,
        append_images=others,
        duration=STILL_MILLISECONDS,
        loop=0,
        quality=75,
        method=2,
    )
    return file.getvalue()
