"""Products by what is repeated: the operand is read where it lies, and its repetitions are rows that share it.

Heads of queries that share one of keys and values (grouped-query attention; J. Ainslie et al. 2023) are written as an
expansion of these, reshaped to as many heads. The heads of the other operand are taken apart instead:

    a[b, h, m, k] @ reshape(expand(x[b, g, 1, k, n]))  →  reshape(Σ_k a[b, g, r, m, k] · x[b, g, k, n])
"""

from __future__ import annotations

from math import prod

from tcompiler.ir.graph.grammar import Node
from tcompiler.transform.editing import Editor, ints

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def product_of_repeated(editor: Editor, node: Node) -> str | None:
    """Multiplies by an operand before it is repeated.

    Args:
        editor: The graph under construction.
        node: A matmul.

    Returns:
        The result that stands for the node's, None if neither operand is repeated along an axis of the batch.
    """
    for side in (1, 0):
        result = _once(editor, node, side)
        if result is not None:
            return result
    return None


def _once(editor: Editor, node: Node, side: int) -> str | None:
    """Multiplies by one of the operands before it is repeated."""
    value, other = editor.inputs(node)[side], editor.inputs(node)[1 - side]
    dims, rest = editor.dims(value), editor.dims(other)
    maker = editor.producers.get(value)
    if maker is None or dims is None or rest is None or len(dims) != len(rest) or len(dims) < 3 or 0 in (*dims, *rest):
        return None
    rank = len(dims)
    swapped = maker.op == "transpose" and ints(maker, "perm") == (*range(rank - 2), rank - 1, rank - 2)
    if swapped:
        maker = editor.producers.get(maker.inputs[0])
    if maker is not None and maker.op == "expand":
        return _broadcast(editor, node, side, maker, swapped)
    expanded = None if maker is None or maker.op != "reshape" else editor.producers.get(maker.inputs[0])
    if maker is None or expanded is None or expanded.op != "expand":
        return None
    source, wide = editor.dims(expanded.inputs[0]), editor.dims(expanded.outputs[0].name)
    merged = editor.dims(maker.outputs[0].name)
    if source is None or wide is None or merged is None or len(source) != len(wide) or len(wide) != rank + 1:
        return None
    axes = [k for k in range(len(wide)) if source[k] != wide[k]]
    # the repetitions are the inner or the outer part of an axis of the batch
    places = [k for k in (axes[0] - 1, axes[0]) if 0 <= k < rank - 2] if len(axes) == 1 else []
    places = [
        k for k in places if merged == (*wide[:k], wide[k] * wide[k + 1], *wide[k + 2 :]) and rest[k] == merged[k]
    ]
    if not places:
        return None
    heads, repeated = places[0], axes[0]
    apart = (*rest[:heads], *wide[heads : heads + 2], *rest[heads + 1 :])
    kept = tuple(e for k, e in enumerate(source) if k != repeated)
    letters = list(_LETTERS[: rank + 2])
    *batch, row, column, summed = letters
    theirs = [c for k, c in enumerate(batch) if k != repeated]
    matrix = [summed, column] if side else [row, summed]
    ours = [*batch, *([row, summed] if side else [summed, column])]
    theirs += reversed(matrix) if swapped else matrix
    terms = ("".join(ours), "".join(theirs))
    out = node.outputs[0].type.dims()
    operands = (
        editor.emit("reshape", (other,), {"shape": apart}, like=node),
        editor.emit("reshape", (expanded.inputs[0],), {"shape": kept}, like=node),
    )
    if not side:
        terms, operands = (terms[1], terms[0]), (operands[1], operands[0])
    equation = f"{','.join(terms)}->{''.join((*batch, row, column))}"
    product = editor.emit("einsum", operands, {"equation": equation}, like=node)
    assert prod(out) == prod(editor.types[product].dims())
    return editor.emit("reshape", (product,), {"shape": out}, like=node)


def _broadcast(editor: Editor, node: Node, side: int, expanded: Node, swapped: bool) -> str | None:
    """Leaves it to the product to repeat its operand, where the other one has all of the batch."""
    source, wide = editor.dims(expanded.inputs[0]), editor.dims(expanded.outputs[0].name)
    rest = editor.dims(editor.inputs(node)[1 - side])
    if source is None or wide is None or rest is None or len(source) < 2 or source[-2:] != wide[-2:]:
        return None
    if rest[:-2] != node.outputs[0].type.dims()[:-2]:
        return None
    operand = expanded.inputs[0]
    if swapped:
        rank = len(source)
        operand = editor.emit("transpose", (operand,), {"perm": (*range(rank - 2), rank - 1, rank - 2)}, like=node)
    inputs = [operand, operand]
    inputs[1 - side] = editor.inputs(node)[1 - side]
    return editor.emit(node.op, inputs, dict(node.attrs), like=node)
