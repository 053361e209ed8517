"""Loops of assembly listings: found, counted, and limited by what a core can do."""

from __future__ import annotations

import pytest

from tcompiler.target.listing import annotate, inner_loops
from tcompiler.target.model import core
from tcompiler.target.named import get

ZEN3 = core(get("znver3"))
AVX512 = core(get("skylake-avx512"))

# A product's inner loop of five rows by two vectors, inside two loops; the second row's operand was spilled.
PRODUCT = """\
	.text
	.type	k,@function
k:
	xorl	%edi, %edi
.LBB0_1:
	xorl	%r10d, %r10d
.LBB0_2:
	vxorps	%xmm0, %xmm0, %xmm0
	movq	$-3072, %rbx
	.p2align	4
.LBB0_3:
	vmovups	(%r14), %ymm10
	vmovups	32(%r14), %ymm11
	vbroadcastss	-6144(%r9,%rbx), %ymm14
	addq	$64, %r14
	vfmadd231ps	%ymm11, %ymm14, %ymm4
	vfmadd231ps	%ymm14, %ymm10, %ymm3
	vfmadd231ps	64(%rsp), %ymm14, %ymm2
	vmovups	%ymm2, 96(%rsp)
	addq	$4, %rbx
	jne	.LBB0_3
	incq	%r10
	cmpq	$25, %r10
	jne	.LBB0_2
	incq	%rdi
	jne	.LBB0_1
	retq
.Lfunc_end0:
	.size	k, .Lfunc_end0-k
"""


def test_an_inner_loop_in_figures() -> None:
    (loop,) = inner_loops(PRODUCT, ZEN3)
    assert (loop.function, loop.label, loop.depth) == ("k", ".LBB0_3", 3)
    assert (loop.instructions, loop.fma, loop.vector_bits) == (10, 3, 256)
    assert (loop.loads, loop.stores, loop.spill_loads, loop.spill_stores) == (4, 1, 1, 1)
    assert loop.flops == 3 * 2 * 8
    # each accumulator waits for itself: the latency of a multiply-add
    assert loop.limits == {
        "fma": 1.5,
        "add": 0.0,
        "divide": 0.0,
        "load": 2.0,
        "store": 1.0,
        "issue": pytest.approx(10 / 6),
        "chain": 4.0,
    }
    assert (loop.bound, loop.cycles, loop.fma_share) == ("chain", 4.0, 0.3)


def test_the_annotated_listing() -> None:
    text = annotate(PRODUCT, ZEN3)
    lines = text.split("\n")
    at = lines.index(".LBB0_3:")
    assert lines[at - 2 : at] == [
        "\t# inner loop .LBB0_3, depth 3: 10 instructions, 3 FMA (30%), 256-bit vectors, 4 loads, 1 store, 2 spills "
        "(1 read, 1 written)",
        "\t# limit 4.0 cycles an iteration by latency (multiply-add units 1.5, load ports 2.0, store ports 1.0, "
        "instructions per cycle 1.7, latency 4.0); 12.0 flop per cycle, 38% of the multiply-add peak in f32",
    ]
    assert [line for line in lines if "# spill" in line] == [
        "\tvfmadd231ps\t64(%rsp), %ymm14, %ymm2\t# spill",
        "\tvmovups\t%ymm2, 96(%rsp)\t# spill",
    ]
    # nothing else changes
    kept = [line.removesuffix("\t# spill") for line in lines if not line.startswith("\t#")]
    assert "\n".join(kept) == PRODUCT


def _loop(*body: str) -> str:
    lines = "".join(f"\t{line}\n" for line in body)
    return f"\t.type\tf,@function\nf:\n.LBB0_1:\n{lines}\taddq\t$8, %rax\n\tjne\t.LBB0_1\n\tretq\n"


