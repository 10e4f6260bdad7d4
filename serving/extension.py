"""Going on from the end of a video, or from one video to another."""

from collections.abc import Sequence

from serving.errors import not_supported
from serving.models import choose, resolve, who_can
from serving.resolved import Description, Resolved
from serving.schema import CreateVideo, ExtendVideo
from serving.uploads import SourceVideo

_NOT_OF_ONE = {"video", "next_video"}


def check(asked: ExtendVideo, models: Sequence[Description]) -> Description:
    """The model that is to do it. Raises ApiError if it cannot."""
    model = choose(asked.model, models)
    needs = {"video": "extend"} if asked.next_video is None else {"next_video": "join"}
    for param, capability in needs.items():
        if capability not in model["capabilities"]:
            message = f"{param} is not supported by {model['name']}, which cannot {capability} "
            raise not_supported(message + "videos" + who_can(capability, models), param)
    if "text" not in model["capabilities"]:
        message = f"video is not supported by {model['name']}, which starts from an image."
        raise not_supported(message, "video")
    return model


def resolve_extension(
    asked: ExtendVideo, source: SourceVideo, models: Sequence[Description]
) -> Resolved:
    """Make every choice that `asked` leaves open; the size is the source's unless it is asked.

    num_frames are those of the clip that is drawn, of which about a quarter is the source's end.

    Raises:
        ApiError: for what the model cannot do.
    """
    model = check(asked, models)
    fields = asked.model_dump(exclude_unset=True, exclude=_NOT_OF_ONE)
    following = asked.unshaped
    if "size" in following:
        fields |= {"size": f"{source.width}x{source.height}"}
    joining = asked.next_video is not None
    # Of a single frame there is none left to draw.
    return resolve(CreateVideo.parse(fields), [model], joining, following, shortest=2)
