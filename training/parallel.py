"""How processes share a training: copies, shards of the parameters, and shares of a sequence.

Nothing here changes what is computed: every form takes the steps that one process takes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.distributed._functional_collectives import all_to_all_single_autograd
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import (
    checkpoint,
    create_selective_checkpoint_contexts,
    noop_context_fn,
)

from model.attention import attend
from model.tokens import Segments, Tokens
from model.transformer import TransformerBlock
from training.batch import Batch
from training.config import ConfigError, ParallelConfig, TrainConfig
from training.network import TextToVideo

EXPENSIVE = [
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
]


@dataclass(frozen=True)
class Place:
    """This process's place among the others.

    Attributes:
        device: of this process.
        data: which of `data_size` takers of packs it is; those that share a sequence are one.
        mesh: (copies, shard), or None for a process on its own.
        sequence: what it shares tokens through, or None.
    """

    device: torch.device
    data: int = 0
    data_size: int = 1
    mesh: DeviceMesh | None = None
    sequence: Ulysses | None = None

    @property
    def sharers(self) -> int:
        """How many processes compute the same pack, a share of its tokens each."""
        return self.sequence.size if self.sequence else 1

    def share(self, batch: Batch) -> Batch:
        """This process's part of a batch, which is the one that the network is called with next."""
        return self.sequence.share(batch) if self.sequence else batch

    def total(self, values: Iterable[Tensor]) -> Tensor:
        """The sum of values over all processes."""
        value = torch.stack(list(values)).sum().detach().to(self.device)
        if self.mesh is not None:
            dist.all_reduce(value)
        return value


def check_launch() -> None:
    """Refuse a launch file that would have accelerate shard the network as well.

    Raises:
        ConfigError: naming the key to use instead.
    """
    for name in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        if os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() in ("1", "true"):
            raise ConfigError(
                f"accelerate's launch file asks for {name}; allowed is a launch of plain processes "
                "(distributed_type: MULTI_GPU, as in configs/launch/); parallel.shard splits the "
                "parameters"
            )


def check_shares(config: TrainConfig, heads: int) -> None:
    """Refuse a step that the processes asked for cannot share evenly.

    Raises:
        ConfigError: naming its packs, a pack's tokens or the network's heads.
    """
    parallel, batch = config.parallel, config.batch
    for key, value, divisor in (
        ("network.heads", heads, parallel.sequence),
        ("batch.tokens", batch.tokens, parallel.sequence),
        ("batch.packs", batch.packs, parallel.replicate * parallel.shard),
    ):
        if value % divisor:
            raise ConfigError(f"{key}: {value} is no multiple of {divisor}, as parallel asks")


