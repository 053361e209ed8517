"""What a loop function means, an element at a time: slow, obvious, strict about what the grammar calls an error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn, assert_never

import numpy as np

from tcompiler.errors import VerifyError
from tcompiler.ir.loop.analysis import touched
from tcompiler.ir.loop.grammar import (
    Block,
    Buffer,
    Commit,
    For,
    Function,
    Intrinsic,
    Region,
    Seq,
    Stmt,
    Store,
    Update,
    Wait,
)
from tcompiler.ir.loop.intrinsics import meanings
from tcompiler.ir.loop.memory import Array, IntrinsicMeaning, allocate, parameters, shape_of
from tcompiler.ir.scalar.grammar import Scalar, Var
from tcompiler.ir.scalar.interpret import interpret as scalar_value

_Env = dict[Var, Any]


def interpret(
    function: Function,
    inputs: Mapping[str, Array],
    params: Mapping[str, int] | None = None,
    *,
    shuffle: int | None = None,
    intrinsics: Mapping[str, IntrinsicMeaning] | None = None,
) -> dict[str, Array]:
    """Runs a function point by point.

    Args:
        function: A verified function.
        inputs: Arrays by name, with the declared dtypes and shapes.
        params: Values of the parameters by name.
        shuffle: A seed: parallel and vectorized loops, and those bound to hardware indices, run their iterations in a
            random order, which a legal function does not notice.
        intrinsics: Meanings of intrinsics by name; by default those of `intrinsics`.

    Returns:
        The outputs by name. Elements that were never written are NaN, the largest integer, or False.

    Raises:
        ArgumentError: If the inputs or parameters are not those of the function.
        VerifyError: If the function reads an undefined element, leaves a buffer or an iter var's domain, or calls an
            intrinsic without a meaning.
    """
    machine = Machine(function, inputs, params or {}, shuffle, meanings() if intrinsics is None else intrinsics)
    machine.run(function.body, dict(machine.params), "")
    machine.finish()
    return {name: machine.arrays[name] for name in function.outputs}


class Machine:
    """Memory, queues and hardware order: what running a function needs besides the statement at hand.

    Args:
        function: The function.
        inputs: Arrays by name.
        params: Values of the parameters by name.
        shuffle: Seed of the order of parallel iterations; None for the written order.
        intrinsics: Meanings of intrinsics by name.
        strict: Whether to keep track of undefined elements.
    """

    def __init__(
        self,
        function: Function,
        inputs: Mapping[str, Array],
        params: Mapping[str, int],
        shuffle: int | None,
        intrinsics: Mapping[str, IntrinsicMeaning],
        strict: bool = True,
    ) -> None:
        self.params = parameters(function, params)
        self.arrays = allocate(function, inputs, self.params)
        self.defined = {n: np.full(a.shape, n in function.inputs or not strict) for n, a in self.arrays.items()}
        self.buffers: dict[str, Buffer] = {b.name: b for b in function.buffers}
        self.intrinsics = intrinsics
        self.random = None if shuffle is None else np.random.default_rng(shuffle)
        self.queues: dict[str, list[list[tuple[Intrinsic, _Env, str]]]] = {}

    def run(self, stmt: Stmt, env: _Env, block: str) -> None:
        """Runs a statement in an environment, inside the block with this name."""
        match stmt:
            case Seq(stmts=stmts):
                for s in stmts:
                    self.run(s, env, block)
            case For():
                self._loop(stmt, env, block)
            case Block():
                self._block(stmt, env)
            case Store(buffer=buffer, indices=indices, value=value):
                result = self._value(value, env, block)
                self._write(buffer, self._element(buffer, indices, env, block), result)
            case Update():
                self._update(stmt, env, block)
            case Intrinsic(queue=queue):
                if queue is None:
                    self._intrinsic(stmt, env, block)
                else:
                    self._groups(queue)[-1].append((stmt, dict(env), block))
                    for r in stmt.writes:
                        self.defined[r.buffer][self._box(r, env, block)] = False
            case Commit(queue=queue):
                self._groups(queue).append([])
            case Wait(queue=queue, pending=pending):
                groups = self._groups(queue)
                while len(groups) - 1 > pending:
                    self._complete(groups.pop(0))
            case _:
                assert_never(stmt)

    def finish(self) -> None:
        """Lets what is still on a queue take effect: the function's end waits for nothing, but the memory is filled."""
        for groups in self.queues.values():
            for group in groups:
                self._complete(group)

    def _loop(self, loop: For, env: _Env, block: str) -> None:
        var = loop.var
        if var.extent is None:
            raise VerifyError("a loop variable has no extent", var.name)
        (extent,) = shape_of((var.extent,), env)
        order: Iterable[int] = range(extent)
        if self.random is not None and loop.kind not in ("serial", "unrolled"):
            order = self.random.permutation(extent).tolist()
        private: list[str] = []
        if loop.kind == "parallel" or loop.kind.startswith("blockIdx"):
            private = [n for n in touched(loop).writes if self.buffers[n].scope != "global"]
        inner = dict(env)
        for i in order:
            for name in private:
                self.defined[name][...] = False
            inner[var] = np.int64(i)
            self.run(loop.body, inner, block)
        for name in private:
            self.defined[name][...] = False

    def _block(self, block: Block, env: _Env) -> None:
        if not self._value(block.predicate, env, block.name):
            return
        inner = dict(self.params)
        first = True
        for it, binding in zip(block.iters, block.bindings, strict=True):
            value = self._value(binding, env, block.name)
            if it.var.extent is None:
                raise VerifyError(f"iter var {it.var.name} has no extent", block.name)
            (extent,) = shape_of((it.var.extent,), self.params)
            if not 0 <= value < extent:
                raise VerifyError(f"{it.var.name} is bound to {value}, outside its domain [0, {extent})", block.name)
            inner[it.var] = value
            first = first and (it.kind != "reduce" or value == 0)
        if block.init is not None and first:
            self.run(block.init, inner, block.name)
        self.run(block.body, inner, block.name)

    def _value(self, node: Scalar, env: _Env, block: str) -> Any:
        return scalar_value(node, env, lambda buffer, at: self._read(buffer, at, block))

    def _read(self, buffer: str, at: tuple[int, ...], block: str) -> Any:
        self._inside(buffer, at, block, "reads")
        if not self.defined[buffer][at]:
            raise VerifyError(f"reads {_element(buffer, at)}, which is undefined there", block)
        return self.arrays[buffer][at]

    def _write(self, buffer: str, at: tuple[int, ...], value: Any) -> None:
        self.arrays[buffer][at] = value
        self.defined[buffer][at] = True

    def _element(self, buffer: str, indices: Sequence[Scalar], env: _Env, block: str) -> tuple[int, ...]:
        at = tuple(int(self._value(i, env, block)) for i in indices)
        self._inside(buffer, at, block, "writes")
        return at

    def _inside(self, buffer: str, at: tuple[int, ...], block: str, verb: str) -> None:
        shape = self.arrays[buffer].shape
        if len(at) != len(shape) or not all(0 <= i < n for i, n in zip(at, shape, strict=True)):
            raise VerifyError(f"{verb} {_element(buffer, at)}, outside its shape {list(shape)}", block)

    def _update(self, s: Update, env: _Env, block: str) -> None:
        values = [self._value(v, env, block) for v in s.values]
        places = [self._element(t.buffer, t.indices, env, block) for t in s.targets]
        old = [self._read(t.buffer, at, block) for t, at in zip(s.targets, places, strict=True)]
        pair: _Env = dict(zip(s.reducer.lhs + s.reducer.rhs, old + values, strict=True))
        new = [self._value(c, pair, block) for c in s.reducer.combine]
        for t, at, value in zip(s.targets, places, new, strict=True):
            self._write(t.buffer, at, value)

    def _groups(self, queue: str) -> list[list[tuple[Intrinsic, _Env, str]]]:
        return self.queues.setdefault(queue, [[]])

    def _complete(self, group: list[tuple[Intrinsic, _Env, str]]) -> None:
        for s, env, block in group:
            self._intrinsic(s, env, block)

    def _box(self, region: Region, env: _Env, block: str) -> tuple[slice, ...]:
        shape = self.arrays[region.buffer].shape
        box: list[slice] = []
        for (start, extent), n in zip(region.ranges, shape, strict=True):
            low, count = int(self._value(start, env, block)), int(self._value(extent, env, block))
            if low < 0 or count < 0 or low + count > n:
                self._outside(region.buffer, low, count, n, block)
            box.append(slice(low, low + count))
        return tuple(box)

    def _outside(self, buffer: str, low: int, count: int, n: int, block: str) -> NoReturn:
        raise VerifyError(f"an intrinsic takes {buffer} from {low} to {low + count}, outside [0, {n})", block)

    def _intrinsic(self, s: Intrinsic, env: _Env, block: str) -> None:
        meaning = self.intrinsics.get(s.name)
        if meaning is None:
            known = ", ".join(sorted(self.intrinsics)) or "none"
            raise VerifyError(f"intrinsic {s.name!r} has no meaning here; known: {known}", block)
        reads = []
        for r in s.reads:
            box = self._box(r, env, block)
            if s.writes and not self.defined[r.buffer][box].all():  # one that writes nothing makes nothing of them
                raise VerifyError(f"intrinsic {s.name!r} reads undefined elements of {r.buffer}", block)
            reads.append(self.arrays[r.buffer][box])
        boxes = [self._box(r, env, block) for r in s.writes]
        writes = [self.arrays[r.buffer][box] for r, box in zip(s.writes, boxes, strict=True)]
        meaning(writes, reads, [self._value(a, env, block) for a in s.args])
        for r, box in zip(s.writes, boxes, strict=True):
            self.defined[r.buffer][box] = True


def _element(buffer: str, at: tuple[int, ...]) -> str:
    return f"{buffer}[{', '.join(map(str, at)) or '()'}]"
