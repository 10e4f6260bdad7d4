"""Where the device has no memory for what a model makes by default, videos can be remixed, edited,
extended and told in shots all the same; and every refusal, sent as it says, is accepted.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.catalog import Entry
from serving.provenance import Provenance
from serving.service import Service
from serving.worker import Worker, open_host
from tests.serving.conftest import EXAMPLES
from tests.serving.idle import TINY, finish, idle_service, served
from tests.serving.test_uploads import video

ABLE = ["text", "remix", "first_frame", "last_frame", "loop", "extend", "join"]
LIMITS = {"most": 16_000, "some": 13_000, "few": 9_000, "fewer": 5_000, "least": 2_500}
"""Areas times latent frames that a model named so has memory for. Its default is 64² · 5; 17 frames
of 48x48 take 48² · 5, 9 of 64x64 64² · 3, and one of 48x48 alone is within the last of them."""


def model(name: str) -> dict[str, Any]:
    memory = {"stages": {"denoise": (0, 0, 1.0)}, "frames_per_latent": 4, "limit": LIMITS[name]}
    shapes = {"sizes": ["64x64", "48x48"], "num_frames": [17, 13, 9, 5, 1], "fps": 24}
    return TINY | {"name": name, "capabilities": ABLE, "memory": memory, **shapes}


STILL = TINY | {"name": "still", "capabilities": ABLE, "num_frames": [1]}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with idle_service(tmp_path_factory.mktemp("idle"), *map(model, LIMITS), STILL) as service:
        yield service


@pytest.fixture(scope="module")
def api(service: Service) -> Iterator[httpx.Client]:
    with served(service) as api:
        yield api


@pytest.fixture(scope="module")
def source(api: httpx.Client, service: Service) -> str:
    """A video of the default shape, made when there was memory for it: 17 frames of 64x64."""
    made = api.post("/v1/videos", json={"prompt": "a cat", "size": "64x64"}).json()["id"]
    finish(service, made, video("mp4", "libx264", 17, rate=24))
    return str(made)


def ok(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def shape(made: dict[str, Any]) -> tuple[str, int]:
    return made["rendered_size"], made["num_frames"]


def test_a_video_that_memory_has_shortened_is_made_again_in_its_own_shape(
    api: httpx.Client, service: Service
) -> None:
    """By every route, by its model's own name, and without a warning."""
    made = ok(api.post("/v1/videos", json={"prompt": "a cat"}))
    (warning,) = made["warnings"]
    assert (made["model"], made["size"], made["num_frames"]) == ("most", "512x512", 9)
    assert "17 frames of 64x64 take" in warning and "lowered num_frames to 9" in warning
    finish(service, made["id"], video("mp4", "libx264", 9, side=512, rate=24))
    again = {"prompt": "a dog"}
    remix = ok(api.post(f"/v1/videos/{made['id']}/remix", json=again))
    named = again | {"video": {"id": made["id"]}, "model": "most"}
    edit = ok(api.post("/v1/videos/edits", json=named))
    for one in (remix, edit):
        assert (one["size"], one["num_frames"], one["warnings"]) == ("512x512", 9, [])
    longer = ok(api.post("/v1/videos/extensions", json=named))
    assert (longer["size"], longer["num_frames"]) == ("512x512", 9)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("most", ("64x64", 9)), ("few", ("64x64", 5)), ("least", ("48x48", 1))],
)
def test_what_follows_from_a_source_is_lowered_and_that_is_told(
    api: httpx.Client, source: str, name: str, expected: tuple[str, int]
) -> None:
    body = {"prompt": "a dog", "video": {"id": source}, "model": name}
    made = ok(api.post("/v1/videos/edits", json=body))
    (warning,) = made["warnings"]
    assert shape(made) == expected and warning.startswith("memory: 17 frames of 64x64 take")
    if name == "most":
        assert shape(ok(api.post(f"/v1/videos/{source}/remix", json={"prompt": "a dog"}))) == (
            expected
        )


@pytest.mark.parametrize("route", ["edits", "extensions"])
def test_what_is_asked_stays_and_only_what_follows_is_lowered(
    api: httpx.Client, source: str, route: str
) -> None:
    body = {"prompt": "a dog", "video": {"id": source}, "model": "some"}
    sized = ok(api.post(f"/v1/videos/{route}", json=body | {"size": "64x64"}))
    assert shape(sized) == ("64x64", 9)
    timed = ok(api.post(f"/v1/videos/{route}", json=body | {"num_frames": 17}))
    assert shape(timed) == ("48x48", 17)
    both = api.post(f"/v1/videos/{route}", json=body | {"size": "64x64", "num_frames": 17})
    assert both.json()["error"]["code"] == "insufficient_memory"


def proposals(message: str) -> list[dict[str, str]]:
    """What a refusal says to lower, each as the value of a field; a length that it says in frames
    and in seconds once in each, and the other is to be left out.
    """
    found = []
    for proposal in message.removesuffix(".").split("; lower ")[1].split(", or "):
        told = dict(re.findall(r"(\S*[a-z_]) to ([0-9.x]+)", proposal.replace("(", "")))
        left = ("num_frames", "seconds") if "num_frames" in told else ()
        found += [{**told, name: ""} for name in left] or [told]
    return found


def changed(fields: dict[str, Any], changes: dict[str, str]) -> dict[str, Any]:
    body = {**fields, "shots": [dict(shot) for shot in fields.get("shots", [])]}
    for name, value in changes.items():
        shot = re.fullmatch(r"shots\[(\d+)\]\.(\w+)", name)
        if shot:
            body["shots"][int(shot[1])][shot[2]] = value
        else:
            body[name] = value
    return {name: value for name, value in body.items() if value}


