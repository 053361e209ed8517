"""Tiles that are read along one axis and written along another: read as they lie, transposed in registers.

An unrolled loop around a vectorized one is a tile. Where it writes along the lanes but a load runs along the
unrolled loop, every lane's elements are a row side by side in memory. Taken lane by lane they cost a load each; here
every row is one load of a vector, and shuffles turn the rows into the vectors that the iterations of the unrolled loop
would have put together. Registers are read in the same way. The meaning is that of the loops as they stand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tcompiler.backends.llvm.addresses import constant, has_load
from tcompiler.backends.llvm.linear import Linear
from tcompiler.backends.llvm.ssa import Value, next_power
from tcompiler.backends.llvm.streams import Streams, are_streams
from tcompiler.ir import dtypes as dt
from tcompiler.ir.loop.analysis import touched
from tcompiler.ir.loop.grammar import Block, For, Seq, Stmt, Store, Update
from tcompiler.ir.scalar.grammar import TRUE, Const, Load, Scalar, Select, Var, children, postorder
from tcompiler.ir.scalar.rewrite import free_vars
from tcompiler.target.transposes import LANE_BYTES, turns_vectors


class Tiles(Streams):
    """Emits the values of tiles."""

    def transposed(self, outer: For) -> list[dict[Scalar, Value]] | None:
        """What the iterations of an unrolled loop read along it, each as vectors of the loop inside.

        Args:
            outer: An unrolled loop, before it is expanded.

        Returns:
            For each iteration the values of the nodes that read so; None where the loop is no such tile.
        """
        inner = outer.body
        if not isinstance(inner, For) or inner.kind != "vectorized" or self.lane is not None:
            return None
        block = inner.body
        if not isinstance(block, Block) or block.predicate is not TRUE:
            return None
        writes = [s for s in parts(block.body) if isinstance(s, Store | Update)]
        if len(writes) != len(parts(block.body)):
            return None
        count, rows = constant(outer.var.extent), constant(inner.var.extent)
        if count < 2 or rows < 2 or block.init is not None:
            return None
        with self._inside(block):
            found = self._across(writes, outer.var, inner.var)
        if not found:
            return None
        result: list[dict[Scalar, Value]] = [{} for _ in range(count)]
        for node in found:
            for known, value in zip(result, self._columns(node, outer, inner, block), strict=True):
                known[node] = value
        return result

    @contextmanager
    def _inside(self, block: Block) -> Iterator[None]:
        """The block's iter vars as forms over the loops around it, for a while."""
        forms = [self.linear(b) for b in block.bindings]
        shadowed = {i.var: self.env.get(i.var) for i in block.iters}
        self.env.update({i.var: form for i, form in zip(block.iters, forms, strict=True)})
        try:
            yield
        finally:
            for var, old in shadowed.items():
                if old is None:
                    del self.env[var]
                else:
                    self.env[var] = old

    def _across(self, writes: Sequence[Store | Update], outer: Var, inner: Var) -> list[Scalar]:
        """The largest parts of written values that are read along the outer loop: elements, or padded elements."""
        kinds: dict[Scalar, bool | None] = {}
        values = [v for s in writes for v in ((s.value,) if isinstance(s, Store) else s.values)]
        written = {b for s in writes for b in ((s.buffer,) if isinstance(s, Store) else (t.buffer for t in s.targets))}
        for node in postorder(*values):
            match node:
                case Load():
                    kinds[node] = node.buffer not in written and self._runs_along(node, outer, inner)
                case Const():
                    kinds[node] = None
                case Select(cond=cond, a=a, b=b) if not has_load(cond) and False not in (kinds[a], kinds[b]):
                    kinds[node] = kinds[a] or kinds[b]
                case _:
                    kinds[node] = False
        found: list[Scalar] = []
        pending, seen = list(values), set(values)
        while pending:
            node = pending.pop()
            if kinds[node]:
                found.append(node)
                continue
            # what a condition guards must not be read where it does not hold
            below = (node.cond,) if isinstance(node, Select) else () if isinstance(node, Load) else children(node)
            new = [c for c in below if c not in seen]
            seen.update(new)
            pending += new
        return found

    def _runs_along(self, node: Load, outer: Var, inner: Var) -> bool:
        """Whether an element's neighbours in memory belong to the next iterations of the outer loop, not the inner."""
        if any(has_load(i) for i in node.indices):
            return False
        terms = self.offset(node.buffer, node.indices).terms
        alone = not any(outer in free_vars(a) for a in terms if a is not outer)
        moves = any(inner in free_vars(a) for a in terms)
        return alone and moves and abs(terms.get(outer, 0)) == 1 and terms.get(inner) != 1

    def _columns(self, node: Scalar, outer: For, inner: For, block: Block) -> list[Value]:
        """The values of a node for each iteration of the outer loop, as vectors over the inner one."""
        if isinstance(node, Select):
            with self._inside(block):
                own = [self.env[v] for v in free_vars(node.cond) if v in self.env]
                uniform = not any({outer.var, inner.var} & free_vars(a) for form in own for a in form.terms)
                if uniform:
                    self.begin()
                    condition = self.value(node.cond)
            if uniform:
                if condition.ssa in ("true", "false"):
                    return self._columns(node.a if condition.ssa == "true" else node.b, outer, inner, block)
                return self.branch_values(
                    condition,
                    lambda: self._columns(node.a, outer, inner, block),
                    lambda: self._columns(node.b, outer, inner, block),
                )
        count = constant(outer.var.extent)
        if isinstance(node, Const):
            one = self.constant(node)
            return [Value(f"splat ({one.typed})", one.dtype, next_power(constant(inner.var.extent)))] * count
        if isinstance(node, Load) and (streams := self._as_streams(node, outer, inner, block)):
            return streams
        rows = [self._row(node, outer.var, inner.var, k, block) for k in range(constant(inner.var.extent))]
        whole = rows[0].lanes == len(rows) and turns_vectors(self.target, len(rows), rows[0].dtype.bytes)
        if whole or (isinstance(node, Load) and self.buffers[node.buffer].scope == "register"):
            return self.turn(rows, count)
        return self.transpose(rows, count)

    def _as_streams(self, node: Load, outer: For, inner: For, block: Block) -> list[Value]:
        """The same of an element of memory whose rows lie side by side, or almost; nothing where they do not."""
        count, rows = constant(outer.var.extent), constant(inner.var.extent)
        with self._inside(block):
            x = self.offset(node.buffer, node.indices)
        step = x.terms.get(inner.var, 0)
        if (
            self.buffers[node.buffer].scope == "register"
            or x.terms.get(outer.var) != 1
            or any(inner.var in free_vars(a) for a in x.terms if a is not inner.var)
            or not self.deals_out(node.dtype, count, step, rows)
        ):
            return []
        first = Linear(x.const, {a: c for a, c in x.terms.items() if a not in (outer.var, inner.var)})
        return self.read_streams(node.buffer, first, count, step, rows)

    def woven(self, outer: For) -> tuple[str, Linear] | None:
        """Where a tile writes whose iterations of the unrolled loop write in turn, so that together they fill memory.

        Args:
            outer: An unrolled loop, before it is expanded.

        Returns:
            The buffer and the place of the first element; None where the loop is no such tile.
        """
        inner = outer.body
        if not isinstance(inner, For) or inner.kind != "vectorized" or self.lane is not None:
            return None
        block = inner.body
        if not isinstance(block, Block) or block.predicate is not TRUE or block.init is not None:
            return None
        store, count = block.body, constant(outer.var.extent)
        if not isinstance(store, Store) or not are_streams(count, store.value.dtype) or constant(inner.var.extent) < 2:
            return None
        if self.buffers[store.buffer].scope == "register" or store.buffer in touched(block).reads:
            return None
        with self._inside(block):
            x = self.offset(store.buffer, store.indices)
        own = (outer.var, inner.var)
        if x.terms.get(outer.var) != 1 or x.terms.get(inner.var) != count:
            return None
        if any(v in free_vars(a) for v in own for a in x.terms if a is not v):
            return None
        return store.buffer, Linear(x.const, {a: c for a, c in x.terms.items() if a not in own})

    def _row(self, node: Scalar, outer: Var, inner: Var, k: int, block: Block) -> Value:
        """The values of one lane for all iterations of the outer loop, as one vector."""
        self.env[inner] = Linear(k, {})
        self.lane, self.lanes = outer, next_power(constant(outer.extent))
        self.loop_values[outer] = ("", 0)
        try:
            with self._inside(block):
                return self.splat(self.root(node))
        finally:
            self.lane, self.lanes = None, 0
            del self.loop_values[outer]
            del self.env[inner]

    def transpose(self, rows: Sequence[Value], count: int) -> list[Value]:
        """Columns of a matrix whose rows are vectors.

        Pieces of rows come side by side in one vector, each in 16 bytes of its own; then pairs of vectors are
        interleaved within these, as often as two divides their elements: the perfect shuffle of the FFT.

        Args:
            rows: Vectors of one length.
            count: Columns to return.

        Returns:
            Vectors whose length is the least power of two that holds all rows.
        """
        d, length = rows[0].dtype, rows[0].lanes
        if d is dt.bool_:
            rows = [Value(self.w.effect(f"zext {r.typed} to <{length} x i8>"), dt.u8, length) for r in rows]
            bytes_ = self.transpose(rows, count)
            nonzero = [self.w.effect(f"icmp ne {c.typed}, zeroinitializer") for c in bytes_]
            return [Value(ssa, d, c.lanes) for ssa, c in zip(nonzero, bytes_, strict=True)]
        unit = LANE_BYTES // d.bytes
        lanes = next_power(len(rows))
        wide = max(lanes, unit)
        padded = [*rows, *[None] * (wide - len(rows))]
        columns: list[Value] = []
        for start in range(0, count, unit):
            vectors = [self._side_by_side(padded[first::unit], start, unit) for first in range(unit)]
            columns += [v for v in self._shuffles(vectors, unit, 1)[: count - start] if v is not None]
        if wide == lanes:
            return columns
        return [self._shuffled(c, c, list(range(lanes)), lanes) for c in columns]

    def turn(self, rows: Sequence[Value], count: int) -> list[Value]:
        """Columns of a matrix whose rows are in registers, or are loaded whole.

        Elements of as many rows as 16 bytes hold are interleaved first, as those of `transpose` are but at the full
        width of registers, and then the 16 bytes that belong together, as elements before.

        Args:
            rows: Vectors of one length.
            count: Columns to return.

        Returns:
            Vectors whose length is the least power of two that holds all rows.
        """
        d, lanes = rows[0].dtype, next_power(len(rows))
        unit = LANE_BYTES // d.bytes
        width = min(rows[0].lanes, self.target.vector_lanes(d.bytes * 8))
        if d is dt.bool_ or width < unit:
            return self.transpose(rows, count)
        if lanes > width:
            low, high = self.turn(rows[: lanes // 2], count), self.turn(rows[lanes // 2 :], count)
            high = [self._shuffled(b, b, list(range(b.lanes)), lanes // 2) for b in high]
            return [self._shuffled(a, b, list(range(lanes)), lanes) for a, b in zip(low, high, strict=True)]
        wide = max(lanes, unit)
        columns: list[Value] = []
        for start in range(0, count, width):
            taken = [self._shuffled(r, r, list(range(start, start + width)), width) for r in rows]
            padded = [*taken, *[None] * (wide - len(rows))]
            groups = [self._shuffles(padded[k : k + unit], unit, 1) for k in range(0, wide, unit)]
            turned = [self._shuffles(same, width, unit) for same in zip(*groups, strict=True)]
            for k in range(min(width, count - start)):
                at = k // unit * wide
                vector = turned[k % unit][at // width]
                assert vector is not None
                columns.append(self._shuffled(vector, vector, list(range(at % width, at % width + lanes)), lanes))
        return columns

    def _shuffles(self, vectors: Sequence[Value | None], size: int, grain: int) -> Sequence[Value | None]:
        """The perfect shuffle of some vectors: within every `size` elements, so many of each vector in turn."""
        half = len(vectors) // 2
        for _ in range(half.bit_length()):
            pairs = list(zip(vectors[:half], vectors[half:], strict=True))
            vectors = [self._interleaved(a, b, high, size, grain) for a, b in pairs for high in (0, 1)]
        return vectors

    def _side_by_side(self, rows: Sequence[Value | None], start: int, unit: int) -> Value | None:
        """Elements [start, start + unit) of every row in one vector; missing rows hold nothing."""
        parts: list[Value | None] = []
        for r in rows:
            if r is not None and (start, unit) != (0, r.lanes):
                r = self._shuffled(r, r, list(range(start, min(start + unit, r.lanes))), unit)
            parts.append(r)
        while len(parts) > 1:
            parts = [self._joined(a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        return parts[0]

    def _joined(self, a: Value | None, b: Value | None) -> Value | None:
        if a is None:
            return None  # rows are missing at the end alone
        return self._shuffled(a, b or a, list(range(2 * a.lanes if b else a.lanes)), 2 * a.lanes)

    def _interleaved(self, a: Value | None, b: Value | None, high: int, size: int, grain: int) -> Value | None:
        """The lower or higher halves of every `size` elements of two vectors, `grain` elements of each in turn."""
        one = a or b
        if one is None:
            return None
        n, half = one.lanes, size // 2
        picks: list[int] = []
        for start in range(high * half, n, size):
            for k in range(start, start + half, grain):
                picks += range(k, k + grain) if a else [-1] * grain
                picks += range(n + k, n + k + grain) if b else [-1] * grain
        return self._shuffled(a or one, b or one, picks, n)


def parts(body: Stmt) -> tuple[Stmt, ...]:
    """The statements that a block's body is made of."""
    return body.stmts if isinstance(body, Seq) else (body,)
