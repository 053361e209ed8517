"""erf: an odd polynomial up to an edge; above, 1 - erfc(edge)·e^-u where u is a polynomial in x - edge."""

from __future__ import annotations

from tcompiler.backends.llvm.math import coefficients
from tcompiler.backends.llvm.math.emit import Emitter, Value
from tcompiler.backends.llvm.math.exponential import exp_normal

# The float near 7/8 whose erfc is nearest to a float.
EDGE = 0.8718522787094116
ERFC_EDGE = 0.21758124232411807
# From here on erf(x) rounds to 1.
SATURATION = {"f32": 3.9375, "f64": 5.9375}


def erf(e: Emitter, x: Value) -> Value:
    """The error function, without a division.

    u's error shrinks with erfc in the result, so few terms suffice; u itself is small where erfc is not.
    """
    dtype = x.dtype
    a = e.abs(x)
    near = e.mad(e.poly(a * a, coefficients.ERF[dtype]), a, a)
    limit = a.like(SATURATION[dtype])
    t = e.select(limit.lt(a), limit, a) - EDGE
    u = t * e.poly(t, coefficients.ERF_TAIL[dtype])
    far = e.mad(exp_normal(e, -u), -ERFC_EDGE, 1.0)
    return e.copysign(e.select(a.lt(EDGE), near, far), x)
