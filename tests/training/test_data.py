"""Order and noise are pure functions of their keys."""

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

import world
from model.autoencoder import VideoAutoencoder
from model.latents import encode_video
from training.config import DataConfig
from training.data import cache
from training.data.cache import clip_scene, open_dataset, render_clip
from training.data.sampler import sample_at
from training.noise import generator
from world.scene import combination


def test_every_clip_comes_once_an_epoch_in_an_order_of_the_seed() -> None:
    def clips(seed: int) -> list[int]:
        return [sample_at(seed, position, 21, image_share=0.0).clip for position in range(42)]

    stream = clips(3)
    assert sorted(stream[:21]) == sorted(stream[21:]) == list(range(21))
    assert stream[:21] != stream[21:], "epochs are shuffled anew"
    assert stream == clips(3) != clips(4)


def test_images_come_in_their_share() -> None:
    """Of 4,000 samples, a share of 0.3 lies within 5 standard errors (0.036)."""
    images = [sample_at(0, position, 40, image_share=0.3).image for position in range(4000)]
    assert abs(sum(images) / 4000 - 0.3) < 0.036


def test_a_generator_depends_on_its_key_alone() -> None:
    first = torch.randn(5, generator=generator(1, "noise", 2))
    torch.randn(100)
    assert torch.equal(first, torch.randn(5, generator=generator(1, "noise", 2)))
    assert not torch.equal(first, torch.randn(5, generator=generator(1, "noise", 3)))


def test_families_come_in_the_shares_of_the_mix() -> None:
    """Of 4,000 clips, a share of 0.75 lies within 5 standard errors (0.034)."""
    config = DataConfig(mix={"drop": 3.0, "walk": 1.0}, autoencoder=Path())
    picks = [clip_scene(i, config).family for i in range(4000)]
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
        clips=30,
        mix=mix,
        slots={"bite": {"times": "once"}},
        autoencoder=tmp_path / "vae",
        cache=tmp_path / "cache",
        workers=1,
    )
    dataset = open_dataset(config)
    for index in (0, 7, 29):
        scene = clip_scene(index, config)
        video = render_clip(scene)[None]
        expected = encode_video(autoencoder, video)[0]
        torch.testing.assert_close(dataset.latents(index), expected, rtol=2**-8, atol=1e-6)
        assert dataset.size(index) == expected.shape[1:] and dataset.channels == len(expected)
        for still, frame in ((0, 0), (2, 8), (4, 16)):  # the last pixel frame of a latent frame
            alone = encode_video(autoencoder, video[:, :, frame : frame + 1])[0]
            cached = dataset.still_latents(index, (still,))
            torch.testing.assert_close(cached, alone, rtol=2**-8, atol=1e-6)
        assert dataset.captions[index] == scene.caption
    for index in range(len(dataset)):
        scene = clip_scene(index, config)
        assert combination(scene.family, scene.slots) not in world.HELD_OUT[scene.family]
        assert scene.slots.get("times") != "twice", "the configuration leaves only the other value"
    (folder,) = (tmp_path / "cache").glob("world-*")
    built = folder.stat().st_mtime_ns
    open_dataset(config)
    assert [f.stat().st_mtime_ns for f in (tmp_path / "cache").glob("world-*")] == [built]

    with torch.no_grad():
        autoencoder.encoder.bias += 0.1
    autoencoder.save_pretrained(tmp_path / "vae")
    open_dataset(config)
    assert len(list((tmp_path / "cache").glob("world-*"))) == 2, "another encoder, other latents"


@pytest.fixture
def config(tmp_path: Path) -> DataConfig:
    """A cache of three clips under a tiny autoencoder."""
    torch.manual_seed(0)
    autoencoder = VideoAutoencoder(z_dim=4, hidden_channels=8, num_blocks=0,
                                   latents_mean=(0.0,) * 4, latents_std=(1.0,) * 4)  # fmt: skip
    autoencoder.save_pretrained(tmp_path / "vae")
    told = {"mix": {"drop": 1.0, "walk": 1.0}, "clips": 3, "workers": 1}
    return DataConfig(autoencoder=tmp_path / "vae", cache=tmp_path / "cache", **told)


