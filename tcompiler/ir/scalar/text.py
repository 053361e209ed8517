"""Text of the scalar language: a subset of Python's expressions, printed with the fewest parentheses and read with ast.

    constants   3  -3 (i64)   True  False   i32(3)   f32(0.1)  f32(inf)  f32(nan)   f32.bits(0x7fc00001) (other NaNs)
    operators   a + b  a - b  a * b  a / b (div)  a // b  a % b  a << b  a >> b  a & b  a | b  a ^ b  ~a  -a
                a < b  a <= b  a > b  a >= b  a == b  a != b (never chained)
    functions   min(a, b)  max(a, b)  pow(a, b)  truncdiv(a, b)  exp(a)  …  select(cond, a, b)  cast(f32, a)
    loads       A[i, j + 1]   A[()] for rank 0
    reducers    sum  prod  min  max  any  all  argmin  argmax
                reducer(lambda a0, b0: (a0 + b0,), (f32(0.0),))

Floats print as the shortest decimal that reads back to the same bits. The printer is iterative; what can be read is
limited by the depth that Python's own parser takes.
"""

from __future__ import annotations

import ast
import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Literal, cast

from tcompiler.errors import ParseError
from tcompiler.ir import dtypes as dt
from tcompiler.ir.dtypes import DTYPES, DType
from tcompiler.ir.scalar.grammar import (
    BINARY,
    FALSE,
    TRUE,
    UNARY,
    Binary,
    Cast,
    Const,
    Load,
    Reducer,
    Scalar,
    Select,
    Unary,
    Var,
    const,
    index,
)
from tcompiler.ir.scalar.reducers import REDUCER_NAMES, named_reducer, reducer_name

_COMPARISON, _UNARY, _ATOM = 1, 8, 9
_OPERATORS: dict[str, tuple[str, int]] = {
    # op: its sign and how strongly it binds, as in Python
    "lt": ("<", _COMPARISON),
    "le": ("<=", _COMPARISON),
    "gt": (">", _COMPARISON),
    "ge": (">=", _COMPARISON),
    "eq": ("==", _COMPARISON),
    "ne": ("!=", _COMPARISON),
    "or": ("|", 2),
    "xor": ("^", 3),
    "and": ("&", 4),
    "shl": ("<<", 5),
    "shr": (">>", 5),
    "add": ("+", 6),
    "sub": ("-", 6),
    "mul": ("*", 7),
    "div": ("/", 7),
    "floordiv": ("//", 7),
    "floormod": ("%", 7),
}
_INFIX = {op: (f" {sign} ", level, level + (level == _COMPARISON)) for op, (sign, level) in _OPERATORS.items()}

_CACHED_LENGTH = 2048
_TEXT: dict[Scalar, str] = {}


def print_scalar(node: Scalar) -> str:
    """The text of a scalar expression, on one line."""
    text = _TEXT.get(node)
    if text is not None:
        return text
    out: list[str] = []
    stack: list[str | tuple[Scalar, int]] = [(node, 0)]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            out.append(item)
            continue
        n, level = item
        kind = type(n)
        if kind is Var:
            out.append(n.name)  # type: ignore[attr-defined]
            continue
        match n:
            case Const():
                out.append(print_const(n))
            case Var(name=name):
                out.append(name)
            case Binary(op=op, a=a, b=b):
                infix = _INFIX.get(op)
                if infix is None:
                    out.append(f"{op}(")
                    stack += [")", (b, 0), ", ", (a, 0)]
                else:
                    sign, own, left = infix
                    if own < level:
                        out.append("(")
                        stack.append(")")
                    stack += [(b, own + 1), sign, (a, left)]
            case Unary(op=op, a=a):
                # a minus in front of a constant would be read as that constant's sign
                if op == "not" or (op == "neg" and not isinstance(a, Const)):
                    out.append("~" if op == "not" else "-")
                    stack.append((a, _UNARY))
                else:
                    out.append(f"{op}(")
                    stack += [")", (a, 0)]
            case Select(cond=c, a=a, b=b):
                out.append("select(")
                stack += [")", (b, 0), ", ", (a, 0), ", ", (c, 0)]
            case Cast(dtype=dtype, a=a):
                out.append(f"cast({dtype.name}, ")
                stack += [")", (a, 0)]
            case Load(buffer=name, indices=indices):
                out.append(f"{name}[")
                stack.append("]")
                if not indices:
                    stack.append("()")
                for k in range(len(indices) - 1, -1, -1):
                    stack.append((indices[k], 0))
                    if k:
                        stack.append(", ")
            case _:
                raise TypeError(f"not a scalar: {kind.__name__}")
    text = "".join(out)
    if len(text) <= _CACHED_LENGTH:
        _TEXT[node] = text
    return text


