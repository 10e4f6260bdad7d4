"""fp8, as torchao emulates it where there is no GPU; skipped where torchao is not installed."""

import pytest
import torch
from torch import nn

from model.transformer import SpacetimeTransformer
from training.precision import to_fp8


@pytest.mark.filterwarnings("ignore")  # torchao's own, at its import
def test_blocks_in_fp8_keep_their_names_and_nearly_their_gradients() -> None:
    """Tokens are 45, a multiple of nothing. E4M3 has 3 bits of mantissa: 2^-4 of each factor.

    The loss is a mean over many products, which err both ways; 1 % of it, 5 % of all gradients.
    """
    pytest.importorskip("torchao.float8")
    torch.manual_seed(0)
    network = SpacetimeTransformer(
        num_attention_heads=2, attention_head_dim=24, num_layers=2, ffn_dim=40, text_dim=16,
        in_channels=3, out_channels=3,
    )  # fmt: skip
    x, t, text = torch.randn(1, 3, 3, 6, 10), torch.tensor([500.0]), torch.randn(1, 7, 16)

    def step() -> tuple[float, torch.Tensor]:
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = network(x, t, text, return_dict=False)[0].float().square().mean()
        loss.backward()
        return loss.item(), torch.cat([p.grad.flatten() for p in network.parameters()])

    names = [name for name, _ in network.named_parameters()]
    loss, gradients = step()
    to_fp8(network.blocks, emulate=True)
    kinds = {name: type(part).__name__ for name, part in network.named_modules()
             if isinstance(part, nn.Linear)}  # fmt: skip
    assert kinds["blocks.0.attn1.to_q"] == "Float8Linear" and kinds["proj_out"] == "Linear"
    assert kinds["blocks.0.ffn.net.2"] == "Linear", "40 is no multiple of 16"
    assert names == [name for name, _ in network.named_parameters()]
    found, others = step()
    assert 0 < abs(found / loss - 1) < 0.01
    assert 0 < (others - gradients).norm() < 0.05 * gradients.norm()
