"""Named values of a request: checked by pydantic, refused in words that say what is allowed."""

import difflib
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serving.errors import ApiError, not_supported

# Spoken of in the contract or by our peers, and not built yet: refused by name, never ignored.
NOT_SUPPORTED = ("first_frame", "mask")


class Fields(BaseModel):
    """Named values of a request. Each field's `x-allowed` completes "`field` must be ..."."""

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
            problem = error.errors(include_url=False)[0]
            name = str(problem["loc"][0])
            raise cls._invalid(name, problem["type"], given.get(name)) from None

    @classmethod
    def _unknown(cls, name: str) -> ApiError:
        if name in NOT_SUPPORTED:
            return not_supported(f"{name} is not supported by this service.", name)
        near = difflib.get_close_matches(name, cls.model_fields, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(cls.model_fields)}."
        message = f"{_short(name)} is not a field of this request; {hint}"
        return ApiError(message, param=name[:80], code="unknown_parameter")

    @classmethod
    def _invalid(cls, name: str, problem: str, value: Any) -> ApiError:
        extra = cls.model_fields[name].json_schema_extra
        allowed = extra["x-allowed"] if isinstance(extra, dict) else None
        if problem == "missing":
            message = f"{name} is missing; it must be {allowed}."
            return ApiError(message, param=name, code="missing_required_parameter")
        return ApiError(f"{name} must be {allowed}, not {_short(value)}.", param=name)


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def option(default: Any, meaning: str, allowed: str, example: Any, **bounds: Any) -> Any:
    """A field with all that its user needs to know of it; `...` as default makes it required."""
    return Field(
        default,
        description=f"{meaning} Must be {allowed}.",
        examples=[example],
        json_schema_extra={"x-allowed": allowed},
        **bounds,
    )
