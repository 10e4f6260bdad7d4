"""What is asked of a checkpoint, checked against what it can do."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.description import ModelDescription

MAX_SIDE = 99_999
DEFAULT_STRENGTH = 0.8


class RequestError(ValueError):
    """A request that the checkpoint cannot fulfil.

    Attributes:
        field: of `GenerationRequest`.
        value: what it holds.
        allowed: in words, what it may hold.
    """

    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(f"{field} is {value!r}; allowed: {allowed}")
        self.field, self.value, self.allowed = field, value, allowed


@dataclass(frozen=True)
class GenerationRequest:
    """One video; None stands for the checkpoint's default.

    Attributes:
        prompt: what should be seen.
        negative_prompt: what guidance leads away from.
        height, width: in pixels, both or neither.
        num_frames: length in frames.
        fps: frames a second at which they are to be shown; the frames do not depend on it.
        num_inference_steps: steps of the scheduler.
        guidance_scale: of classifier-free guidance; up to 1 there is none.
        guidance_scale_2: the second expert's; `guidance_scale` where only that is given.
        flow_shift: above 1, more of the steps are spent at high noise.
        seed: of the initial noise.
        image: the first frame. Beside `mask`, a still to draw on: what is seen outside the mask in
            every frame.
        last_image: the last frame.
        keyframes: images by the index of the frame in which they are to be seen.
        prefix: frames `(T, H, W, 3)` uint8 RGB to go on from. They come first in the answer, all of
            them; of the `num_frames` of the clip that is made behind them, about the first quarter
            is theirs, too.
        suffix: frames to lead up to, which come last in the answer; with `prefix`, the two are
            joined.
        loop: whether the last frame leads back into the first, that of `image` or of `prefix`.
        video: frames to start from, not noise alone; cut to the length of the video, which is at
            most theirs.
        mask: `(H, W)` or `(T, H, W)`, true or from 128 on where `image` or `video` is drawn anew;
            what is elsewhere is kept, token by token.
        strength: share of the steps that are run, from `video` as noisy as the first of them
            takes it (SDEdit, Meng et al., 2021, arXiv:2108.01073): above 0, and at 1 little of
            `video` is left. Beside `mask`, 1 if not given: what is drawn anew starts from noise.
        lora: name of an adapter that the checkpoint is opened with.

    Images, frames and masks may be of any size; they are stretched to that of the video.
    """

    prompt: str
    negative_prompt: str = ""
    height: int | None = None
    width: int | None = None
    num_frames: int | None = None
    fps: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    guidance_scale_2: float | None = None
    flow_shift: float | None = None
    seed: int = 0
    image: Image.Image | None = None
    last_image: Image.Image | None = None
    keyframes: Mapping[int, Image.Image] = field(default_factory=dict)
    prefix: NDArray[np.uint8] | None = None
    suffix: NDArray[np.uint8] | None = None
    loop: bool = False
    video: NDArray[np.uint8] | None = None
    mask: NDArray[np.bool_ | np.uint8] | None = None
    strength: float | None = None
    lora: str | None = None


@dataclass(frozen=True)
class ResolvedRequest:
    """A `GenerationRequest` that is valid and leaves nothing open; `mask` is `(T or 1, H, W)`."""

    prompt: str
    negative_prompt: str
    height: int
    width: int
    num_frames: int
    fps: int
    num_inference_steps: int
    guidance_scale: float
    guidance_scale_2: float
    flow_shift: float | None
    seed: int
    strength: float
    lora: str | None
    image: Image.Image | None = None
    last_image: Image.Image | None = None
    keyframes: Mapping[int, Image.Image] = field(default_factory=dict)
    prefix: NDArray[np.uint8] | None = None
    suffix: NDArray[np.uint8] | None = None
    loop: bool = False
    video: NDArray[np.uint8] | None = None
    mask: NDArray[np.bool_] | None = None

    @property
    def remixed(self) -> bool:
        """Whether it starts from `video`, made noisy; what a mask leaves to draw may not."""
        return self.video is not None and (self.mask is None or self.strength < 1)

    @property
    def guided(self) -> bool:
        """Whether the negative prompt counts; the first guidance scale decides, as in diffusers."""
        return self.guidance_scale > 1


def resolve(request: GenerationRequest, model: ModelDescription) -> ResolvedRequest:
    """Check every field and fill in the defaults.

    Raises:
        RequestError: for the first field that the checkpoint cannot fulfil.
    """
    if not isinstance(request.prompt, str) or not request.prompt.strip():
        raise RequestError("prompt", request.prompt, "text that says what should be seen")
    if not isinstance(request.negative_prompt, str):
        raise RequestError("negative_prompt", request.negative_prompt, "text")
    width, height = _size(request, model)
    _check_abilities(request, model)
    _check_together(request)
    _check_forms(request, model)
    num_frames = _num_frames(request, model)
    _check_keyframes(request, num_frames)
    guidance = _number("guidance_scale", request.guidance_scale, model.guidance_scale)
    return ResolvedRequest(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        height=height,
        width=width,
        num_frames=num_frames,
        fps=_integer("fps", request.fps, model.fps, 1, 240),
        num_inference_steps=_integer(
            "num_inference_steps", request.num_inference_steps, model.num_inference_steps, 1, 1000
        ),
        guidance_scale=guidance,
        guidance_scale_2=_second_guidance(request, model, guidance),
        flow_shift=_flow_shift(request, model),
        seed=_integer("seed", request.seed, 0, 0, 2**63 - 1),
        strength=_strength(request),
        lora=_lora(request, model),
        image=request.image,
        last_image=request.last_image,
        keyframes=dict(request.keyframes),
        prefix=request.prefix,
        suffix=request.suffix,
        loop=request.loop,
        video=request.video,
        mask=_mask(request, num_frames),
    )


def _size(request: GenerationRequest, model: ModelDescription) -> tuple[int, int]:
    listed = [tuple(map(int, size.split("x"))) for size in model.sizes]
    if request.width is None and request.height is None:
        width, height = listed[0]
        return width, height
    sides = "a whole number of pixels, for both sides or neither"
    width = _integer("width", request.width, 0, 1, MAX_SIDE, sides)
    height = _integer("height", request.height, 0, 1, MAX_SIDE, sides)
    if (width, height) in listed:
        return width, height
    allowed = ", ".join(model.sizes)
    if multiple := model.size_multiple:
        largest = max(w * h for w, h in listed)
        if width % multiple == 0 == height % multiple and width * height <= largest:
            return width, height
        allowed += f", or multiples of {multiple} with at most {largest} pixels in all"
    raise RequestError("size", f"{width}x{height}", allowed)


EXCLUDES = {
    "mask": ("last_image", "keyframes", "prefix", "suffix", "loop"),
    "video": ("image", "last_image", "keyframes", "prefix", "suffix", "loop"),
    "prefix": ("image", "keyframes"),
    "suffix": ("last_image", "keyframes", "loop"),
    "loop": ("last_image",),
}
"""Fields beside which others have no place."""


def _given(request: GenerationRequest, name: str) -> bool:
    value = getattr(request, name)
    return bool(value) if name in ("loop", "keyframes") else value is not None


def _shown(request: GenerationRequest, name: str) -> object:
    """What a refusal quotes: arrays and keyframes are too long."""
    value = getattr(request, name)
    return "given" if isinstance(value, np.ndarray | Mapping) else value


def _needs(request: GenerationRequest) -> Iterator[tuple[str, str]]:
    """The fields that are given, each with the capability that it takes."""
    masked, joined = (
        request.mask is not None,
        _given(request, "prefix") and _given(request, "suffix"),
    )
    capability = {
        "last_image": "last_frame",
        "keyframes": "keyframes",
        "prefix": "join" if joined else "extend",
        "suffix": "join" if joined else "extend_backward",
        "loop": "loop",
        "mask": "inpaint",
        "video": "inpaint" if masked else "remix",
        "image": "inpaint" if masked else "last_frame" if request.last_image else "first_frame",
    }
    return ((name, needed) for name, needed in capability.items() if _given(request, name))


def _check_abilities(request: GenerationRequest, model: ModelDescription) -> None:
    able = model.capabilities
    for name, needed in _needs(request):
        if needed not in able:
            names = " and ".join(filter(None, [", ".join(able[:-1]), able[-1]]))
            only = f"none, since {model.name} can do {names} only"
            raise RequestError(name, _shown(request, name), only)
    if "text" not in able and request.image is None:
        only = f"a first frame, without which {model.name} cannot"
        raise RequestError("image", None, only)
    if not {"text", "first_frame"} & set(able) and request.last_image is None:
        only = f"a last frame, without which {model.name} cannot"
        raise RequestError("last_image", None, only)


def _check_together(request: GenerationRequest) -> None:
    for name, others in EXCLUDES.items():
        for other in others if _given(request, name) else ():
            if _given(request, other):
                raise RequestError(other, _shown(request, other), f"none beside {name}")
    if request.mask is not None and request.image is None and request.video is None:
        raise RequestError("mask", "given", "none without an image or a video to draw on")
    if request.loop and request.image is None and request.prefix is None:
        raise RequestError("loop", True, "none without an image or a prefix to lead back to")


def _check_forms(request: GenerationRequest, model: ModelDescription) -> None:
    if not isinstance(request.loop, bool):
        raise RequestError("loop", request.loop, "true or false")
    for name in ("image", "last_image"):
        if _given(request, name) and not isinstance(getattr(request, name), Image.Image):
            raise RequestError(name, getattr(request, name), "a PIL image")
    for name in ("prefix", "suffix", "video"):
        if _given(request, name):
            _check_frames(name, getattr(request, name))
    if request.video is not None and len(request.video) < min(model.num_frames):
        least = f"at least {min(model.num_frames)} frames for {model.name}"
        raise RequestError("video", f"{len(request.video)} frames", least)


def _check_frames(name: str, frames: Any) -> None:
    if not isinstance(frames, np.ndarray):
        raise RequestError(name, type(frames).__name__, "an array of frames")
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
        given = f"{frames.dtype} of shape {frames.shape}"
        raise RequestError(name, given, "uint8 of shape (T, H, W, 3), T at least 1")


def _check_keyframes(request: GenerationRequest, num_frames: int) -> None:
    last = num_frames - 1
    first, final = int(request.image is not None), last - bool(request.last_image or request.loop)
    for frame, image in request.keyframes.items():
        if not _is_integer(frame) or not first <= frame <= final:
            raise RequestError("keyframes", frame, f"frames from {first} to {final}")
        if not isinstance(image, Image.Image):
            raise RequestError("keyframes", image, "a PIL image for each frame")


def _mask(request: GenerationRequest, num_frames: int) -> NDArray[np.bool_] | None:
    if request.mask is None:
        return None
    allowed = "bool or uint8 of shape (H, W) or (T, H, W), not empty"
    if not isinstance(request.mask, np.ndarray):
        raise RequestError("mask", type(request.mask).__name__, f"an array, {allowed}")
    mask: NDArray[Any] = request.mask
    if mask.dtype not in (np.bool_, np.uint8) or mask.ndim not in (2, 3) or not mask.size:
        raise RequestError("mask", f"{mask.dtype} of shape {mask.shape}", allowed)
    drawn = (mask if mask.dtype == np.bool_ else mask >= 128).reshape(-1, *mask.shape[-2:])
    if len(drawn) != 1 and len(drawn) < num_frames:
        raise RequestError("mask", f"{len(drawn)} frames", f"1 or at least {num_frames} frames")
    if not drawn[:num_frames].any():
        raise RequestError("mask", "false everywhere", "an array that is true where to draw")
    return drawn


def _strength(request: GenerationRequest) -> float:
    if request.video is None:
        if request.strength is not None:
            raise RequestError("strength", request.strength, "none without a video to start from")
        return 1.0
    default = DEFAULT_STRENGTH if request.mask is None else 1.0
    strength = _number("strength", request.strength, default, above_zero=True)
    if strength > 1:
        raise RequestError("strength", strength, "a number above 0, at most 1")
    return strength


def _lora(request: GenerationRequest, model: ModelDescription) -> str | None:
    if request.lora is not None and request.lora not in model.loras:
        names = ", ".join(model.loras) or f"none, since {model.name} was opened with none"
        raise RequestError("lora", request.lora, names)
    return request.lora


def _num_frames(request: GenerationRequest, model: ModelDescription) -> int:
    longest = len(request.video) if request.video is not None else max(model.num_frames)
    later = ("last_image", "keyframes", "prefix", "suffix", "loop")
    shortest = 2 if any(_given(request, name) for name in later) else 1
    allowed = [n for n in model.num_frames if shortest <= n <= longest]
    if request.num_frames is None and allowed:
        return allowed[0] if request.video is None else max(allowed)
    if not _is_integer(request.num_frames) or request.num_frames not in allowed:
        lengths = ", ".join(map(str, sorted(allowed))) or "none"
        of = f" (video has {longest} frames)" if request.video is not None else ""
        raise RequestError("num_frames", request.num_frames, lengths + of)
    return request.num_frames


def _second_guidance(request: GenerationRequest, model: ModelDescription, first: float) -> float:
    if "two_experts" not in model.capabilities:
        if request.guidance_scale_2 is not None:
            only = f"none, since {model.name} has one expert"
            raise RequestError("guidance_scale_2", request.guidance_scale_2, only)
        return first
    default = model.guidance_scale_2 if request.guidance_scale is None else None
    return _number(
        "guidance_scale_2", request.guidance_scale_2, first if default is None else default
    )


def _flow_shift(request: GenerationRequest, model: ModelDescription) -> float | None:
    if request.flow_shift is None:
        return model.flow_shift
    if model.flow_shift is None:
        only = f"none, since the scheduler of {model.name} has none to set"
        raise RequestError("flow_shift", request.flow_shift, only)
    return _number("flow_shift", request.flow_shift, model.flow_shift, above_zero=True)


def _integer(
    field: str, value: Any, default: int, low: int, high: int, allowed: str | None = None
) -> int:
    given = default if value is None else value
    if not _is_integer(given) or not low <= given <= high:
        raise RequestError(field, value, allowed or f"a whole number from {low} to {high}")
    return int(given)


def _number(field: str, value: Any, default: float, above_zero: bool = False) -> float:
    value = default if value is None else value
    real = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not real or not 0 <= value <= 100 or (above_zero and value == 0):
        raise RequestError(field, value, f"a number {'above' if above_zero else 'from'} 0 to 100")
    return float(value)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
