"""What a generated model is fed: seeded arrays of the kinds that models take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a model.

    Args:
        shape: Its shape.
        kind: "normal" is f32, standard normal; "tokens" is i64 in [0, below); "mask" is i64, one up to three quarters
            of the last axis and zero after it, as the padding of a short sequence is.
        below: The bound of tokens.
    """

    shape: tuple[int, ...]
    kind: Literal["normal", "tokens", "mask"] = "normal"
    below: int = 2

    def draw(self, rng: np.random.Generator) -> npt.NDArray[Any]:
        """An array of this kind; a mask is the same every time."""
        match self.kind:
            case "normal":
                return rng.standard_normal(self.shape).astype(np.float32)
            case "tokens":
                return rng.integers(0, self.below, self.shape)
            case "mask":
                length = self.shape[-1]
                return np.broadcast_to(np.arange(length) < length - length // 4, self.shape).astype(np.int64)
