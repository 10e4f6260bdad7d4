"""A checkpoint is found in a folder or fetched from the hub, and only when it can be run."""

import json
import shutil
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import huggingface_hub
import pytest
import torch

from model.pipeline import CheckpointError, VideoPipeline

Build = Callable[..., Path]


@pytest.mark.parametrize("source", ["/no/such/folder", "just-a-name", "../up", "a/b/c", ""])
def test_what_is_neither_folder_nor_hub_id_is_refused(source: str) -> None:
    with pytest.raises(CheckpointError, match="no such folder; allowed are .*owner/name"):
        VideoPipeline.from_pretrained(source)


class Hub(BaseHTTPRequestHandler):
    """As much of the Hugging Face Hub as a snapshot of a public repository needs."""

    repositories: dict[str, Path] = {}
    asked: list[str] = []
    commit = "0123456789abcdef0123456789abcdef01234567"

    def do_GET(self) -> None:
        path = self.path.split("?")[0].lstrip("/")
        kind, _, rest = path.partition("/") if path.startswith("api/") else ("", "", path)
        name = "/".join(rest.removeprefix("models/").split("/")[:2])
        folder = self.repositories.get(name)
        if folder is None:
            self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif kind:
            files = [p.relative_to(folder) for p in sorted(folder.rglob("*")) if p.is_file()]
            tree = [{"type": "file", "path": str(f), "size": 1, "oid": "0"} for f in files]
            told = tree if "/tree/" in path else {"id": name, "sha": self.commit}
            self.answer(200, json.dumps(told).encode(), {})
        else:
            file = path.split(f"{self.commit}/")[1]
            self.asked.append(file)
            headers = {"ETag": f'"{file}"', "X-Repo-Commit": self.commit}
            self.answer(200, (folder / file).read_bytes(), headers)

    do_HEAD = do_GET

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    constants = huggingface_hub.constants
    root = f"http://127.0.0.1:{server.server_port}"
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, root)
    monkeypatch.setattr(constants, "ENDPOINT", root)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    Hub.repositories, Hub.asked = {}, []
    yield Hub
    server.shutdown()
    server.server_close()


def test_a_hub_id_is_fetched_and_opened(build: Build, hub: type[Hub], tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    shutil.copytree(build("t2v"), folder)
    (folder / "assets").mkdir()
    (folder / "assets/picture.png").write_bytes(b"not needed")
    hub.repositories["owner/Tiny-Diffusers"] = folder
    pipeline = VideoPipeline.from_pretrained("owner/Tiny-Diffusers")
    assert pipeline.description.name == "Tiny-Diffusers"
    local = VideoPipeline.from_pretrained(build("t2v")).components.transformer.state_dict()
    fetched = pipeline.components.transformer.state_dict()
    assert all(torch.equal(fetched[key], weight) for key, weight in local.items())
    assert "assets/picture.png" not in hub.asked


def test_an_unsupported_form_is_refused_before_its_weights_arrive(
    build: Build, hub: type[Hub], tmp_path: Path
) -> None:
    folder = tmp_path / "repository"
    shutil.copytree(build("t2v"), folder)
    (folder / "model_index.json").write_text('{"_class_name": "WanVACEPipeline"}')
    hub.repositories["owner/VACE"] = folder
    with pytest.raises(CheckpointError, match="owner/VACE: a WanVACEPipeline checkpoint"):
        VideoPipeline.from_pretrained("owner/VACE")
    assert set(hub.asked) == {"model_index.json"}


def test_an_unknown_repository_is_refused(hub: type[Hub]) -> None:
    with pytest.raises(CheckpointError, match="owner/none: no such folder, and no such repository"):
        VideoPipeline.from_pretrained("owner/none")


def test_an_unreachable_hub_is_refused(hub: type[Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match="owner/x: no such folder, .* cannot be reached"):
        VideoPipeline.from_pretrained("owner/x")
