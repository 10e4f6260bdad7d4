"""Which of diffusers' pipelines make videos from text alone, by what their call takes and does."""

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

LENGTHS = "num_frames", "video_length", "frames"
"""Names under which a call takes the length of a clip, in frames."""
PICTURES = {"image", "images", "video", "frames", "conditions"}
"""Last words of the names of what is shown to a network."""


def signature(kind: type[Any]) -> Mapping[str, inspect.Parameter]:
    """What the call of a pipeline takes, by name."""
    return inspect.signature(kind.__call__).parameters


def length_name(call: Mapping[str, inspect.Parameter]) -> str | None:
    """The name under which a call takes the length; None if it does not."""
    return next((name for name in LENGTHS if name in call), None)


def spelled(kind: type[Any], given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call as the pipeline has them, without those that it does not take.

    Args:
        given: as most have them, num_frames among them. The size is made as it is given.
    """
    call = signature(kind)
    told = {name: given["num_frames"] for name in LENGTHS} | given
    told |= {"use_resolution_binning": False}
    return {name: value for name, value in told.items() if name in call}


def unfit(kind: type[Any]) -> str | None:
    """Why a pipeline cannot be run from a text, and with its steps told; None if it can."""
    call = signature(kind)
    names = [name for name in call if name != "self"]
    for name in ("prompt", length_name(call) or "num_frames", "num_inference_steps"):
        if name not in call:
            return f"takes no {name}; allowed are pipelines that make videos from text"
    optional, reports = _read(kind)
    for name in names:
        if name.startswith("control"):
            return f"is steered by {name}; allowed is text"
    for name in names:
        needed = _is_required(call[name]) and name != "prompt"
        if needed or (_is_picture(name) and name not in optional):
            return f"starts from {name}; allowed is text"
    return None if reports else "shows no bar of its steps; allowed are pipelines that report them"


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD


def _is_picture(name: str) -> bool:
    return name.split("_")[-1] in PICTURES and name not in LENGTHS and "num" not in name.split("_")


def _read(kind: type[Any]) -> tuple[set[str], bool]:
    """Names of which the call asks whether they are None, and whether it shows a bar of steps.

    A picture that may be left out has the default None, and so has one that may not: the
    signatures of diffusers' do not tell them apart, but the code that runs does.
    """
    nodes = list(ast.walk(ast.parse(textwrap.dedent(inspect.getsource(kind.__call__)))))
    return set(_asked(nodes)), any(_is_bar(node) for node in nodes)


def _asked(nodes: list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        match node:
            case ast.Compare(ast.Name(name), [ast.Is() | ast.IsNot()], [ast.Constant(None)]):
                yield name


def _is_bar(node: ast.AST) -> bool:
    match node:
        case ast.Call(ast.Attribute(attr="progress_bar"), keywords=[ast.keyword("total")]):
            return True
    return False
