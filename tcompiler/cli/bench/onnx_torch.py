"""ONNX models run with PyTorch's kernels: a peer to measure beside, and in float64 a reference for tests.

One function per ONNX operator (ai.onnx, opset 7 and later), in one table. Nothing here is shared with the compiler.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import onnx
import onnx.numpy_helper
import torch
from torch import Tensor
from torch.nn import functional

from tcompiler.errors import UserError

Attributes: TypeAlias = dict[str, Any]
Operator: TypeAlias = Callable[..., Any]
Visitor: TypeAlias = Callable[[onnx.NodeProto, dict[str, Any]], None]

_DTYPES = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.DOUBLE: torch.float64,
    onnx.TensorProto.FLOAT16: torch.float16,
    onnx.TensorProto.BFLOAT16: torch.bfloat16,
    onnx.TensorProto.INT64: torch.int64,
    onnx.TensorProto.INT32: torch.int32,
    onnx.TensorProto.INT8: torch.int8,
    onnx.TensorProto.UINT8: torch.uint8,
    onnx.TensorProto.BOOL: torch.bool,
}


_FUSED = "tcompiler.fused"
"""Domain of the nodes that we make ourselves; ONNX's own Attention is another operator."""


class TorchModel:
    """An ONNX model as a PyTorch function, run eagerly node by node.

    Args:
        model: The ONNX file, or the model itself.
        floats: What the model's f32 values are computed in: torch.float32 or torch.float64.

    Raises:
        UserError: An operator of the model is not in the table.
    """

    def __init__(self, model: str | Path | onnx.ModelProto, floats: torch.dtype = torch.float32) -> None:
        if not isinstance(model, onnx.ModelProto):
            model = onnx.load(str(model))
        self._floats = floats
        self._opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
        self._values = {t.name: self._tensor(t) for t in model.graph.initializer}
        self.input_names = [i.name for i in model.graph.input if i.name not in self._values]
        self.output_names = [o.name for o in model.graph.output]
        self._steps: list[tuple[onnx.NodeProto, Callable[..., Any], list[str]]] = []
        nodes = list(model.graph.node)
        if floats == torch.float32:
            nodes = _fuse_attention(nodes, self._values, self.output_names)
        last_use = {name: i for i, node in enumerate(nodes) for name in node.input}
        for i, node in enumerate(nodes):
            operator = OPERATORS.get(f"{node.domain}.{node.op_type}".removeprefix("ai.onnx").removeprefix("."))
            if operator is None:
                raise UserError(
                    f"the PyTorch evaluator has no operator {node.domain or 'ai.onnx'}.{node.op_type} "
                    f"(node {node.name!r}); it has: {', '.join(sorted(OPERATORS))}"
                )
            attributes = {a.name: self._attribute(a) for a in node.attribute}
            attributes["_outputs"] = len(node.output)
            dying = [n for n in set(node.input) if last_use[n] == i and n and n not in self._values]
            dying = [n for n in dying if n not in self.output_names]
            self._steps.append((node, self._bind(operator, attributes), dying))

    def __call__(self, *inputs: Tensor, visit: Visitor | None = None) -> list[Tensor]:
        """Run the model.

        Args:
            *inputs: The inputs in the model's order.
            visit: Called before each node with the values by name that there are then; it may replace some.

        Returns:
            The outputs in the model's order.
        """
        values: dict[str, Any] = dict(self._values)
        values[""] = None
        for name, value in zip(self.input_names, inputs, strict=True):
            values[name] = value.to(self._floats) if value.dtype == torch.float32 else value
        with torch.inference_mode():
            for node, function, dying in self._steps:
                if visit is not None:
                    visit(node, values)
                out = function(*(values[a] for a in node.input))
                if isinstance(out, Tensor):
                    values[node.output[0]] = out
                else:
                    values.update(zip(node.output, out, strict=False))
                for name in dying:
                    del values[name]
        return [values[name] for name in self.output_names]

    def _tensor(self, proto: onnx.TensorProto) -> Tensor:
        value = torch.from_numpy(np.array(onnx.numpy_helper.to_array(proto)))
        return value.to(self._floats) if value.dtype == torch.float32 else value

    def _attribute(self, attribute: onnx.AttributeProto) -> Any:
        value = onnx.helper.get_attribute_value(attribute)
        match value:
            case onnx.TensorProto():
                return self._tensor(value)
            case bytes():
                return value.decode()
            case _:
                return list(value) if attribute.type == onnx.AttributeProto.INTS else value

    def _bind(self, operator: Operator, attributes: Attributes) -> Operator:
        """The operator with its attributes, and what it asks of the model besides: its opset, what a float is."""
        attributes |= {"_opset": self._opset, "_float": self._floats}
        if "to" in attributes:
            dtype = _DTYPES[attributes["to"]]
            attributes["_dtype"] = self._floats if dtype == torch.float32 else dtype
        return lambda *inputs: operator(attributes, *inputs)


