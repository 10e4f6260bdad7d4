"""From a request to an order: what is to be rendered, and from which files.

What the chosen model cannot do is refused here, before anything is queued.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from serving.egress import Egress
from serving.errors import ApiError, not_supported
from serving.extension import resolve_extension
from serving.models import choose, who_can
from serving.models import resolve as resolve_one
from serving.resolved import Description, Resolved
from serving.schema import CreateVideo, EditVideo, ExtendVideo, Prompted
from serving.storyboard import resolve
from serving.uploads import Input, SourceVideo, read_image


@dataclass(frozen=True)
class Order:
    """One request, of whatever route, ready to be queued.

    inputs: name in the model's terms (`image`, `prefix`) to file. source_id: the video made here
    that it starts from.
    """

    operation: str
    asked: Prompted
    inputs: Mapping[str, Input] = field(default_factory=dict)
    source: SourceVideo | None = None
    source_id: str | None = None

    @property
    def request(self) -> dict[str, Any]:
        """What was asked, as JSON: equal for equal requests, files included."""
        files = {name: file.digest for name, file in self.inputs.items()}
        without = {"input_reference", "last_frame", "video", "next_video"}
        fields = self.asked.model_dump(mode="json", exclude_unset=True, exclude=without)
        return {"operation": self.operation, "files": files, **fields}

    @property
    def text(self) -> str:
        """All that is to be seen, in the words of whoever asked."""
        shots = self.asked.shots if isinstance(self.asked, CreateVideo) else None
        return "\n".join([self.asked.prompt, *(shot.prompt for shot in shots or ())])

    def resolve(self, models: Sequence[Description]) -> Resolved:
        """Make every choice that the request leaves open.

        Raises:
            ApiError: for what no served model, or not the one that was asked, can do.
        """
        if isinstance(self.asked, CreateVideo):
            return resolve(self.asked, models)
        if isinstance(self.asked, ExtendVideo):
            assert self.source is not None
            return resolve_extension(self.asked, self.source, models)
        assert isinstance(self.asked, EditVideo) and self.source is not None
        return _resolve_edit(self.asked, self.source, models)


def create(asked: CreateVideo, egress: Egress) -> Order:
    """A video from a prompt, or from a prompt and its first frame, its last, or both."""
    given = {
        ("image", "input_reference"): asked.input_reference,
        ("last_image", "last_frame"): asked.last_frame,
    }
    inputs = {}
    with ExitStack() as stack:
        for (name, field), file in given.items():
            if file is not None:
                inputs[name] = read_image(file, field, egress)
                stack.callback(inputs[name].close)  # if the other one is refused
        stack.pop_all()
    return Order("create", asked, inputs)


def edit(asked: EditVideo, source: SourceVideo, source_id: str | None) -> Order:
    """A video from another one, uploaded or made here, in its size and length unless asked."""
    return Order("edit", asked, {"video": source.file}, source, source_id)


def extend(
    asked: ExtendVideo, source: SourceVideo, following: SourceVideo | None, source_id: str | None
) -> Order:
    """A video that goes on from another one, and leads into the `following` one if there is any."""
    inputs = {"prefix": source.file}
    inputs |= {"suffix": following.file} if following else {}
    return Order("extend", asked, inputs, source, source_id)


def _resolve_edit(asked: EditVideo, source: SourceVideo, models: Sequence[Description]) -> Resolved:
    model = choose(asked.model, models)
    if "remix" not in model["capabilities"]:
        message = f"video is not supported by {model['name']}, which cannot start from a video"
        raise not_supported(message + who_can("remix", models), "video")
    fields = asked.model_dump(exclude_unset=True, exclude={"video", "strength"})
    fps = asked.fps or model["fps"]
    available = max(1, round(source.num_frames * fps / source.fps))
    lengths = [n for n in model["num_frames"] if n <= available]
    if not lengths:
        raise _too_short(source, model, min(model["num_frames"]), fps)
    shape = {"size": f"{source.width}x{source.height}", "num_frames": max(lengths)}
    fields |= {name: shape[name] for name in asked.unshaped}
    resolved = resolve_one(CreateVideo.parse(fields), models, following=asked.unshaped)
    if resolved.num_frames > available:
        raise _too_short(source, model, resolved.num_frames, fps)
    return replace(resolved, strength=asked.strength)


def _too_short(source: SourceVideo, model: Description, needed: int, fps: int) -> ApiError:
    message = (
        f"video must last {needed / fps:g} s or longer for {model['name']} to make {needed} frames "
        f"at {fps} a second, not {source.num_frames / source.fps:g} s."
    )
    return ApiError(message, param="video")
