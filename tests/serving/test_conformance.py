"""Code written for the hosted Videos API runs unchanged: every method of the real openai client,
sync and async, and requests of the npm client as it sent them, against a running API and worker.
"""

import asyncio
import inspect
import io
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from model.video import read_video
from tests.serving.boxes import unsigned
from tests.serving.conftest import EXAMPLES, Served

# The client calls its own Videos API deprecated, since the hosted one was to be shut down.
pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")
NPM = Path(__file__).parent / "npm"
CLIP = NPM / "clip.mp4"
ZEROS = b"video_00000000000000000000000000000000"
QUICK = {"size": "64x64", "num_inference_steps": 1}


class Blocking:
    """The async client's videos, called as one calls the sync client's."""

    def __init__(self, client: openai.AsyncOpenAI, loop: asyncio.AbstractEventLoop) -> None:
        self._videos, self._loop = client.videos, loop

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._videos, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            outcome = method(*args, **kwargs)
            if name == "list":
                return iter(self._loop.run_until_complete(_all(outcome)))
            return self._loop.run_until_complete(outcome)

        return call


async def _all(pages: Any) -> list[Any]:
    return [item async for item in pages]


@pytest.fixture(scope="module", params=["sync", "async"])
def videos(service: Served, request: pytest.FixtureRequest) -> Iterator[Any]:
    """`client.videos`, of either client."""
    url = f"{service.url}/v1"
    if request.param == "sync":
        with openai.OpenAI(base_url=url, api_key="any") as client:
            yield client.videos
        return
    with asyncio.Runner() as runner:
        asynchronous = openai.AsyncOpenAI(base_url=url, api_key="any")
        yield Blocking(asynchronous, runner.get_loop())
        runner.run(asynchronous.close())


TESTED = {
    *("create", "create_and_poll", "poll", "retrieve", "list", "delete", "download_content"),
    *("remix", "edit", "extend", "create_character", "get_character"),
}


@pytest.mark.parametrize("kind", [openai.resources.Videos, openai.resources.AsyncVideos])
def test_no_method_of_the_client_is_left_out(kind: type) -> None:
    methods = {name for name, _ in inspect.getmembers(kind, inspect.isfunction)}
    assert {name for name in methods if not name.startswith("_")} == TESTED


def test_create_and_poll_then_download(videos: Any) -> None:
    video = videos.create_and_poll(prompt=EXAMPLES[0])
    assert (video.status, video.progress, video.error) == ("completed", 100, None)
    assert (video.model, video.size, video.seconds) == ("tiny", "512x512", "2.125")
    # An MP4 starts with its ftyp box.
    assert videos.download_content(video.id).read()[4:8] == b"ftyp"
    for variant, format in ("thumbnail", "WEBP"), ("spritesheet", "JPEG"):
        data = videos.download_content(video.id, variant=variant).read()
        with Image.open(io.BytesIO(data)) as image:
            assert image.format == format


def test_the_hosted_models_sizes_and_seconds_are_resolved(videos: Any) -> None:
    video = videos.create(prompt=EXAMPLES[0], model="sora-2", size="720x1280", seconds="4")
    assert (video.size, video.seconds) == ("512x512", "2.125")
    assert len(video.model_extra["warnings"]) == 2
    assert videos.poll(video.id).status == "completed"


def test_our_own_fields_go_through_extra_body(videos: Any) -> None:
    extras = {"seed": 11, "num_inference_steps": 1, "guidance_scale": 1.5, "priority": "high"}
    video = videos.create(prompt=EXAMPLES[0], size="64x64", extra_body=extras)
    assert video.size == "64x64" and video.model_extra["seed"] == 11
    assert videos.poll(video.id).status == "completed"


def test_list_retrieve_and_delete(videos: Any) -> None:
    made = [videos.create_and_poll(prompt=prompt, extra_body=QUICK) for prompt in EXAMPLES]
    # A page of one: the client turns pages by itself, for as long as it is told there are more.
    listed = [video.id for video in videos.list(limit=1)]
    assert listed[:2] == [made[1].id, made[0].id] and len(set(listed)) == len(listed)
    assert videos.retrieve(made[0].id).prompt == EXAMPLES[0]
    assert videos.delete(made[0].id).deleted
    with pytest.raises(openai.NotFoundError) as missing:
        videos.retrieve(made[0].id)
    assert missing.value.code == "video_not_found" and missing.value.request_id
    assert made[0].id not in [video.id for video in videos.list(limit=100)]


