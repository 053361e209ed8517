"""Refusals: every condition refuses something, says so in full, and nothing else stands in for it."""

from __future__ import annotations

import pytest

from tcompiler.schedule.legality import CONDITIONS, without
from tests.schedule.illegal_cases import IllegalCase, load

CASES = load()


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.path.stem)
def test_refused_with_its_whole_message(case: IllegalCase) -> None:
    assert case.refusal() == case.message


@pytest.mark.parametrize("case", [c for c in CASES if c.condition != "none"], ids=lambda c: c.path.stem)
def test_without_its_condition_the_case_is_not_refused_so(case: IllegalCase) -> None:
    with without(case.condition):
        try:
            message = case.refusal()
        except Exception as error:
            message = str(error)
    assert message != case.message


def test_every_condition_has_a_case() -> None:
    assert sorted(set(CONDITIONS) - {c.condition for c in CASES}) == []


def test_there_are_two_hundred_cases() -> None:
    assert len(CASES) >= 200
