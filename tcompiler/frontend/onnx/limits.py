"""What a model may ask for before anything is allocated for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tcompiler.errors import CompileError


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on a model.

    Attributes:
        elements: Elements of any one tensor, weights and results alike; no extent is larger either.
        rank: Axes of any one tensor.
        computed: Elements of all constants together that importing makes (ranges, places to resize at).
        weight_bytes: Bytes of all weights together.
        nodes: Nodes after functions are inlined and branches and loops unrolled.
        nesting: Depth of subgraphs and of function calls.
        values: Elements of an input whose value may be compiled in because shapes depend on it.
    """

    elements: int = 1 << 32
    rank: int = 32
    computed: int = 1 << 24
    weight_bytes: int = 1 << 36
    nodes: int = 40_000
    nesting: int = 32
    values: int = 4096

    def check_shape(self, shape: Sequence[int], what: str) -> None:
        """Refuses the shape of a tensor that is not to be made.

        Args:
            shape: Its extents.
            what: How the message begins.

        Raises:
            CompileError: If it has too many axes, a negative extent, or too many elements. An extent of 0 hides none
                that is too large.
        """
        if len(shape) > self.rank:
            raise CompileError(f"{what} has rank {len(shape)}, more than the limit of {self.rank}")
        if any(e < 0 for e in shape):
            raise CompileError(f"{what} has the shape {list(shape)}, expected extents of at least 0")
        count = math.prod(max(e, 1) for e in shape)
        if count > self.elements:
            raise CompileError(f"{what} has the shape {list(shape)}, more than the limit of {self.elements} elements")


DEFAULT = Limits()
