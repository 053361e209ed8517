"""Which loops run on threads: by what is done first, and nothing that takes a few microseconds."""

from __future__ import annotations

import re

import numpy as np
import pytest

import tcompiler as tc
from tcompiler.frontend.tensor import SymbolicTensor
from tcompiler.ir.loop.evaluate import evaluate
from tcompiler.ir.loop.grammar import For, Seq, Stmt, buffer_table, walk
from tcompiler.ir.loop.teams import teams
from tcompiler.ir.loop.text import parse_function
from tcompiler.ir.scalar.grammar import as_int
from tcompiler.schedule.rules.threads import share_rest
from tcompiler.schedule.schedule import Schedule

RNG = np.random.default_rng(3)


def shared(model: tc.Model) -> dict[str, list[int]]:
    """Extents of the loops on threads, by kernel."""
    found = {}
    for kernel in model.kernels:
        function = parse_function(model.text("scheduled", kernel=kernel["name"]))
        loops = [s for s in walk(function.body) if isinstance(s, For) and s.kind == "parallel"]
        found[kernel["name"]] = [as_int(s.var.extent) or 0 for s in loops]
    return found


def product(m: int, k: int, n: int, threads: int = 2) -> list[int]:
    """Extents of the loops on threads of `x @ w.T`, as a classifier has it, after the results were compared."""
    w = RNG.standard_normal((n, k), dtype=np.float32)

    def model(x: SymbolicTensor) -> SymbolicTensor:
        return x @ w.T

    compiled = tc.compile(tc.trace(model, x=tc.spec("f32", (m, k))), threads=threads)
    x = RNG.standard_normal((m, k), dtype=np.float32)
    np.testing.assert_allclose(compiled(x), x @ w.T, rtol=1e-4, atol=1e-4)
    return [e for extents in shared(compiled).values() for e in extents]


def test_one_row_is_shared_by_columns() -> None:
    assert max(product(1, 544, 1000)) >= 4


def test_little_work_stays_on_one_thread() -> None:
    assert product(1, 64, 64) == []
    assert product(8, 16, 16) == []


def test_one_thread_shares_nothing() -> None:
    assert product(64, 64, 256, threads=1) == []


@pytest.mark.parametrize("columns", [8, 17, 24, 40])
def test_few_columns_are_shared_by_rows(columns: int) -> None:
    # One or two panels and a tail: sharing those would leave a thread idle half of the time.
    # Halves of the places, or many parts of them, come out even.
    w = RNG.standard_normal((columns, 96, 1, 1), dtype=np.float32)

    def model(x: SymbolicTensor) -> SymbolicTensor:
        return tc.conv(x, w)

    compiled = tc.compile(tc.trace(model, x=tc.spec("f32", (1, 96, 56, 56))), threads=2)
    loops = re.findall(r"for v1_(\w+) in parallel\((\d+)\)", compiled.text("scheduled"))
    assert loops
    assert all(name.startswith("hw_") and (int(extent) >= 4 or extent == "2") for name, extent in loops)
    x = RNG.standard_normal((1, 96, 56, 56), dtype=np.float32)
    expected = np.einsum("nchw,kc->nkhw", x, w[:, :, 0, 0])
    np.testing.assert_allclose(compiled(x), expected, rtol=1e-4, atol=1e-4)


def test_a_column_over_is_no_obstacle() -> None:
    # 256 columns come out even, the last one fits no tile: vectors and threads are there nevertheless.
    def model(x: SymbolicTensor, y: SymbolicTensor) -> SymbolicTensor:
        return x.T @ y

    arrays = [RNG.standard_normal((24, 257), dtype=np.float32) for _ in "xy"]
    compiled = tc.compile(tc.trace(model, **{n: tc.spec("f32", (24, 257)) for n in "xy"}), threads=2)
    assert max(e for found in shared(compiled).values() for e in found) >= 4
    assert "vectorized(16)" in "".join(compiled.text("scheduled", kernel=k["name"]) for k in compiled.kernels)
    np.testing.assert_allclose(compiled(*arrays), arrays[0].T @ arrays[1], rtol=1e-4, atol=1e-4)


def rest(text: str, threads: int = 2) -> list[tuple[str, int | None]]:
    """The loops that `share_rest` puts on threads."""
    sch = Schedule(parse_function(text))
    share_rest(sch, threads)
    return [(n, sch.extent(n)) for n in sch.loop_names() if sch.kind(n) == "parallel"]


COPY = """@loop.function
def f(x: f32[{h}, {w}, {c}], y: out(f32[{h}, {w}, {c}])):
    for h in range({h}):
        for w in range({w}):
            for c in range({c}):
                with block("b"):
                    v_h = spatial({h}, h)
                    v_w = spatial({w}, w)
                    v_c = spatial({c}, c)
                    y[v_h, v_w, v_c] = x[v_h, v_w, v_c] * f32(2.0)
"""


def test_the_outermost_loop_that_comes_out_even_is_shared() -> None:
    assert rest(COPY.format(h=64, w=64, c=64)) == [("h", 64)]


def test_a_loop_inside_is_shared_where_the_outer_one_is_short() -> None:
    assert rest(COPY.format(h=3, w=4096, c=64)) == [("w", 4096)]


def test_forks_are_paid_for() -> None:
    # Three columns on two threads are uneven, but a fork for each of 30000 rows would cost more.
    assert rest(COPY.format(h=1, w=30000, c=3)) == [("w", 30000)]
    assert rest(COPY.format(h=1, w=30000, c=3), threads=1) == []


