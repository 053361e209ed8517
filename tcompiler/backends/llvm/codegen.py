"""Scheduled loop functions as LLVM IR text.

The structure is taken as it stands: loops become loops, unrolled loops are expanded here, a vectorized loop becomes
vectors, register buffers become SSA values (phis at the loops that change them), the body of a parallel loop becomes a
function of its own. No LLVM pass is needed for speed. Text is emitted, as it is ten times faster than a builder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from itertools import accumulate
from typing import assert_never

from tcompiler.backends.llvm import instructions
from tcompiler.backends.llvm.addresses import constant, constant_strides
from tcompiler.backends.llvm.code import KernelCode
from tcompiler.backends.llvm.linear import Linear
from tcompiler.backends.llvm.registers import Lazy, OpenLoop, Place, forced, merge_places
from tcompiler.backends.llvm.shares import WORD_BYTES, declarations, reset_shares, take_shares
from tcompiler.backends.llvm.ssa import Value, next_power, value_type
from tcompiler.backends.llvm.tiles import Tiles
from tcompiler.backends.llvm.writer import Writer
from tcompiler.errors import CompileError
from tcompiler.ir import dtypes as dt
from tcompiler.ir.loop.analysis import touched
from tcompiler.ir.loop.grammar import (
    Block,
    Buffer,
    Commit,
    For,
    Function,
    Intrinsic,
    Seq,
    Stmt,
    Store,
    Update,
    Wait,
    buffer_table,
    children,
    walk,
)
from tcompiler.ir.loop.intrinsics import PREFETCH
from tcompiler.ir.loop.teams import teams
from tcompiler.ir.scalar.grammar import FALSE, TRUE, Binary, Scalar, Var, conjunction, conjuncts, index
from tcompiler.ir.scalar.rewrite import free_vars
from tcompiler.target.target import Target

ALIGNMENT = 64
"""Bytes to which buffers in the scratch area and the workspace are aligned."""


def generate(function: Function, target: Target, symbol: str) -> KernelCode:
    """Generates the code of a scheduled function.

    Args:
        function: A verified function with constant extents.
        target: The machine to generate for.
        symbol: Name of the kernel in the object code.

    Raises:
        CompileError: If the function uses what no code is generated for (a symbolic extent, a GPU loop kind).
    """
    return _Kernel(function, target, symbol).run()


def buffer_bytes(buffer: Buffer) -> int:
    """Bytes that a buffer spans in memory."""
    shape = [constant(s) for s in buffer.shape]
    if 0 in shape:
        return 0
    last = sum((extent - 1) * stride for extent, stride in zip(shape, constant_strides(buffer), strict=True))
    return (last + 1) * buffer.dtype.bytes


class _Kernel(Tiles):
    """Emits one function."""

    def __init__(self, function: Function, target: Target, symbol: str) -> None:
        super().__init__(target, buffer_table(function))
        self.function = function
        self.symbol = symbol
        self.bodies: list[str] = []
        self.in_parallel = False
        self.scratch: dict[str, int] = {}
        self.scratch_bytes = 0
        self.shares = -1  # where the scratch area has what is taken of a parallel loop, if there is one
        self.passed: tuple[str, ...] = ()
        self._written_cache: dict[int, frozenset[str]] = {}
        self.granted: frozenset[Scalar] = frozenset()

    def run(self) -> KernelCode:
        """Generates the module."""
        f = self.function
        if f.params:
            raise CompileError(
                f"kernel {f.name} has symbolic parameters ({', '.join(p.name for p in f.params)}): "
                "code is generated for constant extents; give the model's dimensions as integers"
            )
        outside = {*f.inputs, *f.outputs}
        given, private = _given_and_private(f.body)
        shared = [b for b in f.buffers if b.name not in outside and (b.scope == "global" or b.name in given)]
        self.passed = (*f.inputs, *f.outputs, *(b.name for b in shared))
        for b in shared:
            self.buffers[b.name] = replace(b, scope="global")
        for b in f.buffers:
            own = b.name not in self.passed or (b.scope != "global" and b.name in private)
            if own and b.scope != "register":
                self.scratch[b.name] = self.scratch_bytes
                self.scratch_bytes += -(-buffer_bytes(b) // ALIGNMENT) * ALIGNMENT
        written = _written(f.body)
        self.read_only = frozenset(n for n in self.buffers if n not in written)
        for k, name in enumerate(self.passed):
            self.pointers[name] = f"%p{k}"
        self._scratch_pointers("0", frozenset())
        self.statement(f.body)
        parameters = ", ".join(f"ptr noalias %p{k}" for k in range(len(self.passed)))
        signature = f"ptr %ctx{', ' if parameters else ''}{parameters}"
        inner = _function(f"define internal void @{self.symbol}.body({signature}) #0", self.w)
        text = "\n".join(
            [
                self._entry(),
                inner,
                *self.bodies,
                *(ir for _, ir in sorted(self.math_functions.items())),
                *sorted(self.declarations),
                f'attributes #0 = {{ nounwind "no-trapping-math"="true" "target-cpu"="{self.target.cpu}" }}',
                "",
            ]
        )
        return KernelCode(
            self.symbol,
            text,
            self.passed,
            tuple(buffer_bytes(b) for b in shared),
            self.scratch_bytes,
            "always-inline" if self.math_functions else "",
        )

    def _entry(self) -> str:
        lines = [f"define void @{self.symbol}(ptr %ctx, ptr %buffers, ptr %scalars) #0 {{", "entry:"]
        for k in range(len(self.passed)):
            lines.append(f"  %a{k} = getelementptr ptr, ptr %buffers, i64 {k}")
            lines.append(f"  %p{k} = load ptr, ptr %a{k}, align 8")
        arguments = "".join(f", ptr %p{k}" for k in range(len(self.passed)))
        lines += [f"  call void @{self.symbol}.body(ptr %ctx{arguments})", "  ret void", "}"]
        return "\n".join(lines)

    def _scratch_pointers(self, thread: str, written: Set[str]) -> None:
        """Computes this thread's scratch buffers at the function's entry.

        Args:
            thread: Its number.
            written: What the function writes, which of a buffer that other threads are given elsewhere is its own.
        """
        scratch = {n: offset for n, offset in self.scratch.items() if n not in self.passed or n in written}
        if not scratch:
            return
        w = self.w
        place = w.instruction("getelementptr i8, ptr %ctx, i64 16", 0)
        base = w.effect(f"load ptr, ptr {place}, align 8")
        if thread != "0":
            stride_place = w.instruction("getelementptr i8, ptr %ctx, i64 24", 0)
            stride = w.effect(f"load i64, ptr {stride_place}, align 8")
            shift = w.effect(f"mul i64 {stride}, {thread}")
            base = w.effect(f"getelementptr i8, ptr {base}, i64 {shift}")
        for name, offset in scratch.items():
            self.pointers[name] = w.effect(f"getelementptr i8, ptr {base}, i64 {offset}")

    # -- statements ------------------------------------------------------------------------------------------------

    def statement(self, s: Stmt) -> None:
        """Emits a statement."""
        match s:
            case Seq(stmts=stmts):
                for team in teams(self.function, stmts):
                    if len(team) > 1 and not self.in_parallel and self.lane is None:
                        self._parallel([x for x in team if isinstance(x, For)])
                    else:
                        for x in team:
                            self.statement(x)
            case For():
                self._for(s)
            case Block():
                self._block(s)
            case Store(buffer=buffer, indices=indices, value=value):
                self.store(buffer, indices, self.root(value))
            case Update():
                self._update(s)
            case Intrinsic():
                instructions.emit(self, s)
            case Commit() | Wait():
                return  # every intrinsic here is synchronous
            case _:
                assert_never(s)

    def _for(self, s: For) -> None:
        extent = constant(s.var.extent)
        match s.kind:
            case "unrolled":
                self._unrolled(s, extent)
            case "vectorized":
                self._vectorized(s, extent)
            case "parallel" if not self.in_parallel and self.lane is None and extent != 1:
                self._parallel([s])
            case "serial" | "parallel":
                self._serial(s)
            case _:
                raise CompileError(f"loop {s.var.name} is bound to {s.kind}, which a CPU does not have")

    def _unrolled(self, s: For, extent: int) -> None:
        tile, target = self.transposed(s), self.woven(s)
        if target is not None:
            self.kept = []
        for k in range(extent):
            self.env[s.var] = Linear(k, {})
            if tile is not None:
                self.given = tile[k]
            self.statement(s.body)
            if isinstance(s.body, Seq):
                # what one round's nests read would stay in registers until the next round's read it
                self.w.forget_loads(self.buffers)
        if tile is not None:
            self.given = {}
        self.env.pop(s.var, None)
        if target is not None and self.kept is not None:
            streams, self.kept = self.kept, None
            inner = s.body
            assert isinstance(inner, For)
            self.write_streams(*target, streams, constant(inner.var.extent))

    def _vectorized(self, s: For, extent: int) -> None:
        if self.lane is not None:
            sizes = [1] * extent  # a vector loop inside another: lanes of the inner one follow each other
        elif self.given or self.kept is not None:
            sizes = [extent] if extent else []  # a tile's values are one vector each
        else:
            sizes = _vectors(extent, self.target.vector_lanes(32))
        start = 0
        for size in sizes:
            if size == 1:
                self.env[s.var] = Linear(start, {})
                self.statement(s.body)
            else:
                self._lanes(s, start, size)
            self.env.pop(s.var, None)
            start += size

    def _lanes(self, s: For, start: int, size: int) -> None:
        """Emits some iterations of a vectorized loop as the lanes of vectors."""
        self.lane, self.lanes = s.var, next_power(size)
        if size != constant(s.var.extent):
            self.lane = Var(s.var.name, s.var.dtype, index(size))
            self.env[s.var] = Linear(start, {self.lane: 1})
        lane = self.lane
        self.loop_values[lane] = ("", 0)
        self.statement(s.body)
        self.lane, self.lanes = None, 0
        del self.loop_values[lane]

    def _serial(self, s: For) -> None:
        extent = constant(s.var.extent)
        if extent == 0:
            return
        if extent == 1:
            self.env[s.var] = Linear(0, {})
            self._asked_once(s.body)
            del self.env[s.var]
            return
        self._range(s.var, "0", str(extent), lambda: self._asked_once(s.body), self._writes(s.body))

    def _asked_once(self, body: Stmt) -> None:
        """Emits what a loop runs; what all of its blocks ask, whatever loops inside do, is asked before."""
        common = _common(body) - self.granted
        if not common:
            self.statement(body)
            return
        outer = self.granted
        self.granted |= common
        condition = self._condition(conjunction(*sorted(common, key=str)))
        self._where(condition, lambda: self.statement(body), self._writes(body))
        self.granted = outer

    def _range(self, var: Var, start: str, stop: str, body: Callable[[], None], written: frozenset[str]) -> None:
        """A loop from start to stop, at least one iteration; registers that it writes are carried by phis."""
        w = self.w
        head, done = w.fresh_label("loop"), w.fresh_label("done")
        induction, following = w.fresh("i"), w.fresh("n")
        depth = w.depth

        def outside(x: Lazy) -> Value:
            with w.at(depth):
                return forced(x)

        loop = OpenLoop(lambda: w.fresh("r"), outside)
        registers = [n for n in sorted(written) if self.buffers[n].scope == "register"]
        self.registers.enter(loop, registers)
        # what an iteration wrote must be read again in the next
        with w.level("loop", head) as level:
            w.forget_loads(written)
            self.loop_values[var] = (induction, w.depth)
            body()
            last: dict[Place, Value] = {}
            while len(last) < len(loop.phis):
                # a value at the end may be one at the start, which then is carried too
                for place in [p for p in loop.phis if p not in last]:
                    last[place] = self.elements(place)
            latch, lines = level.label, level.lines
        del self.loop_values[var]
        self.registers.leave(loop, registers)
        before = w.top.label
        w.line(f"br label %{head}")
        w.top.lines.append(f"{head}:")
        w.line(f"{induction} = phi i64 [ {start}, %{before} ], [ {following}, %{latch} ]")
        for place, (phi, initial) in loop.phis.items():
            w.line(f"{phi.ssa} = phi {phi.type} [ {initial.ssa}, %{before} ], [ {last[place].ssa}, %{latch} ]")
        w.top.lines.extend(lines)
        w.line(f"{following} = add nuw nsw i64 {induction}, 1")
        test = w.fresh()
        w.line(f"{test} = icmp eq i64 {following}, {stop}")
        w.line(f"br i1 {test}, label %{done}, label %{head}")
        w.label(done)

    def _writes(self, s: Stmt) -> frozenset[str]:
        known = self._written_cache.get(id(s))
        if known is None:
            known = _written(s)
            self._written_cache[id(s)] = known
        return known

    def _if(self, condition: Value, body: Callable[[], None], written: frozenset[str], merge: bool = True) -> None:
        """Code that runs only where a uniform condition holds.

        Args:
            condition: A scalar bool.
            body: Emits the code.
            written: Buffers that it writes.
            merge: Whether registers that it writes are read behind it.
        """
        w = self.w
        then, done = w.fresh_label("then"), w.fresh_label("done")
        registers = [n for n in sorted(written) if merge and self.buffers[n].scope == "register"]
        before = self.registers.snapshot()
        with w.level("branch", then) as level:
            body()
            places = [p for n in registers for p in merge_places(before.get(n, {}), self.registers.runs.get(n, {}), n)]
            inside = [self.elements(p) for p in places]
            last, lines = level.label, level.lines
        self.registers.restore(before)
        others = [self.elements(p) for p in places]
        before_label = w.top.label
        w.line(f"br i1 {condition.ssa}, label %{then}, label %{done}")
        w.top.lines.append(f"{then}:")
        w.top.lines.extend(lines)
        w.line(f"br label %{done}")
        w.label(done)
        for place, x, other in zip(places, inside, others, strict=True):
            ssa = w.effect(f"phi {x.type} [ {x.ssa}, %{last} ], [ {other.ssa}, %{before_label} ]")
            self.registers.write(place, Value(ssa, x.dtype, x.lanes), self._extracted)

    def _parallel(self, team: Sequence[For]) -> None:
        """Outlines the bodies of loops that begin together; threads share the iterations of all of them."""
        stops = list(accumulate(constant(s.var.extent) for s in team))
        extent = stops[-1]
        if extent == 0:
            return
        outer = self.w
        passed = [self.pointers[n] for n in self.passed]
        live = [(v, ssa) for v, (ssa, _) in self.loop_values.items() if isinstance(v, Var) and ssa]
        fields = [("ptr", p) for p in passed] + [("i64", ssa) for _, ssa in live]
        if self.shares < 0:
            self.shares = self.scratch_bytes
            self.scratch_bytes += WORD_BYTES
            self.declarations.update(declarations())
        reset_shares(outer, self.shares)
        closure = outer.alloca(f"[{max(len(fields), 1)} x i64]")
        for k, (kind, ssa) in enumerate(fields):
            place = outer.instruction(f"getelementptr i64, ptr {closure}, i64 {k}", 0)
            outer.line(f"store {kind} {ssa}, ptr {place}, align 8")
        name = f"{self.symbol}.{len(self.bodies)}"
        self.bodies.append("")
        slot = len(self.bodies) - 1
        saved = (self.pointers, self.loop_values, self.registers.set_aside())
        # names begin anew in the body, so what is known of a name outside says nothing there
        admitted = self.admitted
        self.w, self.admitted = Writer(), {}
        self.in_parallel = True
        self.pointers, self.loop_values = dict(self.pointers), {}
        for k, n in enumerate(self.passed):
            self.pointers[n] = self._field("ptr", k)
        for k, (v, _) in enumerate(live):
            self.loop_values[v] = (self._field("i64", len(passed) + k), 0)
        written = frozenset[str]().union(*(self._writes(s.body) for s in team))
        self._scratch_pointers("%thread", written)

        def piece(first: str, stop: str) -> None:
            self.w.forget_loads(written)
            if len(team) == 1:
                self._range(team[0].var, first, stop, lambda: self.statement(team[0].body), written)
                return
            for start, end, s in zip([0, *stops], stops, team, strict=False):
                self._part(s, start, end, first, stop)

        take_shares(self.w, self.shares, extent, piece)
        self.bodies[slot] = _function(
            f"define internal void @{name}(ptr %ctx, ptr %closure, i64 %thread, i64 %threads) #0", self.w
        )
        self.w, self.admitted = outer, admitted
        self.in_parallel = False
        self.pointers, self.loop_values = saved[0], saved[1]
        saved[2]()
        self.w.forget_loads(written)
        fn = outer.effect("load ptr, ptr %ctx, align 8")
        outer.line(f"call void {fn}(ptr %ctx, ptr @{name}, ptr {closure}, i64 {extent})")

    def _part(self, s: For, start: int, end: int, first: str, stop: str) -> None:
        """The iterations of one loop of a team that are in a piece.

        Args:
            s: The loop.
            start: The number of its first iteration among those of the team.
            end: The number behind its last one.
            first: The piece's first iteration.
            stop: The one behind its last.
        """
        written = self._writes(s.body)
        low = self.w.effect(f"call i64 @llvm.umax.i64(i64 {first}, i64 {start})")
        high = self.w.effect(f"call i64 @llvm.umin.i64(i64 {stop}, i64 {end})")
        some = Value(self.w.effect(f"icmp ult i64 {low}, {high}"), dt.bool_)

        def run() -> None:
            if end - start == 1:
                self._serial(s)
                return
            begin = self.w.effect(f"sub i64 {low}, {start}")
            self._range(
                s.var, begin, self.w.effect(f"sub i64 {high}, {start}"), lambda: self.statement(s.body), written
            )

        self._if(some, run, written, merge=False)

    def _field(self, kind: str, k: int) -> str:
        place = self.w.effect(f"getelementptr i64, ptr %closure, i64 {k}")
        return self.w.effect(f"load {kind}, ptr {place}, align 8")

    # -- blocks ----------------------------------------------------------------------------------------------------

    def _block(self, block: Block) -> None:
        shadowed = {i.var: self.env.get(i.var) for i in block.iters}
        # bindings and predicate speak of the loops around, the body of the iter vars, which may have the same names
        forms = [self.linear(b) for b in block.bindings]
        predicate = conjunction(*[c for c in conjuncts(block.predicate) if c not in self.granted])
        condition = self._condition(predicate)
        for i, form in zip(block.iters, forms, strict=True):
            self.env[i.var] = form
        if predicate is TRUE:
            self._body(block)
        else:
            self._where(condition, lambda: self._body(block), self._writes(block))
        for var, old in shadowed.items():
            if old is None:
                del self.env[var]
            else:
                self.env[var] = old

    def _body(self, block: Block) -> None:
        if block.init is not None:
            first = [i.var for i in block.iters if i.kind == "reduce"]
            condition = Value("true", dt.bool_)
            for var in first:
                condition = self.connective("and", condition, self._condition(_is_zero(var)))
            init = block.init
            self._where(condition, lambda: self.statement(init), self._writes(init))
        self.statement(block.body)

    def _condition(self, node: Scalar) -> Value:
        if node is TRUE or node is FALSE:
            return Value("true" if node is TRUE else "false", dt.bool_)
        return self.root(node)

    def _where(self, condition: Value, body: Callable[[], None], written: frozenset[str]) -> None:
        if condition.ssa == "true":
            body()
        elif condition.ssa != "false":
            if condition.lanes:
                with self.masked(condition):
                    body()
            else:
                self._if(condition, body, written)

    def _update(self, s: Update) -> None:
        self.begin()
        if len(s.targets) == 1:
            target, value = s.targets[0], s.values[0]
            combine = s.reducer.combine[0]
            d = target.dtype
            if (
                combine is Binary("add", s.reducer.lhs[0], s.reducer.rhs[0])
                and isinstance(value, Binary)
                and value.op == "mul"
                and d in (dt.f32, dt.f64)
            ):
                a, b, c = self.unify(self.value(value.a), self.value(value.b), self.load(target))
                name = f"llvm.fmuladd.{'' if not a.lanes else f'v{a.lanes}'}{d.name}"
                self.store(target.buffer, target.indices, Value(self.call(name, a.type, a, b, c), d, a.lanes), True)
                return
        old = [self.load(t) for t in s.targets]
        new = [self.value(v) for v in s.values]
        for var, x in zip((*s.reducer.lhs, *s.reducer.rhs), (*old, *new), strict=True):
            self.values[var] = x
        combined = [self.value(c) for c in s.reducer.combine]
        for var in (*s.reducer.lhs, *s.reducer.rhs):
            del self.values[var]
        for t, x in zip(s.targets, combined, strict=True):
            self.store(t.buffer, t.indices, x, True)


def _is_zero(var: Var) -> Scalar:
    from tcompiler.ir.scalar.grammar import equal

    return equal(var, 0)


def _common(s: Stmt) -> frozenset[Scalar]:
    """Conditions that all blocks of a statement have, prefetches apart, on loops around it alone."""
    common: frozenset[Scalar] | None = None
    own: set[Scalar] = set()
    for x in walk(s):
        if isinstance(x, For):
            own.add(x.var)
        elif isinstance(x, Block) and not (isinstance(x.body, Intrinsic) and x.body.name == PREFETCH):
            common = (common or frozenset(conjuncts(x.predicate))) & frozenset(conjuncts(x.predicate))
            if not common:
                break
    return frozenset(c for c in common or () if not own & free_vars(c))


def _written(s: Stmt) -> frozenset[str]:
    """Names of the buffers that a statement writes."""
    result: set[str] = set()
    for x in walk(s):
        match x:
            case Store(buffer=buffer):
                result.add(buffer)
            case Update(targets=targets):
                result.update(t.buffer for t in targets)
            case Intrinsic(writes=writes):
                result.update(r.buffer for r in writes)
            case _:
                pass
    return frozenset(result)


def _vectors(extent: int, width: int) -> list[int]:
    """The lanes of the vectors that a loop becomes: registers by powers of two, as LLVM gives 24 lanes those of 32.

    A short last one shall still take whole registers, as those before it do: where it would not, it takes the larger
    part. One lane that is left over is a scalar, whose factor the lanes before it have loaded.
    """
    if extent > width and extent % width == 1:
        return [*_vectors(extent - 1, width), 1]
    registers = -(-extent // width)
    parts = [1 << k for k in reversed(range(registers.bit_length())) if registers >> k & 1]
    if 2 * (extent % width) in range(1, width + 1):
        parts.reverse()
    sizes = [width * part for part in parts]
    return [*sizes[:-1], extent - sum(sizes[:-1])] if extent else []


def _given_and_private(s: Stmt) -> tuple[frozenset[str], frozenset[str]]:
    """Buffers that a parallel loop reads and does not write, and those that one writes.

    Whatever their scope, all threads find in the former what was written before. What a parallel loop writes is private
    to the iteration if its scope is not global; of one buffer, another loop may be given what stands outside.
    """
    given: set[str] = set()
    private: set[str] = set()
    stack = [s]
    while stack:
        x = stack.pop()
        if isinstance(x, For) and x.kind == "parallel":
            found = touched(x)
            given |= found.reads - found.writes
            private |= found.writes
        else:
            stack.extend(children(x))
    return frozenset(given), frozenset(private)


def _function(header: str, w: Writer) -> str:
    return "\n".join([f"{header} {{", "entry:", *w.allocas, *w.top.lines, "  ret void", "}"])


__all__ = ["ALIGNMENT", "KernelCode", "buffer_bytes", "generate", "value_type"]
