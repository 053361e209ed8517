"""Resize in all its modes."""

from __future__ import annotations

from tests.fuzz.draw import Draw
from tests.fuzz.families.table import family


@family("resize", opsets=(22, 19, 13, 11), weight=8)
def resize(d: Draw) -> None:
    mode = d.choice(("nearest", "linear", "cubic"))
    where = d.choice(("half_pixel", "asymmetric", "pytorch_half_pixel", "align_corners"))
    attrs: dict[str, object] = {"mode": mode, "coordinate_transformation_mode": where}
    spatial = 2 if mode == "cubic" else d.choice((1, 2, 2, 3)) if mode == "nearest" else d.choice((2, 2, 3))
    space = [d.dim(17 if spatial < 3 else 8) for _ in range(spatial)]
    x = d.input((d.choice((1, 1, 2)), d.dim(9), *space), d.choice(("float32",) * 5 + ("float64",)))
    if mode == "nearest" and d.chance(0.7):
        attrs["nearest_mode"] = d.choice(("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"))
    if mode == "cubic":
        if d.chance(0.5):
            attrs["cubic_coeff_a"] = d.choice((-0.5, -0.75))
        if d.chance(0.3) and where != "align_corners":
            attrs["exclude_outside"] = 1
    roi = None
    if d.opset < 13:
        roi = d.constant([], "float32")
    if d.chance(0.5):
        # factors whose products with integers are exact, so that no coordinate is a matter of rounding
        factors = [d.choice((0.5, 0.75, 1.0, 1.5, 2.0, 2.0, 3.0, 4.0, 0.25)) for _ in space]
        factors = [f if int(f * e) >= 1 else 1.0 for f, e in zip(factors, space, strict=True)]
        y = d.node("Resize", x, roi, d.constant([1.0, 1.0, *factors], "float32"), **attrs)
    else:
        sizes = [d.choice((e, 2 * e, max(e // 2, 1), d.dim(20))) for e in space]
        if mode == "nearest":
            # a coordinate that falls on a tie in one rounding and beside it in another has no right answer
            sizes = [s if s % e == 0 or e % s == 0 else 2 * e for s, e in zip(sizes, space, strict=True)]
        scales = d.constant([], "float32") if d.opset < 13 else None
        y = d.node("Resize", x, roi, scales, d.constant([*x.shape[:2], *sizes]), **attrs)
    if d.chance(0.25):
        y = d.node("Relu", y)
    d.result(y)
