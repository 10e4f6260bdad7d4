"""What the served checkpoints can do, and how a request becomes one that they can do.

The API and `kinetograph generate` both ask `resolve`, which knows checkpoints only by the
descriptions they publish as JSON.
"""

import math
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NotRequired, TypedDict

from serving.errors import ApiError, not_supported
from serving.memory import Memory, Shape, fits, gigabytes, peak, shorter, smaller
from serving.schema import CreateVideo
from serving.vocabulary import nearest_prompt, unknown_words

ALIASES = (
    *("sora-2", "sora-2-pro"),
    *("sora-2-2025-10-06", "sora-2-2025-12-08", "sora-2-pro-2025-10-06"),
)
"""Names that stand for the default model, so that code written for the hosted API runs."""

SMALL, ENLARGE = 256, 8
"""A render with both sides under 256 pixels is enlarged 8 times, or it would be a stamp."""


class Description(TypedDict):
    """`model.description.ModelDescription` as JSON; its docstring says what the fields mean.

    Besides, aliases: further names, by which it is asked as leniently as by no name.
    """

    name: str
    capabilities: list[str]
    sizes: list[str]
    size_multiple: int | None
    num_frames: list[int]
    fps: int
    num_inference_steps: int
    guidance_scale: float
    guidance_scale_2: float | None
    flow_shift: float | None
    max_sequence_length: int
    words: list[str] | None
    grammar: list[str] | None
    examples: list[str] | None
    parameters: int
    loras: NotRequired[Sequence[str]]
    memory: NotRequired[Memory | None]
    aliases: NotRequired[Sequence[str]]


@dataclass(frozen=True)
class Resolved:
    """A request with every choice made: what will be rendered, and what the file will be.

    width and height are those of the render, in pixels; the file's are `scale` times as large.
    None leaves a number of the sampler to the checkpoint. strength is that of the video that the
    render starts from, if it does. rewritten_prompt is what is rendered in place of prompt, once a
    worker has had it rewritten. shots: prompt, num_frames and join of each, if there are several.
    file_frames: what the file has, once it is made and has not num_frames. references: frames that
    the model is shown beside the clip, at most.
    """

    model: str
    prompt: str
    negative_prompt: str
    width: int
    height: int
    scale: int
    num_frames: int
    fps: int
    seed: int
    num_inference_steps: int
    guidance_scale: float | None
    guidance_scale_2: float | None
    flow_shift: float | None
    warnings: list[str]
    strength: float | None = None
    lora: str | None = None
    rewritten_prompt: str | None = None
    shots: list[dict[str, Any]] | None = None
    loop: bool = False
    file_frames: int | None = None
    references: int = 0

    @property
    def size(self) -> str:
        """Width x height of the file."""
        return f"{self.width * self.scale}x{self.height * self.scale}"

    @property
    def rendered_size(self) -> str:
        """Width x height that the model renders."""
        return f"{self.width}x{self.height}"

    @property
    def longest(self) -> int:
        """The most frames that are drawn at once."""
        return max((shot["num_frames"] for shot in self.shots or ()), default=self.num_frames)

    @property
    def frames(self) -> int:
        """The length of the file."""
        return self.file_frames or self.num_frames

    @property
    def seconds(self) -> str:
        """Duration of the file as the shortest decimal."""
        return shortest_decimal(self.frames / self.fps)


def resolve(request: CreateVideo, models: Sequence[Description], joining: bool = False) -> Resolved:
    """Make every choice that `request` leaves open; the first of `models` is the default.

    A model asked by its own name is taken at its word: what it cannot do is refused, with what
    it can. Asked through an alias, or not named at all, the nearest it can do is done, and
    `warnings` says each change. joining: whether it leads into a video that is given.

    Raises:
        ApiError: naming the field, its value and what is allowed.
    """
    model = choose(request.model, models)
    check_abilities(request, model)
    lenient = request.model != model["name"]
    warnings: list[str] = []
    width, height, scale = _size(request, model, lenient, warnings)
    fps = request.fps or model["fps"]
    frames = _frames(request, model, fps, lenient, warnings)
    references = _references(request, frames, model, joining)
    shape = _fit(Shape(width, height, frames, references), model, fps, lenient, warnings)
    if (shape.width, shape.height) != (width, height):
        scale = _enlargement(shape.width, shape.height)
    return Resolved(
        model=model["name"],
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        width=shape.width,
        height=shape.height,
        scale=scale,
        num_frames=shape.num_frames,
        fps=fps,
        seed=secrets.randbelow(2**31) if request.seed is None else request.seed,
        num_inference_steps=request.num_inference_steps or model["num_inference_steps"],
        guidance_scale=request.guidance_scale,
        guidance_scale_2=request.guidance_scale_2,
        flow_shift=request.flow_shift,
        warnings=warnings + prompt_warnings(request.prompt, model),
        lora=_lora(request, model),
        loop=request.loop,
        references=references,
    )


