"""Videos in a bucket: what the API and a worker do with an S3-compatible server, moto's."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.files import VARIANTS
from serving.objects import Objects, open_files
from serving.service import Service
from serving.settings import Settings
from tests import buckets
from tests.serving.hostile import clip, picture
from tests.serving.idle import idle_service, served

BUCKET = "s3://videos/some/place"


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of a server of its own process, with an empty bucket."""
    with buckets.served("videos") as url:
        yield url


@pytest.fixture
def files(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Objects]:
    for name, value in (
        ("AWS_ENDPOINT_URL", s3),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "testing"),
        ("AWS_SECRET_ACCESS_KEY", "testing"),
        ("AWS_REGION", "us-east-1"),
        *(("NO_PROXY", "127.0.0.1"), ("no_proxy", "127.0.0.1")),
    ):
        monkeypatch.setenv(name, value)
    files = open_files(Settings(data=tmp_path, storage=BUCKET))
    assert isinstance(files, Objects)
    yield files
    for key in list(files._keys("")):
        files._delete([key])


def make(files: Objects, video_id: str, attempt: int, data: bytes) -> None:
    """What a worker does with an attempt, up to its publication."""
    files.prepare(video_id, attempt)
    for variant in VARIANTS:
        files.path(video_id, attempt, variant).write_bytes(data + variant.encode())
    files.store(video_id, attempt)


def keys(files: Objects, video_id: str) -> list[str]:
    return sorted(key.removeprefix(f"{video_id}/") for key in files._keys(f"{video_id}/"))


def test_attempts_are_apart_and_the_published_one_is_kept(files: Objects) -> None:
    make(files, "video_a", 1, b"late")
    make(files, "video_a", 2, b"good")
    files.keep_only("video_a", 2)
    assert keys(files, "video_a") == ["2.jpg", "2.mp4", "2.webp"]
    with files.open("video_a", 2, "video") as file:
        assert file.read() == b"goodvideo"
    files.discard("video_a", 1)
    assert files.size("video_a", 2, "video") == 9 and files.size("video_a", 1, "video") is None
    files.discard("video_a", 2)
    assert keys(files, "video_a") == []
    assert not list(files._root.rglob("*"))  # nothing is left on this machine either


def test_inputs_without_a_record_are_found_once_they_are_old(files: Objects) -> None:
    for video_id in ("video_a", "video_b"):
        files.inputs(video_id).mkdir(parents=True)
        (files.inputs(video_id) / "source.mp4").write_bytes(b"x")
        files.store_inputs(video_id)
    make(files, "video_b", 1, b"x")
    assert files.only_inputs(60) == []
    assert files.only_inputs(-60) == ["video_a"]


@pytest.fixture
def service(tmp_path: Path, files: Objects) -> Iterator[Service]:
    with idle_service(tmp_path) as service:
        service.files = files
        yield service


def completed(service: Service, api: httpx.Client, content: bytes, **fields: Any) -> str:
    video_id = str(api.post("/v1/videos", **fields).json()["id"])
    row = service.store.start(video_id, "w")
    assert row and isinstance(service.files, Objects)
    make(service.files, video_id, 1, content)
    assert service.store.complete(row, {})
    return video_id


def test_a_video_is_sent_whole_or_in_part_and_its_deletion_leaves_nothing(
    service: Service, files: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.jobs, "settled", set)
    data = bytes(range(256)) * 12_000  # in more than one piece
    with served(service) as api:
        fields = {"data": {"prompt": "a cat"}, "files": {"input_reference": picture("PNG")}}
        video_id = completed(service, api, data, **fields)
        whole = data + b"video"
        url = f"/v1/videos/{video_id}/content"
        answer = api.get(url)
        assert answer.content == whole and answer.headers["content-type"] == "video/mp4"
        assert int(api.head(url).headers["content-length"]) == len(whole)
        for asked, start, end in (
            ("bytes=10-19", 10, 20),
            ("bytes=-5", len(whole) - 5, len(whole)),
            (f"bytes={len(data)}-", len(data), len(whole)),
        ):
            part = api.get(url, headers={"range": asked})
            assert (part.status_code, part.content) == (206, whole[start:end])
            told = f"bytes {start}-{end - 1}/{len(whole)}"
            assert part.headers["content-range"] == told
        beyond = api.get(url, headers={"range": f"bytes={len(whole)}-"})
        assert (beyond.status_code, beyond.json()["error"]["code"]) == (
            *(416, "range_not_satisfiable"),
        )
        old = {"range": "bytes=0-1", "if-range": '"another"'}
        assert api.get(url, headers=old).content == whole
        again = api.get(url, headers={"if-none-match": answer.headers["etag"]})
        assert again.status_code == 304
        assert keys(files, video_id) == ["1.jpg", "1.mp4", "1.webp", "inputs/first_frame.png"]
        # A worker on another machine has what came with the request.
        shutil.rmtree(files._root, ignore_errors=True)
        files.prepare(video_id, 1)
        assert (files.inputs(video_id) / "first_frame.png").read_bytes()[:4] == b"\x89PNG"
        assert api.delete(f"/v1/videos/{video_id}").is_success
        assert list(files._keys("")) == [] and not list(files._root.rglob("*"))
        assert api.get(url).status_code == 404


def test_a_remix_starts_from_a_video_in_the_bucket(service: Service, files: Objects) -> None:
    with served(service) as api:
        source = completed(service, api, clip(17), json={"prompt": "a cat"})
        remix = api.post(f"/v1/videos/{source}/remix", json={"prompt": "a dog"})
        assert remix.is_success, remix.text
        assert keys(files, remix.json()["id"]) == ["inputs/source.mp4"]


def test_clients_are_sent_to_the_bucket_if_that_is_wanted(service: Service, files: Objects) -> None:
    files._redirects = True
    with served(service) as api:
        video_id = completed(service, api, b"data", json={"prompt": "a cat"})
        answer = api.get(f"/v1/videos/{video_id}/content")
        assert answer.status_code == 307 and "no-store" in answer.headers["cache-control"]
        with httpx.Client(trust_env=False) as client:
            direct = client.get(answer.headers["location"])
        assert direct.content == b"datavideo" and direct.headers["content-type"] == "video/mp4"
        assert "X-Amz-Expires=300" in answer.headers["location"]


def test_a_bucket_that_cannot_be_had_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="storage cannot be used"):
        open_files(Settings(data=tmp_path, storage="nowhere://bucket"))


def test_scratch_of_the_dead_is_swept_up(tmp_path: Path, files: Objects) -> None:
    (tmp_path / "scratch" / "999999999").mkdir(parents=True)
    assert open_files(Settings(data=tmp_path)).local("v", 1, "video") is not None
    open_files(Settings(data=tmp_path, storage=BUCKET))
    assert not (tmp_path / "scratch" / "999999999").exists()
