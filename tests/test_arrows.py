"""The rooms import each other only along the arrows of the design."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "world": set(),
    "model": set(),
    "training": {"model", "world"},
    "serving": set(),
    "benchmarks": {"model", "world", "serving", "training"},
}
ROOMS = {*MAY_IMPORT, "tests"}


def imported(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").split(".")[0])
    return names


def without_body(tree: ast.Module, function: str) -> ast.Module:
    kept = [n for n in tree.body if not (isinstance(n, ast.FunctionDef) and n.name == function)]
    return ast.Module(kept, [])


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_its_arrows_allow(room: str) -> None:
    files = list((ROOT / room).rglob("*.py"))
    assert files
    for path in files:
        tree = ast.parse(path.read_text())
        allowed = MAY_IMPORT[room] | {room}
        if room == "serving" and path.name == "worker.py":
            allowed.add("model")
        elif room == "serving":
            if path.name == "cli.py":
                tree = without_body(tree, "generate")
            assert "torch" not in imported(tree), f"{path} imports torch"
        assert imported(tree) & ROOMS <= allowed, f"{path} imports {imported(tree) & ROOMS}"


def test_a_forbidden_import_is_seen() -> None:
    planted = ast.parse("def f():\n    from training import ema\n    import benchmarks.core")
    assert imported(planted) & ROOMS == {"training", "benchmarks"}
