"""What a request may say. One class a route, for JSON and for forms, and for the published schema.

The names are those of OpenAI's Videos API, so that its clients work unchanged, and beyond them
those that its open-source peers agree on.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import UploadFile
from pydantic import (
    BeforeValidator,
    Field,
    model_validator,
)

from serving.errors import not_supported
from serving.fields import Fields, option
from serving.values import (
    LONGEST_URL,
    Decimal,
    ImageReference,
    Prompt,
    Shot,
    Text,
    VideoAddress,
    VideoReference,
    as_list,
    as_object,
)


def _image_reference(value: Any) -> Any:
    value = as_object(value)
    if not isinstance(value, Mapping):
        return value
    if "file_id" in value:
        message = "input_reference[file_id] is not supported, as there is no Files API; send the "
        raise not_supported(message + "image itself or its data URL.", "input_reference")
    return value


def _lora_name(value: Any) -> Any:
    value = as_object(value)
    return value["name"] if isinstance(value, Mapping) and set(value) == {"name"} else value


class Prompted(Fields):
    """What every request for a video may say: the words, and how they are followed."""

    prompt: Prompt = option(
        ...,
        "What should be seen, in any language, UTF-8; kept in Unicode form NFC.",
        "text of 1 to 32000 characters, without control characters",
        "a red ball bounces",
    )
    negative_prompt: Text = option(
        "",
        "What guidance leads away from; without effect where guidance_scale is at most 1.",
        "text of at most 32000 characters, without control characters",
        "blurred",
    )
    seed: int | None = option(
        None,
        "Seed of the initial noise; drawn at random, and told, if not given.",
        "a whole number from 0 to 9223372036854775807",
        7,
        ge=0,
        le=2**63 - 1,
    )
    num_inference_steps: int | None = option(
        None,
        "Denoising steps of the sampler; the model's default if not given.",
        "a whole number from 1 to 1000",
        30,
        ge=1,
        le=1000,
    )
    guidance_scale: float | None = option(
        None,
        "Scale of classifier-free guidance, a pure number; the model's if not given.",
        "a number from 0 to 100",
        5.0,
        ge=0,
        le=100,
        allow_inf_nan=False,
    )
    guidance_scale_2: float | None = option(
        None,
        "Guidance scale of the second expert, a pure number, for models that have two.",
        "a number from 0 to 100",
        3.0,
        ge=0,
        le=100,
        allow_inf_nan=False,
    )
    flow_shift: float | None = option(
        None,
        "Shift of the noise schedule, a pure number: above 1, more of the steps are at high noise.",
        "a number above 0, at most 100",
        3.0,
        gt=0,
        le=100,
        allow_inf_nan=False,
    )
    lora: Annotated[str | None, BeforeValidator(_lora_name)] = option(
        None,
        "LoRA to apply, as a name (or lora[name]) that the model lists, never a path.",
        "the name of a LoRA, at most 200 characters",
        "watercolour",
        min_length=1,
        max_length=200,
    )
    user: Text | None = option(
        None,
        "Your name for the end user; jobs of different users take turns.",
        "text of at most 32000 characters",
        "customer-17",
    )
    webhook_url: str | None = option(
        None,
        "Where it is told that the job is over, by a signed POST; see docs/service.md.",
        "an https address of at most 2048 characters",
        "https://example.com/videos",
        max_length=2048,
        pattern=r"^https?://",
    )
    priority: Literal["high", "normal", "low"] = option(
        "normal",
        "Class of the job: every high one starts before any normal one.",
        "high, normal or low",
        "normal",
    )


class Shaped(Prompted):
    """A request that also says which model is to make what shape of video."""

    model: str | None = option(
        None,
        "Which model; the default one if not given. See GET /v1/models.",
        "the name of a model, at most 200 characters",
        "sora-2",
        max_length=200,
    )
    size: str | None = option(
        None,
        "Width and height of the file in pixels; the model's default if not given.",
        "WIDTHxHEIGHT in pixels, such as 512x512",
        "512x512",
        pattern=r"^[1-9][0-9]{0,4}x[1-9][0-9]{0,4}$",
    )
    seconds: Decimal = option(
        None,
        "Duration of the file in seconds; the model's default if not given.",
        "a positive decimal number, such as 2.125",
        "2.125",
        pattern=r"^[0-9]{1,6}(\.[0-9]{1,20})?$",
    )
    width: int | None = option(
        None,
        "Width of the file in pixels, with height, in place of size.",
        "a whole number of pixels from 1 to 99999",
        512,
        ge=1,
        le=99_999,
    )
    height: int | None = option(
        None,
        "Height of the file in pixels, with width, in place of size.",
        "a whole number of pixels from 1 to 99999",
        512,
        ge=1,
        le=99_999,
    )
    num_frames: int | None = option(
        None,
        "Length in frames, in place of seconds.",
        "a whole number from 1 to 100000",
        17,
        ge=1,
        le=100_000,
    )
    fps: int | None = option(
        None,
        "Frames a second at which the frames are shown; the model's if not given.",
        "a whole number from 1 to 240",
        8,
        ge=1,
        le=240,
    )

    @property
    def unshaped(self) -> frozenset[str]:
        """Which of size and num_frames is not asked for, in any of its spellings."""
        spellings = {"size": ("size", "width", "height"), "num_frames": ("seconds", "num_frames")}
        return frozenset(
            name for name, fields in spellings.items() if not any(getattr(self, f) for f in fields)
        )


ImageAddress = Annotated[str, Field(max_length=LONGEST_URL)]


class CreateVideo(Shaped):
    """A request for a video from a prompt, or from a prompt and its first frame."""

    @model_validator(mode="before")
    @classmethod
    def _prompt_of_shots(cls, fields: Any) -> Any:
        """Shots have prompts enough: the video's own is theirs if it is not given."""
        shots = as_list(fields.get("shots"))
        if "prompt" in fields or not isinstance(shots, list) or not shots:
            return fields
        prompts = [shot.get("prompt") for shot in shots if isinstance(shot, Mapping)]
        return {**fields, "prompt": " / ".join(p for p in prompts if isinstance(p, str))}

    input_reference: Annotated[
        UploadFile | ImageReference | None, BeforeValidator(_image_reference)
    ] = option(
        *(None, "The first frame, for models with the capability first_frame; at most 20 MB."),
        'an image file, or {"image_url": an https address or a base64 data URL}',
        {"image_url": "data:image/png;base64,iVBORw0KGgo="},
    )
    last_frame: Annotated[
        UploadFile | ImageReference | ImageAddress | None, BeforeValidator(_image_reference)
    ] = option(
        *(None, "The last frame, for models with the capability last_frame; at most 20 MB."),
        'an image file, or its https address or base64 data URL, which may be {"image_url": ...}',
        {"image_url": "data:image/png;base64,iVBORw0KGgo="},
    )
    loop: bool = option(
        False,
        "Whether the end leads back to the first frame, which is then needed; for models with the "
        "capability loop.",
        "true or false",
        True,
    )
    shots: Annotated[list[Shot] | None, BeforeValidator(as_list)] = option(
        None,
        "Parts of the video in their order, each with a prompt and a duration of its own.",
        'a list of 1 to 20 objects {"prompt": text, "seconds": a positive decimal number, "join": '
        '"cut" or "continue"}',
        [{"prompt": "a red ball bounces", "seconds": "2.125", "join": "cut"}],
        min_length=1,
        max_length=20,
    )


