"""Reads a listing of x86-64 assembly (AT&T syntax): its loops, what is in them, and how fast a core can run them.

A loop is a stretch that ends with a jump back to its beginning. The inner ones are looked at: instructions, vectors,
memory, and the chain of results that depend on each other from one iteration to the next.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tcompiler.target.model import BOUNDS, Core, Work, bounds

_LABEL = re.compile(r"^([.\w$@]+):")
_FUNCTION = re.compile(r"^\s*\.type\s+([^\s,]+),\s*@function")
_OPERANDS = re.compile(r",\s*(?![^()]*\))")
_REGISTER = re.compile(r"%(\w+)")
_WIDTHS = {"z": 512, "y": 256, "x": 128}
_FLOAT = re.compile(r"v?(?:fn?m(?:add|sub)\w*?|add|sub|mul|div|sqrt|min|max|cmp\w*?|round|dp|rcp|rsqrt)([ps][sdh])$")
_FMA = re.compile(r"vfn?m(add|sub)\w*[ps][sdh]$|vpdp|vdp")
_MULTIPLY = re.compile(r"v?mul[ps][sdh]$")
_DIVIDE = re.compile(r"v?(div|sqrt)[ps][sdh]$")
_ELEMENT = {"s": 32, "d": 64, "h": 16}
_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Instruction:
    """A line of a listing.

    Attributes:
        line: Its number in the listing, from 0.
        name: Its mnemonic.
        operands: As written, sources first, the destination last.
    """

    line: int
    name: str
    operands: tuple[str, ...]

    @property
    def memory(self) -> str | None:
        """The operand in memory, None if there is none; an address that is only computed is none."""
        if self.name.startswith(("lea", "nop", "prefetch")):
            return None
        return next((o for o in self.operands if "(" in o), None)

    @property
    def stores(self) -> bool:
        """Whether it writes memory."""
        if not self.operands or "(" not in self.operands[-1] or self.memory is None:
            return False
        return not self.name.startswith(("cmp", "test", "j", "call", "push", "bt"))

    @property
    def loads(self) -> int:
        """How many reads of memory it makes: a gather reads every lane by itself."""
        memory = self.memory
        if memory is None:
            return 0
        if "gather" in self.name:
            wide = 64 if re.search(r"gatherq|pd$|[dq]q$", self.name) else 32
            return max(1, self.bits // wide)
        # What is written alone is moved there; other instructions read it first.
        return 0 if self.stores and re.match(r"v?p?mov|vextract|vp?mask|set|vcvtps2ph|vpmov|pop", self.name) else 1

    @property
    def bits(self) -> int:
        """Width of the widest vector register that it names, 0 if none."""
        return max((_WIDTHS[r[0]] for r in self.registers if re.match(r"[xyz]mm", r)), default=0)

    @property
    def registers(self) -> list[str]:
        """Every register that it names, in order."""
        return [r for o in self.operands for r in _REGISTER.findall(o)]

    @property
    def flops(self) -> int:
        """Floating-point operations, a multiply-add counted as two."""
        match = _FLOAT.match(self.name)
        if match is None or self.name.lstrip("v").startswith("cmp"):
            return 0
        kind = match[1]
        lanes = 1 if kind[0] == "s" else self.bits // _ELEMENT[kind[1]]
        return lanes * (2 if _FMA.match(self.name) else 1)

    @property
    def spills(self) -> bool:
        """Whether it touches a fixed place of the stack: what registers had no room for."""
        memory = self.memory
        return memory is not None and re.fullmatch(r"-?\w*\(%(rsp|rbp)\)", memory) is not None


@dataclass(frozen=True, slots=True)
class Loop:
    """An inner loop of a listing, in figures of one iteration.

    Attributes:
        function: The function that it is in.
        label: The label that it begins with.
        first: Line of the label.
        last: Line of the jump back.
        depth: Loops around it, itself included.
        instructions: How many.
        fma: Multiply-adds.
        vector_bits: Width of most of its vector arithmetic (of its vector instructions, if it has none); 0 for none.
        loads: Reads of memory.
        stores: Writes.
        spill_loads: Reads of fixed places of the stack.
        spill_stores: Writes there.
        flops: Floating-point operations.
        limits: The least cycles by resource (keys of `tcompiler.target.model.BOUNDS`).
    """

    function: str
    label: str
    first: int
    last: int
    depth: int
    instructions: int
    fma: int
    vector_bits: int
    loads: int
    stores: int
    spill_loads: int
    spill_stores: int
    flops: int
    limits: dict[str, float]

    @property
    def fma_share(self) -> float:
        """The part of the instructions that are multiply-adds."""
        return self.fma / self.instructions

    @property
    def bound(self) -> str:
        """What limits it: a key of BOUNDS."""
        return max(self.limits, key=lambda name: self.limits[name])

    @property
    def cycles(self) -> float:
        """The least cycles of an iteration."""
        return self.limits[self.bound]

    def describe(self, made: Core) -> list[str]:
        """Two lines for people."""
        spills = self.spill_loads + self.spill_stores
        width = f"{self.vector_bits}-bit vectors" if self.vector_bits else "no vectors"
        parts = [
            _counted(self.instructions, "instruction"),
            f"{self.fma} FMA ({self.fma_share:.0%})",
            width,
            _counted(self.loads, "load"),
            _counted(self.stores, "store"),
            f"{_counted(spills, 'spill')} ({self.spill_loads} read, {self.spill_stores} written)"
            if spills
            else "no spills",
        ]
        limits = ", ".join(f"{BOUNDS[name]} {value:.1f}" for name, value in self.limits.items() if value >= 0.05)
        speed = ""
        if self.flops:
            rate = self.flops / self.cycles
            speed = f"; {rate:.1f} flop per cycle"
            if self.fma:
                speed += f", {rate / made.flops_per_cycle():.0%} of the multiply-add peak in f32"
        return [
            f"inner loop {self.label}, depth {self.depth}: {', '.join(parts)}",
            f"limit {self.cycles:.1f} cycles an iteration by {BOUNDS[self.bound]} ({limits}){speed}",
        ]

    def to_json(self) -> dict[str, object]:
        """The figures as an object of JSON."""
        return {
            "function": self.function,
            "label": self.label,
            "depth": self.depth,
            "instructions": self.instructions,
            "fma": self.fma,
            "fma_share": self.fma_share,
            "vector_bits": self.vector_bits,
            "loads": self.loads,
            "stores": self.stores,
            "spill_loads": self.spill_loads,
            "spill_stores": self.spill_stores,
            "flops": self.flops,
            "limits": self.limits,
            "cycles": self.cycles,
            "bound": self.bound,
        }


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def inner_loops(text: str, made: Core) -> list[Loop]:
    """The loops of a listing that have no loop inside, in order.

    Args:
        text: Assembly of x86-64, AT&T syntax.
        made: The core that is to run it.
    """
    found = []
    for name, labels, instructions in _functions(text):
        loops = _loops(labels, instructions)
        for label, (first, last) in loops.items():
            inside = [r for r in loops.values() if first <= r[0] and r[1] <= last]
            if len(inside) == 1:
                body = [i for i in instructions if first < i.line <= last]
                around = sum(f <= first and last <= end for f, end in loops.values())
                found.append(_facts(name, label, (first, last), around, body, made))
    return sorted(found, key=lambda loop: loop.first)


def annotate(text: str, made: Core) -> str:
    """The listing with a comment before each inner loop: what it does in an iteration and how fast that can be.

    Args:
        text: Assembly of x86-64, AT&T syntax.
        made: The core that is to run it.
    """
    notes = {loop.first: loop.describe(made) for loop in inner_loops(text, made)}
    spilling = {
        i.line
        for _, labels, instructions in _functions(text)
        for first, last in _loops(labels, instructions).values()
        for i in instructions
        if first in notes and first < i.line <= last and i.spills
    }
    lines = []
    for number, line in enumerate(text.split("\n")):
        lines += [f"\t# {note}" for note in notes.get(number, ())]
        lines.append(f"{line}\t# spill" if number in spilling else line)
    return "\n".join(lines)


def _functions(text: str) -> Iterator[tuple[str, dict[str, int], list[Instruction]]]:
    """Each function: its name, the lines of its labels, its instructions."""
    name, names = "", set[str]()
    labels: dict[str, int] = {}
    instructions: list[Instruction] = []
    for number, line in enumerate(text.split("\n")):
        if declared := _FUNCTION.match(line):
            names.add(declared[1])
        elif label := _LABEL.match(line):
            if label[1] in names:
                if instructions:
                    yield name, labels, instructions
                name, labels, instructions = label[1], {}, []
            labels[label[1]] = number
        elif line.startswith("\t") and not line.startswith(("\t.", "\t#")):
            mnemonic, _, rest = line.split("#")[0].strip().partition("\t")
            operands = tuple(o.strip() for o in _OPERANDS.split(rest)) if rest else ()
            instructions.append(Instruction(number, mnemonic, operands))
    if instructions:
        yield name, labels, instructions


def _loops(labels: dict[str, int], instructions: Sequence[Instruction]) -> dict[str, tuple[int, int]]:
    """Loops by label: the lines of the label and of the last jump back to it."""
    found: dict[str, tuple[int, int]] = {}
    for i in instructions:
        if i.name.startswith("j") and i.operands and labels.get(i.operands[0], i.line) < i.line:
            found[i.operands[0]] = (labels[i.operands[0]], i.line)
    return found


def _facts(
    function: str, label: str, lines: tuple[int, int], depth: int, body: Sequence[Instruction], made: Core
) -> Loop:
    arithmetic = [i.bits for i in body if i.flops and not re.search(r"s[sdh]$", i.name)]
    widths = arithmetic or [i.bits for i in body if i.bits]
    bits = max(set(widths), key=lambda w: (widths.count(w), w)) if widths else 0
    fma = sum(_FMA.match(i.name) is not None for i in body)
    multiply = sum(_MULTIPLY.match(i.name) is not None for i in body)
    divide = sum(_DIVIDE.match(i.name) is not None for i in body)
    add = sum(_FLOAT.match(i.name) is not None for i in body) - multiply - divide
    add -= sum(_FMA.match(i.name) is not None and _FLOAT.match(i.name) is not None for i in body)
    loads, stores = sum(i.loads for i in body), sum(i.stores for i in body)
    chain = _chain(body, made)
    work = Work(fma + multiply, add, divide, loads, stores, len(body), bits or 64, chain)
    return Loop(
        function,
        label,
        *lines,
        depth,
        len(body),
        fma,
        bits,
        loads,
        stores,
        sum(i.spills and i.loads > 0 for i in body),
        sum(i.spills and i.stores for i in body),
        sum(i.flops for i in body),
        bounds(work, made),
    )


def _latency(instruction: Instruction, made: Core) -> float:
    """Cycles from an instruction's operands in registers to its result."""
    name = instruction.name
    if _FMA.match(name):
        return made.fma_latency
    if _DIVIDE.match(name):
        return 11 if name.endswith("s") else 14
    if _FLOAT.match(name) or name.startswith(("vcvt", "cvt", "imul")):
        return made.add_latency
    if re.match(r"v(perm|extract|insert|broadcast|pbroadcast|pmovzx|pmovsx)", name):
        return 0 if instruction.memory else 3
    if name.startswith("vpmull"):
        return 4
    # A move between registers is a renaming, one from or to memory is counted where memory is.
    return 0 if re.match(r"v?mov", name) else 1


