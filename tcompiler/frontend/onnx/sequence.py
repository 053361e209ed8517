"""Converters: operators along an axis in order, and recurrent networks, written out step by step."""

from __future__ import annotations

from collections.abc import Callable

import tcompiler.frontend.functions as fn
from tcompiler.errors import CompileError
from tcompiler.frontend.onnx.node import NodeView, Result, converts
from tcompiler.frontend.tensor import SymbolicTensor, apply
from tcompiler.ir import dtypes as dt


@converts("CumSum", "CumProd")
def _cumulative(node: NodeView) -> Result:
    return apply(
        node.op.lower(),
        node.x(),
        axis=node.integer(1, "axis"),
        exclusive=bool(node.int_attr("exclusive", 0)),
        reverse=bool(node.int_attr("reverse", 0)),
    )


@converts("TopK")
def _top_k(node: NodeView) -> Result:
    x = node.x()
    node.ignore("sorted")
    k = node.int_attr("k") if node.opset < 10 else node.integer(1, "k")
    attrs = {"k": k, "axis": node.int_attr("axis", -1), "largest": bool(node.int_attr("largest", 1))}
    values = node.writer.emit("top_k", [x.value], attrs)
    return [SymbolicTensor(node.writer, v) for v in values]


@converts("ReverseSequence")
def _reverse_sequence(node: NodeView) -> Result:
    return apply(
        "reverse_sequence",
        node.x(0),
        node.x(1),
        time_axis=node.int_attr("time_axis", 0),
        batch_axis=node.int_attr("batch_axis", 1),
    )


@converts("TensorScatter")
def _tensor_scatter(node: NodeView) -> Result:
    """A cache of keys or values written from a place per element of the batch on."""
    past, update, start = node.x(0), node.x(1), node.optional(2)
    axis = node.int_attr("axis", -2)
    mode = node.string_attr("mode", "linear")
    if mode not in ("linear", "circular") or not -past.ndim <= axis < past.ndim or axis in (0, -past.ndim):
        raise CompileError(
            f"mode is '{mode}' and axis {axis} for {past!r}: expected linear or circular, and an axis other than the "
            f"batch's"
        )
    if update.ndim != past.ndim:
        raise CompileError(f"the update is {update!r} for {past!r}, expected the same rank")
    axis %= past.ndim
    steps, size = update.shape[axis], past.shape[axis]
    shape = [steps if k == axis else 1 for k in range(past.ndim)]
    places = fn.reshape(node.constant(range(steps), "int64"), shape)
    if start is not None:
        offset = fn.astype(start, dt.i64)
        places = fn.add(places, fn.reshape(offset, [-1, *([1] * (past.ndim - 1))]))
    if mode == "circular":
        places = fn.mod(places, size)
    at = fn.broadcast_to(places, update.shape)
    return apply("scatter_elements", past, at, update, axis=axis)


Activation = Callable[[SymbolicTensor], SymbolicTensor]


def _activations(node: NodeView, count: int, default: list[str]) -> list[Activation]:
    """One function per gate and direction; alpha and beta are taken in order by those that have them."""
    names = node.string_list("activations") or default * count
    if len(names) != len(default) * count:
        raise CompileError(f"attribute 'activations' is {names}, expected {len(default) * count} of them")
    alphas, betas = node.floats_attr("activation_alpha", []), node.floats_attr("activation_beta", [])
    result: list[Activation] = []
    for name in names:
        result.append(_activation(name.lower(), alphas, betas))
    return result


def _activation(name: str, alphas: list[float], betas: list[float]) -> Activation:
    plain = {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "relu", "softsign": "softsign", "softplus": "softplus"}
    if name in plain:
        return lambda x: apply(plain[name], x)
    alpha = {
        "leakyrelu": 0.01,
        "thresholdedrelu": 1.0,
        "elu": 1.0,
        "hardsigmoid": 0.2,
        "affine": 1.0,
        "scaledtanh": 1.0,
    }
    if name not in alpha:
        raise CompileError(f"activation '{name}', expected one of {', '.join([*plain, *alpha])}")
    a = alphas.pop(0) if alphas else alpha[name]
    if name in ("leakyrelu", "thresholdedrelu", "elu"):
        op = {"leakyrelu": "leaky_relu", "thresholdedrelu": "thresholded_relu", "elu": "elu"}[name]
        return lambda x: apply(op, x, alpha=a)
    b = betas.pop(0) if betas else {"hardsigmoid": 0.5, "affine": 0.0, "scaledtanh": 1.0}[name]
    if name == "hardsigmoid":
        return lambda x: apply("hard_sigmoid", x, alpha=a, beta=b)
    if name == "affine":
        return lambda x: fn.add(fn.multiply(x, a), b)
    return lambda x: fn.multiply(fn.tanh(fn.multiply(x, b)), a)


