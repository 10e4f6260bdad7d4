"""What an error was, where it does not say so itself."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest

from model.video import write_mp4
from serving.worker import diagnose


@contextmanager
def address_space(left: int) -> Iterator[None]:
    """Allow this process so many bytes more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + left
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)


def test_an_encoder_that_gives_no_reason_is_out_of_memory_where_there_is_none(
    tmp_path: Path,
) -> None:
    frames = np.zeros((2, 512, 512, 3), np.uint8)
    write_mp4(tmp_path / "v.mp4", frames, 8)  # it loads what it needs
    with address_space(12 << 20), pytest.raises(Exception) as caught:  # noqa: PT011, B017
        try:
            write_mp4(tmp_path / "v.mp4", frames, 8)
        except Exception as error:
            assert diagnose(error)[0] == "out_of_memory"
            wrapped = ValueError("it cannot be read")
            wrapped.__cause__ = error
            assert diagnose(wrapped)[0] == "out_of_memory"
            raise
    assert isinstance(caught.value, av.error.ExternalError | av.error.BlockingIOError)
    # The very same error, where there is memory, has another reason.
    assert diagnose(caught.value)[0] == "generation_failed"
