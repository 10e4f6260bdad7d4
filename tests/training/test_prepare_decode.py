"""Every frame is seen when its timestamp says, upright and in sRGB, whatever the file claims."""

from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from tests.training.videos import even, number, picture, write_video
from training.data.clips import covering, cropped, fitted, read_clip
from training.data.decode import Unreadable, Video, steady, to_sdr

SAME = {"width": 64, "height": 48}
IRREGULAR = [Fraction(n, 1000) for n in (0, 40, 100, 130, 400, 440, 460, 700, 960, 1000, 1500)]


def same(width: int, height: int) -> tuple[int, int]:
    return width, height


def numbers(path: Path, fps: int, first: int = 0, frames: int | None = None) -> list[int]:
    """Which frames a clip of a file shows."""
    if frames is None:
        with path.open("rb") as file, Video(file) as video:
            return [number(frame) for _, frame in video.seen(Fraction(fps), same)]
    clip = {"uri": f"file://{path}", "origin": "0", "first": first, "frames": frames}
    return [number(frame) for frame in read_clip(clip, Fraction(fps), same)]


def expected(times: list[Fraction], fps: int) -> list[int]:
    """Which frame is seen at every 1/fps of a second; the last lasts as long as the one before."""
    end = 2 * times[-1] - times[-2]
    count = next(k for k in range(10_000) if times[0] + Fraction(k, fps) >= end)
    instants = [times[0] + Fraction(k, fps) for k in range(count)]
    return [max(k for k, time in enumerate(times) if time <= instant) for instant in instants]


