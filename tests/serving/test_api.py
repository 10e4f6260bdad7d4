"""The routes over raw HTTP, against a running service with a tiny random model."""

import hashlib
import io
import unicodedata
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from model.video import read_video
from tests.serving.boxes import unsigned
from tests.serving.conftest import EXAMPLES, Served

PROMPT = EXAMPLES[0]
QUICK = {"size": "64x64", "num_inference_steps": 1}
"""What a test asks that is not about the picture."""


@pytest.fixture(scope="module")
def made(service: Served) -> dict[str, Any]:
    """One finished video."""
    return service.finish(service.create(PROMPT, seed=5)["id"])


def content(service: Served, video: dict[str, Any], **kwargs: Any) -> httpx.Response:
    return service.api.get(f"/v1/videos/{video['id']}/content", **kwargs)


def check_error(response: httpx.Response, status: int, code: str, param: str | None = None) -> str:
    """The envelope and the request id; gives the message."""
    assert response.status_code == status, response.text
    assert response.headers["x-request-id"].startswith("req_")
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == (code, param)
    assert error["type"] == ("server_error" if status >= 500 else "invalid_request_error")
    message: str = error["message"]
    return message


def test_a_video_has_every_field_of_the_contract_and_no_null_where_it_forbids(
    made: dict[str, Any],
) -> None:
    expected = {"id", "object", "created_at", "completed_at", "expires_at", "model", "progress"}
    expected |= {
        "prompt",
        "rewritten_prompt",
        "remixed_from_video_id",
        "seconds",
        "size",
        "status",
        "error",
    }
    expected |= {"seed", "fps", "num_frames", "rendered_size", "queue_position", "eta_seconds"}
    settings = {"num_inference_steps", "guidance_scale", "guidance_scale_2", "flow_shift"}
    settings |= {"negative_prompt", "strength", "lora", "loop", "shots"}
    assert set(made) == expected | settings | {"timings", "warnings"}
    assert (made["negative_prompt"], made["loop"], made["shots"], made["lora"]) == (
        "",
        False,
        None,
        None,
    )
    assert made["num_inference_steps"] >= 1
    assert (made["object"], made["status"], made["progress"]) == ("video", "completed", 100)
    assert (made["seconds"], made["size"], made["rendered_size"]) == ("2.125", "512x512", "64x64")
    assert (made["model"], made["prompt"], made["seed"], made["warnings"]) == (
        *("tiny", PROMPT, 5, []),
    )
    assert made["created_at"] <= made["completed_at"] and made["error"] is None
    assert set(made["timings"]) == {"queue", "text", "denoise", "decode", "encode"}


def test_the_file_is_what_the_answer_says(
    service: Served, made: dict[str, Any], tmp_path: Path
) -> None:
    response = content(service, made)
    assert response.headers["content-type"] == "video/mp4"
    (tmp_path / "v.mp4").write_bytes(response.content)
    frames, fps = read_video(tmp_path / "v.mp4")
    assert (frames.shape, fps) == ((17, 512, 512, 3), 8)


def test_a_native_size_and_a_length_asked_for_are_in_the_file(
    service: Served, tmp_path: Path
) -> None:
    video = service.create(PROMPT, size="64x64", seconds="1.125", model="tiny")
    assert service.finish(video["id"])["status"] == "completed"
    (tmp_path / "v.mp4").write_bytes(content(service, video).content)
    assert read_video(tmp_path / "v.mp4")[0].shape == (9, 64, 64, 3)


@pytest.mark.parametrize(
    ("variant", "kind", "format", "size"),
    [
        ("thumbnail", "image/webp", "WEBP", (512, 512)),
        ("spritesheet", "image/jpeg", "JPEG", (5 * 256, 4 * 256)),
    ],
)
def test_thumbnail_and_sprite_sheet(
    service: Served, made: dict[str, Any], variant: str, kind: str, format: str, size: Any
) -> None:
    response = content(service, made, params={"variant": variant})
    assert response.headers["content-type"] == kind
    with Image.open(io.BytesIO(response.content)) as image:
        assert (image.format, image.size) == (format, size)


