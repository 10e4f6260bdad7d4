"""What is written plays: right container, right colours, right clock, and never half a file."""

import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import imageio.v3 as iio
import numpy as np
import pytest
from numpy.typing import NDArray

import model.video
from model.video import read_video, recording, retime, spritesheet, thumbnail, write_mp4

Pixels = NDArray[np.uint8]
PATCHES = [
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (255, 255, 0),
    (20, 200, 120),
    (128, 128, 128),
    (255, 255, 255),
    (0, 0, 0),
]
COLOUR_TOLERANCE = 4
"""Of 255: 8-bit limited range alone costs up to 2; BT.601 in place of BT.709 costs 39."""


def patches(frames: int = 9) -> Pixels:
    """Four by two flat squares of 24 pixels, `(frames, 48, 96, 3)`."""
    picture = np.array(PATCHES, np.uint8).reshape(2, 4, 3).repeat(24, 0).repeat(24, 1)
    return np.stack([picture] * frames)


def patch_error(frame: NDArray[np.floating] | Pixels, scale: int = 1) -> float:
    """The largest channel error, of 255, in the middles of the squares."""
    side = 24 * scale
    errors = []
    for i, colour in enumerate(PATCHES):
        row, column = divmod(i, 4)
        y, x = row * side + side // 2, column * side + side // 2
        middle = frame[y - 4 : y + 4, x - 4 : x + 4].astype(float).mean((0, 1))
        errors.append(np.abs(middle - colour).max())
    return float(max(errors))


def boxes(data: bytes) -> list[tuple[str, int]]:
    """Top-level MP4 boxes (ISO/IEC 14496-12, §4.2) as (type, offset)."""
    found, offset = [], 0
    while offset < len(data):
        size, kind = struct.unpack(">I4s", data[offset : offset + 8])
        found.append((kind.decode(), offset))
        offset += size
    return found