def _fuse_attention(
    nodes: list[onnx.NodeProto], values: dict[str, Tensor], outputs: Sequence[str]
) -> list[onnx.NodeProto]:
    """softmax(q @ kᵀ · scale) @ v as PyTorch's own attention: as a PyTorch user would have written it."""
    makers = {name: node for node in nodes for name in node.output}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for name in node.input:
            users.setdefault(name, []).append(node)

    def maker(name: str, *kinds: str) -> onnx.NodeProto | None:
        """The node of one of these kinds that makes a value nobody else reads."""
        node = makers.get(name)
        alone = len(users[name]) == 1 and name not in outputs
        return node if node is not None and alone and node.op_type in kinds else None

    fused: dict[str, onnx.NodeProto] = {}
    for last in nodes:
        softmax = maker(last.input[0], "Softmax") if last.op_type == "MatMul" else None
        scaled = maker(softmax.input[0], "Mul", "Div") if softmax is not None else None
        first = maker(scaled.input[0], "MatMul") if scaled is not None else None
        if softmax is None or scaled is None or first is None:
            continue
        factor = values.get(scaled.input[1])
        axis = [a.i for a in softmax.attribute if a.name == "axis"]
        if factor is None or factor.numel() != 1 or axis not in ([], [-1]):
            continue
        scale = float(factor) if scaled.op_type == "Mul" else 1.0 / float(factor)
        inputs = [first.input[0], first.input[1], last.input[1]]
        node = onnx.helper.make_node("Attention", inputs, list(last.output), domain=_FUSED, scale=scale)
        fused |= {last.output[0]: node} | {gone.output[0]: node for gone in (softmax, scaled, first)}
    return [
        fused.get(node.output[0], node)
        for node in nodes
        if node.output[0] not in fused or node.output[0] == fused[node.output[0]].output[0]
    ]


