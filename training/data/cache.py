"""Latents of the world's clips, rendered and encoded once and memory-mapped ever after."""

import hashlib
import json
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import world
from model.autoencoder import STRIDE, VideoAutoencoder
from model.latents import encode_video
from training.config import DataConfig
from training.files import in_turn, whole_folder
from training.noise import generator

CHUNK = 200


@dataclass(frozen=True)
class LatentDataset:
    """Normalised latents and captions of N clips of any sizes, in two flat files of bf16.

    Attributes:
        clips, stills: bf16 bits as int16, from `mapped`; clip n is `(T, C, h, w)` from `offsets[n]`
            on. Still k of a clip is the last pixel frame of latent frame k, encoded on its own.
        offsets: `(N,)`, in numbers.
        sizes: `(N, 4)`: T, C, h and w of each clip.
        captions: one a clip.
        fingerprint: of everything that the latents depend on.
        frames_per_latent: pixel frames that a latent frame stands for, but for the first.
        firsts: as `clips`, of each clip's first frame with grey after it, where the network that it
            was prepared for starts from an image.
        images: `(N, S, D)`, bf16 bits: what the image encoder says of each clip's first frame,
            where there is one.
    """

    clips: np.ndarray
    stills: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    captions: list[str]
    fingerprint: str = ""
    frames_per_latent: int = STRIDE
    firsts: np.ndarray | None = None
    images: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.captions)

    @property
    def epoch(self) -> int:
        """Visits of an epoch: one of each clip."""
        return len(self)

    def visit(self, slot: int, epoch: int) -> int:
        """The clip that is shown at a slot of an epoch."""
        return slot

    @property
    def channels(self) -> int:
        """C, the same for all."""
        return int(self.sizes[0, 1])

    def size(self, clip: int) -> tuple[int, int, int]:
        """Return T, h and w of a clip's latents."""
        frames, _, height, width = self.sizes[clip].tolist()
        return frames, height, width

    def latents(self, clip: int) -> Tensor:
        """Return the latents of a clip, `(C, T, h, w)` fp32."""
        return self._bits(self.clips, clip).float().transpose(0, 1)

    def still_latents(self, clip: int, frames: Sequence[int]) -> Tensor:
        """Return the last pixel frames of some latent frames, each encoded alone, fp32."""
        return self._bits(self.stills, clip)[list(frames)].float().transpose(0, 1)

    @property
    def starts_from_image(self) -> bool:
        """Whether there are `first_latents`."""
        return self.firsts is not None

    def first_latents(self, clip: int) -> Tensor:
        """Return the latents of a clip's first frame with grey after it, `(C, T, h, w)` fp32."""
        assert self.firsts is not None
        return self._bits(self.firsts, clip).float().transpose(0, 1)

    def image_tokens(self, clip: int) -> Tensor | None:
        """Return what the image encoder says of a clip's first frame, `(S, D)` fp32, if it does."""
        if self.images is None:
            return None
        return torch.from_numpy(self.images[clip]).view(torch.bfloat16).float()

    def _bits(self, bits: np.ndarray, clip: int) -> Tensor:
        start, size = int(self.offsets[clip]), self.sizes[clip]
        flat = torch.from_numpy(bits[start : start + int(size.prod())])
        return flat.view(torch.bfloat16).view(*size.tolist())


def mapped(file: Path) -> np.ndarray:
    """Map a file of bf16 bits; on write its pages are copied, since torch wants to be able to."""
    return np.memmap(file, np.int16, "c")


def clip_scene(index: int, config: DataConfig) -> world.Scene:
    """Return the scene of training clip `index`; its seed is its index."""
    families = list(config.mix)
    weights = torch.tensor([config.mix[f] for f in families], dtype=torch.float64)
    pick = torch.multinomial(weights, 1, generator=generator("family", index)).item()
    family = families[int(pick)]
    frames = max(clip_frames(index, config, family), world.NUM_FRAMES)
    return world.sample(family, index, slots=config.known[family], frames=frames)


def clip_frames(index: int, config: DataConfig, family: str) -> int:
    """Return the length of training clip `index`, one of those that its family can have."""
    lengths = [length for length in config.frames if length <= world.longest(family)]
    return lengths[_draw("frames", index, len(lengths))]


def clip_size(index: int, config: DataConfig) -> tuple[int, int]:
    """Return height and width of training clip `index`."""
    width, height = config.sizes[_draw("size", index, len(config.sizes))].split("x")
    return int(height), int(width)


