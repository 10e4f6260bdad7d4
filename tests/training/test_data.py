"""Order and noise are pure functions of their keys."""

from pathlib import Path

import torch

import world
from model.autoencoder import VideoAutoencoder
from model.conditions import encode_video
from training.config import DataConfig
from training.data.cache import clip_seed, open_dataset, render_clip
from training.data.sampler import draw
from training.noise import generator
from world.scene import combination


def test_every_clip_comes_once_an_epoch_whatever_the_step_size() -> None:
    stream = torch.cat([draw(3, cursor, 7, size=21) for cursor in range(0, 42, 7)])
    assert sorted(stream[:21].tolist()) == sorted(stream[21:].tolist()) == list(range(21))
    assert stream[:21].tolist() != stream[21:].tolist(), "epochs are shuffled anew"
    assert torch.equal(stream, draw(3, 0, 42, size=21))
    assert not torch.equal(stream, draw(4, 0, 42, size=21))


def test_a_generator_depends_on_its_key_alone() -> None:
    first = torch.randn(5, generator=generator(1, "noise", 2))
    torch.randn(100)
    assert torch.equal(first, torch.randn(5, generator=generator(1, "noise", 2)))
    assert not torch.equal(first, torch.randn(5, generator=generator(1, "noise", 3)))


def test_families_come_in_the_shares_of_the_mix() -> None:
    """Of 4,000 clips, a share of 0.75 lies within 5 standard errors (0.034)."""
    picks = [clip_seed(i, {"drop": 3.0, "walk": 1.0})[0] for i in range(4000)]
    assert abs(picks.count("drop") / 4000 - 0.75) < 0.034


def test_the_cache_holds_the_clips_of_its_seeds_once_built_and_never_held_out_ones(
    tmp_path: Path,
) -> None:
    """bf16 keeps 8 bits of a latent: equal to 2^-8 of its size."""
    torch.manual_seed(0)
    autoencoder = VideoAutoencoder(z_dim=4, hidden_channels=8, num_blocks=0,
                                   latents_mean=(0.1,) * 4, latents_std=(2.0,) * 4)  # fmt: skip
    autoencoder.save_pretrained(tmp_path / "vae")
    mix = {"bite": 1.0, "walk": 1.0, "drop": 1.0, "beside": 1.0}
    config = DataConfig(
        clips=30, mix=mix, autoencoder=tmp_path / "vae", cache=tmp_path / "cache", workers=1
    )
    dataset = open_dataset(config)
    for index in (0, 7, 29):
        caption, video = render_clip(*clip_seed(index, mix))
        expected = encode_video(autoencoder, video[None])
        cached = dataset.clip_latents(torch.tensor([index]))
        torch.testing.assert_close(cached, expected, rtol=2**-8, atol=1e-6)
        assert dataset.captions[index] == caption
    for index in range(len(dataset)):
        family, seed = clip_seed(index, mix)
        slots = world.sample(family, seed).slots
        assert combination(family, slots) not in world.HELD_OUT[family]
    (folder,) = (tmp_path / "cache").iterdir()
    built = folder.stat().st_mtime_ns
    open_dataset(config)
    assert [f.stat().st_mtime_ns for f in (tmp_path / "cache").iterdir()] == [built]

    with torch.no_grad():
        autoencoder.encoder.bias += 0.1
    autoencoder.save_pretrained(tmp_path / "vae")
    open_dataset(config)
    assert len(list((tmp_path / "cache").iterdir())) == 2, "another encoder, other latents"
