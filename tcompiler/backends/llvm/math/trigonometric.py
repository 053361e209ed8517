"""sin and cos: |x| = n·pi/2 + r with |r| <= pi/4, and a polynomial for each of sin(r) and cos(r)."""

from __future__ import annotations

from tcompiler.backends.llvm.math import coefficients
from tcompiler.backends.llvm.math.emit import Emitter, Value, type_suffix, vector_type
from tcompiler.backends.llvm.math.exponential import rounding_magic

TWO_OVER_PI = 0.6366197723675814
# pi/2 as a sum of three numbers of the type.
PI_2_PARTS = {
    "f32": (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15),
    "f64": (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33),
}
# Up to here n is found exactly enough by a product with 2/pi, and x - n·(first part) is exact.
FAST_LIMIT = {"f32": 2.0**17, "f64": 2.0**30}
# The binary digits of 2/pi, 64 to a word after a word of zeros (computed with mpmath).
TWO_OVER_PI_WORDS = (
    0x0000000000000000, 0xA2F9836E4E441529, 0xFC2757D1F534DDC0, 0xDB6295993C439041, 0xFE5163ABDEBBC561,
    0xB7246E3A424DD2E0, 0x06492EEA09D1921C, 0xFE1DEB1CB129A73E, 0xE88235F52EBB4484, 0xE99C7026B45F7E41,
    0x3991D639835339F4, 0x9C845F8BBDF9283B, 0x1FF897FFDE05980F, 0xEF2F118B5A0A6D1F, 0x6D367ECF27CB09B7,
    0x4F463F669E5FEA2D, 0x7527BAC7EBE5F17B, 0x3D0739F78A5292EA, 0x6BFB5FB11F8D5D08, 0x56033046FC7B6BAB,
)  # fmt: skip
DIGITS_SYMBOL = "@tc.two_over_pi"
SCALAR_SYMBOL = "@tc.pio2.exact"


def digits_ir() -> str:
    """The constant that holds the digits of 2/pi."""
    words = ", ".join(f"i64 {word - (word >> 63 << 64)}" for word in TWO_OVER_PI_WORDS)
    return f"{DIGITS_SYMBOL} = internal unnamed_addr constant [{len(TWO_OVER_PI_WORDS)} x i64] [{words}], align 64\n"


def exact_reduction_body(e: Emitter) -> list[str]:
    """The scalar reduction of any finite f64 x >= 2^16 (M. Payne, R. Hanek 1983), as instructions and a `ret`.

    x = m·2^t with an integer m of 53 bits. Of the digits of 2/pi those worth 4 or more in the product only add whole
    turns and are skipped; 192 bits of the others give x·2/pi mod 4 with an error below 2^-126, and no f64 comes nearer
    than about 2^-62 to a multiple of pi/2. Infinity and NaN give NaN; smaller x a result without meaning.
    """
    x = e.parameter("x", "double")
    bits = x.bits()
    field = (bits >> 52) & 0x7FF
    m = ((bits & ((1 << 52) - 1)) | (1 << 52)).cast("zext", "i128")
    first = field - (1075 + 2 - 64)
    first = e.select(first.lt(0), 0, first)
    index, shift = first >> 6, first & 63

    def word(offset: int) -> Value:
        address = e.emit(
            f"getelementptr [{len(TWO_OVER_PI_WORDS)} x i64], ptr {DIGITS_SYMBOL}, i64 0, i64 {(index + offset).name}",
            "ptr",
        )
        return e.emit(f"load i64, ptr {address.name}, align 8", "i64")

    words = [word(k) for k in range(4)]
    high, middle, low = (e.intrinsic("fshl", words[k], words[k + 1], shift).cast("zext", "i128") for k in range(3))
    product = m * middle + ((m * low) >> 64)
    turns = (m * high + (product >> 64)).cast("trunc", "i64")
    n = (turns + (1 << 61)) >> 62
    fraction = ((turns - (n << 62)).cast("zext", "i128") << 64) | product.cast("trunc", "i64").cast("zext", "i128")
    negative = fraction.lt(0)
    magnitude = e.select(negative, -fraction, fraction)
    # ctlz of the two halves: an i128 one is not always inline.
    upper = (magnitude >> 64).cast("trunc", "i64")
    lower = magnitude.cast("trunc", "i64")
    zeros = e.select(upper.eq(0), e.leading_zeros(lower) + 64, e.leading_zeros(upper))
    top = ((magnitude << (zeros & 127).cast("zext", "i128")) >> 64).cast("trunc", "i64")
    head = (top >> 11).cast("sitofp", "double")
    tail = (top & 0x7FF).cast("sitofp", "double") * 2.0**-11
    product_high, product_low = e.two_product(head, PI_2_PARTS["f64"][0])
    product_low = product_low + (head * PI_2_PARTS["f64"][1] + tail * PI_2_PARTS["f64"][0])
    scale = ((1023 - 51 - zeros) << 52).as_float()
    r = (product_high + product_low) * scale
    r = e.select(negative, -r, r)
    r = e.select(field.eq(0x7FF), x - x, r)
    return [*e.lines, *_return_pair("{ double, i64 }", "double", r.name, "i64", n.name)]


