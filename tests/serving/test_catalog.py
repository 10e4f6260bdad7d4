"""The catalogue says what is served, and what is wrong with it; the command adds to it."""

from pathlib import Path
from typing import Any

import pytest

from serving import catalog, cli_models
from serving.catalog import CatalogError
from serving.settings import EMBEDDED_MODEL

MODELS = Path(__file__).parents[2] / "configs" / "models"


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder


def test_the_catalogue_of_this_repository_serves_the_embedded_models() -> None:
    mini, wide = catalog.read(MODELS)
    assert mini.name == "kinetograph-mini" and mini.path == EMBEDDED_MODEL
    assert mini == catalog.single(EMBEDDED_MODEL).model_copy(update={"path": mini.path})
    assert wide.name == "kinetograph-wide" and (Path(wide.path) / "model_index.json").is_file()


def test_the_documented_example_is_a_valid_entry_and_names_every_key(tmp_path: Path) -> None:
    text = (MODELS / "wan-1.3b-12gb.yaml.example").read_text()
    (entry,) = catalog.read(write(tmp_path, "wan.yaml", text))
    served = entry.served()
    assert (served["offload"], served["text_int8"], served["dtype"]) == ("group", True, "bfloat16")
    assert served["limits"]["sizes"] == ("832x480", "480x832")
    for part in (catalog.Entry, catalog.TextEncoder, catalog.Limits, catalog.Rewriter):
        for key in part.model_fields.keys() - {"guidance_scale_2", "instructions", "timeout"}:
            assert f"{key}:" in text


def test_the_default_comes_first_and_paths_with_a_dot_are_relative_to_the_file(
    tmp_path: Path,
) -> None:
    write(tmp_path, "a.yaml", "name: a\npath: owner/a\n")
    write(tmp_path, "b.yaml", "name: b\npath: ../b\ndefault: true\nloras: ./inks\n")
    first, second = catalog.read(tmp_path)
    assert (first.name, second.name, second.path) == ("b", "a", "owner/a")
    assert first.path == str(tmp_path.parent / "b") and first.served()["loras"] == tmp_path / "inks"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a", "a.yaml: path is missing; it must be a folder, or a hub id"),
        ("name: a\npath: b\noffload: all", "offload is 'all'; it must be none, model or group"),
        ("name: a\npath: b\nofload: none", "ofload is no key; allowed are name, path, default"),
        ("name: a/b\npath: b", "name is 'a/b'; it must be 1 to 64 letters"),
        ("name: a\npath: b\nlimits: {sizes: [64]}", r"limits.sizes is 64; .* WIDTHxHEIGHT"),
        ("name: a\npath: b\nlimits: {fps: 0}", "limits.fps is 0; it must be a whole number"),
        ("name: a\npath: b\ntext_encoder: {dtype: int4}", "text_encoder.dtype is 'int4'; .* int8"),
        ("name: a\npath: b\ntext_encoder: {bits: 8}", "text_encoder.bits is no key; .* device, d"),
        ("name: a\npath: b\nprompt_rewriter: {model: m}", "prompt_rewriter.url is missing"),
        ("name: a\npath: b\naliases: [c, c/d]", "aliases is 'c/d'; it must be a list"),
        ("- name: a", "a.yaml is not a mapping; needed are name and path"),
        ("name: [", "a.yaml is not YAML: while parsing"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CatalogError, match=message):
        catalog.read(write(tmp_path, "a.yaml", text))


def test_names_are_given_once_and_one_is_the_default(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="has no .*yaml"):
        catalog.read(tmp_path)
    write(tmp_path, "a.yaml", "name: a\npath: x\naliases: [c]\ndefault: true\n")
    write(tmp_path, "b.yaml", "name: c\npath: x\n")
    with pytest.raises(CatalogError, match=r"b.yaml: c is also a name or alias in .*a.yaml"):
        catalog.read(tmp_path)
    write(tmp_path, "b.yaml", "name: b\npath: x\ndefault: true\n")
    with pytest.raises(CatalogError, match="default is true in more than one file"):
        catalog.read(tmp_path)


def test_one_checkpoint_is_served_under_its_own_name(tmp_path: Path) -> None:
    assert catalog.single("Wan-AI/Wan2.1-T2V-1.3B-Diffusers").name == "Wan2.1-T2V-1.3B-Diffusers"
    assert catalog.single(str(tmp_path / "..")).name == tmp_path.parent.name
    write(tmp_path, "model_index.json", '{"name": "own name"}')
    assert catalog.single(str(tmp_path)).name == "own-name"


def run(*arguments: str) -> Any:
    import argparse

    parser = argparse.ArgumentParser()
    cli_models.register(parser.add_subparsers(), MODELS)
    args = parser.parse_args(["models", *arguments])
    return args.command(args)


def test_the_command_adds_and_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models, checkpoint = tmp_path / "models", tmp_path / "tiny"
    checkpoint.mkdir()
    where = ("--models-dir", str(models))
    with pytest.raises(CatalogError, match="has no model_index.json"):
        run("add", "tiny", str(checkpoint), *where)
    write(checkpoint, "model_index.json", "{}")
    run("add", "tiny", str(checkpoint), *where)
    run("add", "wan:1.3b", "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", *where)
    for name, path, message in (
        ("tiny", str(checkpoint), "tiny is taken"),
        ("wan-1.3b", str(checkpoint), "is there already"),
        ("new", "no-such-folder", "no such folder; allowed are a folder or a hub id"),
        ("../up", str(checkpoint), "name is '../up'"),
    ):
        with pytest.raises(CatalogError, match=message):
            run("add", name, path, *where)
    assert sorted(p.name for p in models.iterdir()) == ["tiny.yaml", "wan-1.3b.yaml"]
    capsys.readouterr()
    run("list", *where)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", "tiny", "wan:1.3b"]
    assert str(checkpoint) in lines[1] and "none" in lines[1]
