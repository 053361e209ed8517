"""What ONNX itself says that an operator takes: numbers of inputs and outputs, and kinds of attributes."""

from __future__ import annotations

import functools
from typing import Any

from tcompiler.errors import CompileError
from tcompiler.frontend.onnx.report import quoted

_KINDS = {
    1: "a float",
    2: "an integer",
    3: "a string",
    4: "a tensor",
    5: "a graph",
    6: "a list of floats",
    7: "a list of integers",
    8: "a list of strings",
    9: "a list of tensors",
    10: "a list of graphs",
    11: "a sparse tensor",
    12: "a list of sparse tensors",
    13: "a type",
    14: "a list of types",
}
"""What AttributeProto.AttributeType's numbers mean."""


def kind_name(kind: int) -> str:
    """An attribute's kind in words."""
    return _KINDS.get(kind, "of no kind")


@functools.lru_cache(maxsize=4096)
def _bounds(op: str, domain: str, opset: int) -> tuple[int, int, int, int] | None:
    """Least and most inputs, least and most outputs; None where ONNX does not say."""
    import onnx

    try:
        schema = onnx.defs.get_schema(op, opset, domain)
    except onnx.defs.SchemaError:
        return None
    if schema.deprecated:
        return None
    return schema.min_input, schema.max_input, schema.min_output, schema.max_output


def check_signature(proto: Any, domain: str, opset: int) -> None:
    """Refuses a node with more inputs or outputs than its operator has, or an attribute given twice.

    Args:
        proto: The NodeProto.
        domain: Its operator's domain, "" for the standard one.
        opset: Version of the operator set.

    Raises:
        CompileError: If something is there that the operator does not take.
    """
    names = [a.name for a in proto.attribute]
    twice = next((n for n in names if names.count(n) > 1), None) if len(names) > len(set(names)) else None
    if twice is not None:
        raise CompileError(f"attribute {quoted(twice)} is given twice")
    for a in proto.attribute:
        if a.ref_attr_name:
            raise CompileError(f"attribute {quoted(a.name)} refers to one of a function, and this is none")
    bounds = _bounds(proto.op_type, domain, opset)
    if bounds is None:
        return
    least, most, fewest, largest = bounds
    if not least <= len(proto.input) <= most:
        raise CompileError(f"it has {len(proto.input)} inputs, expected {_range(least, most)}")
    if not fewest <= len(proto.output) <= largest:
        raise CompileError(f"it has {len(proto.output)} outputs, expected {_range(fewest, largest)}")


def _range(least: int, most: int) -> str:
    if least == most:
        return str(least)
    return f"{least} or more" if most > 1 << 20 else f"{least} to {most}"
