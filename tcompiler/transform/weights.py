"""Products by a large constant that the model transposes first: the product reads it as it lies.

Kernels lay constants out as they want them anyway (a prepare function does it, once, from the data as they are), so a
transposed copy would only cost memory, and a language model's largest weight is one: its table of embeddings, read
by rows at the beginning and as columns at the end.
"""

from __future__ import annotations

import math

from tcompiler.ir.graph.grammar import Node
from tcompiler.transform.editing import Editor, ints

LARGE = 1 << 24
"""Elements from which on a constant is not copied; below, a copy is cheap, and more rewrites know a plain matmul."""


def product_of_transposed(editor: Editor, node: Node) -> str | None:
    """A matmul by a large transposed constant, as a sum over the last axis of both.

    Args:
        editor: The graph under construction.
        node: A matmul.

    Returns:
        The value that stands for the product, None if the node stays.
    """
    x, w = editor.inputs(node)
    transpose = editor.producers.get(w)
    if transpose is None or transpose.op != "transpose" or ints(transpose, "perm") != (1, 0):
        return None
    source = transpose.inputs[0]
    dims = editor.dims(source)
    if dims is None or math.prod(dims) < LARGE or editor.array(source) is None:
        return None
    return editor.emit("einsum", (x, source), {"equation": "...k,nk->...n"}, like=node)
