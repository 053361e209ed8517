"""Injectivity by digits against isl, on random splits and fusions and on spoiled ones."""

from __future__ import annotations

import random
from dataclasses import replace

from tcompiler.errors import ScheduleError
from tcompiler.ir.dtypes import f32
from tcompiler.ir.loop.grammar import Block, For, Function, IterVar, Stmt, Store
from tcompiler.ir.scalar.canonical import simplify
from tcompiler.ir.scalar.grammar import TRUE, add, const, floordiv, floormod, index, loop_var, mul
from tcompiler.schedule import Schedule
from tcompiler.schedule.affine.digits import injective, limits_of
from tcompiler.schedule.affine.isl import injective_isl
from tcompiler.schedule.tree import tree

COUNT = 5000


def start(rng: random.Random) -> Function:
    """A block in two or three loops, each bound to an iter var of its own."""
    variables = [loop_var(f"i{k}", rng.choice([1, 2, 3, 4, 5, 6, 8, 12])) for k in range(rng.choice([1, 2, 2, 3]))]
    iters = tuple(IterVar(loop_var(f"v{k}", v.extent or index(1)), "spatial") for k, v in enumerate(variables))
    body: Stmt = Block("B", iters, tuple(variables), Store("O", (), const(f32, 0.0)))
    for v in reversed(variables):
        body = For(v, "serial", body)
    return Function("f", (), (), (), (), body)


def legal(rng: random.Random) -> tuple[Block, list[For]]:
    """Bindings after random splits, fusions and reorders."""
    sch = Schedule(start(rng))
    for _ in range(rng.choice([1, 2, 3, 4])):
        loops = sch.loops("B")
        k = rng.randrange(len(loops))
        try:
            match rng.choice(["split", "split", "fuse", "reorder"]):
                case "split":
                    sch.split(loops[k], [None, rng.choice([2, 3, 4, 5])])
                case "fuse":
                    sch.fuse(*loops[k : k + rng.choice([2, 3])])
                case _:
                    sch.reorder(*rng.sample(loops, len(loops)))
        except ScheduleError:
            continue
    block = tree(sch.function).blocks["B"]
    return block, tree(sch.function).loops_above(block)


def spoiled(rng: random.Random, block: Block, loops: list[For]) -> Block:
    """The block with one binding, domain or predicate changed."""
    k = rng.randrange(len(block.bindings))
    bindings, iters = list(block.bindings), list(block.iters)
    v = rng.choice(loops).var
    c = rng.choice([1, 2, 3])
    match rng.randrange(7):
        case 0:
            return replace(block, predicate=TRUE)
        case 1:
            bindings[k] = simplify(floordiv(bindings[k], c + 1))
        case 2:
            bindings[k] = simplify(floormod(bindings[k], c + 1))
        case 3:
            bindings[k] = simplify(add(bindings[k], mul(v, c)))
        case 4:
            bindings[k] = simplify(add(mul(bindings[k], c), v))
        case 5:
            extent = iters[k].var.extent
            assert extent is not None
            iters[k] = IterVar(loop_var(iters[k].var.name, add(extent, rng.choice([-1, 1]))), "spatial")
        case _:
            j = rng.randrange(len(bindings))
            bindings[j], bindings[k] = bindings[k], bindings[j]
    return replace(block, bindings=tuple(bindings), iters=tuple(iters))


def test_injectivity_by_digits_and_by_isl_never_disagree() -> None:
    rng = random.Random(8)
    decided = proved = injections = 0
    for _ in range(COUNT):
        block, loops = legal(rng)
        if rng.random() < 0.5:
            block = spoiled(rng, block, loops)
        limits = limits_of(block.predicate)
        if limits is None:
            continue
        cut = rng.randrange(len(loops))
        fixed, varying = [s.var for s in loops[:cut]], [s.var for s in loops[cut:]]
        known, truth = injective(block.bindings, frozenset(varying), limits), injective_isl(block, fixed, varying)
        assert truth is not None
        assert known in (None, truth), (block.bindings, block.predicate, varying)
        decided += known is not None
        injections += truth
        proved += truth and known is True
    # the form must carry the load: what splits and fusions make is proved, not handed on
    assert injections > COUNT // 4
    assert proved > 0.8 * injections
    assert decided > 0.5 * COUNT
