"""Kinds of values in a request: texts, numbers as texts, and JSON within a string."""

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