def choose(name: str | None, models: Sequence[Description]) -> Description:
    """The model of that name or alias, the first if none. Raises ApiError if there is no such."""
    if name is None or name in ALIASES:
        return models[0]
    for model in models:
        if model["name"] == name:
            return model
    for model in models:
        if name in model.get("aliases", ()):
            return model
    known = ", ".join(model["name"] for model in models)
    aliases = [*ALIASES, *(alias for model in models for alias in model.get("aliases", ()))]
    message = f"model must be one of {known}, or an alias ({', '.join(aliases)}), not {name!r}."
    raise ApiError(message, param="model", code="model_not_found")


def check_abilities(request: CreateVideo, model: Description) -> None:
    """Raise ApiError for what a request starts from, or needs, that the model cannot."""
    name = model["name"]
    if request.last_frame is not None and "last_frame" not in model["capabilities"]:
        raise not_supported(f"last_frame is not supported by {name}.", "last_frame")
    if request.loop and "loop" not in model["capabilities"]:
        raise not_supported(f"loop is not supported by {name}.", "loop")
    if request.loop and request.input_reference is None:
        message = "loop needs input_reference, the frame to which the end leads back."
        raise ApiError(message, param="loop")
    if request.input_reference is not None and "first_frame" not in model["capabilities"]:
        message = f"input_reference is not supported by {name}, which cannot start from an image."
        raise not_supported(message, "input_reference")
    if request.input_reference is None and "text" not in model["capabilities"]:
        message = f"input_reference is missing; {name} starts from an image."
        raise ApiError(message, param="input_reference", code="missing_required_parameter")
    if request.guidance_scale_2 is not None and "two_experts" not in model["capabilities"]:
        message = f"guidance_scale_2 must be left out for {name}, which has one expert."
        raise ApiError(message, param="guidance_scale_2")
    if request.flow_shift is not None and model["flow_shift"] is None:
        message = f"flow_shift must be left out for {name}, whose scheduler has none to set."
        raise ApiError(message, param="flow_shift")


def _references(request: CreateVideo, frames: int, model: Description, joining: bool) -> int:
    """Frames that are shown beside the clip, at most; `model.conditions` lays them out."""
    if not joining:
        return int(request.loop or request.last_frame is not None)
    memory = model.get("memory")
    latent_frames = (frames - 1) // (memory["frames_per_latent"] if memory else 1) + 1
    return math.ceil(latent_frames / 4)


def _lora(request: CreateVideo, model: Description) -> str | None:
    known = model.get("loras", ())
    if request.lora is None or request.lora in known:
        return request.lora
    allowed = f"be one of {', '.join(known)}" if known else "be left out"
    message = f"lora must {allowed} for {model['name']}, not {request.lora!r}."
    raise ApiError(message, param="lora", code="lora_not_found")


def _fit(shape: Shape, model: Description, fps: int, lenient: bool, warnings: list[str]) -> Shape:
    """`shape` if the device has memory for it; leniently, the nearest that it has memory for."""
    memory = model.get("memory")
    if memory is None or fits(memory, shape):
        return shape
    problem = (
        f"{shape.num_frames} frames of {shape.width}x{shape.height} take "
        f"{gigabytes(peak(memory, shape))} of memory, and {model['name']} has "
        f"{gigabytes(memory['limit'] or 0)}"
    )
    if not (within := _within(memory, shape, model)):
        message = f"{problem}; nothing that it makes fits."
        raise ApiError(message, param="size", code="insufficient_memory")
    if lenient:
        warnings.append(f"memory: {problem}; lowered {_changes(shape, within[0], fps)}.")
        return within[0]
    advice = ", or ".join(_changes(shape, other, fps) for other in within)
    param = "size" if within[0].num_frames == shape.num_frames else "num_frames"
    raise ApiError(f"{problem}; lower {advice}.", param=param, code="insufficient_memory")


def _within(memory: Memory, shape: Shape, model: Description) -> list[Shape]:
    """What fits and is nearest: shorter, smaller, or, where neither is enough, both."""
    sizes = [_parse_size(size) for size in model["sizes"]]
    multiple, lengths = model["size_multiple"], sorted(model["num_frames"], reverse=True)
    nearest = [shorter(memory, shape, lengths), smaller(memory, shape, sizes, multiple)]
    if not any(nearest):
        briefer = (replace(shape, num_frames=n) for n in lengths if n < shape.num_frames)
        both = (smaller(memory, brief, sizes, multiple) for brief in briefer)
        nearest = [next(filter(None, both), None)]
    return [other for other in nearest if other]


def _changes(shape: Shape, other: Shape, fps: int) -> str:
    changes = []
    if other.num_frames != shape.num_frames:
        seconds = shortest_decimal(other.num_frames / fps)
        changes.append(f"num_frames to {other.num_frames} (seconds to {seconds})")
    if other.area != shape.area:
        changes.append(f"size to {other.width}x{other.height}")
    return " and ".join(changes)