_STRENGTH = option(
    0.8,
    "How far the result may leave its source: the share of the schedule that is run.",
    "a number above 0, at most 1",
    0.8,
    gt=0,
    le=1,
    allow_inf_nan=False,
)
_SOURCE = option(
    *(..., "The video to start from: an MP4 or WebM of at most 256 MB, or one made here."),
    'an MP4 or WebM file, {"id": the id of a completed video} or {"video_url": an https address or '
    "a base64 data URL}",
    {"id": "video_0a1b2c3d"},
)
Source = Annotated[UploadFile | VideoReference | VideoAddress, BeforeValidator(as_object)]


class RemixVideo(Prompted):
    """A request to make a completed video again after another prompt, in its size and length."""

    strength: float = _STRENGTH


class EditVideo(Shaped):
    """A request to make an uploaded or completed video again after another prompt."""

    video: Source = _SOURCE
    strength: float = _STRENGTH


class ExtendVideo(Shaped):
    """A request to go on from the end of a video, which comes first in the file."""

    video: Source = _SOURCE
    next_video: Source | None = option(
        None,
        "The video to lead into, which comes last in the file; for models with the capability "
        "join.",
        'an MP4 or WebM file, {"id": the id of a completed video} or {"video_url": an https '
        "address or a base64 data URL}",
        {"id": "video_4e5f6a7b"},
    )


class CreateCharacter(Fields):
    """A request to learn a character from a video."""

    name: Prompt = option(
        ..., "What the character is called.", "text of 1 to 32000 characters", "Mia"
    )
    video: Source = _SOURCE


class VerifyVideo(Fields):
    """A request to say who made a video."""

    video: Source = _SOURCE


_STATES = "queued|in_progress|completed|failed"


class ListVideos(Fields):
    """Which page of the videos."""

    after: str | None = option(
        None,
        "Where the page begins: after this video.",
        "the id of a video",
        "video_0a1b2c3d",
        max_length=200,
    )
    limit: int = option(
        20,
        "How many videos a page holds at most.",
        "a whole number from 1 to 100",
        20,
        ge=1,
        le=100,
    )
    order: Literal["asc", "desc"] = option(
        "desc", "Oldest first, or newest first.", "asc or desc", "desc"
    )
    text: str | None = option(
        None,
        "Only videos whose prompt contains this; upper and lower case of A to Z are the same.",
        "text of at most 500 characters",
        "red ball",
        max_length=500,
    )
    model: str | None = option(
        None, "Only videos of this model.", "text of at most 200 characters", "tiny", max_length=200
    )
    status: str | None = option(
        None,
        "Only videos in one of these states.",
        "queued, in_progress, completed or failed, or several with commas between",
        "queued,in_progress",
        max_length=200,
        pattern=rf"^({_STATES})(,({_STATES}))*$",
    )
    remixed_from_video_id: str | None = option(
        None,
        "Only videos that were made from this one.",
        "the id of a video",
        "video_0a1b2c3d",
        max_length=200,
    )


class GetEvents(Fields):
    """What a stream of events tells besides how the job stands."""

    preview: bool = option(
        False,
        "Whether it also tells, as video.preview, how the video looks so far.",
        "true or false",
        True,
    )


class GetContent(Fields):
    """Which file of a video."""

    variant: Literal["video", "thumbnail", "spritesheet"] = option(
        "video",
        "The MP4, a WebP still, or a JPEG sheet of up to 25 frames.",
        "video, thumbnail or spritesheet",
        "video",
    )
