"""Operators that ONNX itself defines by others: their function bodies, for those without a converter of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tcompiler.frontend.onnx.data import element_code
from tcompiler.frontend.onnx.node import Item, TensorList


def expansion(node: Any, opset: int, inputs: Sequence[Item | None]) -> Any:
    """The FunctionProto that defines an operator of the standard domain, None where there is none.

    Args:
        node: The NodeProto.
        opset: Version of the operator set.
        inputs: Its inputs: some definitions depend on their types.
    """
    import onnx

    try:
        schema: Any = onnx.defs.get_schema(node.op_type, opset, "")
    except onnx.defs.SchemaError:
        return None
    function = onnx.FunctionProto()
    dependent = [v for v in schema.context_dependent_function_opset_versions if v <= opset]
    plain = [v for v in schema.function_opset_versions if v <= opset]
    if dependent:
        types = [_type(x).SerializeToString() for x in inputs]
        try:
            body = schema.get_context_dependent_function_with_opset_version(
                max(dependent), node.SerializeToString(), types
            )
        except (RuntimeError, ValueError):
            return None
        function.ParseFromString(body)
    elif plain:
        function.ParseFromString(schema.get_function_with_opset_version(max(plain)))
    if not function.node:
        return None
    given = {a.name: a for a in node.attribute}
    for a in function.attribute_proto:
        given.setdefault(a.name, a)
    for name, a in schema.attributes.items():
        if a.default_value.type:
            given.setdefault(name, a.default_value)
    _bind(function.node, given)
    return function


def _type(x: Item | None) -> Any:
    import onnx

    if x is None:
        return onnx.TypeProto()
    if isinstance(x, TensorList):
        # A sequence without elements has no type of its own; f32 is as good as any for a definition.
        codes = [element_code(t.dtype) for t in x.items] or [1]
        return onnx.helper.make_sequence_type_proto(onnx.helper.make_tensor_type_proto(codes[0], None))
    return onnx.helper.make_tensor_type_proto(element_code(x.dtype), x.shape)


def _bind(nodes: Any, given: dict[str, Any]) -> None:
    """Replaces references to the function's attributes by their values; those without one are left out."""
    for node in nodes:
        bound = []
        for a in node.attribute:
            if a.ref_attr_name:
                value = given.get(a.ref_attr_name)
                if value is None:
                    continue
                name = a.name
                a.CopyFrom(value)
                a.name = name
            for g in ([a.g] if a.HasField("g") else []) + list(a.graphs):
                _bind(g.node, given)
            bound.append(a)
        if len(bound) < len(node.attribute):
            kept = [type(a)() for a in bound]
            for new, old in zip(kept, bound, strict=True):
                new.CopyFrom(old)
            del node.attribute[:]
            node.attribute.extend(kept)