def _size(
    request: CreateVideo, model: Description, lenient: bool, warnings: list[str]
) -> tuple[int, int, int]:
    """(width, height) of the render and the factor by which the file enlarges it."""
    native = [_parse_size(size) for size in model["sizes"]]
    offers = {size: (*size, 1) for size in native}
    offers |= {(w * s, h * s): (w, h, s) for w, h in native if (s := _enlargement(w, h)) > 1}
    asked, field = _asked_size(request)
    if asked is None:
        return (*native[0], _enlargement(*native[0]))
    if asked in offers:
        return offers[asked]
    allowed = ", ".join(f"{w}x{h}" for w, h in offers)
    if multiple := model["size_multiple"]:
        largest = max(w * h for w, h in native)
        if asked[0] % multiple == asked[1] % multiple == 0 and asked[0] * asked[1] <= largest:
            return (*asked, 1)
        allowed += f" (or multiples of {multiple} with at most {largest} pixels in all)"
    if not lenient:
        message = f"{field} must be one of {allowed} for {model['name']}, "
        raise ApiError(message + f"not {asked[0]}x{asked[1]}.", param=field)
    width, height = min(native, key=lambda size: _distance(size, asked))
    scale = _enlargement(width, height)
    enlarged = f", rendered at {width}x{height} and enlarged" if scale > 1 else ""
    warnings.append(
        f"{field}: {asked[0]}x{asked[1]} was asked; the nearest that {model['name']} makes is "
        f"{width * scale}x{height * scale}{enlarged}."
    )
    return width, height, scale


def _asked_size(request: CreateVideo) -> tuple[tuple[int, int] | None, str]:
    sides = request.width, request.height
    if sides == (None, None):
        return (_parse_size(request.size) if request.size else None), "size"
    if request.width is None or request.height is None:
        missing = "width" if request.width is None else "height"
        message = f"{missing} is missing; width and height are given together."
        raise ApiError(message, param=missing, code="missing_required_parameter")
    asked = (request.width, request.height)
    if request.size and _parse_size(request.size) != asked:
        message = f"size is {request.size}, but width and height are {asked[0]} and {asked[1]}; "
        raise ApiError(message + "give one of the two.", param="size")
    return asked, "width"


def _parse_size(size: str) -> tuple[int, int]:
    width, height = size.split("x")
    return int(width), int(height)


def _enlargement(width: int, height: int) -> int:
    return ENLARGE if max(width, height) < SMALL else 1


def _distance(size: tuple[int, int], asked: tuple[int, int]) -> tuple[float, float]:
    """How far two sizes are apart: first in aspect, then in area, both as log ratios."""
    aspect = math.log(size[0] / size[1]) - math.log(asked[0] / asked[1])
    area = math.log(size[0] * size[1]) - math.log(asked[0] * asked[1])
    return round(abs(aspect), 6), abs(area)


def _frames(
    request: CreateVideo, model: Description, fps: int, lenient: bool, warnings: list[str]
) -> int:
    allowed = sorted(model["num_frames"])
    field, asked = _asked_frames(request, fps)
    if asked is None:
        return model["num_frames"][0]
    # Someone who read "5.0417" off a repeating decimal means the whole frame.
    for frames in allowed:
        if abs(asked - frames) <= 0.001 * fps:
            return frames
    as_seconds = field == "seconds"

    def unit(frames: float) -> str:
        return shortest_decimal(frames / fps) if as_seconds else shortest_decimal(frames)

    if not lenient:
        message = f"{field} must be one of {', '.join(map(unit, allowed))} for {model['name']}, "
        raise ApiError(message + f"not {getattr(request, field)}.", param=field)
    frames = max((n for n in allowed if n <= asked), default=allowed[0])
    warnings.append(
        f"{field}: {getattr(request, field)} was asked; {model['name']} makes {unit(frames)}."
    )
    return frames


def _asked_frames(request: CreateVideo, fps: int) -> tuple[str, float | None]:
    if request.seconds is None:
        return "num_frames", request.num_frames
    asked = float(request.seconds) * fps
    if request.num_frames is not None and abs(asked - request.num_frames) > 0.001 * fps:
        seconds = shortest_decimal(request.num_frames / fps)
        message = f"seconds is {request.seconds}, but num_frames is {request.num_frames}, which "
        message += f"is {seconds} s at {fps} frames a second; give one of the two."
        raise ApiError(message, param="seconds")
    return "seconds", asked


def shortest_decimal(value: float) -> str:
    """The fewest digits that read back as `value`: "2.125", "4"."""
    return repr(float(value)).removesuffix(".0")


def prompt_warnings(prompt: str, model: Description) -> list[str]:
    """What a model of few words should say of a prompt: words never learned, and a cut."""
    if not model["words"]:
        return []
    warnings = []
    if unknown := unknown_words(prompt, model["words"]):
        names = ", ".join(f'"{word}"' for word in unknown)
        near = nearest_prompt(prompt, model["examples"]) if model["examples"] else None
        hint = f'; the nearest prompt it knows is "{near}"' if near else ""
        warnings.append(f"prompt: {model['name']} never learned {names}{hint}.")
    # One place is the end token's.
    count, room = len(re.findall(r"\w+", prompt)), model["max_sequence_length"] - 1
    if count > room:
        warnings.append(f"prompt: {count} words; {model['name']} reads {room} of them.")
    return warnings
