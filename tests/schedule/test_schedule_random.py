"""Random legal schedules keep a program's meaning, verify, and replay from their texts."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from tcompiler.ir.loop.evaluate import evaluate
from tcompiler.ir.loop.grammar import For, Function, Seq, Stmt
from tcompiler.ir.loop.hash import structural_hash
from tcompiler.ir.loop.text import parse_function, print_function
from tcompiler.ir.loop.verify import verify
from tcompiler.ir.scalar.grammar import as_int
from tcompiler.schedule import Schedule, Trace, replay
from tcompiler.schedule.affine.isl import bindings_bijective_isl, injective_isl
from tcompiler.schedule.primitives import PRIMITIVES
from tcompiler.schedule.tree import rebind, tree
from tests.schedule import programs
from tests.schedule.drawing import draw
from tests.schedule.focus import cases, scheduled
from tests.schedule.operators import NAMES, size

COUNT = 2440
BATCHES = 40
STEPS = 8
CASES = cases(COUNT)


def small(rng: random.Random, prime: bool) -> Function:
    """A product, a convolution or a window, small enough for isl."""

    def n(most: int = 13) -> int:
        return size(rng, prime, most)

    match rng.randrange(4):
        case 0:
            text = programs.matmul_relu(n(), n(), n())
        case 1:
            text = programs.conv(1, n(3), n(5), n(7), rng.choice([1, 2]), rng.choice([1, 3]), rng.choice([1, 2]))
        case 2:
            text = programs.pool(rng.choice([1, 3]), n(5), rng.choice([2, 3]))
        case _:
            text = programs.padded(rng.choice([1, 2, 3]), n())
    return programs.parsed(text)


def inputs(function: Function, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Random values of the size of every input; small integers, so that any order of a sum gives the same bits."""
    found = {}
    for b in function.buffers:
        if b.name in function.inputs:
            shape = tuple(as_int(e) or 0 for e in b.shape)
            low = 0 if b.dtype.name.startswith("u") else -4
            found[b.name] = rng.integers(low, 5, shape).astype(b.dtype.numpy)
    return found


def backwards(stmt: Stmt) -> Stmt:
    """The statement with every parallel, vectorized and bound loop run from its last iteration to its first."""
    if isinstance(stmt, Seq):
        return Seq(tuple(backwards(s) for s in stmt.stmts))
    if not isinstance(stmt, For):
        return stmt
    body = backwards(stmt.body)
    if stmt.kind not in ("serial", "unrolled"):
        assert stmt.var.extent is not None
        body = rebind(body, {stmt.var: stmt.var.extent - 1 - stmt.var})
    return For(stmt.var, stmt.kind, body, stmt.annotations)


def keeps_the_meaning(batch: int) -> None:
    """Checks the random schedules of a batch."""
    for k in range(batch, COUNT, BATCHES):
        rng = random.Random(1000 + k)
        sch = scheduled(rng, k % 4 < 2, *CASES[k], STEPS)
        where = f"case {k}\n{sch.trace.to_python()}"
        used = {s.primitive for s in sch.trace.steps}
        assert len(sch.trace.steps) >= STEPS and used >= set(CASES[k]), where
        verify(sch.function, scheduled=False)
        values = inputs(sch.start, np.random.default_rng(k))
        expected = evaluate(sch.start, values)
        versions = [sch.function]
        if used & {"parallel", "vectorize", "bind"}:
            # what may run at once gives the same in any order
            versions.append(replace(sch.function, body=backwards(sch.function.body)))
        for version in versions[-1 - (k % 8 == 0) :]:
            found = evaluate(version, values)
            assert expected.keys() == found.keys()
            for name, array in expected.items():
                np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6, err_msg=where)
        if k % 4 == 0:
            digest = structural_hash(sch.function)
            assert structural_hash(parse_function(print_function(sch.function))) == digest, where
            for trace in (Trace.from_json(sch.trace.to_json()), Trace.from_python(sch.trace.to_python())):
                assert structural_hash(replay(sch.start, trace).function) == digest, where


@pytest.mark.parametrize("batch", range(0, BATCHES, 2))
def test_random_schedules_keep_the_meaning(batch: int) -> None:
    """The even batches; the odd ones have a file of their own, so that two workers share them."""
    keeps_the_meaning(batch)


def test_every_primitive_is_in_a_hundred_of_them() -> None:
    counts = Counter(name for case in CASES for name in case)
    assert sorted(counts) == sorted(PRIMITIVES)
    assert min(counts.values()) >= 100, counts
    assert len(NAMES) >= 12


@pytest.mark.parametrize("peeled", [False, True])
def test_structural_primitives_keep_bindings_bijective(peeled: bool) -> None:
    # they do so by construction; isl proves it anew. A piece of an inner loop has a part of the domain, no point twice
    names = ("split", "fuse", "reorder", "elide", "unroll", *(["peel"] * peeled))
    for k in range(60):
        rng = random.Random(k)
        sch = draw(small(rng, k % 2 == 0), rng, 6, moving=False, names=names)
        t = tree(sch.function)
        for block in t.blocks.values():
            loops = t.loops_above(block)
            proved = (
                injective_isl(block, [], [s.var for s in loops]) if peeled else bindings_bijective_isl(block, loops)
            )
            assert proved is True, f"case {k}, {block.name}\n{sch.trace.to_python()}"


def test_a_piece_keeps_no_copy_that_nobody_reads() -> None:
    # what the copy leaves out of its buffer, the sum reads in the side of its select that is not taken
    sch = Schedule(small(random.Random(1002778), False))
    sch.split("r", [2, None])
    sch.split("n", [3, None])
    sch.cache_read("Y", "X", "local")
    sch.split("r_0", [None, 5, 2])
    sch.compute_at("X_copy", "r_1")
    sch.peel("n_0", [1])
    assert sch.blocks() == ["X_copy", "Y"]
    verify(sch.function, scheduled=False)
