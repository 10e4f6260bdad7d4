"""A video of several shots: each is resolved by itself, and the whole from all of them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from serving.errors import ApiError, not_supported
from serving.models import Description, Resolved, choose
from serving.models import resolve as resolve_one
from serving.schema import CreateVideo, ImageReference
from serving.values import Shot

HERE = ImageReference(image_url="data:")
"""Stands for the picture that a shot goes on from, which there is not yet."""


def resolve(request: CreateVideo, models: Sequence[Description]) -> Resolved:
    """Make every choice that `request`, which may have shots, leaves open.

    Raises:
        ApiError: as `serving.models.resolve`; of a shot, naming it.
    """
    if not request.shots:
        return resolve_one(request, models)
    _check(request, request.shots, choose(request.model, models))
    each = [_shot(request, shot, index, models) for index, shot in enumerate(request.shots)]
    if len({shot.size for shot in each}) > 1:
        message = "shots must be of one size; give size, or shorten the longest of them."
        raise ApiError(message, param="shots")
    told: list[dict[str, Any]] = [
        {"prompt": one.prompt, "num_frames": one.num_frames, "join": shot.join}
        for one, shot in zip(each, request.shots, strict=True)
    ]
    return replace(
        each[0],
        prompt=request.prompt,
        num_frames=sum(shot.num_frames for shot in each),
        warnings=list(dict.fromkeys(warning for shot in each for warning in shot.warnings)),
        shots=told,
    )


def _check(request: CreateVideo, shots: Sequence[Shot], model: Description) -> None:
    for name in ("seconds", "num_frames", "last_frame", "loop"):
        if getattr(request, name):
            message = f"{name} must be left out beside shots."
            raise ApiError(message, param=name)
    if shots[0].join != "cut":
        message = "shots[0].join must be cut: there is nothing before it to continue."
        raise ApiError(message, param="shots")
    for index, shot in enumerate(shots):
        if shot.join == "continue" and "first_frame" not in model["capabilities"]:
            message = f"shots[{index}].join must be cut for {model['name']}, which cannot start "
            raise not_supported(message + "from an image.", "shots")


def _shot(request: CreateVideo, shot: Shot, index: int, models: Sequence[Description]) -> Resolved:
    image = request.input_reference if index == 0 else None
    image = HERE if shot.join == "continue" else image
    own = {"prompt": shot.prompt, "seconds": shot.seconds, "shots": None, "input_reference": image}
    try:
        return resolve_one(request.model_copy(update=own), models)
    except ApiError as error:
        if error.param != "seconds":
            raise
        message = f"shots[{index}].{error.message}"
        raise ApiError(message, param="shots", code=error.code, status=error.status) from None
