"""LoRA adapters (Hu et al., 2021, arXiv:2106.09685), chosen by name for one request.

A LoRA is `NAME.safetensors` in a folder that the operator names, in any of the forms that diffusers
reads for Wan, and goes into every expert; or a folder `NAME` with a file for each expert,
`transformer.safetensors` and `transformer_2.safetensors`.
"""

import math
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffusers.loaders import WanLoraLoaderMixin
from safetensors import SafetensorError, safe_open

from model.fast import is_compiled, is_prepared, prepare_for_inference, restore
from model.request import RequestError

_ADAPTER = "request"
SUFFIX = ".safetensors"


def lora_names(folder: Path | None) -> tuple[str, ...]:
    """The LoRAs of a folder, in order; none where there is no folder."""
    if folder is None or not folder.is_dir():
        return ()
    names = {
        path.name.removesuffix(SUFFIX)
        for path in folder.iterdir()
        if path.name.endswith(SUFFIX) or (path / f"transformer{SUFFIX}").is_file()
    }
    return tuple(sorted(name for name in names if re.fullmatch(r"\w[\w.-]*", name)))


def lora_file(folder: Path, name: str, part: str) -> Path | None:
    """The file of a LoRA for a component, if it has one; `name` is one of `lora_names`."""
    single, apart = folder / f"{name}{SUFFIX}", folder / name / f"{part}{SUFFIX}"
    return next((file for file in (single, apart) if file.is_file()), None)


def lora_sizes(folder: Path, name: str, part: str) -> dict[str, int]:
    """Elements of each tensor of a LoRA for a component; none if there is no such file to read."""
    file = lora_file(folder, name, part)
    if file is None:
        return {}
    try:
        with safe_open(file, "np") as tensors:
            return {key: math.prod(tensors.get_slice(key).get_shape()) for key in tensors.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):  # whoever asks for it is told
        return {}


class Loras:
    """The LoRAs of one pipeline. Networks are as they were once no request uses one."""

    def __init__(self, folder: Path | None, networks: Mapping[str, Any]) -> None:
        self._folder = folder
        self._networks = {k: v for k, v in networks.items() if k.startswith("transformer")}
        self._lock = threading.Lock()
        self._active: str | None = None
        self._users = 0
        self._restored: list[tuple[Any, bool]] = []
        """Networks whose layout was undone, and whether they were compiled."""

    @contextmanager
    def applied(self, name: str | None) -> Iterator[None]:
        """Have a LoRA, or none, in the networks for as long as the context lasts.

        Raises:
            RequestError: for a file that does not fit the networks, or while another request has
                another LoRA in them.
        """
        with self._lock:
            if self._users and name != self._active:
                allowed = f"{self._active!r}, which another request is using"
                raise RequestError("lora", name, allowed)
            if not self._users and name is not None:
                self._load(name)
            self._active, self._users = name, self._users + 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users and name is not None:
                    self._unload()

    def _load(self, name: str) -> None:
        # Adapters go into layers as a checkpoint has them.
        self._restored = [(n, is_compiled(n)) for n in self._networks.values() if is_prepared(n)]
        for network, _ in self._restored:
            restore(network)
        try:
            for part, network in self._networks.items():
                assert self._folder is not None
                if file := lora_file(self._folder, name, part):
                    _load_into(network, file)
        except (OSError, KeyError, RuntimeError, ValueError) as error:
            self._unload()
            reason = f"a file that fits the model ({str(error).splitlines()[0]:.200})"
            raise RequestError("lora", name, reason) from error

    def _unload(self) -> None:
        for network in self._networks.values():
            if getattr(network, "peft_config", None):
                network.unload_lora()
        while self._restored:
            network, compiled = self._restored.pop()
            prepare_for_inference(network, compiled=compiled)


def _load_into(network: Any, file: Path) -> None:
    loader = WanLoraLoaderMixin
    weights, metadata = loader.lora_state_dict(
        str(file.parent), weight_name=file.name, use_safetensors=True, return_lora_metadata=True
    )
    weights = loader._maybe_expand_t2v_lora_for_i2v(network, weights)
    if foreign := next((key for key in weights if "lora" not in key), None):
        raise ValueError(f"{foreign} is no LoRA weight")
    if not any(key.startswith("transformer.") for key in weights):
        raise ValueError("it has no weights for a transformer")
    loader.load_lora_into_transformer(weights, network, _ADAPTER, metadata=metadata)
