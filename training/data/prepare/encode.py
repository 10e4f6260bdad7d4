"""Clips to latents and text embeddings, in shards that are there whole or not at all."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from model.autoencoder import VideoAutoencoder
from model.latents import encode_video
from model.loading import (
    library_class,
    load_component,
    load_network,
    locate,
    outline_network,
    read_index,
)
from model.manifest import Manifest
from model.text import encode_prompts
from training.data.clips import covering, cropped, read_clip
from training.data.decode import Pixels
from training.data.prepare.sources import SourceError
from training.data.prepare.workers import each
from training.files import fingerprint, whole_folder

TOGETHER = 8
"""Single frames that are encoded at a time."""
SHARD = 64
"""Most clips of a shard."""
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Encoder:
    """What makes latents and embeddings of clips; it travels to the processes by name.

    Attributes:
        model: checkpoint folder or hub id, whose autoencoder and text encoder are used.
        fps: of the data set.
    """

    model: str
    fps: int

    @property
    def folder(self) -> Path:
        """Where the model's files are."""
        return locate(self.model, "weights")[0]

    def fingerprint(self, *parts: str) -> str:
        """Of the files of some components."""
        return "-".join(fingerprint(self.folder / part) for part in parts)

    @property
    def pixels_per_latent(self) -> int:
        """Sides of the square that a latent stands for."""
        return int(self._vae_config.scale_factor_spatial)

    @property
    def _vae_config(self) -> Any:
        index = read_index(self.folder, self.model)
        return outline_network(self.folder, "vae", _kind(index, "vae"), torch.float32).config

    @property
    def _transformer_config(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads((self.folder / "transformer/config.json").read_text())
        return told

    @property
    def first_frames(self) -> str:
        """Says how the model's network reads a first frame as channels; empty: it does not.

        Raises:
            SourceError: if it starts from a first and a last frame.
        """
        transformer = self._transformer_config
        latent = self._vae_config.z_dim
        if transformer.get("in_channels", latent) == latent:
            return ""
        if transformer.get("pos_embed_seq_len") is not None:
            raise SourceError(
                f"{self.model}: its transformer starts from a first and a last frame; allowed are "
                "text and a first frame"
            )
        seen = transformer.get("image_dim") is not None
        return f"channels-{self.fingerprint('image_encoder')}" if seen else "channels"

    def shape(self) -> tuple[int, int]:
        """Pixels of which sides must be a multiple, and frames that a latent frame stands for."""
        vae, transformer = self._vae_config, self._transformer_config
        patch = max(transformer.get("patch_size", (1, 2, 2))[1:])
        return vae.scale_factor_spatial * patch, vae.scale_factor_temporal


@dataclass(frozen=True)
class Shard:
    """Some clips, in order, and the folder that what is made of them is kept in.

    `done` is what the folder says of its content; one that says the same is not made again.
    """

    folder: Path
    clips: Sequence[dict[str, Any]]
    done: str

    @property
    def is_there(self) -> bool:
        """Whether it has been made."""
        said = self.folder / "content.txt"
        return said.is_file() and said.read_text() == self.done


def shards(
    folder: Path, clips: Sequence[dict[str, Any]], size: int, made_by: str, of: Sequence[str]
) -> list[Shard]:
    """Divide clips among shards.

    Args:
        folder: of all shards.
        clips: rows.
        size: most clips of a shard.
        made_by: fingerprint of what makes the content.
        of: the columns that the content depends on.
    """
    found = []
    for number, start in enumerate(range(0, len(clips), size)):
        some = clips[start : start + size]
        told = json.dumps([made_by, [[clip[name] for name in of] for clip in some]])
        done = hashlib.blake2b(told.encode(), digest_size=16).hexdigest()
        found.append(Shard(folder / f"{number:05d}", some, done))
    return found


def encode(clips: Rows, encoder: Encoder, out: Path, workers: int) -> dict[str, Any]:
    """Encode clips and captions in shards; tells each row its place, and gives fingerprints."""
    of_video = encoder.fingerprint("vae")
    of_text = encoder.fingerprint("text_encoder", "tokenizer")
    columns = ("id", "frames", "clip_width", "clip_height")
    firsts = encoder.first_frames
    made_by = json.dumps([of_video, encoder.fps, firsts])
    latents = shards(out / "latents", clips, SHARD, made_by, columns)
    texts = shards(out / "text", clips, SHARD, of_text, ("id", "caption"))
    _make(partial(encode_latents, encoder), latents, out / "latents", workers)
    _make(partial(encode_texts, encoder), texts, out / "text", workers)
    for number, shard in enumerate(latents):
        for row, clip in enumerate(shard.clips):
            clip.update(shard=number, row=row)
    return {"vae": of_video, "text_encoder": of_text, "first_frames": firsts}


def _make(work: Any, all_shards: list[Shard], folder: Path, workers: int) -> None:
    folder.mkdir(exist_ok=True)
    missing = [shard for shard in all_shards if not shard.is_there]
    done = sum(len(s.clips) for s in all_shards) - sum(len(s.clips) for s in missing)
    with tqdm(
        desc=folder.name, total=sum(len(s.clips) for s in all_shards), initial=done
    ) as progress:
        for shard, _ in each(work, missing, workers):
            if not shard.is_there:
                raise SourceError(f"{shard.folder}: encoding its clips ends the process")
            progress.update(len(shard.clips))
    for stale in {*folder.iterdir()} - {shard.folder for shard in all_shards}:
        shutil.rmtree(stale)  # of clips that there are no more


@torch.no_grad()
def encode_latents(encoder: Encoder, shard: Shard) -> None:
    """Write a shard of latents: `clips.bf16`, `stills.bf16` and `sizes.npy`.

    For a network that starts from an image, `firsts.bf16` and perhaps `images.npy`, too.
    """
    torch.set_num_threads(1)
    vae = _component(encoder.model, "vae")
    sizes, images = [], []
    firsts = encoder.first_frames
    with whole_folder(shard.folder) as folder, ExitStack() as stack:
        files = {
            name: stack.enter_context((folder / f"{name}.bf16").open("wb"))
            for name in ("clips", "stills", *(("firsts",) if firsts else ()))
        }
        for clip in shard.clips:
            size = clip["clip_width"], clip["clip_height"]
            frames = cropped(read_clip(clip, Fraction(encoder.fps), covering(*size)), *size)
            latents, alone = encode_frames(vae, frames)
            files["clips"].write(as_bits(latents).tobytes())
            files["stills"].write(as_bits(alone).tobytes())
            if firsts:
                files["firsts"].write(as_bits(encode_first(vae, frames)).tobytes())
            if firsts not in ("", "channels"):
                images.append(as_bits(image_tokens(encoder.model, frames[0])))
            sizes.append(latents.shape)
        np.save(folder / "sizes.npy", np.array(sizes, dtype=np.int64))
        if images:
            np.save(folder / "images.npy", np.stack(images))
        (folder / "content.txt").write_text(shard.done)


def encode_frames(vae: Any, frames: Pixels) -> tuple[Tensor, Tensor]:
    """Encode a clip `(T, H, W, 3)`, and the last pixel frame of each latent frame alone.

    Gives latents `(T', C, h, w)` twice, as `LatentDataset` has them.
    """
    device = next(vae.parameters()).device
    video = torch.from_numpy(frames).to(device).permute(3, 0, 1, 2).float() / 127.5 - 1
    clip = encode_video(vae, video[None])[0].transpose(0, 1)
    single = video[:, :: vae.config.scale_factor_temporal].transpose(0, 1)[:, :, None]
    parts = [encode_video(vae, some)[:, :, 0] for some in single.split(TOGETHER)]
    return clip.cpu(), torch.cat(parts).cpu()


def encode_first(vae: Any, frames: Pixels) -> Tensor:
    """Encode a clip's first frame with grey in place of the others, `(T', C, h, w)`."""
    device = next(vae.parameters()).device
    video = torch.zeros(1, 3, *frames.shape[:3], device=device)
    video[0, :, 0] = torch.from_numpy(frames[0]).to(device).permute(2, 0, 1) / 127.5 - 1
    return encode_video(vae, video)[0].transpose(0, 1).cpu()


def image_tokens(model: str, frame: Pixels) -> Tensor:
    """What a checkpoint's image encoder says of a frame: its last hidden layer but one, `(S, D)`.

    As Wan2.1's image-to-video networks were trained on.
    """
    network, processor = _component(model, "image_encoder"), _component(model, "image_processor")
    inputs = processor(images=[Image.fromarray(frame)], return_tensors="pt").to(network.device)
    hidden: Tensor = network(**inputs, output_hidden_states=True).hidden_states[-2]
    return hidden[0].cpu()


@torch.no_grad()
def encode_texts(encoder: Encoder, shard: Shard) -> None:
    """Write a shard of embeddings: `text.bf16`, and `lengths.npy` with that of "" first."""
    torch.set_num_threads(1)
    told = Manifest.of(read_index(encoder.folder, encoder.model))
    network = _component(encoder.model, "text_encoder")
    tokenizer = _component(encoder.model, "tokenizer")
    captions = [clip["caption"] for clip in shard.clips]
    lengths = []
    with whole_folder(shard.folder) as folder, (folder / "text.bf16").open("wb") as file:
        for text in ["", *captions]:
            rows = encode_prompts([text], tokenizer, network, told.max_sequence_length)[0].float()
            length = int((rows != 0).any(dim=1).sum())  # past the end they are zeros
            file.write(as_bits(rows[:length]).tobytes())
            lengths.append(length)
        np.save(folder / "lengths.npy", np.array([lengths, [rows.shape[1]] * len(lengths)]))
        (folder / "content.txt").write_text(shard.done)


def as_bits(latents: Tensor) -> NDArray[np.int16]:
    """Numbers as the bits of bf16."""
    bits: NDArray[np.int16] = latents.bfloat16().contiguous().cpu().view(torch.int16).numpy()
    return bits


def _kind(index: dict[str, Any], part: str) -> Any:
    ours = index[part][1] == "VideoAutoencoder"
    return VideoAutoencoder if ours else library_class(index, part)


@lru_cache(maxsize=4)
def _component(model: str, part: str) -> Any:
    """A component of a checkpoint, opened once a process."""
    folder = locate(model, "weights")[0]
    kind = _kind(read_index(folder, model), part)
    if part in ("tokenizer", "image_processor"):
        return load_component(folder, part, kind)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return load_network(folder, part, kind, torch.float32).to(device)
