"""Shots become one request: each is checked by itself, their frames add up, and what the model
cannot do is refused by name; lists are filtered in the database.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.errors import ApiError
from serving.schema import CreateVideo
from serving.service import Service
from serving.storyboard import resolve
from tests.serving.idle import TINY, finish, idle_service, served

PLAIN = TINY | {"name": "plain", "capabilities": ["text"]}


def shots(*given: Any, **fields: Any) -> CreateVideo:
    return CreateVideo.parse({"shots": list(given), **fields})


def test_frames_are_the_sum_and_the_prompt_is_all_prompts() -> None:
    asked = shots({"prompt": "a"}, {"prompt": "b", "seconds": "1.125", "join": "continue"})
    made = resolve(asked, [TINY])  # type: ignore[list-item]
    assert (made.num_frames, made.seconds, made.prompt) == (26, "3.25", "a / b")
    assert made.longest == 17
    assert made.shots == [
        {"prompt": "a", "num_frames": 17, "join": "cut"},
        {"prompt": "b", "num_frames": 9, "join": "continue"},
    ]


REFUSED: list[tuple[dict[str, Any], str, str, str]] = [
    ({"shots": [{"prompt": "a", "join": "continue"}]}, "shots", "invalid_value", "shots[0].join"),
    (
        {"shots": [{"prompt": "a"}, {"prompt": "b", "join": "continue"}], "model": "plain"},
        *("shots", "not_supported", "shots[1].join must be cut for plain"),
    ),
    ({"shots": [{"prompt": "a"}], "seconds": "2.125"}, "seconds", "invalid_value", "left out"),
    ({"shots": [{"prompt": "a"}], "num_frames": 17}, "num_frames", "invalid_value", "left out"),
    (
        {"shots": [{"prompt": "a"}, {"prompt": "b", "seconds": "3"}], "model": "tiny"},
        *("shots", "invalid_value", "shots[1].seconds must be one of 1.125, 2.125 for tiny"),
    ),
]


@pytest.mark.parametrize(("asked", "param", "code", "words"), REFUSED)
def test_what_cannot_be_is_refused_by_name(
    asked: dict[str, Any], param: str, code: str, words: str
) -> None:
    with pytest.raises(ApiError) as refusal:
        resolve(CreateVideo.parse(asked), [TINY, PLAIN])  # type: ignore[list-item]
    assert (refusal.value.param, refusal.value.code) == (param, code)
    assert words in refusal.value.message


@pytest.mark.parametrize(
    "given", [[], [{}], [{"prompt": ""}], "no list", [{"prompt": 1}], [{}] * 21]
)
def test_what_is_no_list_of_shots_is_refused(given: Any) -> None:
    with pytest.raises(ApiError) as refusal:
        CreateVideo.parse({"prompt": "a", "shots": given})
    assert refusal.value.param == "shots" and "list of 1 to 20" in refusal.value.message


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with idle_service(tmp_path_factory.mktemp("idle"), TINY, PLAIN) as service:
        yield service


@pytest.fixture(scope="module")
def api(service: Service) -> Iterator[httpx.Client]:
    with served(service) as api:
        yield api


def test_shots_come_as_json_within_a_form_too(api: httpx.Client) -> None:
    form = {"shots": '[{"prompt": "a"}, {"prompt": "b", "seconds": 1.125}]'}
    video = api.post("/v1/videos", files={n: (None, v) for n, v in form.items()}).json()
    lengths = [(shot["prompt"], shot["seconds"]) for shot in video["shots"]]
    assert lengths == [("a", "2.125"), ("b", "1.125")] and video["num_frames"] == 26


def test_lists_are_filtered_by_words_model_state_and_source(
    api: httpx.Client, service: Service
) -> None:
    source = api.post("/v1/videos", json={"prompt": "50% of_a Snowman"}).json()["id"]
    plain = api.post("/v1/videos", json={"prompt": "a snowman", "model": "plain"}).json()["id"]
    clip = Path(__file__).parent / "npm" / "clip.mp4"
    finish(service, source, clip.read_bytes())
    body = {"prompt": "a thaw", "model": "tiny"}
    remix = api.post(f"/v1/videos/{source}/remix", json={"prompt": body["prompt"]})

    def found(**filters: str) -> list[str]:
        page = api.get("/v1/videos", params=filters)
        assert page.status_code == 200, page.text
        return [video["id"] for video in page.json()["data"]]

    assert found(text="SNOWMAN") == [plain, source]
    assert found(text="50%") == [source] and found(text="5_%") == []
    assert found(text="snow", model="plain") == [plain]
    assert found(text="snow", status="completed,failed") == [source]
    assert found(remixed_from_video_id=source) == ([remix.json()["id"]] if remix.is_success else [])
    for refused in ({"status": "done"}, {"status": "queued,"}, {"text": "x" * 501}):
        assert api.get("/v1/videos", params=refused).status_code == 400


def test_a_loop_needs_a_frame_to_lead_back_to() -> None:
    able = TINY | {"capabilities": ["text", "loop", "first_frame"]}
    with pytest.raises(ApiError, match="loop needs input_reference"):
        resolve(CreateVideo.parse({"prompt": "a", "loop": True}), [able])  # type: ignore[list-item]
