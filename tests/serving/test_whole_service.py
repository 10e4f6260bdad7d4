"""One service as an operator sets it up, asked over HTTP: several models in a folder, one of them a
pipeline of diffusers, LoRAs, two workers with memory for one model at a time, a key, and prompts
where the operator wants them. What it answers was made by real worker processes.
"""

import re
import shutil
import unicodedata
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray

from model.video import read_video
from serving.cli import main
from serving.keys import Keys
from serving.settings import Settings
from serving.store import Store
from tests.model.test_foreign import FAMILIES
from tests.model.test_lora import write_lora
from tests.serving.conftest import EXAMPLES, Serve, Served, workers_of

pytestmark = pytest.mark.proof

PROMPT = EXAMPLES[0]
GIGABYTES = 0.00565
"""More than each of the models takes for what it makes unasked: `cog` 5.58 MB, but beside `tiny`,
whose weights are 0.16 MB, there is no room for it. And less than `LARGE` takes."""
LARGE = {"size": "96x96", "num_frames": 17}
LONG = 1000
"""Steps of a job that takes seconds, with a middle to be looked at."""


@pytest.fixture(scope="module")
def catalogue(checkpoint: Path, able: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny`, the default, with a LoRA; `able`, which extends; `cog`, a pipeline of diffusers; and
    two whose weights are cut short, which nobody knows before they are asked for.
    """
    folder = tmp_path_factory.mktemp("catalogue")
    write_lora(checkpoint, folder / "loras" / "ink.safetensors", 1)
    torch.manual_seed(0)
    FAMILIES["cog"]().save_pretrained(folder / "cog")
    for name, source in (("hollow", checkpoint), ("hollow-cog", folder / "cog")):
        shutil.copytree(source, folder / name)
        weights = folder / name / "transformer" / "diffusion_pytorch_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:5000])
    limits = {"sizes": ["64x64", "96x96"], "num_frames": [17, 9]}
    small = {"sizes": ["32x16"], "num_frames": [5], "fps": 8}
    models: list[dict[str, Any]] = [
        {"name": "tiny", "path": str(checkpoint), "default": True, "loras": "./loras"},
        {"name": "able", "path": str(able), "aliases": ["longer"]},
        {"name": "cog", "path": "./cog", "limits": small, "defaults": {"num_inference_steps": 3}},
        {"name": "hollow", "path": "./hollow"},
        {"name": "hollow-cog", "path": "./hollow-cog", "limits": small},
    ]
    for model in models:
        told = yaml.safe_dump({"limits": limits, **model})
        (folder / f"{model['name']}.yaml").write_text(told)
    return folder


@pytest.fixture(scope="module")
def whole(
    serve_on: Serve, catalogue: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """The service, and a client that holds the key `shop`."""
    data = tmp_path_factory.mktemp("whole")
    store = Store(Settings(data=data).database_url)
    store.create_tables()
    secret = Keys(store.engine).create("shop")
    store.close()
    options = ["--workers", "2", "--memory-limit", str(GIGABYTES), "--prompt-in-manifest", "yes"]
    served = serve_on(catalogue, data, *options, "--logs", "json", "--log-prompts", "yes")
    served.api.headers["authorization"] = f"Bearer {secret}"
    yield served
    served.stop()


def make(served: Served, prompt: str = PROMPT, **fields: Any) -> dict[str, Any]:
    """A completed video of few steps."""
    asked = {"size": "64x64", "num_inference_steps": 2, "seed": 1, **fields}
    video = served.finish(served.create(prompt, **asked)["id"])
    assert video["status"] == "completed", video
    return video


def content(served: Served, video: dict[str, Any], variant: str = "video") -> bytes:
    """A file of a completed video."""
    response = served.api.get(f"/v1/videos/{video['id']}/content", params={"variant": variant})
    assert response.status_code == 200, response.text
    return response.content


def frames(served: Served, video: dict[str, Any], folder: Path) -> NDArray[np.uint8]:
    """What the MP4 shows, (T, H, W, 3)."""
    (folder / "video.mp4").write_bytes(content(served, video))
    return read_video(folder / "video.mp4")[0]


def refusal(response: httpx.Response, code: str, param: str) -> str:
    """The sentence of an answer that refuses a field with 400."""
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert (error["code"], error["param"]) == (code, param)
    return str(error["message"])


def test_every_model_of_the_folder_is_served_and_the_default_first(whole: Served) -> None:
    models = whole.api.get("/v1/models").json()["data"]
    assert [model["id"] for model in models] == ["tiny", "able", "cog", "hollow-cog", "hollow"]
    assert "sora-2" in models[0]["aliases"] and models[1]["aliases"] == ["longer"]
    assert [model["loras"] for model in models] == [["ink"], [], [], [], []]
    assert {model["memory"]["limit"] for model in models} == {5_650_000}
    assert models[2]["capabilities"] == ["text"]


def test_a_pipeline_of_diffusers_makes_an_mp4_with_progress_and_stops_when_it_is_cancelled(
    whole: Served, tmp_path: Path
) -> None:
    video = make(whole, model="cog", size="32x16")
    assert (video["model"], video["num_frames"], video["fps"]) == ("cog", 5, 8)
    assert set(video["timings"]) == {"queue", "text", "denoise", "decode", "encode"}
    assert frames(whole, video, tmp_path).shape == (5, 16, 32, 3)
    running = whole.create(PROMPT, model="cog", size="32x16", num_inference_steps=LONG)["id"]
    seen = {whole.wait(running, lambda v: v["progress"] > 5)["progress"]}
    seen.add(whole.wait(running, lambda v: v["progress"] > max(seen))["progress"])
    assert all(5 < progress < 90 for progress in seen), "of a thousand steps most are to come"
    answer = whole.api.post(f"/v1/videos/{running}/cancel").json()
    assert (answer["status"], answer["error"]["code"]) == ("failed", "cancelled")
    told = rf"{running} attempt 1 stopped at step \d+"
    whole.wait(running, lambda _: re.search(told, whole.log.read_text()) is not None)
    assert whole.api.get(f"/v1/videos/{running}").json()["progress"] < 90
    assert make(whole, model="cog", size="32x16", seed=2)["status"] == "completed"


def test_models_make_room_for_one_another_and_come_back_as_they_were(whole: Served) -> None:
    """Each of the two workers has begun with the default, and has memory for one of the two."""
    before = content(whole, make(whole), "thumbnail")
    jobs = [whole.create(PROMPT, model="cog", size="32x16")["id"] for _ in range(2)]
    assert [whole.finish(job)["status"] for job in jobs] == ["completed"] * 2
    assert "tiny makes room for cog" in whole.log.read_text()
    again = [content(whole, make(whole), "thumbnail") for _ in range(2)]
    assert again == [before] * 2


@pytest.mark.parametrize(("name", "size"), [("hollow", "64x64"), ("hollow-cog", "32x16")])
def test_a_model_that_is_found_bad_when_it_is_asked_for_fails_that_job_alone(
    whole: Served, name: str, size: str
) -> None:
    job = whole.create(PROMPT, model=name, size=size)["id"]
    failed, done = whole.finish(job), make(whole)
    assert (failed["status"], failed["error"]["code"]) == ("failed", "model_unavailable")
    assert failed["error"]["message"] == "The model cannot be opened; the service's log says why."
    assert f"{name}/transformer/diffusion_pytorch_model.safetensors" in whole.log.read_text()
    assert done["status"] == "completed" and len(workers_of(whole.process.pid)) == 2
    assert whole.api.get(f"/v1/videos/{job}/content").status_code == 404


def test_two_workers_run_two_jobs_at_once(whole: Served) -> None:
    jobs = [whole.create(PROMPT, size="64x64", num_inference_steps=LONG)["id"] for _ in range(3)]
    for job in jobs[:2]:
        whole.wait(job, lambda v: v["progress"] > 2)
    states = [whole.api.get(f"/v1/videos/{job}").json()["status"] for job in jobs]
    assert states == ["in_progress", "in_progress", "queued"]
    assert len(workers_of(whole.process.pid)) == 2
    for job in reversed(jobs):
        whole.api.post(f"/v1/videos/{job}/cancel")


def test_a_lora_is_applied_by_its_name_and_neither_a_stranger_nor_a_path_is(
    whole: Served, catalogue: Path
) -> None:
    plain, inked = make(whole), make(whole, lora="ink")
    assert (plain["lora"], inked["lora"]) == (None, "ink")
    assert content(whole, plain, "thumbnail") != content(whole, inked, "thumbnail")
    form = {"prompt": PROMPT, "size": "64x64", "seed": "1", "num_inference_steps": "2"}
    answer = whole.api.post("/v1/videos", data=form | {"lora[name]": "ink"}).json()
    again = whole.finish(answer["id"])
    assert content(whole, again, "thumbnail") == content(whole, inked, "thumbnail")
    path = str(catalogue / "loras" / "ink.safetensors")
    for lora in ("noir", "../loras/ink", "ink.safetensors", path):
        body = {"prompt": PROMPT, "lora": lora, "model": "tiny"}
        message = refusal(whole.api.post("/v1/videos", json=body), "lora_not_found", "lora")
        assert message == f"lora must be one of ink for tiny, not {lora!r}."
    body = {"prompt": PROMPT, "lora": "ink", "model": "cog"}
    message = refusal(whole.api.post("/v1/videos", json=body), "lora_not_found", "lora")
    assert message.startswith("lora must be left out for cog")


def test_an_extension_holds_its_source_and_goes_on(whole: Served, tmp_path: Path) -> None:
    """17 frames are drawn, of which the first five are the source's end.

    Of such noise the codec moves a colour by 6 of 255; frames that are not the same are 62 apart.
    """
    source = make(whole, model="able")
    body = {"prompt": PROMPT, "video": {"id": source["id"]}, "model": "able"}
    response = whole.api.post("/v1/videos/extensions", json={**body, "num_inference_steps": 2})
    assert response.status_code == 200, response.text
    longer = whole.finish(response.json()["id"])
    assert longer["status"] == "completed" and longer["remixed_from_video_id"] == source["id"]
    assert (longer["num_frames"], longer["seconds"]) == (17 + 12, "3.625")
    given, made = (frames(whole, video, tmp_path) for video in (source, longer))
    assert len(made) == 17 + 12
    apart = np.abs(made[:17].astype(int) - given)
    other = np.abs(made[12:].astype(int) - given)
    assert apart.mean((1, 2, 3)).max() < 10 and other.mean((1, 2, 3)).min() > 50
    refused = whole.api.post("/v1/videos/extensions", json={**body, "model": "tiny"})
    message = refusal(refused, "not_supported", "video")
    assert message == "video is not supported by tiny, which cannot extend videos; able can."


@pytest.mark.parametrize("at", [0, 1], ids=["num_frames", "size"])
def test_what_memory_refuses_comes_with_a_proposal_that_is_accepted_and_made(
    whole: Served, at: int
) -> None:
    body: dict[str, Any] = {"prompt": PROMPT, "model": "tiny", "num_inference_steps": 1}
    first = "num_frames"
    message = refusal(whole.api.post("/v1/videos", json=body | LARGE), "insufficient_memory", first)
    assert "17 frames of 96x96 take" in message and "tiny has 0.0 GB" in message
    proposals = message.rstrip(".").split("; lower ")[1].split(", or ")
    assert proposals == ["num_frames to 9 (seconds to 1.125)", "size to 64x64"]
    field, value = re.match(r"(\w+) to (\w+)", proposals[at]).groups()  # type: ignore[union-attr]
    proposed = LARGE | {field: int(value) if value.isdigit() else value}
    made = make(whole, **body | proposed)
    assert {name: made[name] for name in proposed} == proposed and made["warnings"] == []
    if field == "num_frames":
        seconds = make(whole, **body, size="96x96", seconds="1.125")
        assert seconds["num_frames"] == 9
    fitted = whole.create(PROMPT, **LARGE, num_inference_steps=1)  # by no name: leniently
    assert fitted["num_frames"] == 9 and fitted["warnings"][0].startswith("memory: 17 frames of")


SENT = "一只红球落下，弹起来。\u3000「再\ufa0a」 Cafe\u0301 — “好”\n𠀀🐈"
"""Chinese as it is typed: marks of full width, a character of compatibility, a mark apart from its
letter, and characters beyond the first plane."""
KEPT = unicodedata.normalize("NFC", SENT)
AVOIDED = "模糊的\ufa0a"


def test_a_chinese_prompt_is_the_same_to_the_byte_wherever_it_comes(
    whole: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert KEPT != SENT and "見" in KEPT and "é" in KEPT
    source = make(whole, SENT, negative_prompt=AVOIDED)
    remixed = whole.api.post(f"/v1/videos/{source['id']}/remix", json={"prompt": "又" + SENT})
    form = {"prompt": "改" + SENT, "video[id]": source["id"], "num_inference_steps": "2"}
    edited = whole.api.post("/v1/videos/edits", data=form)
    made = {"": source}
    for mark, answer in (("又", remixed), ("改", edited)):
        assert answer.status_code == 200, answer.text
        made[mark] = whole.finish(answer.json()["id"])
    log = whole.log.read_bytes()
    for mark, video in made.items():
        words = (mark + KEPT).encode()
        assert video["status"] == "completed" and video["prompt"].encode() == words
        assert words in content(whole, video), "the signed manifest"
        lines = words.replace(b"\n", rb"\\n")
        assert b"asked for '" + lines + b"'" in log
    assert remixed.json()["negative_prompt"] == unicodedata.normalize("NFC", AVOIDED)
    page = whole.api.get("/v1/videos", params={"text": "「再見」"}).json()
    assert {video["id"] for video in page["data"]} == {video["id"] for video in made.values()}
    archive = tmp_path / "shop.zip"
    assert main(["keys", "export", "--data", str(whole.data), "shop", "-o", str(archive)]) == 0
    capsys.readouterr()
    with zipfile.ZipFile(archive) as opened:
        rows = opened.read("videos.jsonl")
        for mark, video in made.items():
            words = f'"prompt": "{mark}{KEPT}"'.replace("\n", r"\n").encode()
            (row,) = (line for line in rows.splitlines() if video["id"].encode() in line[:60])
            assert row.count(words) == 2, "as it was asked, and as it was rendered"
    for raw in ("\ufa0a", "e\u0301"):
        assert raw.encode() not in rows + log
