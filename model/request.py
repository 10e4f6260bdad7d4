"""What is asked of a checkpoint, checked against what it can do."""

import math
from dataclasses import dataclass
from typing import Any

from PIL import Image

from model.description import ModelDescription

MAX_SIDE = 99_999


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
        image: the first frame, stretched to the size of the video.
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


@dataclass(frozen=True)
class ResolvedRequest:
    """A `GenerationRequest` that is valid and leaves nothing open."""

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
    image: Image.Image | None

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
    _check_image(request, model)
    guidance = _number("guidance_scale", request.guidance_scale, model.guidance_scale)
    return ResolvedRequest(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        height=height,
        width=width,
        num_frames=_num_frames(request, model),
        fps=_integer("fps", request.fps, model.fps, 1, 240),
        num_inference_steps=_integer(
            "num_inference_steps", request.num_inference_steps, model.num_inference_steps, 1, 1000
        ),
        guidance_scale=guidance,
        guidance_scale_2=_second_guidance(request, model, guidance),
        flow_shift=_flow_shift(request, model),
        seed=_integer("seed", request.seed, 0, 0, 2**63 - 1),
        image=request.image,
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


def _check_image(request: GenerationRequest, model: ModelDescription) -> None:
    if request.image is None:
        if "text" not in model.capabilities:
            raise RequestError("image", None, f"a first frame, without which {model.name} cannot")
    elif "first_frame" not in model.capabilities:
        able = " and ".join(model.capabilities)
        raise RequestError("image", request.image, f"none, since {model.name} can do {able} only")
    elif not isinstance(request.image, Image.Image):
        raise RequestError("image", request.image, "a PIL image")


def _num_frames(request: GenerationRequest, model: ModelDescription) -> int:
    if request.num_frames is None:
        return model.num_frames[0]
    if not _is_integer(request.num_frames) or request.num_frames not in model.num_frames:
        lengths = ", ".join(map(str, sorted(model.num_frames)))
        raise RequestError("num_frames", request.num_frames, lengths)
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
