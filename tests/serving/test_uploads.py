"""What comes with a request: looked into by content, kept whole, and gone with its video."""

import base64
import io
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
from PIL import Image

from serving import uploads
from serving.schema import ListVideos
from serving.service import Service
from tests.serving.idle import finish, idle_service, served

CLIP = (Path(__file__).parent / "npm" / "clip.mp4").read_bytes()
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with idle_service(tmp_path_factory.mktemp("idle")) as service:
        yield service


@pytest.fixture(scope="module")
def api(service: Service) -> Iterator[httpx.Client]:
    with served(service) as api:
        yield api


def picture(format: str, size: tuple[int, int] = (40, 30), **options: Any) -> bytes:
    """Red on the left, blue on the right."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[:, : size[0] // 2] = (255, 0, 0)
    pixels[:, size[0] // 2 :] = (0, 0, 255)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, **options)
    return file.getvalue()


def video(
    format: str, codec: str, frames: int = 9, side: int = 64, rate: int = 8, **options: str
) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=format, options=options) as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.width = stream.height = side
        for value in range(frames):
            frame = np.full((side, side, 3), value * 20 % 256, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode())
    return file.getvalue()


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def create(api: httpx.Client, **body: Any) -> httpx.Response:
    return api.post("/v1/videos", **body)


def edit(api: httpx.Client, data: bytes, **fields: str) -> httpx.Response:
    files = {"video": ("clip.bin", data, "application/octet-stream")}
    return api.post("/v1/videos/edits", files=files, data={"prompt": "a cat", **fields})


PNG = picture("PNG")
SPELLINGS: dict[str, dict[str, Any]] = {
    "file": {"files": {"input_reference": ("a.png", PNG)}, "data": {"prompt": "a cat"}},
    "json": {"json": {"prompt": "a cat", "input_reference": {"image_url": data_url(PNG)}}},
    "brackets": {"data": {"prompt": "a cat", "input_reference[image_url]": data_url(PNG)}},
    "json in a form": {
        "data": {"prompt": "a cat", "input_reference": json.dumps({"image_url": data_url(PNG)})}
    },
}


@pytest.mark.parametrize("body", SPELLINGS.values(), ids=SPELLINGS)
def test_an_image_is_kept_however_it_is_sent_and_goes_with_its_video(
    api: httpx.Client, service: Service, body: dict[str, Any]
) -> None:
    response = create(api, **body)
    assert response.status_code == 200, response.text
    made = response.json()["id"]
    row = service.store.get(made)
    assert row is not None and row["inputs"] == {"image": "first_frame.png"}
    folder = service.files.inputs(made)
    assert [path.name for path in folder.iterdir()] == ["first_frame.png"]
    with Image.open(folder / "first_frame.png") as kept:
        assert (kept.mode, kept.size) == ("RGB", (40, 30))
        assert (kept.getpixel((5, 5)), kept.getpixel((35, 5))) == ((255, 0, 0), (0, 0, 255))
    assert api.delete(f"/v1/videos/{made}").is_success
    assert not folder.parent.exists()


def test_a_photo_is_turned_upright(api: httpx.Client, service: Service) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # EXIF 2.3, table 4: the camera was held so that a quarter turn is needed
    photo = picture("JPEG", exif=turned, quality=95)
    made = create(api, files={"input_reference": photo}, data={"prompt": "a cat"}).json()["id"]
    with Image.open(service.files.inputs(made) / "first_frame.png") as kept:
        assert kept.size == (30, 40)
        red, _, blue = kept.getpixel((15, 5))  # type: ignore[misc]
        assert red > 200 > 50 > blue


VIDEOS: dict[str, tuple[Callable[[], bytes], str]] = {
    "mp4": (lambda: video("mp4", "libx264"), "source.mp4"),
    "fragmented": (
        lambda: video("mp4", "libx264", movflags="empty_moov+frag_keyframe"),
        "source.mp4",
    ),
    "webm": (lambda: video("webm", "libvpx"), "source.webm"),
}


@pytest.mark.parametrize(("make", "name"), VIDEOS.values(), ids=VIDEOS)
def test_a_video_is_kept_byte_for_byte_and_its_shape_is_taken_over(
    api: httpx.Client, service: Service, make: Callable[[], bytes], name: str
) -> None:
    data = make()
    response = edit(api, data)
    assert response.status_code == 200, response.text
    made = response.json()
    assert (service.files.inputs(made["id"]) / name).read_bytes() == data
    # 64x64 and 9 frames at 8 a second are what the model makes; so the file has just these.
    assert (made["size"], made["num_frames"], made["warnings"]) == ("64x64", 9, [])
    row = service.store.get(made["id"])
    assert row is not None and row["inputs"] == {"video": name}
    assert row["resolved"]["strength"] == 0.8


def test_what_is_asked_of_an_edit_goes_before_the_shape_of_its_source(api: httpx.Client) -> None:
    made = edit(api, CLIP, size="512x512", num_frames="9", strength="0.5").json()
    assert (made["size"], made["num_frames"]) == ("512x512", 9)
    longer = edit(api, video("mp4", "libx264", frames=9), num_frames="17")
    assert longer.status_code == 400 and longer.json()["error"]["param"] == "video"
    assert "2.125 s or longer" in longer.json()["error"]["message"]


def test_a_source_of_another_shape_is_fitted_and_that_is_told(api: httpx.Client) -> None:
    made = edit(api, video("mp4", "libx264", frames=40, side=96)).json()
    assert (made["size"], made["num_frames"]) == ("512x512", 17)
    assert [warning.split(":")[0] for warning in made["warnings"]] == ["size"]


def bomb() -> bytes:
    """A PNG of 400 megapixels in half a megabyte."""
    file = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(file, "PNG")
    return file.getvalue()


IMAGES: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "text": (lambda: b"a cat", "invalid_image", "PNG, JPEG or WebP"),
    "nothing": (lambda: b"", "invalid_image", "PNG, JPEG or WebP"),
    "half": (lambda: picture("PNG", (64, 64))[:100], "invalid_image", "PNG, JPEG or WebP"),
    "gif": (lambda: picture("GIF"), "invalid_image", "PNG, JPEG or WebP"),
    "pixels": (lambda: picture("PNG", (4097, 4096)), "file_too_large", "16777216 pixels"),
    "bomb": (bomb, "invalid_image", "decompression bomb"),
    "bytes": (lambda: bytes((20 << 20) + 1), "file_too_large", "20971520 bytes"),
}


@pytest.mark.parametrize(("make", "code", "words"), IMAGES.values(), ids=IMAGES)
def test_what_is_no_image_or_too_large_is_refused(
    api: httpx.Client, service: Service, make: Callable[[], bytes], code: str, words: str
) -> None:
    before = set(service.files.inputs("x").parents[1].glob("*"))
    response = create(api, files={"input_reference": make()}, data={"prompt": "a cat"})
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (400, "input_reference", code)
    assert words in error["message"]
    assert set(service.files.inputs("x").parents[1].glob("*")) == before


@pytest.mark.parametrize(
    "url", ["data:image/png;base64,$", "data:text/plain,x", "data:image/png,x"]
)
def test_a_data_url_that_is_none_is_refused(api: httpx.Client, url: str) -> None:
    response = create(api, json={"prompt": "a cat", "input_reference": {"image_url": url}})
    error = response.json()["error"]
    assert (error["param"], error["code"]) == ("input_reference", "invalid_value")
    assert "data:image/png;base64,..." in error["message"]


def huge_frames() -> bytes:
    """A few frames, of more pixels than an image may have."""
    return video("mp4", "libx264", frames=1, side=4098)


BAD_VIDEOS: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "text": (lambda: b"a cat", "invalid_video", "MP4 or WebM"),
    "a list of other files": (
        lambda: b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        "invalid_video",
        "MP4 or WebM",
    ),
    "half a head": (lambda: CLIP[:300], "invalid_video", "decoded"),
    "no frames": (lambda: CLIP[:8] + bytes(500), "invalid_video", "decoded"),
    "pixels": (huge_frames, "file_too_large", "16777216 pixels"),
    "frames": (lambda: video("mp4", "libx264", 2001, side=16), "file_too_large", "2000 frames"),
    "too short": (lambda: video("mp4", "libx264", 5), "invalid_value", "1.125 s or longer"),
}


@pytest.mark.parametrize(("make", "code", "words"), BAD_VIDEOS.values(), ids=BAD_VIDEOS)
def test_what_is_no_video_or_too_large_is_refused(
    api: httpx.Client, make: Callable[[], bytes], code: str, words: str
) -> None:
    response = edit(api, make())
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (400, "video", code)
    assert words in error["message"]


def test_a_large_file_is_refused_by_its_size_before_it_is_read(
    api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "LARGEST_VIDEO", 2000)
    response = edit(api, CLIP)
    assert response.json()["error"]["code"] == "file_too_large"
    head = b"POST /v1/videos/edits HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000000\r\n"
    with socket.create_connection((api.base_url.host, api.base_url.port)) as connection:
        connection.sendall(head + b"content-type: multipart/form-data; boundary=b\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_the_same_file_under_one_key_is_the_same_request_and_another_is_not(
    api: httpx.Client, service: Service
) -> None:
    def send(data: bytes) -> httpx.Response:
        files = {"video": ("clip.mp4", data)}
        headers = {"idempotency-key": "edit-1"}
        form = {"prompt": "a cat"}
        return api.post("/v1/videos/edits", files=files, data=form, headers=headers)

    first, again, other = send(CLIP), send(CLIP), send(video("mp4", "libx264"))
    assert first.json()["id"] == again.json()["id"]
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    folders = {path.name for path in service.files.inputs("x").parents[1].iterdir()}
    assert folders <= {video.id for video in service.page(ListVideos(limit=100)).data}


def test_a_remix_outlives_its_source(api: httpx.Client, service: Service) -> None:
    source = create(api, json={"prompt": "a cat", "size": "64x64", "guidance_scale": 3}).json()[
        "id"
    ]
    finish(service, source, CLIP)
    remix = api.post(f"/v1/videos/{source}/remix", json={"prompt": "a dog"}).json()
    assert (remix["remixed_from_video_id"], remix["size"], remix["num_frames"]) == (
        *(source, "64x64", 17),
    )
    row = service.store.get(remix["id"])
    assert row is not None and row["resolved"]["guidance_scale"] == 3
    assert api.delete(f"/v1/videos/{source}").is_success
    assert (service.files.inputs(remix["id"]) / "source.mp4").read_bytes() == CLIP


def test_a_full_disk_is_told_and_leaves_nothing(
    api: httpx.Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: uploads.Input, folder: Path) -> None:
        folder.mkdir(parents=True)
        raise OSError(28, "No space left on device")

    before = set(service.files.inputs("x").parents[1].iterdir())
    monkeypatch.setattr(uploads.Input, "keep", full)
    response = edit(api, CLIP)
    assert (response.status_code, response.json()["error"]["code"]) == (507, "storage_full")
    assert response.headers["retry-after"] == "60"
    assert set(service.files.inputs("x").parents[1].iterdir()) == before


def test_no_file_is_stored_for_one_who_has_too_many_jobs_queued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with idle_service(tmp_path, most_queued=1) as service, served(service) as api:
        assert create(api, json={"prompt": "a cat"}).status_code == 200
        stored: list[Path] = []
        monkeypatch.setattr(uploads.Input, "keep", lambda self, folder: stored.append(folder))
        for refusal in (edit(api, CLIP), create(api, **SPELLINGS["file"])):
            assert refusal.status_code == 429 and "retry-after" in refusal.headers
            assert refusal.json()["error"]["code"] == "queue_full"
        assert stored == [] and not list(tmp_path.glob("videos/*"))
