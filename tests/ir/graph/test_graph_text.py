"""Text of the graph language: it reads back to the same graph, with its constants, and errors say where."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings

from tcompiler.errors import ParseError
from tcompiler.ir import dtypes as dt
from tcompiler.ir.graph.grammar import Constant, ConstantStore, Graph, Node, TensorType, Value, tensor_type
from tcompiler.ir.graph.hash import structural_hash
from tcompiler.ir.graph.text import INLINE, parse_graph, print_graph
from tcompiler.ir.layout_text import parse_index_map, print_index_map
from tcompiler.ir.scalar.grammar import Scalar
from tests.ir.graph.mutations import mutations
from tests.ir.graph.operators import Case, cases

EVERYTHING = """@graph
def net(n: i64, x: tensor(f32[n, 3, 8, 8], label="input.1\\n\\""), m: bool[()]):
    w = const("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", f32[64, 3, 7, 7])
    b = const([0.5, -1.0, 1e-05, inf, -inf, nan, bits(0x7fc00001), -0.0, 0.1], f32[9])
    c = const([-9223372036854775808, 3], i64[1, 2])
    d = const([True, False], bool[2])
    e = const([], u8[0, 3])
    f = const([255], u8[()])
    g = const([0.1], f16[1])
    h = const([0.1], bf16[1])
    y: tensor(f32[n, 64, 8, 8], layout=layout(lambda n, c, h, w: (n, c // 8, h, w, c % 8), (n, 8, 8, 8, 8), \
zero_padding=True)) = conv(x, w, None, k=-1, mode="a\\"b", pads=(3, 3, (1.5, -0.0), (), f32, None, inf, nan, True, \
(1,)), group="g1", name="stem\\n")
    v: f32[n, 5]
    i: i64[n, 5]
    v, i = topk(y, k=5)
    z: f32[n, 5] = relu(v, slope=1e-30)
    return output(v, label="scores"), i, output(v, f32[3]), z
"""


def same(a: object, b: object) -> bool:
    """Structural equality by fields; numbers by their text, so that 1, 1.0, True, 0.0 and -0.0 all differ."""
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, Scalar) or not dataclasses.is_dataclass(a) or isinstance(a, dt.DType):
        return a is b or (type(a) is type(b) and repr(a) == repr(b))
    return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))


def test_text_reads_back() -> None:
    store = ConstantStore()
    assert print_graph(parse_graph(EVERYTHING, store), store) == EVERYTHING


@given(cases())
@settings(max_examples=80)
def test_random_graphs_read_back(case: Case) -> None:
    text = print_graph(case.graph, case.constants)
    store = ConstantStore()
    again = parse_graph(text, store)
    assert same(again, case.graph)
    assert print_graph(again, store) == text
    for c in case.graph.constants:
        assert np.array_equal(store.typed(c), case.constants.typed(c))
    digests = print_graph(case.graph)
    assert same(parse_graph(digests), case.graph) and print_graph(parse_graph(digests)) == digests


@given(cases())
@settings(max_examples=25)
def test_every_meaningful_field_is_in_the_text_and_the_hash(case: Case) -> None:
    text, own = print_graph(case.graph), structural_hash(case.graph)
    assert structural_hash(parse_graph(text)) == own
    for what, changed in mutations(case.graph):
        assert print_graph(changed) != text, what
        assert structural_hash(changed) != own, what


def test_every_field_of_a_graph_with_everything() -> None:
    g = parse_graph(EVERYTHING)
    seen = set()
    for what, changed in mutations(g):
        assert print_graph(changed) != print_graph(g), what
        assert structural_hash(changed) != structural_hash(g), what
        seen.add(what)
    assert len(seen) > 25


def test_names_and_labels_do_not_count_in_the_hash() -> None:
    renamed = (
        EVERYTHING.replace("def net", "def other").replace('name="stem\\n"', 'name="trunk"').replace("scores", "result")
    )
    for old in ("x", "w", "y", "v", "i", "z", "b"):
        for before, after in (("    ", "    "), ("(", "("), (" ", " "), (", ", ", ")):
            for end in (":", ",", ")", " =", "\n"):
                renamed = renamed.replace(f"{before}{old}{end}", f"{after}{old}_{end}")
    renamed = renamed.replace(
        "lambda n, c, h, w_: (n, c // 8, h, w_, c % 8)", "lambda n, c, h, u: (n, c // 8, h, u, c % 8)"
    )
    assert "y_: tensor" in renamed and "conv(x_, w_, None" in renamed
    assert structural_hash(parse_graph(renamed)) == structural_hash(parse_graph(EVERYTHING))


@pytest.mark.parametrize(
    "label", ["", "a b", 'quo"te', "it's", "\\", "\n", "\x00", "\u202e", "é𝄞", "\ud800", "{x}", ")"]
)
def test_a_label_is_any_string(label: str) -> None:
    t = tensor_type("f32", (2,))
    node = Node("f", label or "n", ("x",), (Value("y", t, label),), (("key", label),), label)
    g = Graph("g", (), (Value("x", t, label),), (), (node,), (Value("y", t, label),))
    assert same(parse_graph(print_graph(g)), g)


def test_small_constants_print_their_elements() -> None:
    store = ConstantStore()
    for count, inline in ((INLINE, True), (INLINE + 1, False)):
        t = tensor_type("f32", (count,))
        c = Constant("c", store.put(np.arange(count, dtype=np.float32)), t)
        g = Graph("g", (), (), (c,), (), (Value("c", t),))
        assert ("const([" in print_graph(g, store)) is inline
        assert "const([" not in print_graph(g)


@pytest.mark.parametrize("dtype", dt.DTYPES.values(), ids=str)
def test_no_bit_of_a_constant_is_lost(dtype: dt.DType) -> None:
    raw = np.random.default_rng(1).integers(0, 256, 32 * dtype.bytes, dtype=np.uint8)
    if dtype.kind == "bool":
        raw %= 2
    data = raw.view(dtype.numpy)
    store, other = ConstantStore(), ConstantStore()
    t = TensorType(dtype, tensor_type("f32", (len(data),)).shape)
    g = Graph("g", (), (), (Constant("c", store.put(data), t),), (), ())
    again = parse_graph(print_graph(g, store), other)
    assert other.typed(again.constants[0]).tobytes() == data.tobytes()
    assert again.constants[0].sha256 == g.constants[0].sha256


def test_index_maps() -> None:
    for text in ("lambda n, c: (n, c // 8, c % 8)", "lambda: ()", "lambda i: (i * 2 + 1,)"):
        assert print_index_map(parse_index_map(text)) == text


def test_a_long_graph_overflows_no_stack() -> None:
    t = tensor_type("f32", (2,))
    nodes = tuple(Node("f", f"v{k + 1}", (f"v{k}",), (Value(f"v{k + 1}", t),)) for k in range(20_000))
    g = Graph("g", (), (Value("v0", t),), (), nodes, (Value("v20000", t),))
    assert len(parse_graph(print_graph(g)).nodes) == 20_000
    assert len(structural_hash(g)) == 32


HEAD = "@graph\ndef g(x: f32[2]):\n"
ERRORS = [
    ("", "line 1, column 1: expected a function under @graph, found nothing\n  \n  ^"),
    (
        "def g():\n    return\n",
        """line 1, column 1: expected one function under @graph
  def g():
  ^^^^^^^^""",
    ),
    (
        HEAD + "    pass\n",
        """line 3, column 5: a graph ends by returning its outputs
      pass
      ^^^^""",
    ),
    (
        HEAD + "    y = relu(x)\n    return y\n",
        """line 3, column 5: the type of an output is declared before, as in y: f32[64]
      y = relu(x)
      ^""",
    ),
    (
        HEAD + "    y: f32[2]\n    return x\n",
        """line 4, column 5: declared, but given no value: y
      return x
      ^^^^^^^^""",
    ),
    (
        HEAD + "    y: f32[2] = relu(x + 1)\n    return y\n",
        """line 3, column 22: an input is the name of a value, or None
      y: f32[2] = relu(x + 1)
                       ^^^^^""",
    ),
    (
        HEAD + "    y: f32[2] = relu(x, a=[1])\n    return y\n",
        """line 3, column 27: an attribute is a number, a bool, a string, an element type, None or a tuple of these
      y: f32[2] = relu(x, a=[1])
                            ^^^""",
    ),
    (
        HEAD + "    y: f33[2] = relu(x)\n    return y\n",
        """line 3, column 8: unknown element type 'f33'; did you mean 'f32'?
      y: f33[2] = relu(x)
         ^^^""",
    ),
    (
        HEAD + "    y: f32[k] = relu(x)\n    return y\n",
        """line 3, column 12: unknown variable 'k'; there are none
      y: f32[k] = relu(x)
             ^""",
    ),
    (
        HEAD + "    c = const([1.0], f32[2])\n    return c\n",
        """line 3, column 9: 1 elements for a type of 2
      c = const([1.0], f32[2])
          ^^^^^^^^^^^^^^^^^^^^""",
    ),
    (
        HEAD + "    c = const([1.5], i32[1])\n    return c\n",
        """line 3, column 16: 1.5 is not a constant of type i32
      c = const([1.5], i32[1])
                 ^^^""",
    ),
    (
        HEAD + "    return z\n",
        """line 3, column 12: unknown value 'z'; known here: x
      return z
             ^""",
    ),
    (
        HEAD + "    y: tensor(f32[2], layout=layout(lambda a: a, (2,), zero_padding=True)) = relu(x)\n    return y\n",
        """line 3, column 37: an index map is a lambda that gives a tuple: lambda n, c: (n, c // 8, c % 8)
      y: tensor(f32[2], layout=layout(lambda a: a, (2,), zero_padding=True)) = relu(x)
                                      ^^^^^^^^^^^""",
    ),
]


@pytest.mark.parametrize(("text", "message"), ERRORS)
def test_errors_say_where(text: str, message: str) -> None:
    with pytest.raises(ParseError) as e:
        parse_graph(text)
    assert str(e.value) == message
