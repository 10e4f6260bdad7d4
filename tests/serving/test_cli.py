"""The `kinetograph` command without a service, and the demo with one of its own."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from model.video import read_video
from serving.cli import main
from serving.settings import EMBEDDED_MODEL
from tests.serving.conftest import EXAMPLES, ROOT, WORDS
from tests.serving.test_durability import wait_until_gone

COMMAND = [sys.executable, "-m", "serving.cli"]


def generate(*arguments: object) -> int:
    return main(["generate", *map(str, arguments)])


def test_generate_writes_the_video_by_the_rules_of_the_api(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.mp4"
    assert generate(EXAMPLES[0], "-o", out, "--model", checkpoint, "--seed", 4) == 0
    frames, fps = read_video(out)
    assert (frames.shape, fps) == ((17, 512, 512, 3), 8)
    told = capsys.readouterr()
    assert told.out == f"{out}: 512x512, 2.125 s, seed 4\n"
    # Not a terminal: a line a stage, and no control characters.
    stages = [line.split()[0] for line in told.err.splitlines()]
    assert stages == ["text", "denoise", "decode"] and "\r" not in told.err

    native = ["--size", "64x64", "--seconds", "1.125", "--steps", "1", "--guidance", "1"]
    assert generate(EXAMPLES[0], "-o", out, "--model", checkpoint, *native) == 0
    assert read_video(out)[0].shape == (9, 64, 64, 3)


def test_generate_names_an_unknown_word_and_the_nearest_prompt(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompt = "a red dragon is dropped and bounces"
    assert generate(prompt, "-o", tmp_path / "out.mp4", "--model", checkpoint) == 0
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert warning.startswith("warning: prompt: ")
    assert '"dragon"' in warning and f'"{EXAMPLES[0]}"' in warning


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seconds", "4"], "seconds must be one of 1.125, 2.125 for tiny, not 4."),
        (["--size", "1280x720"], "size must be one of 64x64, 512x512 for tiny, not 1280x720."),
        (["--steps", "few"], "num_inference_steps must be a whole number from 1 to 1000, not"),
        (["-o", "/dev/null/out.mp4"], "/dev/null/out.mp4 cannot be written"),
        (["--model", "/nowhere"], "The model cannot be loaded: /nowhere: no such folder"),
    ],
)
def test_generate_refuses_in_one_sentence(
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    out = tmp_path / "out.mp4"
    assert generate(EXAMPLES[0], "-o", out, "--model", checkpoint, *arguments) == 1
    told = capsys.readouterr()
    assert told.err.startswith(f"kinetograph: {words}") and told.err.count("\n") == 1
    assert told.out == "" and not out.exists()


def test_examples_tell_what_the_model_can_draw(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["examples", "--model", str(checkpoint)]) == 0
    told = capsys.readouterr().out
    assert "a {c} ball is dropped and bounces" in told and ", ".join(sorted(WORDS)) in told
    assert all(f"  {example}\n" in told for example in EXAMPLES)
    (checkpoint.parent / "wordless").mkdir(exist_ok=True)
    assert main(["examples", "--model", str(checkpoint.parent / "wordless")]) == 1
    assert "has no examples.json" in capsys.readouterr().err


def test_service_demo_and_examples_start_without_torch() -> None:
    code = "import serving.server, serving.demo, serving.cli, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_demo_makes_a_video_and_names_every_stage(checkpoint: Path, tmp_path: Path) -> None:
    embedded = Path(EMBEDDED_MODEL, "model_index.json").exists()
    out = tmp_path / "new" / "demo.mp4"
    model = [] if embedded else ["--model", str(checkpoint)]
    done = subprocess.run(
        [*COMMAND, "demo", "-o", str(out), *model], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"Wrote {out}: 512x512, 2.125 s." in done.stdout
    stages = re.findall(r"^  (\w+) +\d+\.\d\d$", done.stdout, re.MULTILINE)
    assert stages == ["start", "queue", "text", "denoise", "decode", "encode", "download"]
    assert read_video(out)[0].shape == (17, 512, 512, 3)
    # The embedded model is shown with one of its own prompts, so there is nothing to warn of.
    assert "warning" not in done.stdout


def children(pid: int) -> set[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return {int(child) for task in tasks for child in (task / "children").read_text().split()}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_takes_its_service_and_worker_along(
    how: signal.Signals, checkpoint: Path, tmp_path: Path
) -> None:
    command = [*COMMAND, "demo", "-o", str(tmp_path / "demo.mp4"), "--model", str(checkpoint)]
    # As a shell starts it in the background, with SIGINT ignored.
    command = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *command]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 30
        workers: set[int] = set()
        while not workers:
            assert time.monotonic() < deadline
            time.sleep(0.05)
            services = children(process.pid)
            workers = {worker for service in services for worker in children(service)}
        process.send_signal(how)
        assert process.wait(20) == 130
        assert process.stderr and "Traceback" not in process.stderr.read()
    for pid in services | workers:
        wait_until_gone(pid)