_NODES_PER_STEP = 8
"""About as many nodes as a step of a recurrent network takes at the least."""

State = tuple[SymbolicTensor, ...]
Cell = Callable[[SymbolicTensor, State], State]


@converts("RNN", "GRU", "LSTM")
def _recurrent(node: NodeView) -> Result:
    """Every step of every direction as nodes of its own; outputs are Y, the last states, for LSTM two.

    What the gates are given by the data does not depend on states: it is one product over all steps.
    """
    x, w, r = node.x(0), node.x(1), node.x(2)
    bias, lengths = node.optional(3), node.optional(4)
    direction = node.string_attr("direction", "forward")
    directions = {"forward": 1, "reverse": 1, "bidirectional": 2}.get(direction)
    if directions is None:
        raise CompileError(f"attribute 'direction' is '{direction}', expected forward, reverse or bidirectional")
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[node.op]
    functions = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}[node.op]
    if r.ndim != 3:
        raise CompileError(f"the recurrent weight is {r!r}, expected rank 3")
    hidden = node.int_attr("hidden_size", r.shape[-1])
    batch_first = bool(node.int_attr("layout", 0))
    if x.ndim != 3 or w.ndim != 3 or w.shape[:2] != (directions, gates * hidden):
        raise CompileError(f"data is {x!r} and weight {w!r}, expected rank 3 and {gates * hidden} rows per direction")
    if batch_first:
        x = fn.transpose(x, (1, 0, 2))
    steps, batch, _ = x.shape
    most = node.limits.nodes // (_NODES_PER_STEP * directions)
    if not 1 <= steps <= most:
        raise CompileError(f"data has {steps} steps, expected 1 to {most}: each is written out")
    if r.shape != (directions, gates * hidden, hidden):
        raise CompileError(
            f"the recurrent weight is {r!r}, expected the shape [{directions}, {gates * hidden}, {hidden}]"
        )
    if lengths is not None and lengths.shape != (batch,):
        raise CompileError(f"the sequences' lengths are {lengths!r}, expected one for each of {batch} sequences")
    activations = _activations(node, directions, functions)
    clip = node.float_attr("clip", 0.0)
    states = 2 if node.op == "LSTM" else 1
    initial = [node.optional(5 + k) for k in range(states)]
    if batch_first:
        initial = [None if s is None else fn.transpose(s, (1, 0, 2)) for s in initial]
    zero = node.constant(0, x.dtype.numpy)
    sequences: list[SymbolicTensor] = []
    lasts: list[State] = []
    for d in range(directions):
        start = tuple(fn.broadcast_to(zero, (batch, hidden)) if s is None else s[d] for s in initial)
        own = activations[d * len(functions) : (d + 1) * len(functions)]
        given, rest = fn.matmul(x, w[d].T), None
        if bias is not None:
            given, rest = fn.add(given, bias[d, : gates * hidden]), bias[d, gates * hidden :]
        cell = _CELLS[node.op](node, d, r[d], rest, hidden, own, clip)
        backwards = direction == "reverse" or d == 1
        outputs, last = _run(given, start, cell, steps, backwards, lengths, zero)
        sequences.append(fn.stack(outputs))
        lasts.append(last)
    y = fn.stack(sequences, 1)
    finals = [fn.stack([state[k] for state in lasts]) for k in range(states)]
    if batch_first:
        y = fn.transpose(y, (2, 0, 1, 3))
        finals = [fn.transpose(f, (1, 0, 2)) for f in finals]
    return [y, *finals]


