"""Loop functions compiled and called in this process, for the tests of code generation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tcompiler.backends.llvm.build import BuiltKernel, build_kernels, kernel_hash
from tcompiler.backends.llvm.run import call_kernel
from tcompiler.ir.loop.evaluate import evaluate
from tcompiler.ir.loop.grammar import Block, For, Function, IterVar, LoopKind, Stmt, buffer_table
from tcompiler.ir.loop.text import parse_function
from tcompiler.ir.loop.verify import verify
from tcompiler.ir.scalar.grammar import Scalar, Var, as_int, loop_var
from tcompiler.target.named import host
from tcompiler.target.target import Target

Array = np.ndarray[Any, Any]


def parsed(text: str) -> Function:
    """A function from its text, verified."""
    function = parse_function(text)
    verify(function)
    return function


def built(functions: Iterable[Function], target: Target | None = None) -> list[BuiltKernel]:
    """The functions' kernels, compiled by one process; for this machine unless told otherwise."""
    target = target or host()
    keys = [(kernel_hash(f, target), f) for f in functions]
    kernels = build_kernels(dict(keys), target, 1)
    return [kernels[key] for key, _ in keys]


def outputs_of(function: Function) -> dict[str, Array]:
    """Arrays for a function's outputs, filled with what no kernel writes by chance."""
    buffers = buffer_table(function)
    found = {}
    for name in function.outputs:
        b = buffers[name]
        assert b.strides is None
        shape = tuple(as_int(e) or 0 for e in b.shape)
        found[name] = (
            np.frombuffer(b"\xa5" * (int(np.prod(shape)) * b.dtype.bytes), b.dtype.numpy).reshape(shape).copy()
        )
    return found


def call(function: Function, kernel: BuiltKernel, inputs: Mapping[str, Array], threads: int = 1) -> dict[str, Array]:
    """Calls a kernel; gives the outputs by name."""
    outputs = outputs_of(function)
    call_kernel(kernel, [*(np.ascontiguousarray(inputs[n]) for n in function.inputs), *outputs.values()], threads)
    return outputs


def run(function: Function, inputs: Mapping[str, Array], threads: int = 1) -> dict[str, Array]:
    """Compiles a function and calls it."""
    return call(function, built([function])[0], inputs, threads)


def check(text: str, inputs: Mapping[str, Array], threads: Sequence[int] = (1,)) -> None:
    """The compiled function gives what the evaluator gives, bit for bit."""
    function = parsed(text)
    expected = evaluate(function, inputs)
    (kernel,) = built([function])
    for n in threads:
        found = call(function, kernel, inputs, n)
        for name, array in expected.items():
            assert_same(found[name], array, f"{name} at {n} threads\n{kernel.code.text}")


def assert_same(found: Array, expected: Array, where: str = "") -> None:
    """Equal bits; all NaNs are alike."""
    assert found.dtype == expected.dtype and found.shape == expected.shape, where
    differ = np.flatnonzero(~same(found, expected))
    if differ.size:
        k = differ[0]
        got, wanted = found.ravel()[k], expected.ravel()[k]
        raise AssertionError(f"{differ.size} of {found.size} differ, first at {k}: {got!r}, not {wanted!r}; {where}")


def same(found: Array, expected: Array) -> Array:
    """Where two arrays hold the same bits, or NaN both, as a flat array of bools."""
    a, b = np.ascontiguousarray(found).ravel(), np.ascontiguousarray(expected).ravel()
    bits = np.dtype(f"u{a.dtype.itemsize}")
    equal = a.view(bits) == b.view(bits)
    return equal if a.dtype.kind in "biu" else equal | ((a != a) & (b != b))


def nest(name: str, extents: Sequence[tuple[int, LoopKind]], bind: Any, body: Any) -> Stmt:
    """A block over spatial iter vars inside loops.

    Args:
        name: The block's, and a prefix of its loops' names.
        extents: Extents and kinds of the loops, outermost first.
        bind: From the loop variables to pairs of an iter var's extent and its binding.
        body: From the iter vars to the block's body.
    """
    loops = [loop_var(f"{name}_{k}", extent) for k, (extent, _) in enumerate(extents)]
    pairs: Sequence[tuple[int, Scalar]] = bind(*loops)
    iters: list[Var] = [loop_var(f"v{k}", extent) for k, (extent, _) in enumerate(pairs)]
    stmt: Stmt = Block(name, tuple(IterVar(v, "spatial") for v in iters), tuple(b for _, b in pairs), body(*iters))
    for var, (_, kind) in reversed(list(zip(loops, extents, strict=True))):
        stmt = For(var, kind, stmt)
    return stmt
