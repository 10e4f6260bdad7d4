"""What is known of a model that is served, and what becomes of a request to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

from serving.memory import Memory

SMALL, ENLARGE = 256, 8
"""A render with both sides under 256 pixels is enlarged 8 times, or it would be a stamp."""


class Description(TypedDict):
    """`model.description.ModelDescription` as JSON; its docstring says what the fields mean.

    Besides, aliases: further names, by which it is asked as leniently as by no name.
    """

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
    loras: NotRequired[Sequence[str]]
    memory: NotRequired[Memory | None]
    aliases: NotRequired[Sequence[str]]


@dataclass(frozen=True)
class Resolved:
    """A request with every choice made: what will be rendered, and what the file will be.

    width and height are those of the render, in pixels; the file's are `scale` times as large.
    None leaves a number of the sampler to the checkpoint. strength is that of the video that the
    render starts from, if it does. rewritten_prompt is what is rendered in place of prompt, once a
    worker has had it rewritten. shots: prompt, num_frames and join of each, if there are several.
    file_frames: what the file has, once it is made and has not num_frames. references: frames that
    the model is shown beside the clip, at most.
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
    strength: float | None = None
    lora: str | None = None
    rewritten_prompt: str | None = None
    shots: list[dict[str, Any]] | None = None
    loop: bool = False
    file_frames: int | None = None
    references: int = 0

    @property
    def size(self) -> str:
        """Width x height of the file."""
        return f"{self.width * self.scale}x{self.height * self.scale}"

    @property
    def rendered_size(self) -> str:
        """Width x height that the model renders."""
        return f"{self.width}x{self.height}"

    @property
    def longest(self) -> int:
        """The most frames that are drawn at once."""
        return max((shot["num_frames"] for shot in self.shots or ()), default=self.num_frames)

    @property
    def frames(self) -> int:
        """The length of the file."""
        return self.file_frames or self.num_frames

    @property
    def seconds(self) -> str:
        """Duration of the file as the shortest decimal."""
        return shortest_decimal(self.frames / self.fps)


def shortest_decimal(value: float) -> str:
    """The fewest digits that read back as `value`: "2.125", "4"."""
    return repr(float(value)).removesuffix(".0")


def parse_size(size: str) -> tuple[int, int]:
    """Width and height of "WIDTHxHEIGHT"."""
    width, height = size.split("x")
    return int(width), int(height)


def enlargement(width: int, height: int) -> int:
    """The factor by which a render of that size is enlarged if nobody asks for less."""
    return ENLARGE if max(width, height) < SMALL else 1
