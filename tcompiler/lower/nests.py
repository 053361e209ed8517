"""What lowering makes loop functions of: buffers in their layouts, and loop nests around one block."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tcompiler.ir import dtypes as dt
from tcompiler.ir.expr.grammar import Tensor
from tcompiler.ir.layout import Layout
from tcompiler.ir.loop.grammar import Block, Buffer, For, IterKind, IterVar, Stmt, Store
from tcompiler.ir.scalar.canonical import simplify
from tcompiler.ir.scalar.grammar import Load, Scalar, Var
from tcompiler.ir.scalar.rewrite import rewrite, substitute

Around = Mapping[Var, Var]
"""The axes of the scans around a scope, with their loops."""


@dataclass(frozen=True, slots=True)
class Nest:
    """Loops around one block.

    Attributes:
        name: The block's name.
        loops: Loops of the nest itself, outermost first.
        iters: The block's iter vars; those of the scans around come first.
        bindings: What they are bound to.
        mapping: Axes to iter vars.
    """

    name: str
    loops: tuple[Var, ...]
    iters: tuple[IterVar, ...]
    bindings: tuple[Scalar, ...]
    mapping: dict[Scalar, Scalar]

    def block(self, body: Stmt, init: Stmt | None = None) -> Stmt:
        """The nest with a body."""
        stmt: Stmt = Block(self.name, self.iters, self.bindings, body, init=init)
        for var in reversed(self.loops):
            stmt = For(var, "serial", stmt)
        return stmt


class Nests:
    """Makes nests with names that differ from one another and from the buffers'.

    Args:
        declared: Tensors that become buffers.
        layouts: Physical layouts by name; others are row-major.
    """

    def __init__(self, declared: Iterable[Tensor], layouts: Mapping[str, Layout]) -> None:
        self._layouts = layouts
        self.buffers: dict[str, Buffer] = {}
        self._taken: set[str] = set()
        self._declared: dict[str, Tensor] = {}
        for t in declared:
            self.declare(t)

    def declare(self, t: Tensor) -> None:
        """Makes a tensor a buffer."""
        layout = self._layouts.get(t.name)
        self._declared[t.name] = t
        self.buffers[t.name] = Buffer(t.name, t.dtype, t.shape if layout is None else layout.shape)
        self._taken.add(t.name)

    def tensor(self, name: str) -> Tensor:
        """A declared tensor in its logical shape."""
        return self._declared[name]

    def temporary(self, name: str, like: Tensor, scope: str = "global") -> Buffer:
        """A new buffer like a tensor."""
        buffer = Buffer(self._fresh(name), like.dtype, like.shape, None, scope)
        self.buffers[buffer.name] = buffer
        return buffer

    def _fresh(self, base: str) -> str:
        name, n = base, 1
        while name in self._taken:
            n += 1
            name = f"{base}_{n}"
        self._taken.add(name)
        return name

    def loop(self, name: str, axis: Var) -> Var:
        """A loop variable for an axis."""
        return Var(self._fresh(name), axis.dtype, axis.extent)

    @staticmethod
    def around(loop: Var, body: Stmt) -> Stmt:
        """A serial loop."""
        return For(loop, "serial", body)

    def nest(
        self, label: str, axes: Sequence[tuple[Var, IterKind]], around: Around, beside: Around | None = None
    ) -> Nest:
        """A nest over axes.

        Args:
            label: What the names of loops and block start with.
            axes: Axes with their kinds, outermost first.
            around: Axes of the scans around; the block walks them in order.
            beside: Axes of other loops around, whose iterations are independent.
        """
        iters: list[IterVar] = []
        bindings: list[Scalar] = []
        mapping: dict[Scalar, Scalar] = {}
        own = {axis: self.loop(f"{label}_{axis.name}", axis) for axis, _ in axes}
        outer = {**around, **(beside or {})}
        kinds: dict[Var, IterKind] = {
            **dict.fromkeys(around, "ordered"),
            **dict.fromkeys(beside or {}, "spatial"),
            **dict(axes),
        }
        for axis, kind in kinds.items():
            mapping[axis] = iter_var = Var(f"v_{axis.name}", axis.dtype, axis.extent)
            iters.append(IterVar(iter_var, kind))
            bindings.append(own.get(axis) or outer[axis])
        return Nest(self._fresh(f"{label}_block"), tuple(own.values()), tuple(iters), tuple(bindings), mapping)

    def place(self, name: str, indices: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
        """Logical indices of a tensor as physical ones."""
        layout = self._layouts.get(name)
        if layout is None:
            return indices
        at: dict[Scalar, Scalar] = dict(zip(layout.map.inputs, indices, strict=True))
        return tuple(simplify(substitute(o, at)) for o in layout.map.outputs)

    def physical(self, value: Scalar) -> Scalar:
        """An expression over logical indices as one over physical ones."""

        def one(node: Scalar) -> Scalar:
            if isinstance(node, Load) and node.buffer in self._layouts:
                return Load(node.buffer, node.dtype, self.place(node.buffer, node.indices))
            return node

        return rewrite(value, one)

    def copy(self, target: Tensor, source: str, around: Around, step: Var | None = None) -> Stmt:
        """A nest that copies a tensor.

        Args:
            target: Where to.
            source: Name of the tensor to copy.
            around: Axes of the scans around.
            step: The axis that chooses the target's first index, where the target is a stack of copies.
        """
        shape = target.shape if step is None else target.shape[1:]
        axes = [Var(f"ax{k}", dt.i64, e) for k, e in enumerate(shape)]
        nest = self.nest(f"{target.name}_copy", [(a, "spatial") for a in axes], around)
        point = tuple(nest.mapping[a] for a in axes)
        at = point if step is None else (nest.mapping[step], *point)
        value = Load(source, target.dtype, self.place(source, point))
        return nest.block(Store(target.name, self.place(target.name, at), value))
