"""The stages of every kernel: texts that the page unpacks and shows two side by side."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from itertools import pairwise

from tcompiler.cli.report.facts import BOUNDS, KernelFacts, totals
from tcompiler.cli.report.listings import annotated, kernel_loops, loops_table
from tcompiler.cli.report.markup import Html, duration, packed, quantity, tag
from tcompiler.runtime.assembly import assembly
from tcompiler.runtime.model import Model

_TEXT_LIMIT = 1_500_000
"""Characters of a text that is put into the page; a longer one is left out, with a note."""
_PAGE_LIMIT = 9_000_000
"""Bytes of packed texts in the page; when they are used up, later kernels' long stages are left out."""
_STAGES = ("expr", "loop", "scheduled", "trace", "llvm", "asm")


def kernel_sections(name: str, model: Model, rows: Sequence[KernelFacts]) -> list[Html]:
    """A section for each kernel, with its stages packed.

    Args:
        name: The model as the user named it.
        model: The compiled model.
        rows: The kernels' figures.
    """
    total = totals(rows).seconds or 0.0
    left = _PAGE_LIMIT
    parts = [tag("h2", "Stages of each kernel", id="stages")]
    for k, row in enumerate(rows):
        texts, missing = _stage_texts(model, row, left > 0)
        payload = packed(f"texts-{k}", texts)
        left -= len(payload)
        loops = loops_table(kernel_loops(model, row.name)) if "asm" in texts else None
        parts.append(_kernel_section(name, k, row, total, texts, missing, payload, loops))
    return parts


def _stage_texts(model: Model, row: KernelFacts, all_of_them: bool) -> tuple[dict[str, str], list[str]]:
    """The texts of a kernel by stage, and the stages that are too long to be put into the page."""
    kept = model.artifact.texts
    texts: dict[str, str] = {}
    missing: list[str] = []
    for stage in _STAGES:
        source = "llvm" if stage == "asm" else stage
        if f"{source}/{row.name}" not in kept:
            continue
        if stage == "asm" and ("llvm" in missing or not all_of_them):
            missing.append(stage)
            continue
        text = kept[f"{source}/{row.name}"]
        if stage == "asm":
            text = annotated(assembly(text, model.manifest["target"]), model.manifest["target"])
        if len(text) > _TEXT_LIMIT or (stage == "llvm" and not all_of_them):
            missing.append(stage)
        else:
            texts[stage] = text
    return texts, missing


def _kernel_section(
    name: str,
    k: int,
    row: KernelFacts,
    total: float,
    texts: Mapping[str, str],
    missing: Sequence[str],
    payload: Html,
    loops: Html | None,
) -> Html:
    share = row.share(total)
    figures = [
        f"{row.calls} call{'' if row.calls == 1 else 's'}",
        quantity(row.flops, "FLOP"),
        f"executed {quantity(row.executed_flops, 'FLOP')}" if row.executed_flops != row.flops else None,
        quantity(row.bytes, "B"),
        f"limit {duration(row.limit)} ({BOUNDS[row.bound]})",
        f"measured {duration(row.seconds)} ({row.attained or 0.0:.0%} of the limit attained)" if row.seconds else None,
        f"{share:.1%} of the time" if share is not None else None,
    ]
    also = tag("small", " also ", ", ".join(row.aliases)) if row.aliases else None
    stages = list(texts)
    left = "loop" if "loop" in texts else stages[0] if stages else ""
    right = "scheduled" if "scheduled" in texts else stages[-1] if stages else ""
    panes = (_pane(stages, chosen, side) for chosen, side in ((left, "Left"), (right, "Right")))
    command = f"tcompiler inspect {shlex.quote(name)} --stage STAGE --kernel {shlex.quote(row.name)}"
    note = tag("p", f"Left out for their length: {', '.join(missing)}. ", tag("code", command), _class="note")
    pairs = [
        tag("button", f"{a} → {b}", type="button", data_left=a, data_right=b)
        for a, b in pairwise(s for s in stages if s != "trace")
    ]
    if "trace" in texts and "scheduled" in texts:
        pairs.append(tag("button", "trace → scheduled", type="button", data_left="trace", data_right="scheduled"))
    content = (
        [tag("div", pairs, _class="pairs"), tag("div", panes, _class="panes")]
        if stages
        else [tag("p", "No text of it is kept.")]
    )
    return tag(
        "section",
        tag("h3", tag("i", _class=f"swatch k{k}"), row.name, also),
        tag("p", " · ".join(f for f in figures if f), _class="note"),
        note if missing else None,
        loops,
        tag("details", tag("summary", "stages: ", " → ".join(stages)), content, _class="stages", data_k=k),
        payload,
        id=f"kernel-{k}",
        _class="kernel",
    )


def _pane(stages: Sequence[str], chosen: str, side: str) -> Html:
    options = (tag("option", s, selected=s == chosen) for s in stages)
    return tag(
        "div",
        tag("div", tag("select", options, aria_label=f"{side} stage"), tag("small"), _class="panehead"),
        tag("pre", tabindex=0),
        _class="pane",
    )