def fast_reduction(e: Emitter, x: Value) -> tuple[Value, Value]:
    """r and n of |x| up to `FAST_LIMIT` (W. Cody, W. Waite 1980, with fused multiply-adds)."""
    dtype = x.dtype
    magic = rounding_magic(dtype)
    shifted = e.mad(x, TWO_OVER_PI, magic)
    n = shifted - magic
    r = x
    for part in PI_2_PARTS[dtype]:
        r = e.fma(n, -part, r)
    return r, shifted.bits()


def reduction_symbol(element: str, lanes: int) -> str:
    """The name of the vector reduction: fast, and exact in the lanes that need it."""
    return f"@tc.pio2.{type_suffix(element, lanes)}"


def reduction_support(element: str, lanes: int, fma: bool) -> tuple[str, ...]:
    """Module-level text of the reduction and of what it needs, one string for each symbol."""
    scalar = Emitter(1, fma)
    exact = _define(f"{{ double, i64 }} {SCALAR_SYMBOL}(double %x) noinline cold", exact_reduction_body(scalar))
    e = Emitter(lanes, fma)
    x = e.parameter("x", element)
    integer = "i32" if element == "float" else "i64"
    pair = f"{{ {x.type}, {vector_type(integer, lanes)} }}"
    symbol = reduction_symbol(element, lanes)
    cold = symbol.replace("pio2.", "pio2.cold.")
    r, n = fast_reduction(e, x)
    big = x.gt(FAST_LIMIT[x.dtype])
    any_big = big.name
    if lanes > 1:
        reduce_or = f"@llvm.vector.reduce.or.v{lanes}i1"
        e.declarations.add(f"declare i1 {reduce_or}({big.type})")
        any_big = e.emit(f"call i1 {reduce_or}({big.type} {big.name})", "i1").name
    fast_lines = list(e.lines)
    e.lines.clear()
    both = f"call {pair} {cold}({x.type} {x.name})"
    body = [
        *fast_lines,
        f"  br i1 {any_big}, label %exact, label %done",
        "exact:",
        f"  %c = {both}",
        f"  %cr = extractvalue {pair} %c, 0",
        f"  %cn = extractvalue {pair} %c, 1",
        f"  %sr = select {big.type} {big.name}, {r.type} %cr, {r.type} {r.name}",
        f"  %sn = select {big.type} {big.name}, {n.type} %cn, {n.type} {n.name}",
        "  br label %done",
        "done:",
        f"  %r = phi {r.type} [ {r.name}, %entry ], [ %sr, %exact ]",
        f"  %n = phi {n.type} [ {n.name}, %entry ], [ %sn, %exact ]",
        *_return_pair(pair, r.type, "%r", n.type, "%n"),
    ]
    return (
        *sorted(scalar.declarations | e.declarations),
        digits_ir(),
        exact,
        _define(f"{pair} {cold}({x.type} %x) noinline cold", _lane_by_lane(element, lanes)),
        _define(f"{pair} {symbol}({x.type} %x) alwaysinline", body),
    )


def _define(signature: str, lines: list[str]) -> str:
    body = "\n".join(lines)
    return f"define internal {signature} nounwind willreturn memory(none) {{\nentry:\n{body}\n}}\n"


def _return_pair(pair: str, first_type: str, first: str, second_type: str, second: str) -> list[str]:
    return [
        f"  %half = insertvalue {pair} poison, {first_type} {first}, 0",
        f"  %whole = insertvalue {pair} %half, {second_type} {second}, 1",
        f"  ret {pair} %whole",
    ]


