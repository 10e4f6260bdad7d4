"""Prepare videos for training: find, cut, score, caption, encode, report.

    python -m training.data.prepare videos/ more.tar s3://bucket/clips -o data/ --model CHECKPOINT

Started again, it goes on where it was, whatever ended it; what is done is kept in `.work`.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from training.data.prepare.captions import Captioner, CaptionError, caption
from training.data.prepare.plugins import plug_in, score
from training.data.prepare.report import write_report
from training.data.prepare.rows import RIGHTS, rows_of, write_index
from training.data.prepare.scenes import CutSettings, inspect_once
from training.data.prepare.sources import Source, SourceError, find
from training.data.prepare.workers import each
from training.data.where import WhereError
from training.files import RunInUse, alone, sweep, write_whole

MULTIPLE, FRAMES_PER_LATENT = 16, 4
"""Of which sides, and frames but for the first, are where no model says otherwise."""
Rows = list[dict[str, Any]]


def main(options: argparse.Namespace) -> None:
    """Make the data set that the options describe."""
    out: Path = options.output
    rights = {name: getattr(options, name) for name in RIGHTS if getattr(options, name)}
    settings = CutSettings(options.fps, options.frames, options.min_frames)
    sweep(out)
    for name in options.score:
        plug_in(name)
    multiple, stride = MULTIPLE, FRAMES_PER_LATENT
    if options.model:
        from training.data.prepare.encode import Encoder, encode  # torch takes seconds to import

        encoder = Encoder(options.model, options.fps)
        multiple, stride = encoder.shape()
    if any(n % stride != 1 for n in (options.frames, options.min_frames)):
        raise SourceError(f"--frames, --min-frames: allowed is 1 more than a multiple of {stride}")

    sources = find(options.inputs, options.captions, rights)
    opted_out = _read_hashes(options.opt_out)
    inspected = look_at(sources, settings, opted_out, out / ".work", options.workers)
    rows = rows_of(inspected, options.fps, options.area**2, multiple, options.require)
    clips = [row for row in rows if row["reason"] is None]
    if options.endpoint:
        key = os.environ.get(options.endpoint_key_env, "")
        captioner = Captioner(options.endpoint, options.endpoint_model, key)
        described = clips if options.recaption else [c for c in clips if not c["caption"]]
        describe(described, captioner, out / ".work", options.fps)
    score(clips, options.score, out / ".work", options.fps, options.workers)
    told: dict[str, Any] = {
        "fps": options.fps, "frames": options.frames, "least": options.min_frames,
        "area": options.area, "where": options.where, "model": options.model or "",
    }  # fmt: skip
    if options.model:
        told |= encode(clips, encoder, out, options.workers)
        told["pixels_per_latent"] = encoder.pixels_per_latent
    table = write_index(rows, out / "index.parquet")
    write_report(out, table, rows, told)
    write_whole(out / "dataset.json", (json.dumps(told, indent=2) + "\n").encode())
    none = len({r["uri"] for r in rows} - {r["uri"] for r in clips})
    print(f"{out}: {len(clips)} clips of {len(sources)} files, {none} of which gave none; "
          f"see {out / 'report.html'}")  # fmt: skip


def look_at(
    sources: Sequence[Source],
    settings: CutSettings,
    opted_out: frozenset[str],
    work: Path,
    workers: int,
) -> list[tuple[Source, dict[str, Any] | None]]:
    """Cut and score every file; what was found is kept, a file each."""
    kept = work / f"scenes-{settings.fps}-{settings.frames}-{settings.least}"
    kept.mkdir(parents=True, exist_ok=True)
    files = {source.uri: kept / f"{source.key}.json" for source in sources}
    missing = [source for source in sources if not files[source.uri].exists()]
    done, unread = len(sources) - len(missing), {}
    one = partial(inspect_once, settings=settings, kept=kept)
    for source, found in tqdm(each(one, missing, workers), "files", len(sources), initial=done):
        if found is None:  # its process is gone
            write_whole(files[source.uri], json.dumps(found).encode())
        elif not found["sha256"]:  # tried again next time
            unread[source.uri] = found
    found = [unread.get(s.uri) or json.loads(files[s.uri].read_bytes()) for s in sources]
    return [(source, without(one, opted_out)) for source, one in zip(sources, found, strict=True)]


def without(found: dict[str, Any] | None, opted_out: frozenset[str]) -> dict[str, Any] | None:
    """What was found in a file, without what must not be used."""
    if found is None:
        return None
    if found["sha256"] in opted_out:
        return {"sha256": found["sha256"], "reason": "opted out: the hash of the file"}
    for clip in found.get("clips", ()):
        if any(f"{value:016x}" in opted_out for value in clip["signature"]):
            clip["reason"] = "opted out: the hash of a picture"
            del clip["picture"]
    return found


def describe(clips: Rows, captioner: Captioner, work: Path, fps: int) -> None:
    """Caption clips, in place; what they were called before is kept.

    Raises:
        CaptionError: if some have none, after all others have theirs.
    """
    problems = []
    answers = caption(captioner, clips, work / "captions", fps, threads=8)
    for clip, answer in tqdm(answers, "captions", len(clips)):
        if isinstance(answer, CaptionError):
            problems.append(answer)
            continue
        if clip["caption"]:
            clip["earlier_captions"] = [*clip["earlier_captions"], clip["caption"]]
        clip |= {"caption": answer, "captioned_by": captioner.model}
    if problems:
        raise CaptionError(
            f"{len(problems)} of {len(clips)} clips could not be captioned ({problems[0]}); "
            "start again: the others are kept"
        )


def _read_hashes(file: Path | None) -> frozenset[str]:
    return frozenset(file.read_text().lower().split()) if file else frozenset()


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line, or what stands for it."""
    parser = argparse.ArgumentParser(
        prog="python -m training.data.prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("inputs", nargs="+", help="files, folders, tars, patterns or URLs")
    add("-o", "--output", type=Path, required=True, help="folder of the data set")
    add("--model", help="checkpoint whose autoencoder and text encoder encode; none: do not encode")
    add("--fps", type=int, default=16, help="frames a second of the clips (16)")
    add("--frames", type=int, default=81, help="most frames of a clip (81)")
    add("--min-frames", type=int, default=17, help="fewest frames of a clip (17)")
    add("--area", type=int, default=256, help="side of the square that frames are fitted to (256)")
    add(
        "--where", default="not duplicate", help="which clips are sampled by default, an expression"
    )
    add("--score", action="append", default=[], help="plug-in, module:function; may be repeated")
    add("--captions", help="CSV or parquet: file, caption, source, license, consent")
    add("--endpoint", help="URL in front of /chat/completions, for clips without a caption")
    add("--endpoint-model", default="gpt-4o-mini", help="its model, which must see (gpt-4o-mini)")
    add("--endpoint-key-env", default="OPENAI_API_KEY", help="variable that holds its key")
    add("--recaption", action="store_true", help="also clips with a caption, which is kept as well")
    for name in RIGHTS:
        add(f"--{name}", help=f"{name} of files that do not say theirs")
    add("--require", action="append", default=[], choices=RIGHTS, help="no clip of a file without")
    add(
        "--opt-out", type=Path, help="file of hashes that must not be used: SHA-256, or of pictures"
    )
    add("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    return parser.parse_args(words)


if __name__ == "__main__":
    given = parse_arguments()
    try:
        with alone(given.output):
            main(given)
    except (SourceError, CaptionError, RunInUse, WhereError, ValueError) as error:
        sys.exit(f"prepare: {error}")