def bt709_rgb(planes: Pixels, height: int, width: int) -> NDArray[np.floating]:
    """Limited-range Y'CbCr 4:2:0 to RGB by the equations of BT.709-6, written out."""
    luma = (planes[:height].astype(float) - 16) / 219
    chroma = (planes[height:].reshape(2, height // 2, width // 2).astype(float) - 128) / 224
    blue, red = chroma.repeat(2, 1).repeat(2, 2)
    r, b = luma + 1.5748 * red, luma + 1.8556 * blue
    g = (luma - 0.2126 * r - 0.0722 * b) / 0.7152
    return np.asarray(255 * np.stack([r, g, b], -1).clip(0, 1))


def test_mp4_is_what_browsers_play(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_mp4(path, patches(), fps=8)
    with av.open(path) as container:
        assert [stream.type for stream in container.streams] == ["video"]  # and no audio
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt, codec.width, codec.height) == ("h264", "yuv420p", 96, 48)
        tags = (codec.colorspace, codec.color_primaries, codec.color_trc, codec.color_range)
        assert tags == (1, 1, 1, 1)  # BT.709 three times (ITU-T H.273), limited range
    data = path.read_bytes()
    kinds = [kind for kind, _ in boxes(data)]
    assert kinds[0] == "ftyp" and kinds.index("moov") < kinds.index("mdat")
    assert b"colrnclx\x00\x01\x00\x01\x00\x01\x00" in data  # players read the box, not the stream


def test_colours_survive_by_the_bt709_equations(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_mp4(path, patches(), fps=8)
    with av.open(path) as container:
        planes = list(container.decode(video=0))[4].to_ndarray(format="yuv420p")
    assert patch_error(bt709_rgb(planes, 48, 96)) <= COLOUR_TOLERANCE
    assert patch_error(read_video(path)[0][4]) <= COLOUR_TOLERANCE


@pytest.mark.parametrize("fps", [1, 8, 16, 23.976, Fraction(30000, 1001), 240])
def test_every_frame_lasts_as_long(tmp_path: Path, fps: float) -> None:
    path = tmp_path / "clip.mp4"
    write_mp4(path, patches(17), fps)
    with av.open(path) as container:
        stream = container.streams.video[0]
        times = [frame.pts * stream.time_base for frame in container.decode(stream)]
        assert stream.average_rate is not None and float(stream.average_rate) == pytest.approx(fps)
        length = stream.duration * stream.time_base
    assert len(times) == 17 and times[0] == 0
    # The clock of the file ticks at least 10,000 times a second: one tick is the tolerance.
    assert np.diff([float(t) for t in times]) == pytest.approx(1 / float(fps), abs=1e-4)
    assert float(length) == pytest.approx(17 / float(fps), abs=1e-4)


def test_moving_frames_come_back_in_order(tmp_path: Path) -> None:
    frames = np.full((11, 32, 48, 3), 30, np.uint8)
    for i in range(11):
        frames[i, 8:24, 4 * i : 4 * i + 8] = 220
    write_mp4(tmp_path / "clip.mp4", iter(frames), fps=12)  # one by one, as a decoder gives them
    back, fps = read_video(tmp_path / "clip.mp4")
    assert back.shape == frames.shape and back.dtype == np.uint8 and fps == pytest.approx(12)
    assert np.abs(back.astype(int) - frames).mean() < 2  # of 255; a frame off by one costs 16


def test_scale_enlarges_by_lanczos(tmp_path: Path) -> None:
    write_mp4(tmp_path / "big.mp4", patches(3), fps=8, scale=3)
    back, _ = read_video(tmp_path / "big.mp4")
    assert back.shape == (3, 144, 288, 3) and patch_error(back[1], scale=3) <= COLOUR_TOLERANCE
    # Lanczos overshoots beside an edge where nearest and bilinear cannot: here a grey one on white.
    grey = np.full((1, 16, 16, 3), 100, np.uint8)
    grey[:, :, 8:] = 200
    write_mp4(tmp_path / "edge.mp4", grey, fps=8, scale=8)
    assert read_video(tmp_path / "edge.mp4")[0][0, 64].max() >= 205


def test_the_same_frames_are_the_same_bytes_whatever_is_in_memory(tmp_path: Path) -> None:
    """Memory that is read before it is written shows, as glibc fills it with other bytes."""
    code = """if True:
        import hashlib, sys
        from model.video import write_mp4
        import numpy as np
        for width in (64, 144, 208, 360, 384):
            noise = np.random.default_rng(width).integers(0, 256, (12, 12, width // 8, 3))
            frames = noise.astype(np.uint8).repeat(8, axis=1).repeat(8, axis=2)
            frames += np.random.default_rng(1).integers(0, 9, frames.shape).astype(np.uint8)
            write_mp4(sys.argv[1], frames, 8)
            print(width, hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())
        """
    hashes = set()
    for fill in ("0", "1", "77"):
        # Without a threshold large blocks would come from the system, which zeroes them.
        memory = {"MALLOC_PERTURB_": fill, "MALLOC_MMAP_THRESHOLD_": "2000000000"}
        command = [sys.executable, "-c", code, str(tmp_path / "v.mp4")]
        hashes.add(subprocess.check_output(command, env=os.environ | memory, text=True))
    assert len(hashes) == 1, hashes


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"the old one")

    def breaks() -> Iterator[Pixels]:
        yield patches()[0]
        assert path.read_bytes() == b"the old one"  # nothing is written in place
        raise RuntimeError("decoder failed")

    with pytest.raises(RuntimeError, match="decoder failed"):
        write_mp4(path, breaks(), fps=8)
    assert path.read_bytes() == b"the old one" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("frames", "arguments", "message"),
    [
        (np.zeros((0, 8, 8, 3), np.uint8), {}, "frames is empty"),
        (np.zeros((2, 8, 8, 4), np.uint8), {}, r"\(1, 8, 8, 4\); allowed are uint8 of shape"),
        (np.zeros((2, 8, 8, 3), np.float32), {}, "frames are float32"),
        (np.zeros((2, 8, 9, 3), np.uint8), {}, "9x8 pixels; allowed are even sides"),
        (
            [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 6, 3), np.uint8)],
            {},
            "allowed is one shape",
        ),
        (np.zeros((2, 8, 8, 3), np.uint8), {"fps": 0}, "fps is 0; allowed is 1 to 240"),
        (np.zeros((2, 8, 8, 3), np.uint8), {"fps": 1e-4}, "fps is 0.0001; allowed is 1 to 240"),
        (np.zeros((2, 8, 8, 3), np.uint8), {"fps": float("inf")}, "fps is inf; allowed is 1 to"),
        (np.zeros((2, 8, 8, 3), np.uint8), {"fps": float("nan")}, "fps is nan; allowed is 1 to"),
        (np.zeros((2, 8, 8, 3), np.uint8), {"scale": 0}, "scale is 0; allowed are 1, 2, 3"),
    ],
)
def test_bad_frames_are_refused(
    tmp_path: Path, frames: Pixels, arguments: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_mp4(tmp_path / "clip.mp4", frames, **{"fps": 8, **arguments})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"not a video", b"\x00" * 4096])
