"""What a checkpoint folder tells of itself: `model_index.json` beyond its components, and words."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    BaseModel,
    Field,
    Strict,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
)

TEXTS = "a list of strings"


class CheckpointError(ValueError):
    """A checkpoint that cannot be opened; the message says what, and what would be allowed."""


# A field's description completes "<key> is <value>; allowed is ...".
Sizes = tuple[Annotated[str, Field(strict=True, pattern=r"^[1-9]\d{0,4}x[1-9]\d{0,4}$")], ...]
Lengths = tuple[Annotated[int, Field(strict=True, ge=1)], ...]
Capability = Literal[
    "text", "remix", "first_frame", "last_frame", "keyframes", "extend", "extend_backward", "join",
    "loop", "inpaint", "two_experts",
]  # fmt: skip
"""All that a checkpoint may claim.

`text`: a prompt alone suffices. `remix`: the video may start from another one, made noisy, as with
every model that starts from text. `first_frame`, `last_frame`: it may start from an image, and end
in one; it must start from one where `text` is missing, and must do both where `first_frame` is
missing, too. `keyframes`: images may be seen at any time. `extend`, `extend_backward`, `join`: it
may go on from a video, lead up to one, or from one to another. `loop`: its end may lead back to its
start. `inpaint`: parts of a video may be drawn anew. `two_experts`: a second transformer takes over
at low noise, with a guidance scale of its own.

A network with `reference_tokens` was trained for all of them. Whether another one without input
channels for images was trained for tokens that are given in place cannot be told from its files:
there, `first_frame`, `extend` and `inpaint` are the folder's word, or the first of them Wan's
`expand_timesteps`."""
Guidance = Annotated[float, Field(strict=True, ge=0, le=100, allow_inf_nan=False)]


class Limits(BaseModel):
    """What may be asked for; None sets no limit, or leaves it to the family of the model."""

    sizes: Sizes | None = Field(
        None, min_length=1, description="a list of at least one WIDTHxHEIGHT in pixels"
    )
    num_frames: Lengths | None = Field(
        None, min_length=1, description="a list of at least one whole number of frames"
    )
    fps: StrictInt | None = Field(None, ge=1, le=240, description="a whole number from 1 to 240")


class Defaults(BaseModel):
    """What is done where nothing is asked; None leaves it to the family of the model."""

    num_inference_steps: StrictInt | None = Field(
        None, ge=1, le=1000, description="a whole number from 1 to 1000"
    )
    guidance_scale: Guidance | None = Field(None, description="a number from 0 to 100")
    guidance_scale_2: Guidance | None = Field(None, description="a number from 0 to 100")


class Manifest(BaseModel):
    """The keys of `model_index.json` that describe the model; null is the same as absent.

    `boundary_ratio` and `expand_timesteps` are Wan's, the others Kinetograph's own.
    """

    name: StrictStr | None = Field(None, min_length=1, description="text")
    capabilities: tuple[Capability, ...] | None = Field(
        None, description=f"a list of {', '.join(get_args(Capability))}"
    )
    limits: Limits = Field(Limits(), description="an object of sizes, num_frames and fps")
    defaults: Defaults = Field(
        Defaults(),
        description="an object of num_inference_steps, guidance_scale and guidance_scale_2",
    )
    max_sequence_length: StrictInt = Field(512, ge=1, description="a whole number above 0")
    boundary_ratio: Annotated[float, Strict()] | None = Field(
        None, ge=0, le=1, description="a number from 0 to 1"
    )
    expand_timesteps: StrictBool = Field(False, description="true or false")

    @classmethod
    def of(cls, index: Mapping[str, Any]) -> "Manifest":
        """Take them from the content of `model_index.json`.

        Raises:
            CheckpointError: for the first value that is not allowed.
        """
        told = {key: value for key, value in index.items() if value is not None}
        return _checked(cls, told, "model_index.json")


class Examples(BaseModel):
    """What a model with a small world understands: `examples.json`."""

    words: tuple[StrictStr, ...] = Field((), description=TEXTS)
    grammar: tuple[StrictStr, ...] = Field((), description=TEXTS)
    examples: tuple[StrictStr, ...] = Field((), description=TEXTS)

    @classmethod
    def of(cls, folder: Path) -> "Examples":
        """Read them from a checkpoint folder; a folder without the file tells nothing.

        Raises:
            CheckpointError: for a file that is not JSON, or the first value that is not allowed.
        """
        file = folder / "examples.json"
        return _checked(cls, read_object(file), file.name) if file.is_file() else cls()


def read_object(file: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        FileNotFoundError: if there is none.
        CheckpointError: if it holds anything else.
    """
    try:
        content = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file.name} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file.name} is not a JSON object")
    return content


M = TypeVar("M", bound=BaseModel)


def _checked(kind: type[M], told: Mapping[str, Any], file: str) -> M:
    try:
        return kind.model_validate(told)
    except ValidationError as error:
        first = error.errors()[0]
        keys = [key for key in first["loc"] if isinstance(key, str)]  # without places in lists
        fields, allowed = kind.model_fields, None
        for key in keys:
            allowed = fields[key].description
            fields = getattr(fields[key].annotation, "model_fields", {})
        value = f"{first['input']!r:.80}"
        raise CheckpointError(
            f"{file}: {'.'.join(keys)} has {value}; allowed is {allowed}"
        ) from error
