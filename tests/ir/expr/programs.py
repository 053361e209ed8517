"""Expr programs that the tests share."""

from __future__ import annotations

EVERYTHING = """@expr.program
def everything(n: i64, m: i64, x: f32[n, 6], w: f32[6, 4], h0: f32[4], at: i64[3], b: bool[n], q: i8[5], s: f64[()]):
    y = reduce(sum, f32[n, 4], (6,), lambda i, j, k: x[i, k] * w[k, j])
    z, zi = compute((f32[n, 4], i64[n, 4]), lambda i, j: (max(y[i, j], f32(-0.0)), i * 4 + j))
    t, tat = reduce(argmax, (f32[n], i64[n]), (4,), lambda i, j: (z[i, j], j))
    p = reduce(reducer(lambda u, v: (v + u,), (f64(0.0),)), f64[()], (n,), lambda i: cast(f64, t[i]))
    pad = compute(f32[n + 2], lambda i: select((i >= 1) & (i < n + 1), t[i - 1], f32.bits(0x7fc00001)))
    e = scatter(f32[n, 4], z, (3,), lambda i: ((at[i], i % 4), w[i, i]), combiner=sum)
    f = scatter(f32[n, 4], e, (3, 2), lambda i, j: ((i, j), f32(1.0)))
    v, vat = sort((f32[n, 4], i64[n, 4]), f, axis=1, descending=True)
    with scan(r=m):
        h = state(f32[4], h0)
        c = state(f64[()], s)
        g = compute(f32[4], lambda j: h[j] * f32(0.5) + w[r % 6, j])
        d = compute(f64[()], lambda: c[()] + cast(f64, g[0]))
        with scan(l=2):
            k = state(f32[4], g)
            k2 = compute(f32[4], lambda j: tanh(k[j]))
            kk = last(f32[4], k2)
        hs = collect(f32[m, 4], kk)
        cs = last(f64[()], d)
    some = reduce(any, bool[()], (n,), lambda i: b[i] & (q[i % 5] != i8(0)))
    return f, v, vat, hs, cs, some, pad, zi, tat, p
"""
"""One of everything that a program can hold."""

_CONVOLUTION = """@expr.program
def convolution(x: f32[{n}, {c}, {h}, {h2}], w: f32[{k}, {cg}, {r}, {r2}]):
    u = compute(f32[{n}, {c}, {hp}, {hp2}], lambda i, c, y, z: select({inside}, x[i, c, y - {p}, z - {p2}], f32(0.0)))
    o = reduce(sum, f32[{n}, {k}, {o}, {o2}], ({cg}, {r}, {r2}), lambda i, j, y, z, c, a, b: {product})
    return o
"""


def convolution(
    batch: int = 2,
    channels: int = 4,
    size: tuple[int, int] = (7, 6),
    filters: int = 6,
    kernel: tuple[int, int] = (3, 3),
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    before: tuple[int, int] = (0, 0),
    after: tuple[int, int] = (0, 0),
    plain: bool = False,
) -> str:
    """A convolution of NCHW images: padding first, then the sum.

    Args:
        batch: Number of images.
        channels: Channels of an image.
        size: Height and width.
        filters: Channels of the result.
        kernel: Height and width of a filter.
        stride: Steps of the filter.
        dilation: Distances between its taps.
        groups: Groups of channels.
        before: Zeros above and to the left.
        after: Zeros below and to the right.
        plain: Write the product so that it is not one at the top: added to a zero.
    """
    padded = [s + p + q for s, p, q in zip(size, before, after, strict=True)]
    out = [(s - d * (r - 1) - 1) // t + 1 for s, d, r, t in zip(padded, dilation, kernel, stride, strict=True)]
    channel = f"j // {filters // groups} * {channels // groups} + c" if groups > 1 else "c"
    row, column = (f"{v} * {t} + {u} * {d}" for v, u, t, d in zip("yz", "ab", stride, dilation, strict=True))
    product = f"u[i, {channel}, {row}, {column}] * w[j, c, a, b]"
    inside = " & ".join(f"({v} >= {p}) & ({v} < {s + p})" for v, p, s in zip("yz", before, size, strict=True))
    return _CONVOLUTION.format(
        n=batch,
        c=channels,
        cg=channels // groups,
        h=size[0],
        h2=size[1],
        k=filters,
        r=kernel[0],
        r2=kernel[1],
        hp=padded[0],
        hp2=padded[1],
        p=before[0],
        p2=before[1],
        o=out[0],
        o2=out[1],
        inside=inside,
        product=f"{product} + f32(0.0)" if plain else product,
    )
