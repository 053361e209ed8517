"""What the verifier refuses, by whole messages, and what it lets through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tcompiler.errors import VerifyError
from tcompiler.ir import dtypes as dt
from tcompiler.ir.expr.grammar import Compute, Program, Scan, Scatter, Sort, Tensor
from tcompiler.ir.expr.text import parse_program
from tcompiler.ir.expr.verify import verify
from tcompiler.ir.scalar.grammar import (
    Binary,
    Const,
    Load,
    Reducer,
    Scalar,
    Select,
    Unary,
    Var,
    const,
    index,
    loop_var,
    parameter,
)
from tcompiler.ir.scalar.reducers import named_reducer
from tests.ir.expr.programs import EVERYTHING, convolution

N, EXTRA = parameter("n"), parameter("extra")
P, K = Var("i", dt.i64, N), loop_var("k", 6)
X = Tensor("x", dt.f32, (N, index(6)))
Y = Tensor("y", dt.f32, (N,))
READ = Load("x", dt.f32, (P, index(0)))
MAP = Compute((Y,), (P,), (), None, (READ,))
SUM = Compute((Y,), (P,), (K,), named_reducer("sum", dt.f32), (Load("x", dt.f32, (P, K)),))
SCATTER = Scatter(replace(X, name="y"), "x", (K,), (index(0), K), const(dt.f32, 1.0), None)
SORT = Sort((replace(X, name="y"), Tensor("z", dt.i64, X.shape)), "x", 0, False)
STATE = Tensor("h", dt.f32, (index(6),))
H0 = Tensor("h0", dt.f32, (index(6),))
STEP = Compute((Tensor("g", dt.f32, (index(6),)),), (K,), (), None, (Load("h", dt.f32, (K,)),))
T = Var("t", dt.i64, N)
SCAN = Scan((Tensor("y", dt.f32, (N, index(6))),), T, (STATE,), ("h0",), (STEP,), ("g",), (True,))


def program(*scopes: Compute | Scan | Scatter | Sort, outputs: tuple[str, ...] = ("y",)) -> Program:
    return Program("f", (N,), (X, H0), scopes, outputs)


@pytest.mark.parametrize("scope", [MAP, SUM, SCATTER, SORT, SCAN])
def test_the_ground_of_the_refusals_is_sound(scope: Compute) -> None:
    verify(program(scope))


@pytest.mark.parametrize("text", [EVERYTHING, convolution(groups=2, before=(1, 0), after=(2, 1))])
def test_sound_programs_pass(text: str) -> None:
    verify(parse_program(text))


def _value(value: Scalar) -> Program:
    return program(replace(MAP, values=(value,)))


def _reducer(change: Callable[[Reducer], Reducer]) -> Program:
    assert SUM.reducer is not None
    return program(replace(SUM, reducer=change(SUM.reducer)))


_ONE = Tensor("one", dt.f32, (N,))
_ALWAYS = Select(Binary("lt", P, index(100)), READ, const(dt.f32, 0.0))
CASES: dict[str, tuple[Program, str]] = {
    "program name": (replace(program(MAP), name="a b"), 'the program\'s name "a b" is not an identifier'),
    "parameter with extent": (
        replace(program(MAP), params=(N, loop_var("m", 3))),
        "f: parameter m is not a free i64",
    ),
    "parameter name": (
        replace(program(MAP), params=(N, parameter("if"))),
        'f: the parameter\'s name "if" is not an identifier',
    ),
    "parameters of one name": (replace(program(MAP), params=(N, N)), "f: two parameters have one name"),
    "input of a parameter's name": (replace(program(MAP), inputs=(X, replace(H0, name="n"))), "f: n is defined twice"),
    "tensor name": (
        program(replace(MAP, tensors=(replace(Y, name="y.1"),))),
        'y.1: the tensor\'s name "y.1" is not an identifier',
    ),
    "defined twice": (program(MAP, MAP), "y: y is defined twice"),
    "input defined again": (program(replace(MAP, tensors=(replace(Y, name="h0"),))), "h0: h0 is defined twice"),
    "output unknown": (
        program(MAP, outputs=("yy",)),
        "f: output yy is not defined, or only inside a scan; did you mean 'y'?",
    ),
    "output twice": (program(MAP, outputs=("y", "y")), "f: an output is returned twice"),
    "output inside a scan": (
        program(SCAN, outputs=("g",)),
        "f: output g is not defined, or only inside a scan; known here: x, h0, y",
    ),
    "no tensor": (program(replace(MAP, tensors=(), values=())), "a compute defines no tensor"),
    "values": (program(replace(MAP, values=(READ, READ))), "y: 1 tensors are defined by 2 values"),
    "reducer without axes": (program(replace(SUM, reduce_axes=())), "y: a reducer and reduce axes come together"),
    "axes without reducer": (program(replace(SUM, reducer=None)), "y: a reducer and reduce axes come together"),
    "axis without extent": (
        program(replace(MAP, axes=(parameter("i"),))),
        "y: axis i is not an i64 with an extent",
    ),
    "axis of i32": (
        program(replace(MAP, axes=(Var("i", dt.i32, N),))),
        "y: axis i is not an i64 with an extent",
    ),
    "axis name": (program(replace(MAP, axes=(Var("1", dt.i64, N),))), 'y: the axis\' name "1" is not an identifier'),
    "axis named as a parameter": (
        program(replace(MAP, axes=(Var("n", dt.i64, N),))),
        "y: axis n has the name of a tensor, a parameter or an axis around",
    ),
    "axis named as a tensor": (
        program(replace(MAP, axes=(Var("x", dt.i64, N),))),
        "y: axis x has the name of a tensor, a parameter or an axis around",
    ),
    "axes of one name": (
        program(replace(SUM, reduce_axes=(loop_var("i", 6),))),
        "y: two axes have one name",
    ),
    "extent over another parameter": (
        program(replace(MAP, axes=(Var("i", dt.i64, EXTRA),))),
        "y: extent extra of i names extra; extents are over constants and parameters",
    ),
    "extent of f32": (
        program(replace(MAP, axes=(Var("i", dt.i64, const(dt.f32, 3.0)),))),
        "y: extent f32(3.0) of i is f32, not i64",
    ),
    "extent below zero": (
        program(replace(MAP, axes=(loop_var("i", -1),))),
        "y: extent -1 of i is negative",
    ),
    "shape is not the axes": (
        program(replace(MAP, tensors=(replace(Y, shape=(N + 1,)),))),
        "y: y is f32[n + 1]; the extents of the axes are (n,)",
    ),
    "rank is not the axes": (
        program(replace(MAP, tensors=(replace(Y, shape=()),))),
        "y: y is f32[()]; the extents of the axes are (n,)",
    ),
    "value of another type": (_value(const(dt.f64, 0.0)), "y: y is f32, its value f64"),
    "free variable": (
        _value(Load("x", dt.f32, (loop_var("j", 2), index(0)))),
        "y: a value names j; it may name axes and parameters only",
    ),
    "unknown tensor": (
        _value(Load("xx", dt.f32, (P, P))),
        "y: xx is not defined before it is read; did you mean 'x'?",
    ),
    "reads itself": (
        _value(Load("y", dt.f32, (P,))),
        "y: y is not defined before it is read; known here: x, h0",
    ),
    "read before definition": (
        program(replace(MAP, tensors=(_ONE,), values=(Load("y", dt.f32, (P,)),)), MAP),
        "one: y is not defined before it is read; known here: x, h0",
    ),
    "rank of a read": (_value(Load("x", dt.f32, (P,))), "y: a value is ill-typed: x has 2 dimensions, not 1"),
    "type of a read": (
        _value(Load("x", dt.f64, (P, P))),
        "y: a value is ill-typed: x is f32, not f64",
    ),
    "index of f32": (
        _value(Load("x", dt.f32, (P, READ))),
        "y: a value is ill-typed: index x[i, 0] of x is f32, not i64",
    ),
    "operands": (
        _value(Binary("add", READ, const(dt.f64, 1.0))),
        "y: a value is ill-typed: add takes operands of one type, not f32 and f64",
    ),
    "operand": (_value(Unary("not", READ)), "y: a value is ill-typed: not takes bools or integers, not f32"),
    "select": (
        _value(Select(P, READ, const(dt.f64, 0.0))),
        "y: a value is ill-typed: select takes a bool and two sides of one type, not i64, f32 and f64",
    ),
    "bits": (
        _value(Const(dt.f32, 1 << 32)),
        "y: a value is ill-typed: 0x100000000 are not the bits of a f32",
    ),
    "read after the end": (
        _value(Load("x", dt.f32, (P, index(6)))),
        "y: index 6 of x is always outside dimension 1 of extent 6",
    ),
    "read before the start": (
        _value(Load("x", dt.f32, (P - N, index(0)))),
        "y: index i - n of x is always outside dimension 0 of extent n",
    ),
    "read outside under a guard": (
        _value(Select(Binary("ge", P, N - 1), Load("x", dt.f32, (P + 1, index(0))), const(dt.f32, 0.0))),
        "y: index i + 1 of x is always outside dimension 0 of extent n",
    ),
    "read outside where a guard does not hold": (
        _value(Select(Binary("lt", P, N - 3), const(dt.f32, 0.0), Load("x", dt.f32, (P + 3, index(0))))),
        "y: index i + 3 of x is always outside dimension 0 of extent n",
    ),
    "reducer arity": (
        program(replace(SUM, reducer=named_reducer("argmax", dt.f32, dt.i64))),
        "y: a reducer of 2 values combines 1",
    ),
    "reducer type": (
        program(replace(SUM, reducer=named_reducer("sum", dt.f64))),
        "y: value 0 of the reducer is f64 in a0; it combines f32",
    ),
    "reducer identity": (
        _reducer(lambda r: Reducer(r.lhs, r.rhs, r.combine, (index(0),))),
        "y: value 0 of the reducer is i64 in 0; it combines f32",
    ),
    "reducer variables": (
        _reducer(lambda r: Reducer(r.lhs, r.lhs, r.combine, r.identity)),
        "y: a reducer's variables are identifiers and differ",
    ),
    "reducer with extents": (
        _reducer(lambda r: Reducer((Var("p", dt.f32, index(3)),), r.rhs, r.combine, r.identity)),
        "y: a reducer's variables have no extents",
    ),
    "reducer reads": (
        _reducer(lambda r: Reducer(r.lhs, r.rhs, (Load("x", dt.f32, (index(0), index(0))),), r.identity)),
        "y: a reducer reads no tensor",
    ),
    "reducer names an axis": (
        _reducer(lambda r: Reducer(r.lhs, r.rhs, (Var("stranger", dt.f32, None),), r.identity)),
        "y: the reducer names stranger; it may name its variables only",
    ),
    "scan parts": (
        program(replace(SCAN, init=())),
        "y: a scan has one init, result and tensor per state, not 0, 1 and 1 for 1",
    ),
    "scan init": (program(replace(SCAN, init=("x",))), "y: h is f32[6], x is f32[n, 6]"),
    "scan init unknown": (
        program(replace(SCAN, init=("h9",))),
        "y: h9 is not defined before it is read; known here: x, h0",
    ),
    "scan result": (program(replace(SCAN, results=("x",))), "y: h is f32[6], x is f32[n, 6]"),
    "scan result unknown": (
        program(replace(SCAN, results=("q",))),
        "y: q is not defined before it is read; known here: x, h0, h, g",
    ),
    "scan stack": (
        program(replace(SCAN, tensors=(Tensor("y", dt.f32, (index(6),)),))),
        "y: y is f32[6], the stack of h is f32[n, 6]",
    ),
    "scan last": (
        program(replace(SCAN, collect=(False,))),
        "y: y is f32[n, 6], the last of h is f32[6]",
    ),
    "scan axis": (
        program(replace(SCAN, axis=parameter("t"))),
        "y: axis t is not an i64 with an extent",
    ),
    "extent over the scan's axis": (
        program(
            replace(
                SCAN,
                scopes=(
                    STEP,
                    Compute((Tensor("v", dt.f32, (T,)),), (Var("j", dt.i64, T),), (), None, (SUM.values[0],)),
                ),
            )
        ),
        "v: extent t of j names t; extents are over constants and parameters",
    ),
    "axis of the scan's name": (
        program(replace(SCAN, scopes=(replace(STEP, axes=(loop_var("t", 6),)),))),
        "g: axis t has the name of a tensor, a parameter or an axis around",
    ),
    "name of a tensor inside a scan": (
        program(SCAN, replace(MAP, tensors=(replace(Y, name="g"),))),
        "g: g is defined twice",
    ),
    "scatter base": (
        program(replace(SCATTER, base="h0")),
        "y: y is f32[n, 6], h0 is f32[6]",
    ),
    "scatter indices": (program(replace(SCATTER, indices=(K,))), "y: x has 2 dimensions, not 1"),
    "scatter index": (
        program(replace(SCATTER, indices=(index(0), const(dt.i32, 0)))),
        "y: index i32(0) is i32, not i64",
    ),
    "scatter value": (
        program(replace(SCATTER, value=const(dt.i32, 0))),
        "y: y is f32, its value i32",
    ),
    "scatter combiner": (
        program(replace(SCATTER, combiner=named_reducer("argmax", dt.f32, dt.i64))),
        "y: a reducer of 2 values combines 1",
    ),
    "sort axis": (program(replace(SORT, axis=2)), "y: axis 2 is not one of the 2 of x"),
    "sort keeps": (
        program(replace(SORT, tensors=tuple(replace(t, shape=(t.shape[0], index(7))) for t in SORT.tensors), axis=1)),
        "y: 7 elements of the 6 along axis 1 of x are kept",
    ),
    "sort values": (
        program(replace(SORT, tensors=(replace(SORT.tensors[0], dtype=dt.f64), SORT.tensors[1]))),
        "y: y is f64[n, 6], x is f32[n, 6]",
    ),
    "sort places": (
        program(replace(SORT, tensors=(SORT.tensors[0], replace(SORT.tensors[1], dtype=dt.i32)))),
        "y: z is i32[n, 6], the places of x is i64[n, 6]",
    ),
}
CASES["extent that reads"] = (
    replace(
        program(replace(MAP, axes=(Var("i", dt.i64, Load("k", dt.i64, ())),))),
        inputs=(X, H0, Tensor("k", dt.i64, ())),
    ),
    "y: extent k[()] of i reads a tensor; extents are over constants and parameters",
)


@pytest.mark.parametrize("what", CASES)
def test_refusals(what: str) -> None:
    broken, message = CASES[what]
    with pytest.raises(VerifyError) as caught:
        verify(broken)
    assert str(caught.value) == message


_PASSES = """@expr.program
def f(n: i64, x: f32[n], e: f32[0], at: i64[n]):
    y = compute(f32[n], lambda i: {})
    return y