@lru_cache(maxsize=8192)
def print_const(node: Const) -> str:
    """The text of a constant; no bit is lost."""
    dtype, bits = node.dtype, node.bits
    if dtype.kind == "bool":
        return "True" if bits else "False"
    if not dtype.is_float:
        return str(node.value) if dtype is dt.i64 else f"{dtype.name}({node.value})"
    value = float(node.value)
    if math.isfinite(value):
        # numpy knows the shortest digits of its own types; those of bf16 are searched for
        shortest = [float(str(dtype.numpy.type(value)))] if dtype is not dt.bf16 else []
        for short in (*shortest, *(float(f"{value:.{digits}g}") for digits in range(1, 18))):
            if const(dtype, short).bits == bits:
                return f"{dtype.name}({short!r})"
    elif const(dtype, math.nan if math.isnan(value) else value).bits == bits:
        return f"{dtype.name}({value!r})"
    return f"{dtype.name}.bits({bits:#0{2 + 2 * dtype.bytes}x})"


def print_reducer(reducer: Reducer) -> str:
    """The text of a reducer: its name if it has one, else its definition."""
    name = reducer_name(reducer)
    if name is not None:
        return name
    names = ", ".join(v.name for v in reducer.lhs + reducer.rhs)
    combine = print_tuple([print_scalar(c) for c in reducer.combine])
    identity = print_tuple([print_const(c) for c in reducer.identity])
    return f"reducer(lambda {names}: {combine}, {identity})"


