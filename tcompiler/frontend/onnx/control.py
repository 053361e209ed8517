"""Converters: control flow whose condition or trip count is known, written out."""

from __future__ import annotations

import numpy as np

import tcompiler.frontend.functions as fn
from tcompiler.errors import CompileError
from tcompiler.frontend.onnx.node import NodeView, Result, converts
from tcompiler.frontend.tensor import SymbolicTensor


@converts("If")
def _if(node: NodeView) -> Result:
    then_branch, else_branch = node.graph_attr("then_branch"), node.graph_attr("else_branch")
    chosen = then_branch if node.array(0, "condition").reshape(-1)[0] else else_branch
    return node.subgraph(chosen, {})


@converts("Loop")
def _loop(node: NodeView) -> Result:
    body = node.graph_attr("body")
    trips = node.integers(0, "trip count")[0] if node.optional(0) is not None else None
    running = bool(node.array(1, "condition").reshape(-1)[0]) if node.optional(1) is not None else True
    if trips is None and node.optional(1) is None:
        raise CompileError("neither a trip count nor a condition is given: the loop has no end")
    state = [node.x(k) for k in range(2, len(node.inputs))]
    collected: list[list[SymbolicTensor]] = [[] for _ in range(len(body.output) - 1 - len(state))]
    names = [v.name for v in body.input]
    if len(names) != 2 + len(state) or len(body.output) < 1 + len(state):
        raise CompileError(f"its body has {len(names)} inputs, expected {2 + len(state)}")
    step = 0
    while running and (trips is None or step < trips):
        if step >= node.limits.nodes:
            raise CompileError(f"the loop runs for more than {node.limits.nodes} steps, the limit on nodes")
        counter, on = node.constant(step, np.int64), node.constant(True)
        results = node.subgraph(body, dict(zip(names, (counter, on, *state), strict=True)))
        running = bool(node.data(results[0], "its body's condition").reshape(-1)[0])
        state = results[1 : 1 + len(state)]
        for values, value in zip(collected, results[1 + len(state) :], strict=True):
            values.append(value)
        step += 1
    if any(not values for values in collected):
        raise CompileError("it runs for no step, so the shape of what it collects is unknown")
    return [*state, *(fn.stack(values) for values in collected)]


@converts("Scan")
def _scan(node: NodeView) -> Result:
    body = node.graph_attr("body")
    count = node.int_attr("num_scan_inputs")
    if node.opset < 9:
        raise CompileError(f"opset {node.opset}: expected opset 9 or newer")
    states = len(node.inputs) - count
    outputs = len(body.output) - states
    if count < 1 or states < 0 or outputs < 0 or len(body.input) != len(node.inputs):
        raise CompileError(f"its body has {len(body.input)} inputs and {len(body.output)} outputs")
    in_axes = node.ints_attr("scan_input_axes", [0] * count)
    out_axes = node.ints_attr("scan_output_axes", [0] * outputs)
    in_directions = node.ints_attr("scan_input_directions", [0] * count)
    out_directions = node.ints_attr("scan_output_directions", [0] * outputs)
    state, scanned = node.all()[:states], node.all()[states:]
    lengths = {x.shape[a] for x, a in zip(scanned, in_axes, strict=True)}
    if len(lengths) != 1:
        raise CompileError(f"its scanned inputs have lengths {sorted(lengths)}, expected one length")
    steps = lengths.pop()
    if steps < 1 or steps > node.limits.nodes:
        raise CompileError(f"it scans {steps} steps, expected 1 to {node.limits.nodes}")
    collected: list[list[SymbolicTensor]] = [[] for _ in range(outputs)]
    names = [v.name for v in body.input]
    for step in range(steps):
        slices = []
        for x, axis, direction in zip(scanned, in_axes, in_directions, strict=True):
            at = steps - 1 - step if direction else step
            slices.append(x[(*([slice(None)] * (axis % x.ndim)), at)])
        results = node.subgraph(body, dict(zip(names, (*state, *slices), strict=True)))
        state = results[:states]
        for values, value in zip(collected, results[states:], strict=True):
            values.append(value)
    joined = [
        fn.stack(values[::-1] if direction else values, axis)
        for values, axis, direction in zip(collected, out_axes, out_directions, strict=True)
    ]
    return [*state, *joined]
