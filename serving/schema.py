"""The wire: what a request may say and what an answer looks like.

The shapes are those of OpenAI's Videos API, so that its clients work unchanged.
"""

import difflib
import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from serving.errors import ApiError, not_supported

# Spoken of in the contract or by our peers, and not built yet: refused by name, never ignored.
NOT_SUPPORTED = (
    *("input_reference", "first_frame", "last_frame", "mask", "loop", "lora", "priority"),
    "webhook_url",
)


def _clean_text(text: str) -> str:
    text = unicodedata.normalize("NFC", text)
    # Cc: controls, which databases and logs trip over; Cs: lone surrogates, which UTF-8 has not.
    if any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\t\n\r" for c in text):
        raise ValueError("control character")
    return text


def _filled(text: str) -> str:
    if not text.strip():
        raise ValueError("empty")
    return text


def _number_as_text(value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if number else value


def _positive(number: str | None) -> str | None:
    if number is not None and float(number) <= 0:
        raise ValueError("not positive")
    return number


Text = Annotated[str, Field(max_length=32_000), AfterValidator(_clean_text)]


class Fields(BaseModel):
    """Named values of a request. Each field's description completes "`field` must be ..."."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> Self:
        """What `fields` spell, or an `ApiError` that names the first bad field."""
        given = {name: value for name, value in fields.items() if value is not None}
        if unknown := [name for name in given if name not in cls.model_fields]:
            raise cls._unknown(unknown[0])
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            problem = error.errors()[0]
            raise cls._invalid(str(problem["loc"][0]), problem["type"], problem["input"]) from None

    @classmethod
    def _unknown(cls, name: str) -> ApiError:
        if name in NOT_SUPPORTED:
            return not_supported(f"{name} is not supported by this service.", name)
        near = difflib.get_close_matches(name, cls.model_fields, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(cls.model_fields)}."
        message = f"{_short(name)} is not a field of this request; {hint}"
        return ApiError(message, param=name, code="unknown_parameter")

    @classmethod
    def _invalid(cls, name: str, problem: str, value: Any) -> ApiError:
        allowed = cls.model_fields[name].description
        if problem == "missing":
            message = f"{name} is missing; it must be {allowed}."
            return ApiError(message, param=name, code="missing_required_parameter")
        return ApiError(f"{name} must be {allowed}, not {_short(value)}.", param=name)


class CreateVideo(Fields):
    """A request to make a video."""

    prompt: Annotated[Text, AfterValidator(_filled)] = Field(
        description="text of 1 to 32000 characters, without control characters"
    )
    negative_prompt: Text = Field(
        "", description="text of at most 32000 characters, without control characters"
    )
    model: str | None = Field(None, description="the name of a model")
    size: str | None = Field(
        None,
        pattern=r"^[1-9][0-9]{0,4}x[1-9][0-9]{0,4}$",
        description="WIDTHxHEIGHT in pixels, such as 512x512",
    )
    seconds: Annotated[str | None, BeforeValidator(_number_as_text), AfterValidator(_positive)] = (
        Field(
            None,
            pattern=r"^[0-9]{1,6}(\.[0-9]{1,16})?$",
            description="a positive decimal number, such as 2.125",
        )
    )
    width: int | None = Field(None, ge=1, le=99_999, description="a whole number of pixels")
    height: int | None = Field(None, ge=1, le=99_999, description="a whole number of pixels")
    num_frames: int | None = Field(
        None, ge=1, le=100_000, description="a whole number from 1 to 100000"
    )
    fps: int | None = Field(None, ge=1, le=240, description="a whole number from 1 to 240")
    seed: int | None = Field(
        None, ge=0, lt=2**63, description="a whole number from 0 to 9223372036854775807"
    )
    num_inference_steps: int | None = Field(
        None, ge=1, le=1000, description="a whole number from 1 to 1000"
    )
    guidance_scale: float | None = Field(
        None, ge=0, le=100, allow_inf_nan=False, description="a number from 0 to 100"
    )
    guidance_scale_2: float | None = Field(
        None, ge=0, le=100, allow_inf_nan=False, description="a number from 0 to 100"
    )
    flow_shift: float | None = Field(
        None, gt=0, le=100, allow_inf_nan=False, description="a number above 0, at most 100"
    )
    user: Text | None = Field(None, description="text of at most 32000 characters")


class ListVideos(Fields):
    """Which page of the videos."""

    after: str | None = Field(None, description="the id of a video")
    limit: int = Field(20, ge=1, le=100, description="a whole number from 1 to 100")
    order: Literal["asc", "desc"] = Field("desc", description="asc or desc")


class GetContent(Fields):
    """Which file of a video."""

    variant: Literal["video", "thumbnail", "spritesheet"] = Field(
        "video", description="video, thumbnail or spritesheet"
    )


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


class VideoError(BaseModel):
    """Why a job failed."""

    code: str
    message: str


class Video(BaseModel):
    """One job and, once it is completed, one video. `progress` is a percentage."""

    id: str
    object: Literal["video"] = "video"
    created_at: int
    completed_at: int | None
    expires_at: int | None = None
    model: str
    progress: int
    prompt: str
    remixed_from_video_id: str | None = None
    seconds: str
    size: str
    status: Literal["queued", "in_progress", "completed", "failed"]
    error: VideoError | None
    seed: int
    fps: int
    num_frames: int
    rendered_size: str
    queue_position: int | None
    eta_seconds: float | None
    timings: dict[str, float] | None
    warnings: list[str]


class VideoPage(BaseModel):
    """A page of a list; `after=last_id` asks for the next one."""

    object: Literal["list"] = "list"
    data: list[Video]
    first_id: str | None
    last_id: str | None
    has_more: bool


class VideoDeleted(BaseModel):
    """The answer to a deletion."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True