def _lane_by_lane(element: str, lanes: int) -> list[str]:
    """The exact reduction of every lane."""
    integer = "i32" if element == "float" else "i64"
    floats, integers = vector_type(element, lanes), vector_type(integer, lanes)
    lines: list[str] = []
    r, n = "poison", "poison"
    for k in range(lanes):
        x = "%x"
        if lanes > 1:
            lines.append(f"  %x{k} = extractelement {floats} %x, i32 {k}")
            x = f"%x{k}"
        if element == "float":
            lines.append(f"  %d{k} = fpext float {x} to double")
            x = f"%d{k}"
        lines += [
            f"  %p{k} = call {{ double, i64 }} {SCALAR_SYMBOL}(double {x})",
            f"  %r{k} = extractvalue {{ double, i64 }} %p{k}, 0",
            f"  %n{k} = extractvalue {{ double, i64 }} %p{k}, 1",
        ]
        lane_r, lane_n = f"%r{k}", f"%n{k}"
        if element == "float":
            lines += [f"  %s{k} = fptrunc double %r{k} to float", f"  %m{k} = trunc i64 %n{k} to i32"]
            lane_r, lane_n = f"%s{k}", f"%m{k}"
        if lanes > 1:
            lines.append(f"  %vr{k} = insertelement {floats} {r}, {element} {lane_r}, i32 {k}")
            lines.append(f"  %vn{k} = insertelement {integers} {n}, {integer} {lane_n}, i32 {k}")
            lane_r, lane_n = f"%vr{k}", f"%vn{k}"
        r, n = lane_r, lane_n
    return [*lines, *_return_pair(f"{{ {floats}, {integers} }}", floats, r, integers, n)]


def reduced(e: Emitter, magnitude: Value) -> tuple[Value, Value]:
    """|x| = n·pi/2 + r: r, and an integer whose low two bits are n mod 4."""
    integer = "i32" if magnitude.element == "float" else "i64"
    pair = f"{{ {magnitude.type}, {vector_type(integer, e.lanes)} }}"
    e.declarations.update(reduction_support(magnitude.element, e.lanes, e.has_fma))
    symbol = reduction_symbol(magnitude.element, e.lanes)
    both = e.emit(f"call {pair} {symbol}({magnitude.type} {magnitude.name})", magnitude.element)
    r = e.emit(f"extractvalue {pair} {both.name}, 0", magnitude.element)
    return r, e.emit(f"extractvalue {pair} {both.name}, 1", integer)


def sin_cos_reduced(e: Emitter, r: Value) -> tuple[Value, Value]:
    """sin(r) and cos(r) for |r| <= pi/4 and a little more."""
    z = r * r
    sine = e.mad(z * e.poly(z, coefficients.SIN[r.dtype]), r, r)
    cosine = e.mad(z, e.mad(z, e.poly(z, coefficients.COS[r.dtype]), -0.5), 1.0)
    return sine, cosine


def sin(e: Emitter, x: Value) -> Value:
    """The sine of every finite x, computed of |x| so that -0 stays -0."""
    width = 32 if x.dtype == "f32" else 64
    r, n = reduced(e, e.abs(x))
    sine, cosine = sin_cos_reduced(e, r)
    value = e.select((n & 1).eq(0), sine, cosine)
    sign = ((n << (width - 2)) ^ x.bits()) & (1 << (width - 1))
    return (value.bits() ^ sign).as_float()


def cos(e: Emitter, x: Value) -> Value:
    """The cosine of every finite x."""
    width = 32 if x.dtype == "f32" else 64
    r, n = reduced(e, e.abs(x))
    sine, cosine = sin_cos_reduced(e, r)
    value = e.select((n & 1).eq(0), cosine, sine)
    sign = ((n + 1) << (width - 2)) & (1 << (width - 1))
    return (value.bits() ^ sign).as_float()


def tan(e: Emitter, x: Value) -> Value:
    """The tangent of every finite x, computed of |x| so that -0 stays -0."""
    r, n = reduced(e, e.abs(x))
    sine, cosine = sin_cos_reduced(e, r)
    even = (n & 1).eq(0)
    quotient = e.select(even, sine, -cosine) / e.select(even, cosine, sine)
    width = 32 if x.dtype == "f32" else 64
    return (quotient.bits() ^ (x.bits() & (1 << (width - 1)))).as_float()
