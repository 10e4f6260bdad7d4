"""The folder of a video, while several attempts are at it."""

from pathlib import Path

from serving.files import Files


def test_an_attempt_that_ends_leaves_the_folder_to_the_one_that_took_over(tmp_path: Path) -> None:
    """Frozen past its lease and woken, it ends before the other has drawn a frame to write."""
    files = Files(tmp_path)
    files.prepare("video_a", 1)
    files.prepare("video_a", 2)
    files.discard("video_a", 1)
    files.path("video_a", 2, "video").write_bytes(b"frames")
    files.discard("video_a", 2)
    assert not list(tmp_path.iterdir())