def _draw(what: str, index: int, count: int) -> int:
    return int(torch.randint(count, (), generator=generator(what, index)))


def open_dataset(config: DataConfig) -> LatentDataset:
    """Open the cached latents, rendering and encoding them first if they are not there.

    The folder's name holds a fingerprint of everything the latents depend on, and it appears only
    when it is whole. Of several processes that ask for it, one makes it and the others wait.
    """
    autoencoder = VideoAutoencoder.from_pretrained(config.autoencoder)
    fingerprint = _fingerprint(config, autoencoder)
    folder = config.cache / f"world-{fingerprint}"
    if not folder.exists():
        with in_turn(config.cache / ".lock"):
            if not folder.exists():
                _build(folder, config, autoencoder)
    sizes = np.load(folder / "sizes.npy")
    return LatentDataset(
        clips=mapped(folder / "clips.bf16"),
        stills=mapped(folder / "stills.bf16"),
        offsets=np.concatenate([[0], sizes.prod(axis=1).cumsum()[:-1]]),
        sizes=sizes,
        captions=json.loads((folder / "captions.json").read_text()),
        fingerprint=fingerprint,
    )


def render_clip(
    scene: world.Scene, size: tuple[int, int] = (64, 64), frames: int = world.MAX_FRAMES
) -> Tensor:
    """Return the pixels `(3, T, height, width)` in [-1, 1] of a scene's first frames."""
    pixels = torch.from_numpy(world.render(scene, size)[:frames])
    return pixels.permute(3, 0, 1, 2).float() / 127.5 - 1


def _fingerprint(config: DataConfig, autoencoder: VideoAutoencoder) -> str:
    digest = hashlib.blake2b(digest_size=8)
    shape = [config.sizes, config.frames]
    usual = [DataConfig.model_fields[name].default for name in ("sizes", "frames")]
    told = [config.clips, config.mix, config.slots, *(shape if shape != usual else ())]
    digest.update(json.dumps(told).encode())
    for tensor in autoencoder.encoder.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    statistics = (autoencoder.config.latents_mean, autoencoder.config.latents_std)
    digest.update(json.dumps(statistics).encode())
    for source in sorted(Path(world.__file__).parent.rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _build(folder: Path, config: DataConfig, autoencoder: VideoAutoencoder) -> None:
    captions: list[str] = []
    sizes: list[tuple[int, ...]] = []
    started = time.monotonic()
    with (
        whole_folder(folder) as partial_folder,
        (partial_folder / "clips.bf16").open("wb") as clips,
        (partial_folder / "stills.bf16").open("wb") as stills,
    ):
        for chunk in _encoded_chunks(config, autoencoder):
            for clip, still, caption in chunk:
                clips.write(clip.tobytes())
                stills.write(still.tobytes())
                sizes.append(clip.shape)
                captions.append(caption)
            rate = len(captions) / (time.monotonic() - started)
            print(f"\rcaching latents {len(captions)}/{config.clips}, {rate:.0f} clips/s", end="")
        print()
        np.save(partial_folder / "sizes.npy", np.array(sizes, dtype=np.int64))
        (partial_folder / "captions.json").write_text(json.dumps(captions))


Encoded = tuple[np.ndarray, np.ndarray, str]


def _encoded_chunks(config: DataConfig, autoencoder: VideoAutoencoder) -> Iterator[list[Encoded]]:
    encode = partial(_encode_chunk, autoencoder, config)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(config.workers, mp_context=context) as pool:
        yield from pool.map(encode, range(0, config.clips, CHUNK))


@torch.no_grad()
def _encode_chunk(autoencoder: VideoAutoencoder, config: DataConfig, start: int) -> list[Encoded]:
    torch.set_num_threads(1)
    encoded = []
    for index in range(start, min(start + CHUNK, config.clips)):
        scene = clip_scene(index, config)
        frames = clip_frames(index, config, scene.family)
        video = render_clip(scene, clip_size(index, config), frames)
        last_frames = video[:, ::STRIDE].transpose(0, 1)[:, :, None]
        clip = encode_video(autoencoder, video[None])[0].transpose(0, 1)
        still = encode_video(autoencoder, last_frames)[:, :, 0]
        encoded.append((_as_bits(clip), _as_bits(still), scene.caption))
    return encoded


def _as_bits(latents: Tensor) -> np.ndarray:
    return latents.bfloat16().view(torch.int16).numpy()
