"""The load benchmark counts what it says; in its quick form the service keeps half the bars."""

import os

import httpx
import pytest

from benchmarks.service import Case, measure, misplaced, post

IDS = [f"video_{i:03}" for i in range(250)]


def client(forwards: list[str], backwards: list[str] | None = None) -> httpx.Client:
    """Of a service that lists those ids, `limit` a page."""

    def answer(request: httpx.Request) -> httpx.Response:
        query = request.url.params
        ids = forwards if query["order"] == "asc" else (backwards or forwards[::-1])
        start = ids.index(query["after"]) + 1 if "after" in query else 0
        page = ids[start : start + int(query["limit"])]
        more = start + len(page) < len(ids)
        body = {"data": [{"id": name} for name in page], "last_id": page[-1], "has_more": more}
        return httpx.Response(200, json=body)

    return httpx.Client(transport=httpx.MockTransport(answer), base_url="http://service")


def test_nothing_is_lost_where_every_job_is_listed_once_in_one_order() -> None:
    assert misplaced(client(IDS), IDS[::2] + IDS[1::2]) == 0


@pytest.mark.parametrize(
    "listed",
    [
        client(IDS[1:]),
        client(IDS, [*IDS[:3:-1], *IDS[:4]]),  # the last four, which are the oldest, forwards
        client([*IDS, "video_999"]),
    ],
    ids=["missing", "another order", "one too many"],
)
def test_what_is_missing_out_of_order_or_too_much_is_counted(listed: httpx.Client) -> None:
    assert misplaced(listed, IDS) > 0
    assert misplaced(client(IDS), [*IDS[1:], None]) > 0


@pytest.mark.parametrize(("codes", "made"), [([503, 200], "video_1"), ([503, 503, 429], None)])
def test_a_post_is_tried_again_as_clients_do_under_one_key(
    codes: list[int], made: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    keys: list[str] = []
    left = iter(codes)

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["idempotency-key"])
        return httpx.Response(next(left), json={"id": "video_1"})

    transport = httpx.MockTransport(answer)
    with httpx.Client(transport=transport, base_url="http://service") as service:
        assert post(service, {"prompt": "a cat"}) == made
    assert len(keys) == len(codes) and len(set(keys)) == 1


def test_a_row_tells_the_median_and_the_ninety_fifth_percentile_in_milliseconds() -> None:
    row = Case.timed("create", [i / 1000 for i in range(101)], rss_mb=9.0)
    assert (row.n, row.p50_ms, row.p95_ms, row.lost, row.rss_mb) == (101, 50.0, 95.0, None, 9.0)


@pytest.mark.proof
def test_the_service_keeps_half_the_bars_on_a_small_scale(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The bars: POST 1.5 x a bare enqueue + 10 ms, none lost, memory grows by 5 %, API 250 MB.

    Half a bar of speed is twice the time, and as many times more as processes wait for a core.
    """
    enqueue, create, burst, early, late = measure(quick=True)
    crowd = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    with capsys.disabled():
        print(
            f"\n  {crowd:.1f} processes a core", *(enqueue, create, burst, early, late), sep="\n  "
        )
    assert create.p50_ms <= 2 * crowd * (1.5 * enqueue.p50_ms + 10)
    assert create.lost == burst.lost == 0
    assert max(create.rss_mb, burst.rss_mb) <= 250
    assert late.rss_mb <= 1.1 * early.rss_mb
