"""The small parts of training: schedule, rates, averages, whole folders, foreground."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from model.autoencoder import VideoAutoencoder
from model.tokens import Segments, Tokens
from model.transformer import SpacetimeTransformer
from training.config import AutoencoderConfig, OptimConfig, load_config
from training.ema import EMA
from training.files import RunInUse, alone, whole_folder
from training.optim import build_optimizers, schedule, set_rates
from training.speed import Cost
from training.train_autoencoder import evaluate, foreground

ROOT = Path(__file__).parents[2]
CONFIG = OptimConfig(warmup_steps=10, decay_share=0.5, lr=0.3, muon_lr=0.2)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Module()
        self.net.blocks = nn.ModuleList([nn.Linear(4, 4)])
        self.head = nn.Linear(4, 2)


def test_the_schedule_warms_up_stays_and_falls_to_zero() -> None:
    factors = [schedule(step, 100, CONFIG) for step in range(101)]
    assert factors[0] == 0.1 and factors[9] == 1.0
    assert set(factors[9:51]) == {1.0}
    assert factors[75] == 0.5 and factors[100] == 0.0


def test_matrices_of_blocks_go_to_muon_and_rates_come_from_the_configuration() -> None:
    module = Small()
    muon, adamw = build_optimizers(module, CONFIG)
    assert muon.param_groups[0]["params"] == [module.net.blocks[0].weight]
    assert len(adamw.param_groups[0]["params"]) == 3
    adamw.load_state_dict(adamw.state_dict() | {})
    set_rates([muon, adamw], 0.5, OptimConfig(lr=1.0, muon_lr=3.0, decay_share=0.0))
    assert (muon.param_groups[0]["lr"], adamw.param_groups[0]["lr"]) == (1.5, 0.5)


def test_an_average_follows_its_recurrence_and_swaps_in_and_out() -> None:
    module = nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(0.0)
    ema = EMA(module, decay=0.9)
    expected = 0.0
    for n in range(1, 30):
        module.weight.data.fill_(float(n))
        ema.update()
        decay = min(0.9, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * n
    with ema.swapped():
        assert module.weight.item() == pytest.approx(expected, rel=1e-5)
    assert module.weight.item() == 29.0


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    with whole_folder(folder) as partial:
        (partial / "a").write_text("first")
    with pytest.raises(RuntimeError), whole_folder(folder) as partial:
        (partial / "a").write_text("half")
        raise RuntimeError
    assert (folder / "a").read_text() == "first"
    with whole_folder(folder) as partial:
        (partial / "b").write_text("second")
    assert [f.name for f in folder.iterdir()] == ["b"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_run_folder_is_held_by_one_process(tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(RunInUse, match=str(tmp_path)), alone(tmp_path):
        pass
    with alone(tmp_path):
        pass


def test_foreground_is_what_differs_from_its_rows_median() -> None:
    video = torch.zeros(1, 3, 5, 6, 8)
    video[:, :, :, 3] = 0.7  # a row of another colour is background
    video[0, 1, 2, 3, 4] = 0.7 + 0.2
    video[0, 1, 2, 0, 0] = 0.1  # too little
    mask = foreground(video)
    assert mask.sum() == 3 and (mask[0, :, 2, 3, 4] == 1).all()


def test_the_embedded_autoencoder_reaches_its_bars_on_held_out_clips() -> None:
    """31 dB over all pixels and 23 dB over the foreground, on 32 clips it was not trained on."""
    config = load_config(
        AutoencoderConfig, ROOT / "configs" / "autoencoder.yaml", ["eval_clips=32"]
    )
    autoencoder = VideoAutoencoder.from_pretrained(ROOT / "model" / "pretrained" / "vae")
    figures = evaluate(config, autoencoder)
    assert figures["all psnr"] >= 31 and figures["all foreground psnr"] >= 23, figures


def test_without_its_learned_correction_the_autoencoder_misses_them() -> None:
    """The same measure tells the bare principal components from the trained decoder."""
    config = load_config(AutoencoderConfig, ROOT / "configs" / "autoencoder.yaml", ["eval_clips=8"])
    autoencoder = VideoAutoencoder.from_pretrained(ROOT / "model" / "pretrained" / "vae")
    trained = evaluate(config, autoencoder)["all psnr"]
    for parameter in autoencoder.conv_out.parameters():
        parameter.data.zero_()
    assert evaluate(config, autoencoder)["all psnr"] < trained - 1


def test_the_cost_of_a_step_is_what_torch_counts() -> None:
    """Of the blocks, by torch's own counter, forward and packed; to the last operation."""
    text, lengths = 5, [12, 12, 12]
    network = SpacetimeTransformer(
        num_attention_heads=2, attention_head_dim=12, num_layers=3, ffn_dim=40, freq_dim=8,
        text_dim=8, in_channels=3, out_channels=3,
    )  # fmt: skip
    tokens = Tokens.from_latents(torch.randn(3, 3, 2, 4, 6), torch.ones(3), (1, 2, 2))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network.forward_tokens(tokens, torch.randn(15, 8), Segments.even(3, text))
    blocks = sum(counter.get_flop_counts()["TransformerBlock"].values())  # all three
    cost = Cost(width=24, ffn_dim=40, layers=3, text=text)
    assert cost.flops(lengths) == 3 * blocks
