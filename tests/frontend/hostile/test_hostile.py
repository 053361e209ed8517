"""Every hostile model ends in the message that is kept for it, whole, or compiles; none kills or hangs."""

from __future__ import annotations

import pytest

from tests.frontend.hostile import messages, mutate
from tests.frontend.hostile.corpus import all_cases

CASES = all_cases()
THEMES = sorted({c.theme for c in CASES.values()})


@pytest.mark.parametrize("theme", THEMES)
def test_hostile_models(theme: str) -> None:
    kept = messages.read()
    names = [n for n, c in CASES.items() if c.theme == theme]
    results = messages.run(names)
    bad = {n: f"{r.kind}: {r.text}" for n, r in results.items() if r.kind != "ok"}
    assert not bad, "\n\n".join(f"{n}: {text[-2000:]}" for n, text in bad.items())
    assert {n: r.text for n, r in results.items()} == {n: kept.get(n) for n in names}


def test_every_message_has_a_model() -> None:
    assert messages.read().keys() == CASES.keys()


def test_messages_are_bounded() -> None:
    for name, text in messages.read().items():
        assert len(text) < 60 * 1000, name
        assert all(line.isprintable() for line in text.split("\n")), name


def test_damaged_models() -> None:
    """More of them are tried by `python -m tests.frontend.hostile.mutate`; a seed makes its model again."""
    kinds, bad = mutate.run(first=0, count=250)
    assert not bad, "\n\n".join(f"seed {seed}: {text[-2000:]}" for seed, text in bad.items())
    assert kinds["compiles"] > 10
    assert kinds["refused"] > 20
