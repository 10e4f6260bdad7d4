"""Kinds of values in a request: texts, numbers as texts, JSON within a string, files elsewhere."""

import json
import unicodedata
from contextlib import suppress
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from serving.fields import option


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


def as_object(value: Any) -> Any:
    """Objects may also be spelled as JSON in a string, which is all that some forms can send."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def as_list(value: Any) -> Any:
    """A list may also be spelled as JSON in a string, as objects may."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        with suppress(ValueError, RecursionError):
            return json.loads(value)
    return value


Text = Annotated[str, Field(max_length=32_000), AfterValidator(_clean_text)]
Prompt = Annotated[Text, Field(min_length=1), AfterValidator(_filled)]
Decimal = Annotated[str | None, BeforeValidator(_number_as_text), AfterValidator(_positive)]


LONGEST_URL = 30_000_000
"""Characters of a data URL; more than a body may have."""


class ImageReference(BaseModel):
    """An image within the request, or on the web."""

    model_config = ConfigDict(extra="forbid")
    image_url: str = option(
        ...,
        "The image itself, or where it is.",
        "a base64 data URL of a PNG, JPEG or WebP image, or its https address",
        "data:image/png;base64,iVBORw0KGgo=",
        max_length=LONGEST_URL,
        pattern=r"(?i)^(data:|https?://)",
    )


class VideoAddress(BaseModel):
    """A video within the request, or on the web."""

    model_config = ConfigDict(extra="forbid")
    video_url: str = option(
        ...,
        "The video itself, or where it is.",
        "a base64 data URL of an MP4 or WebM video, or its https address",
        "https://example.com/clip.mp4",
        max_length=LONGEST_URL,
        pattern=r"(?i)^(data:|https?://)",
    )


class VideoReference(BaseModel):
    """A video that this service has made."""

    model_config = ConfigDict(extra="forbid")
    id: str = option(
        ..., "Which video.", "the id of a completed video", "video_0a1b2c3d", max_length=200
    )


class Shot(BaseModel):
    """A part of a video that has a prompt of its own."""

    model_config = ConfigDict(extra="forbid")
    prompt: Prompt = option(
        ..., "What it shows.", "text of 1 to 32000 characters", "a red ball bounces"
    )
    seconds: Decimal = option(
        None,
        "Its duration in seconds; the model's default if not given.",
        "a positive decimal number, such as 2.125",
        "2.125",
        pattern=r"^[0-9]{1,6}(\.[0-9]{1,20})?$",
    )
    join: Literal["cut", "continue"] = option(
        "cut",
        "Whether it is cut to, or its first frame is the last one before it, for models with the "
        "capability first_frame.",
        "cut or continue",
        "cut",
    )
