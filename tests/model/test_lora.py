"""A LoRA by name: the latents are those of diffusers with the same file; without it, the base's.

Latents after 3 steps, relative by norm. Bound 1e-4, as in test_pipeline.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from model.lora import lora_names
from model.pipeline import GenerationRequest, RequestError, VideoPipeline

Build = Callable[..., Path]
SMALL: dict[str, Any] = {"height": 48, "width": 64, "num_frames": 5, "num_inference_steps": 3}


def write_lora(folder: Path, file: Path, seed: int, rank: int = 3) -> None:
    """A LoRA on every attention of the folder's transformer, as trainers save it."""
    network = WanPipeline.from_pretrained(folder, vae=None, text_encoder=None).transformer
    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    torch.manual_seed(seed)
    network.add_adapter(
        LoraConfig(r=rank, lora_alpha=2 * rank, init_lora_weights=False, target_modules=targets)
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    layers = get_peft_model_state_dict(network)
    layers = {name: 20 * weight for name, weight in layers.items()}
    WanPipeline.save_lora_weights(file.parent, layers, weight_name=file.name)


@pytest.fixture(scope="module")
def loras(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loras")
    write_lora(build("t2v"), folder / "ink.safetensors", 1)
    write_lora(build("t2v"), folder / "noir.v2.safetensors", 2)
    write_lora(build("experts"), folder / "pair" / "transformer.safetensors", 3)
    write_lora(build("experts"), folder / "pair" / "transformer_2.safetensors", 4)
    save_file({"weight": torch.zeros(2)}, folder / "broken.safetensors")
    (folder / "notes.txt").write_text("no LoRA")
    (folder / "empty").mkdir()
    return folder


def latents(pipeline: VideoPipeline, **changes: Any) -> torch.Tensor:
    seen: list[torch.Tensor] = []
    decode = pipeline.decode
    pipeline.decode = lambda x: (seen.append(x), decode(x))[1]  # type: ignore[method-assign]
    try:
        pipeline.render(GenerationRequest("a red cat", seed=3, **SMALL, **changes))
    finally:
        del pipeline.decode
    return seen[0]


def theirs(folder: Path, *files: Path) -> torch.Tensor:
    pipeline = WanPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    for i, file in enumerate(files):
        second = {"load_into_transformer_2": True} if i else {}
        pipeline.load_lora_weights(str(file.parent), weight_name=file.name, **second)
    made: torch.Tensor = pipeline(
        "a red cat", generator=torch.Generator().manual_seed(3), output_type="latent", **SMALL
    ).frames
    return made


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


def test_latents_are_those_of_diffusers_and_then_the_base_s_again(
    build: Build, loras: Path
) -> None:
    """Bit-equal again, weights and latents; a LoRA moves the latents a hundred bounds and more."""
    pipeline = VideoPipeline.from_pretrained(build("t2v"), loras=loras)
    before = {k: v.clone() for k, v in pipeline.components.transformer.state_dict().items()}
    base = latents(pipeline)
    for name in ("ink", "noir.v2"):
        expected = theirs(build("t2v"), loras / f"{name}.safetensors")
        made = latents(pipeline, lora=name)
        print(name, difference(made, expected), difference(made, base))
        assert difference(made, expected) <= 1e-4
        assert difference(made, base) >= 1e-2
        after = pipeline.components.transformer.state_dict()
        assert after.keys() == before.keys()
        assert all(torch.equal(after[key], weight) for key, weight in before.items())
        assert torch.equal(latents(pipeline), base)


def test_a_folder_holds_a_file_for_each_expert(build: Build, loras: Path) -> None:
    pipeline = VideoPipeline.from_pretrained(build("experts"), loras=loras)
    files = [loras / "pair" / f"{part}.safetensors" for part in ("transformer", "transformer_2")]
    expected = theirs(build("experts"), *files)
    made = latents(pipeline, lora="pair", guidance_scale=5.0)
    assert difference(made, expected) <= 1e-4 <= 1e-2 <= difference(made, latents(pipeline))


def test_names_are_those_of_the_folder(loras: Path, tmp_path: Path, build: Build) -> None:
    assert lora_names(loras) == ("broken", "ink", "noir.v2", "pair")
    assert lora_names(tmp_path / "none") == lora_names(None) == ()
    pipeline = VideoPipeline.from_pretrained(build("t2v"), loras=loras)
    assert pipeline.description.loras == ("broken", "ink", "noir.v2", "pair")


@pytest.mark.parametrize(
    "name", ["blot", "../ink", "ink.safetensors", "pair/transformer", "/etc/passwd", "", "empty"]
)
def test_an_unknown_name_or_a_path_is_refused_with_the_list(
    build: Build, loras: Path, name: str
) -> None:
    pipeline = VideoPipeline.from_pretrained(build("t2v"), loras=loras)
    with pytest.raises(RequestError, match="lora is .*; allowed: broken, ink, noir.v2, pair$"):
        pipeline.generate(GenerationRequest("a cat", lora=name))


def test_a_file_that_does_not_fit_is_an_error_that_leaves_the_base_alone(
    build: Build, loras: Path
) -> None:
    pipeline = VideoPipeline.from_pretrained(build("t2v"), loras=loras)
    base = latents(pipeline)
    with pytest.raises(RequestError, match="lora is 'broken'; allowed: a file that fits the model"):
        latents(pipeline, lora="broken")
    assert torch.equal(latents(pipeline), base)


def test_two_requests_at_a_time_share_a_lora_or_have_none(build: Build, loras: Path) -> None:
    """Half-way through one, another of the same LoRA may begin and end; one of another may not."""
    pipeline = VideoPipeline.from_pretrained(build("t2v"), loras=loras)
    with_ink = GenerationRequest("a red cat", seed=3, lora="ink", **SMALL)
    expected = pipeline.render(with_ink).frames
    running = pipeline.generate(with_ink)
    for _ in range(4):
        next(running)
    assert (pipeline.render(with_ink).frames == expected).all()
    for other in (None, "noir.v2"):
        with pytest.raises(RequestError, match="'ink', which another request is using"):
            pipeline.render(GenerationRequest("a red cat", lora=other, **SMALL))
    *_, video = running
    assert (getattr(video, "frames", None) == expected).all()
    assert not getattr(pipeline.components.transformer, "peft_config", None)
