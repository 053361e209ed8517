"""erf: an odd polynomial below 1; above, 1 - e^-Q(x) where Q is a polynomial for -log(erfc(x))."""

from __future__ import annotations

from tcompiler.backends.llvm.math import coefficients
from tcompiler.backends.llvm.math.emit import Emitter, Value
from tcompiler.backends.llvm.math.exponential import exp_normal

# From here on erf(x) rounds to 1.
SATURATION = {"f32": 3.9375, "f64": 5.9375}


def erf(e: Emitter, x: Value) -> Value:
    """The error function, without a division. Q's error shrinks with erfc in the result, so few terms suffice."""
    dtype = x.dtype
    a = e.abs(x)
    near = e.mad(e.poly(a * a, coefficients.ERF[dtype]), a, a)
    limit = a.like(SATURATION[dtype])
    q = e.poly(e.select(limit.lt(a), limit, a), coefficients.ERF_TAIL[dtype])
    far = 1.0 - exp_normal(e, -q)
    return e.copysign(e.select(a.lt(1.0), near, far), x)
