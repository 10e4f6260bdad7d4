"""Keys: only their hashes are kept, and what each may ask for is counted in the database."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from serving import keys as keys_module
from serving.cli import main
from serving.errors import ApiError
from serving.keys import BadKey, Key, Keys, spend
from serving.server import CannotServe, serve_api
from serving.settings import Settings
from serving.store import Store
from tests.serving.idle import idle_service, served


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(Settings(data=tmp_path).database_url)
    store.create_tables()
    yield store
    store.close()


def test_the_secret_is_shown_once_and_kept_nowhere(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", str(tmp_path)]
    limits = ["--per-minute", "2", "--per-day", "9", "--queued", "3", "--days", "30"]
    assert main(["keys", "create", *data, *limits, "--scopes", "read", "shop"]) == 0
    secret = capsys.readouterr().out.strip()
    assert re.fullmatch(r"kino-[\w-]{43}", secret)  # 32 bytes in base64
    store.close()  # which writes SQLite's log into the database
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert secret.encode() not in kept and secret.removeprefix("kino-").encode() not in kept
    assert main(["keys", "list", *data]) == 0
    told = capsys.readouterr().out
    assert re.search(r"key_\w{12} +shop +active +read +\d{4}-\d\d-\d\d +2 +9 +3\n", told)
    assert secret not in told
    assert main(["keys", "revoke", *data, "shop"]) == 0
    assert main(["keys", "list", *data]) == 0
    assert " revoked " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["create", "shop"], "There is a key named shop; choose another name."),
        (["revoke", "nobody"], "There is no key named nobody."),
        (["list", "--database", "here"], "database must be a URL"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(["keys", "create", "--data", str(tmp_path), "shop"]) == 0
    assert main(["keys", *arguments, "--data", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_an_expired_key_is_of_no_use(store: Store) -> None:
    keys = Keys(store.engine)
    keys.create("brief", days=1e-9)
    time.sleep(0.01)
    (key,) = keys.list()
    assert key.state == "expired"
    with pytest.raises(ApiError) as refusal:
        keys.check(key.digest, "read")
    assert refusal.value.status == 401


def test_one_video_too_many_is_refused_until_the_next_minute_for_all_api_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A minute that does not end during the test.
    monkeypatch.setattr(keys_module, "now", lambda _: sa.literal(6_000_010.0))
    with idle_service(tmp_path) as service, served(service) as one, served(service) as other:
        secret = service.keys.create("shop", per_minute=2)
        headers = {"authorization": f"Bearer {secret}"}

        def ask(number: int) -> tuple[int, str]:
            api = (one, other)[number % 2]
            response = api.post("/v1/videos", json={"prompt": "a cat"}, headers=headers)
            return response.status_code, response.headers.get("retry-after", "")

        assert [ask(number) for number in range(4)] == [(200, "")] * 2 + [(429, "50")] * 2
        # What is refused, or a repeated request, costs nothing; and the next minute is another.
        monkeypatch.setattr(keys_module, "now", lambda _: sa.literal(6_000_060.0))
        bad = one.post("/v1/videos", json={"prompt": "a cat", "fps": 0}, headers=headers)
        assert bad.status_code == 400
        replay = headers | {"idempotency-key": "same"}
        for _ in range(3):
            assert one.post("/v1/videos", json={"prompt": "a"}, headers=replay).status_code == 200
        assert [ask(number)[0] for number in range(2)] == [200, 429]


def test_a_day_s_quota_is_told_with_the_time_until_the_next_day(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_module, "now", lambda _: sa.literal(86_400.0 * 7 - 3600))
    key = Key("k", "shop", "", ["write"], 0.0, per_day=1)
    with store.transaction() as connection:
        spend(connection, key)
        with pytest.raises(ApiError) as refusal:
            spend(connection, key)
    assert (refusal.value.code, refusal.value.headers) == (
        "quota_exceeded",
        {"retry-after": "3600"},
    )
    assert "1 videos a day" in refusal.value.message


def test_a_key_s_own_cap_on_waiting_jobs_goes_before_that_of_the_service(tmp_path: Path) -> None:
    with idle_service(tmp_path, most_queued=5) as service, served(service) as api:
        headers = {"authorization": f"Bearer {service.keys.create('shop', queued=1)}"}
        codes = [
            api.post("/v1/videos", json={"prompt": "a cat"}, headers=headers).status_code
            for _ in range(2)
        ]
        assert codes == [200, 429]


def test_an_open_service_is_not_put_on_a_network_unless_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Started(Exception):
        pass

    def run(*_: object) -> None:
        raise Started

    monkeypatch.setattr("serving.server._run", run)
    begin = {"data": tmp_path, "port": 0}
    with pytest.raises(CannotServe, match="which has no API keys; make one by"):
        serve_api(Settings(host="0.0.0.0", **begin))
    for host, keyless in (("127.0.0.1", False), ("0.0.0.0", True)):
        with pytest.raises(Started):
            serve_api(Settings(host=host, keyless=keyless, **begin))
    store = Store(Settings(data=tmp_path).database_url)
    Keys(store.engine).create("shop")
    with pytest.raises(BadKey):
        Keys(store.engine).create("shop")
    store.close()
    with pytest.raises(Started):
        serve_api(Settings(host="0.0.0.0", **begin))