def place(config: TrainConfig, processes: int, device: torch.device, heads: int) -> Place:
    """Find this process's place.

    Raises:
        ConfigError: if the processes are not as many as the configuration asks for, which is also
            how a launch shows that silently started one process only; or if they cannot share a
            step evenly.
    """
    parallel = config.parallel
    replicate, shard, sequence = parallel.replicate, parallel.shard, parallel.sequence
    if replicate * shard * sequence != processes:
        raise ConfigError(
            f"parallel: replicate {replicate} x shard {shard} x sequence {sequence} is "
            f"{replicate * shard * sequence}, but {processes} processes run; start as many "
            "(configs/launch/ has launch files), or change the three"
        )
    check_shares(config, heads)
    if processes == 1:
        return Place(device)
    # Processes that share a sequence hold the same parameters: to these, they are copies.
    mesh = init_device_mesh(
        device.type, (replicate * sequence, shard), mesh_dim_names=("copies", "shard")
    )
    copy, part = divmod(dist.get_rank(), shard)
    groups = [
        [(r * sequence + s) * shard + k for s in range(sequence)]
        for r in range(replicate)
        for k in range(shard)
    ]
    mine, _ = dist.new_subgroups_by_enumeration(groups)
    ulysses = Ulysses(mine) if sequence > 1 else None
    return Place(device, copy // sequence * shard + part, replicate * shard, mesh, ulysses)


def distribute(network: TextToVideo, at: Place, config: ParallelConfig) -> nn.Module:
    """Copy or shard a network over the processes, in place; gives what a step is to call.

    With shards its parameters become DTensors, block by block (`fully_shard`, torch's FSDP2).
    """
    recompute(network, config.checkpointing)
    if at.sequence:
        at.sequence.install(network)
    if at.mesh is None:
        return network
    if config.shard == 1:
        return DistributedDataParallel(network, gradient_as_bucket_view=True)
    mesh = at.mesh["shard"] if at.mesh["copies"].size() == 1 else at.mesh
    for block in network.transformer.blocks:
        fully_shard(block, mesh=mesh, shard_placement_fn=_longest)
    # Left gathered after a forward pass without a backward one, as a root is, the parameters
    # outside the blocks would be those of a validation at the next step: the averages.
    fully_shard(network, mesh=mesh, shard_placement_fn=_longest, reshard_after_forward=True)
    return network


def exchange(model: nn.Module, gradients: bool) -> None:
    """Have the next backward pass of copies sum its gradients over all, or keep them for later.

    Shards always send theirs to their owners: kept, they would take the memory of the whole.
    """
    if isinstance(model, DistributedDataParallel):
        model.require_backward_grad_sync = gradients


def _longest(parameter: nn.Parameter) -> Shard | None:
    """Split along the longest dimension what has one row only, as modulation tables have."""
    return Shard(parameter.ndim - 1) if parameter.shape[0] == 1 else None


def recompute(network: TextToVideo, what: str) -> None:
    """Trade time for memory: compute a block's activations again when its gradient needs them.

    "full" keeps what goes into a block alone; "selective" the results of matrix products and of
    attention as well, so that only what is cheap is computed twice.
    """
    if what == "none":
        return
    context = (
        partial(create_selective_checkpoint_contexts, EXPENSIVE)
        if what == "selective"
        else noop_context_fn
    )
    network.transformer.enable_gradient_checkpointing(
        partial(checkpoint, use_reentrant=False, context_fn=context)
    )


class Ulysses:
    """Tokens of a pack spread over processes; around attention, they are spread by heads instead.

    DeepSpeed-Ulysses (Jacobs et al., 2023, arXiv:2309.14509), over packed segments.
    """

    def __init__(self, group: ProcessGroup) -> None:
        self._group = group
        self.size = group.size()
        self._rank = group.rank()
        self._segments = Segments(())

    def install(self, network: TextToVideo) -> None:
        """Have the network's attention gather what the processes hold."""
        for block in network.transformer.blocks:
            assert isinstance(block, TransformerBlock)
            block.attn1.attend = self._attend_tokens
            block.attn2.attend = self._attend_text

    def share(self, batch: Batch) -> Batch:
        """This process's run of a batch's tokens; attention goes on seeing the batch's segments."""
        tokens, count = batch.tokens, len(batch.target) // self.size
        mine = slice(self._rank * count, (self._rank + 1) * count)
        rows, index = len(tokens.timesteps), tokens.timestep_index
        if index is None:
            index = torch.arange(rows).repeat_interleave(len(batch.target) // rows)
        self._segments = tokens.segments
        columns = {"coords": tokens.coords, "loss_weight": tokens.loss_weight,
                   "reference": tokens.reference}  # fmt: skip
        share = Tokens(
            patches=tokens.patches[mine],
            timesteps=tokens.timesteps,
            timestep_index=index[mine],
            segments=Segments((count,)),
            **{name: column[mine] for name, column in columns.items() if column is not None},
        )
        return replace(batch, tokens=share, target=batch.target[mine])

    def _attend_tokens(self, q: Tensor, k: Tensor, v: Tensor, *_: Segments) -> Tensor:
        q, k, v = (self._by_heads(x) for x in (q, k, v))
        return self._by_tokens(attend(q, k, v, self._segments, self._segments))

    def _attend_text(
        self, q: Tensor, k: Tensor, v: Tensor, _: Segments, text_segments: Segments
    ) -> Tensor:
        # Every process has all of the text, and needs its own heads of it.
        k, v = (x.unflatten(1, (self.size, -1))[:, self._rank] for x in (k, v))
        padding = (0,) * (len(self._segments) - len(text_segments))
        lengths = Segments(text_segments.lengths + padding)
        return self._by_tokens(attend(self._by_heads(q), k, v, self._segments, lengths))

    def _by_heads(self, x: Tensor) -> Tensor:
        """A share of the tokens with all heads `(n, H, D)` to all tokens with some `(N, h, D)`."""
        return self._exchange(x.unflatten(1, (self.size, -1)).transpose(0, 1)).flatten(0, 1)

    def _by_tokens(self, x: Tensor) -> Tensor:
        """The inverse of `_by_heads`."""
        return self._exchange(x.unflatten(0, (self.size, -1))).transpose(0, 1).flatten(1, 2)

    def _exchange(self, x: Tensor) -> Tensor:
        out: Tensor = all_to_all_single_autograd(x.contiguous(), None, None, self._group)
        return out
