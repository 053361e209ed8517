"""Corrupted loop functions, each refused with its whole message."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings

from tcompiler.errors import VerifyError
from tcompiler.ir import dtypes as dt
from tcompiler.ir.loop.analysis import find, find_block, find_loop, replace_at
from tcompiler.ir.loop.grammar import (
    Block,
    Buffer,
    Commit,
    For,
    Function,
    Intrinsic,
    IterVar,
    Region,
    Seq,
    Store,
    Update,
    Wait,
    seq,
)
from tcompiler.ir.loop.text import parse_function, print_function
from tcompiler.ir.loop.verify import MAX_DEPTH, verify
from tcompiler.ir.scalar.grammar import Binary, Cast, Const, Load, Reducer, Select, Unary, Var, const, index, loop_var
from tcompiler.ir.scalar.reducers import named_reducer
from tests.ir.loop.programs import EVERYTHING, TILED, Case, cases

BASE = """@loop.function
def base(n: i64, A: f32[16, 12], B: f32[12, 8], J: i64[16], C: out(f32[16, 8]), D: out(f32[n])):
    T = alloc(f32[6, 4], scope="register")
    S = alloc(f32[20], strides=(2,))
    for i in parallel(3):
        for j in range(2):
            for ii in unrolled(6):
                for jj in vectorized(4):
                    with block("zero"):
                        ti = spatial(6, ii)
                        tj = spatial(4, jj)
                        T[ti, tj] = f32(0.0)
            for k in range(12):
                for i1 in unrolled(6):
                    for j1 in vectorized(4):
                        with block("update", where=i * 6 + i1 < 16):
                            vi = spatial(16, i * 6 + i1)
                            vj = spatial(8, j * 4 + j1)
                            vk = reduce(12, k)
                            ti = spatial(6, i1)
                            tj = spatial(4, j1)
                            T[ti, tj] += A[vi, vk] * B[vk, vj]
            for i2 in unrolled(6):
                for j2 in vectorized(4):
                    with block("write", where=i * 6 + i2 < 16):
                        vi = spatial(16, i * 6 + i2)
                        vj = spatial(8, j * 4 + j2)
                        ti = spatial(6, i2)
                        tj = spatial(4, j2)
                        C[vi, vj] = T[ti, tj]
    for p in range(20):
        with block("fill"):
            vp = spatial(20, p)
            S[vp] = select(vp < 16, A[vp, 0], f32(1.0))
    for q in range(n):
        with block("gather"):
            vq = spatial(n, q)
            D[vq] = S[J[vq % 16] % 20]
    for r in range(16):
        with block("sum"):
            vr = reduce(16, r)
            with init():
                C[0, 0] = f32(0.0)
            C[0, 0] += S[vr]
    with block("opaque", opaque=True):
        vo = spatial(1, 0)
        reads(A[span(0, 4), span(0, 2)])
        writes(S[span(0, 4)])
        for x in range(4):
            S[x] = A[x, vo]
