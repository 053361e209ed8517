"""Random programs on register buffers: runs written whole and in part, in loops, under conditions, lane by lane."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

SIZE, WIDE = 16, 64
"""Elements of a register buffer, and of the input."""


@dataclass(frozen=True)
class _Scope:
    """What an expression may name.

    Attributes:
        loops: Serial loops (or iter vars that stand for them) with their extents.
        unrolled: Unrolled loops with their extents.
        lane: The vectorized loop's variable, or None.
        lanes: Its extent.
        target: In a vectorized loop: the register buffer that it writes.
        place: And the element, in which every lane has its own.
        depth: How deep it is nested.
        bound: Whether the variables are iter vars of a block around.
    """

    loops: tuple[tuple[str, int], ...] = ()
    unrolled: tuple[tuple[str, int], ...] = ()
    lane: str | None = None
    lanes: int = 1
    target: str = ""
    place: str = ""
    depth: int = 0


@dataclass
class RegisterProgram:
    """Writes one program; registers T and U, input A, output B, all of one dtype."""

    rng: random.Random
    dtype: str
    lines: list[str] = field(default_factory=list)
    count: int = 0

    def text(self) -> str:
        """The whole function."""
        d, r = self.dtype, self.rng
        self.lines = [
            "@loop.function",
            f"def registers(A: {d}[{WIDE}], B: out({d}[{WIDE}])):",
            f'    T = alloc({d}[{SIZE}], scope="register")',
            f'    U = alloc({d}[{SIZE}], scope="register")',
        ]
        self.fill("B", WIDE, 1, f"{d}(0)" if d[0] in "iu" else f"{d}(0.0)")
        if d == "i64":
            self.lines = [x.replace("i64(0)", "0") for x in self.lines]
        indent = 1
        if r.random() < 0.15:
            self.lines.append("    for p in parallel(1):")
            indent = 2
        for name in "TU":
            if r.random() < 0.9:
                self.fill(name, SIZE, indent, "A")
        for _ in range(r.randint(2, 4)):
            self.statement(_Scope(), indent)
        self.accumulate_all(indent)
        return "\n".join(self.lines) + "\n"

    def fresh(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def fill(self, name: str, size: int, indent: int, value: str) -> None:
        """Writes a buffer whole, in runs of random lengths."""
        pad, start = "    " * indent, 0
        while start < size:
            length = min(self.rng.choice([1, 2, 3, 4, 5, 8, 16]), size - start)
            v, b = self.fresh("v"), self.fresh("fill")
            source = f"A[{v}x]" if value == "A" else value
            self.lines += [
                f"{pad}for {v} in vectorized({length}):",
                f'{pad}    with block("{b}"):',
                f"{pad}        {v}x = spatial({WIDE}, {v} + {start})",
                f"{pad}        {name}[{v}x] = {source}",
            ]
            start += length

    def accumulate_all(self, indent: int) -> None:
        """Puts what the registers hold at the end into the output."""
        pad = "    " * indent
        for k, name in enumerate("TU"):
            v, b = self.fresh("v"), self.fresh("end")
            self.lines += [
                f"{pad}for {v} in unrolled({SIZE}):",
                f'{pad}    with block("{b}"):',
                f"{pad}        {v}x = spatial({WIDE}, {v} + {16 * k + 32})",
                f"{pad}        {v}y = spatial({SIZE}, {v})",
                f"{pad}        B[{v}x] = B[{v}x] + {name}[{v}y]",
            ]

    def statement(self, scope: _Scope, indent: int) -> None:
        """A loop, a condition or a block with stores."""
        r, pad = self.rng, "    " * indent
        choice = r.random()
        if scope.depth >= 4 or choice < 0.35:
            self.leaf(scope, indent)
        elif choice < 0.55:
            extent, var = r.choice([1, 2, 3]), self.fresh("i")
            kind = r.choice(["range", "range", "unrolled"])
            self.lines.append(f"{pad}for {var} in {kind}({extent}):")
            pair = ((var, extent),)
            inner = (
                _Scope(scope.loops + pair, scope.unrolled, scope.lane, scope.lanes, scope.target, scope.place)
                if kind == "range"
                else _Scope(scope.loops, scope.unrolled + pair, scope.lane, scope.lanes, scope.target, scope.place)
            )
            self.body(inner, scope.depth, indent)
        elif choice < 0.8 and scope.lane is None:
            extent, var = r.choice([2, 3, 4, 5, 8]), self.fresh("j")
            self.lines.append(f"{pad}for {var} in vectorized({extent}):")
            step = r.choice([1, 1, 1, 1, 2, -1]) if extent <= 5 else r.choice([1, 1, -1])
            span = (extent - 1) * abs(step)
            unrolled = self.unrolled_part(scope, SIZE - 1 - span)
            start = r.randint(0, SIZE - 1 - span - unrolled[1]) + (span if step < 0 else 0)
            place = f"{var} * {step} + {start}{unrolled[0]}"
            inner = _Scope(scope.loops, scope.unrolled, var, extent, r.choice("TU"), place)
            self.body(inner, scope.depth, indent)
        elif scope.loops or scope.unrolled or scope.lane:
            self.condition(scope, indent)
        else:
            self.leaf(scope, indent)

    def body(self, scope: _Scope, depth: int, indent: int) -> None:
        for _ in range(self.rng.randint(1, 3)):
            self.statement(
                _Scope(scope.loops, scope.unrolled, scope.lane, scope.lanes, scope.target, scope.place, depth + 1),
                indent + 1,
            )

    def unrolled_part(self, scope: _Scope, room: int) -> tuple[str, int]:
        """A term of an unrolled loop's variable, and how far it reaches."""
        if not scope.unrolled or self.rng.random() < 0.4:
            return "", 0
        name, extent = self.rng.choice(scope.unrolled)
        step = self.rng.choice([1, 2, 4])
        reach = (extent - 1) * step
        return (f" + {name} * {step}", reach) if reach <= room else ("", 0)

    def test(self, scope: _Scope) -> str:
        """A condition on the loops around."""
        names = [*scope.loops, *scope.unrolled, *([(scope.lane, scope.lanes)] if scope.lane else [])]
        name, extent = self.rng.choice(names)
        return f"{name} {self.rng.choice(['<', '>=', '=='])} {self.rng.randint(0, extent)}"

    def condition(self, scope: _Scope, indent: int) -> None:
        """A block around more statements."""
        pad = "    " * indent
        self.lines.append(f'{pad}with block("{self.fresh("if")}", where={self.test(scope)}):')

        def bound(name: str, extent: int, kind: str) -> tuple[str, int]:
            x = self.fresh("x")
            self.lines.append(f"{pad}    {x} = {kind}({extent}, {name})")
            return x, extent

        loops = tuple(bound(n, e, "ordered") for n, e in scope.loops)
        unrolled = tuple(bound(n, e, "ordered") for n, e in scope.unrolled)
        renamed = dict(zip([n for n, _ in scope.unrolled], [n for n, _ in unrolled], strict=True))
        lane, place = scope.lane, scope.place
        if lane is not None:
            new, _ = bound(lane, scope.lanes, "spatial")
            renamed[lane], lane = new, new
        for old, name in renamed.items():
            place = " ".join(name if word == old else word for word in place.split(" "))
        inner = _Scope(loops, unrolled, lane, scope.lanes, scope.target, place)
        self.body(inner, scope.depth, indent)

    def leaf(self, scope: _Scope, indent: int) -> None:
        """A block that stores into a register, or into the output what a register holds."""
        r, pad = self.rng, "    " * indent
        where = f", where={self.test(scope)}" if r.random() < 0.2 and (scope.loops or scope.lane) else ""
        header = f'{pad}with block("{self.fresh("b")}"{where}):'
        iters: list[str] = []

        def at(expression: str, size: int) -> str:
            name = self.fresh("y")
            kind = "spatial" if scope.lane and scope.lane in expression.split(" ") else "ordered"
            iters.append(f"{pad}    {name} = {kind}({size}, {expression})")
            return name

        def register(name: str) -> str:
            if scope.lane and name == scope.target:
                return f"{name}[{at(scope.place, SIZE)}]"
            if scope.lane is None:
                part, reach = self.unrolled_part(scope, SIZE - 1)
                return f"{name}[{at(f'{r.randint(0, SIZE - 1 - reach)}{part}', SIZE)}]"
            shape = r.choice(["run", "run", "one", "back", "twice"])
            if shape == "twice" and scope.lanes <= 5:
                part, reach = self.unrolled_part(scope, SIZE - 1 - 2 * (scope.lanes - 1))
                start = r.randint(0, SIZE - 1 - 2 * (scope.lanes - 1) - reach)
                return f"{name}[{at(f'{scope.lane} * 2 + {start}{part}', SIZE)}]"
            if shape == "back":
                return f"{name}[{at(f'{r.randint(scope.lanes - 1, SIZE - 1)} - {scope.lane}', SIZE)}]"
            if shape == "one":
                return f"{name}[{at(f'{r.randint(0, SIZE - 1)}', SIZE)}]"
            part, reach = self.unrolled_part(scope, SIZE - scope.lanes)
            return f"{name}[{at(f'{scope.lane} + {r.randint(0, SIZE - scope.lanes - reach)}{part}', SIZE)}]"

        def memory() -> str:
            terms = [f"{n} * {r.choice([1, 2])}" for n, _ in (*scope.loops, *scope.unrolled)][:4]
            terms += [f"{scope.lane}"] * (scope.lane is not None)
            return f"A[{at(' + '.join([*terms, str(r.randint(0, 20))]), WIDE)}]"

        if r.random() < 0.4:
            out = at(scope.place or str(r.randint(0, 23)), WIDE)
            body = [f"B[{out}] = B[{out}] + B[{out}] + {register(r.choice('TU'))}"]
        else:
            name = scope.target or r.choice("TU")
            place = register(name)
            read = place if scope.lane or r.random() < 0.5 else register(name)
            other = register("U" if name == "T" else "T")
            choice = r.randrange(6)
            if choice == 0:
                body = [f"{place} = {memory()}"]
            elif choice == 1:
                body = [f"{place} = {read} + {other}"]
            elif choice == 2:
                body = [f"{place} += {memory()} * {other}"]
            elif choice == 3:
                body = [f"{place} = select({other} < {memory()}, {memory()}, {read})"]
            elif choice == 4:
                body = [f"{place} = {other}", f"{place} = {place} + {memory()}"]
            else:
                body = [f"{place} += {other}"]
        self.lines += [header, *iters, *(f"{pad}    {line}" for line in body)]
