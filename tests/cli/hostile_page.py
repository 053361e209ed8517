"""A model whose every name tries to be markup, script or invisible."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

INPUT = "</script><script>window.pwned=1</script>"
OUTPUTS = ('"><img src=x onerror="window.pwned=2">', "a\u202eb\u0007c")
FILE = "m'\"><svg onload=window.pwned=3>&amp;.onnx"


def save(folder: Path) -> str:
    """Saves the model in a folder, under a name as hostile as the others, and returns its path."""
    rng = np.random.default_rng(5)

    def array(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.random(shape).astype(np.float32) + 0.1, name)

    weights, nodes, last = [], [], INPUT
    results: list[str] = []
    for k in range(6):
        w, s, b, m, v = (f"<b>{letter}{k}</b>" for letter in "wsbmv")
        weights.append(array(w, 8, 4 if k == 0 else 8, 3, 3))
        weights += [array(name, 8) for name in (s, b, m, v)]
        conv, norm, relu = (f"]]>--><i>{kind}{k}</i>\n\\" for kind in ("conv", "norm", "relu"))
        nodes.append(helper.make_node("Conv", [last, w], [conv], name=f"<script>{k}", pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("BatchNormalization", [conv, s, b, m, v], [norm], name="`${window.pwned=4}`"))
        nodes.append(helper.make_node("Relu", [norm], [relu], name="{{7*7}}"))
        if k == 3:
            nodes.append(helper.make_node("Add", [relu, results[1]], [f"sum{relu}"], name="\u2028"))
            relu = f"sum{relu}"
        results.append(relu)
        last = relu
    nodes.append(helper.make_node("Softmax", [last], [OUTPUTS[0]], name="javascript:window.pwned=5", axis=3))
    nodes.append(helper.make_node("Transpose", [last], [OUTPUTS[1]], perm=[3, 2, 1, 0], doc_string="<!--"))
    x = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, (1, 4, 9, 7))
    y = helper.make_tensor_value_info(OUTPUTS[0], TensorProto.FLOAT, (1, 8, 9, 7))
    z = helper.make_tensor_value_info(OUTPUTS[1], TensorProto.FLOAT, (7, 9, 8, 1))
    graph = helper.make_graph(nodes, "</title><h1>", [x], [y, z], weights)
    path = folder / FILE
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return str(path)