def test_ranges_are_the_bytes_they_name_and_tags_spare_a_second_download(
    service: Served, made: dict[str, Any]
) -> None:
    whole = content(service, made)
    size, etag = len(whole.content), whole.headers["etag"]
    for header, expected in [
        ("bytes=10-19", whole.content[10:20]),
        ("bytes=-7", whole.content[-7:]),
        (f"bytes={size - 3}-", whole.content[-3:]),
    ]:
        part = content(service, made, headers={"range": header})
        assert (part.status_code, part.content) == (206, expected)
        assert part.headers["content-range"].endswith(f"/{size}")
        assert part.headers["etag"] == etag
    stale = content(service, made, headers={"range": "bytes=0-9", "if-range": '"other"'})
    assert (stale.status_code, len(stale.content)) == (200, size)
    assert content(service, made, headers={"if-none-match": etag}).status_code == 304
    head = service.api.head(f"/v1/videos/{made['id']}/content")
    assert (head.headers["content-length"], head.content) == (str(size), b"")
    beyond = content(service, made, headers={"range": f"bytes={size}-"})
    # Python 3.13 dropped "Requested" from the phrase of 416.
    code = beyond.json()["error"]["code"].removeprefix("requested_")
    check_error(beyond, 416, beyond.json()["error"]["code"])
    assert code == "range_not_satisfiable"
    assert beyond.headers["content-range"] == f"bytes */{size}"


def test_the_same_seed_gives_the_same_file_and_another_seed_another(service: Served) -> None:
    def digest(video: dict[str, Any]) -> str:
        return hashlib.sha256(unsigned(content(service, video).content)).hexdigest()

    first, same, other = (
        service.finish(service.create(PROMPT, seed=seed, **QUICK)["id"]) for seed in (5, 5, 6)
    )
    assert digest(first) == digest(same) != digest(other)


@pytest.mark.parametrize(
    "body",
    [
        {"json": {"prompt": PROMPT, "seed": 3, "size": "64x64", "seconds": 2.125}},
        {"data": {"prompt": PROMPT, "seed": "3", "size": "64x64", "seconds": "2.125"}},
        {
            "files": {
                name: (None, value)
                for name, value in [
                    *(("prompt", PROMPT), ("seed", "3"), ("size", "64x64")),
                    ("seconds", "2.125"),
                ]
            }
        },
    ],
    ids=["json", "urlencoded", "multipart"],
)
def test_every_kind_of_body_is_the_same_request(service: Served, body: dict[str, Any]) -> None:
    response = service.api.post("/v1/videos", **body)
    assert response.status_code == 200, response.text
    video = response.json()
    assert (video["seed"], video["seconds"], video["prompt"]) == (3, "2.125", PROMPT)
    assert int(response.headers["openai-poll-after-ms"]) > 0
    assert service.finish(video["id"])["status"] == "completed"


def test_prompts_are_kept_in_composed_form(service: Served) -> None:
    spelled = "a blue cät walks left"
    video = service.create(unicodedata.normalize("NFD", spelled), **QUICK)
    assert video["prompt"] == spelled
    assert service.finish(video["id"])["prompt"] == spelled


CHINESE = "一只红球掉下来，弹起 🎬 — \u00e9"


