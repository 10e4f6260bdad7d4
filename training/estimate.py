"""What a training would take of each process, found without doing it: tokens and memory.

A step's forward and backward run on fake tensors, which have shapes and no numbers, while the bytes
of those alive are counted, so that what is recomputed and what is only passing count, too. What is
split over processes is divided by their number.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim import Muon
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from model.loading import read_index
from model.manifest import Manifest
from model.memory import PeakMemory
from model.tokens import Segments, Tokens
from model.transformer import SpacetimeTransformer
from training.batch import Batch, Batches
from training.config import ConfigError, TrainConfig
from training.data.cache import open_dataset
from training.data.dataset import Dataset, open_data
from training.network import TextToVideo, build, build_world_tokenizer, check_start
from training.optim import build_optimizers
from training.packing import Pack
from training.parallel import check_shares, recompute
from training.precision import autocast
from training.tasks import Given, with_adapter

FLOAT = 4
"""Bytes of a weight, a gradient, an average and each moment of an optimizer."""
CLIPS = 64
"""How many are rendered to learn their sizes."""


@dataclass(frozen=True)
class Estimate:
    """Bytes of a process at its peak, by what they are for.

    Attributes:
        weights, averages, moments: of this process's share of the network.
        gathered: parameters of others that are here for a while, and gradients on their way (FSDP).
        step: activations, what passes, and gradients, at the worst moment of a step.
    """

    weights: int
    averages: int
    moments: int
    gathered: int
    step: int

    @property
    def state(self) -> int:
        """What is there all the time; a copy of it in host memory is what is written."""
        return self.weights + self.averages + self.moments

    @property
    def peak(self) -> int:
        """The most that is there at a time."""
        return self.state + self.gathered + self.step


def dry_run(config: TrainConfig) -> None:
    """Print what a step would take.

    Raises:
        ConfigError: if the processes cannot share it, or if it cannot fit, naming the value to
            change.
    """
    check_start(config)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dataset, parallel = preview(config), config.parallel
    fake = FakeTensorMode()
    tokenizer = None if config.text.cached else build_world_tokenizer(config)
    with fake, device:
        network = outline(config, tokenizer, dataset.channels)
    check_shares(config, network.transformer.config.num_attention_heads)
    packs = fullest(config, dataset, network)
    found = estimate(config, dataset, network, packs, fake, device)
    sizes = sorted({dataset.size(clip) for clip in range(len(dataset))})
    shapes = ", ".join(" x ".join(str(side) for side in size) for size in sizes)
    samples = max(len(pack.ids) for pack in packs)
    print(
        f"network: {sum(p.numel() for p in network.parameters()) / 1e6:.1f}M parameters\n"
        f"clips: {shapes} latents of {dataset.channels} channels\n"
        f"step: {config.batch.packs} packs of {config.batch.tokens} tokens, "
        f"{config.batch.packs * config.batch.tokens} in all; up to {samples} samples a pack\n"
        f"processes: {processes(config)}, replicate {parallel.replicate} x shard {parallel.shard} "
        f"x sequence {parallel.sequence}; {len(packs)} packs each\n"
        f"memory of a process ({device.type}): {_gb(found.peak)}: weights {_gb(found.weights)}, "
        f"averages {_gb(found.averages)}, moments {_gb(found.moments)}, gathered "
        f"{_gb(found.gathered)}, activations and gradients {_gb(found.step)}\n"
        f"host memory while a state is written: {_gb(found.state)}"
    )
    check_fit(config, found, device)


def processes(config: TrainConfig) -> int:
    """How many the configuration asks for."""
    parallel = config.parallel
    return parallel.replicate * parallel.shard * parallel.sequence


def preview(config: TrainConfig) -> Dataset:
    """A few clips of the run's data: only their sizes matter here."""
    if config.data.sets:
        return open_data(config.data)[0]
    with tempfile.TemporaryDirectory() as folder:
        few = {"clips": min(CLIPS, config.data.clips), "cache": Path(folder), "workers": 1}
        return open_dataset(config.data.model_copy(update=few))


def outline(
    config: TrainConfig, tokenizer: PreTrainedTokenizerFast | None, channels: int
) -> TextToVideo:
    """The network that `build` gives, without reading weights; inside a FakeTensorMode."""
    if not config.init_from:
        assert tokenizer is not None
        return build(config, tokenizer, channels)
    told = SpacetimeTransformer.load_config(config.init_from / "transformer")
    extra = {"reference_tokens": True} if config.network.reference_tokens else {}
    if config.text.cached:
        return with_adapter(TextToVideo(SpacetimeTransformer.from_config(told), Given()), config)
    return TextToVideo(
        SpacetimeTransformer.from_config(told, **extra),
        UMT5EncoderModel(UMT5Config.from_pretrained(config.init_from / "text_encoder")),
    )


def fullest(config: TrainConfig, dataset: Dataset, network: TextToVideo) -> list[Pack]:
    """As many packs as a process computes in a step, those of the most tokens of some steps."""
    shape = network.transformer.config
    width = shape.num_attention_heads * shape.attention_head_dim
    stream = Batches(config, dataset, shape.patch_size).stream(width)
    packs = [pack for _ in range(config.batch.window) for pack in next(stream)]
    count = config.batch.packs // (config.parallel.replicate * config.parallel.shard)
    return sorted(packs, key=lambda pack: (pack.tokens, len(pack.ids)))[-count:]


