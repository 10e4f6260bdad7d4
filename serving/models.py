"""What the served checkpoints can do, and how a request becomes one that they can do.

The API and `kinetograph generate` both ask `resolve`, which knows checkpoints only by the
descriptions they publish as JSON.
"""

import math
import re
import secrets
from collections.abc import Collection, Sequence

from serving.errors import ApiError, not_supported
from serving.fitting import SHAPE, fit
from serving.memory import quarter
from serving.resolved import Description, Resolved, enlargement, parse_size, shortest_decimal
from serving.schema import CreateVideo
from serving.vocabulary import nearest_prompt, unknown_words

ALIASES = (
    *("sora-2", "sora-2-pro"),
    *("sora-2-2025-10-06", "sora-2-2025-12-08", "sora-2-pro-2025-10-06"),
)
"""Names that stand for the default model, so that code written for the hosted API runs."""


def resolve(
    request: CreateVideo,
    models: Sequence[Description],
    joining: bool = False,
    following: Collection[str] = (),
    shortest: int = 1,
) -> Resolved:
    """Make every choice that `request` leaves open; the first of `models` is the default.

    A model asked by its own name is taken at its word: what it cannot do is refused, with what
    it can. Asked through an alias, or not named at all, the nearest it can do is done, and
    `warnings` says each change.

    Args:
        joining: whether it leads into a video that is given.
        following: those of `SHAPE` that nobody asked for, since they follow from a video that is
            given: they are fitted even to a model that is asked by its own name.
        shortest: frames that it needs at least.

    Raises:
        ApiError: naming the field, its value and what is allowed.
    """
    model = choose(request.model, models)
    free = freedom(request, model, following)
    later = request.loop or request.last_frame is not None
    lengths = [n for n in model["num_frames"] if n >= max(shortest, 2 if later else 1)]
    if not lengths:
        raise not_supported(
            f"{model['name']} makes single frames, beside which none is to be drawn."
        )
    made = draft(request, model, free, lengths, joining)
    return fit([made], model, free, lengths)[0]


def freedom(
    request: CreateVideo, model: Description, following: Collection[str] = ()
) -> frozenset[str]:
    """Those of `SHAPE` that may be made to fit: all, unless the model is asked by its own name."""
    return frozenset(following if request.model == model["name"] else SHAPE)


