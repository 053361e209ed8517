"""Walking and rewriting scalars: free variables, loads, substitution, bottom-up rewriting. All of it is iterative."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tcompiler.ir import dtypes as dt
from tcompiler.ir.scalar.grammar import (
    Binary,
    Const,
    Load,
    Scalar,
    Select,
    Var,
    add,
    children,
    floordiv,
    floormod,
    map_children,
    maximum,
    minimum,
    mul,
    postorder,
    sub,
)

_NO_VARS: frozenset[Var] = frozenset()
_FREE: dict[Scalar, frozenset[Var]] = {}
_LOADS: dict[Scalar, tuple[Load, ...]] = {}
_GUARDS: dict[Scalar, dict[Load, tuple[Scalar, ...]]] = {}


def free_vars(node: Scalar) -> frozenset[Var]:
    """The variables and parameters that occur in a node (not those in the extents of its variables); memoised."""
    found = _FREE.get(node)
    if found is not None:
        return found
    stack = [node]
    while stack:
        n = stack[-1]
        if n in _FREE:
            stack.pop()
            continue
        if type(n) is Const:
            _FREE[n] = _NO_VARS
        elif type(n) is Var:
            _FREE[n] = frozenset((n,))
        else:
            operands = children(n)
            missing = [c for c in operands if c not in _FREE]
            if missing:
                stack.extend(missing)
                continue
            result = _NO_VARS
            for c in operands:
                more = _FREE[c]
                # shares one set among all nodes with the same variables
                if not more <= result:
                    result = more if result <= more else result | more
            _FREE[n] = result
        stack.pop()
    return _FREE[node]


def loads(node: Scalar) -> tuple[Load, ...]:
    """Every distinct Load in a node, those inside indices before the loads that they index; memoised."""
    found = _LOADS.get(node)
    if found is None:
        found = tuple(n for n in postorder(node) if isinstance(n, Load))
        _LOADS[node] = found
    return found


def guards(node: Scalar) -> Mapping[Load, tuple[Scalar, ...]]:
    """For every distinct Load in a node, conditions that hold wherever it is evaluated; memoised.

    They are those of the selects of which it is in the first side, in every place where it occurs.
    """
    found = _GUARDS.get(node)
    if found is None:
        around: dict[Scalar, tuple[Scalar, ...]] = {node: ()}
        # users before operands: what holds around a node is known when it is looked at
        for n in reversed(tuple(postorder(node))):
            for k, c in enumerate(children(n)):
                known = (*around[n], n.cond) if isinstance(n, Select) and k == 1 else around[n]
                before = around.get(c)
                around[c] = known if before is None else tuple([g for g in before if g in known])
        found = _GUARDS[node] = {load: around[load] for load in loads(node)}
    return found


_FOLDING: dict[str, Callable[[Scalar, Scalar], Scalar]] = {
    "add": add,
    "sub": sub,
    "mul": mul,
    "floordiv": floordiv,
    "floormod": floormod,
    "min": minimum,
    "max": maximum,
}


def substitute(node: Scalar, mapping: Mapping[Scalar, Scalar]) -> Scalar:
    """Replaces every occurrence of the keys, all at once; i64 arithmetic on constants folds where an operand changed.

    Keys are usually variables; any node may be one. Replacements are not searched again, and extents of variables are
    not rewritten.

    Returns:
        The rewritten node; the same object if no key occurs.
    """
    if not mapping:
        return node
    found = mapping.get(node)
    if found is not None:
        return found
    only_vars = all(type(k) is Var for k in mapping)
    keys = mapping.keys()
    if only_vars:
        if keys.isdisjoint(free_vars(node)):
            return node
        quick = _substitute_shallow(node, mapping, {}, _SHALLOW)
        if quick is not None:
            return quick
    done: dict[Scalar, Scalar] = dict(mapping)
    stack = [node]
    while stack:
        n = stack[-1]
        if n in done:
            stack.pop()
            continue
        if type(n) is Const or type(n) is Var or (only_vars and keys.isdisjoint(free_vars(n))):
            done[n] = n
            stack.pop()
            continue
        if type(n) is Binary:
            a, b = done.get(n.a), done.get(n.b)
            if a is not None and b is not None:
                if a is n.a and b is n.b:
                    done[n] = n
                else:
                    fold = _FOLDING.get(n.op) if a.dtype is dt.i64 else None
                    done[n] = Binary(n.op, a, b) if fold is None else fold(a, b)
                stack.pop()
                continue
            if b is None:
                stack.append(n.b)
            if a is None:
                stack.append(n.a)
            continue
        missing = [c for c in children(n) if c not in done]
        if missing:
            stack.extend(missing)
            continue
        done[n] = map_children(n, done.__getitem__)
        stack.pop()
    return done[node]


def substituter(mapping: Mapping[Scalar, Scalar]) -> Callable[[Scalar], Scalar]:
    """`substitute` for many nodes and one mapping of variables: parts that the nodes share are rewritten once.

    Args:
        mapping: Variables and their replacements; it must not change afterwards.
    """
    keys = frozenset(mapping)
    done: dict[Scalar, Scalar] = {}

    def apply(node: Scalar) -> Scalar:
        if keys.isdisjoint(free_vars(node)):
            return node
        quick = _substitute_shallow(node, mapping, done, _SHALLOW)
        return substitute(node, mapping) if quick is None else quick

    return apply


_SHALLOW = 40


def _substitute_shallow(
    node: Scalar, mapping: Mapping[Scalar, Scalar], done: dict[Scalar, Scalar], depth: int
) -> Scalar | None:
    """Replaces variables by recursion, three times as fast; None where expressions nest deeper than `depth`."""
    result = done.get(node)
    if result is not None:
        return result
    if depth == 0:
        return None
    if type(node) is Var:
        result = mapping.get(node, node)
    elif type(node) is Const:
        return node
    elif type(node) is Binary:
        a = _substitute_shallow(node.a, mapping, done, depth - 1)
        if a is None:
            return None
        b = _substitute_shallow(node.b, mapping, done, depth - 1)
        if b is None:
            return None
        if a is node.a and b is node.b:
            result = node
        else:
            fold = _FOLDING.get(node.op) if a.dtype is dt.i64 else None
            result = Binary(node.op, a, b) if fold is None else fold(a, b)
    else:
        for c in children(node):
            new = _substitute_shallow(c, mapping, done, depth - 1)
            if new is None:
                return None
            done[c] = new
        result = map_children(node, done.__getitem__)
    done[node] = result
    return result


def rewrite(node: Scalar, fn: Callable[[Scalar], Scalar]) -> Scalar:
    """Applies fn to every node, operands first, on nodes whose operands are rewritten already.

    Args:
        node: Where to begin.
        fn: Gives the replacement, or its argument itself to keep it. It is called once per distinct node; what it
            returns is not rewritten again.

    Returns:
        The rewritten node; the same object if fn changed nothing.
    """
    done: dict[Scalar, Scalar] = {}
    for n in postorder(node):
        done[n] = fn(map_children(n, done.__getitem__))
    return done[node]
