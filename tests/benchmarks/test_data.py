"""The benchmark of data measures what it says: the same frames by every way, every stage."""

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from benchmarks.data import (
    RATE,
    ROOT,
    Size,
    caption,
    compare,
    decode_ours,
    decode_plainly,
    decode_streamed,
    decode_with_one_scaler,
    measure,
    write_videos,
)
from training.data.decode import Video

SMALL = Size(
    files=3, frames=36, side=64, captions=12, together=4, clips=2, latents=(3, 4, 6, 8), repeats=1
)


def test_every_way_decodes_every_frame(tmp_path: Path) -> None:
    paths = write_videos(tmp_path / "videos", SMALL)
    assert decode_ours(paths) == decode_plainly(paths) == decode_streamed(paths) == 3 * 36
    assert decode_with_one_scaler(paths) == 3 * 36


def test_ours_are_the_frames_of_the_plain_loop_bit_by_bit(tmp_path: Path) -> None:
    (path, *_) = write_videos(tmp_path / "videos", SMALL)
    with av.open(str(path)) as container:
        plain = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with path.open("rb") as file, Video(file) as video:
        ours = [frame for _, frame in video.seen(Fraction(RATE), lambda w, h: (w, h))]
    assert np.array_equal(ours, plain)


def test_rates_are_medians_after_a_round_that_does_not_count() -> None:
    counts = {"ours": 0, "plain": 0}

    def work(name: str) -> float:
        counts[name] += 1
        return 1.0

    found = compare({name: lambda name=name: work(name) for name in counts}, 3)  # type: ignore[misc]
    assert counts == {"ours": 4, "plain": 4} and min(found.values()) > 0


def test_no_two_captions_are_the_same_and_all_are_known_words() -> None:
    captions = {caption(k) for k in range(Size().captions)}
    assert len(captions) == Size().captions
    tokenizer = json.loads((ROOT / "model/pretrained/tokenizer/tokenizer.json").read_text())
    assert {word for text in captions for word in text.split()} <= tokenizer["model"][
        "vocab"
    ].keys()


def test_there_is_a_row_for_every_stage() -> None:
    rows = {row["stage"]: row for row in measure(SMALL)}
    assert rows.keys() == {"decode", "inspect", "encode", "embed", "read"}
    assert rows["embed"]["unit"] == "captions/s"
    ways = {"ours", "plain", "one_scaler", "streamed", "ratio", "cpu_ratio"}
    assert ways <= rows["decode"].keys()
    assert all(row["ours"] > 0 for row in rows.values())
