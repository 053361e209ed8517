"""Fits the polynomials of `tcompiler.backends.llvm.math` and writes its `coefficients.py`.

Each polynomial is the weighted minimax approximation of a smooth remainder, found with the linear Remez exchange
(E. Remez 1934) in multiple precision. Coefficients are rounded to the working type one at a time, lowest order first,
and the others refitted around each rounded one, so that the small coefficients absorb the rounding of the large ones.

    python tools/fit_math.py [NAME ...]      # prints those; without names, rewrites coefficients.py
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mpmath import mp, mpf

mp.prec = 180
Real = Callable[[mpf], mpf]
OUTPUT = Path(__file__).parent.parent / "tcompiler" / "backends" / "llvm" / "math" / "coefficients.py"


@dataclass(frozen=True)
class Fit:
    """One polynomial to be found.

    Args:
        name: Its name in `coefficients.py`.
        dtype: The type that holds the coefficients.
        terms: How many coefficients, from power 0 up.
        low, high: The interval.
        function: What is approximated, as a function of the polynomial's variable.
        weight: The error is measured as |weight| × (polynomial - function).
        comment: What it is, in words.
    """

    name: str
    dtype: str
    terms: int
    low: mpf
    high: mpf
    function: Real
    weight: Real
    comment: str


def round_to(value: mpf, dtype: str) -> mpf:
    """The nearest f32 or f64, as an mpf."""
    return mpf(float(np.float32(float(value)))) if dtype == "f32" else mpf(float(value))


def minimax(targets: list[mpf], points: list[mpf], weights: list[mpf], first: int, count: int) -> tuple[list[mpf], mpf]:
    """Coefficients of x^first .. x^(first+count-1) with the least greatest weighted error over the points.

    Returns:
        The coefficients and the greatest weighted error.
    """
    last = len(points) - 1
    rows = [[p ** (first + k) * w for k in range(count)] for p, w in zip(points, weights, strict=True)]
    goal = [t * w for t, w in zip(targets, weights, strict=True)]
    chosen = sorted({round(last * (1 - float(mp.cos(mp.pi * k / count))) / 2) for k in range(count + 1)})
    best: tuple[mpf, list[mpf]] | None = None
    for _ in range(30):
        system = mp.matrix([[*rows[i], (-1) ** k] for k, i in enumerate(chosen)])
        solution = mp.lu_solve(system, mp.matrix([goal[i] for i in chosen]))
        coefficients = [solution[k] for k in range(count)]
        values = [sum(c * r for c, r in zip(coefficients, row, strict=True)) for row in rows]
        errors = [value - g for value, g in zip(values, goal, strict=True)]
        worst = max(abs(e) for e in errors)
        if best is None or worst < best[0]:
            best = (worst, coefficients)
        if worst <= abs(solution[count]) * mpf("1.001"):
            break
        chosen = _alternation(errors, count + 1)
    assert best is not None
    return best[1], best[0]


def _alternation(errors: list[mpf], count: int) -> list[int]:
    """Indices of `count` extrema of alternating sign, the largest errors among them."""
    peaks: list[int] = []
    for i, error in enumerate(errors):
        if peaks and (errors[peaks[-1]] > 0) == (error > 0):
            if abs(error) > abs(errors[peaks[-1]]):
                peaks[-1] = i
        else:
            peaks.append(i)
    while len(peaks) > count:
        if len(peaks) == count + 1:
            peaks.pop(0 if abs(errors[peaks[0]]) < abs(errors[peaks[-1]]) else -1)
            continue
        least = min(range(len(peaks) - 1), key=lambda k: max(abs(errors[peaks[k]]), abs(errors[peaks[k + 1]])))
        del peaks[least : least + 2]
    if len(peaks) < count:
        raise RuntimeError(f"only {len(peaks)} alternations of {count}: the grid is too coarse or the fit is exact")
    return peaks


def solve(fit: Fit) -> tuple[list[float], float]:
    """The coefficients, rounded, and log2 of the greatest weighted error after rounding."""
    size = 60 * fit.terms
    half, middle = (fit.high - fit.low) / 2, (fit.high + fit.low) / 2
    points = [middle - half * mp.cos(mp.pi * (2 * k + 1) / (2 * size)) for k in range(size)]
    weights = [abs(fit.weight(p)) for p in points]
    targets = [fit.function(p) for p in points]
    done: list[mpf] = []
    for power in range(fit.terms):
        coefficients, _ = minimax(targets, points, weights, power, fit.terms - power)
        done.append(round_to(coefficients[0], fit.dtype))
        targets = [t - done[-1] * p**power for t, p in zip(targets, points, strict=True)]
    worst = max(abs(t * w) for t, w in zip(targets, weights, strict=True))
    return [float(c) for c in done], float(mp.log(worst, 2))


def _ratio(numerator: Real, denominator: Real, order: int) -> Real:
    """numerator/denominator where both vanish at 0 with the same order: near 0 in still higher precision."""

    def quotient(x: mpf) -> mpf:
        if abs(x) > mpf(2) ** -30:
            return numerator(x) / denominator(x)
        with mp.workprec(mp.prec + 64 * (order + 1)):
            step = x if x != 0 else mpf(2) ** -80
            return numerator(step) / denominator(step)

    return quotient


HALF_LN2 = mp.log(2) / 2 * mpf("1.0005")
THIRD = mpf(1) / 3
QUARTER_PI = mp.pi / 4 * mpf("1.006")
# The float near 7/8 whose erfc is nearest to a float, to 2^-37 of itself.
ERF_EDGE = mpf(0.8718522787094116)


def _of_root(f: Real) -> Real:
    """f(√z), for remainders that are polynomials in x²."""
    return lambda z: f(mp.sqrt(z) if z > mpf(2) ** -100 else mpf(2) ** -50)


def _catalogue() -> list[Fit]:
    fits: list[Fit] = []

    def add(name: str, terms: dict[str, int], low: mpf, high: mpf, function: Real, weight: Real, comment: str) -> None:
        for dtype, count in terms.items():
            fits.append(Fit(name, dtype, count, mpf(low), mpf(high), function, weight, comment))

    add(
        "EXP",
        {"f32": 5, "f64": 10},
        -HALF_LN2,
        HALF_LN2,
        _ratio(lambda r: mp.expm1(r) - r, lambda r: r * r, 2),
        lambda r: r * r * (2 if r < 0 else 1),
        "(e^r - 1 - r)/r^2 for |r| <= ln(2)/2; error relative to the power of two below e^r",
    )
    add(
        "LOG",
        {"f32": 9},
        -THIRD,
        THIRD,
        _ratio(lambda f: mp.log1p(f) - f, lambda f: f * f, 2),
        _ratio(lambda f: f * f, lambda f: mp.log1p(f), 2),
        "(log(1+f) - f)/f^2 for |f| <= 1/3; error relative to log(1+f)",
    )
    add(
        "LOG_QUOTIENT",
        {"f64": 8},
        0,
        mpf("0.2001") ** 2,
        _of_root(_ratio(lambda s: 2 * (mp.atanh(s) - s), lambda s: s**3, 3)),
        _of_root(lambda s: s**3 / (2 * mp.atanh(s))),
        "(log((1+s)/(1-s)) - 2s)/s^3 in z = s^2 for s <= 1/5; error relative to the logarithm",
    )
    tanh_edge = mpf(1)
    add(
        "TANH",
        {"f32": 7, "f64": 15},
        0,
        tanh_edge**2,
        _of_root(_ratio(lambda x: mp.tanh(x) - x, lambda x: x**3, 3)),
        _of_root(lambda x: x**3 / mp.tanh(x)),
        "(tanh(x) - x)/x^3 in z = x^2 for x <= 1; error relative to tanh(x)",
    )
    add(
        "TANH_TAIL",
        {"f32": 5, "f64": 11},
        0,
        mp.exp(-2 * tanh_edge),
        lambda w: 2 / (1 + w),
        lambda w: w,
        "(1 - tanh(x))/w in w = e^-2x for x >= 1; absolute error of tanh",
    )
    add(
        "ERF",
        {"f32": 7, "f64": 13},
        0,
        ERF_EDGE**2,
        _of_root(lambda x: mp.erf(x) / x - 1),
        _of_root(lambda x: x / mp.erf(x)),
        "erf(x)/x - 1 in z = x^2 for x <= edge; error relative to erf(x)",
    )
    add(
        "ERF_TAIL",
        {"f32": 6},
        0,
        mpf("3.08"),
        _ratio(lambda t: -mp.log(mp.erfc(ERF_EDGE + t) / mp.erfc(ERF_EDGE)), lambda t: t, 1),
        lambda t: t * mp.erfc(ERF_EDGE + t),
        "-log(erfc(edge + t)/erfc(edge))/t for 0 <= t <= 3.08; absolute error of erf",
    )
    add(
        "EXP2",
        {"f32": 7, "f64": 12},
        mpf("-0.5"),
        mpf("0.5"),
        _ratio(lambda r: mp.expm1(r * mp.log(2)), lambda r: r, 1),
        lambda r: r / mpf(2) ** r,
        "(2^r - 1)/r for |r| <= 1/2; error relative to 2^r",
    )
    add(
        "SINH",
        {"f32": 4, "f64": 8},
        0,
        1,
        _of_root(_ratio(lambda x: mp.sinh(x) - x, lambda x: x**3, 3)),
        _of_root(lambda x: x**3 / mp.sinh(x)),
        "(sinh(x) - x)/x^3 in z = x^2 for x <= 1; error relative to sinh(x)",
    )
    add(
        "ASIN",
        {"f32": 5, "f64": 12},
        0,
        mpf("0.25"),
        _of_root(_ratio(lambda x: mp.asin(x) - x, lambda x: x**3, 3)),
        _of_root(lambda x: x**3 / mp.asin(x)),
        "(asin(x) - x)/x^3 in z = x^2 for x <= 1/2; error relative to asin(x)",
    )
    add(
        "ATAN",
        {"f32": 5, "f64": 11},
        0,
        mpf("0.41422") ** 2,
        _of_root(_ratio(lambda x: mp.atan(x) - x, lambda x: x**3, 3)),
        _of_root(lambda x: x**3 / mp.atan(x)),
        "(atan(x) - x)/x^3 in z = x^2 for x <= tan(pi/8); error relative to atan(x)",
    )
    add(
        "ERF_TAIL",
        {"f64": 18},
        0,
        mpf("5.08"),
        _ratio(lambda t: -mp.log(mp.erfc(ERF_EDGE + t) / mp.erfc(ERF_EDGE)), lambda t: t, 1),
        lambda t: t * mp.erfc(ERF_EDGE + t),
        "-log(erfc(edge + t)/erfc(edge))/t for 0 <= t <= 5.08; absolute error of erf",
    )
    add(
        "SIN",
        {"f32": 4, "f64": 7},
        0,
        QUARTER_PI**2,
        _of_root(_ratio(lambda x: mp.sin(x) - x, lambda x: x**3, 3)),
        _of_root(lambda x: x**3 / mp.sin(x)),
        "(sin(r) - r)/r^3 in z = r^2 for |r| <= pi/4; error relative to sin(r)",
    )
    add(
        "COS",
        {"f32": 3, "f64": 6},
        0,
        QUARTER_PI**2,
        _of_root(_ratio(lambda x: mp.cos(x) - 1 + x * x / 2, lambda x: x**4, 4)),
        _of_root(lambda x: x**4 / mp.cos(x)),
        "(cos(r) - 1 + r^2/2)/r^4 in z = r^2 for |r| <= pi/4; error relative to cos(r)",
    )
    add(
        "POW_LOG",
        {"f64": 8},
        0,
        mpf("0.2001") ** 2,
        _of_root(_ratio(lambda s: mp.atanh(s) - s - s**3 / 3, lambda s: s**5, 5)),
        _of_root(lambda s: s**5 / mp.atanh(s)),
        "(atanh(s)/s - 1 - s^2/3)/s^4 in z = s^2 for s <= 1/5; error relative to atanh(s)",
    )
    add(
        "POWF_LOG2",
        {"f64": 6},
        0,
        mpf("0.2001") ** 2,
        _of_root(_ratio(lambda s: mp.atanh(s) * 2 / mp.log(2), lambda s: s, 1)),
        lambda z: 1 / (2 / mp.log(2)),
        "log2((1+s)/(1-s))/s in z = s^2 for s <= 1/5; relative error (for pow of f32)",
    )
    add(
        "POWF_EXP2",
        {"f64": 7},
        mpf("-0.5"),
        mpf("0.5"),
        _ratio(lambda r: mp.expm1(r * mp.log(2)), lambda r: r, 1),
        lambda r: r / mpf(2) ** r,
        "(2^r - 1)/r for |r| <= 1/2; error relative to 2^r (for pow of f32)",
    )
    return fits


def render(fits: list[Fit]) -> str:
    """The Python text of the fitted tables."""
    names: dict[str, list[Fit]] = {}
    for fit in fits:
        names.setdefault(fit.name, []).append(fit)
    blocks = []
    for name, group in names.items():
        notes: list[str] = []
        entries: list[str] = []
        for fit in group:
            coefficients, error = solve(fit)
            print(f"{name:12} {fit.dtype} {fit.terms:2} terms, error 2^{error:.1f}", file=sys.stderr)
            notes.extend([f"# {fit.comment}."] if fit is group[0] or fit.comment != group[0].comment else [])
            notes.append(f"# {fit.dtype}: error 2^{error:.1f}.")
            body = "".join(f"        {c!r},\n" for c in coefficients)
            entries.append(f'    "{fit.dtype}": (\n{body}    ),\n')
        blocks.append("\n".join(notes) + f"\n{name}: Table = {{\n{''.join(entries)}}}\n")
    return "\n".join(blocks)


HEADER = '''"""Polynomial coefficients of the vector functions, written by `tools/fit_math.py`; do not edit by hand.

Each table maps a dtype to coefficients, lowest power first, each exact in that dtype.
"""

from __future__ import annotations

Table = dict[str, tuple[float, ...]]

'''


def main(names: list[str]) -> None:
    """Fit and print the named tables, or rewrite the module with all of them."""
    fits = _catalogue()
    if names:
        print(render([fit for fit in fits if fit.name in names]))
    else:
        OUTPUT.write_text(HEADER + render(fits))


if __name__ == "__main__":
    main(sys.argv[1:])
