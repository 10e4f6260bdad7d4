"""What training starts from: networks that learned a smaller world's words."""

import json
from pathlib import Path

import pytest
import torch

from model.pipeline import VideoPipeline
from model.text import build_text_encoder, build_tokenizer, encode_prompts
from model.transformer import SpacetimeTransformer
from training.config import ConfigError, TrainConfig, load_config
from training.network import build, build_world_tokenizer, check_start, export, known_ids
from world import captions

ROOT = Path(__file__).parents[2]
KNOWN = ["cat", "walks", "a", "zebra"]
"""In an order that is not the alphabet's, and with a word that the world does not say."""


@pytest.fixture
def start(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    tokenizer = build_tokenizer(KNOWN)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    build_text_encoder(len(tokenizer)).save_pretrained(tmp_path / "text_encoder")
    transformer = SpacetimeTransformer(
        num_attention_heads=1, attention_head_dim=12, num_layers=1, ffn_dim=8, freq_dim=8,
        text_dim=128, in_channels=4, out_channels=4,
    )  # fmt: skip
    transformer.save_pretrained(tmp_path / "transformer")
    return tmp_path


def test_a_start_without_references_can_learn_them(start: Path) -> None:
    """Nothing else changes: the flag starts at zero, and all that the folder holds is kept."""
    overrides = [f"init_from={start}", "network.reference_tokens=true"]
    config = load_config(TrainConfig, ROOT / "configs" / "debug.yaml", overrides)
    opened = build(config, build_world_tokenizer(config), channels=4).transformer
    known = SpacetimeTransformer.from_pretrained(start / "transformer")
    assert torch.equal(opened.reference_embedding, torch.zeros(12))
    for name, value in known.state_dict().items():
        assert torch.equal(opened.state_dict()[name], value), name


def test_a_start_keeps_its_words_and_learns_the_worlds(start: Path) -> None:
    """Known prompts keep their embeddings exactly; a new word is no longer an unknown one."""
    config = load_config(TrainConfig, ROOT / "configs" / "debug.yaml", [f"init_from={start}"])
    tokenizer = build_world_tokenizer(config)
    assert tokenizer.convert_tokens_to_ids(KNOWN) == [3, 4, 5, 6]
    assert set(tokenizer.get_vocab()) >= set(captions.words(config.data.known))

    before = build_text_encoder(3 + len(KNOWN)).from_pretrained(start / "text_encoder")
    after = build(config, tokenizer, channels=4).text_encoder
    prompts = ["a cat walks", "a purple cat walks"]
    old = encode_prompts(prompts, build_tokenizer(KNOWN), before, 8)
    new = encode_prompts(prompts, tokenizer, after, 8)
    assert torch.equal(old[0], new[0])
    assert not torch.allclose(old[1], new[1])


@pytest.mark.parametrize("asked", [False, True])
def test_the_text_encoder_of_a_start_is_taught_new_words_if_that_is_asked(
    start: Path, asked: bool
) -> None:
    overrides = [f"init_from={start}", f"text.new_words={asked}"]
    config = load_config(TrainConfig, ROOT / "configs" / "debug.yaml", overrides)
    assert config.text.steps > 0 and config.teaches_text is asked
    assert known_ids(config) == 3 + len(KNOWN)
    assert known_ids(load_config(TrainConfig, ROOT / "configs" / "debug.yaml", [])) == 0


def test_a_size_that_more_of_the_clips_have_is_told_once(tmp_path: Path) -> None:
    """A size that stands twice in `data.sizes` is as often again; of the checkpoint it is one."""
    overrides = ["data.sizes=[64x64,80x48,64x64]", "data.frames=[17,17,9]"]
    config = load_config(TrainConfig, ROOT / "configs" / "debug.yaml", overrides)
    tokenizer = build_world_tokenizer(config)
    export(tmp_path / "told", build(config, tokenizer, channels=24), tokenizer, config, {}, [])
    described = VideoPipeline.from_pretrained(tmp_path / "told").description
    assert described.sizes == ("64x64", "80x48") and described.num_frames == (17, 9)


@pytest.mark.parametrize(
    ("index", "sentence"),
    [
        ({"_class_name": "WanPipeline", "vae": ["diffusers", "AutoencoderKLWan"]},
         "init_from: .* has not this project's autoencoder .* with text.cached=true it is trained"),
        (["a list"], "init_from: .*model_index.json"),
    ],
)  # fmt: skip
def test_a_start_that_is_no_checkpoint_of_this_training_is_refused(
    index: object, sentence: str, start: Path
) -> None:
    (start / "model_index.json").write_text(json.dumps(index))
    config = load_config(TrainConfig, ROOT / "configs" / "debug.yaml", [f"init_from={start}"])
    with pytest.raises(ConfigError, match=sentence):
        check_start(config)