"""


@pytest.mark.parametrize(
    "value",
    [
        # perhaps in range
        "x[i + 1]",
        "x[at[i]]",
        # never chosen
        "select(i < 0, x[i - 5], x[i])",
        "select(i < n, x[i], e[i])",
        "select(i < 2, select(i >= 2, x[i - n], x[i]), x[i])",
        # in range thanks to a guard
        "select((i >= 1) & (i < n), x[i - 1], f32(0.0))",
        "select(i < 0, e[i], x[i])",
        # shared, and in range on one of the ways to it
        "select(i < 3, x[i + n - 3], f32(0.0)) + x[i + n - 3]",
    ],
)
def test_reads_that_pass(value: str) -> None:
    verify(parse_program(_PASSES.format(value)))


def test_an_empty_box_reads_nothing() -> None:
    empty = loop_var("i", 0)
    scope = Compute((Tensor("y", dt.f32, (index(0),)),), (empty,), (), None, (Load("h0", dt.f32, (index(9),)),))
    verify(program(scope))


def test_sibling_scans_may_share_an_axis_and_not_their_tensors() -> None:
    again = replace(SCAN, tensors=(Tensor("y2", dt.f32, (N, index(6))),))
    with pytest.raises(VerifyError) as caught:
        verify(program(SCAN, again))
    assert str(caught.value) == "y2: h is defined twice"
    state, step = replace(STATE, name="h2"), Tensor("g2", dt.f32, (index(6),))
    inner = Compute((step,), (K,), (), None, (Load("h2", dt.f32, (K,)),))
    verify(program(SCAN, replace(again, states=(state,), scopes=(inner,), results=("g2",))))


def test_long_programs_and_many_guards_are_quick() -> None:
    i = Var("i", dt.i64, index(4000))
    value: Scalar = const(dt.f32, 0.0)
    inputs = []
    for k in reversed(range(400)):
        part = Tensor(f"p{k}", dt.f32, (index(10),))
        inputs.append(part)
        value = Select(Binary("lt", i, index(10 * k + 10)), Load(part.name, dt.f32, (i - 10 * k,)), value)
    y = Compute((Tensor("y", dt.f32, (index(4000),)),), (i,), (), None, (value,))
    copies = [
        Compute((Tensor(f"c{k}", dt.f32, (index(4000),)),), (i,), (), None, (Load("y", dt.f32, (i,)),))
        for k in range(2000)
    ]
    verify(Program("f", (), tuple(inputs), (y, *copies), ("y",)))
