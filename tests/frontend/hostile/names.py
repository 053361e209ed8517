"""Names as an attacker would choose them. All of these models are fine; their names reach no code and no path."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from tests.frontend.hostile.corpus import Model, hostile, info, model, node

NAMES = {
    "injection": 'x"); system("id");//',
    "newline": "x\n}\ndefine void @evil() { ret void }\n",
    "nul": "x\0y",
    "path": "../../../../tmp/evil",
    "absolute": "/etc/passwd",
    "quotes": "'\"`$(id)%s%n{}",
    "escape": "\x1b[31mred\x1b[0m",
    "markup": "<script>alert(1)</script>[red]bold[/red]",
    "backslashes": "\\x00\\n\\",
    "bidi": "\u202eevil\u2066",
    "surrogate_pair": "😀" * 20,
    "line_separator": "a\u2028b\u2029c\x85d",
    "space": " ",
    "long": "n" * (1 << 20),
    "first_value": "v0",
    "first_constant": "c0",
    "accumulator": "acc",
    "entry": "tc_model",
    "keyword": "lambda",
    "manifest": "manifest.json",
    "carriage_return": "a\rb",
    "unit_separators": "".join(map(chr, range(1, 32))),
    "private": "\ue000\uffff\ufdd0",
}


def named(name: str) -> Model:
    """Everything that has a name has this one, or begins with it."""
    nodes = [
        node("MatMul", [name, f"{name}w"], [f"{name}t"], name=name, doc_string=name),
        node("Softmax", [f"{name}t"], [f"{name}s"], name=f"{name}2"),
        node("Relu", [f"{name}s"], [f"{name}y"], name=name),
    ]
    made = model(
        nodes,
        inputs=[info(name)],
        outputs=[f"{name}y"],
        constants={f"{name}w": np.arange(9, dtype=np.float32).reshape(3, 3)},
    )
    made.graph.name = made.producer_name = made.graph.doc_string = made.domain = name
    made.metadata_props.add(key=name, value=name)
    return made


for _name, _text in NAMES.items():
    hostile(named, _name, name=_text)


def unsupported(name: str) -> Model:
    """The same names in a message."""
    return model([node("NonZero", ["x"], ["y"], name=name), node(name, ["y"], [name], name=name, domain=name)])


for _name in ("injection", "newline", "nul", "long", "escape", "quotes", "bidi"):
    hostile(unsupported, f"unsupported_{_name}", name=NAMES[_name])


def dimension(name: str) -> Model:
    return model([node("Relu", ["x"], ["y"])], inputs=[info("x", [name, 3])])


for _name in ("injection", "newline", "long"):
    hostile(dimension, f"dimension_{_name}", name=NAMES[_name])


def not_utf8(where: bytes) -> Model:
    """One name spoilt by a byte that is no UTF-8."""
    made = model(
        [node("Softmax", ["input"], ["value"], name="nodename", axis=1), node("Relu", ["value"], ["output"])],
        inputs=[info("input", ["dimension", 3])],
        outputs=["output"],
    )
    data = made.SerializeToString()
    assert where in data
    return data.replace(where, where[:-1] + b"\xff")


for _part in (b"input", b"value", b"nodename", b"output", b"Softmax", b"axis", b"dimension"):
    hostile(not_utf8, f"not_utf8_{_part.decode()}", where=_part)


@hostile
def not_utf8_initializer() -> Model:
    tensor = TensorProto(name="weight", data_type=1, dims=[1], raw_data=bytes(4))
    data = model([node("Identity", ["weight"], ["y"])], inputs=[], tensors=[tensor]).SerializeToString()
    return data.replace(b"weight", b"weigh\xff")


@hostile
def three_hundred_problems() -> Model:
    """One reason for three hundred nodes is one line; another is another."""
    nodes = [node("NonZero", ["x"], [f"a{k}"], name=f"zero{k}") for k in range(300)]
    nodes += [node("Cast", ["x"], [f"b{k}"], to=TensorProto.STRING) for k in range(5)]
    nodes += [node("Softmax", ["x"], [f"c{k}"], axis=k + 2, name=f"axis{k}") for k in range(40)]
    nodes += [node(f"Fancy{k}", ["x"], [f"d{k}"], domain="com.example") for k in range(200)]
    return model(nodes, outputs=["a0", "b0", "c0", "d0"])
