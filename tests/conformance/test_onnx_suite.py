"""ONNX's backend suite, case by case, against the file of what is expected."""

from __future__ import annotations

import pytest

from tests.conformance.suite import EXPECTATIONS, FAMILIES, PASS, SUITES, expectations, find, keys, operators, outcome

EXPECTED = expectations()
REWRITE = "python -m tests.conformance.update writes the file anew; read what it changes"


@pytest.mark.parametrize("key", EXPECTED)
def test_case(key: str) -> None:
    case = find(key)
    assert case is not None, f"onnx has no case {key} (any more); {REWRITE}"
    wanted = EXPECTED[key]
    found = outcome(case)
    kind = PASS if wanted == PASS else FAMILIES[wanted][0]
    if found.kind == PASS and kind != PASS:
        pytest.fail(f"{key} passes and was not expected to ({wanted}): write pass in {EXPECTATIONS.name}")
    assert found.kind == kind, f"expected {wanted}, but it is {found.kind}: {found.why}"


def test_the_file_names_every_case_once() -> None:
    lines = [line.split()[0] for line in EXPECTATIONS.read_text().splitlines() if line and not line.startswith("#")]
    assert len(lines) == len(set(lines))
    assert {key.partition("/")[0] for key in EXPECTED} == set(SUITES)
    assert set(EXPECTED.values()) <= {PASS, *FAMILIES}
    named = [f"node/{k.partition('/')[2]}" if k.partition("/")[0] in SUITES[:3] else k for k in EXPECTED]
    assert len(named) == len(set(named))
    assert set(named) == set(keys()), REWRITE


def test_every_operator_of_core_passes_somewhere() -> None:
    cases = {key: find(key) for key in EXPECTED if key.startswith("core/")}
    used = {op for case in cases.values() if case for op in operators(case.model)}
    shown = {op for key, case in cases.items() if case and EXPECTED[key] == PASS for op in operators(case.model)}
    assert used == shown
    assert len(used) == 146
