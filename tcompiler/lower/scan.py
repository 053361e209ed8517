"""Scans: step by step, or, where every element of the states goes its own way, element by element."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tcompiler.ir.expr.grammar import Compute, Program, Scan, Scatter, Scope, Sort, Tensor, scope_tensors
from tcompiler.ir.loop.grammar import Stmt, Store, seq
from tcompiler.ir.scalar.grammar import Load, Scalar, Var, postorder
from tcompiler.ir.scalar.rewrite import rewrite, substitute
from tcompiler.lower.nests import Around, Nests

Lower = Callable[[Scope, Nests, Around], Stmt]


def lower_scan(scope: Scan, nests: Nests, around: Around, lower: Lower) -> Stmt:
    """States in buffers of their own: set before the loop, replaced at the end of every step.

        state = init
        for t:  inner scopes;  state = result;  stack[t] = state
        last = state

    Where no element of a state depends on another one, the step is one block, and its loops can be put in any order:

        state = init
        for i: for t:  state[i] = f(state[i], x[t, i]);  stack[t, i] = state[i]
        last = state

    Args:
        scope: The scan.
        nests: Where loops and buffers come from.
        around: Axes of the scans around.
        lower: Makes nests of the scopes inside.
    """
    axes, values = _elementwise(scope)
    wanted = tuple(t.name in nests.buffers for t in scope.tensors)
    order = _in_order(scope, values, wanted) if values else None
    if order is not None:
        return _elements(scope, axes, values, order, wanted, nests, around)
    for t in (*scope.states, *(t for s in scope.scopes for t in scope_tensors(s))):
        nests.declare(t)
    before = [nests.copy(state, name, around) for state, name in zip(scope.states, scope.init, strict=True)]
    loop = nests.loop(f"{scope.tensors[0].name}_{scope.axis.name}", scope.axis)
    inside = {**around, scope.axis: loop}
    steps = [lower(s, nests, inside) for s in scope.scopes]
    names = {s.name for s in scope.states}
    moves: list[Stmt] = []
    for state, result in zip(scope.states, scope.results, strict=True):
        source = result
        if result in names and result != state.name:
            # all states change at once: one that takes another's value takes it from before the step's end
            source = nests.temporary(f"{result}_old", state).name
            steps.append(nests.copy(Tensor(source, state.dtype, state.shape), result, inside))
        if source != state.name:
            moves.append(nests.copy(state, source, inside))
    after: list[Stmt] = []
    for tensor, state, collect, want in zip(scope.tensors, scope.states, scope.collect, wanted, strict=True):
        if not want:
            continue
        if collect:
            moves.append(nests.copy(tensor, state.name, inside, scope.axis))
        else:
            after.append(nests.copy(tensor, state.name, around))
    return seq(*before, nests.around(loop, seq(*steps, *moves)), *after)


def _elementwise(scope: Scan) -> tuple[tuple[Var, ...], tuple[Scalar, ...]]:
    """What each state's element becomes, over the axes and the old states; nothing if elements depend on others."""
    axes = next((s.axes for s in scope.scopes if isinstance(s, Compute)), None)
    shape = scope.states[0].shape
    if axes is None or any(t.shape != shape for t in scope.states):
        return (), ()
    known: dict[str, Scalar] = {t.name: Load(t.name, t.dtype, axes) for t in scope.states}
    for s in scope.scopes:
        if not isinstance(s, Compute) or s.reducer is not None or any(t.shape != shape for t in s.tensors):
            return (), ()
        here: dict[Scalar, Scalar] = dict(zip(s.axes, axes, strict=True))
        made = {}
        for t, value in zip(s.tensors, s.values, strict=True):
            moved = substitute(value, here)
            inner = [n for n in postorder(moved) if isinstance(n, Load) and n.buffer in known]
            if any(n.indices != axes for n in inner):
                return (), ()
            made[t.name] = rewrite(moved, lambda n: known.get(n.buffer, n) if isinstance(n, Load) else n)
        known.update(made)
    return axes, tuple(known[r] if r in known else Load(r, t.dtype, axes) for r, t in _results(scope))


def unread_results(program: Program) -> set[str]:
    """Results of scans that nobody asks for; something is left of every scan."""
    read = {*program.outputs}
    pending = list(program.scopes)
    while pending:
        s = pending.pop()
        match s:
            case Compute(values=values):
                read |= {name for v in values for name in _reads(v)}
            case Scan():
                read.update(s.init, s.results)
                pending += s.scopes
            case Scatter():
                read |= {s.base, *(name for v in (*s.indices, s.value) for name in _reads(v))}
            case Sort():
                read.add(s.source)
    scans = [s for s in program.scopes if isinstance(s, Scan)]
    return {t.name for s in scans if any(t.name in read for t in s.tensors) for t in s.tensors} - read


def _results(scope: Scan) -> list[tuple[str, Tensor]]:
    return list(zip(scope.results, scope.states, strict=True))


def _reads(value: Scalar) -> set[str]:
    return {n.buffer for n in postorder(value) if isinstance(n, Load)}


def _in_order(scope: Scan, values: Sequence[Scalar], wanted: Sequence[bool]) -> list[int] | None:
    """The states that are kept, each behind those that become something of it; None if they go in a circle."""
    read = {name for v in values for name in _reads(v)}
    kept = [k for k, t in enumerate(scope.states) if t.name in read or (wanted[k] and not scope.collect[k])]
    order: list[int] = []
    while len(order) < len(kept):
        left = [k for k in kept if k not in order]
        free = (k for k in left if not any(scope.states[k].name in _reads(values[j]) for j in left if j != k))
        following = next(free, None)
        if following is None:
            return None
        order.append(following)
    return order


def _elements(
    scope: Scan,
    axes: tuple[Var, ...],
    values: Sequence[Scalar],
    order: Sequence[int],
    wanted: Sequence[bool],
    nests: Nests,
    around: Around,
) -> Stmt:
    """One block in loops over the elements and the scan's axis; the states that it keeps are set in nests before."""
    for k in order:
        nests.declare(scope.states[k])
    before = [nests.copy(scope.states[k], scope.init[k], around) for k in order]
    nest = nests.nest(scope.tensors[0].name, [*((a, "spatial") for a in axes), (scope.axis, "ordered")], around)
    point = tuple(nest.mapping[a] for a in axes)
    body: list[Stmt] = []

    def here(k: int) -> Scalar:
        return substitute(nests.physical(values[k]), nest.mapping)

    def stack(k: int, value: Scalar) -> Stmt:
        name = scope.tensors[k].name
        return Store(name, nests.place(name, (nest.mapping[scope.axis], *point)), value)

    for k, collect in enumerate(scope.collect):
        if collect and wanted[k] and k not in order:
            body.append(stack(k, here(k)))
    for k in order:
        state = scope.states[k]
        place = nests.place(state.name, point)
        body.append(Store(state.name, place, here(k)))
        if scope.collect[k] and wanted[k]:
            body.append(stack(k, Load(state.name, state.dtype, place)))
    after = [
        nests.copy(scope.tensors[k], scope.states[k].name, around) for k in order if wanted[k] and not scope.collect[k]
    ]
    return seq(*before, nest.block(seq(*body)), *after)