def test_remix_and_edit_start_from_a_video(service: Served, videos: Any, tmp_path: Path) -> None:
    source = videos.create_and_poll(prompt=EXAMPLES[0], extra_body=QUICK)
    gentle = {"seed": 1, "strength": 0.5, "num_inference_steps": 2}
    remix = videos.remix(source.id, prompt=EXAMPLES[1], extra_body=gentle)
    # The client itself raises on an id in place of a file, as the npm client does not.
    edit = {"prompt": EXAMPLES[1], "video": {"id": source.id}, **gentle}
    again = videos.retrieve(service.api.post("/v1/videos/edits", json=edit).json()["id"])
    upload = videos.edit(prompt=EXAMPLES[1], video=CLIP, extra_body=gentle)
    assert remix.remixed_from_video_id == again.remixed_from_video_id == source.id
    assert upload.remixed_from_video_id is None
    files = []
    for video in (remix, again, upload):
        assert videos.poll(video.id).status == "completed"
        assert (video.size, video.num_frames) == ("64x64", 17)
        files.append(videos.download_content(video.id).read())
    # Prompt, seed and steps are the same in all: only what they start from makes them differ.
    plain = [unsigned(file) for file in files]
    assert plain[0] == plain[1] != plain[2]
    (tmp_path / "v.mp4").write_bytes(files[2])
    assert read_video(tmp_path / "v.mp4")[0].shape == (17, 64, 64, 3)
    for video in (source, remix, again, upload):
        videos.delete(video.id)
        assert not (service.data / "videos" / video.id).exists()


def test_what_no_model_can_do_is_refused_and_not_tried_again(videos: Any) -> None:
    for attempt in (
        lambda: videos.extend(prompt="on", seconds="4", video=CLIP),
        lambda: videos.create_character(name="Mia", video=CLIP),
        lambda: videos.get_character("char_1"),
        lambda: videos.create(prompt="a cat", input_reference=NPM / "frame.png"),
    ):
        with pytest.raises(openai.BadRequestError) as refusal:
            attempt()
        assert refusal.value.code == "not_supported"
        assert refusal.value.response.headers["x-should-retry"] == "false"


def test_a_refusal_is_the_client_s_bad_request_with_code_and_parameter(videos: Any) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        videos.create(prompt=EXAMPLES[0], model="tiny", seconds="12")
    assert (refusal.value.code, refusal.value.param) == ("invalid_value", "seconds")
    assert "1.125, 2.125" in refusal.value.message


def test_the_models_are_listed(service: Served) -> None:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="any") as client:
        assert [model.id for model in client.models.list()] == ["tiny"]
        assert client.models.retrieve("sora-2").id == "tiny"


def replay(service: Served, name: str, video_id: str) -> httpx.Response:
    """Send a captured request as it was sent, but for the id of the video."""
    data = (NPM / f"{name}.http").read_bytes()
    assert len(video_id) == len(ZEROS)  # else content-length would be wrong
    with socket.create_connection((service.api.base_url.host, service.api.base_url.port)) as wire:
        wire.settimeout(30)
        wire.sendall(data.replace(ZEROS, video_id.encode()))
        answer = b""
        while piece := wire.recv(1 << 16):
            answer += piece
            head, _, body = answer.partition(b"\r\n\r\n")
            lines = head.decode().split("\r\n")[1:]
            headers = dict(line.lower().split(": ", 1) for line in lines)
            if len(body) == int(headers.get("content-length", -1)):
                break
    return httpx.Response(int(head.split()[1]), headers=headers, content=body)


def test_requests_of_the_npm_client_are_answered(service: Served) -> None:
    source = service.create(EXAMPLES[0], **QUICK)["id"]
    service.finish(source)
    made = {}
    for name, expected in [
        ("create", {"prompt": EXAMPLES[0], "size": "512x512"}),
        ("create_options", {"prompt": "一只红球弹起 café", "size": "512x512", "seconds": "2.125"}),
        ("create_extras", {"seed": 11, "size": "64x64"}),
        ("create_idempotent", {"size": "64x64"}),
        ("remix", {"remixed_from_video_id": source, "size": "64x64"}),
        ("edit_made", {"remixed_from_video_id": source, "size": "64x64"}),
        ("edit_upload", {"remixed_from_video_id": None, "size": "64x64", "num_frames": 17}),
    ]:
        response = replay(service, name, source)
        assert response.status_code == 200, (name, response.text)
        made[name] = response.json()
        assert {key: made[name][key] for key in expected} == expected, name
    assert (
        replay(service, "create_idempotent", source).json()["id"]
        == (made["create_idempotent"]["id"])
    )
    for name in ("create_image", "create_image_url", "create_file_id"):
        error = replay(service, name, source).json()["error"]
        assert (error["code"], error["param"]) == ("not_supported", "input_reference"), name
    for name in ("extend", "create_character", "get_character"):
        response = replay(service, name, source)
        assert (response.status_code, response.headers["x-should-retry"]) == (400, "false"), name
    assert all(service.finish(video["id"])["status"] == "completed" for video in made.values())
    assert replay(service, "retrieve", source).json()["status"] == "completed"
    page = replay(service, "list", source).json()
    assert (len(page["data"]), page["has_more"]) == (2, True)
    assert page["data"][0]["created_at"] <= page["data"][1]["created_at"]
    assert replay(service, "content", source).content[4:8] == b"ftyp"
    assert replay(service, "thumbnail", source).headers["content-type"] == "image/webp"
    assert replay(service, "models", source).json()["data"][0]["id"] == "tiny"
    assert replay(service, "delete", source).json()["deleted"]


def test_every_captured_request_is_replayed() -> None:
    source = Path(__file__).read_text()
    assert all(f'"{path.stem}"' in source for path in NPM.glob("*.http"))
