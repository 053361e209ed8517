"""What the tests of data-movement primitives share: a scheduled function means what the program means."""

from __future__ import annotations

import numpy as np

from tcompiler.ir.loop.evaluate import evaluate
from tcompiler.ir.loop.grammar import Buffer, Function
from tcompiler.ir.loop.interpret import interpret
from tcompiler.ir.loop.text import parse_function, print_function
from tcompiler.ir.loop.verify import verify
from tcompiler.ir.scalar.grammar import as_int
from tcompiler.schedule import Schedule


def inputs(function: Function, params: dict[str, int] | None = None) -> dict[str, np.ndarray]:
    """Small integers of the shape of every input: sums come out the same in any order."""
    rng = np.random.default_rng(7)
    found = {}
    for b in function.buffers:
        if b.name in function.inputs:
            shape = tuple(n if (n := as_int(e)) is not None else (params or {})[e.name] for e in b.shape)  # type: ignore[attr-defined]
            found[b.name] = rng.integers(-4, 5, shape).astype(b.dtype.numpy)
    return found


def check(before: Function, sch: Schedule, params: dict[str, int] | None = None) -> Function:
    """Holds a schedule against the program it started from: verifier, text, interpreter and evaluator.

    The interpreter runs parallel iterations in a random order and refuses reads of undefined memory.
    """
    after = sch.function
    verify(after, scheduled=False)
    assert print_function(parse_function(print_function(after))) == print_function(after)
    values = inputs(before, params)
    expected = evaluate(before, values, params or {})
    for found in (interpret(after, values, params or {}, shuffle=3), evaluate(after, values, params or {})):
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_allclose(found[name], array, rtol=1e-6, atol=1e-6, err_msg=str(sch.trace.to_python()))
    return after


def buffer(function: Function, name: str) -> Buffer:
    """A buffer by name."""
    return next(b for b in function.buffers if b.name == name)


def shape(function: Function, name: str) -> tuple[int | None, ...]:
    """A buffer's shape."""
    return tuple(as_int(e) for e in buffer(function, name).shape)


def body(function: Function) -> str:
    """The text below the signature, with common indentation removed."""
    lines = print_function(function).splitlines()[2:]
    return "\n".join(line[4:] for line in lines)


def text(block: str) -> str:
    """An expected text: the first line break and the common indentation removed."""
    lines = block.strip("\n").splitlines()
    margin = min(len(x) - len(x.lstrip()) for x in lines if x.strip())
    return "\n".join(x[margin:].rstrip() for x in lines if x.strip() or x == "")