def estimate(
    config: TrainConfig,
    dataset: Dataset,
    network: TextToVideo,
    packs: Sequence[Pack],
    fake: FakeTensorMode,
    device: torch.device,
) -> Estimate:
    """Estimate a process's memory.

    Args:
        config: of the run.
        dataset: with clips of the run's sizes.
        network: on fake tensors of `fake` on `device`.
        packs: that one process computes in a step, one after another.
    """
    shard = config.parallel.shard
    parameters = FLOAT * sum(p.numel() for p in network.parameters())
    averaged = FLOAT * sum(p.numel() for p in network.parameters() if p.requires_grad)
    moments = FLOAT * sum(
        p.numel() * (1 if isinstance(optimizer, Muon) else 2)
        for optimizer in build_optimizers(network, config.optim)
        for group in optimizer.param_groups
        for p in group["params"]
    )
    alone = processes(config) == 1
    step = _step(config, dataset, network, packs[:2], fake, device)
    return Estimate(
        weights=parameters // shard,
        averages=averaged // shard,
        moments=moments // shard,
        gathered=_gathered(network) if shard > 1 else 0,
        step=step if alone else step + averaged // shard,
    )


def _gathered(network: TextToVideo) -> int:
    """What FSDP holds besides its shards: all outside the blocks, and three times a block.

    The parameters of the block at work and of the next, and the gradients of the one before, which
    are on their way to their owners.
    """
    blocks = [FLOAT * sum(p.numel() for p in b.parameters()) for b in network.transformer.blocks]
    outside = FLOAT * sum(p.numel() for p in network.parameters()) - sum(blocks)
    return outside + 3 * max(blocks)


def _step(
    config: TrainConfig,
    dataset: Dataset,
    network: TextToVideo,
    packs: Sequence[Pack],
    fake: FakeTensorMode,
    device: torch.device,
) -> int:
    """The most bytes of a step's forward and backward, over those of the weights.

    One process keeps its gradients where they arise. Several keep them in buckets or shards, which
    are there all the time and not counted here.
    """
    recompute(network, config.parallel.checkpointing)
    if processes(config) > 1:
        for parameter in network.parameters():
            parameter.register_post_accumulate_grad_hook(_drop_gradient)
    batches = Batches(config, dataset, network.transformer.config.patch_size)
    padded = config.compile or config.parallel.sequence > 1
    counter = PeakMemory(device, [network])
    for pack in packs:
        batch = batches.build(pack, config.batch.tokens if padded else None)
        shared = _share(batch, config.parallel.sequence)
        tokens = _moved(shared.tokens, fake, device)
        target, length = fake.from_tensor(shared.target), text_length(config)
        images = [fake.from_tensor(image) for image in batch.images]
        with fake, counter:
            mask = torch.ones(len(batch.rows), length, dtype=torch.long, device=device)
            text = torch.zeros_like(mask)
            if config.text.cached:
                width = network.transformer.config.text_dim
                text = torch.zeros(*mask.shape, width, device=device)
            with autocast(config, device):
                predicted = network(tokens, text, mask, *(one.to(device) for one in images))
            error = (predicted - target.to(device)).square().mean(dim=1)
            (tokens.loss_weight * error).sum().backward()
    return counter.peak


def text_length(config: TrainConfig) -> int:
    """Rows of text that a sample attends to."""
    if not config.text.cached:
        return config.network.max_sequence_length
    assert config.init_from is not None
    return Manifest.of(read_index(config.init_from, str(config.init_from))).max_sequence_length


def _drop_gradient(parameter: Tensor) -> None:
    parameter.grad = None


def _share(batch: Batch, sharers: int) -> Batch:
    """A process's part of the tokens of a batch, with a part of every segment."""
    if sharers == 1:
        return batch
    tokens, count, segments = batch.tokens, len(batch.target) // sharers, len(batch.tokens.segments)
    each, rest = divmod(count, segments)
    index = torch.zeros(count, dtype=torch.long)
    part = Tokens(
        patches=tokens.patches[:count],
        coords=tokens.coords[:count],
        timesteps=tokens.timesteps,
        segments=Segments((each,) * (segments - 1) + (each + rest,)),
        timestep_index=index if tokens.timestep_index is None else tokens.timestep_index[:count],
        loss_weight=None if tokens.loss_weight is None else tokens.loss_weight[:count],
        reference=None if tokens.reference is None else tokens.reference[:count],
    )
    return replace(batch, tokens=part, target=batch.target[:count])


def _moved(tokens: Tokens, fake: FakeTensorMode, device: torch.device) -> Tokens:
    """The tokens as fake ones on a device."""
    columns: dict[str, Any] = {f.name: getattr(tokens, f.name) for f in fields(tokens)}
    for name, column in columns.items():
        if isinstance(column, Tensor):
            columns[name] = fake.from_tensor(column)
    with fake:
        return Tokens(**columns).to(device)


def check_fit(config: TrainConfig, found: Estimate, device: torch.device) -> None:
    """Refuse what the device cannot hold.

    Raises:
        ConfigError: naming the value to lower, and to what.
    """
    memory, fixed = _memory(device), found.state + found.gathered
    if device.type == "cpu":  # all processes share it, and the copies of the state are here, too
        memory, fixed = memory // processes(config), fixed + found.state
    if fixed + found.step <= memory:
        return
    told = f"a process would need {_gb(fixed + found.step)}, and there are {_gb(memory)}"
    if fixed >= memory:
        raise ConfigError(
            f"parallel.shard: {config.parallel.shard}; {told}, of which the state takes "
            f"{_gb(fixed)}; split it over more processes, or lower network.layers"
        )
    fits = int(config.batch.tokens * (memory - fixed) / found.step)
    hint = "" if config.parallel.checkpointing == "full" else ", or parallel.checkpointing=full"
    raise ConfigError(
        f"batch.tokens: {config.batch.tokens}; {told}; lower it to about {fits}{hint}"
    )


def _memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return psutil.virtual_memory().total


def _gb(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
