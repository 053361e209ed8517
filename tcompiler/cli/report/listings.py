"""Assembly listings of kernels: annotated for reading, and their inner loops in figures."""

from __future__ import annotations

from collections.abc import Sequence

from tcompiler.cli.report.markup import Html, tag
from tcompiler.runtime.assembly import assembly
from tcompiler.runtime.manifest import TargetEntry
from tcompiler.runtime.model import Model
from tcompiler.target.listing import Loop, annotate, inner_loops
from tcompiler.target.model import BOUNDS, Core, core
from tcompiler.target.named import NAMED, host
from tcompiler.target.target import Target, widest_vector


def target_of(entry: TargetEntry) -> Target:
    """The machine that a saved model names, its caches those of the processor's name or of this machine."""
    flags = tuple(sorted(f if f[0] in "+-" else f"+{f}" for f in entry["features"]))
    here = host()
    if (entry["triple"], entry["cpu"], flags) == (here.triple, here.cpu, tuple(sorted(here.features))):
        return here
    enabled = frozenset(f[1:] for f in flags if f[0] == "+")
    bits, registers = widest_vector(enabled)
    known = NAMED.get(entry["cpu"], here)
    return Target(
        name=entry["cpu"],
        kind="cpu",
        triple=entry["triple"],
        cpu=entry["cpu"],
        features=flags,
        vector_bits=bits,
        vector_registers=registers,
        fma="fma" in enabled,
        l1_bytes=known.l1_bytes,
        l2_bytes=known.l2_bytes,
        l3_bytes=known.l3_bytes,
        cores=known.cores,
    )


def core_of(entry: TargetEntry) -> Core | None:
    """The core that listings for a target are read for; None if its assembly is not x86-64."""
    return core(target_of(entry)) if entry["triple"].startswith("x86_64") else None


def annotated(listing: str, entry: TargetEntry) -> str:
    """A listing with comments before its inner loops; as it is where it is not x86-64."""
    made = core_of(entry)
    return listing if made is None else annotate(listing, made)


def kernel_loops(model: Model, kernel: str) -> list[Loop]:
    """The inner loops of a kernel's code; none where its LLVM text is not kept or is not for x86-64."""
    entry = model.manifest["target"]
    made = core_of(entry)
    text = model.artifact.texts.get(f"llvm/{kernel}")
    return [] if made is None or text is None else inner_loops(assembly(text, entry), made)


_HEADS = (
    ("Inner loop", "the label in the listing"),
    ("Depth", "loops around it, itself included"),
    ("Instructions", "in an iteration"),
    ("FMA", "multiply-adds, and their share of the instructions"),
    ("Vectors", "width of its vector arithmetic"),
    ("Loads", "reads of memory"),
    ("Stores", "writes to memory"),
    ("Spills", "reads and writes of fixed places of the stack"),
    ("Flop", "floating-point operations in an iteration"),
    ("Cycles", "the least that an iteration takes"),
    ("By", "what that is due to"),
)


def loops_table(loops: Sequence[Loop]) -> Html | None:
    """The inner loops of a kernel, one a line; nothing if it has none."""
    if not loops:
        return None
    rows = (
        tag(
            "tr",
            tag("th", tag("code", loop.label), scope="row"),
            (
                tag("td", text)
                for text in (
                    str(loop.depth),
                    str(loop.instructions),
                    f"{loop.fma} ({loop.fma_share:.0%})",
                    f"{loop.vector_bits} bit" if loop.vector_bits else "none",
                    str(loop.loads),
                    str(loop.stores),
                    str(loop.spill_loads + loop.spill_stores),
                    str(loop.flops),
                    f"{loop.cycles:.1f}",
                    BOUNDS[loop.bound],
                )
            ),
        )
        for loop in loops
    )
    heads = tag("tr", (tag("th", head, scope="col", title=hint) for head, hint in _HEADS))
    return tag("div", tag("table", tag("thead", heads), tag("tbody", rows), _class="loops"), _class="scroll")
