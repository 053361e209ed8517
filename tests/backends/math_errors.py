"""Errors of f64 results against references in multiple precision."""

from collections.abc import Sequence

import mpmath
import numpy as np
from numpy.typing import NDArray


def ulp_errors_f64(got: NDArray[np.float64], reference: Sequence[mpmath.mpf]) -> NDArray[np.float64]:
    """|got - reference| in units in the last place of the exact reference; see `ulp_errors_f32`."""
    errors = np.empty(got.size)
    with mpmath.workprec(1200):
        for k, (value, wanted) in enumerate(zip(got.tolist(), reference, strict=True)):
            rounded = float(wanted)
            if not np.isfinite(value) or not np.isfinite(rounded):
                errors[k] = 0.0 if value == rounded or (np.isnan(value) and np.isnan(rounded)) else np.inf
                continue
            exponent = max(int(mpmath.frexp(wanted)[1]) if wanted else -1021, -1021)
            errors[k] = float(mpmath.ldexp(abs(mpmath.mpf(value) - wanted), 53 - exponent))
    return errors
