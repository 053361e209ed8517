"""Recurrent layers and attention."""

from __future__ import annotations

from tests.fuzz.draw import Draw, Value
from tests.fuzz.families.table import family

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


@family("recurrent", opsets=(22, 14, 7), weight=3)
def recurrent(d: Draw) -> None:
    """RNN, GRU and LSTM in both directions, of sequences of different lengths, with states given or not."""
    op = d.choice(("RNN", "GRU", "LSTM"))
    direction = d.choice(("forward", "reverse", "bidirectional"))
    ways = 2 if direction == "bidirectional" else 1
    steps, batch, width, hidden = d.integer(1, 7), d.choice((1, 2, 3, 5)), d.dim(17), d.dim(17)
    g = GATES[op] * hidden
    x = d.input((steps, batch, width))
    operands: list[Value | None] = [x, _small(d, (ways, g, width)), _small(d, (ways, g, hidden))]
    operands.append(_small(d, (ways, 2 * g)) if d.chance(0.7) else None)
    lengths = d.rng.integers(1, steps + 1, batch).astype("int32")
    operands.append(d.given(lengths) if d.chance(0.3) else None)
    operands.append(d.input((ways, batch, hidden)) if d.chance(0.5) else None)
    attrs: dict[str, object] = {"hidden_size": hidden, "direction": direction}
    if op == "GRU" and d.chance(0.5):
        attrs["linear_before_reset"] = 1
    if op == "LSTM":
        operands.append(d.input((ways, batch, hidden)) if d.chance(0.5) else None)
        operands.append(_small(d, (ways, 3 * hidden)) if d.chance(0.4) else None)
    while operands[-1] is None:
        operands.pop()
    d.result(*d.node_of(op, d.integer(1, 3 if op == "LSTM" else 2), *operands, **attrs))


def _small(d: Draw, shape: tuple[int, ...]) -> Value:
    return d.weight(shape, kind="unit")


@family("attention", opsets=(23,), weight=3)
def attention(d: Draw) -> None:
    """Attention over four axes: grouped heads, masks, causal or not."""
    batch, groups, shared = d.choice((1, 1, 2)), d.choice((1, 2, 3)), d.choice((1, 1, 2))
    queries, keys, width, out = d.dim(20), d.dim(20), d.dim(17), d.dim(17)
    q = d.input((batch, groups * shared, queries, width))
    k = d.input((batch, groups, keys, width))
    v = d.input((batch, groups, keys, out))
    attrs: dict[str, object] = {}
    if d.chance(0.4):
        attrs["is_causal"] = 1
    if d.chance(0.3):
        attrs["scale"] = 0.25
    if d.chance(0.2):
        attrs["softcap"] = 2.0
    mask = None
    if d.chance(0.4):
        mask = d.input(d.choice(((queries, keys), (batch, 1, queries, keys), (batch, groups * shared, queries, keys))))
    d.result(d.node("Attention", q, k, v, mask, **attrs))