@pytest.mark.parametrize("fps", [8, 16, 30])
@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt", "times"),
    [
        ("mp4", "libx264", "yuv420p", even(40, 25)),
        ("mp4", "libx264", "yuv420p", even(40, Fraction(30000, 1001))),
        ("mp4", "libx264", "yuv420p", IRREGULAR),
        ("mov", "mpeg4", "yuv420p", even(30, 12)),
        ("webm", "libvpx-vp9", "yuv420p", even(24, 60)),
        ("gif", "gif", "rgb8", even(20, 10)),
    ],
)
def test_every_grid_point_shows_the_frame_of_its_time(
    suffix: str, codec: str, pix_fmt: str, times: list[Fraction], fps: int, tmp_path: Path
) -> None:
    """Exact, at constant and variable rates; a clip from the middle, too, which seeks."""
    path = write_video(tmp_path / f"a.{suffix}", times, codec=codec, pix_fmt=pix_fmt, g="12")
    if suffix == "webm":  # Matroska's clock has milliseconds
        times = [Fraction(round(1000 * time), 1000) for time in times]
    elif codec == "libx264":
        times = [Fraction(round(90000 * time), 90000) for time in times]
    every = expected(times, fps)
    assert numbers(path, fps) == every
    for first in (1, len(every) // 2, len(every) - 2):
        assert numbers(path, fps, first, 2) == every[first : first + 2]


def test_a_file_that_cannot_be_sought_in_is_read_from_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mp4", even(40, 25))
    sought: list[Fraction] = []

    def refuse(self: Video, start: Fraction) -> bool:
        sought.append(start)
        return False

    monkeypatch.setattr(Video, "_seek", refuse)
    assert numbers(path, 25, 30, 5) == [30, 31, 32, 33, 34] and sought == [Fraction(30, 25)]


@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [
        ("ts", "libx264", {"g": "10"}),
        ("mp4", "libx264", {"x264-params": "keyint=10:open-gop=1:bframes=3:scenecut=0"}),
        ("mp4", "libx265", {"x265-params": "keyint=10:open-gop=1:bframes=3:log-level=none"}),
        ("mkv", "mpeg4", {"g": "10", "bf": "2"}),
    ],
)
def test_every_frame_is_there_from_the_first_and_from_any_other_on(
    suffix: str, codec: str, options: dict[str, str], tmp_path: Path
) -> None:
    """Where seeking is coarse, and where frames lean on those of the group before."""
    times = even(60, 20, Fraction(30))
    path = write_video(tmp_path / f"a.{suffix}", times, (96, 64), codec=codec, **options)
    with path.open("rb") as file, Video(file) as video:
        video.probe()
        seen = [(time, number(frame)) for time, frame in video.seen(Fraction(20), same)]
    assert [shown for _, shown in seen] == list(range(60))
    origin = str(seen[0][0])
    for first in (1, 9, 11, 25, 57):
        clip = {"uri": f"file://{path}", "origin": origin, "first": first, "frames": 3}
        shown = [number(frame) for frame in read_clip(clip, Fraction(20), same)]
        assert shown == [first, first + 1, first + 2]


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_frames_are_upright(rotation: int, tmp_path: Path) -> None:
    """Mean error at most 12 of 255, which is H.264's; turned any other way it is over 40."""
    path = write_video(tmp_path / "a.mp4", even(4, 10), rotation=rotation)
    with path.open("rb") as file, Video(file) as video:
        probe = video.probe()
        _, frame = next(video.seen(Fraction(10), same))
    turned = np.rot90(picture(0, 64, 48, 0), rotation // 90)
    assert (probe.height, probe.width) == turned.shape[:2] == frame.shape[:2]
    assert np.abs(frame.astype(int) - turned).mean() <= 12
    assert np.abs(frame[::-1, ::-1].astype(int) - turned).mean() > 40


def test_pixels_that_are_not_square_are_made_so(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", even(4, 10), aspect="2")  # of a pixel
    with path.open("rb") as file, Video(file) as video:
        probe = video.probe()
    assert (probe.width, probe.height) == (128, 48)


def test_hdr_comes_to_srgb() -> None:
    """Code values of BT.2408's reference white come to white, those of its 18 % grey to grey.

    BT.2408-7, table 1: 203 cd/m² is 58 % of PQ and 75 % of HLG; 26 cd/m² is 38 % of both. In sRGB
    that is 1 and 0.395 (0.128 linear); tolerance 0.03, as the table is rounded to a per cent.
    """
    for transfer, white, grey in (("pq", 0.58, 0.38), ("hlg", 0.75, 0.38)):
        for value, told in ((white, 1.0), (grey, 0.395)):
            signal = np.full((1, 1, 3), value * 65535, np.uint16)
            assert abs(to_sdr(signal, transfer) / 255 - told).max() < 0.03, (transfer, value)


def test_hdr_files_are_told_by_their_tags(tmp_path: Path) -> None:
    for hdr, name in ((16, "pq"), (18, "hlg"), (0, "sdr")):
        path = write_video(tmp_path / f"{name}.mp4", even(4, 10), hdr=hdr)
        with path.open("rb") as file, Video(file) as video:
            assert video.probe().transfer == name
            assert next(video.seen(Fraction(10), same))[1].shape == (48, 64, 3)


@pytest.mark.parametrize(
    "content", [b"", b"not a video", b"\0" * 4096, b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"]
)
def test_what_is_no_video_is_refused_with_a_reason(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with path.open("rb") as file, pytest.raises(Unreadable, match="no video: ."):
        Video(file)


def test_a_truncated_file_gives_its_frames_up_to_the_break(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.webm", even(60, 20), codec="libvpx", g="10")
    cut = tmp_path / "cut.webm"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    every, some = numbers(whole, 20), numbers(cut, 20)
    assert every == list(range(60))
    assert 10 < len(some) < 60 and some == every[: len(some)]


def test_clips_are_fitted_and_cropped_in_the_middle() -> None:
    assert fitted(1920, 1080, 256**2, 16) == (336, 192)
    assert fitted(100, 50, 256**2, 16) == (96, 48), "nothing is enlarged"
    assert fitted(4000, 15, 256**2, 16)[1] == 0, "and what is too thin is no clip"
    assert covering(336, 192)(1920, 1080) == (341, 192)
    frames = np.arange(5 * 6).reshape(1, 5, 6, 1).repeat(3, -1).astype(np.uint8)
    assert cropped(frames, 2, 3)[0, :, :, 0].tolist() == [[8, 9], [14, 15], [20, 21]]


def test_reading_past_the_end_says_that_the_file_has_changed(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", even(10, 10))
    with pytest.raises(Unreadable, match="has the file changed"):
        numbers(path, 10, 5, 9)


def test_steady_is_a_function_of_times_alone() -> None:
    """A gap is filled by the frame before it, and a burst leaves its last frame alone."""
    times = [Fraction(n, 10) for n in (0, 1, 7, 8)]
    frames = [(time, np.full((1, 1, 3), k, np.uint8)) for k, time in enumerate(times)]
    seen = [(time, int(frame[0, 0, 0])) for time, frame in steady(iter(frames), Fraction(5))]
    assert [number for _, number in seen] == [0, 1, 1, 1, 3]  # the end is 0.9 s
    assert [time for time, _ in seen] == [Fraction(k, 5) for k in range(5)]
    assert len(list(islice(steady(iter(frames), Fraction(5), Fraction(2, 5)), 9))) == 3
