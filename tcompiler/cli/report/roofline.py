"""The roofline plot: what every kernel attains beside what the machine allows at its arithmetic intensity.

S. Williams, A. Waterman, D. Patterson, *Roofline: an insightful visual performance model* (2009).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tcompiler.cli.report.facts import BOUNDS, KernelFacts
from tcompiler.cli.report.layers import separated
from tcompiler.cli.report.markup import Html, duration, tag
from tcompiler.target.machine import Machine

_WIDTH, _HEIGHT = 960.0, 500.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 62.0, 24.0, 22.0, 46.0
_LABEL_GAP = 24.0
"""Between the slanting names of slopes whose ends nearly coincide."""


class _Scale:
    """Logarithmic axes: from the given ranges to the plot's rectangle."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float]) -> None:
        self.x_range, self.y_range = x, y

    def x(self, value: float) -> float:
        low, high = map(math.log10, self.x_range)
        return _LEFT + (math.log10(value) - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = map(math.log10, self.y_range)
        return _HEIGHT - _BOTTOM - (math.log10(value) - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)


def draw_roofline(rows: Sequence[KernelFacts], machine: Machine, threads: int) -> Html | None:
    """The plot as SVG: a point for each kernel with floating-point operations and a time, as large as its share.

    Args:
        rows: The kernels' figures.
        machine: Measured peaks.
        threads: How many threads the model was measured on.

    Returns:
        The plot, or None if there is no such kernel.
    """
    points = [(k, r) for k, r in enumerate(rows) if r.executed_gflops and r.bytes]
    if not points:
        return None
    peak = machine.peak_gflops("f32", threads)
    roofs = {level: machine.peak_gbps(level, threads) for level in machine.gbps}
    intensities = [r.executed_flops / r.bytes for _, r in points]
    speeds = [r.executed_gflops or 0.0 for _, r in points]
    ridge = peak / min(roofs.values())
    # Above the roof there is room for the names of the slopes.
    scale = _Scale(
        (min(*intensities, 0.1) * 0.6, max(*intensities, 10 * ridge) * 1.6),
        (max(min(*speeds, peak / 300) * 0.5, peak / 1e6), peak * 9),
    )
    total = sum(r.seconds or 0.0 for r in rows)
    shown = sorted(points, key=lambda p: -(p[1].seconds or 0.0))
    return tag(
        "svg",
        tag("g", _grid(scale), _class="grid"),
        tag("g", _roofs(scale, peak, roofs), _class="roofs"),
        tag("g", (_point(scale, k, r, total) for k, r in shown), _class="points"),
        viewBox=f"0 0 {_WIDTH:.0f} {_HEIGHT:.0f}",
        role="group",
        aria_label="Roofline plot: executed GFLOP/s over FLOP per byte",
    )


def _grid(scale: _Scale) -> list[Html]:
    parts = []
    for (low, high), horizontal in ((scale.x_range, True), (scale.y_range, False)):
        for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1):
            value = 10.0**power
            label = f"{value:g}"
            if horizontal:
                at = scale.x(value)
                parts.append(tag("line", x1=at, x2=at, y1=_TOP, y2=_HEIGHT - _BOTTOM))
                parts.append(tag("text", label, x=at, y=_HEIGHT - _BOTTOM + 17, text_anchor="middle"))
            else:
                at = scale.y(value)
                parts.append(tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=at, y2=at))
                parts.append(tag("text", label, x=_LEFT - 8, y=at + 4, text_anchor="end"))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(tag("text", "executed FLOP / byte", _class="axis", x=middle, y=_HEIGHT - 8, text_anchor="middle"))
    parts.append(tag("text", "GFLOP/s", _class="axis", x=8, y=13))
    return parts


def _roofs(scale: _Scale, peak: float, roofs: dict[str, float]) -> list[Html]:
    """The flat roof of computing, and a slope up to it for every level of the memory."""
    low_x, high_x = scale.x_range
    low_y = scale.y_range[0]
    fastest = max(roofs.values())
    parts = [
        tag("line", x1=scale.x(peak / fastest), x2=scale.x(high_x), y1=scale.y(peak), y2=scale.y(peak), _class="peak"),
        tag(
            "text",
            f"peak {peak:.0f} GFLOP/s",
            x=_WIDTH - _RIGHT - 4,
            y=scale.y(peak) - 7,
            text_anchor="end",
            _class="peak",
        ),
    ]
    order = sorted(roofs.items(), key=lambda item: -item[1])
    ridges = [scale.x(peak / rate) for _, rate in order]
    gaps = [_LABEL_GAP] * (len(order) - 1)
    for (level, rate), end, at in zip(order, ridges, separated(ridges, [1.0] * len(order), gaps), strict=True):
        start = max(low_x, low_y / rate)
        y2 = scale.y(peak)
        parts.append(tag("line", x1=scale.x(start), y1=scale.y(start * rate), x2=end, y2=y2, _class=f"level {level}"))
        label = f"{BOUNDS.get(level, level)} {rate:.0f} GB/s"
        parts.append(tag("text", label, _class="level", transform=f"translate({at:.1f} {y2 - 8:.1f}) rotate(-40)"))
    return parts


def _point(scale: _Scale, k: int, row: KernelFacts, total: float) -> Html:
    intensity = row.executed_flops / row.bytes
    speed = max(row.executed_gflops or 0.0, scale.y_range[0])
    share = row.share(total) or 0.0
    text = (
        f"{row.name}: {row.executed_gflops or 0.0:.1f} GFLOP/s at {intensity:.2f} FLOP/byte\n"
        f"{duration(row.seconds or 0.0)}, {share:.1%} of the time; limit {duration(row.limit)} "
        f"({BOUNDS[row.bound]}), attained {row.attained or 0.0:.0%}"
    )
    circle = tag(
        "circle",
        tag("title", text),
        cx=scale.x(intensity),
        cy=scale.y(speed),
        r=3.5 + 22 * math.sqrt(share),
        _class=f"k{k}",
    )
    return tag("a", circle, href=f"#kernel-{k}", aria_label=text)
