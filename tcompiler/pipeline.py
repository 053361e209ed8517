"""Every pass, in order: from a model as read to a compiled artifact.

graph passes     canonicalise, fold, share, group, choose layouts        transform/
per group        compose an expr program, derive, lower to loops          lower/, derive/
schedule                                                 schedule/rules
code             LLVM text, object code (cached, in parallel processes)   backends/llvm
whole model      pack constants, plan memory, emit the entry point        plan/
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tcompiler import ops
from tcompiler.assemble import assemble
from tcompiler.assemble.finished import FinishedKernel
from tcompiler.assemble.records import GroupRecord, KernelRecords
from tcompiler.errors import CompileError
from tcompiler.frontend.module import GraphModule
from tcompiler.ir.expr.grammar import Program
from tcompiler.ir.expr.hash import structural_hash as program_hash
from tcompiler.ir.expr.text import print_program
from tcompiler.ir.graph.grammar import ConstantStore, Graph, Node, TensorType, values
from tcompiler.ir.graph.text import print_graph
from tcompiler.ir.layout import Layout
from tcompiler.ir.scalar.grammar import Const, as_int
from tcompiler.lower.program import compose, signature
from tcompiler.ops.registry import get as operator
from tcompiler.runtime.assembly import assembly
from tcompiler.runtime.package import Artifact
from tcompiler.target.named import NAMED
from tcompiler.target.target import Target
from tcompiler.target.tile import hides_lines
from tcompiler.transform.centred import CenterConstants
from tcompiler.transform.chain import ChainContractions
from tcompiler.transform.group import VIEW, Group
from tcompiler.transform.layouts import ChooseLayouts
from tcompiler.transform.narrow import NarrowConstants
from tcompiler.transform.parts import PlaceParts
from tcompiler.transform.passes import SIMPLIFY, EliminateDeadCode, SplitPhases
from tcompiler.transform.siblings import MergeSiblings
from tcompiler.transform.visible import LeaveOutHidden
from tcompiler.transform.zero_points import FoldZeroPoints

if TYPE_CHECKING:
    from tcompiler.ir.loop.grammar import Function
    from tcompiler.schedule.schedule import Schedule

STAGES = ("imported", "graph", "expr", "loop", "scheduled", "trace", "llvm", "asm")
"""The stages whose text a model keeps, in order; those from "expr" on are per kernel. asm is made when asked for."""


class GraphPass(Protocol):
    """A rewrite of the graph; its fields are its options."""

    @property
    def name(self) -> str:
        """What the command line calls it."""
        ...

    def run(self, graph: Graph, store: ConstantStore) -> Graph:
        """The rewritten graph; new constants go into the store."""
        ...


def graph_passes(target: Target) -> tuple[GraphPass, ...]:
    """The rewrites of the graph, in order.

    Args:
        target: The machine that the model is for.
    """
    return (
        *SIMPLIFY,
        SplitPhases(target),
        FoldZeroPoints(),
        CenterConstants(target),
        EliminateDeadCode(),
        LeaveOutHidden(operator),
        EliminateDeadCode(),
        MergeSiblings(operator),
        NarrowConstants(operator),
        Group(operator),
        ChainContractions(operator),
        ChooseLayouts(operator, target),
        PlaceParts(operator, VIEW),
    )


PASS_NAMES = tuple(p.name for p in graph_passes(NAMED["x86-64-v3"]))
"""What these are called, the same for every machine."""


@dataclass(slots=True)
class Kernel:
    """One kernel on its way through the stages.

    Attributes:
        name: Its name in the model.
        program: What it computes.
        layouts: Physical layouts of inputs and outputs, by name.
        constants: Inputs known at compile time.
        function: The program lowered.
        schedule: The function scheduled.
        same: What groups of this kernel have in common.
        key: Under which the cache of finished kernels will have it; None if it is not to be kept.
    """

    name: str
    program: Program
    layouts: Mapping[str, Layout]
    constants: frozenset[str]
    function: Function | None = None
    schedule: Schedule | None = None
    same: str = ""
    key: str | None = None


@dataclass(slots=True)
class Step:
    """One call of a kernel: the values that stand for the program's inputs and outputs."""

    kernel: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Observer:
    """Hears of every pass; the command line prints and times with it. The default hears nothing."""

    def before(self, name: str) -> None:
        """A pass starts."""

    def after(self, name: str, seconds: float, text: Callable[[], str]) -> None:
        """A pass is done; text() prints the program after it."""


