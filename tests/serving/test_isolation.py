"""A key sees and touches its own videos alone, and cannot learn that there are others."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.app import create_app
from serving.service import Service
from tests.serving.idle import TINY, finish, idle_service, served

CLIP = (Path(__file__).parent / "npm" / "clip.mp4").read_bytes()
UNKNOWN = "video_" + "0" * 32
NAMING: dict[str, Any] = {
    "GET /v1/videos/{video_id}": {},
    "DELETE /v1/videos/{video_id}": {},
    "POST /v1/videos/{video_id}/cancel": {},
    "GET /v1/videos/{video_id}/content": {},
    "GET /v1/videos/{video_id}/events": {},
    "POST /v1/videos/{video_id}/remix": {"prompt": "a cat"},
    "POST /v1/videos/edits": {"prompt": "a cat", "video": {"id": "{video_id}"}},
    "POST /v1/videos/extensions": {"prompt": "a cat", "video": {"id": "{video_id}"}},
    "POST /v1/videos/verify": {"video": {"id": "{video_id}"}},
    "GET /v1/videos?after={video_id}": {},
    "HEAD /v1/videos/{video_id}/content": {},
    "GET /v1/videos/{video_id}/content?variant=thumbnail": {},
    "GET /v1/videos/{video_id}/events?preview=true": {},
}
"""Requests that name a video, and what they send."""
OPEN = {"GET /healthz", "GET /readyz"}
"""What everybody may ask."""


@dataclass
class Tenancy:
    """A service with two keys; `theirs` is a completed video of the one, `mine` of the other."""

    service: Service
    me: httpx.Client
    them: httpx.Client
    mine: str
    theirs: str


def client_of(api: httpx.Client, headers: dict[str, str]) -> httpx.Client:
    return httpx.Client(base_url=api.base_url, headers=headers, trust_env=False, timeout=30)


@pytest.fixture(scope="module")
def tenancy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenancy]:
    able = TINY | {"capabilities": ["text", "remix", "first_frame", "extend", "join"]}
    with idle_service(tmp_path_factory.mktemp("idle"), able) as service, served(service) as api:
        clients = []
        for name in ("me", "them"):
            headers = {"authorization": f"Bearer {service.keys.create(name)}"}
            clients.append(client_of(api, headers))
        made = []
        for client in clients:
            made.append(client.post("/v1/videos", json={"prompt": "a dog"}).json()["id"])
            finish(service, made[-1], CLIP)
        yield Tenancy(service, *clients, *made)
        for client in clients:
            client.close()


def ask(client: httpx.Client, request: str, video_id: str, body: Any) -> httpx.Response:
    method, path = request.replace("{video_id}", video_id).split()
    if not body:
        return client.request(method, path)
    sent = {key: {"id": video_id} if key == "video" else value for key, value in body.items()}
    return client.request(method, path, json=sent)


def answer(response: httpx.Response, video_id: str) -> tuple[int, str, set[str]]:
    """Status, body with the id left out, and names of the headers."""
    return response.status_code, response.text.replace(video_id, "*"), set(response.headers)


@pytest.mark.parametrize("request_", NAMING)
def test_another_s_video_is_answered_as_one_that_never_was(tenancy: Tenancy, request_: str) -> None:
    foreign = answer(ask(tenancy.me, request_, tenancy.theirs, NAMING[request_]), tenancy.theirs)
    unknown = answer(ask(tenancy.me, request_, UNKNOWN, NAMING[request_]), UNKNOWN)
    assert foreign == unknown and foreign[0] in (400, 404)
    # It is still there, for its owner.
    assert tenancy.them.get(f"/v1/videos/{tenancy.theirs}").json()["status"] == "completed"


def test_another_s_video_is_no_source_of_a_form_and_no_end_of_a_clip(tenancy: Tenancy) -> None:
    def tell(path: str, **fields: Any) -> list[tuple[int, str, set[str]]]:
        return [
            answer(
                tenancy.me.post(path, **{k: spell(v, video_id) for k, v in fields.items()}),
                video_id,
            )
            for video_id in (tenancy.theirs, UNKNOWN)
        ]

    def spell(body: dict[str, Any], video_id: str) -> dict[str, Any]:
        return json.loads(json.dumps(body).replace("{video_id}", video_id))  # type: ignore[no-any-return]

    following = {"prompt": "a", "video": {"id": tenancy.mine}, "next_video": {"id": "{video_id}"}}
    for path, fields in (
        ("/v1/videos/edits", {"data": {"prompt": "a", "video[id]": "{video_id}"}}),
        ("/v1/videos/extensions", {"data": {"prompt": "a", "video[id]": "{video_id}"}}),
        ("/v1/videos/extensions", {"json": following}),
    ):
        foreign, unknown = tell(path, **fields)
        assert foreign == unknown and foreign[0] == 404, (path, foreign)


def test_what_was_remixed_from_another_s_video_is_not_told(tenancy: Tenancy) -> None:
    path = f"/v1/videos/{tenancy.theirs}/remix"
    remix = tenancy.them.post(path, json={"prompt": "a fox"}).json()["id"]
    for source in (tenancy.theirs, UNKNOWN):
        page = tenancy.me.get("/v1/videos", params={"remixed_from_video_id": source}).json()
        assert page == {"object": "list", "data": [], "first_id": None, "last_id": None} | {
            "has_more": False
        }
    found = tenancy.them.get("/v1/videos", params={"remixed_from_video_id": tenancy.theirs}).json()
    assert [video["id"] for video in found["data"]] == [remix]
    assert tenancy.them.delete(f"/v1/videos/{remix}").is_success


def test_every_route_that_names_a_video_is_among_them(tenancy: Tenancy) -> None:
    paths = create_app(tenancy.service).openapi()["paths"]
    naming = {f"{m.upper()} {p}" for p, item in paths.items() for m in item if "{video_id}" in p}
    assert naming <= set(NAMING)


def test_nothing_is_answered_without_a_key(tenancy: Tenancy) -> None:
    paths = create_app(tenancy.service).openapi()["paths"]
    routes = {f"{method.upper()} {path}" for path, item in paths.items() for method in item}
    tokens = {"Bearer kino-wrong": "is not one", "Basic a2V5Og==": "is missing", "": "is missing"}
    for route in sorted(routes - OPEN):
        for token, words in tokens.items():
            headers = {"authorization": token} if token else {}
            method, path = route.replace("{video_id}", tenancy.mine).split()
            with client_of(tenancy.me, {}) as nobody:
                refusal = nobody.request(method, path, headers=headers)
            assert refusal.status_code == 401, route
            assert refusal.headers["www-authenticate"] == "Bearer"
            error = refusal.json()["error"]
            assert error["code"] == "invalid_api_key" and words in error["message"], route
    assert tenancy.me.get(f"/v1/videos/{tenancy.mine}").status_code == 200


def test_lists_hold_one_s_own_videos_page_by_page(tenancy: Tenancy) -> None:
    for client, own in ((tenancy.me, tenancy.mine), (tenancy.them, tenancy.theirs)):
        page = client.get("/v1/videos", params={"limit": 1}).json()
        assert ([video["id"] for video in page["data"]], page["has_more"]) == ([own], False)


def test_one_idempotency_key_is_another_job_under_another_api_key(tenancy: Tenancy) -> None:
    headers = {"idempotency-key": "order-1"}
    body = {"prompt": "a cow"}
    mine, theirs, again = (
        client.post("/v1/videos", json=body, headers=headers).json()["id"]
        for client in (tenancy.me, tenancy.them, tenancy.me)
    )
    assert mine == again != theirs
    for client, made in ((tenancy.me, mine), (tenancy.them, theirs)):
        assert client.delete(f"/v1/videos/{made}").json()["deleted"]


def test_one_may_do_with_one_s_own_what_the_scopes_allow(tenancy: Tenancy) -> None:
    path = f"/v1/videos/{tenancy.mine}"
    assert tenancy.me.get(f"{path}/content").content == CLIP
    remix = tenancy.me.post(f"{path}/remix", json={"prompt": "a cat"})
    assert remix.json()["remixed_from_video_id"] == tenancy.mine
    secret = tenancy.service.keys.create("reader", ["read"])
    headers = {"authorization": f"Bearer {secret}"}
    refusal = tenancy.me.post("/v1/videos", json={"prompt": "a cat"}, headers=headers)
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (403, "insufficient_scope")
    assert tenancy.me.get("/v1/videos", headers=headers).json()["data"] == []
    tenancy.service.keys.revoke("reader")
    assert tenancy.me.get("/v1/videos", headers=headers).status_code == 401
