"""What a request takes of a device's memory, found without the device and without weights.

The code that a request runs is run on torch's meta device, where tensors have a shape but no
storage, while the bytes of those alive are counted. Peaks are affine in the area of a frame and in
area times latent frames, so three runs a stage tell all of them.
"""

import copy
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from peft import LoraConfig
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from model.components import Components
from model.conditions import Conditions
from model.description import Memory, ModelDescription
from model.fast import prepare_for_inference, restore
from model.latents import decode_stream, encode_frames
from model.lora import lora_names, lora_sizes
from model.placement import Placement
from model.request import ResolvedRequest
from model.sampler import BATCHED_TOKENS, denoise, make_scheduler

META = torch.device("meta")
LATENT_FRAMES = 3, 4
"""Latent frames from which on autoencoders that decode one after another do the same for each."""
CLIP_TOKENS = 257
SHALLOW = 2

TERMS = {"text": (0,), "denoise": (0, 2)}
"""Terms of `Memory` that stages have which do not have all: tokens are area times latent frames."""

Shape = tuple[int, int, int]
"""Width and height in pixels, and frames."""
Stage = Callable[[int, int, int], None]
Coefficients = tuple[float, float, float]
"""Of a stage's peak; see `Memory`."""


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of the tensors that operations make within this context and device.

    Args:
        besides: networks whose weights do not count.
        columns: whether to add what torch's CPU kernel of a 3D convolution unfolds its input to.

    Attributes:
        peak: the most that were alive at a time.
    """

    def __init__(
        self, device: torch.device, besides: Iterable[nn.Module] = (), columns: bool = False
    ) -> None:
        super().__init__()
        self.peak = self._live = 0
        self._device = device
        self._columns = columns
        tensors = (t for m in besides for t in (*m.parameters(), *m.buffers()))
        self._known: set[int] = set()
        for storage in (t.untyped_storage() for t in tensors if not t.is_mkldnn):
            self._known.add(storage._cdata)
            weakref.finalize(storage, self._known.discard, storage._cdata)

    def restart(self) -> int:
        """Count the peak anew from what is alive; gives the one so far."""
        before, self.peak = self.peak, self._live
        return before

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.device.type == self._device.type:
                self._count(leaf.untyped_storage())
        if self._columns and func is torch.ops.aten.convolution.default and out.ndim == 5:
            unfolded = args[1][0].numel() * out[0, 0].numel() * out.element_size()
            self.peak = max(self.peak, self._live + unfolded)
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        if (key := storage._cdata) in self._known:
            return
        self._known.add(key)
        size = storage.nbytes()
        self._live += size
        self.peak = max(self.peak, self._live)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._live -= size


class FusedAttention(TorchFunctionMode):
    """Attention that keeps no scores, as the kernels of every device do, and not meta's."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        names = "query", "key", "value", "attn_mask"
        given = dict(zip(names, args, strict=False)) | (kwargs or {})
        q, v, mask = given["query"], given["value"], given.get("attn_mask")
        if mask is not None:
            mask = mask.to(q.dtype)  # what says only yes or no is read as numbers
        batch, heads, length, _ = q.shape
        return q.new_empty(batch, length, heads, v.shape[-1]).transpose(1, 2)


def estimate(parts: Components, model: ModelDescription, loras: Path | None = None) -> Memory:
    """The memory of requests to a Wan-layout checkpoint; `parts` from `model.loading.outline`.

    loras: folder of adapters that requests may name.
    """
    placement = parts.placement
    weights, original = weights_by_stage(parts.networks, placement), parts.transformer
    parts = replace(
        parts,
        placement=Placement(META, placement.dtype),
        transformer=_shallow(parts.transformer),
        transformer_2=_shallow(parts.transformer_2) if parts.transformer_2 else None,
    )
    experts = [expert for expert in (parts.transformer, parts.transformer_2) if expert is not None]
    for expert in experts:
        prepare_for_inference(expert, placement.device)
    stages: dict[str, Stage] = {"denoise": partial(_denoise, parts, model)}
    stages["decode"] = partial(_decode, parts)
    if set(model.capabilities) - {"text", "two_experts"}:
        stages["encode"] = partial(_encode, parts)
    if placement.device_of("text_encoder") == placement.device:
        stages["text"] = partial(_text, parts, model)
    temporal = parts.vae.config.scale_factor_temporal
    network = parts.transformer.config
    cell = parts.vae.config.scale_factor_spatial * max(network.patch_size[1:])
    probes = probe_shapes(model, cell, temporal)
    weights["denoise"] += _kept_bytes(original, model, placement.dtype)

    def coefficients(stage: str) -> Coefficients:
        networks, terms = list(parts.networks.values()), TERMS.get(stage, (0, 1, 2))
        held = weights[stage]
        return fit(stages[stage], probes, temporal, networks, held, placement.device, terms)

    found = {stage: coefficients(stage) for stage in stages}
    for expert in experts:
        restore(expert)
    named = {k: v for k, v in parts.networks.items() if k.startswith("transformer")}
    adapted = with_loras(named, placement, loras, lambda: coefficients("denoise"))
    token = cell**2 * network.patch_size[0]
    batched = BATCHED_TOKENS.get(placement.device.type, 0) * token
    return Memory(found, temporal, batched=batched, adapted=adapted)