def _chain(body: Sequence[Instruction], made: Core) -> float:
    """Cycles by which results come later from one iteration to the next, if everything but their dependence were free.

    A few iterations are run through with the time at which each register is ready; a place of the stack is ready
    a load's latency after it was written. Other memory is taken to be independent.
    """
    ready: dict[str, float] = {}
    halfway: dict[str, float] = {}
    for count in range(_ROUNDS):
        if count == _ROUNDS // 2:
            halfway = dict(ready)
        for i in body:
            if not i.operands or i.name.startswith(("j", "nop", "prefetch", "vzero", "call")):
                continue
            *sources, target = i.operands
            memory = i.memory
            start = 0.0
            for o in sources if "(" in target else [*sources, target]:
                if "(" not in o:
                    if o is target and not _reads_target(i):
                        continue
                    start = max([start, *(ready.get(_whole(x), 0.0) for x in _REGISTER.findall(o))])
                elif memory is None:  # the address is the result
                    start = max([start, *(ready.get(_whole(x), 0.0) for x in _REGISTER.findall(o))])
            if memory is not None and not i.stores:
                place = ready.get(memory, 0.0) if i.spills else 0.0
                at = max([place, *(ready.get(_whole(x), 0.0) for x in _REGISTER.findall(memory))])
                start = max(start, at + made.load_latency)
            if _zeroes(i):
                start = 0.0
            end = start + _latency(i, made)
            if "(" in target:
                if i.stores:
                    ready[target] = end
            elif not i.name.startswith(("cmp", "test", "vucomis", "vcomis", "ucomis", "vptest", "vtest")):
                for name in _REGISTER.findall(target)[:1]:
                    ready[_whole(name)] = end
    late = max((time - halfway[name] for name, time in ready.items() if name in halfway), default=0.0)
    return late / (_ROUNDS - _ROUNDS // 2)


def _reads_target(i: Instruction) -> bool:
    """Whether the result depends on what was in its register before."""
    if _FMA.match(i.name) or re.search(r"\{%k\d\}(?!\s*\{z\})", i.operands[-1]) or "gather" in i.name:
        return True
    # Instructions of the older kind have two operands and read both; moves and conversions read one.
    return not i.name.startswith(("v", "mov", "lea", "set", "cvt", "pop"))


def _zeroes(i: Instruction) -> bool:
    """Whether the result is the same whatever the operands are: x ^ x, x - x, x == x."""
    return re.match(r"v?p?(xor|sub|cmpeq)", i.name) is not None and len(i.operands) > 1 and len(set(i.operands)) == 1


_PARTS = {
    "ax": "rax", "bx": "rbx", "cx": "rcx", "dx": "rdx", "si": "rsi", "di": "rdi", "bp": "rbp", "sp": "rsp",
}  # fmt: skip


def _whole(register: str) -> str:
    """The register that another name is a part of."""
    if match := re.fullmatch(r"[xyz]mm(\d+)", register):
        return f"v{match[1]}"
    if match := re.fullmatch(r"(r\d+)[bwd]?", register):
        return match[1]
    if match := re.fullmatch(r"[er]?([abcd]x|[sd]i|[bs]p)", register):
        return _PARTS[match[1]]
    if match := re.fullmatch(r"([abcd])[lh]", register):
        return f"r{match[1]}x"
    if match := re.fullmatch(r"([sd]i|[bs]p)l", register):
        return _PARTS[match[1]]
    return register
