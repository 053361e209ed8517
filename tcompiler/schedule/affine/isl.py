"""Questions to isl (through islpy): the referee where digits say "unknown", and in tests.

A question costs 0.2 to 7 ms, some without bound, so answers are kept by the text of the question and the work is
limited. What is not quasi-affine (a load, a product of variables, a division by a parameter) makes the answer None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

from tcompiler.errors import InternalError
from tcompiler.ir.loop.grammar import Block, For
from tcompiler.ir.scalar.grammar import TRUE, Binary, Const, Scalar, Unary, Var, as_int
from tcompiler.ir.scalar.rewrite import free_vars

_COMPARISON = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "=", "ne": "!="}
_CONNECTIVE = {"and": "and", "or": "or"}
_ARITHMETIC = {"add": "+", "sub": "-"}


class NotAffineError(Exception):
    """An expression that isl's quasi-affine sets do not say."""


def isl_text(node: Scalar, name: Callable[[Var], str]) -> str:
    """An index expression or condition in isl's notation.

    Args:
        node: Over i64 variables.
        name: What a variable is called.

    Raises:
        NotAffineError: If it is not quasi-affine.
    """
    match node:
        case Const():
            return ("true" if node.value else "false") if node.dtype.kind == "bool" else str(node.value)
        case Var():
            return name(node)
        case Unary(op="neg", a=a):
            return f"(-{isl_text(a, name)})"
        case Binary(op=op, a=a, b=b):
            if op in _ARITHMETIC:
                return f"({isl_text(a, name)} {_ARITHMETIC[op]} {isl_text(b, name)})"
            if op == "mul" and (as_int(a) is not None or as_int(b) is not None):
                return f"({isl_text(a, name)} * {isl_text(b, name)})"
            c = as_int(b)
            if op == "floordiv" and c is not None and c > 0:
                return f"floor(({isl_text(a, name)})/{c})"
            if op == "floormod" and c is not None and c > 0:
                return f"(({isl_text(a, name)}) mod {c})"
            if op in ("min", "max"):
                return f"{op}({isl_text(a, name)}, {isl_text(b, name)})"
            if op in _COMPARISON and a.dtype.name == "i64":
                return f"({isl_text(a, name)} {_COMPARISON[op]} {isl_text(b, name)})"
            if op in _CONNECTIVE and node.dtype.kind == "bool":
                return f"({isl_text(a, name)} {_CONNECTIVE[op]} {isl_text(b, name)})"
    raise NotAffineError


def parameters_of(nodes: Iterable[Scalar]) -> list[Var]:
    """The parameters in some expressions and in the extents of their variables, by name."""
    found: set[Var] = set()
    pending = list(nodes)
    while pending:
        for v in free_vars(pending.pop()):
            if v.extent is None:
                found.add(v)
            else:
                pending.append(v.extent)
    return sorted(found, key=lambda v: v.name)


def domain_text(loops: Sequence[Var], predicate: Scalar, name: Callable[[Var], str]) -> str:
    """The condition that loop variables are in range and a predicate holds."""
    parts = []
    for v in loops:
        assert v.extent is not None
        parts.append(f"0 <= {name(v)} < {isl_text(v.extent, name)}")
    if predicate is not TRUE:
        parts.append(isl_text(predicate, name))
    return " and ".join(parts) or "true"


def heading(parameters: Sequence[Var]) -> str:
    """``[n, m] -> ``, or nothing where there are no parameters."""
    return f"[{', '.join(p.name for p in parameters)}] -> " if parameters else ""


def bindings_bijective_isl(block: Block, loops: Sequence[For]) -> bool | None:
    """Whether bindings map the loops' points, where the predicate holds, one to one onto the iter vars' domains.

    Args:
        block: Whose bindings.
        loops: The loops around it.

    Returns:
        None if a binding, an extent or the predicate is not quasi-affine, or the answer too costly.
    """
    variables = [s.var for s in loops]
    numbers = {v: f"l{k}" for k, v in enumerate(variables)}

    def name(v: Var) -> str:
        return numbers.get(v, v.name)

    try:
        extents = [it.var.extent for it in block.iters]
        params = parameters_of([*variables, *block.bindings, block.predicate, *[e for e in extents if e is not None]])
        head = heading(params)
        outputs = ", ".join(isl_text(b, name) for b in block.bindings)
        source = ", ".join(numbers[v] for v in variables)
        where = domain_text(variables, block.predicate, name)
        bounds = " and ".join(f"0 <= d{k} < {isl_text(e, name)}" for k, e in enumerate(extents) if e is not None)
    except NotAffineError:
        return None
    targets = ", ".join(f"d{k}" for k in range(len(extents)))
    return _ask(
        "bijective", f"{head}{{ [{source}] -> [{outputs}] : {where} }}", f"{head}{{ [{targets}] : {bounds or 'true'} }}"
    )


def injective_isl(block: Block, fixed: Sequence[Var], varying: Sequence[Var]) -> bool | None:
    """Whether bindings name each point of the varying loops where the predicate holds, the other loops fixed.

    Args:
        block: Whose bindings.
        fixed: Loops that do not vary.
        varying: Loops that do.

    Returns:
        None if a binding, an extent or the predicate is not quasi-affine, or the answer too costly.
    """
    names = {v: f"o{k}" for k, v in enumerate(fixed)} | {v: f"l{k}" for k, v in enumerate(varying)}

    def name(v: Var) -> str:
        return names.get(v, v.name)

    try:
        params = parameters_of([*fixed, *varying, *block.bindings, block.predicate])
        outputs = ", ".join([names[v] for v in fixed] + [isl_text(b, name) for b in block.bindings])
        where = domain_text([*fixed, *varying], block.predicate, name)
    except NotAffineError:
        return None
    return _ask("injective", f"{heading(params)}{{ [{', '.join(names.values())}] -> [{outputs}] : {where} }}")


LIMIT = 200_000
"""How many of isl's operations a question may take (some 20 ms); what takes more stays unknown."""


@lru_cache(maxsize=4096)
def _ask(question: str, *texts: str) -> bool | None:
    """Answers a question about sets and maps; None if it takes more than LIMIT operations."""
    import islpy

    context = islpy.Context()
    kind = islpy.Set if question == "empty" else islpy.Map
    try:
        first: Any = kind.read_from_str(context, texts[0])
        second: Any = None
        if len(texts) > 1:
            second = (islpy.Set if question == "bijective" else islpy.Map).read_from_str(context, texts[1])
        # From here on: a limit that is reached while reading shows as a syntax error.
        context.set_max_operations(LIMIT)
        match question:
            case "injective":
                return bool(first.is_injective())
            case "bijective":
                return bool(first.is_injective()) and bool(first.range().is_equal(second))
            case "empty":
                return bool(first.is_empty())
            case "subset":
                return bool(first.is_subset(second))
    except islpy.Error as error:
        if "maximal number of operations exceeded" in str(error):
            return None
        raise InternalError(f"isl cannot tell whether {question}: {' and '.join(texts)}: {error}") from error
    raise InternalError(f"no question {question} to isl")


def is_empty(text: str) -> bool | None:
    """Whether a set in isl's notation is empty; None if that is too costly to find out."""
    return _ask("empty", text)


def is_subset(smaller: str, larger: str) -> bool | None:
    """Whether one map in isl's notation lies in another; None if that is too costly to find out."""
    return _ask("subset", smaller, larger)
