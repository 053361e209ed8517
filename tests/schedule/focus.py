"""Random schedules that are sure to use given primitives, on programs where these can be used."""

from __future__ import annotations

import contextlib
import random

from tcompiler.errors import ScheduleError
from tcompiler.ir.loop.analysis import find_block, loops
from tcompiler.ir.loop.grammar import Function
from tcompiler.schedule import Schedule
from tcompiler.schedule.primitives import PRIMITIVES
from tests.schedule.drawing import attempt, draw_on
from tests.schedule.operators import NAMES, program

EASY = ("split", "fuse", "reorder", "elide", "vectorize", "parallel", "unroll", "peel", "annotate", "bind")
"""Primitives that most programs take."""
RARE = tuple(name for name in PRIMITIVES if name not in EASY)
"""Primitives that ask for a certain structure."""
_PRODUCTS = ("matmul", "dense", "einsum", "gemv", "integer_product")
_WINDOWS = ("convolution", "depthwise", "max_pool", "pad")
_CHAINS = ("dense", "convolution", "softmax", "layer_norm", "mean", "logsumexp", "pad", "transposed_convolution")
_SUITED: dict[str, tuple[str, ...]] = {
    "tensorize": ("dot",),
    "pad_einsum": _PRODUCTS,
    "reindex": (*_PRODUCTS, "convolution", "depthwise", "dot"),
    "decompose_padding": _WINDOWS,
    "rfactor": (*_PRODUCTS, "mean", "softmax", "layer_norm", "logsumexp", "dot"),
    "decompose_reduction": (*_PRODUCTS, *_CHAINS, "dot"),
    "stage_accumulate": (*_PRODUCTS, *_CHAINS, "dot"),
    "compute_at": _CHAINS,
    "reverse_compute_at": _CHAINS,
    "compute_inline": (*_CHAINS, *_WINDOWS),
    "reverse_compute_inline": _CHAINS,
    "compact": (*_CHAINS, *_PRODUCTS),
    "transform_layout": _CHAINS,
    "pad_stride": _CHAINS,
    "set_scope": _CHAINS,
    "write_over": ("softmax", "pad"),
    "prefetch": (*_PRODUCTS, *_WINDOWS),
    "compute_with": _CHAINS,
    "rolling_update": ("softmax", "logsumexp"),
    "skip_zeros": ("convolution", "depthwise", "transposed_convolution"),
    "unfold": ("pad", "transposed_convolution", "mean", "softmax", "layer_norm"),
}
_UNTOUCHED = ("pad_einsum", "reindex", "decompose_padding", "compute_inline", "reverse_compute_inline")
"""They look for nests as lowering leaves them."""


def cases(count: int) -> list[tuple[str, str]]:
    """For each case a rare primitive and an easy one; all come equally often."""
    return [(RARE[k % len(RARE)], EASY[(k + k // len(RARE)) % len(EASY)]) for k in range(count)]


def scheduled(rng: random.Random, prime: bool, rare: str, easy: str, steps: int) -> Schedule:
    """A schedule of at least so many steps with these two primitives among them.

    Args:
        rng: Where chance comes from.
        prime: Whether extents are prime, so that factors leave tails.
        rare: A primitive of RARE.
        easy: A primitive of EASY.
        steps: How many calls must have succeeded.
    """
    for _ in range(60):
        function = program(rng, prime, _SUITED.get(rare, NAMES))
        sch = Schedule(function, debug=False)
        if _reached(sch, rng, rare) and _tried(sch, rng, easy, 60):
            draw_on(sch, rng, steps)
            if len(sch.trace.steps) >= steps:
                return sch
    raise AssertionError(f"no schedule with {rare} and {easy} in 60 programs")


def _tried(sch: Schedule, rng: random.Random, name: str, attempts: int) -> bool:
    return any(attempt(sch, rng, name) for _ in range(attempts))


def _reached(sch: Schedule, rng: random.Random, name: str) -> bool:
    """Applies a rare primitive after what it needs, if this program takes it."""
    if name == "tensorize":
        return _tensorized(sch, rng)
    if name == "rolling_update":
        return _rolled(sch, rng)
    if name == "unfold":
        _tried(sch, rng, "fuse", 20)
    if name == "skip_zeros":
        _tried(sch, rng, rng.choice(["stage_accumulate", "decompose_reduction"]), 60)
    elif name not in _UNTOUCHED:
        for _ in range(rng.randrange(3)):
            attempt(sch, rng, "split")
    if name == "compact":
        # a buffer has room to spare where its producer moved into its consumer's loops
        _tried(sch, rng, rng.choice(["compute_at", "cache_read"]), 20)
        _tried(sch, rng, "compute_at", 20)
    return _tried(sch, rng, name, 60)


def _tensorized(sch: Schedule, rng: random.Random) -> bool:
    """A packed product as instructions: tiles of an instruction's size, their sums started apart from them."""
    kinds = {b.name: b.dtype.name for b in sch.function.buffers}
    name, pack = {"u8": ("x86.dot_u8i8x4", 4), "i16": ("x86.dot_i16x4", 2), "bf16": ("x86.dot_bf16x4", 2)}[kinds["A"]]
    try:
        sch.split("n", [None, 4])
        sch.split("k", [None, pack])
        if rng.random() < 0.5:
            sch.decompose_reduction("C", "k_0")
            (block,) = sch.blockize("n_1") if _inside(sch, "n_1", "k_1") else ("",)
        else:
            sch.reorder("n_0", "k_0", "n_1", "k_1")
            sch.stage_accumulate("C", "k_0", rng.choice(["register", "local"]))
            (block,) = sch.blockize("n_1")
        sch.tensorize(block, name)
    except ScheduleError:
        return False
    return True


def _rolled(sch: Schedule, rng: random.Random) -> bool:
    """A sum of exponentials less a maximum, both a block of columns at a time."""
    try:
        for name in sch.blocks():
            attempt_inline(sch, name)
        peak, total = [b for b in sch.blocks() if find_block(sch.function, b).init is not None]
        factor = rng.choice([None, 2, 3, 4])
        outer = []
        for name in (peak, total):
            *rows, loop = sch.loops(name)
            if factor is not None:
                loop, _ = sch.split(loop, [None, factor])
            sch.reorder(loop, *rows)
            outer.append(loop)
        sch.rolling_update(peak, *outer)
    except ScheduleError:
        return False
    return True


def attempt_inline(sch: Schedule, block: str) -> None:
    """Inlines a block where that may be."""
    with contextlib.suppress(ScheduleError):
        sch.compute_inline(block)


def _inside(sch: Schedule, *names: str) -> bool:
    """Brings loops to the inside of the product's nest."""
    sch.reorder("k_0", *names)
    return {loop.var.name for loop in loops(sch.function)} >= set(names)


__all__ = ["EASY", "RARE", "Function", "cases", "scheduled"]