def test_lines_are_not_shared() -> None:
    # The threads would write 48 bytes of each 96: the loop over columns is left alone.
    text = COPY.format(h=24, w=1, c=4000).replace("y[v_h, v_w, v_c]", "y[v_c, v_w, v_h]")
    text = text.replace("y: out(f32[24, 1, 4000])", "y: out(f32[4000, 1, 24])")
    assert rest(text) == []


def test_what_stands_beside_a_shared_loop_is_shared_too() -> None:
    text = """@loop.function
def f(x: f32[3, 4096, 64], y: out(f32[3, 64, 4096])):
    t = alloc(f32[4096, 64], scope="local")
    for h in range(3):
        for w in range(4096):
            for c in range(64):
                with block("copy"):
                    v_h = spatial(3, h)
                    v_w = spatial(4096, w)
                    v_c = spatial(64, c)
                    t[v_w, v_c] = x[v_h, v_w, v_c] * f32(2.0)
        for d in parallel(64):
            for u in range(4096):
                with block("turned"):
                    v_h = spatial(3, h)
                    v_d = spatial(64, d)
                    v_u = spatial(4096, u)
                    y[v_h, v_d, v_u] = t[v_u, v_d]
"""
    # each thread had a copy of its own, while one made it for all
    before = parse_function(text.replace("parallel(64)", "range(64)"))
    sch = Schedule(before)
    sch.parallel("d")
    share_rest(sch, 2)
    assert [(n, sch.kind(n)) for n in ("h", "w", "d")] == [("h", "serial"), ("w", "parallel"), ("d", "parallel")]
    assert buffer_table(sch.function)["t"].scope == "global"
    x = RNG.standard_normal((3, 4096, 64), dtype=np.float32)
    np.testing.assert_array_equal(evaluate(sch.function, {"x": x}, {})["y"], 2 * x.transpose(0, 2, 1))


def hinted(model: tc.Model) -> list[list[int]]:
    """Extents of loops that threads begin with together, and whether there are tails behind shared loops alone."""
    found = []
    for kernel in model.kernels:
        function = parse_function(model.text("scheduled", kernel=kernel["name"]))
        for s in walk(function.body):
            if isinstance(s, Seq):
                found += [
                    [as_int(x.var.extent) or 0 for x in team if isinstance(x, For)]
                    for team in teams(function, s.stmts)
                    if len(team) > 1
                ]
    return found


@pytest.mark.parametrize(
    ("channels", "filters", "height", "width"), [(255, 269, 13, 15), (127, 129, 27, 32), (64, 64, 14, 14)]
)
def test_what_is_cut_off_is_shared_together_with_the_rest(channels: int, filters: int, height: int, width: int) -> None:
    w = RNG.standard_normal((filters, channels, 3, 3), dtype=np.float32)

    def model(x: SymbolicTensor) -> SymbolicTensor:
        return tc.conv(x, w, pads=(1, 1, 1, 1))

    x = RNG.standard_normal((1, channels, height, width), dtype=np.float32)
    graph = tc.trace(model, x=tc.spec("f32", x.shape))
    compiled = tc.compile(graph, threads=2, target="znver5")
    assert hinted(compiled)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x[0], ((0, 0), (1, 1), (1, 1))), (3, 3), axis=(1, 2))
    expected = np.einsum("chwrs,kcrs->khw", windows, w, optimize=True)
    np.testing.assert_allclose(tc.compile(graph, threads=2)(x)[0], expected, rtol=1e-3, atol=1e-3 * channels**0.5)


def test_two_blocks_that_differ_little_are_one_for_each_thread() -> None:
    # 85 places and 84; three panels and a half inside them would leave a thread idle for a quarter of the time
    w = RNG.standard_normal((221, 1220, 1, 1), dtype=np.float32)
    graph = tc.trace(lambda x: tc.conv(x, w), x=tc.spec("f32", (1, 1220, 13, 13)))
    assert hinted(tc.compile(graph, threads=2, target="znver5")) == [[1, 1]]
    x = RNG.standard_normal((1, 1220, 13, 13), dtype=np.float32)
    expected = np.einsum("chw,kc->khw", x[0], w[:, :, 0, 0], optimize=True)
    np.testing.assert_allclose(tc.compile(graph, threads=2)(x)[0], expected, rtol=1e-3, atol=0.05)


def test_lines_inside_a_panel_are_shared_rather_than_tiles_inside_these() -> None:
    # blocks of lines do not come out even, panels write too little side by side; each tile of a line is a fork
    w = RNG.standard_normal((65, 3, 3, 3), dtype=np.float32)

    def model(x: SymbolicTensor) -> SymbolicTensor:
        return tc.conv(x, w, strides=(2, 2), pads=(1, 1, 1, 1))

    trace = tc.trace(model, x=tc.spec("f32", (1, 3, 224, 224)))
    compiled = tc.compile(trace, threads=2, target="znver5")
    x = RNG.standard_normal((1, 3, 224, 224), dtype=np.float32)
    found, expected = (np.asarray(tc.compile(trace, threads=n)(x)) for n in (2, 1))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    for kernel in compiled.kernels:
        function = parse_function(compiled.text("scheduled", kernel=kernel["name"]))
        forks: list[tuple[Stmt, int]] = [(function.body, 1)]
        while forks:
            s, times = forks.pop()
            match s:
                case For(kind="parallel"):
                    assert times <= 14
                case For():
                    forks.append((s.body, times * (as_int(s.var.extent) or 1)))
                case Seq():
                    forks += [(x, times) for x in s.stmts]
