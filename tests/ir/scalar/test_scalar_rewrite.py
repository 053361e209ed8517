"""Rewriting scalars: substitution, free variables, loads."""

from __future__ import annotations

import random

import numpy as np
import pytest

from tcompiler.ir import dtypes as dt
from tcompiler.ir.scalar.evaluate import evaluate
from tcompiler.ir.scalar.grammar import Binary, Const, Load, Scalar, Select, Var, index, less, loop_var
from tcompiler.ir.scalar.rewrite import free_vars, guards, loads, rewrite, substitute, substituter
from tcompiler.ir.scalar.text import print_scalar
from tests.ir.scalar.strategies import EXACT_BINARY, EXACT_UNARY, Scene, any_scalar

P, Q, K = loop_var("i", 5), loop_var("j", 3), loop_var("k", 4)
SCENE = Scene((P, Q), {"B": (dt.i64, (5,))}, EXACT_UNARY, EXACT_BINARY)
ARRAYS = {"B": np.array([4, -2, 0, 9, 1], np.int64)}


@pytest.mark.parametrize("seed", range(4))
def test_substitution_is_evaluation_elsewhere(seed: int) -> None:
    r = random.Random(seed)
    for _ in range(100):
        node = any_scalar(r, dt.i64, SCENE, 4)
        mapping: dict[Scalar, Scalar] = {P: K * 2 + 1, Q: index(r.randint(0, 2))}
        k = np.arange(4)
        with np.errstate(all="ignore"):
            there = evaluate(node, {P: k * 2 + 1, Q: np.int64(mapping[Q].value)}, ARRAYS)  # type: ignore[attr-defined]
            here = evaluate(substitute(node, mapping), {K: k}, ARRAYS)
        assert np.array_equal(np.broadcast_to(here, 4), np.broadcast_to(there, 4)), print_scalar(node)
        assert substituter(mapping)(node) is substitute(node, mapping)


def test_substitution_is_simultaneous_and_keeps_what_it_does_not_touch() -> None:
    assert print_scalar(substitute(P - Q, {P: Q, Q: P})) == "j - i"
    untouched = Load("B", dt.i64, (Q,))
    assert substitute(untouched, {P: Q}) is untouched
    assert substitute(P + 0 * Q, {}) is P


def test_substitution_of_whole_nodes() -> None:
    read = Load("B", dt.i64, (P,))
    assert print_scalar(substitute(Binary("add", read, Q), {read: K})) == "k + j"


def test_free_variables_and_loads() -> None:
    inner = Load("B", dt.i64, (P + Q,))
    outer = Load("B", dt.i64, (inner % 5,))
    assert free_vars(outer) == {P, Q}
    assert loads(outer) == (inner, outer)
    assert free_vars(loop_var("q", K)) == {loop_var("q", K)}


def test_guards_are_what_holds_wherever_a_load_is_evaluated() -> None:
    one, two = less(P, 3), less(Q, 1)
    inner, outer = Load("B", dt.i64, (P,)), Load("B", dt.i64, (Q,))
    assert guards(inner + 1) == {inner: ()}
    # in a condition and in the second side of a select it is evaluated elsewhere too
    assert guards(Select(less(inner, 3), outer, index(0))) == {inner: (), outer: (less(inner, 3),)}
    assert guards(Select(one, index(0), outer)) == {outer: ()}
    nested = Select(one, Select(two, inner, outer), index(0))
    assert guards(nested) == {inner: (one, two), outer: (one,)}
    # what all places of a load have in common
    assert guards(nested + Select(two, inner, index(1))) == {inner: (two,), outer: (one,)}
    assert guards(nested + inner)[inner] == ()
    through = Load("B", dt.i64, (inner,))
    assert guards(Select(one, through, index(0))) == {inner: (one,), through: (one,)}


def test_rewriting_goes_from_the_bottom_up() -> None:
    def grow(n: Scalar) -> Scalar:
        return index(int(n.value) + 1) if isinstance(n, Const) else n

    assert print_scalar(rewrite(P * 2 + 5, grow)) == "i * 3 + 6"
    node = P * 2 + 5
    assert rewrite(node, lambda n: n) is node


def test_deep_scalars_overflow_no_stack() -> None:
    node: Scalar = P
    for _ in range(20_000):
        node = Binary("add", node, Q)
    changed = substitute(node, {Q: K})
    assert free_vars(changed) == {P, K}
    assert loads(changed) == ()


def test_equal_nodes_are_one_object_across_threads() -> None:
    from concurrent.futures import ThreadPoolExecutor

    def build(_: int) -> Scalar:
        node: Scalar = Var("shared", dt.i64, None)
        for k in range(500):
            node = Binary("add", node, index(k))
        return node

    with ThreadPoolExecutor(4) as pool:
        assert len({id(n) for n in pool.map(build, range(8))}) == 1
