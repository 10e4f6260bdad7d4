"""A video of several shots: each is resolved by itself, and the whole from all of them."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from serving.errors import ApiError, not_supported
from serving.fitting import fit
from serving.models import choose, draft, freedom, who_can
from serving.models import resolve as resolve_one
from serving.resolved import Description, Resolved
from serving.schema import CreateVideo
from serving.values import ImageReference, Shot

HERE = ImageReference(image_url="data:")
"""Stands for the picture that a shot goes on from, which there is not yet."""


def resolve(request: CreateVideo, models: Sequence[Description]) -> Resolved:
    """Make every choice that `request`, which may have shots, leaves open.

    Raises:
        ApiError: as `serving.models.resolve`; of shots, naming each that has to be another.
    """
    if not request.shots:
        return resolve_one(request, models)
    model = choose(request.model, models)
    _check(request, request.shots, model, models)
    free = freedom(request, model)
    drafts = [_draft(request, index, model, free) for index in range(len(request.shots))]
    each = fit(drafts, model, free, model["num_frames"], shots=True)
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


def _check(
    request: CreateVideo,
    shots: Sequence[Shot],
    model: Description,
    models: Sequence[Description],
) -> None:
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
            raise not_supported(message + "from an image" + who_can("first_frame", models), "shots")
        if index and shot.join == "cut" and "text" not in model["capabilities"]:
            message = f"shots[{index}].join must be continue for {model['name']}, which starts "
            raise ApiError(message + "from an image.", param="shots")


def _draft(request: CreateVideo, index: int, model: Description, free: Collection[str]) -> Resolved:
    shot = (request.shots or ())[index]
    image = request.input_reference if index == 0 else None
    image = HERE if shot.join == "continue" else image
    own = {"prompt": shot.prompt, "seconds": shot.seconds, "shots": None, "input_reference": image}
    named = f"shots[{index}]"
    return draft(request.model_copy(update=own), model, free, model["num_frames"], shot=named)
