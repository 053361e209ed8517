"""The table of generators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tests.fuzz.draw import Case, Draw

Generator = Callable[[Draw], None]


@dataclass(frozen=True, slots=True)
class Family:
    """A generator.

    Attributes:
        name: What the command line calls it.
        draw: Draws nodes and outputs.
        opsets: Operator sets to write them for.
        weight: Its share of the seeds.
    """

    name: str
    draw: Generator
    opsets: tuple[int, ...]
    weight: int


FAMILIES: dict[str, Family] = {}


def family(name: str, opsets: tuple[int, ...] = (22, 22, 13), weight: int = 4) -> Callable[[Generator], Generator]:
    """Registers a generator."""

    def register(draw: Generator) -> Generator:
        FAMILIES[name] = Family(name, draw, opsets, weight)
        return draw

    return register


def draw(name: str, seed: int) -> Case:
    """The model of a family and a seed, the same in every run."""
    which = FAMILIES[name]
    key = [seed, *name.encode()]
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))
    d = Draw(rng)
    d.opset = d.choice(which.opsets)
    which.draw(d)
    return d.finish(name, seed)


def family_of(seed: int) -> str:
    """The family that a seed stands for where none is named: each has its share of any run of seeds."""
    shares = [f.name for f in FAMILIES.values() for _ in range(f.weight)]
    order = np.random.default_rng(len(shares)).permutation(len(shares))
    return shares[int(order[seed % len(shares)])]
