"""What there is to prepare: files in folders, tars and object stores, with what is said of them.

Everything is reached through fsspec, so that a folder, `s3://bucket/videos` and a tar of either are
the same. What is said of `NAME.mp4` stands beside it: a caption in `NAME.txt`, or `NAME.json` with
any of the keys `caption`, `source`, `license` and `consent`, as in WebDataset; or all of it in one
table, by file name.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import pyarrow.csv
import pyarrow.parquet

from training.data.opened import opened, store

SUFFIXES = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".gif", ".ts", ".mpg", ".mpeg")
TOLD = ("caption", "source", "license", "consent")
"""What may be said of a file; the last three are its rights."""
TARS = (".tar", ".tar.gz", ".tgz")


class SourceError(ValueError):
    """An input that is not there or cannot be read; the message names it."""


@dataclass(frozen=True)
class Source:
    """A file that may hold a video.

    Attributes:
        uri: by which fsspec opens it.
        version: changes when the file does.
    """

    uri: str
    version: str
    caption: str = ""
    source: str = ""
    license: str = ""
    consent: str = ""

    @property
    def key(self) -> str:
        """Names this file, at this version, in the work folder."""
        return hashlib.blake2b(f"{self.uri}\n{self.version}".encode(), digest_size=12).hexdigest()

    def told(self, words: Mapping[str, Any]) -> "Source":
        """The same with what is said of it; what was said before stays where nothing is."""
        given = {
            name: str(words[name]).strip() for name in TOLD if words.get(name) not in (None, "")
        }
        return replace(self, **given)

    def json(self) -> dict[str, str]:
        """Its attributes."""
        return asdict(self)


def find(inputs: Iterable[str], table: str | None, rights: Mapping[str, str]) -> list[Source]:
    """All files of the inputs, each once, by uri.

    Args:
        inputs: files, folders, tars, or patterns of them, local or remote.
        table: CSV or parquet with a column `file`, a name or the end of a path, and any of the
            columns of `TOLD`.
        rights: what holds of every file of which nothing else is said.

    Raises:
        SourceError: for an input or a table that cannot be read, or inputs without any video.
    """
    rows = _read_table(table) if table else {}
    found: dict[str, Source] = {}
    for text in inputs:
        for source in _find(text, rights):
            found[source.uri] = source.told(_row_of(source.uri, rows))
    if not found:
        raise SourceError(
            f"{', '.join(inputs)}: no video; looked for are files that end in {', '.join(SUFFIXES)}"
        )
    return [found[uri] for uri in sorted(found)]


def _find(text: str, rights: Mapping[str, str]) -> list[Source]:
    try:
        files, path = store(text)
        paths = files.glob(path) if "*" in path else [path]
        found: list[Source] = []
        for each in paths:
            if files.isdir(each):
                inside = files.find(each)
                tars = [name for name in inside if name.endswith(TARS)]
                found += _told_beside(files, inside, files.unstrip_protocol, rights)
                for tar in tars:
                    found += _in_tar(files.unstrip_protocol(tar), rights)
            elif each.endswith(TARS):
                found += _in_tar(files.unstrip_protocol(each), rights)
            elif files.exists(each):
                beside = [_stem(each) + suffix for suffix in (".txt", ".json")]
                there = [each, *(name for name in beside if files.exists(name))]
                found += _told_beside(files, there, files.unstrip_protocol, rights)
            else:
                raise SourceError(f"{text}: no such file or folder")
        return found
    except SourceError:
        raise
    except Exception as error:  # every file system has errors of its own
        raise SourceError(
            f"{text}: {type(error).__name__}: {str(error).splitlines()[0]}"
        ) from error


def _in_tar(uri: str, rights: Mapping[str, str]) -> list[Source]:
    files = fsspec.filesystem("tar", fo=uri)
    return _told_beside(files, files.find(""), lambda name: f"tar://{name}::{uri}", rights)


def _told_beside(
    files: Any, names: list[str], to_uri: Callable[[str], str], rights: Mapping[str, str]
) -> list[Source]:
    there = set(names)
    found = []
    for name in names:
        if PurePosixPath(name).suffix.lower() not in SUFFIXES:
            continue
        source = Source(to_uri(name), _version(files, name)).told(rights)
        if (text := f"{_stem(name)}.txt") in there:
            source = source.told({"caption": files.cat_file(text).decode("utf-8", "replace")})
        if (words := f"{_stem(name)}.json") in there:
            with suppress(ValueError):  # of another program, perhaps; then it says nothing to us
                content = json.loads(files.cat_file(words))
                source = source.told(content if isinstance(content, dict) else {})
        found.append(source)
    return found


def _version(files: Any, name: str) -> str:
    try:
        return str(files.ukey(name))
    except OSError:  # a link to nowhere; why it cannot be read is told when it is
        return ""


def _stem(name: str) -> str:
    """A name without its last suffix, and otherwise as it is: a path object would mend URLs."""
    return name.removesuffix(PurePosixPath(name).suffix)


def _read_table(uri: str) -> dict[str, dict[str, Any]]:
    """The rows of a table by the file that they are of, as the table calls it."""
    try:
        with opened(uri) as file:
            parquet = Path(uri).suffix == ".parquet"
            table = pyarrow.parquet.read_table(file) if parquet else pyarrow.csv.read_csv(file)
    except Exception as error:
        raise SourceError(f"{uri}: {type(error).__name__}: {str(error).splitlines()[0]}") from error
    if "file" not in table.column_names:
        raise SourceError(
            f"{uri}: columns are {', '.join(table.column_names)}; needed is 'file', and any of "
            f"{', '.join(TOLD)}"
        )
    return {_plain(str(row["file"])): row for row in table.to_pylist()}


def _row_of(uri: str, rows: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The row that names most of a file's path; its name alone may do."""
    parts = _plain(uri.split("::")[0]).split("/")
    names = ("/".join(parts[k:]) for k in range(len(parts)))
    return next((rows[name] for name in names if name in rows), {})


def _plain(file: str) -> str:
    return str(PurePosixPath(file.split("://")[-1])).lstrip("/")
