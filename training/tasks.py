"""What a run trains: a network that learns its words with it, or a checkpoint that has them."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import torch
import torch.distributed as dist
from diffusers import WanPipeline
from peft import LoraConfig
from PIL import Image
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from model.latents import decode_stream
from model.loading import read_index
from model.manifest import Manifest
from model.pipeline import GenerationRequest, VideoPipeline
from model.transformer import SpacetimeTransformer
from training.config import ConfigError, TrainConfig
from training.data.dataset import Dataset, Mixture, usual_sizes
from training.data.prepare.encode import Encoder
from training.data.prepare.sources import SourceError
from training.files import fingerprint, whole_folder
from training.network import TextToVideo, build, build_world_tokenizer, export, tokenize
from training.samples import SEED

EXAMPLES = 8
"""Most captions of a data set that are drawn."""
OF_IMAGES = ("add_k_proj", "add_v_proj")
"""Keys and values of image tokens, which Wan's networks may have beside those of text."""


class Texts(Protocol):
    """What a network is told, by row: 0 is nothing, 1 + n the caption of clip n."""

    def __getitem__(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """What the text encoder takes, `(S, L, ...)`, and masks `(S, L)`."""


class Task(Protocol):
    """What `train.py` asks of a task."""

    length: int

    def texts(self, dataset: Dataset) -> Texts: ...
    def build(self, channels: int) -> TextToVideo: ...
    def export(self, network: TextToVideo) -> None:
        """Write what others open, whole or not at all; all processes call it, one writes."""

    def open(self) -> VideoPipeline:
        """Open what was exported."""

    def requests(self, pipeline: VideoPipeline) -> Sequence[GenerationRequest]:
        """What is drawn to look at, by what `open` gave."""


class Tokenized:
    """Token ids and masks of every caption."""

    def __init__(self, ids: Tensor, masks: Tensor) -> None:
        self.ids, self.masks = ids, masks

    def __getitem__(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return self.ids[rows], self.masks[rows]


class Scratch:
    """A network with a small text encoder of its own, which reads word by word."""

    def __init__(self, config: TrainConfig, dataset: Dataset) -> None:
        self._config = config
        self._dataset = dataset
        self.length = config.network.max_sequence_length
        self.tokenizer = build_world_tokenizer(config, dataset.captions if config.data.sets else ())

    def texts(self, dataset: Dataset) -> Tokenized:
        """The captions of a data set as ids."""
        return Tokenized(*tokenize(self.tokenizer, dataset.captions, self._config))

    def build(self, channels: int) -> TextToVideo:
        """Build the network, or open the one that `init_from` names."""
        return build(self._config, self.tokenizer, channels)

    def export(self, network: TextToVideo) -> None:
        """Write the run's `checkpoint/`."""
        told = limits(self._config, self._dataset) if self._config.data.sets else {}
        shown = examples(self._dataset) if self._config.data.sets else []
        export(self._config.run / "checkpoint", network, self.tokenizer, self._config, told, shown)

    def open(self) -> VideoPipeline:
        """Open the run's `checkpoint/`."""
        return VideoPipeline.from_pretrained(self._config.run / "checkpoint")

    def requests(self, pipeline: VideoPipeline) -> list[GenerationRequest]:
        """The checkpoint's own examples."""
        file = self._config.run / "checkpoint" / "examples.json"
        prompts = json.loads(file.read_text())["examples"]
        return [GenerationRequest(prompt, seed=SEED) for prompt in prompts]


class Given(nn.Module):
    """Stands where a text encoder does, for text that was embedded beforehand."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        """Hand on embeddings `(S, L, D)`."""
        return SimpleNamespace(last_hidden_state=input_ids)


class Embedded:
    """The embeddings of a data set's captions, padded with zeros to the length that Wan reads."""

    def __init__(self, dataset: Mixture, length: int) -> None:
        self._dataset, self._length = dataset, length

    def __getitem__(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        found = [self._dataset.text(int(row)) for row in rows]
        texts = torch.zeros(len(found), self._length, found[0].shape[1])
        for text, one in zip(texts, found, strict=True):
            text[: len(one)] = one
        return texts, torch.ones(texts.shape[:2], dtype=torch.long)


class FineTuning:
    """A checkpoint of Wan's layout, all of its transformer or a LoRA; the rest stays as it is.

    Its captions were embedded when the data was prepared, so that steps need neither the text
    encoder nor the autoencoder; a validation opens them to draw.
    """

    def __init__(self, config: TrainConfig, dataset: Dataset) -> None:
        assert config.init_from is not None and isinstance(dataset, Mixture)
        self._config, self._dataset, self._base = config, dataset, config.init_from
        check_base(config)
        self._index = read_index(self._base, str(self._base))
        self.length = Manifest.of(self._index).max_sequence_length

    def texts(self, dataset: Dataset) -> Embedded:
        """The embeddings of a data set's captions."""
        assert isinstance(dataset, Mixture)
        return Embedded(dataset, self.length)

    def build(self, channels: int) -> TextToVideo:
        """Open the transformer; with `lora.rank`, freeze it and add the adapter.

        Raises:
            ConfigError: if the data's latents or embeddings are not of its shape.
        """
        transformer = SpacetimeTransformer.from_pretrained(
            self._base / "transformer", torch_dtype=torch.float32
        )
        shape = transformer.config
        told = (shape.out_channels or shape.in_channels, shape.text_dim)
        if told != (found := (channels, self._dataset.text(0).shape[1])):
            raise ConfigError(
                f"init_from: the transformer of {self._base} writes latents of {told[0]} channels "
                f"and reads text of width {told[1]}, but data.sets have {found[0]} and {found[1]}"
            )
        return with_adapter(TextToVideo(transformer, Given()), self._config)

    def export(self, network: TextToVideo) -> None:
        """Write the run's `checkpoint/`, or its LoRA `loras/NAME.safetensors`."""
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        state: dict[str, Any] = get_model_state_dict(network, options=options)
        if dist.is_initialized() and dist.get_rank():
            return
        weights = {name.removeprefix("transformer."): value for name, value in state.items()}
        if self._config.lora.rank:
            self._export_lora(network.transformer, weights)
        else:
            self._export_whole(network.transformer, weights)

    def _export_lora(self, transformer: Any, weights: Mapping[str, Tensor]) -> None:
        layers = {
            name.replace(".default.", "."): value.contiguous()
            for name, value in weights.items()
            if "lora_" in name
        }
        told = transformer.peft_config["default"].to_dict()
        told = {name: told[name] for name in ("r", "lora_alpha")} | {
            "target_modules": sorted(told["target_modules"])
        }
        with whole_folder(self._config.run / "loras") as partial:
            WanPipeline.save_lora_weights(
                partial,
                layers,
                weight_name=f"{self._config.name}.safetensors",
                transformer_lora_adapter_metadata=told,
            )

    def _export_whole(self, transformer: Any, weights: Mapping[str, Tensor]) -> None:
        told = {name: v for name, v in transformer.config.items() if not name.startswith("_")}
        whole = SpacetimeTransformer(**told)
        whole.load_state_dict(dict(weights))
        if self._config.precision != "no":
            whole.to(torch.bfloat16)
        with whole_folder(self._config.run / "checkpoint") as partial:
            for part in self._base.iterdir():
                if part.is_dir() and part.name != "transformer":
                    shutil.copytree(part, partial / part.name, copy_function=_link)
            whole.save_pretrained(partial / "transformer")
            index = {**self._index, "name": self._config.name}
            index |= limits(self._config, self._dataset)
            (partial / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
            told = {"examples": examples(self._dataset)}
            (partial / "examples.json").write_text(json.dumps(told, indent=2) + "\n")

    def open(self) -> VideoPipeline:
        """Open the run's `checkpoint/`, or the base with the run's LoRAs."""
        if self._config.lora.rank:
            return VideoPipeline.from_pretrained(self._base, loras=self._config.run / "loras")
        return VideoPipeline.from_pretrained(self._config.run / "checkpoint")

    def requests(self, pipeline: VideoPipeline) -> list[GenerationRequest]:
        """Some captions, in the size and length that most clips have; with the image they need."""
        told = limits(self._config, self._dataset)
        width, height = map(int, told["limits"]["sizes"][0].split("x"))
        return [
            GenerationRequest(
                caption,
                image=self._image(caption, pipeline) if self._dataset.starts_from_image else None,
                seed=SEED,
                width=width,
                height=height,
                num_frames=told["limits"]["num_frames"][0],
                lora=self._config.name if self._config.lora.rank else None,
                **told["defaults"],
            )
            for caption in examples(self._dataset)
        ]

    def _image(self, caption: str, pipeline: VideoPipeline) -> Image.Image:
        """The first frame of the first clip with a caption, decoded."""
        clip = self._dataset.captions.index(caption)
        latents = self._dataset.latents(clip)[None, :, :1].to(pipeline.components.device)
        return Image.fromarray(next(decode_stream(pipeline.components.vae, latents))[0].numpy())


def with_adapter(network: TextToVideo, config: TrainConfig) -> TextToVideo:
    """Freeze a network and add a LoRA to its transformer, if the configuration asks for one.

    Keys and values of text that get one give it to those of image tokens, too: diffusers takes a
    file that has only the first for one of a text-to-video network.

    Raises:
        ConfigError: for targets that the transformer does not have.
    """
    lora = config.lora
    if not lora.rank:
        return network
    network.requires_grad_(False)
    names = [name for name, part in network.transformer.named_modules()
             if isinstance(part, nn.Linear)]  # fmt: skip
    for target in lora.targets:
        if not any(name.endswith(f".{target}") for name in names):
            last = sorted({name.split(".", 2)[-1] for name in names if name.startswith("blocks.")})
            raise ConfigError(
                f"lora.targets: {target!r} is no layer of the blocks; allowed are ends of "
                f"{', '.join(last)}"
            )
    targets = list(lora.targets)
    if network.transformer.config.added_kv_proj_dim and {"to_k", "to_v"} & set(targets):
        targets = list(dict.fromkeys((*targets, *OF_IMAGES)))
    network.transformer.add_adapter(
        LoraConfig(r=lora.rank, lora_alpha=lora.alpha or lora.rank, target_modules=targets)
    )
    return network


def check_base(config: TrainConfig) -> None:
    """Refuse to fine-tune what cannot be, or on data that was encoded by another model.

    Raises:
        ConfigError: naming the key, its value and what is allowed.
    """
    base = config.init_from
    assert base is not None
    index = read_index(base, str(base))
    if (index.get("transformer_2") or [None, None])[1] is not None:
        raise ConfigError(f"init_from: {base} has two experts; allowed is one transformer")
    try:
        first_frames = Encoder(str(base), 0).first_frames
    except SourceError as error:
        raise ConfigError(f"init_from: {error}") from None
    for key in ("first_frame_share", "image_share") if first_frames else ():
        if value := getattr(config.batch, key):
            raise ConfigError(
                f"batch.{key}: {value}, but the transformer of {base} always reads a first frame, "
                "as channels; allowed is 0"
            )
    parts = {name: fingerprint(base / name) for name in ("vae", "tokenizer")}
    for folder in config.data.sets:
        told = json.loads((Path(folder) / "dataset.json").read_text())
        found = {"vae": told.get("vae"), "tokenizer": told.get("text_encoder", "").split("-")[-1]}
        for name, value in parts.items():
            if found[name] != value:
                raise ConfigError(
                    f"data.sets: {folder} was prepared with another {name} than {base}'s; allowed "
                    f"is what training.data.prepare --model {base} wrote"
                )
        if told.get("first_frames", "") != first_frames:
            raise ConfigError(
                f"data.sets: {folder} was prepared {_starting(told.get('first_frames', ''))}, but "
                f"{base} asks for one {_starting(first_frames)}; allowed is what "
                f"training.data.prepare --model {base} wrote"
            )


def _starting(first_frames: str) -> str:
    return "for a network that starts from an image" if first_frames else "for text alone"


def limits(config: TrainConfig, dataset: Dataset) -> dict[str, Any]:
    """What the clips of a data set are like, as `model_index.json` says it."""
    sizes = usual_sizes(dataset).tolist()
    told = json.loads((Path(_prepared(config)) / "dataset.json").read_text())
    side, stride = told["pixels_per_latent"], dataset.frames_per_latent
    return {
        "limits": {
            "sizes": list(dict.fromkeys(f"{w * side}x{h * side}" for _, _, h, w in sizes)),
            "num_frames": list(dict.fromkeys(1 + stride * (t - 1) for t, _, _, _ in sizes)),
            "fps": told["fps"],
        },
        "defaults": {
            "num_inference_steps": config.sampling.num_inference_steps,
            "guidance_scale": config.sampling.guidance_scale,
        },
    }


def examples(dataset: Dataset) -> list[str]:
    """The first captions that differ."""
    return [caption for caption in dict.fromkeys(dataset.captions) if caption][:EXAMPLES]


def _prepared(config: TrainConfig) -> str:
    return next(name for name in config.data.sets if name != "world:")


def _link(source: str, target: str) -> None:
    """The same file under a second name, or a copy where the disk has no such thing."""
    try:
        os.link(Path(source).resolve(), target)
    except OSError:
        shutil.copy2(source, target)