@pytest.mark.parametrize(
    "changed",
    [{"mix": {"drop": 1.0, "walk": 2.0}}, {"mix": {"drop": 1.0}}, {"clips": 4},
     {"slots": {"walk": {"legs": "two"}}}, {"sizes": ("64x64", "80x48")}, {"frames": (9,)},
     "world"],
    ids=str,
)  # fmt: skip
def test_other_clips_have_another_fingerprint(
    changed: dict[str, Any] | str,
    config: DataConfig,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Families, their slots, the range of seeds, sizes and lengths; and the world's own code."""
    autoencoder = VideoAutoencoder.from_pretrained(config.autoencoder)
    before = cache._fingerprint(config, autoencoder)
    assert cache._fingerprint(config.model_copy(), autoencoder) == before
    if changed == "world":
        room = tmp_path / "world"
        shutil.copytree(Path(world.__file__).parent, room)
        monkeypatch.setattr(world, "__file__", str(room / "__init__.py"))
        assert cache._fingerprint(config, autoencoder) == before
        with (room / "families" / "drop.py").open("a") as file:
            file.write("# another version\n")
    else:
        assert isinstance(changed, dict)
        config = config.model_copy(update=changed)
    assert cache._fingerprint(config, autoencoder) != before


def test_one_process_makes_a_cache_that_several_ask_for(
    config: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others wait, however long it takes, and open what it made."""
    made: list[Path] = []
    build, autoencoder = cache._build, VideoAutoencoder.from_pretrained(config.autoencoder)

    def slowly(folder: Path, *rest: Any) -> None:
        made.append(folder)
        time.sleep(0.3)
        build(folder, *rest)

    monkeypatch.setattr(cache, "_build", slowly)
    # diffusers opens models by way of torch's globals, which threads would leave half-set.
    monkeypatch.setattr(VideoAutoencoder, "from_pretrained", lambda folder: autoencoder)
    with ThreadPoolExecutor(3) as pool:
        opened = list(pool.map(open_dataset, [config] * 3))
    assert len(made) == 1 and {one.fingerprint for one in opened} == {opened[0].fingerprint}
    assert all(len(one) == 3 for one in opened)


def test_clips_come_in_every_size_and_length_that_their_family_can_have(tmp_path: Path) -> None:
    torch.manual_seed(0)
    autoencoder = VideoAutoencoder(z_dim=4, hidden_channels=8, num_blocks=0,
                                   latents_mean=(0.0,) * 4, latents_std=(1.0,) * 4)  # fmt: skip
    autoencoder.save_pretrained(tmp_path / "vae")
    config = DataConfig(
        clips=60,
        mix={"drop": 1.0, "roll": 1.0},
        sizes=("32x32", "80x48"),
        frames=(9, 17, 33),
        autoencoder=tmp_path / "vae",
        cache=tmp_path / "cache",
        workers=1,
    )
    dataset = open_dataset(config)
    found: dict[str, set[tuple[int, ...]]] = {"drop": set(), "roll": set()}
    for index in range(len(dataset)):
        found[clip_scene(index, config).family].add(dataset.size(index))
    squares, wide = {(n, 8, 8) for n in (3, 5, 9)}, {(n, 12, 20) for n in (3, 5, 9)}
    assert found["drop"] == squares | wide
    assert found["roll"] == {size for size in squares | wide if size[0] < 9}


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"sizes": ("80",)}, "'80' is no WIDTHxHEIGHT in pixels"),
        ({"sizes": ("80x40",)}, "80x40: width and height must be multiples of 16"),
        ({"frames": (33,)}, r"frames are \[33\], but roll has 17 at most"),
        ({"frames": (16,)}, r"frames come as 1 \+ 4k"),
    ],
)
def test_sizes_and_lengths_that_cannot_be_are_refused(told: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        DataConfig(mix={"drop": 1.0, "roll": 1.0}, autoencoder=Path(), **told)
