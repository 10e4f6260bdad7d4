"""Expressions over the columns of an index: `motion > 0.2 and height >= 480`.

They have Python's syntax for comparisons, `and`, `or`, `not`, `in` and arithmetic, over columns,
numbers and texts; they become Arrow's expressions, and nothing is ever evaluated as Python.
"""

import ast
import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

OPERATORS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Add: operator.add, ast.Sub: operator.sub,
    ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.In: lambda value, options: value.isin(options),
    ast.NotIn: lambda value, options: ~value.isin(options),
}  # fmt: skip
ALLOWED = "comparisons of columns, numbers and texts, with and, or, not, in, + - * /"


class WhereError(ValueError):
    """An expression that cannot be used; the message quotes it and says what is allowed."""


def select(table: pa.Table, expression: str) -> pa.ChunkedArray:
    """Return for each row of a table whether an expression holds; where a column is null, not.

    Raises:
        WhereError: for what is no such expression, or a column that the table lacks.
    """
    if not expression.strip():
        return pa.chunked_array([pa.array([True] * len(table), pa.bool_())])
    try:
        tree = ast.parse(expression, mode="eval").body
    except SyntaxError as error:
        raise WhereError(
            f"where: {expression!r} is no expression ({error.msg}); {ALLOWED}"
        ) from None
    meant = _meaning(tree, expression, table.column_names)
    try:
        chosen = pads.dataset(table).to_table(columns={"holds": meant}).column("holds")
        return pc.fill_null(chosen.cast(pa.bool_()), False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise WhereError(f"where: {expression!r} cannot be told ({reason}); {ALLOWED}") from None


def _meaning(node: ast.AST, text: str, columns: list[str]) -> Any:
    match node:
        case ast.BoolOp(op, values):
            parts = [_meaning(value, text, columns) for value in values]
            both = operator.and_ if isinstance(op, ast.And) else operator.or_
            return reduce(both, parts)
        case ast.UnaryOp(ast.Not(), value):
            return ~_meaning(value, text, columns)
        case ast.UnaryOp(ast.USub(), ast.Constant(int() | float() as number)):
            return pc.scalar(-number)
        case ast.BinOp(left, op, right) if type(op) in OPERATORS:
            sides = (_meaning(side, text, columns) for side in (left, right))
            return OPERATORS[type(op)](*sides)
        case ast.Compare(left, ops, rights) if all(type(op) in OPERATORS for op in ops):
            sides_of = [left, *rights]
            return reduce(operator.and_, (
                OPERATORS[type(op)](_meaning(one, text, columns), _other(op, other, text, columns))
                for op, one, other in zip(ops, sides_of, rights, strict=False)
            ))  # fmt: skip
        case ast.Name(name) if name in columns:
            return pc.field(name)
        case ast.Name(name):
            raise WhereError(f"where: {text!r}: no column {name!r}; there are {', '.join(columns)}")
        case ast.Constant(bool() | int() | float() | str() as value):
            return pc.scalar(value)
    raise WhereError(f"where: {text!r}: {ast.unparse(node)} is not allowed; allowed are {ALLOWED}")


def _other(op: ast.cmpop, node: ast.AST, text: str, columns: list[str]) -> Any:
    if not isinstance(op, ast.In | ast.NotIn):
        return _meaning(node, text, columns)
    if isinstance(node, ast.List | ast.Tuple) and all(
        isinstance(item, ast.Constant) for item in node.elts
    ):
        return pa.array([item.value for item in node.elts])  # type: ignore[attr-defined]
    raise WhereError(f"where: {text!r}: what follows in must be a list of numbers or texts")
