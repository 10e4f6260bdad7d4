"""What may happen to a clip on its way without anything being wrong in it."""

import io
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

if TYPE_CHECKING:
    from model.autoencoder import VideoAutoencoder

Frames = NDArray[np.uint8]
Nuisance = Callable[[Frames, np.random.Generator], tuple[Frames, float]]
"""Frames `(T, H, W, 3)` at 8 a second, changed, and frames a second."""
FPS = 8.0
AUTOENCODER = Path("model/pretrained/vae")


def h264(crf: int, frames: Frames, rng: np.random.Generator) -> tuple[Frames, float]:
    """Encoded and decoded by x264 at a constant rate factor."""
    memory = io.BytesIO()
    with av.open(memory, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=8, options={"crf": str(crf)})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    memory.seek(0)
    with av.open(memory, "r") as movie:
        decoded = [frame.to_ndarray(format="rgb24") for frame in movie.decode(video=0)]
    return np.stack(decoded), FPS


def brightness(factor: float, frames: Frames, rng: np.random.Generator) -> tuple[Frames, float]:
    """All values times a factor."""
    return _bytes(frames * factor), FPS


def jitter(frames: Frames, rng: np.random.Generator) -> tuple[Frames, float]:
    """The whole clip moved by a pixel."""
    down, right = rng.integers(-1, 2, 2)
    padded = np.pad(frames, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    height, width = frames.shape[1:3]
    return padded[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width].copy(), FPS


def blur(sigma: float, frames: Frames, rng: np.random.Generator) -> tuple[Frames, float]:
    """Blurred in space by a Gaussian, pixels."""
    return _bytes(ndimage.gaussian_filter(frames.astype(np.float32), (0, sigma, sigma, 0))), FPS


def noise(share: float, frames: Frames, rng: np.random.Generator) -> tuple[Frames, float]:
    """White noise with a standard deviation that is a share of the range."""
    return _bytes(frames + rng.normal(0.0, 255.0 * share, frames.shape)), FPS


def faster(fps: float, frames: Frames, rng: np.random.Generator) -> tuple[Frames, float]:
    """Converted to another rate, as players do: each moment shows the frame that it had."""
    count = int((len(frames) - 1) * fps / FPS) + 1
    return frames[np.floor(np.arange(count) * FPS / fps + 1e-9).astype(int)], fps


def resized(size: int, frames: Frames, rng: np.random.Generator) -> tuple[Frames, float]:
    """Enlarged by Lanczos."""
    images = [Image.fromarray(f).resize((size, size), Image.Resampling.LANCZOS) for f in frames]
    return np.stack([np.asarray(image) for image in images]), FPS


def round_trip(frames: Frames, rng: np.random.Generator) -> tuple[Frames, float]:
    """Through the embedded autoencoder and back."""
    import torch

    video = torch.from_numpy(frames.copy()).permute(3, 0, 1, 2)[None].float() / 127.5 - 1.0
    model = _autoencoder()
    with torch.inference_mode():
        back = model.to_video(model.to_latents(video))
    return _bytes((back[0].permute(1, 2, 3, 0).numpy() + 1.0) * 127.5), FPS


@cache
def _autoencoder() -> "VideoAutoencoder":
    # Most of validation needs neither torch nor the model, which take half a minute to import.
    from model.autoencoder import VideoAutoencoder

    model: VideoAutoencoder = VideoAutoencoder.from_pretrained(AUTOENCODER).float().eval()
    return model


def _bytes(values: NDArray[np.float32] | NDArray[np.float64]) -> Frames:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


NUISANCES: dict[str, Nuisance] = {
    **{f"h264 crf {crf}": partial(h264, crf) for crf in (18, 23, 28)},
    "2 % darker": partial(brightness, 0.98),
    "2 % brighter": partial(brightness, 1.02),
    "1-pixel jitter": jitter,
    "blur 0.7": partial(blur, 0.7),
    "noise 4 %": partial(noise, 0.04),
    **{f"{fps} fps": partial(faster, float(fps)) for fps in (12, 16, 24)},
    "x8 Lanczos": partial(resized, 512),
}
ROUND_TRIP = "autoencoder"
