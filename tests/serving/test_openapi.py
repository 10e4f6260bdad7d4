"""The published schema tells all there is to know, and no request that it allows or forbids breaks
the service: schemathesis, over a real store and queue whose jobs nobody takes.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode

from serving.app import create_app
from serving.caller import Caller
from serving.schema import CreateVideo
from serving.service import Service
from tests.serving.idle import finish, idle_service, served

CLIP = (Path(__file__).parent / "npm" / "clip.mp4").read_bytes()
DOCUMENT = create_app(cast(Service, None)).openapi()
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
OPERATIONS = [
    (method.upper(), path, mode)
    for path, item in DOCUMENT["paths"].items()
    if not path.endswith("/sync")  # which waits for a worker
    for method, operation in item.items()
    for mode in GenerationMode
    # A text in the path cannot be wrong.
    if mode is GenerationMode.POSITIVE
    or any(p["in"] != "path" for p in operation.get("parameters", []))
]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with idle_service(tmp_path_factory.mktemp("idle"), most_queued=10**6) as service:
        yield service


@pytest.fixture(scope="module")
def app(service: Service) -> FastAPI:
    return create_app(service)


@pytest.fixture
def ids(service: Service) -> list[str]:
    """Ids of no video, of one that is completed and of one that was cancelled."""
    asker = Caller(None, "", None)
    made, stopped = (service.create(CreateVideo(prompt="a cat"), asker).id for _ in range(2))
    service.cancel(stopped)
    finish(service, made, CLIP)
    return ["video_none", made, stopped]


@pytest.mark.parametrize(("method", "path", "mode"), OPERATIONS)
def test_no_request_breaks_the_service(
    app: FastAPI, ids: list[str], method: str, path: str, mode: GenerationMode
) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    for video_id in ids if "{video_id}" in path else [None]:
        known = {"video_id": video_id} if video_id else None
        cases = schema[path][method].as_strategy(mode, path_parameters=known)

        @settings(
            max_examples=10,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=cases)
        def check(case: schemathesis.Case) -> None:
            response = case.call()
            assert response.status_code < 500, response.text
            if response.status_code >= 400:
                assert set(response.json()["error"]) == {"message", "type", "param", "code"}

        check()


@pytest.mark.proof
def test_schemathesis_finds_no_fault(service: Service, tmp_path: Path) -> None:
    """All its phases over HTTP: examples, boundaries, fuzzing, and calls that follow from calls."""
    with served(service) as api:
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{api.base_url}/openapi.json"]
        command += ["--checks", "not_a_server_error", "--generation-deterministic", "--seed", "1"]
        command += ["--max-examples", "15", "--max-time", "90"]
        command += ["--exclude-path-regex", "/sync$|/events$", "--no-color"]
        outcome = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    print(outcome.stdout[-1500:])
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


REQUESTS = [name for name in SCHEMAS if name.endswith("Form")]


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_field_has_a_meaning_and_an_example(name: str) -> None:
    for field, schema in SCHEMAS[name]["properties"].items():
        if "$ref" in schema:  # told where it is defined
            continue
        assert len(schema["description"]) > 5, field
        assert schema.get("examples") or "$ref" in schema["items"], field


Told = dict[str, Any]
UNITS = {
    "size": "pixels", "width": "pixels", "height": "pixels", "seconds": "seconds",
    "num_frames": "frames", "fps": "Frames a second", "num_inference_steps": "steps",
    "guidance_scale": "pure number", "guidance_scale_2": "pure number", "flow_shift": "pure number",
    "strength": "share of", "limit": "videos", "seed": "Seed",
}  # fmt: skip
"""What the description of a field must say; every number is here."""


def parameters() -> dict[str, tuple[str, Told]]:
    """Where a parameter of a route comes in and what is told of it, by route and name."""
    return {
        f"{method} {path} {each['name']}": (
            each["in"],
            each["schema"]
            | {"description": each.get("description", "")}
            | ({"examples": [each["example"]]} if "example" in each else {}),
        )
        for path, item in DOCUMENT["paths"].items()
        for method, operation in item.items()
        for each in operation.get("parameters", [])
    }


def body_fields(name: str) -> dict[str, Told]:
    """What is told of the fields of an object in a request, of those in it, and so on."""
    found = {}
    for field, told in SCHEMAS[name]["properties"].items():
        found[f"{name}.{field}"] = told
        for choice in told.get("anyOf", [told]):
            inner = choice.get("items", choice)
            if "$ref" in inner:
                found |= body_fields(inner["$ref"].split("/")[-1])
    return found


ASKED = {where: told for name in REQUESTS for where, told in body_fields(name).items()}
ASKED |= {where: told for where, (into, told) in parameters().items() if into != "path"}


def test_the_walk_finds_queries_headers_and_what_is_nested() -> None:
    assert {"get /v1/videos after", "get /v1/videos/{video_id}/content variant"} <= set(ASKED)
    assert {"Shot.seconds", "ImageReference.image_url", "VideoReference.id"} <= set(ASKED)
    assert "post /v1/videos/{video_id}/remix Idempotency-Key" in ASKED
    known = {where.split()[-1].split(".")[-1] for where in ASKED}
    assert set(UNITS) <= known


@pytest.mark.parametrize("where", ASKED)
def test_everything_that_may_be_asked_has_a_meaning_a_unit_bounds_and_an_example(
    where: str,
) -> None:
    told, field = ASKED[where], where.split()[-1].split(".")[-1]
    assert len(told["description"].split(" Must be ")[0]) > 5 and " Must be " in told["description"]
    assert UNITS.get(field, "") in told["description"]
    assert told.get("examples")
    for choice in told.get("anyOf", [told]):
        kind = choice.get("type")
        if kind in ("integer", "number"):
            assert {"minimum", "exclusiveMinimum"} & set(choice) and "maximum" in choice
            assert field in UNITS
        elif kind == "string" and "contentMediaType" not in choice:
            assert {"maxLength", "enum"} & set(choice) or is_bounded(choice.get("pattern", ""))
        elif kind == "array":
            assert "maxItems" in choice


def is_bounded(pattern: str) -> bool:
    """Whether no text of any length meets it."""
    return pattern.startswith("^") and pattern.endswith("$") and not set("*+") & set(pattern)


@pytest.mark.parametrize("where", [w for w, (into, _) in parameters().items() if into == "path"])
def test_what_a_path_names_has_a_meaning_and_an_example(where: str) -> None:
    """It has no bounds: what names nothing is answered with 404."""
    _, told = parameters()[where]
    assert " Must be " in told["description"] and told.get("examples")


def test_one_class_is_published_as_json_and_as_a_form_with_files() -> None:
    for path, item in DOCUMENT["paths"].items():
        if "requestBody" not in item.get("post", {}):
            continue
        content = item["post"]["requestBody"]["content"]
        json, form = (
            SCHEMAS[content[kind]["schema"]["$ref"].split("/")[-1]]["properties"]
            for kind in ("application/json", "multipart/form-data")
        )
        assert set(json) == set(form), path
        assert "contentMediaType" not in str(json)
    files = {name for name in REQUESTS if "contentMediaType" in str(SCHEMAS[name]["properties"])}
    assert files == set(REQUESTS) - {"RemixVideoForm"}


def test_the_page_names_every_route_and_field_and_loads_nothing(service: Service) -> None:
    with served(service) as api:
        page = api.get("/docs").text
    for path in DOCUMENT["paths"]:
        assert path in page
    for name in REQUESTS:
        for field in SCHEMAS[name]["properties"]:
            assert f"<td>{field}<td>" in page
    assert "://" not in page and "<script" not in page
