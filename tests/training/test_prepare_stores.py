"""Files of every store come to the same rows: folders, tars, web servers, object stores."""

import functools
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import httpx
import pyarrow.parquet as pq
import pytest

from tests import buckets
from tests.training.videos import even, write_video
from training.data.prepare.__main__ import main, parse_arguments

CLIP = ["--fps", "10", "--frames", "5", "--min-frames", "5", "--area", "64", "--workers", "1"]


def rows(out: Path, *inputs: str | Path) -> list[dict[str, Any]]:
    """What is told of the clips, without where they are."""
    main(parse_arguments([*map(str, inputs), "-o", str(out), *CLIP]))
    found = pq.read_table(out / "index.parquet").drop_columns(["uri"]).to_pylist()
    return sorted(found, key=lambda row: str(row["id"]))


class Quiet(SimpleHTTPRequestHandler):
    """A server as Python brings it: it knows no parts of files."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for k in range(2):
        write_video(folder / f"{k}.mp4", even(10, 10), seed=110 + k)
        (folder / f"{k}.txt").write_text(f"film {k}")
    return folder


@pytest.fixture
def site(films: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(films)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def expected(films: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    found = rows(tmp_path_factory.mktemp("expected"), films)
    assert len(found) == 4 and {row["caption"] for row in found} == {"film 0", "film 1"}
    return found


def test_a_bucket_is_read_like_a_folder(
    films: Path, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    """fsspec's store in memory stands for one."""
    store = fsspec.filesystem("memory")
    for film in films.iterdir():
        store.pipe(f"/bucket/videos/{film.name}", film.read_bytes())
    assert rows(tmp_path / "folder", "memory://bucket/videos") == expected
    assert rows(tmp_path / "pattern", "memory://bucket/videos/*.mp4") == expected
    store.rm("/bucket", recursive=True)


def test_a_url_is_read_like_a_file(
    site: str, films: Path, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Of a server that sends whole files alone."""
    assert rows(tmp_path / "out", f"{site}/0.mp4", f"{site}/1.mp4") == expected


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an S3-compatible server of its own process, moto's, with an empty bucket."""
    with buckets.served("films") as url:
        for name, value in (
            ("AWS_ENDPOINT_URL", url), ("AWS_ALLOW_HTTP", "true"), ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "testing"), ("AWS_SECRET_ACCESS_KEY", "testing"),
            ("NO_PROXY", "127.0.0.1"), ("no_proxy", "127.0.0.1"),
        ):  # fmt: skip
            monkeypatch.setenv(name, value)
        yield url


@pytest.mark.proof
def test_s3_is_read_like_a_folder(
    s3: str, films: Path, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    """A prefix, a pattern, and a tar of a bucket."""
    tar = tmp_path / "films.tar"
    with tarfile.open(tar, "w") as file:
        file.add(films, ".")
    with httpx.Client(trust_env=False) as client:
        for path in (*films.iterdir(), tar):
            folder = "tars" if path == tar else "videos"
            put = client.put(f"{s3}/films/{folder}/{path.name}", content=path.read_bytes())
            assert put.is_success
    assert rows(tmp_path / "prefix", "s3://films/videos") == expected
    assert rows(tmp_path / "pattern", "s3://films/videos/*.mp4") == expected
    assert rows(tmp_path / "tar", "s3://films/tars/films.tar") == expected


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_tars_are_read_wherever_they_are(
    mode: str, films: Path, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Compressed ones, too, with the names that `tar -C films .` gives."""
    tar = tmp_path / f"films.tar{mode[1:].replace(':', '.')}"
    with tarfile.open(tar, mode) as file:  # type: ignore[call-overload]
        file.add(films, ".")
    assert rows(tmp_path / "local", tar) == expected
    store = fsspec.filesystem("memory")
    store.pipe(f"/{tar.name}", tar.read_bytes())
    assert rows(tmp_path / "remote", f"memory://{tar.name}") == expected
    store.rm(f"/{tar.name}")


def test_what_a_store_cannot_give_is_told_and_costs_the_others_nothing(
    films: Path, expected: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the store's own; the file is tried again by the next run."""
    from training.data.prepare import scenes

    opened = scenes.opened

    def refuse(uri: str) -> Any:
        if uri.endswith("1.mp4"):
            raise RuntimeError("quota exceeded")
        return opened(uri)

    with monkeypatch.context() as patch:
        patch.setattr(scenes, "opened", refuse)
        found = rows(tmp_path / "out", films)
    reasons = [row["reason"] for row in found]
    assert reasons.count(None) == 2
    assert "cannot be read: RuntimeError: quota exceeded" in reasons
    assert rows(tmp_path / "out", films) == expected