@dataclass(slots=True)
class Compilation:
    """A model between the passes.

    Attributes:
        module: The model as it was read.
        target: The machine.
        threads: Threads that a call may use.
        accuracy: What lossy derivations may do.
        observer: Hears of every pass.
        records: The cache of finished kernels; None where every kernel goes through all stages.
        graph: The graph as it is now.
        kernels: Kernels on their way, by name.
        finished: Kernels that the cache had, by name.
        steps: Calls of kernels, in order.
        texts: The stages' texts, by "stage" or "stage/kernel".
    """

    module: GraphModule
    target: Target
    threads: int
    accuracy: str = "high"
    observer: Observer = field(default_factory=Observer)
    records: KernelRecords | None = None
    graph: Graph = field(init=False)
    kernels: dict[str, Kernel] = field(default_factory=dict)
    finished: dict[str, FinishedKernel] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.graph = self.module.graph

    def text(self, stage: str) -> str:
        """A stage's text of all kernels, in the order of their first call."""
        return "\n".join(self.texts[f"{stage}/{name}"] for name in dict.fromkeys(s.kernel for s in self.steps))

    @contextmanager
    def watched(self, name: str, text: Callable[[], str]) -> Iterator[None]:
        """Tells the observer of a pass and its time."""
        self.observer.before(name)
        start = time.perf_counter()
        yield
        self.observer.after(name, time.perf_counter() - start, text)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """A compile makes many small objects and few cycles: a tenth of its time would go into looking for them."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def compile_module(
    module: GraphModule,
    target: Target,
    threads: int = 1,
    accuracy: str = "high",
    observer: Observer | None = None,
    stop_after: str | None = None,
) -> Artifact | Compilation:
    """Runs the whole pipeline.

    Args:
        module: The model.
        target: The machine to compile for.
        threads: Threads that a call may use.
        accuracy: "exact", "high" or "fast": what lossy derivations may do.
        observer: Hears of every pass.
        stop_after: A stage to stop after; the compilation so far is returned.

    Returns:
        The artifact, or with stop_after the compilation with the stages' texts.

    Raises:
        CompileError: If the model uses what no code is generated for.
    """
    if accuracy not in ("exact", "high", "fast"):
        raise CompileError(f'accuracy is "{accuracy}", expected "exact", "high" or "fast"')
    c = Compilation(module, target, threads, accuracy, observer or Observer())
    if stop_after is None and os.environ.get("TCOMPILER_DEBUG") != "1":
        c.records = KernelRecords(target, threads, accuracy)
    stages: list[tuple[str, Callable[[Compilation], None]]] = [
        ("imported", lambda c: c.texts.update(imported=print_graph(c.graph, c.module.constants))),
        ("graph", run_graph_passes),
        ("expr", compose_programs),
        ("loop", lower_programs),
        ("scheduled", schedule_functions),
    ]
    with _collector_paused():
        for name, stage in stages:
            stage(c)
            if name == stop_after:
                return c
        artifact = assemble(c)
        if stop_after is not None:
            c.texts.update(artifact.texts)
            if stop_after == "asm":
                entry = artifact.manifest["target"]
                listings = {k: assembly(t, entry) for k, t in artifact.texts.items() if k.startswith("llvm/")}
                c.texts.update({k.replace("llvm/", "asm/", 1): listing for k, listing in listings.items()})
            return c
        return artifact


def run_graph_passes(c: Compilation) -> None:
    """Rewrites the graph until it is grouped and laid out."""
    for p in graph_passes(c.target):
        with c.watched(p.name, lambda: print_graph(c.graph, c.module.constants)):
            c.graph = p.run(c.graph, c.module.constants)
    c.texts["graph"] = print_graph(c.graph, c.module.constants)


def compose_programs(c: Compilation) -> None:
    """Makes one expr program per group; groups that compute the same share one kernel."""
    types: Mapping[str, TensorType] = dict(values(c.graph))
    constants = {k.name for k in c.graph.constants}
    groups: dict[str, list[Node]] = {}
    last: dict[str, int] = {}
    for k, node in enumerate(c.graph.nodes):
        if node.group is not None and node.group != VIEW:
            groups.setdefault(node.group, []).append(node)
            last[node.group] = k
    outside = _readers(c.graph)
    scalars = _scalars(c)
    known: dict[str, str] = {}
    composed: dict[Hashable, tuple[str, tuple[int, ...], tuple[int, ...]]] = {}
    with c.watched("compose", lambda: c.text("expr")):
        for name in sorted(groups, key=lambda g: last[g]):
            leaving = tuple(v.name for n in groups[name] for v in n.outputs if outside[v.name] - {name})
            # A deep network repeats itself: what has the signature of a group seen before is the same program.
            same, names = signature(groups[name], types, leaving, scalars, constants)
            if same in composed:
                kernel_name, reads, writes = composed[same]
                c.steps.append(Step(kernel_name, tuple(names[k] for k in reads), tuple(names[k] for k in writes)))
                continue
            label = _kernel_name(groups[name], len(known))
            key = record = None
            if c.records is not None:
                key = c.records.key(label, groups[name], types, leaving, scalars, constants)
                record = c.records.get(key)
            if record is not None and record.same not in known and record.kernel is None:
                record = None
            if record is None:
                record = _composed(c, label, groups[name], types, leaving, scalars, constants, known, key)
            elif record.same not in known:
                assert record.kernel is not None
                c.finished[label] = record.kernel
                c.texts[f"expr/{label}"] = record.kernel.texts["expr"]
            step = Step(known.setdefault(record.same, label), record.inputs, record.outputs)
            c.steps.append(step)
            number = {value: k for k, value in enumerate(names)}
            reads, writes = (tuple(number[v] for v in side) for side in (step.inputs, step.outputs))
            composed[same] = step.kernel, reads, writes


def _composed(
    c: Compilation,
    label: str,
    nodes: Sequence[Node],
    types: Mapping[str, TensorType],
    leaving: Sequence[str],
    scalars: Mapping[str, Const],
    constants: Collection[str],
    known: Mapping[str, str],
    key: str | None,
) -> GroupRecord:
    """Composes the program of a group, and puts its kernel on its way unless there is one that computes the same."""
    program = compose(label, nodes, types, leaving, operator, scalars)
    inputs = tuple(t.name for t in program.inputs)
    layouts = {n: layout for n in (*inputs, *program.outputs) if (layout := types[n].layout) is not None}
    fixed = frozenset(n for n in inputs if n in constants)
    record = GroupRecord(_kernel_key(program, layouts, fixed), inputs, program.outputs, None)
    if record.same not in known:
        c.kernels[label] = Kernel(label, program, layouts, fixed, same=record.same, key=key)
        c.texts[f"expr/{label}"] = print_program(program)
    elif c.records is not None and key is not None:
        c.records.put(key, record)
    return record


def _scalars(c: Compilation) -> dict[str, Const]:
    """Constants of one element, by name: they are written into the code."""
    result = {}
    for k in c.graph.constants:
        if all(as_int(e) == 1 for e in k.type.shape) and k.type.layout is None:
            raw = c.module.constants.typed(k).tobytes()
            result[k.name] = Const(k.type.dtype, int.from_bytes(raw, "little"))
    return result


def _kernel_name(nodes: Sequence[Node], count: int) -> str:
    """A name for people: the operators that the kernel started from, and a number."""
    shown = "_".join(dict.fromkeys(n.op for n in nodes))
    return f"{shown[:40].rstrip('_')}_{count}"


def _readers(graph: Graph) -> dict[str, set[str | None]]:
    """The groups that read a value, by its name; None stands for the model's caller, and for a view."""
    result: dict[str, set[str | None]] = {v.name: set() for n in graph.nodes for v in n.outputs}
    for n in graph.nodes:
        for name in n.inputs:
            if name in result:
                result[name].add(n.group if n.group != VIEW else None)
    for v in graph.outputs:
        result.setdefault(v.name, set()).add(None)
    return result


