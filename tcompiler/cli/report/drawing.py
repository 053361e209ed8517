"""The graph of a model as a picture: a card for every call of a kernel with its operators, wires for the values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tcompiler.cli.report.facts import KernelFacts
from tcompiler.cli.report.layers import Drawing, Route, Wire, arrange
from tcompiler.cli.report.markup import Html, duration, join, shortened, tag
from tcompiler.ir.graph.grammar import Graph, Node, TensorType, Value
from tcompiler.ir.graph.text import print_call, print_type
from tcompiler.ir.scalar.text import print_scalar
from tcompiler.runtime.manifest import CallEntry
from tcompiler.transform.group import VIEW

_CHARACTER, _LINE, _HEAD, _ROWS = 6.75, 16.0, 22.0, 14
_NARROWEST, _WIDEST = 110.0, 330.0


@dataclass(slots=True)
class _Box:
    """A box of the picture: a call of a kernel, a node that makes no kernel, an input or an output."""

    kind: str
    title: str
    note: str = ""
    nodes: list[Node] = field(default_factory=list)
    value: Value | None = None
    kernel: int | None = None
    share: float = 0.0
    heat: int = 0

    def rows(self) -> list[tuple[str, str, str]]:
        """Lines below the head: left, right, and what is shown when the pointer rests on it."""
        lines = []
        for node in self.nodes if self.kind == "call" else []:
            shape = ", ".join(_shape(v.type) for v in node.outputs)
            lines.append((shortened(node.op, 22), shortened(shape, 24), _described(node)))
        if len(lines) > _ROWS:
            hidden = lines[_ROWS - 1 :]
            lines[_ROWS - 1 :] = [(f"… {len(hidden)} more", hidden[-1][1], "\n".join(h[2] for h in hidden))]
        return lines

    def size(self) -> tuple[float, float]:
        """Width and height."""
        lines = self.rows()
        widest = max([len(self.title) + len(self.note) + 3, *(len(a) + len(b) + 2 for a, b, _ in lines)])
        width = min(_WIDEST, max(_NARROWEST if lines else 60.0, widest * _CHARACTER + 16))
        return width, _HEAD + _LINE * len(lines) + (6 if lines else 0)


def _shape(t: TensorType) -> str:
    text = "×".join(map(print_scalar, t.shape)) or "scalar"
    return text if t.dtype.name == "f32" else f"{t.dtype.name} {text}"


def _described(node: Node) -> str:
    outputs = ", ".join(f"{v.name}: {print_type(v.type)}" for v in node.outputs)
    return shortened(f"{outputs} = {print_call(node)}", 2000)


def draw_graph(
    graph: Graph, calls: Sequence[CallEntry], rows: Sequence[KernelFacts], call_seconds: Sequence[float] | None
) -> Html | None:
    """The picture as SVG, every call of a kernel a link to `#kernel-N` (N: the kernel's place among the rows).

    Args:
        graph: The graph after its last pass: grouped.
        calls: The steps of the compiled model, in order.
        rows: The kernels' figures.
        call_seconds: The time of each step, if it was measured.

    Returns:
        The picture, or None if the graph is too large to be of use as one.
    """
    boxes, owner = _boxes(graph, calls, rows, call_seconds)
    wires, values = _wires(graph, boxes, owner)
    drawing = arrange({name: box.size() for name, box in boxes.items()}, wires)
    if drawing is None:
        return None
    number = {name: k for k, name in enumerate(boxes)}
    paths = [_path(route, wires, values, number) for route in drawing.routes]
    cards = [_card(name, box, drawing, number[name]) for name, box in boxes.items()]
    width, height = round(drawing.width), round(drawing.height)
    return tag(
        "svg",
        tag("g", paths, _class="wires"),
        tag("g", cards, _class="cards"),
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        data_width=width,
        data_height=height,
        role="group",
        aria_label="The graph of the model",
    )


def _boxes(
    graph: Graph, calls: Sequence[CallEntry], rows: Sequence[KernelFacts], call_seconds: Sequence[float] | None
) -> tuple[dict[str, _Box], dict[str, str]]:
    """All boxes by a name of their own, and the box that makes each value."""
    boxes: dict[str, _Box] = {}
    owner: dict[str, str] = {}
    for k, value in enumerate(graph.inputs):
        name = f"input {k}"
        label = shortened(value.label or value.name, 24)
        boxes[name] = _Box("input", label, _shape(value.type), value=value)
        owner[value.name] = name
    groups: dict[str, list[Node]] = {}
    last: dict[str, int] = {}
    for k, node in enumerate(graph.nodes):
        name = f"view {k}" if node.group in (None, VIEW) else f"group {node.group}"
        groups.setdefault(name, []).append(node)
        last[name] = k
        owner.update((v.name, name) for v in node.outputs)
    # The pipeline calls the kernels of groups in the order of their last nodes.
    order = sorted(groups, key=lambda name: last[name])
    kernels = [name for name in order if not name.startswith("view ")]
    at = {name: k for k, name in enumerate(kernels)} if len(kernels) == len(calls) else {}
    row_of = {row.symbol: k for k, row in enumerate(rows)}
    whole = sum(call_seconds) if call_seconds else 0.0
    longest = max(call_seconds, default=0.0) if call_seconds else 0.0
    for name in order:
        nodes = groups[name]
        if name.startswith("view "):
            boxes[name] = _Box("view", shortened(nodes[0].op, 24), _shape(nodes[0].outputs[0].type), nodes)
            continue
        box = _Box("call", shortened("+".join(dict.fromkeys(n.op for n in nodes)), 34), nodes=nodes)
        if name in at:
            box.kernel = row_of[calls[at[name]]["kernel"]]
            box.title = shortened(rows[box.kernel].name, 34)
            if call_seconds:
                seconds = call_seconds[at[name]]
                box.note, box.share = duration(seconds), seconds / whole if whole else 0.0
                box.heat = min(9, int(10 * seconds / longest)) if longest else 0
        boxes[name] = box
    for k, value in enumerate(graph.outputs):
        label = shortened(value.label or value.name, 24)
        boxes[f"output {k}"] = _Box("output", label, _shape(value.type), value=value)
    return boxes, owner


def _wires(
    graph: Graph, boxes: Mapping[str, _Box], owner: Mapping[str, str]
) -> tuple[list[Wire], list[tuple[str, TensorType]]]:
    """A wire for every value that leaves its box, and the values."""
    readers: dict[str, dict[str, None]] = {}
    types: dict[str, TensorType] = {v.name: v.type for v in graph.inputs}
    box_of = {id(n): name for name, box in boxes.items() for n in box.nodes}
    for node in graph.nodes:
        types.update((v.name, v.type) for v in node.outputs)
        for value in node.inputs:
            readers.setdefault(value, {})[box_of[id(node)]] = None
    for k, v in enumerate(graph.outputs):
        readers.setdefault(v.name, {})[f"output {k}"] = None
    wires, values = [], []
    for value, targets in readers.items():
        source = owner.get(value)
        outside = tuple(t for t in targets if t != source)
        if source is not None and outside:
            wires.append(Wire(source, outside))
            values.append((value, types[value]))
    return wires, values


def _path(
    route: Route, wires: Sequence[Wire], values: Sequence[tuple[str, TensorType]], number: Mapping[str, int]
) -> Html:
    (x, y), *rest = route.points
    steps = [f"M{x:.0f} {y:.0f}"]
    for k, (nx, ny) in enumerate(rest):
        if k % 2 == 0:
            steps.append(f"V{ny:.0f}")
        else:
            bend = (y + ny) / 2
            steps.append(f"C{x:.0f} {bend:.0f} {nx:.0f} {bend:.0f} {nx:.0f} {ny:.0f}")
        x, y = nx, ny
    value, value_type = values[route.wire]
    title = tag("title", f"{value}: {shortened(print_type(value_type), 300)}")
    ends = {"data_s": number[wires[route.wire].source], "data_t": number[route.target]}
    return tag("path", title, d="".join(steps), **ends)


def _card(name: str, box: _Box, drawing: Drawing, number: int) -> Html:
    x, y = drawing.places[name]
    width, height = box.size()
    right = width - 8
    classes = f"card {box.kind}" + (f" k{box.kernel}" if box.kernel is not None else "")
    if box.note and box.kind == "call":
        classes += f" h{box.heat}"
    parts = [tag("rect", width=width, height=height, rx=height / 2 if box.kind in ("input", "output") else 5)]
    head_at = width / 2 if not box.note else 8.0 if box.kind not in ("input", "output") else 12.0
    anchor = None if box.note else "middle"
    parts.append(tag("text", box.title, _class="head", x=head_at, y=15, text_anchor=anchor))
    if box.note:
        at = right - 4 if box.kind in ("input", "output") else right
        parts.append(tag("text", box.note, _class="note", x=at, y=15, text_anchor="end"))
    for k, (left, shape, description) in enumerate(box.rows()):
        baseline = _HEAD + _LINE * k + 13
        parts.append(
            tag(
                "g",
                tag("title", description),
                tag("text", left, _class="op", x=8, y=baseline),
                tag("text", shape, _class="shape", x=right, y=baseline, text_anchor="end"),
                _class="node",
            )
        )
    summary = _summary(box)
    group = tag(
        "g", tag("title", summary), parts, _class=classes, data_n=number, transform=f"translate({x:.0f} {y:.0f})"
    )
    if box.kernel is None:
        return group
    return tag("a", group, href=f"#kernel-{box.kernel}", aria_label=summary)


def _summary(box: _Box) -> str:
    if box.value is not None:
        return f"{box.kind} {shortened(box.value.label or box.value.name, 200)}: {print_type(box.value.type)}"
    if box.kind == "view":
        return f"no kernel: the same memory in another shape\n{_described(box.nodes[0])}"
    shared = f", {box.note}, {box.share:.1%} of the time" if box.note else ""
    return f"{box.title}: {len(box.nodes)} operator{'s' if len(box.nodes) > 1 else ''}{shared}"


def kernel_hues(count: int) -> Html:
    """Style rules that give every kernel a colour of its own: hues a golden angle apart."""
    return join(Html(f".k{k}{{--hue:{(k * 137.508 + 210) % 360:.0f}}}") for k in range(count))