def _run(
    given: SymbolicTensor,
    state: State,
    cell: Cell,
    steps: int,
    backwards: bool,
    lengths: SymbolicTensor | None,
    zero: SymbolicTensor,
) -> tuple[list[SymbolicTensor], State]:
    """All steps, by what the data give to each; a sequence that is over keeps its state, and its outputs are 0."""
    outputs: list[SymbolicTensor] = [zero] * steps
    for step in reversed(range(steps)) if backwards else range(steps):
        after = cell(given[step], state)
        output = after[0]
        if lengths is not None:
            alive = fn.reshape(fn.greater(lengths, step), (-1, 1))
            after = tuple(apply("where", alive, new, old) for new, old in zip(after, state, strict=True))
            output = apply("where", alive, output, zero)
        state = after
        outputs[step] = output
    return outputs, state


def _clipped(x: SymbolicTensor, clip: float) -> SymbolicTensor:
    return fn.clip(x, -clip, clip) if clip > 0 else x


def _with_bias(x: SymbolicTensor, bias: SymbolicTensor | None) -> SymbolicTensor:
    return x if bias is None else fn.add(x, bias)


def _parts(x: SymbolicTensor, count: int, axis: int) -> list[SymbolicTensor]:
    return fn.split(x, count, axis)


def _rnn(
    node: NodeView,
    d: int,
    r: SymbolicTensor,
    bias: SymbolicTensor | None,
    hidden: int,
    f: list[Activation],
    clip: float,
) -> Cell:
    """h = f(x·Wᵀ + h·Rᵀ + b)."""

    def cell(given: SymbolicTensor, state: State) -> State:
        total = _with_bias(fn.add(given, fn.matmul(state[0], r.T)), bias)
        return (f[0](_clipped(total, clip)),)

    return cell


def _gru(
    node: NodeView,
    d: int,
    r: SymbolicTensor,
    bias: SymbolicTensor | None,
    hidden: int,
    f: list[Activation],
    clip: float,
) -> Cell:
    """Cho et al., 2014: gates z and r, candidate h."""
    after = bool(node.int_attr("linear_before_reset", 0))
    r_gates, r_h = r[: 2 * hidden], r[2 * hidden :]

    def cell(given: SymbolicTensor, state: State) -> State:
        (h,) = state
        recurrent = _with_bias(fn.matmul(h, r_gates.T), None if bias is None else bias[: 2 * hidden])
        xz, xr, xh = _parts(given, 3, -1)
        hz, hr = _parts(recurrent, 2, -1)
        z, reset = (f[0](_clipped(fn.add(a, b), clip)) for a, b in ((xz, hz), (xr, hr)))
        base = h if after else fn.multiply(reset, h)
        inner = _with_bias(fn.matmul(base, r_h.T), None if bias is None else bias[2 * hidden :])
        if after:
            inner = fn.multiply(reset, inner)
        candidate = f[1](_clipped(fn.add(xh, inner), clip))
        return (fn.add(fn.multiply(fn.subtract(1.0, z), candidate), fn.multiply(z, h)),)

    return cell


def _lstm(
    node: NodeView,
    d: int,
    r: SymbolicTensor,
    bias: SymbolicTensor | None,
    hidden: int,
    f: list[Activation],
    clip: float,
) -> Cell:
    """Hochreiter and Schmidhuber, 1997, with peepholes: gates i, o, f and candidate c."""
    peepholes = node.optional(7)
    couple = bool(node.int_attr("input_forget", 0))
    p = None if peepholes is None else _parts(peepholes[d], 3, -1)

    def cell(given: SymbolicTensor, state: State) -> State:
        h, c = state
        total = _with_bias(fn.add(given, fn.matmul(h, r.T)), bias)
        i, o, forget, candidate = _parts(total, 4, -1)
        if p is not None:
            i, forget = fn.add(i, fn.multiply(p[0], c)), fn.add(forget, fn.multiply(p[2], c))
        i = f[0](_clipped(i, clip))
        forget = fn.subtract(1.0, i) if couple else f[0](_clipped(forget, clip))
        after = fn.add(fn.multiply(forget, c), fn.multiply(i, f[1](_clipped(candidate, clip))))
        if p is not None:
            o = fn.add(o, fn.multiply(p[1], after))
        return fn.multiply(f[0](_clipped(o, clip)), f[2](after)), after

    return cell


_CELLS = {"RNN": _rnn, "GRU": _gru, "LSTM": _lstm}
