"""The exact floating-point remainder (C's fmod), as a scalar function with loops.

The divisor is doubled until it is within a factor of two of the dividend, then halved again and subtracted where it
fits. Every step is exact: doublings of a float are, and so is a - t for t <= a < 2t (Sterbenz, *Floating-Point
Computation*, 1974).
"""

from __future__ import annotations

_TEMPLATE = """define internal {t} @{symbol}({t} %x, {t} %y) nounwind {{
entry:
  %a = call {t} @llvm.fabs.{s}({t} %x)
  %b = call {t} @llvm.fabs.{s}({t} %y)
  %ordered = fcmp ord {t} %x, %y
  %finite = fcmp olt {t} %a, {inf}
  %some = fcmp ogt {t} %b, 0.0
  %ok0 = and i1 %ordered, %finite
  %ok = and i1 %ok0, %some
  br i1 %ok, label %check, label %invalid
invalid:
  ret {t} {nan}
check:
  %below = fcmp olt {t} %a, %b
  br i1 %below, label %small, label %up
small:
  ret {t} %x
up:
  %t0 = phi {t} [ %b, %check ], [ %twice, %grow ]
  %rest = fsub {t} %a, %t0
  %fits = fcmp ole {t} %t0, %rest
  br i1 %fits, label %grow, label %down
grow:
  %twice = fadd {t} %t0, %t0
  br label %up
down:
  %t1 = phi {t} [ %t0, %up ], [ %half, %down ]
  %a0 = phi {t} [ %a, %up ], [ %a1, %down ]
  %take = fcmp oge {t} %a0, %t1
  %less = fsub {t} %a0, %t1
  %a1 = select i1 %take, {t} %less, {t} %a0
  %half = fmul {t} %t1, 5.000000e-01
  %last = fcmp oeq {t} %t1, %b
  br i1 %last, label %done, label %down
done:
  %r = call {t} @llvm.copysign.{s}({t} %a1, {t} %x)
  ret {t} %r
}}"""


def remainder(dtype: str) -> tuple[str, str, tuple[str, ...]]:
    """The function for "f32" or "f64": its symbol, its definition, and the declarations that it needs."""
    t = {"f32": "float", "f64": "double"}[dtype]
    symbol = f"tc.fmod.{dtype}"
    text = _TEMPLATE.format(t=t, s=dtype, symbol=symbol, inf="0x7FF0000000000000", nan="0x7FF8000000000000")
    declarations = (
        f"declare {t} @llvm.fabs.{dtype}({t})",
        f"declare {t} @llvm.copysign.{dtype}({t}, {t})",
    )
    return symbol, text, declarations
