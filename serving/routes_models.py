"""Routes about what is served, and whether it is."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from fastapi.responses import PlainTextResponse

from serving.answers import Health, Model, ModelPage
from serving.context import Monitored, Parts, Whole
from serving.errors import ApiError
from serving.metrics import CONTENT_TYPE
from serving.models import ALIASES

ModelName = Annotated[
    str,
    Path(
        description="Which model. Must be its name or an alias, as GET /v1/models lists them.",
        examples=["sora-2"],
    ),
]

router = APIRouter(tags=["Service"])


@router.get("/v1/models")
def list_models(parts: Parts) -> ModelPage:
    """What is served, the default first."""
    entries = [_entry(row) for row in parts.served()]
    if entries:
        entries[0].aliases.extend(ALIASES)
    return ModelPage(data=entries)


@router.get("/v1/models/{name:path}")
def get_model(name: ModelName, parts: Parts) -> Model:
    """One served model, by its name or an alias."""
    for model in list_models(parts).data:
        if name == model.id or name in model.aliases:
            return model
    message = f"There is no model {name[:80]!a}."
    raise ApiError(message, param="model", code="model_not_found", status=404)


def _entry(row: Any) -> Model:
    described = {key: value for key, value in row["description"].items() if key != "name"}
    facts = {"id": row["name"], "created": int(row["started_at"]), "aliases": []}
    return Model(owned_by="kinetograph", **facts | described)


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus' text format."}},
)
def metrics(parts: Monitored) -> Response:
    """Figures of the service for Prometheus; a key that asks needs the scope metrics."""
    return Response(parts.metrics.text(), media_type=CONTENT_TYPE)


@router.get("/healthz")
def health() -> Health:
    """Whether this process answers."""
    return Health(status="ok")


@router.get("/readyz")
def ready(parts: Whole) -> Health:
    """Whether a job that is queued now would be run."""
    parts.check_ready()
    return Health(status="ready")
