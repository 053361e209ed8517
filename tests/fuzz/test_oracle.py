"""The check can fail: results that are a little wrong in one place are told from rounding."""

from __future__ import annotations

import numpy as np
import pytest

from tests.fuzz.draw import Array, float_type
from tests.fuzz.families import FAMILIES, draw
from tests.fuzz.oracle import disagreement, expected, standard

SEEDS = range(3)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_one_wrong_element_is_found(name: str) -> None:
    for seed in SEEDS:
        case = draw(name, seed)
        reference = expected(case)
        assert disagreement(case, reference.values, reference) is None
        for k, value in enumerate(reference.values):
            finite = np.argwhere(np.isfinite(value)) if float_type(value.dtype) else np.argwhere(np.ones(value.shape))
            if len(finite):
                wrong = [v.copy() for v in reference.values]
                _spoil(wrong[k], tuple(int(i) for i in finite[len(finite) // 2]))
                assert disagreement(case, wrong, reference) is not None, f"{name} {seed}"


def _spoil(value: Array, at: tuple[int, ...]) -> None:
    """An error as a wrong index makes it: a part of what the values are like."""
    if value.dtype == bool:
        value[at] = not value[at]
    elif float_type(value.dtype):
        finite = np.abs(value[np.isfinite(value)].astype(np.float64))
        value[at] += np.asarray(max(0.25 * float(finite.max()), 1e-3)).astype(value.dtype)
    else:
        value[at] ^= 1


def test_shapes_types_and_what_is_no_number_count() -> None:
    case = draw("unary", 1)
    reference = expected(case)
    (value,) = reference.values
    assert value.size > 1
    for wrong in (value.reshape(-1)[:-1], value.astype(np.float64), np.full_like(value, np.nan)):
        assert disagreement(case, [np.asarray(wrong)], reference) is not None


@pytest.mark.parametrize("name", ["gemm", "unary", "layer_norm", "softmax"])
def test_both_references_agree(name: str) -> None:
    case = draw(name, 2)
    second = standard(case)
    assert second is not None
    assert disagreement(case, expected(case).values, second) is None
