"""Latents of the world's clips, rendered and encoded once and memory-mapped ever after."""

import hashlib
import json
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import world
from model.autoencoder import VideoAutoencoder
from model.conditions import encode_video
from training.config import DataConfig
from training.files import whole_folder
from training.noise import generator

CHUNK = 200


@dataclass(frozen=True)
class LatentDataset:
    """Normalised latents and captions of `N` clips.

    Attributes:
        clips: `(N, T, C, h, w)` bf16 bits as int16, memory-mapped.
        images: `(N, C, h, w)`: one frame of each clip, encoded on its own.
        captions: one a clip.
    """

    clips: np.ndarray
    images: np.ndarray
    captions: list[str]

    def __len__(self) -> int:
        return len(self.captions)

    def clip_latents(self, ids: Tensor) -> Tensor:
        """Return latents `(B, C, T, h, w)` in fp32."""
        return _as_float(self.clips[ids.numpy()]).transpose(1, 2)

    def image_latents(self, ids: Tensor) -> Tensor:
        """Return latents of single frames `(B, C, 1, h, w)` in fp32."""
        return _as_float(self.images[ids.numpy()]).unsqueeze(2)


def clip_seed(index: int, mix: dict[str, float]) -> tuple[str, int]:
    """Return the family and world seed of training clip `index`; a pure function of both."""
    families = list(mix)
    weights = torch.tensor([mix[f] for f in families], dtype=torch.float64)
    pick = torch.multinomial(weights, 1, generator=generator("family", index)).item()
    return families[int(pick)], index


def open_dataset(config: DataConfig) -> LatentDataset:
    """Open the cached latents, rendering and encoding them first if they are not there.

    The folder's name holds a fingerprint of everything the latents depend on, and it appears only
    when it is whole.
    """
    autoencoder = VideoAutoencoder.from_pretrained(config.autoencoder)
    folder = config.cache / f"world-{_fingerprint(config, autoencoder)}"
    if not folder.exists():
        _build(folder, config, autoencoder)
    return LatentDataset(
        clips=np.load(folder / "clips.npy", mmap_mode="r"),
        images=np.load(folder / "images.npy", mmap_mode="r"),
        captions=json.loads((folder / "captions.json").read_text()),
    )


def render_clip(family: str, seed: int, held_out: bool = False) -> tuple[str, Tensor]:
    """Return the caption and the pixels `(3, T, H, W)` in [-1, 1] of one clip."""
    scene = world.sample(family, seed, held_out=held_out)
    frames = torch.from_numpy(world.render(scene))
    return scene.caption, frames.permute(3, 0, 1, 2).float() / 127.5 - 1


def _fingerprint(config: DataConfig, autoencoder: VideoAutoencoder) -> str:
    digest = hashlib.blake2b(digest_size=8)
    digest.update(json.dumps([config.clips, config.mix]).encode())
    for tensor in autoencoder.encoder.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    statistics = (autoencoder.config.latents_mean, autoencoder.config.latents_std)
    digest.update(json.dumps(statistics).encode())
    for source in sorted(Path(world.__file__).parent.rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _build(folder: Path, config: DataConfig, autoencoder: VideoAutoencoder) -> None:
    captions: list[str] = []
    started = time.monotonic()
    clips = images = None
    with whole_folder(folder) as partial_folder:
        for start, (clip_bits, image_bits, texts) in _encoded_chunks(config, autoencoder):
            if clips is None or images is None:
                clips = _create(partial_folder / "clips.npy", config.clips, clip_bits)
                images = _create(partial_folder / "images.npy", config.clips, image_bits)
            clips[start : start + len(texts)] = clip_bits
            images[start : start + len(texts)] = image_bits
            captions += texts
            rate = len(captions) / (time.monotonic() - started)
            print(f"\rcaching latents {len(captions)}/{config.clips}, {rate:.0f} clips/s", end="")
        print()
        (partial_folder / "captions.json").write_text(json.dumps(captions))


def _create(path: Path, count: int, like: np.ndarray) -> np.ndarray:
    return np.lib.format.open_memmap(path, "w+", like.dtype, (count, *like.shape[1:]))


def _encoded_chunks(
    config: DataConfig, autoencoder: VideoAutoencoder
) -> Iterator[tuple[int, tuple[np.ndarray, np.ndarray, list[str]]]]:
    starts = range(0, config.clips, CHUNK)
    encode = partial(_encode_chunk, autoencoder, config.mix, config.clips)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(config.workers, mp_context=context) as pool:
        yield from zip(starts, pool.map(encode, starts), strict=True)


@torch.no_grad()
def _encode_chunk(
    autoencoder: VideoAutoencoder, mix: dict[str, float], total: int, start: int
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    torch.set_num_threads(1)
    clips, images, captions = [], [], []
    for index in range(start, min(start + CHUNK, total)):
        caption, video = render_clip(*clip_seed(index, mix))
        pick = torch.randint(video.shape[1], (), generator=generator("frame", index))
        clips.append(encode_video(autoencoder, video[None])[0].transpose(0, 1))
        images.append(encode_video(autoencoder, video[None, :, pick, None])[0, :, 0])
        captions.append(caption)
    return _as_bits(torch.stack(clips)), _as_bits(torch.stack(images)), captions


def _as_bits(latents: Tensor) -> np.ndarray:
    return latents.bfloat16().view(torch.int16).numpy()


def _as_float(bits: np.ndarray) -> Tensor:
    return torch.from_numpy(bits).view(torch.bfloat16).float()
