"""Writes the file of expectations anew: `python -m tests.conformance.update`.

What passes is noted as such. A case that does not pass keeps its family if it had one of the same kind; otherwise it is
noted as "unsorted", which the test refuses: find out why, and write its family.
"""

from __future__ import annotations

import os
import tempfile
import textwrap
from collections import Counter

from tests.conformance.suite import EXPECTATIONS, FAMILIES, PASS, SUITES, Outcome, expectations, find, keys, outcome

HEADER = """\
What comes of the cases of ONNX's backend suite (onnx 1.23.2): suite/name, and "pass" or the family of reasons why not.
core: node cases of f32, f64, i32, i64 and bool; wider: of half precision and small integers; other: all others.
"""


def main() -> None:
    """Runs every case and writes the file."""
    before = expectations() if EXPECTATIONS.exists() else {}
    known = {key.partition("/")[2]: key for key in before if key.partition("/")[0] in SUITES[:3]}
    lines: dict[str, str] = {}
    for key in keys():
        suite, _, name = key.partition("/")
        full = known.get(name, f"other/{name}") if suite == "node" else key
        case = find(full)
        assert case is not None
        found = outcome(case)
        lines[full] = verdict(found, before.get(full, ""))
        if lines[full] != before.get(full):
            print(f"{full}: {before.get(full, 'new')} → {lines[full]} {textwrap.shorten(found.why, 200)}")
    for full in before.keys() - lines.keys():
        print(f"{full}: no longer there")
    ordered = sorted(lines, key=lambda key: (SUITES.index(key.partition("/")[0]), key))
    header = [*HEADER.splitlines(), *(f"{family} ({kind}): {why}" for family, (kind, why) in FAMILIES.items())]
    text = [*(f"# {line}" for line in header), *(f"{key} {lines[key]}" for key in ordered)]
    EXPECTATIONS.write_text("\n".join(text) + "\n")
    for suite in SUITES:
        counts = Counter(lines[key] for key in ordered if key.startswith(f"{suite}/"))
        print(f"{suite}: {counts[PASS]} of {counts.total()} pass")


def verdict(found: Outcome, before: str) -> str:
    """What to note of an outcome, given what was noted."""
    if found.kind == PASS:
        return PASS
    return before if FAMILIES.get(before, ("",))[0] == found.kind else "unsorted"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="tcompiler-tests-") as folder:
        os.environ["TCOMPILER_CACHE_DIR"] = folder
        main()