def print_tuple(items: Sequence[str]) -> str:
    """Texts as a Python tuple."""
    return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: what is close to it, else what there is."""
    options = list(known)
    close = difflib.get_close_matches(name, options, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    if not options:
        return "; there are none"
    return f"; known here: {', '.join(options[:8])}{', …' if len(options) > 8 else ''}"


def parse_scalar(text: str, variables: Mapping[str, Var], buffers: Mapping[str, DType]) -> Scalar:
    """Reads a scalar expression.

    Args:
        text: The expression.
        variables: Variables by name.
        buffers: Element types of tensors or buffers by name.

    Raises:
        ParseError: If the text is not a scalar over these names, or its types do not fit.
    """
    reader = ScalarReader(text)
    return reader.read(reader.parse("eval").body, variables, buffers)


def parse_reducer(text: str, dtypes: Sequence[DType] = ()) -> Reducer:
    """Reads a reducer; the dtypes are those that a named one combines.

    Raises:
        ParseError: If the text is not a reducer over these dtypes.
    """
    reader = ScalarReader(text)
    return reader.read_reducer(reader.parse("eval").body, dtypes)


_BINARY_SIGNS: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
    ast.FloorDiv: "floordiv",
    ast.Mod: "floormod",
    ast.LShift: "shl",
    ast.RShift: "shr",
    ast.BitAnd: "and",
    ast.BitOr: "or",
    ast.BitXor: "xor",
}
_COMPARE_SIGNS: dict[type[ast.cmpop], str] = {
    ast.Lt: "lt",
    ast.LtE: "le",
    ast.Gt: "gt",
    ast.GtE: "ge",
    ast.Eq: "eq",
    ast.NotEq: "ne",
}
_NAMED_UNARY = frozenset(UNARY) - {"not"}
_NAMED_BINARY = frozenset(BINARY) - frozenset(_OPERATORS)
_FUNCTIONS = (*sorted(_NAMED_UNARY), *sorted(_NAMED_BINARY), "select", "cast", *DTYPES)

_Plan = tuple[Sequence[ast.expr], Callable[[list[Scalar]], Scalar]]


def operand_error(op: str, dtypes: Sequence[DType]) -> str | None:
    """Why an operation does not take operands of these types; None if it does."""
    need = UNARY.get(op) if len(dtypes) == 1 else BINARY.get(op)
    if need is None:
        return f"there is no {'unary' if len(dtypes) == 1 else 'binary'} operation {op!r}"
    if any(d is not dtypes[0] for d in dtypes):
        return f"{op} takes operands of one type, not {' and '.join(d.name for d in dtypes)}"
    d = dtypes[0]
    fits = {
        "any": True,
        "float": d.is_float,
        "integer": d.is_integer,
        "number": d.kind != "bool",
        "bits": not d.is_float,
        "bool": d.kind == "bool",
    }[need]
    kinds = {"number": "numbers", "float": "floats", "integer": "integers", "bits": "bools or integers"}
    return None if fits else f"{op} takes {kinds.get(need, need)}, not {d.name}"


class ScalarReader:
    """Reads scalars out of a parsed Python source, for this and the other languages' parsers.

    Args:
        source: The whole text; errors show the line of it that they are about.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.lines = source.splitlines() or [""]

    def parse(self, mode: Literal["eval", "exec"]) -> ast.Expression:
        """The source as Python syntax: an ast.Expression, or for "exec" an ast.Module (cast by the caller).

        Raises:
            ParseError: If it is not Python syntax, or nested deeper than Python's parser goes.
        """
        try:
            return cast(ast.Expression, ast.parse(self.source, mode=mode))
        except SyntaxError as e:
            if e.msg.startswith("too many nested"):
                raise self._too_deep() from None
            line = min(max(e.lineno or 1, 1), len(self.lines))
            text = self.lines[line - 1]
            column = min(max(e.offset or 1, 1), len(text) + 1)
            raise ParseError(f"not Python syntax: {e.msg}", line, column, text) from None
        except (RecursionError, MemoryError):
            raise self._too_deep() from None
        except ValueError as e:
            raise ParseError(f"not Python syntax: {e}", 1, 1, self.lines[0][:80]) from None

    def _too_deep(self) -> ParseError:
        message = "nested deeper than Python's parser reads; name an intermediate result"
        return ParseError(message, 1, 1, self.lines[0][:80])

    def error(self, node: ast.AST, message: str) -> ParseError:
        """The error to raise about a piece of syntax: its place, its line and carets below it."""
        line = getattr(node, "lineno", 1)
        text = self.lines[line - 1] if line <= len(self.lines) else ""
        raw = text.encode()
        start = getattr(node, "col_offset", 0)
        end = getattr(node, "end_col_offset", start + 1)
        if getattr(node, "end_lineno", line) != line:
            end = len(raw)
        column = len(raw[:start].decode(errors="replace"))
        length = len(raw[start:end].decode(errors="replace"))
        return ParseError(message, line, column + 1, text, length)

    def read(self, node: ast.expr, variables: Mapping[str, Var], buffers: Mapping[str, DType]) -> Scalar:
        """Reads a piece of syntax as a scalar; iterative, so that a long chain is no deeper than a short one.

        Raises:
            ParseError: If it is not a scalar over these names, or its types do not fit.
        """
        results: list[Scalar] = []
        stack: list[ast.expr | tuple[int, Callable[[list[Scalar]], Scalar]]] = [node]
        while stack:
            item = stack.pop()
            if isinstance(item, tuple):
                count, build = item
                operands = results[len(results) - count :]
                del results[len(results) - count :]
                results.append(build(operands))
                continue
            operands_of, build = self._plan(item, variables, buffers)
            stack.append((len(operands_of), build))
            stack.extend(reversed(operands_of))
        return results[0]

    def _plan(self, node: ast.expr, variables: Mapping[str, Var], buffers: Mapping[str, DType]) -> _Plan:
        match node:
            case ast.Name(id=name):
                found = variables.get(name)
                if found is None:
                    if name in buffers:
                        raise self.error(node, f"{name!r} is a tensor: index it, as in {name}[i] or {name}[()]")
                    raise self.error(node, f"unknown variable {name!r}{suggestion(name, variables)}")
                return _leaf(found)
            case ast.Constant():
                return _leaf(self._literal(node))
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant() as literal) if type(literal.value) is int:
                return _leaf(self._literal(literal, negative=True))
            case ast.UnaryOp(op=ast.USub(), operand=a):
                return self._operation(node, "neg", (a,))
            case ast.UnaryOp(op=ast.Invert(), operand=a):
                return self._operation(node, "not", (a,))
            case ast.BinOp(op=sign, left=a, right=b) if type(sign) in _BINARY_SIGNS:
                return self._operation(node, _BINARY_SIGNS[type(sign)], (a, b))
            case ast.Compare(ops=[sign], left=a, comparators=[b]) if type(sign) in _COMPARE_SIGNS:
                return self._operation(node, _COMPARE_SIGNS[type(sign)], (a, b))
            case ast.Compare(ops=[_, _, *_]):
                raise self.error(node, "comparisons are not chained; write (a < b) & (b < c)")
            case ast.BoolOp(op=sign):
                word, mark = ("and", "&") if isinstance(sign, ast.And) else ("or", "|")
                raise self.error(node, f"`{word}` is not an operator here; write a {mark} b")
            case ast.BinOp(op=ast.Pow()):
                raise self.error(node, "`**` is not an operator here; write pow(a, b)")
            case ast.IfExp():
                raise self.error(node, "`if` is not an operator here; write select(cond, a, b)")
            case ast.UnaryOp(op=ast.Not()):
                raise self.error(node, "`not` is not an operator here; write ~a")
            case ast.Subscript(value=ast.Name(id=name), slice=where):
                return self._load(node, name, where, buffers)
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="bits"), args=[bits], keywords=[]):
                return _leaf(self._bits(node, name, bits))
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
                return self._call(node, name, args)
        raise self.error(node, "not a scalar expression")

    def _operation(self, node: ast.expr, op: str, operands: Sequence[ast.expr]) -> _Plan:
        def build(values: list[Scalar]) -> Scalar:
            wrong = operand_error(op, [v.dtype for v in values])
            if wrong is not None:
                raise self.error(node, wrong + self._literal_hint(operands, values))
            return Unary(op, values[0]) if len(values) == 1 else Binary(op, values[0], values[1])

        return operands, build

    @staticmethod
    def _literal_hint(operands: Sequence[ast.expr], values: Sequence[Scalar]) -> str:
        """Says how to write a plain integer in the other operand's type."""
        if len(values) == 2 and values[0].dtype is not values[1].dtype:
            for k in (0, 1):
                value, other = values[k], values[1 - k]
                if isinstance(value, Const) and value.dtype is dt.i64 and isinstance(operands[k], ast.Constant):
                    return f"; write {other.dtype.name}({value.value})"
        return ""

    def _call(self, node: ast.Call, name: str, args: Sequence[ast.expr]) -> _Plan:
        if name in _NAMED_UNARY and len(args) == 1:
            return self._operation(node, name, args)
        if name in _NAMED_BINARY and len(args) == 2:
            return self._operation(node, name, args)
        if name == "select" and len(args) == 3:
            return args, lambda v: self._select(node, v)
        if name == "cast" and len(args) == 2:
            target = self.read_dtype(args[0])
            return args[1:], lambda v: Cast(target, v[0])
        if name in DTYPES and len(args) == 1:
            return _leaf(self._typed_literal(DTYPES[name], args[0]))
        takes = 1 if name in _NAMED_UNARY or name in DTYPES else 2
        if name in _FUNCTIONS:
            takes = 3 if name == "select" else takes
            raise self.error(node, f"{name} takes {takes} argument{'s'[: takes > 1]}, not {len(args)}")
        raise self.error(node.func, f"unknown function {name!r}{suggestion(name, _FUNCTIONS)}")

    def _select(self, node: ast.expr, values: list[Scalar]) -> Scalar:
        cond, a, b = values
        if cond.dtype is not dt.bool_:
            raise self.error(node, f"select takes a bool condition, not {cond.dtype.name}")
        if a.dtype is not b.dtype:
            raise self.error(node, f"select takes sides of one type, not {a.dtype.name} and {b.dtype.name}")
        return Select(cond, a, b)

    def _load(self, node: ast.expr, name: str, where: ast.expr, buffers: Mapping[str, DType]) -> _Plan:
        element = buffers.get(name)
        if element is None:
            raise self.error(node, f"unknown tensor {name!r}{suggestion(name, buffers)}")
        indices = where.elts if isinstance(where, ast.Tuple) else [where]

        def build(values: list[Scalar]) -> Scalar:
            for syntax, value in zip(indices, values, strict=True):
                if value.dtype is not dt.i64:
                    raise self.error(syntax, f"an index is i64, not {value.dtype.name}")
            return Load(name, element, tuple(values))

        return indices, build

    def _literal(self, node: ast.Constant, negative: bool = False) -> Scalar:
        value = node.value
        if value is True or value is False:
            return TRUE if value else FALSE
        if isinstance(value, int):
            return self._integer(node, dt.i64, -value if negative else value)
        if isinstance(value, float):
            raise self.error(node, f"a float constant names its type; write f32({value!r})")
        raise self.error(node, f"not a scalar constant: {value!r}")

    def _integer(self, node: ast.expr, dtype: DType, value: int) -> Const:
        result = index(value) if dtype is dt.i64 else const(dtype, value)
        if result.value != value:
            raise self.error(node, f"{value} does not fit {dtype.name}")
        return result

    def _typed_literal(self, dtype: DType, node: ast.expr) -> Const:
        """The constant inside f32(…)."""
        inner, negative = node, False
        if isinstance(inner, ast.UnaryOp) and isinstance(inner.op, ast.USub):
            inner, negative = inner.operand, True
        value: int | float | bool | None = None
        if isinstance(inner, ast.Constant) and type(inner.value) in (int, float, bool):
            value = cast("int | float | bool", inner.value)
        elif isinstance(inner, ast.Name) and inner.id in ("inf", "nan") and dtype.is_float:
            value = float(inner.id)
            if inner.id == "nan" and negative:
                raise self.error(node, f"a NaN with its sign set is written by its bits, as {dtype.name}.bits(…)")
        if value is None:
            what = "a cast is written cast(" + dtype.name + ", …)"
            raise self.error(node, f"{dtype.name}(…) takes a literal; {what}")
        if dtype.kind == "bool" and type(value) is bool and not negative:
            return TRUE if value else FALSE
        if type(value) is bool or (not dtype.is_float and type(value) is float) or dtype.kind == "bool":
            raise self.error(node, f"{value!r} is not a constant of type {dtype.name}")
        if not dtype.is_float:
            return self._integer(node, dtype, -int(value) if negative else int(value))
        return self._float(inner, dtype, value, negative)

    def _float(self, node: ast.expr, dtype: DType, value: int | float, negative: bool) -> Const:
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        result = const(dtype, -number if negative else number)
        if not isinstance(node, ast.Name) and not math.isfinite(result.value):
            raise self.error(node, f"the literal overflows {dtype.name}; write {dtype.name}(inf)")
        return result

    def _bits(self, node: ast.expr, name: str, bits: ast.expr) -> Const:
        dtype = DTYPES.get(name)
        if dtype is None or not dtype.is_float:
            raise self.error(node, f"{name}.bits(…) needs a float type, not {name!r}")
        if not isinstance(bits, ast.Constant) or type(bits.value) is not int or bits.value >> dtype.bits:
            raise self.error(bits, f"{name}.bits takes a literal of {dtype.bits} bits, as in 0x{'0' * 2 * dtype.bytes}")
        return Const(dtype, bits.value)

    def read_dtype(self, node: ast.expr) -> DType:
        """Reads the name of an element type.

        Raises:
            ParseError: If there is no such type.
        """
        if isinstance(node, ast.Name) and node.id in DTYPES:
            return DTYPES[node.id]
        name = ast.unparse(node)
        raise self.error(node, f"unknown element type {name!r}{suggestion(name, DTYPES)}")

    def read_reducer(self, node: ast.expr, dtypes: Sequence[DType]) -> Reducer:
        """Reads a reducer.

        Args:
            node: A name, or a call of `reducer`.
            dtypes: The element types that it combines here; a name means the reducer over these.

        Raises:
            ParseError: If it is not a reducer, or one over other dtypes.
        """
        match node:
            case ast.Name(id=name):
                if name not in REDUCER_NAMES:
                    raise self.error(node, f"unknown reducer {name!r}{suggestion(name, REDUCER_NAMES)}")
                try:
                    return named_reducer(name, *dtypes)
                except ValueError as e:
                    raise self.error(node, str(e)) from None
            case ast.Call(
                func=ast.Name(id="reducer"),
                args=[ast.Lambda(args=params, body=ast.Tuple(elts=combine)), ast.Tuple(elts=identity)],
                keywords=[],
            ):
                return self._reducer(node, params, combine, identity)
        raise self.error(node, "not a reducer; write a name or reducer(lambda a0, b0: (…,), (identity,))")

    def _reducer(
        self, node: ast.expr, params: ast.arguments, combine: list[ast.expr], identity: list[ast.expr]
    ) -> Reducer:
        constants = []
        for syntax in identity:
            value = self.read(syntax, {}, {})
            if not isinstance(value, Const):
                raise self.error(syntax, "an identity is a constant")
            constants.append(value)
        names = [a.arg for a in params.args]
        arity = len(constants)
        plain = not (params.posonlyargs or params.kwonlyargs or params.vararg or params.kwarg or params.defaults)
        if not plain or len(names) != 2 * arity or len(combine) != arity or len(set(names)) != len(names):
            raise self.error(
                node, f"a reducer with {arity} identities takes {2 * arity} variables and gives {arity} values"
            )
        lhs = tuple(Var(n, c.dtype, None) for n, c in zip(names[:arity], constants, strict=True))
        rhs = tuple(Var(n, c.dtype, None) for n, c in zip(names[arity:], constants, strict=True))
        variables = {v.name: v for v in lhs + rhs}
        values = []
        for syntax, c in zip(combine, constants, strict=True):
            value = self.read(syntax, variables, {})
            if value.dtype is not c.dtype:
                raise self.error(syntax, f"the value is {value.dtype.name}, its identity {c.dtype.name}")
            values.append(value)
        return Reducer(lhs, rhs, tuple(values), tuple(constants))


def _leaf(value: Scalar) -> _Plan:
    return (), lambda _: value
