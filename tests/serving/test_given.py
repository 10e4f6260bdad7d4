"""`kinetograph generate` from images and videos: every option reaches the request."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.pipeline import GenerationRequest, VideoPipeline
from model.video import read_video, write_mp4
from serving.cli import main
from tests.serving.conftest import EXAMPLES


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of one colour each, a mask whose left half is white, and videos 8 and 16 a second.

    `half.mp4` is white on the left, too, and `short.mp4` has 11 frames.
    """
    folder = tmp_path_factory.mktemp("files")
    for name, colour in (("red", (200, 0, 0)), ("green", (0, 200, 0))):
        Image.new("RGB", (40, 30), colour).save(folder / f"{name}.png")
    half = np.zeros((64, 64), np.uint8)
    half[:, :32] = 255
    Image.fromarray(half).save(folder / "half.png")
    frames = np.arange(36, dtype=np.uint8)[:, None, None, None] * np.ones((64, 64, 3), np.uint8) * 6
    write_mp4(folder / "short.mp4", frames[:11], 8)
    write_mp4(folder / "long.mp4", frames, 16)
    write_mp4(folder / "half.mp4", np.repeat(half[None, :, :, None], 3, axis=3).repeat(17, 0), 8)
    (folder / "text.png").write_text("not an image")
    return folder


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[GenerationRequest]]:
    """The requests that reach a pipeline."""
    seen: list[GenerationRequest] = []
    generate = VideoPipeline.generate

    def noted(self: VideoPipeline, request: GenerationRequest, **options: Any) -> Any:
        seen.append(request)
        return generate(self, request, **options)

    monkeypatch.setattr(VideoPipeline, "generate", noted)
    yield seen


def colour(image: Image.Image | None) -> tuple[int, ...]:
    assert image is not None
    return np.asarray(image)[0, 0].tolist()


def run(model: Path, out: Path, files: Path, *options: str) -> int:
    named = [o.replace("@", f"{files}/") for o in options]
    common = ["--model", model, "-o", out, "--size", "64x64", "--seed", "3"]
    common += ["--steps", "1", "--guidance", "1"]
    return main(["generate", EXAMPLES[0], *map(str, common), *named])


def test_every_option_reaches_the_request(
    able: Path, files: Path, tmp_path: Path, requests: list[GenerationRequest]
) -> None:
    out = tmp_path / "out.mp4"
    assert run(able, out, files, "--first-frame", "@red.png", "--last-frame", "@green.png") == 0
    assert colour(requests[-1].image) == [200, 0, 0]
    assert colour(requests[-1].last_image) == [0, 200, 0]
    assert run(able, out, files, "--keyframe", "4=@red.png", "--keyframe", "9=@green.png") == 0
    assert {n: colour(i) for n, i in requests[-1].keyframes.items()} == {
        4: [200, 0, 0],
        9: [0, 200, 0],
    }
    assert run(able, out, files, "--first-frame", "@red.png", "--loop") == 0
    assert requests[-1].loop and len(read_video(out)[0]) == 16
    assert run(able, out, files, "--video", "@long.mp4", "--strength", "0.5") == 0
    video = requests[-1].video
    assert video is not None and len(video) == 18, "16 frames a second are brought to 8"
    assert requests[-1].strength == 0.5 and requests[-1].mask is None
    for mask in ("half.png", "half.mp4"):
        assert run(able, out, files, "--first-frame", "@red.png", "--mask", f"@{mask}") == 0
        drawn = requests[-1].mask
        assert drawn is not None and drawn.shape[-2:] == (64, 64)
        assert (drawn[..., 8:24] >= 128).all() and (drawn[..., 40:] < 128).all()


@pytest.mark.parametrize(
    ("options", "frames", "at"),
    [
        (["--extend", "@short.mp4"], 11 + 17 - 5, 0),
        (["--extend", "@short.mp4", "--extend-backward"], 12 + 11, 12),
        (["--extend", "@short.mp4", "--loop"], 11 + 7, 0),
        (["--join", "@short.mp4", "@short.mp4"], 11 + 7 + 11, 18),
    ],
)
def test_a_file_holds_the_video_it_goes_on_from(
    able: Path, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    options: list[str], frames: int, at: int,
) -> None:  # fmt: skip
    """Compared as grey levels, 6 apart from frame to frame; the codec moves them by 2 at most."""
    out = tmp_path / "out.mp4"
    assert run(able, out, files, *options) == 0
    made, given = read_video(out)[0], read_video(files / "short.mp4")[0]
    assert len(made) == frames and f"{frames / 8} s, seed 3" in capsys.readouterr().out
    levels = (made[at : at + 11].mean((1, 2, 3)), given.mean((1, 2, 3)))
    assert np.abs(levels[0] - levels[1]).max() <= 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--first-frame", "@none.png"], "none.png cannot be read: No such file"),
        (["--first-frame", "@text.png"], "text.png cannot be read as an image."),
        (["--extend", "@red.txt"], "red.txt cannot be read as a video"),
        (["--mask", "@text.png", "--first-frame", "@red.png"], "text.png cannot be read as a"),
        (["--extend-backward"], "--extend-backward needs the video that --extend names."),
        (["--extend", "@short.mp4", "--join", "@a.mp4", "@b.mp4"], "--extend and --join both say"),
        (["--loop"], "loop is True; allowed: none without an image or a prefix"),
        (["--keyframe", "17=@red.png"], "keyframes is 17; allowed: frames from 0 to 16."),
        (["--strength", "0.5"], "strength is 0.5; allowed: none without a video"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(
    able: Path, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    options: list[str], words: str,
) -> None:  # fmt: skip
    out = tmp_path / "out.mp4"
    assert run(able, out, files, *options) == 1
    told = capsys.readouterr().err
    assert told.startswith("kinetograph: ") and words in told and told.count("\n") == 1
    assert told.endswith(".\n") and not out.exists()


def test_a_keyframe_without_its_number_is_a_wrong_option(
    able: Path, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(able, tmp_path / "out.mp4", files, "--keyframe", "@red.png")
    assert "is not N=FILE, such as 8=cat.png" in capsys.readouterr().err


def test_a_model_that_was_not_trained_for_it_says_so(
    checkpoint: Path, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(checkpoint, tmp_path / "out.mp4", files, "--extend", "@short.mp4") == 1
    assert "prefix is 'given'; allowed: none, since tiny can do text" in capsys.readouterr().err
