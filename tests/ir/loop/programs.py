"""Loop functions that the tests share: hand-written ones that hold every construct, and a strategy for random ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tcompiler.ir import dtypes as dt
from tcompiler.ir.dtypes import DType
from tcompiler.ir.loop.grammar import (
    Block,
    Buffer,
    For,
    Function,
    IterVar,
    Stmt,
    Store,
    Update,
    seq,
)
from tcompiler.ir.scalar.grammar import (
    TRUE,
    Binary,
    Cast,
    Load,
    Reducer,
    Scalar,
    Select,
    Unary,
    Var,
    as_int,
    conjunction,
    const,
    index,
    less,
    loop_var,
    maximum,
    minimum,
    parameter,
)
from tcompiler.ir.scalar.reducers import named_reducer

EVERYTHING = """@loop.function
def everything(n: i64, A: f32[64, n], B: buffer(f32[n, 16], strides=(20, 1)), J: i64[()], C: out(f32[64, 16]), \
D: out(i64[64], strides=(2,))):
    T = alloc(f32[6, 16], scope="register")
    S = alloc(f32[64, 16], strides=(16, 1))
    for i in parallel(64):
        for j in vectorized(16, flag=True, pragma=1, scale=-0.5, text="a\\"b\\n"):
            for k in thread("threadIdx.x", n):
                with block("C_update\\n", where=i < 60, unit=2.0):
                    vi = spatial(64, i)
                    vj = spatial(16, j)
                    vk = reduce(n, k)
                    with init():
                        C[vi, vj] = f32(0.0)
                    C[vi, vj] += A[vi, vk] * B[vk, vj] + cast(f32, J[()])
    for i1 in range(64):
        for k1 in range(16):
            with block("arg"):
                vi = spatial(64, i1)
                vk = reduce(16, k1)
                with init():
                    S[vi, 0] = f32(-inf)
                    D[vi] = 9223372036854775807
                S[vi, 0], D[vi] = argmax.update(C[vi, vk], vk)
    with block("inner loops"):
        for q in unrolled(6):
            T[q, 0] = reducer(lambda a, b: (b,), (f32(0.0),)).update(f32(nan))
            T[q, 0] = max.update(f32.bits(0x7fc00001))
    with block("copy", opaque=True):
        vo = ordered(4, 3)
        reads(A[span(0, 4), span(vo, 1)], J[()])
        writes(C[span(0, 4), span(0, 3)])
        intrinsic("copy", writes=(C[span(0, 4), span(0, 3)],), reads=(A[span(0, 4), span(vo, 1)],), args=(3,), \
queue="q")
        commit("q")
        wait("q", 0)
        with block("nothing"):
            pass
"""

TILED = """@loop.function
def tiled(A: f32[16, 12], B: f32[12, 8], C: out(f32[16, 8])):
    T = alloc(f32[6, 4], scope="register")
    for i0 in parallel(3):
        for j0 in range(2):
            for ii in unrolled(6):
                for jj in vectorized(4):
                    with block("zero", where=i0 * 6 + ii < 16):
                        vi = spatial(6, ii)
                        vj = spatial(4, jj)
                        T[vi, vj] = f32(0.0)
            for k in range(12):
                for i1 in unrolled(6):
                    for j1 in vectorized(4):
                        with block("update", where=i0 * 6 + i1 < 16):
                            vi = spatial(16, i0 * 6 + i1)
                            vj = spatial(8, j0 * 4 + j1)
                            vk = reduce(12, k)
                            ti = spatial(6, i1)
                            tj = spatial(4, j1)
                            T[ti, tj] += A[vi, vk] * B[vk, vj]
            for i2 in unrolled(6):
                for j2 in vectorized(4):
                    with block("write", where=i0 * 6 + i2 < 16):
                        vi = spatial(16, i0 * 6 + i2)
                        vj = spatial(8, j0 * 4 + j2)
                        ti = spatial(6, i2)
                        tj = spatial(4, j2)
                        C[vi, vj] = max(T[ti, tj], f32(0.0))
"""


@dataclass(frozen=True)
class Case:
    """A function with arguments that it can be run on."""

    function: Function
    inputs: dict[str, np.ndarray[Any, Any]]
    params: dict[str, int]


_DTYPES = (dt.f32, dt.f64, dt.i32, dt.i64, dt.u8, dt.bool_, dt.f16)
Draw = Callable[..., Any]


def numbers(dtype: DType, shape: tuple[int, ...], seed: int) -> np.ndarray[Any, Any]:
    """Small numbers whose sums and products of a few are exact in every type."""
    rng = np.random.default_rng(seed)
    if dtype.kind == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    low = 0 if dtype.kind == "uint" else -3
    return rng.integers(low, 4, shape).astype(dtype.numpy)


class _Builder:
    """Builds a function of one to three nests; valid by construction."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.n = parameter("n")
        self.value = draw(st.integers(1, 4))
        self.buffers: list[Buffer] = []
        self.inputs: dict[str, np.ndarray[Any, Any]] = {}
        self.count = 0

    def int(self, low: int, high: int) -> int:
        return int(self.draw(st.integers(low, high)))

    def pick(self, *options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    def fresh(self, base: str) -> str:
        self.count += 1
        return f"{base}{self.count}"

    def extent(self) -> Scalar:
        return self.pick(index(1), index(2), index(3), index(5), self.n)

    def size(self, extent: Scalar) -> int:
        return self.value if isinstance(extent, Var) else int(extent.value)  # type: ignore[attr-defined]

    def shape(self, rank: int) -> tuple[Scalar, ...]:
        return tuple(self.extent() for _ in range(rank))

    def input(self, dtype: DType) -> Buffer:
        shape = self.shape(self.int(0, 2))
        strides = None
        if self.int(0, 4) == 0:
            strides = tuple(index(100 if k == 0 else 7) for k in range(len(shape)))
        b = Buffer(self.fresh("A"), dtype, shape, strides)
        self.buffers.append(b)
        self.inputs[b.name] = numbers(dtype, tuple(map(self.size, shape)), self.int(0, 99))
        return b

    def clamped(self, node: Scalar, extent: Scalar) -> Scalar:
        if self.int(0, 1):
            return Binary("floormod", node, extent)
        return minimum(maximum(node, 0), extent - 1)

    def load(self, dtype: DType, iters: list[Var], readable: list[Buffer], depth: int) -> Scalar:
        options = [b for b in readable if b.dtype is dtype]
        b = self.pick(*options) if options and self.int(0, 3) else self.input(dtype)
        indices: list[Scalar] = []
        for extent in b.shape:
            candidates = [v for v in iters if v.extent is extent]
            if candidates and self.int(0, 3):
                indices.append(self.pick(*candidates))
                continue
            raw: Scalar = index(self.int(-2, 6))
            if iters:
                raw = raw + self.pick(*iters) * self.int(-2, 2)
            if depth and self.int(0, 5) == 0:
                raw = raw + self.load(dt.i64, iters, readable, 0)
            indices.append(self.clamped(raw, extent))
        return Load(b.name, dtype, tuple(indices))

    def expression(self, dtype: DType, iters: list[Var], readable: list[Buffer], depth: int) -> Scalar:
        choice = self.int(0, 7) if depth else self.int(0, 2)
        sub = depth - 1

        def more(d: DType) -> Scalar:
            return self.expression(d, iters, readable, sub)

        if choice == 0:
            return const(dtype, self.int(0, 2))
        if choice <= 2:
            return self.load(dtype, iters, readable, depth)
        if choice == 3:
            source = self.pick(*_DTYPES)
            if source is dtype and source is dt.i64 and iters:
                return self.pick(*iters)
            return Cast(dtype, more(source)) if source is not dtype else more(dtype)
        if choice == 4:
            other = self.pick(dt.f64, dt.i32, dt.u8)
            condition = Binary(self.pick("lt", "le", "eq", "ne", "gt", "ge"), more(other), more(other))
            return Select(condition, more(dtype), more(dtype))
        if dtype.kind == "bool":
            return Binary(self.pick("and", "or", "xor", "eq"), more(dtype), more(dtype))
        if choice == 5:
            return Unary(self.pick("neg", "abs"), more(dtype))
        return Binary(self.pick("add", "sub", "mul", "mul", "min", "max"), more(dtype), more(dtype))

    def loops(self, iters: list[IterVar]) -> tuple[list[For], list[Scalar], Scalar]:
        """Loops (bodies to be filled in) that cover the iter vars, the bindings, and the predicate."""
        found: list[For] = []
        bindings: list[Scalar] = []
        predicate: Scalar = TRUE

        def loop(extent: Scalar, spatial: bool) -> Var:
            var = loop_var(self.fresh("i"), extent)
            kinds = ["serial"]
            if spatial:
                kinds.append("parallel")
            if as_int(extent) is not None:
                kinds.append("unrolled")
                if spatial:
                    kinds.append("vectorized")
            kind = self.pick(*kinds)
            note = (("hint", self.int(0, 3)),) if self.int(0, 5) == 0 else ()
            found.append(For(var, kind, seq(), note))
            return var

        k = 0
        while k < len(iters):
            it = iters[k]
            extent = it.var.extent
            assert extent is not None
            spatial = it.kind == "spatial"
            choice = self.int(0, 3)
            if choice == 0 and k + 1 < len(iters) and iters[k + 1].var.extent is not None:
                second = iters[k + 1].var.extent
                assert second is not None
                both = spatial and iters[k + 1].kind == "spatial"
                fused = loop(extent * second, both)
                bindings += [Binary("floordiv", fused, second), Binary("floormod", fused, second)]
                k += 2
                continue
            if choice == 1 and not isinstance(extent, Var):
                factor = self.int(2, 3)
                size = self.size(extent)
                outer = loop(index(-(-size // factor)), spatial)
                inner = loop(index(factor), spatial)
                bindings.append(outer * factor + inner)
                if size % factor:
                    predicate = conjunction(predicate, less(bindings[-1], size))
            else:
                bindings.append(loop(extent, spatial))
            k += 1
        order = self.draw(st.permutations(range(len(found))))
        return [found[k] for k in order], bindings, predicate

    def nest(self, iters: list[IterVar], init: Stmt | None, body: Stmt) -> Stmt:
        loops, bindings, predicate = self.loops(iters)
        stmt: Stmt = Block(self.fresh("b"), tuple(iters), tuple(bindings), body, predicate, init)
        for loop in reversed(loops):
            stmt = For(loop.var, loop.kind, stmt, loop.annotations)
        return stmt

    def stage(self, readable: list[Buffer]) -> Stmt:
        """One nest that defines a new buffer."""
        shape = self.shape(self.int(0, 2))
        spatial = [IterVar(loop_var(f"v{k}", e), "spatial") for k, e in enumerate(shape)]
        names = [it.var for it in spatial]
        kind = self.int(0, 5)
        if kind <= 2:
            dtype = self.pick(*_DTYPES)
            b = Buffer(self.fresh("T"), dtype, shape)
            value = self.expression(dtype, names, readable, 2)
            self.buffers.append(b)
            return self.nest(spatial, None, Store(b.name, tuple(names), value))
        reduce = [IterVar(loop_var(f"r{k}", self.extent()), "reduce") for k in range(self.int(1, 2))]
        every = [*names, *(it.var for it in reduce)]
        if kind == 3:
            return self.arg(readable, shape, spatial, reduce)
        dtype = self.pick(*_DTYPES)
        reducer = self.reducer(dtype)
        at: tuple[Scalar, ...] = tuple(names)
        if kind == 5 and shape:
            # a scatter: where the update goes depends on the reduction
            at = (self.clamped(self.load(dt.i64, every, readable, 0), shape[0]), *names[1:])
        value = self.expression(dtype, every, readable, 2)
        b = Buffer(self.fresh("T"), dtype, shape)
        self.buffers.append(b)
        update = Update((Load(b.name, dtype, at),), reducer, (value,))
        if at == tuple(names):
            return self.nest(spatial + reduce, Store(b.name, at, reducer.identity[0]), update)
        zero = self.nest(spatial, None, Store(b.name, tuple(names), reducer.identity[0]))
        # the first index is the reduction's now
        moved = [IterVar(spatial[0].var, "reduce"), *spatial[1:]]
        return seq(zero, self.nest(moved + reduce, None, update))

    def arg(
        self, readable: list[Buffer], shape: tuple[Scalar, ...], spatial: list[IterVar], reduce: list[IterVar]
    ) -> Stmt:
        dtype = self.pick(dt.f32, dt.i32, dt.u8)
        names = tuple(it.var for it in spatial)
        every = [*names, *(it.var for it in reduce)]
        reducer = named_reducer(self.pick("argmin", "argmax"), dtype, dt.i64)
        values = (self.expression(dtype, every, readable, 1), reduce[0].var)
        value, place = Buffer(self.fresh("T"), dtype, shape), Buffer(self.fresh("T"), dt.i64, shape)
        self.buffers += [value, place]
        targets = (Load(value.name, dtype, names), Load(place.name, dt.i64, names))
        init = seq(
            Store(value.name, names, reducer.identity[0]),
            Store(place.name, names, reducer.identity[1]),
        )
        return self.nest(spatial + reduce, init, Update(targets, reducer, values))

    def reducer(self, dtype: DType) -> Reducer:
        if dtype.kind == "bool":
            return named_reducer(self.pick("any", "all"), dtype)
        choice = self.int(0, 4)
        if choice < 4:
            return named_reducer(("sum", "sum", "max", "min")[choice], dtype)
        a, b = Var("x", dtype, None), Var("y", dtype, None)
        larger = Select(Binary("lt", a, b), b, a)
        return Reducer((a,), (b,), (larger,), named_reducer("max", dtype).identity)

    def build(self) -> Case:
        body: list[Stmt] = []
        made: list[Buffer] = []
        for _ in range(self.int(1, 3)):
            before = len(self.buffers)
            body.append(self.stage(made))
            made += [b for b in self.buffers[before:] if b.name not in self.inputs]
        outputs = [b.name for b in made if self.int(0, 2)] or [made[-1].name]
        function = Function("random", (self.n,), tuple(self.buffers), tuple(self.inputs), tuple(outputs), seq(*body))
        return Case(function, self.inputs, {"n": self.value})


@st.composite
def cases(draw: Draw) -> Case:
    """Functions with one to three nests: elementwise, reductions, arg-reductions, scatters; split and fused loops."""
    return _Builder(draw).build()
