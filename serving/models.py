"""What the served checkpoints can do, and how a request becomes one that they can do.

The API and `kinetograph generate` both ask `resolve`, which knows checkpoints only by the
descriptions they publish as JSON.
"""

import difflib
import math
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from serving.errors import ApiError, not_supported
from serving.schema import CreateVideo

ALIASES = (
    *("sora-2", "sora-2-pro"),
    *("sora-2-2025-10-06", "sora-2-2025-12-08", "sora-2-pro-2025-10-06"),
)
"""Names that stand for the default model, so that code written for the hosted API runs."""

SMALL, ENLARGE = 256, 8
"""A render with both sides under 256 pixels is enlarged 8 times, or it would be a stamp."""


class Description(TypedDict):
    """`model.description.ModelDescription` as JSON; its docstring says what the fields mean."""

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


@dataclass(frozen=True)
class Resolved:
    """A request with every choice made: what will be rendered, and what the file will be.

    width and height are those of the render, in pixels; the file's are `scale` times as large.
    None leaves a number of the sampler to the checkpoint.
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

    @property
    def size(self) -> str:
        """Width x height of the file."""
        return f"{self.width * self.scale}x{self.height * self.scale}"

    @property
    def rendered_size(self) -> str:
        """Width x height that the model renders."""
        return f"{self.width}x{self.height}"

    @property
    def seconds(self) -> str:
        """Duration of the file as the shortest decimal."""
        return shortest_decimal(self.num_frames / self.fps)


def resolve(request: CreateVideo, models: Sequence[Description]) -> Resolved:
    """Make every choice that `request` leaves open; the first of `models` is the default.

    A model asked by its own name is taken at its word: what it cannot do is refused, with what
    it can. Asked through an alias, or not named at all, the nearest it can do is done, and
    `warnings` says each change.

    Raises:
        ApiError: naming the field, its value and what is allowed.
    """
    model = _choose(request.model, models)
    _check_abilities(request, model)
    lenient = request.model is None or request.model in ALIASES
    warnings: list[str] = []
    width, height, scale = _size(request, model, lenient, warnings)
    fps = request.fps or model["fps"]
    return Resolved(
        model=model["name"],
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        width=width,
        height=height,
        scale=scale,
        num_frames=_frames(request, model, fps, lenient, warnings),
        fps=fps,
        seed=secrets.randbelow(2**31) if request.seed is None else request.seed,
        num_inference_steps=request.num_inference_steps or model["num_inference_steps"],
        guidance_scale=request.guidance_scale,
        guidance_scale_2=request.guidance_scale_2,
        flow_shift=request.flow_shift,
        warnings=warnings + prompt_warnings(request.prompt, model),
    )


def _choose(name: str | None, models: Sequence[Description]) -> Description:
    if name is None or name in ALIASES:
        return models[0]
    for model in models:
        if model["name"] == name:
            return model
    known = ", ".join(model["name"] for model in models)
    message = f"model must be one of {known}, or an alias ({', '.join(ALIASES)}), not {name!r}."
    raise ApiError(message, param="model", code="model_not_found")


def _check_abilities(request: CreateVideo, model: Description) -> None:
    name = model["name"]
    if "text" not in model["capabilities"]:
        message = f"model {name} starts from an image, which this service does not take yet."
        raise not_supported(message, "model")
    if request.guidance_scale_2 is not None and "two_experts" not in model["capabilities"]:
        message = f"guidance_scale_2 must be left out for {name}, which has one expert."
        raise ApiError(message, param="guidance_scale_2")
    if request.flow_shift is not None and model["flow_shift"] is None:
        message = f"flow_shift must be left out for {name}, whose scheduler has none to set."
        raise ApiError(message, param="flow_shift")


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


def unknown_words(prompt: str, words: Sequence[str]) -> list[str]:
    """The words of `prompt` that are not among `words`, each once, in order.

    Split as the word-level tokenizer splits: lower case, runs of letters and digits. Punctuation
    that no prompt was trained with is not worth a warning.
    """
    known = set(words)
    return list(dict.fromkeys(w for w in re.findall(r"\w+", prompt.lower()) if w not in known))


def nearest_prompt(prompt: str, examples: Sequence[str]) -> str:
    """The one of `examples` that shares most words with `prompt`, in most nearly its order.

    Letters break ties, so that a misspelt word still pulls its prompt near.
    """

    def likeness(example: str) -> tuple[float, float]:
        by_word = difflib.SequenceMatcher(None, prompt.lower().split(), example.lower().split())
        by_letter = difflib.SequenceMatcher(None, prompt.lower(), example.lower())
        return by_word.ratio(), by_letter.ratio()

    return max(examples, key=likeness)


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
