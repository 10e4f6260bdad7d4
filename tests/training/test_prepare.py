"""A folder of real files becomes a data set: exactly once or with a reason, and always the same."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.training.videos import even, number, picture, write_video
from training.data.clips import read_clip
from training.data.prepare.__main__ import main, parse_arguments
from training.data.prepare.sources import SourceError
from training.data.prepare.workers import each
from training.files import alone

ROOT = Path(__file__).parents[2]
CLIP = ["--fps", "10", "--frames", "9", "--min-frames", "5", "--area", "64", "--workers", "1"]


def prepare(*arguments: str | Path) -> None:
    """Do what the command does, in this process."""
    options = parse_arguments([str(argument) for argument in arguments])
    with alone(options.output):
        main(options)


def index(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(folder / "index.parquet").to_pylist()
    return rows


def by_name(folder: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in index(folder):
        found.setdefault(row["uri"].split("/")[-1], []).append(row)
    return found


def write_zoo(folder: Path) -> Path:
    """Files of every kind, sound and broken."""
    gaps = [Fraction(n, 1000) for n in (0, 70, 100, 330, 400, 560, 700, 900, 1040, 1200, 1300)]
    write_video(folder / "plain.mp4", even(30, 25), seed=1)
    write_video(folder / "odd.mp4", even(20, 10), (65, 49), pix_fmt="yuv444p", seed=2)
    write_video(folder / "ntsc.mov", even(30, Fraction(30000, 1001)), codec="mpeg4", seed=3,
                sound=True)  # fmt: skip
    write_video(folder / "variable.mp4", gaps, seed=4)
    write_video(folder / "small.webm", even(15, 15), (50, 34), codec="libvpx-vp9", seed=5)
    write_video(folder / "short.gif", even(12, 10), codec="gif", pix_fmt="rgb8", seed=6)
    write_video(folder / "turned.mp4", even(20, 20), rotation=90, seed=7)
    write_video(folder / "pq.mp4", even(20, 20), codec="libx265", pix_fmt="yuv420p10le", hdr=16,
                seed=8, **{"x265-params": "log-level=none"})  # fmt: skip
    write_video(folder / "hlg.mp4", even(20, 20), hdr=18, seed=9)
    write_video(folder / "tiny.mp4", even(20, 20), (12, 12), seed=10)
    write_video(folder / "one.mp4", even(2, 20), seed=11)
    broken = folder / "broken"
    broken.mkdir()
    long = write_video(folder / "long.webm", even(60, 20), codec="libvpx", g="10", seed=12)
    content = long.read_bytes()
    (broken / "truncated.webm").write_bytes(content[: len(content) * 6 // 10])
    lying = bytearray(content)
    place = lying.index(b"\x44\x89\x88") + 3  # Duration, a double: an hour instead of 3 s
    lying[place : place + 8] = np.array([3_600_000], ">f8").tobytes()
    (broken / "lying.webm").write_bytes(bytes(lying))
    whole = (folder / "plain.mp4").read_bytes()
    (broken / "headless.mp4").write_bytes(whole[: len(whole) // 2])
    (broken / "empty.mp4").write_bytes(b"")
    (broken / "text.mp4").write_text("I am no video")
    (broken / "mute.mov").write_bytes(whole[:40])
    (folder / "notes.md").write_text("not looked at")
    (folder / "sub").mkdir()
    shutil.copy(folder / "plain.mp4", folder / "sub" / "copy.mp4")
    return folder


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_zoo(tmp_path_factory.mktemp("zoo"))


@pytest.fixture(scope="module")
def prepared(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared")
    prepare(zoo, "-o", out, *CLIP)
    return out


def test_every_file_comes_out_exactly_once_or_with_a_reason(zoo: Path, prepared: Path) -> None:
    """The pieces of a file follow each other without gap or overlap."""
    rows = by_name(prepared)
    files = [path for path in zoo.rglob("*") if path.is_file() and path.suffix != ".md"]
    assert rows.keys() == {path.name for path in files}
    why = {name: {row["reason"] for row in some} for name, some in rows.items()}
    for name in ("empty.mp4", "text.mp4", "headless.mp4", "mute.mov"):
        (reason,) = why[name]
        assert reason and reason.startswith("no video: "), name
    assert why["one.mp4"] == {"shorter than 5 frames"}
    assert "smaller than 16 pixels" in why["tiny.mp4"] and None not in why["tiny.mp4"]
    assert why["plain.mp4"] <= {None, "shorter than 5 frames"}
    (copied,) = why["copy.mp4"]
    assert copied and copied.startswith("the same file as ")
    good = {"odd.mp4", "ntsc.mov", "variable.mp4", "small.webm", "short.gif", "turned.mp4",
            "pq.mp4", "hlg.mp4", "truncated.webm", "lying.webm"}  # fmt: skip
    assert all(None in why[name] for name in good), {n: why[n] for n in good}
    for name in good:
        places = sorted((row["first"], row["frames"]) for row in rows[name])
        for (first, frames), (following, _) in zip(places, places[1:], strict=False):
            assert first + frames <= following <= first + frames + 3, "at most 3 of 1 + 4k are cut"
    assert len({row["id"] for row in index(prepared) if row["reason"] is None}) == sum(
        row["reason"] is None for row in index(prepared)
    )


def test_what_a_file_says_of_itself_is_told_and_not_believed(prepared: Path) -> None:
    rows = by_name(prepared)
    assert rows["lying.webm"][0]["damage"] == "says 3600.00 s; decoded are 3.00 s"
    assert rows["truncated.webm"][0]["damage"] is not None
    assert rows["plain.mp4"][0]["damage"] is None
    assert [rows[name][0]["transfer"] for name in ("pq.mp4", "hlg.mp4")] == ["pq", "hlg"]
    assert rows["ntsc.mov"][0]["audio"] and not rows["odd.mp4"][0]["audio"]
    turned = rows["turned.mp4"][0]
    assert (turned["width"], turned["height"]) == (48, 64)
    assert (turned["clip_width"], turned["clip_height"]) == (48, 64)
    odd = rows["odd.mp4"][0]
    assert (odd["clip_width"], odd["clip_height"]) == (64, 48)


def test_clips_begin_and_end_when_their_rows_say(prepared: Path) -> None:
    """Frame-exact: the number in each picture is that of the frame of its time."""
    for row in index(prepared):
        if row["reason"] is None and row["uri"].endswith(("odd.mp4", "truncated.webm")):
            frames = read_clip(row, Fraction(10), lambda w, h: (w, h))
            rate = 20 if row["uri"].endswith("webm") else 10
            shown = [number(frame) for frame in frames]
            assert shown == [round(rate * (row["start"] + k / 10)) for k in range(len(frames))]
            assert row["end"] == pytest.approx(row["start"] + row["frames"] / 10)


def test_scenes_are_cut_where_they_change(tmp_path: Path) -> None:
    """Two scenes of 17 and 23 frames; a piece lies in one of them."""

    def draw(k: int, width: int, height: int, seed: int) -> Any:
        return picture(k, width, height, 21 if k < 17 else 22)

    write_video(tmp_path / "in" / "cut.mp4", even(40, 10), (160, 90), draw=draw)
    prepare(tmp_path / "in", "-o", tmp_path / "out", *CLIP)
    rows = index(tmp_path / "out")
    assert sorted(row["first"] for row in rows) == [0, 9, 17, 26, 35]


def test_scores_tell_the_sharp_the_still_the_framed_and_the_repeated(tmp_path: Path) -> None:
    folder = tmp_path / "in"

    def still(k: int, width: int, height: int, seed: int) -> Any:
        return picture(0, width, height, seed)

    def framed(k: int, width: int, height: int, seed: int) -> Any:
        whole = picture(k, width, height, seed)
        whole[: height // 4] = whole[-(height // 4) :] = 0
        return whole

    def blurred(k: int, width: int, height: int, seed: int) -> Any:
        return cv2.GaussianBlur(picture(k, width, height, seed), (0, 0), 4)

    size = (160, 96)
    write_video(folder / "moving.mp4", even(9, 10), size, seed=31)
    write_video(folder / "still.mp4", even(9, 10), size, seed=32, draw=still)
    write_video(folder / "framed.mp4", even(9, 10), size, seed=33, draw=framed)
    write_video(folder / "blurred.mp4", even(9, 10), size, seed=34, draw=blurred)
    write_video(folder / "repeated.webm", even(9, 10), size, codec="libvpx-vp9", seed=31)
    prepare(folder, "-o", tmp_path / "out", *CLIP, "--where", "not duplicate and border < 0.3")
    rows = {name: some[0] for name, some in by_name(tmp_path / "out").items()}
    assert rows["still.mp4"]["motion"] < 0.01 < 0.05 < rows["moving.mp4"]["motion"]
    assert 0.45 <= rows["framed.mp4"]["border"] <= 0.55 and rows["moving.mp4"]["border"] < 0.05
    assert rows["blurred.mp4"]["sharpness"] < rows["moving.mp4"]["sharpness"] / 4
    assert [name for name, row in rows.items() if row["duplicate"]] == ["repeated.webm"]
    assert rows["repeated.webm"]["duplicate_of"] == rows["moving.mp4"]["id"]
    assert rows["repeated.webm"]["group"] == rows["moving.mp4"]["group"]
    assert all(row["reason"] is None for row in rows.values()), "no row is deleted"
    page = (tmp_path / "out" / "report.html").read_text()
    assert "3 clips kept of 5" in page and page.count("data:image/jpeg") == 5


def test_rights_are_data(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for k in range(4):
        write_video(folder / f"{k}.mp4", even(9, 10), seed=40 + k)
    (folder / "0.txt").write_text("a texture drifts\n")
    (folder / "0.json").write_text(json.dumps({"license": "CC0", "consent": "yes", "other": 3}))
    table = tmp_path / "table.csv"
    table.write_text('file,caption,license,source\n1.mp4,"red, green",CC-BY,web\n2.mp4,blue,,web\n')
    digest = subprocess.run(["sha256sum", str(folder / "1.mp4")], capture_output=True, text=True)
    (tmp_path / "opted-out").write_text(digest.stdout.split()[0] + "\n")
    out = tmp_path / "out"
    rights = ["--captions", table, "--require", "license", "--source", "camera"]
    prepare(folder, "-o", out, *CLIP, *rights, "--opt-out", tmp_path / "opted-out")
    rows = {name: some[0] for name, some in by_name(out).items()}
    assert [rows[f"{k}.mp4"]["reason"] for k in range(4)] == [
        None, "opted out: the hash of the file",
        *["no license, which --require asks for"] * 2,
    ]  # fmt: skip
    first = rows["0.mp4"]
    assert first["caption"] == "a texture drifts"
    assert (first["license"], first["consent"]) == ("CC0", "yes")
    assert first["source"] == "camera" and rows["2.mp4"]["source"] == "web"
    assert rows["1.mp4"]["caption"] == "red, green"
    card = (out / "README.md").read_text()
    assert "| CC0 | 1 |" in card and "| no license, which --require asks for | 2 |" in card
    assert "| opted out | 1 |" in card


def test_a_table_tells_files_of_one_name_apart(tmp_path: Path) -> None:
    """By as much of their paths as it says; a name alone is of all that have it."""
    for k, name in enumerate(("a/1.mp4", "b/1.mp4", "c/1.mp4", "c/2.mp4")):
        write_video(tmp_path / "in" / name, even(9, 10), seed=50 + k)
    table = tmp_path / "table.csv"
    table.write_text(f"file,caption\na/1.mp4,one\n{tmp_path}/in/b/1.mp4,two\n1.mp4,any\n")
    prepare(tmp_path / "in", "-o", tmp_path / "out", *CLIP, "--captions", table)
    captions = {row["uri"].split("/in/")[1]: row["caption"] for row in index(tmp_path / "out")}
    assert captions == {"a/1.mp4": "one", "b/1.mp4": "two", "c/1.mp4": "any", "c/2.mp4": ""}


def test_tars_are_read_like_folders(zoo: Path, prepared: Path, tmp_path: Path) -> None:
    """The same clips by id, as WebDataset keeps them, with captions beside the files."""
    (tmp_path / "plain.txt").write_text("from the tar")
    with tarfile.open(tmp_path / "shard-000.tar", "w") as tar:
        for path in (zoo / "plain.mp4", zoo / "small.webm", tmp_path / "plain.txt"):
            tar.add(path, path.name)
    prepare(tmp_path / "shard-*.tar", "-o", tmp_path / "out", *CLIP)
    rows, before = by_name(tmp_path / "out"), by_name(prepared)
    ids = {row["id"] for some in rows.values() for row in some if row["reason"] is None}
    assert ids == {
        row["id"] for name in ("copy.mp4", "plain.mp4", "small.webm") for row in before[name]
        if row["reason"] is None
    }  # fmt: skip
    captions = {row["caption"] for row in index(tmp_path / "out")}
    assert captions == {"from the tar", ""}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "nowhere: no such file or folder"),
        (["docs"], "docs: no video; looked for are files that end in .mp4"),
        (["docs", "--captions", "README.md"], "README.md: "),
        (["docs", "--frames", "8"], "--frames, --min-frames: allowed is 1 more than"),
        (["docs", "--score", "json:nothing"], "--score json:nothing: "),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    arguments: list[str], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises((SourceError, ValueError), match=f"^{sentence}"):
        prepare(*arguments, "-o", tmp_path)


def everything(folder: Path) -> dict[str, bytes]:
    """All that a data set is, but for the work folder and the lock."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.relative_to(folder).parts[0].startswith(".")
    }


def test_killed_and_started_again_it_is_the_same_byte_for_byte(
    zoo: Path, prepared: Path, tmp_path: Path
) -> None:
    """Killed when some files are done, with two processes; then by one."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "training.data.prepare", str(zoo), "-o", str(out), *CLIP]
    command[-1] = "2"
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while len(list(out.glob(".work/scenes-*/*.json"))) < 4:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=60)
    assert not (out / "index.parquet").exists()
    prepare(zoo, "-o", out, *CLIP)
    assert everything(out) == everything(prepared)
    assert {"index.parquet", "report.html", "README.md", "dataset.json"} <= everything(out).keys()


def test_a_crash_costs_one_item() -> None:
    """A decoder that brings its process down takes nothing else with it."""
    items = ["0", "1", "__import__('os')._exit(1)", "3", "4"]
    assert [result for _, result in each(eval, items, workers=2)] == [0, 1, None, 3, 4]


def test_the_index_has_a_type_for_every_column(prepared: Path) -> None:
    schema = pq.read_schema(prepared / "index.parquet")
    assert schema.field("motion").type == pa.float64() and pa.null() not in schema.types