def _kernel_key(program: Program, layouts: Mapping[str, Layout], fixed: frozenset[str]) -> str:
    """Two groups with one key are one kernel: same program, same layouts, same operands known."""
    names = (*(t.name for t in program.inputs), *program.outputs)
    described = [
        f"{n in fixed}:{layouts[n].map.outputs}:{layouts[n].shape}" if n in layouts else f"{n in fixed}" for n in names
    ]
    return f"{program_hash(program)}|{'|'.join(described)}"


def lower_programs(c: Compilation) -> None:
    """Makes a loop function of every program."""
    with c.watched("lower", lambda: c.text("loop")):
        for done in c.finished.values():
            c.texts[f"loop/{done.name}"] = done.texts["loop"]
        if c.kernels:
            from tcompiler.ir.loop.text import print_function
            from tcompiler.lower.function import lower
        for kernel in c.kernels.values():
            kernel.function = lower(kernel.program, kernel.layouts, hides_lines(c.target))
            c.texts[f"loop/{kernel.name}"] = print_function(kernel.function)


def schedule_functions(c: Compilation) -> None:
    """Schedules every function by the default rules."""
    with c.watched("schedule", lambda: c.text("scheduled")):
        for done in c.finished.values():
            c.texts.update({f"{stage}/{done.name}": done.texts[stage] for stage in ("scheduled", "trace")})
        if c.kernels:
            from tcompiler.ir.loop.text import print_function
            from tcompiler.schedule.rules.default import default_schedule
        for kernel in c.kernels.values():
            assert kernel.function is not None
            kernel.schedule = default_schedule(kernel.function, c.target, c.threads, kernel.constants)
            c.texts[f"scheduled/{kernel.name}"] = print_function(kernel.schedule.function)
            c.texts[f"trace/{kernel.name}"] = kernel.schedule.trace.to_python()


__all__ = ["PASS_NAMES", "STAGES", "Compilation", "Kernel", "Observer", "Step", "compile_module", "graph_passes", "ops"]