def _attention(a: Attributes, q: Tensor, transposed_k: Tensor, v: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(q, transposed_k.transpose(-2, -1), v, scale=a["scale"])


def _attention_node(a: Attributes, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """ONNX's Attention of four axes, one result."""
    return functional.scaled_dot_product_attention(
        q,
        k,
        v,
        mask,
        is_causal=bool(a.get("is_causal", 0)),
        scale=a.get("scale"),
        enable_gqa=q.shape[1] != k.shape[1],
    )


def _ints(value: Tensor | Sequence[int] | None) -> list[int] | None:
    return None if value is None else [int(v) for v in (value.tolist() if isinstance(value, Tensor) else value)]


def _split_pads(x: Tensor, a: Attributes, kernel: Sequence[int], fill: float = 0.0) -> tuple[Tensor, list[int]]:
    """The padding torch's operator is to do, after doing ourselves what it cannot (asymmetric or SAME)."""
    rank = len(kernel)
    auto = a.get("auto_pad", "NOTSET")
    pads = a.get("pads", [0] * (2 * rank))
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        strides, dilations = a.get("strides", [1] * rank), a.get("dilations", [1] * rank)
        low, high = [], []
        for i, size in enumerate(x.shape[2:]):
            reach = (kernel[i] - 1) * dilations[i] + 1
            total = max((math.ceil(size / strides[i]) - 1) * strides[i] + reach - size, 0)
            small, large = total // 2, total - total // 2
            low.append(small if auto == "SAME_UPPER" else large)
            high.append(large if auto == "SAME_UPPER" else small)
        pads = low + high
    if pads[:rank] == pads[rank:]:
        return x, list(pads[:rank])
    flat = [p for i in reversed(range(rank)) for p in (pads[i], pads[rank + i])]
    return functional.pad(x, flat, value=fill), [0] * rank


def _conv(a: Attributes, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    rank = w.dim() - 2
    x, padding = _split_pads(x, a, w.shape[2:])
    function: Callable[..., Tensor] = (functional.conv1d, functional.conv2d, functional.conv3d)[rank - 1]
    ones = [1] * rank
    return function(x, w, b, a.get("strides", ones), padding, a.get("dilations", ones), a.get("group", 1))


def _conv_transpose(a: Attributes, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    rank = w.dim() - 2
    ones, pads = [1] * rank, a.get("pads", [0] * (2 * rank))
    if a.get("auto_pad", "NOTSET") != "NOTSET" or "output_shape" in a or pads[:rank] != pads[rank:]:
        raise UserError("the PyTorch evaluator takes ConvTranspose with explicit symmetric pads only")
    function: Callable[..., Tensor]
    function = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)[rank - 1]
    strides, dilations = a.get("strides", ones), a.get("dilations", ones)
    extra = a.get("output_padding", [0] * rank)
    return function(x, w, b, strides, pads[:rank], extra, a.get("group", 1), dilations)


def _pool(a: Attributes, x: Tensor, kind: str) -> Tensor:
    function: Callable[..., Tensor]
    kernel = a["kernel_shape"]
    rank = len(kernel)
    strides, ceil = a.get("strides", [1] * rank), bool(a.get("ceil_mode", 0))
    if kind == "max":
        x, padding = _split_pads(x, a, kernel, -math.inf)
        function = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[rank - 1]
        return function(x, kernel, strides, padding, a.get("dilations", [1] * rank), ceil)
    included = bool(a.get("count_include_pad", 0))
    function = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[rank - 1]
    padded, padding = _split_pads(x, a, kernel)
    if padded is x:
        return function(x, kernel, strides, padding, ceil, included)
    if ceil:
        raise UserError("the PyTorch evaluator takes AveragePool with ceil_mode and symmetric pads only")
    mean = function(padded, kernel, strides)
    if included:
        return mean
    return mean / function(_split_pads(torch.ones_like(x), a, kernel)[0], kernel, strides)


def _gemm(a: Attributes, x: Tensor, y: Tensor, c: Tensor | None = None) -> Tensor:
    x = x.T if a.get("transA", 0) else x
    y = y.T if a.get("transB", 0) else y
    alpha, beta = a.get("alpha", 1.0), a.get("beta", 1.0)
    return alpha * (x @ y) if c is None else torch.addmm(c, x, y, alpha=alpha, beta=beta)


def _batch_norm(a: Attributes, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    return functional.batch_norm(x, mean, var, scale, bias, False, 0.0, a.get("epsilon", 1e-5))


def _layer_norm(a: Attributes, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    axis = a.get("axis", -1) % x.dim()
    shape = list(x.shape[axis:])
    bias = None if bias is None else bias.expand(shape)
    return functional.layer_norm(x, shape, scale.expand(shape), bias, a.get("epsilon", 1e-5))


def _reduce(function: Callable[[Tensor, list[int], bool], Tensor]) -> Operator:
    def operator(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
        dims = _ints(axes if axes is not None else a.get("axes"))
        if not dims:
            if a.get("noop_with_empty_axes", 0):
                return x
            dims = list(range(x.dim()))
        return function(x, dims, bool(a.get("keepdims", 1)))

    return operator


def _reshape(a: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    sizes = _ints(shape) or []
    if not a.get("allowzero", 0):
        sizes = [x.shape[i] if s == 0 else s for i, s in enumerate(sizes)]
    return x.reshape(sizes)


def _squeeze(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    dims = _ints(axes if axes is not None else a.get("axes"))
    return x.squeeze() if dims is None else x.squeeze(dims)


def _unsqueeze(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    dims = _ints(axes if axes is not None else a["axes"]) or []
    for dim in sorted(d % (x.dim() + len(dims)) for d in dims):
        x = x.unsqueeze(dim)
    return x


def _slice(
    a: Attributes,
    x: Tensor,
    starts: Tensor | None = None,
    ends: Tensor | None = None,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    first = _ints(a["starts"] if starts is None else starts) or []
    last = _ints(a["ends"] if ends is None else ends) or []
    dims = _ints(a.get("axes") if axes is None else axes) or list(range(len(first)))
    strides = _ints(steps) or [1] * len(first)
    for start, end, dim, step in zip(first, last, dims, strides, strict=True):
        index = range(x.shape[dim])[start:end:step]
        chosen = slice(start, end, step) if step > 0 else torch.tensor(list(index), dtype=torch.int64)
        x = x[(slice(None),) * (dim % x.dim()) + (chosen,)]
    return x


def _split(a: Attributes, x: Tensor, sizes: Tensor | None = None) -> Sequence[Tensor]:
    axis: int = a.get("axis", 0)
    count: int = a.get("num_outputs") or a["_outputs"]
    given = _ints(a.get("split") if sizes is None else sizes)
    return torch.split(x, given or math.ceil(x.shape[axis] / count), axis)


def _pad(
    a: Attributes, x: Tensor, pads: Tensor | None = None, fill: Tensor | None = None, axes: Tensor | None = None
) -> Tensor:
    widths = _ints(a["pads"] if pads is None else pads) or []
    dims = [d % x.dim() for d in _ints(axes) or range(x.dim())]
    value = a.get("value", 0.0) if fill is None else fill.item()
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}[
        a.get("mode", "constant")
    ]
    by_axis = {d: (widths[i], widths[len(dims) + i]) for i, d in enumerate(dims)}
    if mode != "constant":
        # PyTorch pads the last axes of a batch of channels only: the padded axes go there, one at a time.
        for d, (before, after) in by_axis.items():
            if before or after:
                moved = x.movedim(d, -1)
                flat = functional.pad(moved.reshape(1, -1, moved.shape[-1]), [before, after], mode)
                x = flat.reshape(*moved.shape[:-1], -1).movedim(-1, d)
        return x
    flat_widths = [w for d in reversed(range(x.dim())) for w in by_axis.get(d, (0, 0))]
    return functional.pad(x, flat_widths, value=value)


def _softmax(a: Attributes, x: Tensor, logarithm: bool) -> Tensor:
    function = torch.log_softmax if logarithm else torch.softmax
    if a["_opset"] >= 13:
        return function(x, a.get("axis", -1))
    axis = a.get("axis", 1) % x.dim()  # older sets flatten the axes from this one on
    return function(x.reshape(math.prod(x.shape[:axis]), -1), -1).reshape(x.shape)


def _dropout(a: Attributes, x: Tensor, *rest: Tensor | None) -> Sequence[Tensor]:
    return x, torch.ones_like(x, dtype=torch.bool)


def _lrn(a: Attributes, x: Tensor) -> Tensor:
    size: int = a["size"]
    squares = functional.pad(x.square().movedim(1, -1), [(size - 1) // 2, size // 2])
    sums = squares.unfold(-1, size, 1).sum(-1).movedim(-1, 1)
    base: Tensor = a.get("bias", 1.0) + a.get("alpha", 1e-4) / size * sums
    return x / torch.pow(base, a.get("beta", 0.75))


def _constant_of_shape(a: Attributes, shape: Tensor) -> Tensor:
    value: Tensor = a.get("value", torch.zeros(1, dtype=a["_float"]))
    return value.reshape(()).expand(_ints(shape) or [])


def _range(a: Attributes, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


def _trilu(a: Attributes, x: Tensor, k: Tensor | None = None) -> Tensor:
    diagonal = 0 if k is None else int(k)
    return torch.triu(x, diagonal) if a.get("upper", 1) else torch.tril(x, diagonal)


def _cumulative_sum(a: Attributes, x: Tensor, axis: Tensor) -> Tensor:
    dim = int(axis)
    x = x.flip(dim) if a.get("reverse", 0) else x
    y = x.cumsum(dim) - x if a.get("exclusive", 0) else x.cumsum(dim)
    return y.flip(dim) if a.get("reverse", 0) else y


def _extreme_index(function: Callable[..., Tensor]) -> Operator:
    def operator(a: Attributes, x: Tensor) -> Tensor:
        axis = a.get("axis", 0)
        if a.get("select_last_index", 0):
            y = x.shape[axis] - 1 - function(x.flip(axis), axis, keepdim=True)
        else:
            y = function(x, axis, keepdim=True)
        return y if a.get("keepdims", 1) else y.squeeze(axis)

    return operator


def _instance_norm(a: Attributes, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return functional.instance_norm(x, weight=scale, bias=bias, eps=a.get("epsilon", 1e-5))


def _gather_elements(a: Attributes, x: Tensor, index: Tensor) -> Tensor:
    axis = a.get("axis", 0)
    return torch.gather(x, axis, torch.where(index < 0, index + x.shape[axis], index))


def _gather_nd(a: Attributes, x: Tensor, index: Tensor) -> Tensor:
    if a.get("batch_dims", 0):
        raise UserError("the PyTorch evaluator takes GatherND without batch_dims only")
    return x[tuple(index.movedim(-1, 0))]


def _gather(a: Attributes, x: Tensor, index: Tensor) -> Tensor:
    axis = a.get("axis", 0) % x.dim()
    flat = torch.where(index < 0, index + x.shape[axis], index).reshape(-1)
    return x.index_select(axis, flat).reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


def _flatten(a: Attributes, x: Tensor) -> Tensor:
    axis = a.get("axis", 1)
    axis = axis + x.dim() if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), -1)


def _expand(a: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    return x.expand(np.broadcast_shapes(tuple(x.shape), tuple(_ints(shape) or [])))


def _constant(a: Attributes) -> Tensor:
    if "value" in a:
        value: Tensor = a["value"]
        return value
    for name, dtype in (("value_int", torch.int64), ("value_ints", torch.int64), ("value_float", torch.float32)):
        if name in a:
            return torch.tensor(a[name], dtype=dtype)
    raise UserError("the PyTorch evaluator takes Constant with a value, value_int, value_ints or value_float only")


def _shape(a: Attributes, x: Tensor) -> Tensor:
    return torch.tensor(list(x.shape)[a.get("start", 0) : a.get("end")], dtype=torch.int64)


def _gelu(a: Attributes, x: Tensor) -> Tensor:
    return functional.gelu(x, approximate=a.get("approximate", "none"))


def _clip(a: Attributes, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    lower, upper = (a.get("min") if low is None else low), (a.get("max") if high is None else high)
    if isinstance(lower, Tensor) or isinstance(upper, Tensor):
        lower, upper = (None if b is None else torch.as_tensor(b, dtype=x.dtype) for b in (lower, upper))
    return x if lower is None and upper is None else torch.clamp(x, lower, upper)


def _fold(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    def operator(a: Attributes, first: Tensor, *rest: Tensor) -> Tensor:
        for x in rest:
            first = function(first, x)
        return first

    return operator


def _divide(a: Attributes, x: Tensor, y: Tensor) -> Tensor:
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


def _plain(function: Callable[..., Tensor]) -> Operator:
    return lambda a, *inputs: function(*inputs)


OPERATORS: dict[str, Operator] = {
    **{
        name: _plain(function)
        for name, function in cast(dict[str, Callable[..., Tensor]], {
            "Abs": torch.abs, "Add": torch.add, "And": torch.logical_and, "Ceil": torch.ceil, "Cos": torch.cos,
            "Equal": torch.eq, "Erf": torch.erf, "Exp": torch.exp, "Floor": torch.floor, "Greater": torch.gt,
            "GreaterOrEqual": torch.ge, "Identity": torch.clone, "Less": torch.lt, "LessOrEqual": torch.le,
            "Log": torch.log, "MatMul": torch.matmul, "Mul": torch.mul, "Neg": torch.neg, "Not": torch.logical_not,
            "Or": torch.logical_or, "Pow": torch.pow, "Reciprocal": torch.reciprocal, "Relu": torch.relu,
            "Sigmoid": torch.sigmoid, "Sign": torch.sign, "Sin": torch.sin, "Softplus": functional.softplus,
            "Sqrt": torch.sqrt, "Sub": torch.sub, "Tan": torch.tan, "Tanh": torch.tanh,
            "Where": torch.where, "Xor": torch.logical_xor, "IsNaN": torch.isnan, "IsInf": torch.isinf,
            "Round": torch.round,
        }).items()
    },
    f"{_FUSED}.Attention": _attention,
    "ArgMax": _extreme_index(torch.argmax),
    "ArgMin": _extreme_index(torch.argmin),
    "Attention": _attention_node,
    "AveragePool": lambda a, x: _pool(a, x, "average"),
    "BatchNormalization": _batch_norm,
    "Cast": lambda a, x: x.to(a["_dtype"]),
    "CastLike": lambda a, x, like: x.to(like.dtype),
    "Clip": _clip,
    "Concat": lambda a, *inputs: torch.cat(inputs, a["axis"]),
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "CumSum": _cumulative_sum,
    "Div": _divide,
    "Dropout": _dropout,
    "Einsum": lambda a, *inputs: torch.einsum(a["equation"].replace(" ", ""), *inputs),
    "Elu": lambda a, x: functional.elu(x, a.get("alpha", 1.0)),
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda a, x: x.mean(list(range(2, x.dim())), keepdim=True),
    "GlobalMaxPool": lambda a, x: x.amax(list(range(2, x.dim())), keepdim=True),
    "HardSigmoid": lambda a, x: torch.clamp(a.get("alpha", 0.2) * x + a.get("beta", 0.5), 0.0, 1.0),
    "HardSwish": lambda a, x: functional.hardswish(x),
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "LRN": _lrn,
    "LeakyRelu": lambda a, x: functional.leaky_relu(x, a.get("alpha", 0.01)),
    "LogSoftmax": lambda a, x: _softmax(a, x, True),
    "Max": _fold(torch.maximum),
    "MaxPool": lambda a, x: _pool(a, x, "max"),
    "Min": _fold(torch.minimum),
    "Mod": lambda a, x, y: torch.fmod(x, y) if a.get("fmod", 0) else torch.remainder(x, y),
    "PRelu": lambda a, x, slope: torch.where(x < 0, slope * x, x),
    "Pad": _pad,
    "Range": _range,
    "ReduceL2": _reduce(lambda x, dims, keep: x.square().sum(dims, keep).sqrt()),
    "ReduceMax": _reduce(lambda x, dims, keep: x.amax(dims, keep)),
    "ReduceMean": _reduce(lambda x, dims, keep: x.mean(dims, keep)),
    "ReduceMin": _reduce(lambda x, dims, keep: x.amin(dims, keep)),
    "ReduceSum": _reduce(lambda x, dims, keep: x.sum(dims, keep)),
    "Reshape": _reshape,
    "Shape": _shape,
    "Slice": _slice,
    "Softmax": lambda a, x: _softmax(a, x, False),
    "Split": _split,
    "Squeeze": _squeeze,
    "Sum": _fold(torch.add),
    "Tile": lambda a, x, repeats: x.tile(_ints(repeats) or []),
    "Transpose": lambda a, x: x.permute(a.get("perm", list(reversed(range(x.dim()))))),
    "Trilu": _trilu,
    "Unsqueeze": _unsqueeze,
}  # fmt: skip