def draft(
    request: CreateVideo,
    model: Description,
    free: Collection[str],
    lengths: Sequence[int],
    joining: bool = False,
    shot: str = "",
) -> Resolved:
    """What `resolve` makes of a request, for a device of any memory.

    Args:
        free: as `freedom` has it.
        lengths: in frames, that it may have; the default first.
        joining: as `resolve`.
        shot: what the request is a part of, such as "shots[0]"; "" if of nothing.
    """
    check_abilities(request, model)
    warnings: list[str] = []
    width, height, scale = _size(request, model, "size" in free, warnings)
    fps = request.fps or model["fps"]
    lenient = "num_frames" in free
    frames = _frames(request, model["name"], fps, lengths, lenient, warnings, shot)
    return Resolved(
        model=model["name"],
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        width=width,
        height=height,
        scale=scale,
        num_frames=frames,
        fps=fps,
        seed=secrets.randbelow(2**31) if request.seed is None else request.seed,
        num_inference_steps=request.num_inference_steps or model["num_inference_steps"],
        guidance_scale=request.guidance_scale,
        guidance_scale_2=request.guidance_scale_2,
        flow_shift=request.flow_shift,
        warnings=warnings + prompt_warnings(request.prompt, model),
        lora=_lora(request, model),
        loop=request.loop,
        references=_references(request, frames, model, joining),
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


def who_can(capability: str, models: Sequence[Description]) -> str:
    """The end of a refusal: those of the models that could, if any."""
    names = [model["name"] for model in models if capability in model["capabilities"]]
    return f"; {', '.join(names)} can." if names else "."


def check_abilities(
    request: CreateVideo, model: Description, others: Sequence[Description] = ()
) -> None:
    """Raise ApiError for what a request starts from, or needs, that the model cannot.

    The message names those of `others` that could start from what is given.
    """
    name = model["name"]
    if request.last_frame is not None and "last_frame" not in model["capabilities"]:
        message = f"last_frame is not supported by {name}{who_can('last_frame', others)}"
        raise not_supported(message, "last_frame")
    if request.loop and "loop" not in model["capabilities"]:
        raise not_supported(f"loop is not supported by {name}{who_can('loop', others)}", "loop")
    if request.loop and request.input_reference is None:
        message = "loop needs input_reference, the frame to which the end leads back."
        raise ApiError(message, param="loop")
    if request.input_reference is not None and "first_frame" not in model["capabilities"]:
        message = f"input_reference is not supported by {name}, which cannot start from an image"
        raise not_supported(message + who_can("first_frame", others), "input_reference")
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
    return quarter(memory, frames) if memory else 0


def _lora(request: CreateVideo, model: Description) -> str | None:
    known = model.get("loras", ())
    if request.lora is None or request.lora in known:
        return request.lora
    allowed = f"be one of {', '.join(known)}" if known else "be left out"
    message = f"lora must {allowed} for {model['name']}, not {request.lora!r}."
    raise ApiError(message, param="lora", code="lora_not_found")


def _size(
    request: CreateVideo, model: Description, lenient: bool, warnings: list[str]
) -> tuple[int, int, int]:
    """(width, height) of the render and the factor by which the file enlarges it."""
    native = [parse_size(size) for size in model["sizes"]]
    offers = {size: (*size, 1) for size in native}
    for width, height in native:  # what it draws itself comes before what would be enlarged
        scale = enlargement(width, height)
        offers.setdefault((width * scale, height * scale), (width, height, scale))
    asked, field = _asked_size(request)
    if asked is None:
        return (*native[0], enlargement(*native[0]))
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
    scale = enlargement(width, height)
    enlarged = f", rendered at {width}x{height} and enlarged" if scale > 1 else ""
    warnings.append(
        f"{field}: {asked[0]}x{asked[1]} was asked; the nearest that {model['name']} makes is "
        f"{width * scale}x{height * scale}{enlarged}."
    )
    return width, height, scale


def _asked_size(request: CreateVideo) -> tuple[tuple[int, int] | None, str]:
    sides = request.width, request.height
    if sides == (None, None):
        return (parse_size(request.size) if request.size else None), "size"
    if request.width is None or request.height is None:
        missing = "width" if request.width is None else "height"
        message = f"{missing} is missing; width and height are given together."
        raise ApiError(message, param=missing, code="missing_required_parameter")
    asked = (request.width, request.height)
    if request.size and parse_size(request.size) != asked:
        message = f"size is {request.size}, but width and height are {asked[0]} and {asked[1]}; "
        raise ApiError(message + "give one of the two.", param="size")
    return asked, "width"


def _distance(size: tuple[int, int], asked: tuple[int, int]) -> tuple[float, float]:
    """How far two sizes are apart: first in aspect, then in area, both as log ratios."""
    aspect = math.log(size[0] / size[1]) - math.log(asked[0] / asked[1])
    area = math.log(size[0] * size[1]) - math.log(asked[0] * asked[1])
    return round(abs(aspect), 6), abs(area)


def _frames(
    request: CreateVideo,
    model: str,
    fps: int,
    lengths: Sequence[int],
    lenient: bool,
    warnings: list[str],
    shot: str,
) -> int:
    field, asked = _asked_frames(request, fps)
    if asked is None:
        return lengths[0]
    # Someone who read "5.0417" off a repeating decimal means the whole frame.
    for frames in lengths:
        if abs(asked - frames) <= 0.001 * fps:
            return frames
    as_seconds = field == "seconds"
    name = f"{shot}.{field}" if shot else field

    def unit(frames: float) -> str:
        return shortest_decimal(frames / fps) if as_seconds else shortest_decimal(frames)

    if not lenient:
        allowed = ", ".join(map(unit, sorted(lengths)))
        message = f"{name} must be one of {allowed} for {model}, not {getattr(request, field)}."
        raise ApiError(message, param="shots" if shot else field)
    frames = max((n for n in lengths if n <= asked), default=min(lengths))
    warnings.append(f"{name}: {getattr(request, field)} was asked; {model} makes {unit(frames)}.")
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
