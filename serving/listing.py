"""Which jobs a list is about: a request's filters as conditions on the table of videos."""

import sqlalchemy as sa

from serving.schema import ListVideos
from serving.tables import videos


def conditions(request: ListVideos) -> list[sa.ColumnElement[bool]]:
    """What every job of the list must meet; nothing where nothing is asked."""
    found: list[sa.ColumnElement[bool]] = []
    if request.text:
        prompt = videos.c.resolved["prompt"].as_string()
        found.append(prompt.icontains(request.text, autoescape=True))
    if request.model:
        found.append(videos.c.model == request.model)
    if request.status:
        found.append(videos.c.status.in_(request.status.split(",")))
    if request.remixed_from_video_id:
        found.append(videos.c.source_id == request.remixed_from_video_id)
    return found
