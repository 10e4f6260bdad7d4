"""Every form of checkpoint opens with what it can do; what cannot open says so in a sentence."""

import dataclasses
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
from safetensors.torch import load_file, save_file

from model.description import describe
from model.loading import SUPPORTED
from model.pipeline import CheckpointError, ModelDescription, VideoPipeline

Build = Callable[..., Path]

WAN_SIZES = ("832x480", "480x832", "1280x720", "720x1280")


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("t2v", {"capabilities": ("text",), "sizes": WAN_SIZES, "guidance_scale_2": None}),
        ("experts", {"capabilities": ("text", "two_experts"), "guidance_scale_2": 3.0}),
        ("ti2v", {"capabilities": ("text", "first_frame"), "fps": 24, "size_multiple": 32}),
        ("i2v", {"capabilities": ("first_frame", "two_experts"), "num_inference_steps": 40}),
        ("i2v-clip", {"capabilities": ("first_frame",), "guidance_scale": 5.0}),
        (
            "embedded",
            {
                "capabilities": ("text",),
                "sizes": ("64x48", "48x64"),
                "size_multiple": None,
                "num_frames": (17, 9),
                "fps": 8,
                "num_inference_steps": 3,
                "guidance_scale": 2.5,
                "flow_shift": 3.0,
                "max_sequence_length": 12,
                "grammar": ("a {animal} walks {side}",),
                "examples": ("a cat walks left",),
            },
        ),
    ],
)
def test_description_says_what_a_checkpoint_can_do(
    build: Build, form: str, expected: dict[str, Any]
) -> None:
    pipeline = VideoPipeline.from_pretrained(build(form))
    described = dataclasses.asdict(pipeline.description)
    assert described == described | expected
    assert json.loads(json.dumps(described)).keys() == described.keys()
    experts = (pipeline.components.transformer, pipeline.components.transformer_2)
    weights = sum(p.numel() for expert in experts if expert for p in expert.parameters())
    assert described["parameters"] == weights and described["name"] == build(form).name


def test_wan_defaults_end_at_what_it_was_trained_for(build: Build) -> None:
    for form, longest in (("t2v", 81), ("ti2v", 121)):
        lengths = VideoPipeline.from_pretrained(build(form)).description.num_frames
        assert lengths[0] == longest and lengths[-1] == 1  # the default first
        assert all(n % 4 == 1 for n in lengths)


def test_dtype_and_device_are_obeyed(build: Build) -> None:
    """In bf16, what Wan keeps in fp32 stays so, and so does the autoencoder."""
    parts = VideoPipeline.from_pretrained(build("t2v"), "cpu", torch.bfloat16).components
    assert parts.text_encoder.dtype == parts.transformer.proj_out.weight.dtype == torch.bfloat16
    assert parts.transformer.scale_shift_table.dtype == parts.vae.dtype == torch.float32
    assert VideoPipeline.from_pretrained(build("t2v")).components.text_encoder.dtype == (
        torch.bfloat16 if torch.cuda.is_available() else torch.float32
    )


def edited(file: str, **changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(content | changes))

    return edit


def index(**changes: Any) -> Callable[[Path], None]:
    return edited("model_index.json", **changes)


def dropped(path: str) -> Callable[[Path], None]:
    def drop(folder: Path) -> None:
        target = folder / path
        shutil.rmtree(target) if target.is_dir() else target.unlink()

    return drop


def written(path: str, content: bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / path).write_bytes(content)

    return write


def without_tensor(folder: Path) -> None:
    file = folder / "transformer/diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    del weights["blocks.1.ffn.net.2.weight"]
    save_file(weights, file)


WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
TRANSFORMER = "transformer/config.json"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (dropped("model_index.json"), "model_index.json is missing"),
        (written("model_index.json", b"{"), "model_index.json is not JSON"),
        (written("model_index.json", b"[]"), "model_index.json is not a JSON object"),
        (index(_class_name="WanVACEPipeline"), f"a WanVACEPipeline checkpoint; {SUPPORTED}"),
        (index(_class_name="WanAnimatePipeline"), "a WanAnimatePipeline checkpoint; supported"),
        (
            index(transformer=["diffusers", "WanVACETransformer3DModel"]),
            "transformer: a WanVACETransformer3DModel; supported are",
        ),
        (index(transformer=[None, None]), "transformer: model_index.json names none"),
        (index(vae=["diffusers", "AutoencoderKLNone"]), "vae: diffusers.AutoencoderKLNone is not"),
        (index(vae=["os", "path"]), "vae: os.path is not known"),
        (index(scheduler=["diffusers", "logging"]), "scheduler: diffusers.logging is not known"),
        (index(boundary_ratio=0.9), "transformer_2 is missing, with boundary_ratio"),
        (
            index(transformer_2=["diffusers", "WanTransformer3DModel"]),
            "transformer_2 without boundary_ratio",
        ),
        (index(capabilities=["text", "sound"]), r"capabilities has \['sound'\]; known are text"),
        (
            index(limits={"sizes": ["40x64"]}),
            "limits.sizes has '40x64'; allowed .* multiples of 16",
        ),
        (index(limits={"sizes": ["64"]}), "limits.sizes has '64'"),
        (index(limits={"num_frames": [9, 8]}), "limits.num_frames has 8; allowed is 1 more than"),
        (index(limits={"sizes": []}), "limits.sizes is empty"),
        (dropped("vae"), "vae: the folder .*vae is missing"),
        (dropped("tokenizer/tokenizer.json"), "tokenizer: "),
        (dropped(WEIGHTS), "transformer: .* no file named diffusion_pytorch_model.safetensors"),
        (written(WEIGHTS, b"half a file"), "transformer: "),
        (dropped("text_encoder/model.safetensors"), "text_encoder: "),
        (written("text_encoder/model.safetensors", b"half a file"), "text_encoder: "),
        (without_tensor, "lacks 1 tensors, the first blocks.1.ffn.net.2.weight"),
        (edited(TRANSFORMER, ffn_dim=60), "transformer: .*ffn.net.0.proj"),
        (edited("vae/config.json", z_dim=12), "vae: "),
        (
            edited("scheduler/scheduler_config.json", use_dynamic_shifting=True),
            "use_dynamic_shifting is on",
        ),
    ],
)
def test_a_damaged_or_unsupported_checkpoint_is_refused(
    build: Build, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(build("t2v"), folder)
    damage(folder)
    with pytest.raises(CheckpointError, match=message) as refusal:
        VideoPipeline.from_pretrained(folder)
    assert "\n" not in str(refusal.value)


def test_components_that_do_not_fit_are_refused(build: Build, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    for part, other, message in (
        ("vae", "ti2v", "the transformer writes 16 channels, but the autoencoder reads 48"),
        ("transformer", "i2v-clip", "image_encoder is missing, but the transformer reads image"),
    ):
        shutil.copytree(build("t2v"), folder)
        shutil.rmtree(folder / part)
        shutil.copytree(build(other) / part, folder / part)
        with pytest.raises(CheckpointError, match=message):
            VideoPipeline.from_pretrained(folder)
        shutil.rmtree(folder)


def test_channels_that_no_form_of_wan_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="in_channels is 33; allowed are 16 .* and 36"):
        described(tmp_path, {}, condition_channels=17)
    with pytest.raises(CheckpointError, match="capabilities has 'text', but .* first frame"):
        described(tmp_path, {"capabilities": ["text"]}, condition_channels=20)


def described(folder: Path, told: dict[str, Any], condition_channels: int) -> ModelDescription:
    return describe(
        "name",
        folder,
        told,
        latent_channels=16,
        condition_channels=condition_channels,
        pixels_per_cell=16,
        frames_per_latent=4,
        flow_shift=3.0,
        parameters=1,
    )


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
    index(_class_name="WanVACEPipeline")(folder)
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