def with_loras(
    experts: Mapping[str, Any],
    placement: Placement,
    loras: Path | None,
    denoise: Callable[[], Coefficients],
) -> dict[str, Coefficients]:
    """The stage denoise with each LoRA: its weights, and the products beside the layers it is on.

    Counted is as if it were on all linear layers of the blocks or, if on no other, of attention.
    """

    @cache
    def beside(kind: str) -> Coefficients:
        with _adapters(experts.values(), kind):
            return denoise()

    adapted = {}
    for name in lora_names(loras):
        assert loras is not None
        sizes = [lora_sizes(loras, name, part) for part in experts]
        keys = [key for tensors in sizes for key in tensors]
        c0, c1, c2 = beside("attn" if all("attn" in key for key in keys) else "")
        elements = [sum(tensors.values()) for tensors in sizes]
        there = sum(elements) if placement.stays("transformer") else max(elements)
        adapted[name] = c0 + there * placement.dtype.itemsize, c1, c2
    return adapted


@contextmanager
def _adapters(networks: Iterable[Any], kind: str) -> Iterator[None]:
    """Have the thinnest of LoRAs on the linear layers of that kind in every block."""
    for network in networks:
        blocks = [k for k, v in network.named_children() if isinstance(v, nn.ModuleList)]
        linear = [name for name, m in network.named_modules() if isinstance(m, nn.Linear)]
        layers = [name for name in linear if name.split(".")[0] in blocks and kind in name]
        network.add_adapter(LoraConfig(r=1, target_modules=layers))
    try:
        yield
    finally:
        for network in networks:
            network.unload_lora()


def _kept_bytes(network: Any, model: ModelDescription, dtype: torch.dtype) -> int:
    """Keys and values of both texts, which the blocks that `_shallow` leaves out keep, too."""
    config = network.config
    image_tokens = (config.pos_embed_seq_len or CLIP_TOKENS) if config.image_dim else 0
    rows = model.max_sequence_length + image_tokens
    width = config.num_attention_heads * config.attention_head_dim
    total: int = 2 * 2 * (config.num_layers - SHALLOW) * rows * width * dtype.itemsize
    return total


def _shallow(network: Any) -> Any:
    """The same network with two of its blocks: of more, only what they keep takes more memory."""
    shallow = copy.copy(network)
    shallow._modules = dict(network._modules)
    shallow.blocks = network.blocks[:SHALLOW]
    return shallow