def test_a_file_that_is_no_video_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "upload.mp4"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read as a video"):
        read_video(path)


def test_thumbnail_is_the_middle_frame(tmp_path: Path) -> None:
    frames = np.stack([np.full((48, 96, 3), 20 * i, np.uint8) for i in range(9)])
    thumbnail(frames, tmp_path / "thumb.webp", scale=8)
    assert (tmp_path / "thumb.webp").read_bytes()[8:12] == b"WEBP"
    picture = iio.imread(tmp_path / "thumb.webp")
    assert picture.shape == (256, 512, 3)  # 8 times would pass 512
    assert np.abs(picture.astype(int) - 80).max() <= 2  # lossy, but flat


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (17, 4), (81, 5)])
def test_spritesheet_spaces_its_frames_evenly(tmp_path: Path, count: int, rows: int) -> None:
    frames = np.stack([np.full((40, 64, 3), 3 * i, np.uint8) for i in range(count)])
    spritesheet(frames, tmp_path / "sheet.jpg")
    assert (tmp_path / "sheet.jpg").read_bytes()[:2] == b"\xff\xd8"
    page = iio.imread(tmp_path / "sheet.jpg")
    assert page.shape == (rows * 40, 5 * 64, 3)
    shown = page.reshape(rows, 40, 5, 64, 3).mean((1, 3, 4)).flatten()[: min(count, 25)] / 3
    expected = np.linspace(0, count - 1, min(count, 25))
    assert np.abs(shown - expected).max() <= 0.9  # rounding to a frame, and JPEG


def test_spritesheet_cells_stay_within_256(tmp_path: Path) -> None:
    spritesheet(np.zeros((5, 480, 832, 3), np.uint8), tmp_path / "sheet.jpg")
    assert iio.imread(tmp_path / "sheet.jpg").shape == (148, 5 * 256, 3)


def test_frames_at_another_rate_are_those_shown_at_each_moment() -> None:
    frames = np.arange(12, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)

    def shown(fps: float, target: float) -> list[int]:
        return [int(frame[0, 0, 0]) for frame in retime(frames, fps, target)]

    assert shown(8, 8) == list(range(12))
    assert shown(24, 8) == [1, 4, 7, 10]  # the middle one of every three
    assert shown(8, 16) == [i // 2 for i in range(24)]
    assert shown(12, 8) == [0, 2, 3, 5, 6, 8, 9, 11]


def test_a_recording_is_the_file_that_writing_at_once_gives(tmp_path: Path) -> None:
    frames = np.concatenate([patches(5), 255 - patches(4)])
    write_mp4(tmp_path / "once.mp4", frames, 8, scale=2)
    with recording(tmp_path / "parts.mp4", 8, scale=2) as sink:
        for part in (frames[:1], frames[1:5], frames[5:]):
            sink(part)
    assert (tmp_path / "parts.mp4").read_bytes() == (tmp_path / "once.mp4").read_bytes()


def test_a_recording_encodes_while_its_frames_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first frame is taken before the second is there."""
    taken, enlarged = threading.Event(), model.video._enlarged

    def noted(frames: Iterator[Pixels], scale: int) -> Iterator[Pixels]:
        for frame in enlarged(frames, scale):
            taken.set()
            yield frame

    monkeypatch.setattr(model.video, "_enlarged", noted)
    with recording(tmp_path / "v.mp4", 8) as sink:
        assert not taken.is_set()
        sink(patches(1))
        assert taken.wait(60)
        sink(patches(4))
    assert len(read_video(tmp_path / "v.mp4")[0]) == 5


def test_a_recording_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="decoder"), recording(tmp_path / "v.mp4", 8) as sink:
        sink(patches(3))
        raise KeyError("decoder")
    with (
        pytest.raises(ValueError, match="allowed are even sides"),
        recording(tmp_path / "v.mp4", 8) as sink,
    ):
        sink(np.zeros((3, 15, 16, 3), np.uint8))
    with pytest.raises(ValueError, match="at least one frame"), recording(tmp_path / "v.mp4", 8):
        pass
    assert list(tmp_path.iterdir()) == []
