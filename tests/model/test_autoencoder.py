"""The small autoencoder: a causal linear code, a decoder that streams exactly."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.autoencoder import BLOCK, VideoAutoencoder, from_blocks, to_blocks


@pytest.fixture
def autoencoder() -> VideoAutoencoder:
    """Random components and a decoder whose every weight counts."""
    torch.manual_seed(0)
    model = VideoAutoencoder(hidden_channels=24, num_blocks=2, latents_std=(0.5,) * 16)
    components = torch.linalg.qr(torch.randn(BLOCK, 16)).Q.T
    model.set_principal_components(0.1 * torch.randn(BLOCK), components)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def video(frames: int = 9) -> Tensor:
    return torch.randn(2, 3, frames, 20, 12)


def test_blocks_are_laid_out_and_back_without_loss() -> None:
    clip = video()
    frames = from_blocks(to_blocks(clip))
    assert torch.equal(frames[:, :, 3:], clip)
    assert torch.equal(frames[:, :, 0], clip[:, :, 0]) and torch.equal(
        frames[:, :, 2], clip[:, :, 0]
    )


def test_a_video_inside_the_code_comes_back_through_the_skeleton(
    autoencoder: VideoAutoencoder,
) -> None:
    """With the correction at zero, decode then encode is the identity on latents (fp32: 1e-5)."""
    torch.nn.init.zeros_(autoencoder.conv_out.weight)
    torch.nn.init.zeros_(autoencoder.conv_out.bias)
    latent = torch.randn(1, 16, 3, 5, 3)
    latent[:, :, 0] = autoencoder.to_latents(torch.randn(1, 3, 1, 20, 12))[:, :, 0]
    decoded = autoencoder.to_video(latent)
    again = autoencoder.to_latents(decoded)
    torch.testing.assert_close(again[:, :, 1:], latent[:, :, 1:], atol=1e-5, rtol=1e-5)


def test_a_prefix_has_the_latents_it_has_alone(autoencoder: VideoAutoencoder) -> None:
    clip = video(17)
    whole = autoencoder.to_latents(clip)
    for frames in (1, 5, 13):
        alone = autoencoder.to_latents(clip[:, :, :frames])
        torch.testing.assert_close(alone, whole[:, :, : alone.shape[2]], atol=1e-6, rtol=1e-5)


def test_streaming_equals_decoding_exactly_and_looks_only_one_latent_back(
    autoencoder: VideoAutoencoder,
) -> None:
    latents = torch.randn(1, 16, 4, 5, 3)
    whole = autoencoder.to_video(latents)
    assert whole.shape == (1, 3, 13, 20, 12)
    assert torch.equal(torch.cat(list(autoencoder.decode_stream(latents)), dim=2), whole)
    changed = latents.clone()
    changed[:, :, 1] += 1
    difference = (autoencoder.to_video(changed) - whole).abs().amax(dim=(0, 1, 3, 4))
    assert (difference[1:9] > 0).all(), "latent 1 shapes its own frames and those of latent 2"
    assert (difference[:1] == 0).all() and (difference[9:] == 0).all()


def test_saved_and_opened_it_decodes_alike(autoencoder: VideoAutoencoder, tmp_path: Path) -> None:
    autoencoder.save_pretrained(tmp_path)
    opened = VideoAutoencoder.from_pretrained(tmp_path)
    latents = torch.randn(1, 16, 2, 5, 3)
    assert torch.equal(opened.decode(latents).sample, autoencoder.to_video(latents))
    clip = video(5)
    mode = opened.encode(clip).latent_dist.mode()
    assert torch.equal(mode, autoencoder.to_latents(clip))
    assert torch.equal(mode, opened.encode(clip, return_dict=False)[0].sample()), "a point"
    assert opened.config.latents_std == [0.5] * 16


@pytest.mark.parametrize("shape", [(1, 3, 4, 16, 16), (1, 3, 5, 18, 16)])
def test_sizes_that_do_not_fit_are_refused_with_their_numbers(
    autoencoder: VideoAutoencoder, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=f"{shape[2]} frames of {shape[3]}×{shape[4]}.*1 \\+ 4k"):
        autoencoder.encode(torch.zeros(shape))
