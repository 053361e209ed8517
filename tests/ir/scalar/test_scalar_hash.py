"""Structural hashes of scalars: names do not count, everything else does."""

from __future__ import annotations

import os
import subprocess
import sys

from hypothesis import given, settings

from tcompiler.ir import dtypes as dt
from tcompiler.ir.dtypes import DTYPES
from tcompiler.ir.scalar.grammar import (
    BINARY,
    UNARY,
    Binary,
    Cast,
    Const,
    Load,
    Scalar,
    Unary,
    Var,
    loop_var,
    map_children,
    postorder,
)
from tcompiler.ir.scalar.hash import Hasher, hash_scalar
from tcompiler.ir.scalar.rewrite import substitute
from tcompiler.ir.scalar.text import parse_scalar, print_scalar
from tests.ir.scalar.mutations import mutations
from tests.ir.scalar.strategies import Scene, scalars

P, Q = loop_var("i", 7), loop_var("j", 3)
SCENE = Scene((P, Q), {"A": (dt.f32, (4, 3)), "B": (dt.i64, (5,)), "S": (dt.f16, ())})


@given(scalars(SCENE))
@settings(max_examples=150)
def test_one_changed_node_changes_text_and_hash(root: Scalar) -> None:
    own = hash_scalar(root)
    text = print_scalar(root)
    for target, other, changed in mutations(root):
        assert changed is not root
        # a tensor's type shows where it is declared
        retyped = isinstance(target, Load) and target.dtype is not other.dtype
        assert retyped or print_scalar(changed) != text
        # other names, and exchanged operands that differ in names only, are no change
        if print_scalar(_anonymous(changed)) != print_scalar(_anonymous(root)):
            assert hash_scalar(changed) != own, (text, print_scalar(changed))


def _anonymous(root: Scalar) -> Scalar:
    """The scalar with variables and tensors named in the order of first use."""
    names: dict[object, str] = {}
    done: dict[Scalar, Scalar] = {}
    for n in postorder(root):
        new = map_children(n, done.__getitem__)
        if isinstance(new, Var):
            new = Var(names.setdefault(new, f"v{len(names)}"), new.dtype, new.extent)
        elif isinstance(new, Load):
            new = Load(names.setdefault(new.buffer, f"t{len(names)}"), new.dtype, new.indices)
        done[n] = new
    return done[root]


def test_names_do_not_count() -> None:
    node = parse_scalar("A[i, j] * f32(2.0) + A[j, i]", {"i": P, "j": Q}, {"A": dt.f32})
    p, q = loop_var("p", 7), loop_var("q", 3)
    other = parse_scalar("Z[p, q] * f32(2.0) + Z[q, p]", {"p": p, "q": q}, {"Z": dt.f32})
    assert hash_scalar(node) == hash_scalar(other)


def test_which_variable_and_which_tensor_is_where_counts() -> None:
    k = loop_var("k", 7)
    assert hash_scalar(P + k) != hash_scalar(P + P)
    a = Binary("add", Load("A", dt.f32, (P,)), Load("B", dt.f32, (P,)))
    b = Binary("add", Load("A", dt.f32, (P,)), Load("A", dt.f32, (P,)))
    assert hash_scalar(a) != hash_scalar(b)


def test_the_extent_of_a_bound_variable_counts() -> None:
    def bound(v: Var) -> str:
        h = Hasher()
        h.bind(v)
        h.scalar(v)
        return h.digest()

    assert bound(P) != bound(Q)
    assert bound(P) == bound(loop_var("other", 7))


def test_zeros_and_nans_are_told_apart() -> None:
    bits = (0, 1 << 31, 0x7FC00000, 0x7FC00001, 0xFFC00000)
    assert len({hash_scalar(Const(dt.f32, b)) for b in bits}) == len(bits)


def test_every_operation_and_type_counts() -> None:
    hashes = {hash_scalar(Unary(op, Var("x", dt.f32, None))) for op in UNARY}
    hashes |= {hash_scalar(Binary(op, Var("x", dt.f32, None), Var("x", dt.f32, None))) for op in BINARY}
    hashes |= {hash_scalar(Cast(d, Var("x", dt.f32, None))) for d in DTYPES.values()}
    assert len(hashes) == len(UNARY) + len(BINARY) + len(DTYPES)


def test_sharing_does_not_show_and_costs_nothing() -> None:
    node: Scalar = P
    for _ in range(500):
        node = Binary("add", node, node)
    assert len(hash_scalar(node)) == 32


def test_substitution_gives_what_is_hashed_alike() -> None:
    node = P * 5 + Q
    assert hash_scalar(substitute(node, {P: loop_var("z", 7)})) == hash_scalar(node)


def test_equal_in_another_process() -> None:
    text = "select(i < 3, A[i, j] * f32(0.5), exp(A[j, i]))"
    code = (
        "from tcompiler.ir import dtypes as dt\n"
        "from tcompiler.ir.scalar.grammar import loop_var\n"
        "from tcompiler.ir.scalar.hash import hash_scalar\n"
        "from tcompiler.ir.scalar.text import parse_scalar\n"
        "names = {'i': loop_var('i', 7), 'j': loop_var('j', 3)}\n"
        f"print(hash_scalar(parse_scalar({text!r}, names, {{'A': dt.f32}})))\n"
    )
    env = {**os.environ, "PYTHONHASHSEED": "5", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    found = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert found.stdout.split() == [hash_scalar(parse_scalar(text, {"i": P, "j": Q}, {"A": dt.f32}))]