"""

# (what to replace, by what, the message)
TEXTS = [
    ('block("fill")', 'block("zero")', 'zero: two of the blocks and loops are named "zero"'),
    ('block("fill")', 'block("j")', 'j: two of the blocks and loops are named "j"'),
    (
        'scope="register"',
        'scope="fast"',
        'T: unknown scope "fast"; expected one of global, shared, local, register, fragment',
    ),
    ("S = alloc(f32[20]", "S = alloc(f32[20, 1]", "S: 1 strides for 2 dimensions"),
    ("strides=(2,)", "strides=(0,)", "S: strides [0] let elements share memory"),
    ("strides=(2,)", "strides=(-2,)", "S: a stride is -2"),
    ("alloc(f32[20]", "alloc(f32[-1]", "S: an extent of the shape is -1"),
    (
        'vectorized(4):\n                    with block("zero")',
        'vectorized(n):\n                    with block("zero")',
        "jj: a loop of kind vectorized has a constant extent, not n",
    ),
    (
        "unrolled(6):\n                for jj",
        "unrolled(n):\n                for jj",
        "ii: a loop of kind unrolled has a constant extent, not n",
    ),
    (
        "where=i * 6 + i1 < 16",
        "where=i * 6 + i1 < 17",
        "update: vi is bound to i * 6 + i1, which leaves its domain [0, 16) at i = 2, i1 = 4",
    ),
    (
        "vi = spatial(16, i * 6 + i2)",
        "vi = spatial(16, i * 6 + i2 - 1)",
        "write: vi is bound to i * 6 + i2 - 1, which leaves its domain [0, 16) at i = 0, i2 = 0",
    ),
    ("vp = spatial(20, p)", "vp = spatial(19, p)", "fill: vp is bound to p, which leaves its domain [0, 19) at p = 19"),
    ("S[vp] =", "S[vp + 1] =", "fill: writes S[vp + 1], outside dimension 0, which is [0, 20) at p = 19"),
    (
        "select(vp < 16, A[vp, 0], f32(1.0))",
        "A[vp, 0]",
        "fill: reads A[vp, 0], outside dimension 0, which is [0, 16) at p = 16",
    ),
    ("+= S[vr]", "+= S[vr - 1]", "sum: reads S[vr - 1], outside dimension 0, which is [0, 20) at r = 0"),
    (
        "vr = reduce(16, r)",
        "vr = spatial(16, r)",
        "sum: all iterations of loop r, which feeds vr = spatial(16, r), write the same elements of C",
    ),
    ("C[0, 0] += S[vr]", "C[0, 0] = S[vr]", "sum: reduces over vr without an update"),
    (
        "C[0, 0] += S[vr]",
        "C[0, 0] += S[vr]\n            C[1, 0] = S[vr]",
        "sum: stores in its body while it reduces over vr",
    ),
    (
        "                C[0, 0] = f32(0.0)",
        "                C[0, 0] += f32(0.0)",
        "sum: updates in init; an init stores",
    ),
    (
        "for r in range(16)",
        "for r in parallel(16)",
        "sum: the parallel loop r feeds vr = reduce(16, r); only spatial iter vars may come from it",
    ),
    (
        "for k in range(12)",
        "for k in vectorized(12)",
        "update: the vectorized loop k feeds vk = reduce(12, k); only spatial iter vars may come from it",
    ),
    ("vp = spatial(20, p)", "vp = ordered(20, p)", None),
    (
        "    for r in range(16):\n",
        "    for r0 in parallel(2):\n     for r in range(16):\n",
        "sum: every iteration of the parallel loop r0 updates the same elements",
    ),
    (
        "for ii in unrolled(6)",
        "for ii in range(6)",
        "zero: index ti of the register buffer T varies with ii; it must be constant once unrolled and vectorized "
        "loops are expanded",
    ),
    (
        "= T[ti, tj]",
        "= T[J[0] % 6, tj]",
        "write: index J[0] % 6 of the register buffer T varies with what it loads; it must be constant once unrolled "
        "and vectorized loops are expanded",
    ),
    ("S[vp] =", "A[vp, 0] =", "fill: writes the input A"),
    ("D[vq] =", "S[vq] =", "D: no block writes this output"),
    ("S[vp] = select(vp < 16, A[vp, 0], f32(1.0))", "pass", None),
    ("A[vi, vk]", "A[vi]", "update: A has 2 dimensions; this access has 1"),
    ("reads(A[span(0, 4), span(0, 2)])", "reads(A[span(0, 4)])", "opaque: A has 2 dimensions; this access has 1"),
    ("reads(A[span(0, 4), span(0, 2)])", "reads(J[span(0, 4)])", "opaque: reads A without declaring it"),
    (
        "reads(A[span(0, 4), span(0, 2)])",
        "reads(A[span(0, 3), span(0, 2)])",
        "opaque: reads A outside the declared region at x = 3",
    ),
    ("writes(S[span(0, 4)])", "writes(S[span(1, 4)])", "opaque: writes S outside the declared region at x = 0"),
    ("writes(S[span(0, 4)])", "writes(A[span(0, 4), span(0, 1)])", "opaque: writes the input A"),
    ('block("opaque", opaque=True)', 'block("opaque")', "opaque: only an opaque block declares regions"),
    (
        "vk = reduce(12, k)",
        "vi = reduce(12, k)\n                            vk = reduce(1, 0)",
        'update: iter vars are identifiers and differ; "vi" does not',
    ),
    ("vp = spatial(20, p)", "vp = spatial(n, p)", None),
]


def test_what_the_tests_start_from_is_right() -> None:
    verify(parse_function(BASE))
    verify(parse_function(TILED))


@given(cases())
@settings(max_examples=60)
def test_random_functions_are_right(case: Case) -> None:
    verify(case.function)
    verify(parse_function(print_function(case.function)))


@pytest.mark.parametrize(("old", "new", "message"), TEXTS)
def test_corrupted_texts(old: str, new: str, message: str | None) -> None:
    assert old in BASE
    f = parse_function(BASE.replace(old, new, 1))
    if message is None:
        verify(f)
        return
    with pytest.raises(VerifyError) as e:
        verify(f)
    assert str(e.value) == message


def rebuilt(f: Function, name: str, **fields: object) -> Function:
    """The function with fields of one block or loop replaced."""
    place = find(f, name)
    return replace_at(f, place, replace(place.stmt, **fields))  # type: ignore[arg-type]


def with_body(*stmts: object) -> Function:
    """A function of one block over A: f32[4] (input), J: i64[4] (input), C: f32[4] and D: i64[4] (outputs)."""
    shape = (index(4),)
    buffers = (
        Buffer("A", dt.f32, shape),
        Buffer("J", dt.i64, shape),
        Buffer("C", dt.f32, shape),
        Buffer("D", dt.i64, shape),
    )
    i, v = loop_var("i", 4), loop_var("v", 4)
    writes = (Store("C", (v,), const(dt.f32, 0)), Store("D", (v,), const(dt.i64, 0)))
    first = For(i, "serial", Block("zero", (IterVar(v, "spatial"),), (i,), seq(*writes)))
    block = Block("b", (), (), seq(*stmts))  # type: ignore[arg-type]
    return Function("f", (), buffers, ("A", "J"), ("C", "D"), seq(first, block))


ONE, ZERO = const(dt.f32, 1), index(0)
X, Y = Var("x", dt.f32, None), Var("y", dt.f32, None)
TARGET = Load("C", dt.f32, (ZERO,))
SUM = named_reducer("sum", dt.f32)
BAD = Binary("add", ONE, ZERO)

OBJECTS = {
    "store dtype": (Store("C", (ZERO,), ZERO), "b: stores i64 into C, which holds f32"),
    "index dtype": (Store("C", (ONE,), ONE), "b: an index of C is f32, not i64"),
    "load dtype": (Store("D", (ZERO,), Load("A", dt.i64, (ZERO,))), "b: loads i64 from A, which holds f32"),
    "load index dtype": (Store("C", (ZERO,), Load("A", dt.f32, (ONE,))), "b: an index of A is f32, not i64"),
    "unknown buffer": (Store("X", (ZERO,), ONE), "b: X is not declared as a buffer"),
    "unknown load": (Store("C", (ZERO,), Load("X", dt.f32, ())), "b: X is not declared as a buffer"),
    "outer loop": (
        Store("D", (ZERO,), loop_var("i", 4)),
        "b: the value i names i, not known here; a body names iter vars: bind one to the loop",
    ),
    "foreign variable": (Store("D", (ZERO,), loop_var("w", 4)), "b: the value w names w, not known here"),
    "operand types": (
        Store("C", (ZERO,), BAD),
        "b: the value is ill-typed: add takes operands of one type, not f32 and i64",
    ),
    "operand kind": (
        Store("D", (ZERO,), Unary("exp", ZERO)),
        "b: the value is ill-typed: exp takes floats, not i64",
    ),
    "unknown operation": (
        Store("D", (ZERO,), Unary("twist", ZERO)),
        "b: the value is ill-typed: there is no unary operation 'twist'",
    ),
    "select": (
        Store("C", (ZERO,), Select(ZERO, ONE, ONE)),
        "b: the value is ill-typed: select takes a bool and two sides of one type",
    ),
    "constant": (
        Store("C", (ZERO,), Cast(dt.f32, Const(dt.u8, 256))),
        "b: the value is ill-typed: 0x100 are not the bits of a u8",
    ),
    "update arity": (
        Update((TARGET,), SUM, (ONE, ONE)),
        "b: updates 1 targets with 2 values by a reducer of 1",
    ),
    "update dtype": (
        Update((TARGET,), named_reducer("sum", dt.i64), (ZERO,)),
        "b: combines i64 by a i64 reducer in C, which holds f32",
    ),
    "update twice": (
        Update(
            (TARGET, TARGET),
            Reducer((X, Var("p", dt.f32, None)), (Y, Var("q", dt.f32, None)), (X, Y), (ONE, ONE)),
            (ONE, ONE),
        ),
        "b: updates one target twice",
    ),
    "reducer arity": (
        Update((TARGET,), Reducer((X,), (Y,), (X, Y), (ONE,)), (ONE,)),
        "b: a reducer has as many variables on each side as values and identities",
    ),
    "reducer names": (
        Update((TARGET,), Reducer((X,), (X,), (X,), (ONE,)), (ONE,)),
        "b: a reducer's variables are identifiers and differ",
    ),
    "reducer free variable": (
        Update((TARGET,), Reducer((X,), (Y,), (Var("z", dt.f32, None),), (ONE,)), (ONE,)),
        "b: the reducer z names z, not known here",
    ),
    "reducer types": (
        Update((TARGET,), Reducer((X,), (Y,), (ZERO,), (ONE,)), (ONE,)),
        "b: a reducer's variables and values have its identity's type, f32",
    ),
    "nested seq": (Seq((Seq((Commit("q"), Commit("q"))), Commit("q"))), None),
    "queue": (Commit(""), "b: a queue's name is empty"),
    "pending": (Wait("q", -1), "b: waits until -1 groups are pending"),
    "region": (
        Intrinsic("x", (Region("C", ((ONE, index(4)),)),), ()),
        "b: a region of C has a f32 bound",
    ),
    "region of an input": (Intrinsic("x", (Region("A", ((ZERO, index(4)),)),), ()), "b: writes the input A"),
}


@pytest.mark.parametrize("what", OBJECTS)
def test_corrupted_statements(what: str) -> None:
    stmt, message = OBJECTS[what]
    verify(with_body(Store("C", (ZERO,), ONE)))
    f = with_body(stmt)
    if message is None:
        f = replace(f, body=Seq((Seq((f.body.stmts[0], Commit("q"))), f.body)))  # type: ignore[union-attr]
        message = "f: a Seq holds one statement or another Seq; build it with seq()"
    with pytest.raises(VerifyError) as e:
        verify(f)
    assert str(e.value) == message


def test_names_are_identifiers() -> None:
    f = parse_function(BASE)
    for bad in ("", "a b", "for", "é", "1a", "x'", "None"):
        loop = find_loop(f, "q")
        with pytest.raises(VerifyError):
            verify(rebuilt(f, "q", var=Var(bad, dt.i64, loop.var.extent)))
        with pytest.raises(VerifyError):
            verify(replace(f, name=bad))
        with pytest.raises(VerifyError):
            verify(replace(f, params=(*f.params, Var(bad, dt.i64, None))))
        with pytest.raises(VerifyError):
            verify(replace(f, buffers=(*f.buffers, Buffer(bad, dt.f32, ()))))


def test_corrupted_headers() -> None:
    f = parse_function(BASE)
    update, loop = find_block(f, "update"), find_loop(f, "p")
    fill = find_block(f, "fill")
    i = find_loop(f, "i").var
    it = update.iters[0]
    bad = [
        (rebuilt(f, "p", kind="sideways"), "p: unknown loop kind \"sideways\"; expected one of serial, parallel, "
         "vectorized, unrolled, blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z"),
        (rebuilt(f, "p", var=Var("p", dt.i64, None)), "p: a loop variable is i64 and has an extent"),
        (rebuilt(f, "p", var=Var("S", dt.i64, loop.var.extent)),
         "S: two of the parameters, buffers and loops are named S"),
        (rebuilt(f, "p", var=loop_var("p", Load("J", dt.i64, (ZERO,)))),
         "p: the extent J[0] loads from a buffer, which it may not"),
        (rebuilt(f, "p", var=loop_var("p", i)), "p: the extent i names i, not known here"),
        (rebuilt(f, "p", annotations=(("b", 1), ("a", 1))),
         "p: annotations are sorted by key and each key occurs once, not b, a"),
        (rebuilt(f, "p", annotations=(("a", float("nan")),)),
         "p: annotation a is nan; expected a finite number, a bool or a string"),
        (rebuilt(f, "fill", annotations=(("where", 1),)), "fill: \"where\" cannot be an annotation's key"),
        (rebuilt(f, "fill", annotations=(("a b", 1),)), "fill: \"a b\" cannot be an annotation's key"),
        (rebuilt(f, "update", iters=update.iters[1:]), "update: 4 iter vars and 5 bindings"),
        (rebuilt(f, "update", iters=(IterVar(it.var, "temporal"), *update.iters[1:])),  # type: ignore[arg-type]
         "update: vi has the unknown kind \"temporal\"; expected one of spatial, reduce, ordered"),
        (rebuilt(f, "update", iters=(IterVar(loop_var("i", 16), "spatial"), *update.iters[1:])),
         "update: iter var i is also the name of a loop, buffer or parameter"),
        (rebuilt(f, "update", bindings=(ONE, *update.bindings[1:])), "update: the binding of vi is f32, not i64"),
        (rebuilt(f, "fill", bindings=(it.var,)), "fill: the binding of vp vi names vi, not known here"),
        (rebuilt(f, "fill", bindings=(Load("J", dt.i64, (ZERO,)),)),
         "fill: the binding of vp J[0] loads from a buffer, which it may not"),
        (rebuilt(f, "fill", predicate=ZERO), "fill: the predicate is i64, not bool"),
        (rebuilt(f, "fill", predicate=Binary("lt", fill.iters[0].var, ZERO)),
         "fill: the predicate vp < 0 names vp, not known here"),
        (replace(f, outputs=("C", "D", "D")), "D: is an input or output twice"),
        (replace(f, outputs=("C", "A", "D")), "A: is an input or output twice"),
        (replace(f, outputs=("C", "D", "Z")), "Z: an input or output is not declared as a buffer"),
        (replace(f, outputs=("C", "D", "T")), "T: inputs and outputs have scope global"),
        (replace(f, inputs=("A", "B")), "gather: reads J, which no block writes"),
        (replace(f, params=(*f.params, *f.params)), "n: two of the parameters, buffers and loops are named n"),
        (replace(f, params=(Var("n", dt.i32, None),)), "n: a parameter is i64 and has no extent"),
        (replace(f, params=()), "D: an extent of the shape n names n, not known here"),
        (replace(f, buffers=f.buffers[:-1]), "fill: S is not declared as a buffer"),
        (replace(f, body=seq(f.body, Store("C", (ZERO, ZERO), ONE))),
         "base: stores, updates and intrinsics stand inside a block"),
        (replace(f, body=Seq((f.body,))), "base: a Seq holds one statement or another Seq; build it with seq()"),
    ]  # fmt: skip
    for k, (function, message) in enumerate(bad):
        with pytest.raises(VerifyError) as e:
            verify(function)
        assert str(e.value) == message, k


def test_depth_is_bounded() -> None:
    stmt = find_block(parse_function(EVERYTHING), "nothing")
    loops = [loop_var(f"i{k}", 1) for k in range(MAX_DEPTH - 1)]
    inner: Block | For = stmt
    for v in loops[:-1]:
        inner = For(v, "serial", inner)
    f = Function("f", (), (), (), (), inner)
    verify(f)
    verify(parse_function(print_function(f)))
    with pytest.raises(VerifyError) as e:
        verify(replace(f, body=For(loops[-1], "serial", inner)))
    assert str(e.value) == f"f: loops and blocks nest deeper than {MAX_DEPTH}"


def test_register_rules_wait_for_the_schedule_to_be_complete() -> None:
    f = parse_function(BASE.replace("for ii in unrolled(6)", "for ii in range(6)"))
    verify(f, scheduled=False)
    with pytest.raises(VerifyError):
        verify(f)


def test_a_long_body_is_verified() -> None:
    blocks = [Block(f"b{k}", (), (), Store("A", (index(k),), const(dt.f32, k))) for k in range(20_000)]
    verify(Function("f", (), (Buffer("A", dt.f32, (index(20_000),)),), (), ("A",), seq(*blocks)))


def test_what_never_runs_reads_nothing() -> None:
    source = """
@loop.function
def never(A: f32[0, 3], B: out(f32[0, 3])):
    for i in range({extent}):
        for j in range(3):
            with block("b"):
                vi = spatial({extent}, i)
                vj = spatial(3, j)
                B[vi, vj] = A[0, vj]
"""
    verify(parse_function(source.format(extent=0)))
    with pytest.raises(VerifyError, match=r"outside dimension 0, which is \[0, 0\)"):
        verify(parse_function(source.format(extent=1)))
