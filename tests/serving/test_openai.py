"""Code written for the hosted Videos API runs unchanged: the real client, a real service."""

import io
from collections.abc import Iterator

import openai
import pytest
from PIL import Image

from tests.serving.conftest import EXAMPLES, Served

# The client calls its own Videos API deprecated, since the hosted one was to be shut down.
pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")


@pytest.fixture(scope="module")
def client(service: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="any") as client:
        yield client


def test_create_and_poll_then_download(client: openai.OpenAI) -> None:
    video = client.videos.create_and_poll(prompt=EXAMPLES[0])
    assert (video.status, video.progress, video.error) == ("completed", 100, None)
    assert (video.model, video.size, video.seconds) == ("tiny", "512x512", "2.125")
    # An MP4 starts with its ftyp box.
    assert client.videos.download_content(video.id).read()[4:8] == b"ftyp"
    thumbnail = client.videos.download_content(video.id, variant="thumbnail").read()
    with Image.open(io.BytesIO(thumbnail)) as image:
        assert image.format == "WEBP"


def test_the_hosted_models_sizes_and_seconds_are_resolved(client: openai.OpenAI) -> None:
    video = client.videos.create_and_poll(
        prompt=EXAMPLES[0], model="sora-2", size="720x1280", seconds="4"
    )
    assert (video.status, video.size, video.seconds) == ("completed", "512x512", "2.125")
    assert video.model_extra and len(video.model_extra["warnings"]) == 2


def test_our_own_fields_go_through_extra_body(client: openai.OpenAI) -> None:
    video = client.videos.create(
        prompt=EXAMPLES[0],
        size="64x64",  # type: ignore[arg-type]
        extra_body={"seed": 11, "num_inference_steps": 1, "guidance_scale": 1.5},
    )
    assert video.size == "64x64" and video.model_extra and video.model_extra["seed"] == 11
    assert client.videos.poll(video.id).status == "completed"


def test_list_retrieve_and_delete(client: openai.OpenAI) -> None:
    made = [
        client.videos.create_and_poll(prompt=prompt, extra_body={"num_inference_steps": 1})
        for prompt in EXAMPLES
    ]
    # A page of one: the client turns pages by itself, for as long as it is told there are more.
    listed = [video.id for video in client.videos.list(limit=1)]
    assert listed[:2] == [made[1].id, made[0].id] and len(set(listed)) == len(listed)
    assert client.videos.retrieve(made[0].id).prompt == EXAMPLES[0]
    assert client.videos.delete(made[0].id).deleted
    with pytest.raises(openai.NotFoundError) as missing:
        client.videos.retrieve(made[0].id)
    assert missing.value.code == "video_not_found" and missing.value.request_id
    assert made[0].id not in [video.id for video in client.videos.list(limit=100)]


def test_a_refusal_is_the_client_s_bad_request_with_code_and_parameter(
    client: openai.OpenAI,
) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        client.videos.create(prompt=EXAMPLES[0], model="tiny", seconds="12")
    assert (refusal.value.code, refusal.value.param) == ("invalid_value", "seconds")
    assert "1.125, 2.125" in refusal.value.message
    for attempt in (
        lambda: client.videos.remix("video_x", prompt="more"),
        lambda: client.videos.extend(prompt="on", seconds="4", video=b"mp4"),
        lambda: client.videos.edit(prompt="other", video=b"mp4"),
    ):
        with pytest.raises(openai.BadRequestError) as refusal:
            attempt()
        assert refusal.value.code == "not_supported"


def test_the_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