FULL = {"size": "64x64", "num_frames": 17}
IMAGE = {
    "image_url": "data:image/png;base64,"
    + (
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
    )
}
ASKED: dict[str, Callable[[str], tuple[str, dict[str, Any]]]] = {
    "create": lambda _: ("", {}),
    "last frame": lambda _: ("", FULL | {"last_frame": IMAGE}),
    "loop": lambda _: ("", FULL | {"input_reference": IMAGE, "loop": True}),
    "edit": lambda source: ("/edits", FULL | {"video": {"id": source}}),
    "extend": lambda source: ("/extensions", FULL | {"video": {"id": source}}),
    "join": lambda source: (
        *("/extensions", FULL | {"video": {"id": source}, "next_video": {"id": source}}),
    ),
    "one shot": lambda _: ("", {"shots": [{"prompt": "a"}]}),
    "equal shots": lambda _: ("", {"shots": [{"prompt": "a"}, {"prompt": "b"}]}),
    "shots": lambda _: (
        "",
        {"shots": [{"prompt": "a", "seconds": 9 / 24}, {"prompt": "b"}, {"prompt": "c"}]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("asked", ASKED)
def test_what_a_refusal_proposes_is_accepted_as_it_stands(
    api: httpx.Client, source: str, name: str, asked: str
) -> None:
    """On every route, in frames as in seconds; of shots, by the field of each."""
    path, fields = ASKED[asked](source)
    fields = {"prompt": "a dog", "model": name, **fields}
    refused = api.post(f"/v1/videos{path}", json=fields)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (400, "insufficient_memory")
    # A single frame, which may fit, has no end to lead to.
    later = asked in ("last frame", "loop", "extend", "join")
    none = later and (name == "least" or (name == "fewer" and asked != "extend"))
    assert ("nothing that it makes fits" in error["message"]) == none
    if none:
        return
    for changes in proposals(error["message"]):
        made = ok(api.post(f"/v1/videos{path}", json=changed(fields, changes)))
        assert made["warnings"] == [], "nothing more is to be lowered"
        assert made["rendered_size"] == changes.get("size", "64x64")
        assert not later or changes.get("num_frames") != "1"
        frames = changes.get("num_frames") or round(24 * float(changes.get("seconds", 0)))
        assert made["num_frames"] == int(frames) or not frames


def test_a_model_of_single_frames_leads_nowhere(api: httpx.Client, source: str) -> None:
    for path, fields in (
        ("", {"last_frame": IMAGE}),
        ("", {"input_reference": IMAGE, "loop": True}),
        ("/extensions", {"video": {"id": source}}),
    ):
        body = {"prompt": "a dog", "model": "still", **fields}
        refused = api.post(f"/v1/videos{path}", json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "not_supported")
        assert "still makes single frames" in refused.json()["error"]["message"]


def test_a_refusal_names_every_shot_that_is_too_long_and_the_field_within_it(
    api: httpx.Client,
) -> None:
    shots: list[dict[str, Any]] = [{"prompt": "a", "seconds": 9 / 24}, {"prompt": "b"}]
    body = {"shots": [*shots, {"prompt": "c"}], "model": "some"}
    error = api.post("/v1/videos", json=body).json()["error"]
    assert (error["param"], error["code"]) == ("shots", "insufficient_memory")
    assert error["message"].startswith("shots[1]: 17 frames of 64x64 take")
    assert error["message"].endswith(
        "; lower shots[1].seconds to 0.375 and shots[2].seconds to 0.375, or size to 48x48."
    )
    assert "num_frames" not in error["message"]
    wrong = {**body, "shots": [*shots, {"prompt": "c", "seconds": 3}]}
    error = api.post("/v1/videos", json=wrong).json()["error"]
    assert (error["param"], error["code"]) == ("shots", "invalid_value")
    assert error["message"].startswith("shots[2].seconds must be one of 0.0416")


def test_shots_of_the_default_model_are_lowered_together_and_each_warning_names_its_shot(
    api: httpx.Client,
) -> None:
    shots = [{"prompt": "a", "seconds": 9 / 24}, {"prompt": "b"}, {"prompt": "c", "seconds": 3}]
    made = ok(api.post("/v1/videos", json={"shots": shots}))
    assert [shot["num_frames"] for shot in made["shots"]] == [9, 9, 9]
    memory, asked = made["warnings"]
    assert asked.startswith("shots[2].seconds: 3 was asked; most makes 0.708")
    assert "lowered shots[1].seconds to 0.375 and shots[2].seconds to 0.375" in memory


def test_a_worker_makes_what_was_lowered_and_its_remix(checkpoint: Path, tmp_path: Path) -> None:
    """It starts on a device that has no memory for the checkpoint's default, which is 17 frames."""
    entry = Entry(name="tiny", path=str(checkpoint))
    host = open_host([entry], "cpu", memory_limit=0.0025)
    (description,) = host.descriptions()
    assert description.memory and description.memory.peak(64, 64, 17) > 2.5e6
    provenance = Provenance.of(tmp_path / "provenance", None, None, False)
    with idle_service(tmp_path, asdict(description)) as service, served(service) as api:
        worker = Worker(host, [entry], service.store, service.files, "w", 900, provenance)
        made = ok(api.post("/v1/videos", json={"prompt": EXAMPLES[0]}))
        worker.make_video(made["id"])
        assert ok(api.get(f"/v1/videos/{made['id']}"))["status"] == "completed"
        body = {"prompt": EXAMPLES[1], "num_inference_steps": 1}
        remix = ok(api.post(f"/v1/videos/{made['id']}/remix", json=body))
        worker.make_video(remix["id"])
        done = ok(api.get(f"/v1/videos/{remix['id']}"))
        assert (done["status"], done["num_frames"], done["warnings"]) == ("completed", 9, [])