@pytest.mark.parametrize(
    "body",
    [
        {"json": {"prompt": CHINESE, **QUICK}},
        {"data": {"prompt": CHINESE, **QUICK}},
        {"files": {name: (None, str(text)) for name, text in {"prompt": CHINESE, **QUICK}.items()}},
        {  # as curl -d sends it
            "content": f"prompt={CHINESE}&size=64x64&num_inference_steps=1".encode(),
            "headers": {"content-type": "application/x-www-form-urlencoded"},
        },
    ],
    ids=["json", "urlencoded", "multipart", "raw"],
)
def test_a_chinese_prompt_comes_back_unharmed(service: Served, body: dict[str, Any]) -> None:
    response = service.api.post("/v1/videos", **body)
    assert response.json()["prompt"] == CHINESE
    video = service.finish(response.json()["id"])
    assert (video["status"], video["prompt"]) == ("completed", CHINESE)
    assert CHINESE in service.api.get("/v1/videos").text  # as it is, not as escapes
    log = service.log.read_text("utf-8")
    assert video["id"] in log and "一只" not in log and ascii("一只").strip("'") not in log


def test_an_unknown_word_is_named_with_the_nearest_known_prompt(service: Served) -> None:
    video = service.create("a red dragon is dropped and bounces", **QUICK)
    (warning,) = video["warnings"]
    assert '"dragon"' in warning and f'"{EXAMPLES[0]}"' in warning
    assert service.finish(video["id"])["warnings"] == [warning]


def test_code_for_the_hosted_api_gets_the_nearest_video_and_is_told(service: Served) -> None:
    video = service.create(PROMPT, model="sora-2-pro", size="1280x720", seconds="8")
    assert (video["model"], video["size"], video["seconds"]) == ("tiny", "512x512", "2.125")
    assert [warning.split(":")[0] for warning in video["warnings"]] == ["size", "seconds"]


def test_progress_moves_step_by_step(service: Served) -> None:
    seen = [0]

    def look(video: dict[str, Any]) -> bool:
        seen.append(video["progress"])
        return video["status"] == "completed"

    service.wait(service.create(PROMPT, size="64x64", num_inference_steps=150)["id"], look)
    assert seen == sorted(seen) and seen[-1] == 100
    # 150 steps take about a second here, and a look some milliseconds.
    assert len(set(seen)) > 8


def test_the_list_turns_its_pages(service: Served) -> None:
    ids = [service.create(PROMPT, **QUICK)["id"] for _ in range(3)]
    first = service.api.get("/v1/videos", params={"limit": 2}).json()
    assert [video["id"] for video in first["data"]] == [ids[2], ids[1]]
    assert (first["object"], first["first_id"], first["last_id"], first["has_more"]) == (
        *("list", ids[2], ids[1], True),
    )
    second = service.api.get("/v1/videos", params={"limit": 100, "after": ids[1]}).json()
    assert second["data"][0]["id"] == ids[0] and not second["has_more"]
    oldest = service.api.get("/v1/videos", params={"limit": 100, "order": "asc"}).json()["data"]
    assert [video["id"] for video in oldest[-3:]] == ids
    for name in ids:
        service.finish(name)


def test_an_idempotency_key_makes_one_job_of_two_requests(service: Served) -> None:
    headers = {"idempotency-key": "key-1"}
    body = {"prompt": PROMPT, **QUICK}
    first, second = (
        service.api.post("/v1/videos", json=body, headers=headers).json() for _ in range(2)
    )
    assert first["id"] == second["id"]
    other = service.api.post("/v1/videos", json=body | {"seed": 1}, headers=headers)
    check_error(other, 422, "idempotency_key_reused")
    assert other.headers["x-should-retry"] == "false"
    long = service.api.post("/v1/videos", json=body, headers={"idempotency-key": "k" * 256})
    check_error(long, 400, "invalid_value", "Idempotency-Key")


def test_content_of_a_job_that_is_not_over_is_a_404_that_no_one_retries(service: Served) -> None:
    video = service.create(PROMPT, num_inference_steps=1000)
    response = content(service, video)
    check_error(response, 404, "video_not_ready")
    assert response.headers["x-should-retry"] == "false"
    service.api.post(f"/v1/videos/{video['id']}/cancel")


