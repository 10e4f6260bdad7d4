"""A small causal video autoencoder: a linear (PCA) code with a learned correction on decode."""

from collections.abc import Iterator

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn
from torch.nn import functional as F

STRIDE = 4
"""Pixels a latent cell spans along time, height and width."""
BLOCK = 3 * STRIDE**3
"""Numbers in one 4×4×4 block of RGB pixels."""


def to_blocks(video: Tensor) -> Tensor:
    """Cut a video into 4×4×4 blocks, the first frame filling a group of its own.

    The first frame is repeated three times in front, so an image is a clip of one latent frame and
    no block looks past its own four frames.

    Args:
        video: `(B, 3, 1 + 4k, H, W)`.

    Returns:
        `(B, 192, 1 + k, H / 4, W / 4)`.

    Raises:
        ValueError: if the frames are not 1 + 4k, or H or W is no multiple of 4.
    """
    _, _, frames, height, width = video.shape
    if frames % STRIDE != 1 or height % STRIDE or width % STRIDE:
        raise ValueError(
            f"video has {frames} frames of {height}×{width}; allowed are 1 + 4k frames "
            f"with sides that are multiples of {STRIDE}"
        )
    video = torch.cat([video[:, :, :1].expand(-1, -1, STRIDE - 1, -1, -1), video], dim=2)
    blocks = video.unflatten(2, (-1, STRIDE)).unflatten(4, (-1, STRIDE)).unflatten(6, (-1, STRIDE))
    out: Tensor = blocks.permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(1, 4)  # (B, c·pt·ph·pw, T, h, w)
    return out


def from_blocks(blocks: Tensor) -> Tensor:
    """Lay blocks `(B, 192, T, h, w)` out as frames `(B, 3, 4T, 4h, 4w)`."""
    cells: Tensor = blocks.unflatten(1, (3, STRIDE, STRIDE, STRIDE))
    return cells.permute(0, 1, 5, 2, 6, 3, 7, 4).flatten(6, 7).flatten(4, 5).flatten(2, 3)


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions around a skip, on `(N, C, h, w)`; the identity at first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        for parameter in self.conv2.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(N, C, h, w)`."""
        out: Tensor = x + self.conv2(F.silu(self.conv1(F.silu(x))))
        return out


class VideoAutoencoder(ModelMixin, ConfigMixin):
    """4×4×4 pixels to `z_dim` channels and back, causal in time.

    The code is linear: principal components of pixel blocks, so it is final as soon as the
    components are known and a decoder may be retrained without touching any model of the latents.
    Decoding adds a convolutional correction that sees this latent frame and the one before it.
    The surface is that of diffusers' `AutoencoderKLWan`, as far as its Wan pipelines use it.

    Args:
        z_dim: latent channels.
        hidden_channels: width of the correction network.
        num_blocks: residual blocks of the correction network.
        latents_mean: mean of each latent channel, `z_dim` numbers.
        latents_std: scale of each latent channel, `z_dim` numbers.
        scale_factor_temporal: always 4, read by pipelines.
        scale_factor_spatial: always 4, read by pipelines.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        z_dim: int = 16,
        hidden_channels: int = 128,
        num_blocks: int = 6,
        latents_mean: tuple[float, ...] = (0.0,) * 16,
        latents_std: tuple[float, ...] = (1.0,) * 16,
        scale_factor_temporal: int = STRIDE,
        scale_factor_spatial: int = STRIDE,
    ) -> None:
        super().__init__()
        self.encoder = nn.Linear(BLOCK, z_dim)
        self.skeleton = nn.Linear(z_dim, BLOCK)
        self.conv_in = nn.Conv2d(2 * z_dim, hidden_channels, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(hidden_channels) for _ in range(num_blocks))
        self.conv_out = nn.Conv2d(hidden_channels, BLOCK, 3, padding=1)
        for parameter in self.conv_out.parameters():
            nn.init.zeros_(parameter)
        self.encoder.requires_grad_(False)
        self.skeleton.requires_grad_(False)

    def set_principal_components(self, mean: Tensor, components: Tensor) -> None:
        """Fix the linear code.

        Args:
            mean: `(192,)`, the mean block.
            components: `(z_dim, 192)`, orthonormal rows.
        """
        with torch.no_grad():
            self.encoder.weight.copy_(components)
            self.encoder.bias.copy_(-components @ mean)
            self.skeleton.weight.copy_(components.T)
            self.skeleton.bias.copy_(mean)

    @apply_forward_hook  # type: ignore[untyped-decorator]
    def encode(
        self, x: Tensor, return_dict: bool = True
    ) -> AutoencoderKLOutput | tuple[DiagonalGaussianDistribution]:
        """Encode as diffusers' autoencoders do; the distribution is a point, `to_latents(x)`."""
        latents = self.to_latents(x)
        point = torch.cat([latents, torch.zeros_like(latents)], dim=1)
        distribution = DiagonalGaussianDistribution(point, deterministic=True)
        if not return_dict:
            return (distribution,)
        return AutoencoderKLOutput(latent_dist=distribution)

    def to_latents(self, video: Tensor) -> Tensor:
        """Encode video `(B, 3, 1 + 4k, H, W)` in [-1, 1]: latents `(B, z_dim, 1 + k, H/4, W/4)`."""
        latents: Tensor = self.encoder(to_blocks(video).movedim(1, -1)).movedim(-1, 1)
        return latents

    def to_video(self, latents: Tensor) -> Tensor:
        """Decode latents `(B, z_dim, 1 + k, h, w)` to video `(B, 3, 1 + 4k, 4h, 4w)`."""
        return torch.cat(list(self.decode_stream(latents)), dim=2)

    @apply_forward_hook  # type: ignore[untyped-decorator]
    def decode(self, z: Tensor, return_dict: bool = True) -> DecoderOutput | tuple[Tensor]:
        """Decode as diffusers' autoencoders do; the sample is `to_video(z)`."""
        batch, _, frames, height, width = z.shape
        sides = (STRIDE * (frames - 1) + 1, STRIDE * height, STRIDE * width)
        video, done = z.new_empty(batch, 3, *sides), 0
        for part in self.decode_stream(z):
            video[:, :, done : done + part.shape[2]] = part
            done += part.shape[2]
        return DecoderOutput(sample=video) if return_dict else (video,)

    def decode_stream(self, z: Tensor) -> Iterator[Tensor]:
        """Yield the pixels of one latent frame after the other: one frame, then four at a time.

        Args:
            z: latents `(B, z_dim, 1 + k, h, w)`.
        """
        previous = z[:, :, 0]
        for index, latent in enumerate(z.unbind(2)):
            frames = from_blocks(self.decode_blocks(latent, previous).unsqueeze(2))
            yield frames if index else frames[:, :, -1:]
            previous = latent

    def decode_blocks(self, latent: Tensor, previous: Tensor) -> Tensor:
        """Decode single latent frames.

        Args:
            latent: `(N, z_dim, h, w)`.
            previous: the latent frame before each, `(N, z_dim, h, w)`; for a first frame, itself.

        Returns:
            Pixel blocks `(N, 192, h, w)`.
        """
        mean = latent.new_tensor(self.config.latents_mean).view(1, -1, 1, 1)
        std = latent.new_tensor(self.config.latents_std).view(1, -1, 1, 1)
        x = self.conv_in(torch.cat([(latent - mean) / std, (previous - mean) / std], dim=1))
        for block in self.blocks:
            x = block(x)
        skeleton = self.skeleton(latent.movedim(1, -1)).movedim(-1, 1)
        blocks: Tensor = skeleton + self.conv_out(F.silu(x))
        return blocks
