"""Few long rows on several threads: parts of them, combined in order."""

from __future__ import annotations

import numpy as np
import pytest

import tcompiler as tc
from tcompiler.frontend import builder as b
from tests.schedule.operators import traced

LENGTH = 50257
"""Neither parts nor vectors come out even."""
CASES = {
    "softmax": (lambda x: b.softmax(x), (1, LENGTH)),
    "layer_norm": (lambda x: b.layer_norm(x), (1, LENGTH)),
    "argmax": (lambda x: b.argmax(x, 1), (1, LENGTH)),
    "mean": (lambda x: b.mean(x, (0, 1, 2)), (37, 41, 29)),
    "column": (lambda x: b.mean(x, 0), (LENGTH, 1)),
}


@pytest.mark.parametrize("name", CASES)
def test_parts_of_a_row_make_what_the_row_makes(name: str) -> None:
    model, shape = CASES[name]
    one, two = (tc.compile(traced(model, shape), threads=n) for n in (1, 2))
    assert "parallel" in two.text("scheduled") and "parallel" not in one.text("scheduled")
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    first = two(x)
    np.testing.assert_allclose(first, one(x), rtol=1e-5, atol=1e-6)
    for _ in range(20):
        np.testing.assert_array_equal(two(x), first)
