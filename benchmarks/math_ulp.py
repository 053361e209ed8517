"""Greatest errors of the vector functions of f32, over every one of the 2^32 floats.

    python -m benchmarks.math_ulp exp tanh erf --markdown docs/results/math_ulp.md

The reference is numpy's (for erf the C library's) in f64. Odd functions are swept over the positive floats only, since
their sign is copied. A sweep takes one to four minutes.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from benchmarks.math_kernels import compiled, ulp_errors_f32
from tcompiler.backends.llvm.math import FUNCTIONS, ulp_bound

Reference = Callable[[NDArray[np.float64]], NDArray[np.float64]]
CHUNK = 1 << 18
REFERENCES: dict[str, Reference] = {
    "exp": np.exp,
    "exp_below": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "log": np.log,
    "log2": np.log2,
    "log1p": np.log1p,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "erf": np.vectorize(math.erf, otypes=[float]),
}
ODD = frozenset({"sinh", "tanh", "asinh", "atanh", "sin", "tan", "asin", "atan", "erf"})


def sweep(name: str) -> tuple[float, float, float]:
    """All floats of one function.

    Returns:
        The greatest error in ulp, where it occurs, and the share of results that are correctly rounded.
    """
    function, reference = compiled(name, "f32", 8), REFERENCES[name]
    worst, where, rounded, total = 0.0, 0.0, 0, 0
    end = 1 << (31 if name in ODD else 32)
    for start in track(range(0, end, CHUNK), description=name):
        x = np.arange(start, start + CHUNK, dtype=np.uint64).astype(np.uint32).view(np.float32)
        x = x[~(x > FUNCTIONS[name].highest.get("f32", np.inf))]
        if not x.size:
            continue
        with np.errstate(all="ignore"):
            errors = ulp_errors_f32(function(x), reference(x.astype(np.float64)))
        total += x.size
        rounded += int(np.count_nonzero(errors <= 0.5))
        place = int(errors.argmax())
        if errors[place] > worst:
            worst, where = float(errors[place]), float(x[place])
    return worst, where, rounded / total


def main() -> None:
    """Sweeps the named functions and writes a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=sorted(REFERENCES), metavar="NAME", help=", ".join(REFERENCES))
    parser.add_argument("--markdown", type=Path, help="write the table to this file (default: standard output)")
    options = parser.parse_args()
    lines = [
        "# Errors of the vector functions (f32)",
        "",
        "Over all floats (odd functions: all positive ones), by `benchmarks/math_ulp.py`.",
        "",
        "| function | greatest error, ulp | at | stated bound | correctly rounded | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for name in options.names:
        start = time.perf_counter()
        worst, where, share = sweep(name)
        seconds = time.perf_counter() - start
        bound = ulp_bound(name, "f32")
        lines.append(f"| {name} | {worst:.4f} | {where!r} | {bound} | {share:.2%} | {seconds:.0f} |")
    text = "\n".join(lines) + "\n"
    if options.markdown:
        options.markdown.write_text(text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
