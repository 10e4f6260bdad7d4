"""No bytes make the parsers, or the decoders of files, do anything but read or refuse them."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.datastructures import Headers, UploadFile

from serving.body import _from_multipart, nest
from serving.errors import ApiError
from serving.intake import Unfit
from serving.intake.jail import Jail
from tests.serving.hostile import clip, picture

NAMES = st.text("ab[]._0\x00é", max_size=8)
PIECES = st.sampled_from(
    [
        *(b"--b", b"--b--", b"\r\n", b"\n", b"\r\n\r\n", b":", b";", b"=", b'"', b"\x00", b"\xff"),
        b'content-disposition: form-data; name="a"',
        b'content-disposition: form-data; name="a[b]"; filename="../x"',
        *(b"content-type: image/png", b"content-transfer-encoding: base64", b"prompt"),
    ]
)
BODY = st.lists(st.one_of(PIECES, st.binary(max_size=20)), max_size=40).map(b"".join)
SEEDS = {
    "picture": [picture("PNG"), picture("JPEG"), picture("WEBP")],
    "measure": [clip(), clip(3, format="webm", codec="libvpx-vp9")],
}
EXAMPLES = {"quick": 40, "long": 1500}


def examples(kind: str) -> settings:
    few = {"deadline": None, "database": None, "derandomize": True}
    every = list(HealthCheck)
    return settings(max_examples=EXAMPLES[kind], suppress_health_check=every, **few)  # type: ignore[arg-type]


def check_nest(pairs: list[tuple[str, str]]) -> None:
    try:
        fields = nest(pairs)
    except ApiError as error:
        assert error.status == 400 and error.code == "invalid_value"
        return

    def count(value: Any) -> int:
        if isinstance(value, dict):
            return sum(map(count, value.values()))
        return sum(map(count, value)) if isinstance(value, list) else 1

    assert count(fields) == len(pairs)  # nothing is lost, nothing is there twice


def check_multipart(body: bytes) -> None:
    async def stream() -> AsyncGenerator[bytes]:
        for place in range(0, len(body), 7):
            yield body[place : place + 7]
        yield b""

    headers = Headers({"content-type": "multipart/form-data; boundary=b"})
    try:
        items = asyncio.run(_from_multipart(headers, stream(), 1000))
    except ApiError as error:
        assert error.status in (400, 413)
        return
    for _, value in items:
        assert isinstance(value, str | UploadFile)
        if isinstance(value, UploadFile):
            value.file.close()


@st.composite
def broken(draw: st.DrawFn, task: str) -> bytes:
    """A file with bytes changed, cut out, or doubled, its end lost, or another's end."""
    data = bytearray(draw(st.sampled_from(SEEDS[task])))
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        length = draw(st.integers(1, 16))
        how = draw(st.sampled_from(["flip", "cut", "double", "end"]))
        if how == "flip":
            data[place : place + length] = draw(st.binary(min_size=length, max_size=length))
        elif how == "cut":
            del data[place : place + length]
        elif how == "double":
            data[place:place] = data[place : place + length] * 3
        else:
            del data[place:]
    return bytes(data)


def check_file(jail: Jail, task: str, data: bytes) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        try:
            if task == "picture":
                with jail.picture(file) as made:
                    made.seek(0)
                    assert made.read(8) == b"\x89PNG\r\n\x1a\n"
            else:
                assert jail.measure(file)["num_frames"] > 0
        except Unfit as error:
            assert error.code in ("invalid_image", "invalid_video", "file_too_large")


@pytest.fixture(scope="module")
def jail() -> Iterator[Jail]:
    jail = Jail()
    yield jail
    jail.close()


@pytest.mark.parametrize("kind", ["quick", pytest.param("long", marks=pytest.mark.proof)])
def test_fields_and_bodies_are_read_or_refused(kind: str) -> None:
    examples(kind)(given(st.lists(st.tuples(NAMES, st.text(max_size=3)), max_size=8))(check_nest))()
    examples(kind)(given(BODY)(check_multipart))()


@pytest.mark.parametrize("kind", ["quick", pytest.param("long", marks=pytest.mark.proof)])
@pytest.mark.parametrize("task", SEEDS)
def test_a_broken_file_is_read_or_refused_and_the_next_one_is_read(
    jail: Jail, task: str, kind: str
) -> None:
    def check(data: bytes) -> None:
        check_file(jail, task, data)

    examples(kind)(given(broken(task))(check))()
    with tempfile.TemporaryFile() as file:
        file.write(SEEDS[task][0])
        result = getattr(jail, task)(file)
        assert result
        if task == "picture":
            result.close()
