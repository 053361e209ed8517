"""Text of index maps and layouts: ``layout(lambda n, c: (n, c // 8, c % 8), (1, 8, 8), zero_padding=True)``."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from tcompiler.ir.layout import IndexMap, Layout
from tcompiler.ir.scalar.grammar import Var, parameter
from tcompiler.ir.scalar.text import ScalarReader, print_scalar, print_tuple


def print_index_map(index_map: IndexMap) -> str:
    """The text of an index map: a Python lambda."""
    names = ", ".join(v.name for v in index_map.inputs)
    outputs = print_tuple([print_scalar(o) for o in index_map.outputs])
    return f"lambda {names}: {outputs}" if names else f"lambda: {outputs}"


def print_layout(layout: Layout) -> str:
    """The text of a layout."""
    shape = print_tuple([print_scalar(s) for s in layout.shape])
    return f"layout({print_index_map(layout.map)}, {shape}, zero_padding={layout.zero_padding})"


def read_index_map(reader: ScalarReader, node: ast.expr) -> IndexMap:
    """Reads an index map.

    Raises:
        ParseError: If the syntax is not a lambda that gives a tuple of indices over its arguments.
    """
    match node:
        case ast.Lambda(
            args=ast.arguments(
                posonlyargs=[], args=args, vararg=None, kwonlyargs=[], kw_defaults=[], kwarg=None, defaults=[]
            ),
            body=ast.Tuple(elts=elts),
        ):
            inputs = tuple(parameter(a.arg) for a in args)
            variables = {v.name: v for v in inputs}
            if len(variables) < len(inputs):
                raise reader.error(node, "an index map's arguments have different names")
            return IndexMap(inputs, tuple(reader.read(e, variables, {}) for e in elts))
    raise reader.error(node, "an index map is a lambda that gives a tuple: lambda n, c: (n, c // 8, c % 8)")


def read_layout(reader: ScalarReader, node: ast.expr, variables: Mapping[str, Var]) -> Layout:
    """Reads a layout.

    Args:
        reader: The reader of the text.
        node: The syntax.
        variables: The parameters that the physical shape may name.

    Raises:
        ParseError: If the syntax is not a layout.
    """
    match node:
        case ast.Call(
            func=ast.Name(id="layout"),
            args=[index_map, ast.Tuple(elts=shape)],
            keywords=[ast.keyword(arg="zero_padding", value=ast.Constant(value=bool(zero)))],
        ):
            extents = tuple(reader.read(e, variables, {}) for e in shape)
            return Layout(read_index_map(reader, index_map), extents, zero)
    raise reader.error(node, "a layout is written layout(lambda n, c: (…), (extents), zero_padding=True or False)")


def parse_index_map(text: str) -> IndexMap:
    """Reads an index map.

    Raises:
        ParseError: If the text is not one.
    """
    reader = ScalarReader(text)
    return read_index_map(reader, reader.parse("eval").body)
