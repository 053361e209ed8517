"""Generators by family; `FAMILIES` has them all."""

from tests.fuzz.families import (
    contraction,
    convolution,
    elementwise,
    forms,
    graphs,
    indexing,
    movement,
    normalization,
    plumbing,
    pooling,
    quantization,
    rare,
    recurrent,
    reduction,
    resize,
    whole,
)
from tests.fuzz.families.table import FAMILIES, Family, draw, family_of

__all__ = [
    "FAMILIES",
    "Family",
    "contraction",
    "convolution",
    "draw",
    "elementwise",
    "family_of",
    "forms",
    "graphs",
    "indexing",
    "movement",
    "normalization",
    "plumbing",
    "pooling",
    "quantization",
    "rare",
    "recurrent",
    "reduction",
    "resize",
    "whole",
]
