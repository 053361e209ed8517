"""Attention and its kin: contractions chained over rows become one kernel that never holds the matrix between them.

Where rows are too long for a cache columns go in blocks as well: on a machine of small caches, all but the shortest do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import pytest

import tcompiler as tc
from tcompiler.ir.graph.evaluate import evaluate
from tcompiler.ir.loop.verify import verify
from tcompiler.ir.scalar.grammar import as_int
from tcompiler.ops.registry import get
from tcompiler.pipeline import (
    Compilation,
    compile_module,
    compose_programs,
    lower_programs,
    run_graph_passes,
    schedule_functions,
)
from tcompiler.runtime.model import Model
from tcompiler.schedule.schedule import replay
from tcompiler.target.named import host
from tcompiler.target.target import Target

Shape = tuple[int, ...]


def attention(q: Any, k: Any, v: Any, *mask: Any) -> Any:
    axes = [*range(len(k.shape) - 2), len(k.shape) - 1, len(k.shape) - 2]
    scores = (q @ tc.transpose(k, axes)) * 0.25
    return tc.softmax(scores + mask[0] if mask else scores, axis=-1) @ v


def heads_inside(q: Any, k: Any, v: Any) -> Any:
    """Operands and result with the heads between the sequence and its features, as projections make them."""
    q, k, v = (tc.transpose(x, [0, 2, 1, 3]) for x in (q, k, v))
    return tc.transpose(attention(q, k, v), [0, 2, 1, 3])


def shares(q: Any, k: Any, v: Any) -> Any:
    """Rows divided by their sums, written by hand, and an epilogue."""
    scores = tc.abs(q @ k)
    return tc.relu((scores / tc.sum(scores, axis=-1, keepdims=True)) @ v)


CASES: dict[str, tuple[Callable[..., Any], list[Shape]]] = {
    "whole blocks": (attention, [(2, 48, 32), (2, 64, 32), (2, 64, 32)]),
    "odd sizes": (attention, [(2, 3, 53, 37), (2, 3, 77, 37), (2, 3, 77, 21)]),
    "no heads": (attention, [(31, 16), (45, 16), (45, 24)]),
    "fewer rows than a tile": (attention, [(3, 5, 64), (3, 130, 64), (3, 130, 64)]),
    "a mask for every row": (attention, [(2, 3, 29, 16), (2, 3, 40, 16), (2, 3, 40, 16), (1, 1, 29, 40)]),
    "a mask for every batch": (attention, [(2, 3, 29, 16), (2, 3, 40, 16), (2, 3, 40, 16), (2, 1, 1, 40)]),
    "heads inside": (heads_inside, [(2, 50, 3, 24), (2, 39, 3, 24), (2, 39, 3, 24)]),
    "a row and a column left over": (attention, [(97, 16), (49, 16), (49, 16)]),
    "a column that fills no vector": (attention, [(2, 53, 20), (2, 131, 20), (2, 131, 33)]),
    "two such columns": (attention, [(1, 3, 30, 16), (1, 3, 142, 16), (1, 3, 142, 34)]),
    "numbers alone": (attention, [(2, 30, 1), (2, 40, 1), (2, 40, 1)]),
    "by hand": (shares, [(2, 26, 12), (2, 12, 33), (2, 33, 18)]),
}


def small() -> Target:
    """This machine with caches for blocks of 16 columns, and of a few rows of them."""
    return replace(host(), l1_bytes=2048, l2_bytes=1024)


def scheduled(fn: Callable[..., Any], shapes: list[Shape], threads: int, target: Target | None = None) -> Compilation:
    specs = {f"x{k}": tc.spec("f32", shape) for k, shape in enumerate(shapes)}
    c = Compilation(tc.trace(lambda **named: fn(*named.values()), **specs), target or host(), threads)
    for stage in (run_graph_passes, compose_programs, lower_programs, schedule_functions):
        stage(c)
    return c


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", list(CASES))
def test_one_kernel_keeps_a_block_of_rows(name: str, threads: int) -> None:
    fn, shapes = CASES[name]
    c = scheduled(fn, shapes, threads)
    if name != "by hand":
        assert len(c.kernels) == 1
    for kernel in c.kernels.values():
        assert kernel.schedule is not None
        function = kernel.schedule.function
        verify(function)
        assert (
            kernel.schedule.trace.to_python() == replay(kernel.schedule.start, kernel.schedule.trace).trace.to_python()
        )
        if name not in ("by hand", "numbers alone"):
            rows = [b for b in function.buffers if b.name not in {*function.inputs, *function.outputs}]
            sizes = [prod(as_int(e) or 0 for e in b.shape) for b in rows if b.scope != "register"]
            columns = shapes[1][1 if name == "heads inside" else -2]
            assert prod(shapes[0][:-1]) * columns not in sizes


@pytest.mark.parametrize("name", [n for n in CASES if n not in ("by hand", "numbers alone")])
def test_one_kernel_keeps_a_block_of_rows_and_columns(name: str) -> None:
    fn, shapes = CASES[name]
    (kernel,) = scheduled(fn, shapes, 1, small()).kernels.values()
    assert kernel.schedule is not None
    function = kernel.schedule.function
    verify(function)
    assert any(step.primitive == "rolling_update" for step in kernel.schedule.trace.steps)
    assert kernel.schedule.trace.to_python() == replay(kernel.schedule.start, kernel.schedule.trace).trace.to_python()
    columns = CASES[name][1][1][1 if name == "heads inside" else -2]
    kept = [b for b in function.buffers if b.name not in function.inputs and "cache" not in b.name]
    assert all(as_int(e) != columns for b in kept for e in b.shape)


def test_a_column_that_fills_no_vector_is_a_dot_product() -> None:
    fn, shapes = CASES["a column that fills no vector"]
    (kernel,) = scheduled(fn, shapes, 1).kernels.values()
    assert kernel.schedule is not None
    assert any(s.primitive == "peel" and s.args[1:] == ([32],) for s in kernel.schedule.trace.steps)


@pytest.mark.parametrize("target", [host, small])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", list(CASES))
def test_values(name: str, threads: int, target: Callable[[], Target]) -> None:
    fn, shapes = CASES[name]
    rng = np.random.default_rng(3)
    arrays = [rng.normal(size=s).astype(np.float32) for s in shapes]
    specs = {f"x{k}": tc.spec("f32", shape) for k, shape in enumerate(shapes)}
    model = Model(compile_module(tc.trace(lambda **named: fn(*named.values()), **specs), target(), threads))
    wide = {name: tc.spec("f64", spec.shape) for name, spec in specs.items()}
    module = tc.trace(lambda **named: fn(*named.values()), **wide)
    inputs = {v.name: a.astype(np.float64) for v, a in zip(module.graph.inputs, arrays, strict=True)}
    results = evaluate(module.graph, inputs, operators=get, constants=module.constants)
    want = results[module.graph.outputs[0].name]
    np.testing.assert_allclose(model(*arrays), want, rtol=0, atol=3e-6 * float(np.abs(want).max()))


@pytest.mark.parametrize("target", [host, small])
def test_rows_without_a_number(target: Callable[[], Target]) -> None:
    """NaN and infinities of scores pass into their row as in the definition, and into no other one."""
    q, k, v = (np.ones(s, np.float32) for s in [(26, 16), (40, 16), (40, 16)])
    mask = np.zeros((26, 40), np.float32)
    mask[3, 7], mask[9, 1], mask[11], mask[12, 2:] = np.nan, np.inf, -np.inf, -np.inf
    mask[13, :35] = -np.inf
    specs = {f"x{k}": tc.spec("f32", x.shape) for k, x in enumerate((q, k, v, mask))}
    model = Model(compile_module(tc.trace(lambda **named: attention(*named.values()), **specs), target(), 1))
    got = model(q, k, v, mask)
    bad = np.isin(np.arange(26), [3, 9, 11])
    assert np.isnan(got[bad]).all()
    np.testing.assert_allclose(got[~bad], 1.0, rtol=1e-6)


def read_again(q: Any, k: Any, v: Any) -> Any:
    shares = tc.softmax(q @ k, axis=-1)
    return shares @ v, shares


def over_columns(q: Any, k: Any, v: Any) -> Any:
    return tc.softmax(q @ k, axis=-2) @ v


APART: dict[str, tuple[Callable[..., Any], list[Shape]]] = {
    "the matrix leaves": (read_again, [(26, 16), (16, 40), (40, 16)]),
    "a chain over columns": (over_columns, [(26, 16), (16, 40), (40, 16)]),
    "few columns": (lambda q, k, v: tc.softmax(q @ k, axis=-1) @ v, [(26, 16), (16, 8), (8, 16)]),
}


@pytest.mark.parametrize("name", list(APART))
def test_what_stays_apart(name: str) -> None:
    fn, shapes = APART[name]
    assert len(scheduled(fn, shapes, 1).kernels) == 3


@pytest.mark.parametrize("target", [host, small])
def test_blocks_of_rows_go_on_threads_where_heads_do_not(target: Callable[[], Target]) -> None:
    """A tail of rows, which has the same buffers, does not keep the blocks before it on one thread."""
    (kernel,) = scheduled(attention, [(200, 64), (256, 64), (256, 64)], 2, target()).kernels.values()
    assert kernel.schedule is not None
    sch = kernel.schedule
    shared = [n for n in sch.loop_names() if sch.kind(n) == "parallel"]
    assert any(len(sch.blocks_under(n)) > 5 for n in shared)
