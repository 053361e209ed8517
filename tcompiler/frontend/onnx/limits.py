"""What a model may ask for before anything is allocated for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on a model.

    Attributes:
        elements: Elements of any one tensor, weights and results alike.
        weight_bytes: Bytes of all weights together.
        nodes: Nodes after functions are inlined and branches and loops unrolled.
        nesting: Depth of subgraphs and of function calls.
        values: Elements of an input whose value may be compiled in because shapes depend on it.
    """

    elements: int = 1 << 32
    weight_bytes: int = 1 << 36
    nodes: int = 200_000
    nesting: int = 32
    values: int = 4096


DEFAULT = Limits()
