"""Tracing: a Python function run over symbolic tensors becomes a graph."""

from __future__ import annotations

import inspect
import keyword
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tcompiler.errors import CompileError
from tcompiler.frontend.module import GraphModule
from tcompiler.frontend.tensor import ArrayLike, DTypeLike, SymbolicTensor, lift, to_dtype
from tcompiler.ir.dtypes import DType
from tcompiler.ir.graph.grammar import TensorType
from tcompiler.ir.scalar.grammar import index, parameter
from tcompiler.ops.construct import GraphWriter


@dataclass(frozen=True, slots=True)
class Spec:
    """What a traced function takes for one argument.

    Attributes:
        dtype: The element type.
        shape: Extents; a string is the name of a symbolic one.
    """

    dtype: DType
    shape: tuple[int | str, ...]


def spec(dtype: DTypeLike, shape: int | str | Sequence[int | str] = ()) -> Spec:
    """The element type and shape of an argument.

    Args:
        dtype: Ours or its name ("f32"), or numpy's.
        shape: Extents, each an integer of at least 0 or the name of a symbolic extent.

    Raises:
        CompileError: If the type is none of ours or an extent is neither.
    """
    extents = (shape,) if isinstance(shape, (int, str)) else tuple(shape)
    for e in extents:
        if not (isinstance(e, str) and e.isidentifier()) and not (
            isinstance(e, int) and not isinstance(e, bool) and e >= 0
        ):
            raise CompileError(f"spec: extent {e!r}, expected an integer of at least 0 or a name")
    return Spec(to_dtype(dtype), extents)


def trace(
    fn: Callable[..., ArrayLike | Sequence[ArrayLike] | Mapping[str, ArrayLike]],
    *specs: Spec,
    **named: Spec,
) -> GraphModule:
    """Runs a function over symbolic tensors and returns what it computes as a graph.

    Args:
        fn: A function of tensors. It returns one, or several as a tuple, list or dict; dict keys name the outputs.
        *specs: Positional arguments' types.
        **named: Keyword arguments' types.

    Returns:
        The graph, its inputs labelled with the arguments' names, and its constants.

    Raises:
        CompileError: If something in the function has no counterpart; the message says what and where it can go.
    """
    for s in (*specs, *named.values()):
        if not isinstance(s, Spec):
            raise CompileError(f"trace: an argument is {type(s).__name__}, expected a spec(dtype, shape)")
    name = getattr(fn, "__name__", "")
    writer = GraphWriter(name if name.isidentifier() and not keyword.iskeyword(name) else "function")
    labels = _argument_names(fn, len(specs))
    args = [_argument(writer, s, label) for s, label in zip(specs, labels, strict=True)]
    kwargs = {label: _argument(writer, s, label) for label, s in named.items()}
    outputs = _outputs(fn(*args, **kwargs))
    values = [lift(writer, x) for x in outputs.values()]
    if any(v.writer is not writer for v in values):
        raise CompileError("trace: the function returned a symbolic tensor of another traced function")
    return GraphModule(writer.finish([v.value for v in values], list(outputs)), writer.store)


def function(*specs: Spec, **named: Spec) -> Callable[[Callable[..., Any]], GraphModule]:
    """A decorator: `@function(spec("f32", (4, 4)))` replaces a function by its traced module."""
    return lambda fn: trace(fn, *specs, **named)


def _argument(writer: GraphWriter, s: Spec, label: str) -> SymbolicTensor:
    shape = tuple(parameter(e) if isinstance(e, str) else index(e) for e in s.shape)
    return SymbolicTensor(writer, writer.input(TensorType(s.dtype, shape), label))


def _argument_names(fn: Callable[..., object], count: int) -> list[str]:
    """The names of the positional parameters; those of *args are numbered."""
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names: list[str] = []
    for p in parameters:
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            names.append(p.name)
        elif p.kind is p.VAR_POSITIONAL:
            names.extend(f"{p.name}{k}" for k in range(max(0, count - len(names))))
    names.extend(f"x{k}" for k in range(len(names), count))
    return names[:count]


def _outputs(result: object) -> dict[str, object]:
    if isinstance(result, Mapping):
        return {str(k): v for k, v in result.items()}
    if isinstance(result, (tuple, list)):
        return {f"output{k}": v for k, v in enumerate(result)}
    return {"output": result}
