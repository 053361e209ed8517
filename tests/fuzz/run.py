"""Running drawn models: several are compiled as one, each output is checked, what is wrong is found again alone."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import onnx
from onnx import printer

import tcompiler as tc
from tcompiler.errors import TCompilerError
from tests.fuzz.draw import Array, Case
from tests.fuzz.families import draw, family_of
from tests.fuzz.oracle import Expected, disagreement, expected, standard
from tests.fuzz.relations import call, check_stages, other_ways

FINDINGS = (
    TCompilerError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What a compiler may raise: each is a finding, ours or the user's errors alike, as every drawn model is in order."""

BATCH = 16
RELATIONS_EVERY = 40
MAX_TEXT = 6000


@dataclass(frozen=True, slots=True)
class Failure:
    """What is wrong with one model."""

    case: Case
    threads: int
    problem: str

    def __str__(self) -> str:
        case = self.case
        text = printer.to_text(case.proto)
        shown = text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + " …"
        return (
            f"{case.family} {case.seed}: {self.problem}\n"
            f"again with: python -m tests.fuzz {case.family} {case.seed} --threads {self.threads}\n{shown}\n"
        )


@dataclass(slots=True)
class Tally:
    """What a run found.

    Attributes:
        models: Models checked.
        standard: Those where the standard decided, because onnxruntime has no kernel or parts from it.
        unjudged: Those that no reference runs; they are not compiled.
        families: Models by family.
        failures: Those that are wrong.
    """

    models: int = 0
    standard: int = 0
    unjudged: int = 0
    families: dict[str, int] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)

    def summary(self) -> str:
        return (
            f"{self.models} models of {len(self.families)} families, {len(self.failures)} wrong, "
            f"{self.standard} judged by the standard, {self.unjudged} without a judge"
        )


def run(
    seeds: Sequence[int],
    threads: int | None = None,
    family: str | None = None,
    say: Callable[[str], None] | None = None,
    every: int = RELATIONS_EVERY,
    target: str = "cpu",
) -> Tally:
    """Draws, compiles and checks the models of some seeds.

    Args:
        seeds: One model each.
        threads: Threads to compile for; None means 1 and 2 in turn.
        family: The family of all of them; None means what each seed stands for.
        say: Told before every compile which models are in it, so that a crash has a name, and of every failure.
        target: What to compile for; this machine has to be able to run it.
        every: Of so many models one is held against all relations (tests/fuzz/relations.py), 0 for none.
    """
    tally = Tally()
    for k, batch in enumerate(_batches(seeds, family)):
        if say is not None:
            say(f"[{', '.join(f'{c.family} {c.seed}' for c in batch)}]")
        count = len(tally.failures)
        _check(batch, threads or 1 + k % 2, tally, every, target)
        if say is not None:
            for failure in tally.failures[count:]:
                say(str(failure))
    return tally


def _batches(seeds: Sequence[int], family: str | None) -> Iterator[list[Case]]:
    """Cases of one operator set together, as few batches as may be."""
    waiting: dict[int, list[Case]] = {}
    for seed in seeds:
        case = draw(family or family_of(seed), seed)
        group = waiting.setdefault(case.opset, [])
        group.append(case)
        if len(group) == BATCH:
            yield waiting.pop(case.opset)
    yield from waiting.values()


def _check(batch: list[Case], threads: int, tally: Tally, every: int, target: str) -> None:
    references = []
    for case in list(batch):
        try:
            references.append(expected(case))
        except LookupError:
            batch.remove(case)
            tally.unjudged += 1
    for case in batch:
        tally.families[case.family] = tally.families.get(case.family, 0) + 1
    if not batch:
        return
    tally.models += len(batch)
    try:
        results = compute(batch, threads, target)
    except FINDINGS as error:
        if len(batch) == 1:
            tally.failures.append(Failure(batch[0], threads, _told(error)))
            return
        tally.models -= len(batch)
        for case in batch:
            tally.families[case.family] -= 1
        count = len(tally.failures)
        for case in batch:
            _check([case], threads, tally, every, target)
        if len(tally.failures) == count:
            names = ", ".join(f"{c.family} {c.seed}" for c in batch)
            tally.failures.append(Failure(joined(batch), threads, f"only together ({names}): {_told(error)}"))
        return
    for case, outputs, reference in zip(batch, results, references, strict=True):
        tally.standard += reference.source != "onnxruntime"
        problem = disagreement(case, outputs, reference)
        if problem is not None and reference.source == "onnxruntime" and _as_the_standard(case, outputs):
            tally.standard += 1
            problem = None
        if problem is not None:
            tally.failures.append(Failure(case, threads, problem))
        elif every and case.seed % every == 0:
            _check_relations(case, outputs, reference, tally)


def _as_the_standard(case: Case, outputs: list[Array]) -> bool:
    second = standard(case)
    return second is not None and disagreement(case, outputs, second) is None


def _check_relations(case: Case, outputs: list[Array], reference: Expected, tally: Tally) -> None:
    """What has to hold whatever the results are: see tests/fuzz/relations.py."""
    before = Expected(outputs, reference.tolerances, "what it gave before")
    for threads in (1, 2):
        try:
            check_stages(case.proto, threads)
            for what, again in other_ways(case, threads):
                problem = disagreement(case, again, before)
                if problem is not None:
                    tally.failures.append(Failure(case, threads, f"{what}: {problem}"))
        except FINDINGS as error:
            tally.failures.append(Failure(case, threads, _told(error)))


def compute(batch: Sequence[Case], threads: int, target: str = "cpu") -> list[list[Array]]:
    """The outputs of each case, all compiled as one model."""
    whole = joined(batch)
    flat = call(tc.compile(whole.proto, target, threads), whole.inputs)
    results = []
    for case in batch:
        count = len(case.proto.graph.output)
        results.append(flat[:count])
        flat = flat[count:]
    return results


def joined(batch: Sequence[Case]) -> Case:
    """One model of several, their names kept apart; a single one as it is."""
    if len(batch) == 1:
        return batch[0]
    proto = onnx.ModelProto()
    proto.CopyFrom(batch[0].proto)
    for field_name in ("node", "input", "output", "initializer"):
        proto.graph.ClearField(field_name)
    inputs: dict[str, Array] = {}
    for k, case in enumerate(batch):
        graph = onnx.GraphProto()
        graph.CopyFrom(case.proto.graph)
        _rename(graph, f"m{k}_")
        proto.graph.MergeFrom(graph)
        inputs |= {f"m{k}_{n}": a for n, a in case.inputs.items()}
    return Case("joined", batch[0].seed, proto, inputs, frozenset(), False)


def _rename(graph: onnx.GraphProto, prefix: str) -> None:
    """Puts a prefix before every name, in subgraphs too: they see the values around them."""
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [prefix + n if n else "" for n in names]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, prefix)
    for named in (*graph.input, *graph.output, *graph.initializer):
        named.name = prefix + named.name


def _told(error: Exception) -> str:
    """An error's type, message and innermost places of ours."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    places = " < ".join(f"{f.filename.rsplit('/', 1)[-1]}:{f.lineno}" for f in reversed(frames))
    return f"{type(error).__name__}: {error} [{places}]"
