"""Axes that are always walked together become one axis.

A 1×1 convolution reads and writes its rows h and columns w in step: with h·w as one axis it is a matrix product, and
tiles need not end where a row ends. The memory stays as it is; tensors are looked at in another shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from tcompiler.ir.expr.grammar import Compute, Program, Tensor, tensors
from tcompiler.ir.layout import IndexMap, Layout
from tcompiler.ir.scalar.grammar import Load, Scalar, Var, as_int, children, floordiv, floormod, index, postorder
from tcompiler.ir.scalar.rewrite import free_vars, rewrite, substitute

Dim = tuple[str, int]
"""A tensor and the position of the first of two neighbouring dimensions."""


def merge_axes(program: Program, layouts: Mapping[str, Layout]) -> tuple[Program, dict[str, Layout]]:
    """Merges neighbouring axes of a reduction or a transposition, as long as there are any that only occur together.

    Args:
        program: A verified program.
        layouts: Layouts of its tensors by name. Dimensions merge where a layout keeps them side by side.

    A map that uses two axes apart computes them from the merged one where a reduction wants its result merged.

    Returns:
        The program and the layouts of its tensors, whose elements lie in memory as before.
    """
    result = dict(layouts)
    if not _copies(program) and not any(isinstance(s, Compute) and s.reduce_axes for s in program.scopes):
        return program, result
    while found := _mergeable(program, result):
        program, result = _merged(program, result, found)
    return program, result


def _copies(program: Program) -> bool:
    """Whether a program does nothing but bring elements into another order of axes."""
    if len(program.scopes) != 1:
        return False
    (s,) = program.scopes
    return isinstance(s, Compute) and all(
        isinstance(v, Load) and len(set(v.indices)) == len(v.indices) and set(v.indices) <= set(s.axes)
        for v in s.values
    )


def _keeps(layout: Layout | None, k: int, inner: Scalar) -> bool:
    """Whether dimension k + 1, of extent `inner`, lies right inside dimension k and fills it."""
    if layout is None:
        return True
    a, b = layout.map.inputs[k], layout.map.inputs[k + 1]
    places = [n for n, o in enumerate(layout.map.outputs) if not {a, b}.isdisjoint(free_vars(o))]
    beside = [layout.map.outputs[n] for n in places] == [a, b] and places[1] == places[0] + 1
    return beside and layout.shape[places[1]] is inner


def _mergeable(program: Program, layouts: Mapping[str, Layout]) -> set[Dim]:
    """Dimensions of one set that merge together, empty if there are none."""
    scopes = [s for s in program.scopes if isinstance(s, Compute)]
    if len(scopes) != len(program.scopes):
        return set()
    table = tensors(program)
    copies = _copies(program)
    ties: dict[Dim, set[Dim]] = {}
    broken: set[Dim] = set()
    for t in table.values():
        for k in range(len(t.shape) - 1):
            dim = (t.name, k)
            ties[dim] = {dim}
            known = as_int(t.shape[k]) is not None and as_int(t.shape[k + 1]) is not None
            if not known or not _keeps(layouts.get(t.name), k, t.shape[k + 1]):
                broken.add(dim)
    for s in scopes:
        loads = [n for n in postorder(*s.values) if isinstance(n, Load)]
        pairs = {**_pairs(s.axes), **_pairs(s.reduce_axes)}
        together: dict[tuple[Var, Var], set[Dim]] = {pair: set() for pair in pairs.values()}
        for k, pair in enumerate(pairwise(s.axes)):
            together[pair] |= {(t.name, k) for t in s.tensors}
        apart = _apart(s)
        for load in loads:
            for k in range(len(load.indices) - 1):
                a, b = load.indices[k], load.indices[k + 1]
                shape = table[load.buffer].shape
                if isinstance(a, Var) and isinstance(b, Var) and (a, b) in together:
                    whole = a.extent is shape[k] and b.extent is shape[k + 1]
                    together[a, b].add((load.buffer, k))
                    if not whole:
                        broken.add((load.buffer, k))
                else:
                    broken.add((load.buffer, k))
        for (a, b), dims in together.items():
            mine = {(t.name, s.axes.index(a)) for t in s.tensors} if a in s.axes else set()
            if (s.reduce_axes or copies) and (a in apart or b in apart or _occurs_apart(loads, a, b)):
                broken |= dims
            for dim in dims:
                # a map may compute both from the merged axis, so that its result does not need its operands' consent
                ties[dim] |= dims if s.reduce_axes or copies or dim not in mine else mine
    best: set[Dim] = set()
    for start in ties:
        group, todo = set(), [start]
        while todo:
            dim = todo.pop()
            if dim not in group:
                group.add(dim)
                todo += ties[dim]
        once = len({name for name, _ in group}) == len(group)
        if once and len(group) > len(best) and group.isdisjoint(broken) and (copies or _reduces(scopes, group)):
            best = group
    return best


def _pairs(axes: Sequence[Var]) -> dict[Var, tuple[Var, Var]]:
    return {a: (a, b) for a, b in pairwise(axes)}


def _apart(s: Compute) -> set[Var]:
    """Axes that a scope uses other than as a whole index of a load."""
    found = {v for v in s.values if isinstance(v, Var)}
    for n in postorder(*s.values):
        if isinstance(n, Load):
            found.update(v for i in n.indices if not isinstance(i, Var) for v in free_vars(i))
        else:
            found.update(c for c in children(n) if isinstance(c, Var))
    return found


def _occurs_apart(loads: Sequence[Load], a: Var, b: Var) -> bool:
    """Whether a load has one of two axes without the other right beside it."""
    for load in loads:
        for k, i in enumerate(load.indices):
            if i is a and not (k + 1 < len(load.indices) and load.indices[k + 1] is b):
                return True
            if i is b and not (k > 0 and load.indices[k - 1] is a):
                return True
    return False


def _reduces(scopes: Sequence[Compute], group: set[Dim]) -> bool:
    """Whether a scope with a reduction has a merged axis (elementwise nests become one loop anyway)."""
    names = {name for name, _ in group}
    for s in scopes:
        touched = {t.name for t in s.tensors} | {n.buffer for n in postorder(*s.values) if isinstance(n, Load)}
        if s.reduce_axes and touched & names:
            return True
    return False


def _merged(program: Program, layouts: dict[str, Layout], group: set[Dim]) -> tuple[Program, dict[str, Layout]]:
    at = dict(group)

    def tensor(t: Tensor) -> Tensor:
        return Tensor(t.name, t.dtype, _joined(t.shape, at[t.name])) if t.name in at else t

    scopes = []
    for s in program.scopes:
        assert isinstance(s, Compute)
        gone: dict[Var, Var] = {}
        for load in (n for n in postorder(*s.values) if isinstance(n, Load) and n.buffer in at):
            k = at[load.buffer]
            a, b = load.indices[k], load.indices[k + 1]
            assert isinstance(a, Var) and isinstance(b, Var)
            gone[a] = b
        for t in s.tensors:
            if t.name in at:
                gone[s.axes[at[t.name]]] = s.axes[at[t.name] + 1]
        fresh = {a: _axis(a, b) for a, b in gone.items()}

        def one(n: Scalar, fresh: Mapping[Var, Var] = fresh) -> Scalar:
            if not isinstance(n, Load) or n.buffer not in at:
                return n
            k = at[n.buffer]
            a = n.indices[k]
            assert isinstance(a, Var)
            return Load(n.buffer, n.dtype, (*n.indices[:k], fresh[a], *n.indices[k + 2 :]))

        inner = set(gone.values())

        def axes(old: tuple[Var, ...], fresh: Mapping[Var, Var] = fresh, inner: set[Var] = inner) -> tuple[Var, ...]:
            return tuple(fresh.get(a, a) for a in old if a not in inner)

        parts: dict[Scalar, Scalar] = {}
        for a, b in gone.items():
            assert b.extent is not None
            parts[a], parts[b] = floordiv(fresh[a], b.extent), floormod(fresh[a], b.extent)
        values = tuple(substitute(rewrite(v, one), parts) for v in s.values)
        scopes.append(Compute(tuple(map(tensor, s.tensors)), axes(s.axes), axes(s.reduce_axes), s.reducer, values))
    changed = dict(layouts)
    for name, k in at.items():
        if name in layouts:
            changed[name] = _narrowed(layouts[name], k)
    inputs = tuple(map(tensor, program.inputs))
    return Program(program.name, program.params, inputs, tuple(scopes), program.outputs), changed


def _axis(a: Var, b: Var) -> Var:
    assert a.extent is not None and b.extent is not None
    return Var(f"{a.name}{b.name}", a.dtype, index((as_int(a.extent) or 0) * (as_int(b.extent) or 0)))


def _joined(shape: tuple[Scalar, ...], k: int) -> tuple[Scalar, ...]:
    product = (as_int(shape[k]) or 0) * (as_int(shape[k + 1]) or 0)
    return (*shape[:k], index(product), *shape[k + 2 :])


def _narrowed(layout: Layout, k: int) -> Layout:
    """The same layout with dimension k + 1 a part of dimension k."""
    inputs, outputs = layout.map.inputs, layout.map.outputs
    at = outputs.index(inputs[k])
    shape = _joined(layout.shape, at)
    return Layout(
        IndexMap((*inputs[: k + 1], *inputs[k + 2 :]), (*outputs[: at + 1], *outputs[at + 2 :])),
        shape,
        layout.zero_padding,
    )