@pytest.mark.parametrize(
    ("body", "cycles"),
    [
        # two accumulators side by side, one after the other, and one that each iteration starts anew
        (("vfmadd231ps\t%ymm8, %ymm9, %ymm0", "vfmadd231ps\t%ymm8, %ymm9, %ymm1"), 4.0),
        (("vfmadd231ps\t%ymm8, %ymm9, %ymm0", "vfmadd231ps\t%ymm8, %ymm9, %ymm0"), 8.0),
        (("vxorps\t%xmm0, %xmm0, %xmm0", "vfmadd231ps\t%ymm8, %ymm9, %ymm0"), 1.0),
        (("vmovups\t(%rax), %ymm0", "vfmadd231ps\t%ymm8, %ymm9, %ymm0"), 1.0),
        # a sum through the upper half of a wider register's name
        (("vaddps\t%xmm0, %xmm1, %xmm1", "vaddps\t%ymm1, %ymm2, %ymm0"), 6.0),
        # a load that is part of the addition waits for its address alone
        (("vaddps\t(%rax), %ymm0, %ymm0",), 3.0),
        # a chase through memory: the next address comes out of the last one
        (("movq\t(%rbx), %rbx",), 7.0),
        # an accumulator that lives on the stack is loaded and stored in every iteration
        (("vmovups\t8(%rsp), %ymm0", "vfmadd231ps\t%ymm8, %ymm9, %ymm0", "vmovups\t%ymm0, 8(%rsp)"), 11.0),
    ],
)
def test_chains(body: tuple[str, ...], cycles: float) -> None:
    (loop,) = inner_loops(_loop(*body), ZEN3)
    assert loop.limits["chain"] == cycles


@pytest.mark.parametrize(
    ("line", "loads", "stores", "flops"),
    [
        ("vmovups\t%ymm1, (%rax)", 0, 1, 0),
        ("vmovups\t(%rax,%rcx,4), %ymm1", 1, 0, 0),
        ("leaq\t(%rax,%rcx,4), %rdx", 0, 0, 0),
        ("addq\t$8, (%rax)", 1, 1, 0),
        ("cmpq\t$8, (%rax)", 1, 0, 0),
        ("vgatherdps\t%ymm2, (%rax,%ymm1,4), %ymm3", 8, 0, 0),
        ("vgatherqpd\t%ymm2, (%rax,%ymm1,8), %ymm3", 4, 0, 0),
        ("vmaskmovps\t%ymm1, %ymm2, (%rax)", 0, 1, 0),
        ("vextractf128\t$1, %ymm1, (%rax)", 0, 1, 0),
        ("vmulpd\t%ymm1, %ymm2, %ymm3", 0, 0, 4),
        ("vfmadd213ss\t(%rax), %xmm1, %xmm2", 1, 0, 2),
        ("vsqrtps\t%xmm1, %xmm3", 0, 0, 4),
        ("vcmpltps\t%ymm1, %ymm2, %ymm3", 0, 0, 0),
        ("prefetcht0\t256(%rax)", 0, 0, 0),
    ],
)
def test_instructions(line: str, loads: int, stores: int, flops: int) -> None:
    (loop,) = inner_loops(_loop(line), ZEN3)
    assert (loop.loads, loop.stores, loop.flops) == (loads, stores, flops)


def test_wide_vectors_on_a_wide_core() -> None:
    body = [f"vfmadd231ps\t(%rax), %zmm8, %zmm{k}" for k in range(8)]
    (loop,) = inner_loops(_loop(*body), AVX512)
    assert (loop.vector_bits, loop.flops, loop.limits["fma"], loop.limits["load"]) == (512, 256, 4.0, 4.0)


def test_loops_that_share_nothing() -> None:
    # two inner loops in two functions, and a jump forward that is no loop
    text = _loop("vaddps\t%ymm1, %ymm2, %ymm3") + _loop("je\t.LBB0_9", "nop").replace("f,", "g,").replace("f:", "g:")
    assert [(loop.function, loop.label, loop.depth) for loop in inner_loops(text, ZEN3)] == [
        ("f", ".LBB0_1", 1),
        ("g", ".LBB0_1", 1),
    ]
    assert inner_loops("", ZEN3) == []
