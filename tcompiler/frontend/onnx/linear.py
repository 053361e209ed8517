"""Converters: matrix products and convolutions."""

from __future__ import annotations

from tcompiler.errors import CompileError
from tcompiler.frontend.onnx.node import NodeView, Result, converts
from tcompiler.frontend.tensor import SymbolicTensor, apply
from tcompiler.ir.graph.grammar import Attr


@converts("MatMul")
def _matmul(node: NodeView) -> Result:
    return apply("matmul", node.x(0), node.x(1))


@converts("Gemm")
def _gemm(node: NodeView) -> Result:
    if node.opset < 7:
        node.ignore("broadcast")  # what it allowed is always allowed today
    return apply(
        "gemm",
        node.x(0),
        node.x(1),
        node.optional(2),
        alpha=node.float_attr("alpha", 1.0),
        beta=node.float_attr("beta", 1.0),
        trans_a=bool(node.int_attr("transA", 0)),
        trans_b=bool(node.int_attr("transB", 0)),
    )


@converts("Einsum")
def _einsum(node: NodeView) -> Result:
    return apply("einsum", *node.all(), equation=node.string_attr("equation"))


def window_pads(
    node: NodeView, x: SymbolicTensor, kernel: list[int], strides: list[int], dilations: list[int]
) -> tuple[int, ...]:
    """The pads of a window over the trailing axes, from `pads` or `auto_pad`."""
    rank = len(kernel)
    auto = node.string_attr("auto_pad", "NOTSET")
    pads = node.per_axis("pads", 2 * rank, 0)
    # the data may be padded in memory, however few windows there are
    padded = [e + max(pads[k] + pads[rank + k], 0) for k, e in enumerate(x.shape[-rank:])]
    node.limits.check_shape([*x.shape[:-rank], *padded], "the padded data")
    if auto == "NOTSET":
        return tuple(pads)
    if auto == "VALID":
        return (0,) * (2 * rank)
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        raise CompileError(f"attribute 'auto_pad' is '{auto}', expected NOTSET, SAME_UPPER, SAME_LOWER or VALID")
    before, after = [], []
    for extent, k, s, d in zip(x.shape[-rank:], kernel, strides, dilations, strict=True):
        windows = -(-extent // s)
        total = max((windows - 1) * s + d * (k - 1) + 1 - extent, 0)
        small, large = total // 2, total - total // 2
        before.append(small if auto == "SAME_UPPER" else large)
        after.append(large if auto == "SAME_UPPER" else small)
    return (*before, *after)


def _geometry(node: NodeView, x: SymbolicTensor, w: SymbolicTensor) -> tuple[list[int], list[int], list[int]]:
    """Kernel, strides and dilations."""
    rank = x.ndim - 2
    if rank < 1 or w.ndim != x.ndim:
        raise CompileError(f"data is {x!r} and weight {w!r}, expected (N, C, spatial…) and a weight of the same rank")
    kernel = node.ints_attr("kernel_shape", list(w.shape[2:]))
    if tuple(kernel) != w.shape[2:]:
        raise CompileError(f"attribute 'kernel_shape' is {kernel} for a weight {w!r}, expected {list(w.shape[2:])}")
    return kernel, node.per_axis("strides", rank, 1, least=1), node.per_axis("dilations", rank, 1, least=1)


def conv_attributes(node: NodeView, x: SymbolicTensor, w: SymbolicTensor) -> dict[str, Attr]:
    """The attributes of our convolution from those of a Conv."""
    kernel, strides, dilations = _geometry(node, x, w)
    return {
        "strides": tuple(strides),
        "pads": window_pads(node, x, kernel, strides, dilations),
        "dilations": tuple(dilations),
        "groups": node.int_attr("group", 1),
    }


@converts("Conv")
def _conv(node: NodeView) -> Result:
    x, w = node.x(0), node.x(1)
    return apply("conv", x, w, node.optional(2), **conv_attributes(node, x, w))


@converts("ConvTranspose")
def _conv_transpose(node: NodeView) -> Result:
    x, w = node.x(0), node.x(1)
    kernel, strides, dilations = _geometry(node, x, w)
    rank = len(kernel)
    auto = node.string_attr("auto_pad", "NOTSET")
    extra, pads = node.per_axis("output_padding", rank, 0), node.per_axis("pads", 2 * rank, 0)
    if auto not in ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"):
        raise CompileError(f"attribute 'auto_pad' is '{auto}', expected NOTSET, SAME_UPPER, SAME_LOWER or VALID")
    full = [
        (e - 1) * s + d * (k - 1) + 1 + o
        for e, s, d, k, o in zip(x.shape[2:], strides, dilations, kernel, extra, strict=True)
    ]
    wanted: list[int] | None = None
    if node.has("output_shape"):
        wanted = node.ints_attr("output_shape")[-rank:]
        if len(wanted) != rank or any(e < 0 for e in wanted):
            raise CompileError(f"attribute 'output_shape' is {wanted}, expected {rank} extents")
    elif auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [e * s for e, s in zip(x.shape[2:], strides, strict=True)]
    if wanted is not None:
        before, after = [], []
        for have, want in zip(full, wanted, strict=True):
            total = have - want
            small, large = total // 2, total - total // 2
            before.append(small if auto == "SAME_UPPER" else large)
            after.append(large if auto == "SAME_UPPER" else small)
        pads = before + after
    elif auto == "VALID":
        pads = [0] * (2 * rank)
    return apply(
        "conv_transpose",
        x,
        w,
        node.optional(2),
        strides=tuple(strides),
        pads=tuple(pads),
        dilations=tuple(dilations),
        groups=node.int_attr("group", 1),
        output_padding=tuple(extra),
    )
