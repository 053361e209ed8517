"""Vector functions of our own, as LLVM IR: the same bits on every machine with fused multiply-add, errors stated.

Every function is straight-line code (sin and cos leave it for arguments beyond `trigonometric.FAST_LIMIT`), free of
tables and gathers, right for NaN, infinities, signed zeros and denormals, in any number of lanes. Not here, because
LLVM has them as instructions: sqrt (`llvm.sqrt`), abs (`llvm.fabs`), floor, ceil, round to even (`llvm.rint`), trunc,
copysign, min and max.
"""

from tcompiler.backends.llvm.math.functions import FUNCTIONS, Function, MathFunction, definition, ulp_bound

__all__ = ["FUNCTIONS", "Function", "MathFunction", "definition", "ulp_bound"]