def test_cancel_stops_a_running_job_and_leaves_the_next_one_alone(
    service: Served,
    made: dict[str, Any],  # the estimate goes by what was made before
) -> None:
    for earlier in service.api.get("/v1/videos?limit=100").json()["data"]:
        service.finish(earlier["id"])  # what other tests left in the queue
    long = service.create(PROMPT, num_inference_steps=1000)
    following = service.create(PROMPT, **QUICK)
    assert following["queue_position"] in (0, 1) and following["eta_seconds"] > 0
    service.wait(long["id"], lambda video: video["progress"] > 2)
    for _ in range(2):
        cancelled = service.api.post(f"/v1/videos/{long['id']}/cancel").json()
        assert (cancelled["status"], cancelled["error"]["code"]) == ("failed", "cancelled")
    assert service.finish(following["id"])["status"] == "completed"
    assert cancelled["progress"] < 94
    done = service.api.post(f"/v1/videos/{following['id']}/cancel").json()
    assert done["status"] == "completed"


def test_a_deleted_video_is_gone_with_its_files(service: Served) -> None:
    video = service.finish(service.create(PROMPT, **QUICK)["id"])
    folder = service.data / "videos" / video["id"]
    assert len(list(folder.iterdir())) == 3
    answer = service.api.delete(f"/v1/videos/{video['id']}").json()
    assert answer == {"id": video["id"], "object": "video.deleted", "deleted": True}
    assert not folder.exists()
    check_error(service.api.get(f"/v1/videos/{video['id']}"), 404, "video_not_found", "video_id")


def test_a_running_job_can_be_deleted_and_leaves_nothing(service: Served) -> None:
    video = service.create(PROMPT, num_inference_steps=1000)
    service.wait(video["id"], lambda video: video["progress"] > 2)
    assert service.api.delete(f"/v1/videos/{video['id']}").status_code == 200
    service.finish(service.create(PROMPT, **QUICK)["id"])
    assert not (service.data / "videos" / video["id"]).exists()


def test_models_tell_what_they_can_do(service: Served) -> None:
    (model,) = service.api.get("/v1/models").json()["data"]
    assert (model["id"], model["object"], model["sizes"]) == ("tiny", "model", ["64x64"])
    assert model["examples"] == EXAMPLES and "sora-2" in model["aliases"]
    for name in ("tiny", "sora-2"):
        assert service.api.get(f"/v1/models/{name}").json() == model


def test_health_readiness_and_a_page_for_people(service: Served) -> None:
    assert service.api.get("/healthz").json() == {"status": "ok"}
    assert service.api.get("/readyz").json() == {"status": "ready"}
    page = service.api.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert f"curl {service.url}/v1/videos" in page.text and EXAMPLES[1] in page.text
    assert "://" not in page.text.replace(service.url, ""), "the page loads nothing from elsewhere"


def test_cancelled_and_deleted_jobs_are_no_errors_to_the_log(service: Served) -> None:
    for method, path in ("POST", "/cancel"), ("DELETE", ""):
        for progress in (0, 3):  # while it is queued, and while it runs
            video = service.create(PROMPT, size="64x64", num_inference_steps=1000)
            service.wait(video["id"], lambda v, least=progress: v["progress"] >= least)
            assert service.api.request(method, f"/v1/videos/{video['id']}{path}").is_success
    service.finish(service.create(PROMPT, **QUICK)["id"])
    assert "Traceback" not in service.log.read_text()
    assert "dbos" not in service.log.read_text()


def test_prompts_are_not_logged(service: Served) -> None:
    secret = "a zanzibar cat walks left"
    service.finish(service.create(secret, **QUICK)["id"])
    service.api.post("/v1/videos", json={"prompt": secret, "seed": "x"})
    assert "attempt 1" in service.log.read_text()
    assert "zanzibar" not in service.log.read_text()


def test_the_api_process_holds_no_torch_and_its_worker_does(service: Served) -> None:
    assert "libtorch" not in Path(f"/proc/{service.process.pid}/maps").read_text()
    assert "libtorch" in Path(f"/proc/{service.worker_pid()}/maps").read_text()