def probe_shapes(model: ModelDescription, cell: int, temporal: int) -> list[Shape]:
    """Three shapes that tell the coefficients apart, as large as requests may be."""
    width, height = max(
        (tuple(map(int, size.split("x"))) for size in model.sizes),
        key=lambda size: size[0] * size[1],
    )
    half = [max(1, side // (2 * cell)) * cell for side in (width, height)]
    fewer, frames = (1 + (latent_frames - 1) * temporal for latent_frames in LATENT_FRAMES)
    return [(width, height, frames), (width, height, fewer), (half[0], half[1], frames)]


def fit(
    stage: Stage,
    probes: list[Shape],
    temporal: int,
    networks: Iterable[nn.Module],
    weights: int,
    device: torch.device,
    terms: Sequence[int] = (0, 1, 2),
) -> Coefficients:
    """The coefficients of a stage's peak on `device`, `weights` bytes included; see `Memory`.

    `terms` are those of the three that are not known to be 0; as many probes are run.
    """
    shapes = [probes[term] for term in terms]
    peaks = [peak(stage, shape, networks, device) for shape in shapes]
    return solve(peaks, shapes, temporal, weights, terms)


def peak(stage: Stage, shape: Shape, networks: Iterable[nn.Module], device: torch.device) -> int:
    """The most bytes that a stage makes at that shape on the meta device, weights apart."""
    counter = PeakMemory(META, networks, columns=device.type == "cpu")
    with torch.no_grad(), torch.device(META), FusedAttention(), counter:
        stage(*shape)
    return counter.peak


def solve(
    peaks: Sequence[float],
    shapes: Sequence[Shape],
    temporal: int,
    weights: int,
    terms: Sequence[int] = (0, 1, 2),
) -> Coefficients:
    """The coefficients of which come the `peaks` at as many shapes, and `weights` besides."""
    rows = []
    for width, height, frames in shapes:
        area = width * height
        row = (1.0, area, area * ((frames - 1) // temporal + 1))
        rows.append([row[term] for term in terms])
    told = dict(zip(terms, np.linalg.solve(np.array(rows), np.array(peaks, float)), strict=True))
    c0, c1, c2 = (round(float(told.get(term, 0)), 3) + 0.0 for term in range(3))
    return c0 + weights, c1, c2


def weights_by_stage(
    networks: dict[str, Any], placement: Placement, by_leaf: bool = False
) -> dict[str, int]:
    """Bytes of weights that are on the device in the stages text, encode, denoise and decode.

    by_leaf: whether of every network one layer at a time comes where groups do.
    """
    here = {
        part: network
        for part, network in networks.items()
        if placement.device_of(part) == placement.device
    }
    resident = resident_weights(networks, placement)

    def coming(part: str, network: Any) -> int:
        if by_leaf and placement.offload == "group":
            return _leaf_bytes(network)
        return _grouped_bytes(network, part) if placement.in_groups(part) else weight_bytes(network)

    def passing(*names: str) -> int:
        moving = (
            coming(part, network)
            for part, network in here.items()
            if part.startswith(names) and not placement.stays(part)
        )
        return resident + max(moving, default=0)

    return {
        "text": passing("text_encoder"),
        "encode": passing("vae", "image_encoder"),
        "denoise": passing("transformer", "unet"),
        "decode": passing("vae"),
    }


def resident_weights(networks: dict[str, Any], placement: Placement) -> int:
    """Bytes of weights that are on the device at any time."""
    return sum(
        weight_bytes(network)
        for part, network in networks.items()
        if placement.stays(part) and placement.device_of(part) == placement.device
    )


def weight_bytes(network: nn.Module) -> int:
    """Bytes of a network's parameters and buffers, shared ones once."""
    tensors = {id(t): t for t in (*network.parameters(), *network.buffers())}
    return sum(t.numel() * t.element_size() for t in tensors.values())


def _leaf_bytes(network: nn.Module) -> int:
    """Bytes of the largest layer."""
    return max(weight_bytes(m) for m in network.modules() if not list(m.children()))


def _grouped_bytes(network: nn.Module, part: str) -> int:
    """Bytes of the layers that are on the device together, under diffusers' group offloading."""
    if part.startswith("text_encoder"):  # leaf by leaf
        return _leaf_bytes(network)
    blocks = [m for c in network.children() if isinstance(c, nn.ModuleList) for m in c]
    in_blocks = sum(map(weight_bytes, blocks))
    return weight_bytes(network) - in_blocks + max(map(weight_bytes, blocks), default=0)


def _text(parts: Components, model: ModelDescription, *_: int) -> None:
    length = model.max_sequence_length
    ids = torch.zeros(2, length, dtype=torch.long)
    # As wide as the scores: from a mask of rows, transformers would first read what it says.
    parts.text_encoder(ids, torch.zeros(2, 1, length, length, dtype=parts.placement.dtype))


def _encode(parts: Components, width: int, height: int, num_frames: int) -> None:
    encode_frames(parts.vae, torch.zeros(num_frames, height, width, 3, dtype=torch.uint8))


def _denoise(
    parts: Components, model: ModelDescription, width: int, height: int, num_frames: int
) -> None:
    # After as many steps the history of a multi-step scheduler is as long as it gets.
    steps = parts.scheduler.config.get("solver_order", 0) + 1
    settings = _settings(width, height, num_frames, steps)
    latents = torch.empty(parts.latent_shape(settings))
    network = parts.transformer.config
    text = torch.empty(2, model.max_sequence_length, network.text_dim, dtype=parts.placement.dtype)
    channels = network.in_channels - latents.shape[1]
    image_tokens = network.pos_embed_seq_len or CLIP_TOKENS
    conditions = Conditions(
        channels=torch.empty(1, channels, *latents.shape[2:]) if channels else None,
        image_tokens=torch.empty(1, image_tokens, network.image_dim) if network.image_dim else None,
    )
    with torch.device("cpu"):
        scheduler = make_scheduler(settings, parts.scheduler)
    for _ in denoise(parts, settings, scheduler, latents, text, conditions):
        pass


def _decode(parts: Components, width: int, height: int, num_frames: int) -> None:
    latents = torch.empty(parts.latent_shape(_settings(width, height, num_frames)))
    for _ in decode_stream(parts.vae, latents):
        pass


def _settings(width: int, height: int, num_frames: int, steps: int = 1) -> ResolvedRequest:
    return ResolvedRequest(
        prompt="",
        negative_prompt="",
        height=height,
        width=width,
        num_frames=num_frames,
        fps=1,
        num_inference_steps=steps,
        guidance_scale=2.0,
        guidance_scale_2=2.0,
        flow_shift=1.0,
        seed=0,
        strength=1.0,
        lora=None,
    )
