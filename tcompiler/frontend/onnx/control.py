"""Converters: control flow whose condition or trip count is known, written out."""

from __future__ import annotations

from typing import Any

import numpy as np

import tcompiler.frontend.functions as fn
from tcompiler.errors import CompileError
from tcompiler.frontend.onnx.node import Item, NodeView, Result, TensorList, converts
from tcompiler.frontend.tensor import SymbolicTensor


def _tensor(value: Item) -> SymbolicTensor:
    """A result of a body that has to be a tensor."""
    if isinstance(value, TensorList):
        raise CompileError(f"a result of its body is {value!r}, expected a tensor")
    return value


@converts("If")
def _if(node: NodeView) -> Result:
    then_branch, else_branch = node.graph_attr("then_branch"), node.graph_attr("else_branch")
    results = node.subgraph(then_branch if node.flag(0, "condition") else else_branch, {})
    if len(results) != len(node.outputs):
        raise CompileError(f"it has {len(node.outputs)} outputs and its branch {len(results)}, expected as many")
    return results


def _checked_steps(node: NodeView, steps: int, body: Any) -> int:
    """A number of steps to write out, refused if that takes more nodes than a model may have."""
    each = max(len(body.node), 1)
    if steps * each > node.limits.nodes:
        raise CompileError(
            f"it takes {steps} steps with {each} {'node' if each == 1 else 'nodes'} each, more than the limit of "
            f"{node.limits.nodes} nodes in all"
        )
    return steps


def _runs_on(body: Any) -> bool:
    """Whether a loop's body hands its condition on as it is, so that only the trip count ends the loop."""
    copies = {
        n.output[0]: n.input[0] for n in body.node if n.op_type == "Identity" and len(n.input) == len(n.output) == 1
    }
    name = body.output[0].name
    while name in copies:
        name = copies.pop(name)
    return bool(name == body.input[1].name)


@converts("Loop")
def _loop(node: NodeView) -> Result:
    body = node.graph_attr("body")
    trips = node.integer(0, "trip count") if node.optional(0) is not None else None
    running = node.flag(1, "condition") if node.optional(1) is not None else True
    if trips is None and node.optional(1) is None:
        raise CompileError("neither a trip count nor a condition is given: the loop has no end")
    state = [node.item(k) for k in range(2, len(node.inputs))]
    names = [v.name for v in body.input]
    if len(names) != 2 + len(state) or len(body.output) < 1 + len(state):
        raise CompileError(
            f"its body has {len(names)} inputs and {len(body.output)} outputs, expected {2 + len(state)} and at least "
            f"{1 + len(state)}"
        )
    if len(node.outputs) > len(body.output) - 1:
        raise CompileError(f"it has {len(node.outputs)} outputs, expected at most {len(body.output) - 1}")
    collected: list[list[SymbolicTensor]] = [[] for _ in range(len(body.output) - 1 - len(state))]
    if running and _runs_on(body):
        if trips is None:
            raise CompileError("its condition never changes and no trip count is given: the loop has no end")
        _checked_steps(node, trips, body)
    step = 0
    while running and (trips is None or step < trips):
        if step * max(len(body.node), 1) >= node.limits.nodes:
            raise CompileError(
                f"the loop runs for more than {step} steps, the limit of {node.limits.nodes} nodes in all"
            )
        counter, on = node.constant(step, np.int64), node.constant(True)
        results = node.subgraph(body, dict(zip(names, (counter, on, *state), strict=True)))
        condition = node.data(_tensor(results[0]), "its body's condition")
        if condition.size != 1:
            raise CompileError(f"its body's condition has {condition.size} elements, expected one")
        running = bool(condition.reshape(-1)[0])
        state = results[1 : 1 + len(state)]
        for values, value in zip(collected, results[1 + len(state) :], strict=True):
            values.append(_tensor(value))
        step += 1
    if collected and not step:
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
    in_axes = node.per_axis("scan_input_axes", count, 0)
    out_axes = node.per_axis("scan_output_axes", outputs, 0)
    in_directions = node.per_axis("scan_input_directions", count, 0)
    out_directions = node.per_axis("scan_output_directions", outputs, 0)
    state: list[Item] = [node.item(k) for k in range(states)]
    scanned = [node.x(k) for k in range(states, len(node.inputs))]
    for x, a in zip(scanned, in_axes, strict=True):
        if not -x.ndim <= a < x.ndim:
            raise CompileError(f"attribute 'scan_input_axes' is {in_axes}, and {a} is out of range for {x!r}")
    lengths = {x.shape[a] for x, a in zip(scanned, in_axes, strict=True)}
    if len(lengths) != 1:
        raise CompileError(f"its scanned inputs have lengths {sorted(lengths)}, expected one length")
    steps = _checked_steps(node, lengths.pop(), body)
    if steps < 1:
        raise CompileError("it scans no step, so the shape of what it collects is unknown")
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
            values.append(_tensor(value))
    joined = [
        fn.stack(values[::-1] if direction else values, axis)
        for values, axis, direction in zip(collected, out_axes, out_directions, strict=True)
    ]
    return [*state, *joined]
