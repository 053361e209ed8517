"""What Apache TVM's schedule tests ask of TensorIR, asked of ours: which calls are taken, which refused, and meaning.

Each case names the test of TVM's tests/python/tir-schedule whose question it asks; programs and schedules are our own.
A case that is taken has to verify, to round-trip as text and to compute what the unscheduled program computes; one that
is refused has to be refused by the condition that stands there. What follows a colon is our variant of the question;
"taken" says that ours takes what theirs refuses, as the values that are computed show it may.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tcompiler.errors import ScheduleError
from tcompiler.ir.loop.text import parse_function
from tcompiler.schedule import Schedule, Trace
from tests.schedule import programs
from tests.schedule.data.checking import check


@dataclass(frozen=True)
class Case:
    """A schedule for a program: taken if `refused` is None, else refused at its last call by that condition."""

    tvm: str
    program: str
    schedule: str
    refused: str | None = None


def nest(block: str, axes: str, body: str, init: str = "", where: str = "") -> str:
    """A block in loops of its own: "i:8 k:4r" is a spatial loop i and a reduce loop k, their iters vi and vk."""
    parsed = [axis.split(":") for axis in axes.split()]
    lines = []
    for depth, (name, extent) in enumerate(parsed):
        lines.append("    " * (depth + 1) + f"for {name} in range({extent.rstrip('ro')}):")
    indent = "    " * (len(parsed) + 1)
    guard = f", where={where}" if where else ""
    lines.append(f'{indent}with block("{block}"{guard}):')
    kinds = {"r": "reduce", "o": "ordered"}
    for name, extent in parsed:
        kind = kinds.get(extent[-1], "spatial")
        lines.append(f"{indent}    v{name} = {kind}({extent.rstrip('ro')}, {name})")
    if init:
        lines += [f"{indent}    with init():", *(f"{indent}        {part}" for part in init.split("; "))]
    lines.append(f"{indent}    {body}")
    return "\n".join(lines) + "\n"


def function(signature: str, allocs: str, *nests: str) -> str:
    """A program: its signature, its own buffers ("B f32[8]" each on a line), its nests."""
    made = [f"    {name} = alloc({kind})\n" for name, _, kind in (a.partition(" ") for a in allocs.split("; ") if a)]
    return f"@loop.function\ndef f({signature}):\n{''.join(made)}{''.join(nests)}"


S = "f32[16, 16]"
DOUBLE = nest("B", "i:16 j:16", "B[vi, vj] = A[vi, vj] * f32(2.0)")
PLUS = nest("C", "p:16 q:16", "C[vp, vq] = B[vp, vq] + f32(1.0)")
TWO = function(f"A: {S}, C: out({S})", f"B {S}", DOUBLE, PLUS)
ONE = function(f"A: {S}, B: out({S})", "", DOUBLE)
FAN = function(
    f"A: {S}, C: out({S}), D: out({S})",
    f"B {S}",
    DOUBLE,
    PLUS,
    nest("D", "r:16 s:16", "D[vr, vs] = B[vr, vs] * f32(3.0)"),
)
JOIN = function(
    f"A: {S}, D: out({S})",
    f"B {S}; C {S}",
    DOUBLE,
    nest("C", "p:16 q:16", "C[vp, vq] = A[vp, vq] + f32(1.0)"),
    nest("D", "r:16 s:16", "D[vr, vs] = B[vr, vs] + C[vr, vs]"),
)
CHAIN = function(
    f"A: {S}, D: out({S})", f"B {S}; C {S}", DOUBLE, PLUS, nest("D", "r:16 s:16", "D[vr, vs] = C[vr, vs] * f32(3.0)")
)
TWO_WRITERS = function(
    f"A: {S}, C: out({S})",
    f"B {S}",
    nest("B1", "i:8 j:16", "B[vi, vj] = A[vi, vj] * f32(2.0)"),
    nest("B2", "k:8 l:16", "B[vk + 8, vl] = A[vk + 8, vl] * f32(3.0)"),
    PLUS,
)
GUARDED = function(
    f"A: {S}, C: out({S})",
    f"B {S}",
    DOUBLE,
    nest("C0", "x:16 y:16", "C[vx, vy] = f32(0.0)"),
    nest("C", "p:16 q:16", "C[vp, vq] = B[vp, vq] + f32(1.0)", where="p < 12"),
)
CUBE = function("A: f32[4, 6, 8], B: out(f32[4, 6, 8])", "", nest("B", "i:4 j:6 k:8", "B[vi, vj, vk] = A[vi, vj, vk]"))
SYMBOLIC = "@loop.function\ndef f(n: i64, A: f32[n, 8], B: out(f32[n, 8])):\n" + nest(
    "B", "i:n j:8", "B[vi, vj] = A[vi, vj]"
)
MATMUL = programs.matmul(8, 12, 6)
MATMUL_RELU = programs.matmul_relu(8, 12, 6)
BATCH = programs.batched(2, 5, 7, 3)
ROWS = function(
    "A: f32[8, 12], B: out(f32[8])", "", nest("B", "i:8 k:12r", "B[vi] += A[vi, vk]", init="B[vi] = f32(0.0)")
)
SQUARES = function(
    "A: f32[3, 8, 6], D: out(f32[3])",
    "C f32[3]",
    nest("C", "b:3 i:8r j:6r", "C[vb] += A[vb, vi, vj] * A[vb, vi, vj]", init="C[vb] = f32(0.0)"),
    nest("D", "d:3", "D[vd] = sqrt(C[vd])"),
)
ARGMAX = function(
    "A: f32[5, 12], V: out(f32[5]), I: out(i64[5])",
    "",
    nest(
        "V",
        "i:5 k:12r",
        "V[vi], I[vi] = argmax.update(A[vi, vk], vk)",
        init="V[vi] = f32(-inf); I[vi] = 9223372036854775807",
    ),
)
CONV = programs.conv(1, 3, 4, 5, 2, 3)
PAD = function(
    "X: f32[11], P: out(f32[16])",
    "",
    nest("P", "i:16", "P[vi] = select((vi >= 2) & (vi < 13), X[vi - 2], f32(0.0))"),
)
UNDER_LOOP = """
@loop.function
def f(A: f32[6, 8], C: out(f32[6, 8])):
    B = alloc(f32[6, 8])
    for i in range(6):
        for j in range(8):
            with block("B"):
                vi = spatial(6, i)
                vj = spatial(8, j)
                B[vi, vj] = A[vi, vj] * f32(2.0)
        for q in range(8):
            with block("C"):
                vi = spatial(6, i)
                vq = spatial(8, q)
                C[vi, vq] = B[vi, vq] + f32(1.0)
"""
POOL = programs.pool(2, 4, 3)
SHIFTED = programs.shifted()
SCAN = programs.scan()
SHARED_ROW = programs.shared_row()
WINDOW = function(
    "A: f32[18], C: out(f32[16])",
    "B f32[18]",
    nest("B", "i:18", "B[vi] = A[vi] * f32(2.0)"),
    nest("C", "p:16", "C[vp] = B[vp] + B[vp + 1] + B[vp + 2]"),
)
BYTES = """
@loop.function
def f(A: u8[6, 8], B: i8[2, 8, 4], C: out(i32[6, 8])):
    for m in range(6):
        for n in range(8):
            for k in range(8):
                with block("C"):
                    vm = spatial(6, m)
                    vn = spatial(8, n)
                    vk = reduce(8, k)
                    with init():
                        C[vm, vn] = i32(0)
                    C[vm, vn] += cast(i32, A[vm, vk]) * cast(i32, B[vk // 4, vn, vk % 4])
"""
SPLIT_BYTES = """
    sch.split("n", [None, 4])
    sch.split("k", [None, 4])
    sch.reorder("m", "n_0", "k_0", "n_1", "k_1")
    sch.decompose_reduction("C", "k_0")
"""

CASES = [
    # test_tir_schedule_split_fuse.py
    Case("test_fuse", CUBE, 'sch.fuse("i", "j", "k")'),
    Case("test_split", CUBE, 'sch.split("i", [2, 1, 2])\nsch.split("j", [3, 2])\nsch.split("k", [2, 4])'),
    Case("test_split_with_inferred_factor", CUBE, 'sch.split("i", [None, 1, 2])\nsch.split("k", [2, None, 2])'),
    Case("test_split_with_predicate", CUBE, 'sch.split("i", [3, 2, 3])\nsch.split("j", [None, 13])'),
    Case("test_split_with_non_positive_factors", CUBE, 'sch.split("i", [None, -2])', "split.positive"),
    Case("test_split_with_non_positive_factors", CUBE, 'sch.split("i", [0, None])', "split.positive"),
    Case("test_split_symbolic: outer factor given", SYMBOLIC, 'sch.split("i", [10, None])', "split.symbolic"),
    Case("test_split_symbolic", SYMBOLIC, 'sch.split("i", [None, 4])'),
    Case("test_fuse_fail_not_only_child", TWO, 'sch.fuse("i", "q")', "fuse.nested"),
    Case("test_fuse_split_fail_with_annotation: fuse", CUBE, 'sch.vectorize("k")\nsch.fuse("j", "k")', "fuse.serial"),
    Case(
        "test_fuse_split_fail_with_annotation: split",
        CUBE,
        'sch.unroll("j")\nsch.split("j", [None, 10])',
        "split.serial",
    ),
    Case(
        "test_fuse_split_fail_with_thread_binding", CUBE, 'sch.parallel("i")\nsch.split("i", [None, 2])', "split.serial"
    ),
    Case(
        "test_fuse_split_fail_with_thread_binding",
        CUBE,
        'sch.bind("i", "blockIdx.x")\nsch.split("i", [2, 2])',
        "split.serial",
    ),
    Case("test_fuse_not_affine", CUBE, 'sch.fuse("i", "j", "k")\nsch.split("i_j_k", [None, 10])'),
    Case("test_sve_scalable_split_predicated", CUBE, 'sch.split("k", [None, 3])\nsch.peel("k_0")'),
    # test_tir_schedule_reorder.py
    Case("test_reorder", CUBE, 'sch.reorder("k", "i")'),
    Case("test_reorder2", CUBE, 'sch.split("j", [2, 3])\nsch.reorder("k", "j_1", "i")'),
    Case("test_reorder_with_predicate", CUBE, 'sch.split("i", [None, 3])\nsch.reorder("k", "i_1", "i_0")'),
    Case("test_reorder_with_opaque_access", SHARED_ROW, 'sch.reorder("i", "i")', "reorder.distinct"),
    Case(
        "test_reorder_with_cascade_tiled_ops",
        POOL,
        'sch.split("h", [None, 2])\nsch.split("w", [None, 2])\nsch.reorder("h_0", "w_0", "h_1", "w_1")',
    ),
    Case("test_reorder_fail_with_multi_appearance_loops", CUBE, 'sch.reorder("i", "j", "i")', "reorder.distinct"),
    Case("test_reorder_fail_with_loops_not_under_same_scope", TWO, 'sch.reorder("j", "p")', "reorder.chain"),
    # theirs refuses any loop of an ordered iter; ours lets those of one element's steps keep their order
    Case(
        "test_reorder_fail_with_wrong_block_var_type",
        SCAN,
        'sch.split("t", [None, 2])\nsch.reorder("t_1", "t_0")',
        "reorder.ordered",
    ),
    # test_tir_schedule_for_kind.py
    Case("test_parallel", TWO, 'sch.parallel("i")'),
    Case("test_parallel_predicate", CUBE, 'sch.split("j", [None, 4])\nsch.parallel("j_0")'),
    Case("test_parallel_reduction_block_iter", MATMUL, 'sch.parallel("k")', "parallel.spatial"),
    Case("test_parallel_not_compact_data_flow", SHIFTED, 'sch.parallel("i")', "parallel.independent"),
    Case("test_vectorize", TWO, 'sch.vectorize("j")'),
    Case("test_vectorize_predicate", CUBE, 'sch.split("k", [None, 3])\nsch.vectorize("k_1")'),
    Case("test_unroll", ROWS, 'sch.unroll("k")'),
    Case("test_unroll_after_bind", CUBE, 'sch.bind("i", "blockIdx.x")\nsch.unroll("i")', "unroll.serial"),
    Case("test_bind1", TWO, 'sch.bind("i", "threadIdx.x")'),
    Case("test_bind2", TWO, 'sch.bind("j", "threadIdx.x")\nsch.bind("q", "threadIdx.x")'),
    # theirs lets a thread index feed a reduction, to be lowered to one across threads: ours has no such lowering yet
    Case("test_bind_cross_thread_reduction", ROWS, 'sch.bind("k", "threadIdx.x")', "bind.spatial"),
    Case("test_bind_not_cross_thread_reduction", ROWS, 'sch.bind("k", "blockIdx.x")', "bind.spatial"),
    Case("test_bind_after_bind", CUBE, 'sch.bind("i", "blockIdx.x")\nsch.bind("i", "threadIdx.x")', "bind.serial"),
    Case("test_block_inside_init", MATMUL, 'sch.decompose_reduction("C", "k")\nsch.parallel("i")'),
    # test_tir_schedule_compute_at.py
    Case("test_compute_at_two_elementwise", TWO, 'sch.compute_at("B", "p")'),
    Case(
        "test_compute_at_blocked_1",
        TWO,
        'sch.split("p", [None, 4])\nsch.split("q", [None, 4])\n'
        'sch.reorder("p_0", "q_0", "p_1", "q_1")\nsch.compute_at("B", "q_0")',
    ),
    Case(
        "test_compute_at_blocked_2",
        TWO,
        'sch.split("p", [None, 4])\nsch.compute_at("B", "p_0")\nsch.compute_at("B", "p_1")',
    ),
    Case(
        "test_compute_at_tiled_pooling_read_cache",
        POOL,
        'sch.split("yh", [None, 2])\nsch.compute_at("M", "yh_0")\n'
        'sch.cache_read("M", "X", "local")\nsch.compute_at("X_copy", "M_ax1")',
    ),
    Case(
        "test_compute_at_blocked_2: a chain",
        CHAIN,
        'sch.split("r", [None, 4])\nsch.compute_at("C", "r_0")\nsch.compute_at("B", "r_0")',
    ),
    Case("test_compute_at_reduction_block", MATMUL_RELU, 'sch.compute_at("C", "q")'),
    Case(
        "test_reverse_compute_at_tiled",
        TWO,
        'sch.split("i", [None, 4])\nsch.split("j", [None, 4])\n'
        'sch.reorder("i_0", "j_0", "i_1", "j_1")\nsch.reverse_compute_at("C", "j_0")',
    ),
    Case("test_reverse_compute_at_blocked_1", TWO, 'sch.split("i", [None, 5])\nsch.reverse_compute_at("C", "i_0")'),
    Case("test_reverse_compute_at_blocked_2", TWO, 'sch.split("i", [2, None])\nsch.reverse_compute_at("C", "i_1")'),
    Case("test_fail_all_consumers_under_loop", FAN, 'sch.compute_at("B", "p")', "compute_at.consumers"),
    Case("test_fail_all_producers_under_loop", JOIN, 'sch.reverse_compute_at("D", "i")', "reverse_compute_at.inputs"),
    Case("test_fail_output_block", TWO, 'sch.compute_at("C", "i")', "compute_at.intermediate"),
    Case("test_fail_loop_is_ancestor_of_block", TWO, 'sch.compute_at("B", "i")', "compute_at.own_loop"),
    Case("test_fail_subtree_complete_block", TWO_WRITERS, 'sch.compute_at("B1", "p")', "compute_at.sole_writer"),
    Case(
        "test_compute_at_read_out_of_bound: a window", WINDOW, 'sch.split("p", [None, 4])\nsch.compute_at("B", "p_0")'
    ),
    # test_tir_schedule_compute_inline.py
    Case("test_compute_inline_elementwise", TWO, 'sch.compute_inline("B")'),
    Case("test_compute_inline_under_loop", UNDER_LOOP, 'sch.compute_inline("B")'),
    Case("test_compute_inline_multi_consumer", FAN, 'sch.compute_inline("B")'),
    Case("test_compute_inline_multi_loads", WINDOW, 'sch.compute_inline("B")'),
    Case("test_compute_inline_predicate", GUARDED, 'sch.compute_inline("B")'),
    Case(
        "test_compute_inline_fail_multi_writer", TWO_WRITERS, 'sch.compute_inline("B1")', "compute_inline.sole_writer"
    ),
    Case("test_output_block", TWO, 'sch.compute_inline("C")', "compute_inline.intermediate"),
    Case("test_inline_block_with_init", MATMUL_RELU, 'sch.compute_inline("C")', "compute_inline.store"),
    Case("test_reverse_compute_inline_elementwise", TWO, 'sch.reverse_compute_inline("C")'),
    Case("test_reverse_compute_inline_under_loop", UNDER_LOOP, 'sch.reverse_compute_inline("C")'),
    Case(
        "test_reverse_compute_inline_fail_as_dce",
        ONE,
        'sch.reverse_compute_inline("B")',
        "reverse_compute_inline.producer",
    ),
    Case("test_reverse_compute_inline_fail_multi_producer: taken", JOIN, 'sch.reverse_compute_inline("D")'),
    Case(
        "test_reverse_compute_inline_fail_multi_reader",
        FAN,
        'sch.reverse_compute_inline("C")',
        "reverse_compute_inline.sole_consumer",
    ),
    Case(
        "test_reverse_compute_fail_multi_reverse_loads",
        WINDOW,
        'sch.reverse_compute_inline("C")',
        "reverse_compute_inline.index",
    ),
    Case(
        "test_reverse_compute_inline_error_producer_not_cover_consumer: two cover it",
        TWO_WRITERS,
        'sch.reverse_compute_inline("C")',
    ),
    Case(
        "test_reverse_compute_inline_elementwise: of a reduction",
        MATMUL_RELU,
        'sch.reverse_compute_inline("D")',
        "reverse_compute_inline.producer",
    ),
    # test_tir_schedule_cache_read_write.py
    Case("test_cache_read_elementwise", TWO, 'sch.cache_read("B", "A", "global")\nsch.cache_read("C", "B", "local")'),
    Case("test_cache_read_under_scope", UNDER_LOOP, 'sch.cache_read("B", "A", "local")'),
    Case(
        "test_continuous_cache_read", TWO, 'sch.cache_read("C", "B", "global")\nsch.cache_read("C", "B_cache", "local")'
    ),
    Case("test_cache_read_with_block_predicate", GUARDED, 'sch.cache_read("C", "B", "local")'),
    Case(
        "test_cache_read_fail_multi_producer", TWO_WRITERS, 'sch.cache_read("C", "B", "global")', "cache_read.defined"
    ),
    Case("test_cache_read_fail_index_out_of_bound", TWO, 'sch.cache_read("B", "C", "global")', "cache_read.reads"),
    Case(
        "test_cache_read_fail_invalid_storage_scope", TWO, 'sch.cache_read("B", "A", "test_scope")', "cache_read.scope"
    ),
    Case(
        "test_cache_write_elementwise", TWO, 'sch.cache_write("B", "B", "global")\nsch.cache_write("C", "C", "local")'
    ),
    Case("test_cache_write_under_scope", TWO, 'sch.compute_at("B", "p")\nsch.cache_write("C", "C", "local")'),
    Case(
        "test_continuous_cache_write",
        TWO,
        'sch.cache_write("B", "B", "global")\nsch.cache_write("B", "B_cache", "local")',
    ),
    Case(
        "test_cache_write_fail_multi_producer",
        TWO_WRITERS,
        'sch.cache_write("B1", "B", "global")',
        "cache_write.writes",
    ),
    Case("test_cache_write_fail_index_out_of_bound", TWO, 'sch.cache_write("B", "C", "global")', "cache_write.writes"),
    Case("test_cache_write_fail_invalid_storage_scope", TWO, 'sch.cache_write("B", "B", "test")', "cache_write.scope"),
    Case("test_cache_write_elementwise: a reduction", MATMUL, 'sch.cache_write("C", "C", "local")'),
    # test_tir_schedule_reduction.py
    Case("test_reduction_decompose0", MATMUL, 'sch.decompose_reduction("C", "i")'),
    Case("test_reduction_decompose1", ROWS, 'sch.split("k", [None, 4])\nsch.decompose_reduction("B", "k_0")'),
    Case(
        "test_reduction_decompose2",
        ROWS,
        'sch.reorder("k", "i")\nsch.decompose_reduction("B", "i")',
        "decompose_reduction.outside",
    ),
    Case("test_reduction_decompose3", SQUARES, 'sch.reorder("i", "b")\nsch.decompose_reduction("C", "i")'),
    Case(
        "test_reduction_decompose0: under a parallel loop",
        BATCH,
        'sch.parallel("s")\nsch.decompose_reduction("C", "i")',
    ),
    # test_tir_schedule_rfactor.py
    Case("test_reduction_rfactor_matmul", MATMUL, 'sch.split("k", [2, 3])\nsch.rfactor("C", "k_1")'),
    Case("test_reduction_rfactor_square_sum", SQUARES, 'sch.rfactor("C", "j")'),
    Case(
        "test_reduction_rfactor_square_sum_square_root",
        SQUARES,
        'sch.fuse("i", "j")\nsch.split("i_j", [None, 4])\nsch.rfactor("C", "i_j_1")',
    ),
    Case("test_reduction_rfactor_argmax", ARGMAX, 'sch.split("k", [3, 4])\nsch.rfactor("V", "k_1")'),
    Case("test_reduction_rfactor_argmax: uneven", ARGMAX, 'sch.split("k", [None, 5])\nsch.rfactor("V", "k_0")'),
    Case(
        "test_reduction_rfactor_matmul: uneven",
        ROWS,
        'sch.split("k", [None, 5])\nsch.reorder("i", "k_1", "k_0")\nsch.rfactor("B", "k_1")',
    ),
    Case("test_reduction_rfactor_not_reduction_block1", TWO, 'sch.rfactor("B", "j")', "rfactor.reduction"),
    Case("test_reduction_rfactor_not_reduction_block2", MATMUL, 'sch.rfactor("C", "i")', "rfactor.own"),
    Case(
        "test_reduction_rfactor_not_reduction_block3",
        MATMUL,
        'sch.split("k", [2, 3])\nsch.decompose_reduction("C", "k_0")\nsch.rfactor("C", "k_1")',
        "rfactor.reduction",
    ),
    Case(
        "test_reduction_rfactor_not_serial_loop",
        MATMUL,
        'sch.split("k", [2, 3])\nsch.unroll("k_1")\nsch.rfactor("C", "k_1")',
        "rfactor.own",
    ),
    Case("test_reduction_rfactor_spatial_only", CUBE, 'sch.rfactor("B", "k")', "rfactor.reduction"),
    Case("test_reduction_rfactor_zero_dim", ROWS, 'sch.rfactor("B", "k")', "rfactor.rest"),
    Case(
        "test_reduction_rfactor_outermost_loop_multiple_children_fail",
        SQUARES,
        'sch.reverse_compute_at("D", "b")\nsch.rfactor("C", "b")',
        "rfactor.own",
    ),
    # test_tir_schedule_set_scope.py, _storage_align.py
    Case("test_set_scope", TWO, 'sch.set_scope("B", "shared")'),
    Case("test_set_scope_fail_on_output_buffer", TWO, 'sch.set_scope("C", "shared")', "set_scope.intermediate"),
    Case("test_set_scope_fail_on_invalid_scope", TWO, 'sch.set_scope("B", "test_scope")', "set_scope.scope"),
    Case("test_storage_align", TWO, 'sch.pad_stride("B", 0, 32, 2)'),
    Case(
        "test_storage_align_invalid_factor1: no such axis", TWO, 'sch.pad_stride("B", 2, 32, 2)', "pad_stride.dimension"
    ),
    Case("test_storage_align_invalid_factor1", TWO, 'sch.pad_stride("B", 0, 0, 2)', "pad_stride.multiple"),
    Case("test_storage_align_invalid_factor1: negative", TWO, 'sch.pad_stride("B", 0, -1, 2)', "pad_stride.multiple"),
    # test_tir_schedule_transform_layout.py
    Case(
        "test_two_elementwise_transform_intermediate_buffer",
        TWO,
        'sch.transform_layout("B", "lambda m, n: (m // 4, n // 4, m % 4, n % 4)")',
    ),
    Case(
        "test_two_elementwise_transform_intermediate_buffer: padded",
        TWO,
        'sch.transform_layout("B", "lambda m, n: (m // 5, n, m % 5)", True)',
    ),
    Case(
        "test_two_elementwise_transform_intermediate_buffer: not injective",
        TWO,
        'sch.transform_layout("B", "lambda m, n: (m // 2, n)")',
        "transform_layout.injective",
    ),
    Case(
        "test_two_elementwise_transform_intermediate_buffer: another rank",
        TWO,
        'sch.transform_layout("B", "lambda m: (m // 2, m % 2)")',
        "transform_layout.rank",
    ),
    # test_tir_schedule_blockize.py, _tensorize.py
    Case("test_blockize_outer", ONE, 'sch.blockize("i")'),
    Case("test_blockize_inner", ONE, 'sch.blockize("j")'),
    Case(
        "test_two_elementwise_blockize_reverse_compute_at",
        TWO,
        'sch.split("p", [None, 4])\nsch.split("q", [None, 4])\n'
        'sch.reorder("p_0", "q_0", "p_1", "q_1")\nsch.blockize("p_1")',
    ),
    Case("test_blockize_init_loops", ROWS, 'sch.split("k", [None, 4])\nsch.blockize("k_1")'),
    Case("test_blockize_inner: a tail", ONE, 'sch.split("j", [None, 5])\nsch.blockize("j_1")', "blockize.predicate"),
    Case(
        "test_tensorize_dot_product", BYTES, SPLIT_BYTES + 'sch.blockize("n_1")\nsch.tensorize("C_o", "x86.dot_u8i8x4")'
    ),
    Case(
        "test_tensorize_vnni",
        BYTES,
        'sch.split("m", [None, 2])\n'
        + SPLIT_BYTES.replace('"m"', '"m_0", "m_1"')
        + 'sch.blockize("n_1")\nsch.tensorize("C_o", "x86.dot_u8i8x4")',
    ),
    Case(
        "test_tensorize_dot_product: another instruction",
        BYTES,
        SPLIT_BYTES + 'sch.blockize("n_1")\nsch.tensorize("C_o", "x86.dot_i16x4")',
        "tensorize.match",
    ),
    Case(
        "test_tensorize_dot_product: no such instruction",
        BYTES,
        SPLIT_BYTES + 'sch.blockize("n_1")\nsch.tensorize("C_o", "no_such")',
        "tensorize.intrinsic",
    ),
    # test_tir_schedule_reindex.py, _pad_einsum.py, _decompose_padding.py
    Case("test_conv2d_reindex_weight", CONV, 'sch.reindex("S", 1)'),
    Case("test_conv2d_reindex_weight: the image", CONV, 'sch.reindex("S", 0)'),
    Case("test_matmul_reindex_write: both sides", MATMUL, 'sch.reindex("C", 0)\nsch.reindex("C", 1)'),
    Case("test_matmul_reindex_write: no product", TWO, 'sch.reindex("B", 0)', "reindex.update"),
    Case("test_pad_matmul", MATMUL, 'sch.pad_einsum("C", [16, 16, 16])'),
    Case("test_pad_matmul_2", programs.matmul(7, 5, 3), 'sch.pad_einsum("C", [4, 1, 2])'),
    Case("test_pad_matmul: a maximum", POOL, 'sch.pad_einsum("Y", [2, 2, 2, 1, 1])', "pad_einsum.einsum"),
    Case("test_1d_decompose_padding", PAD, 'sch.decompose_padding("P", "i")'),
    Case("test_decompose_hw_padding_direct", CONV, 'sch.decompose_padding("P", "py")'),
    Case("test_decompose_hw_padding_direct: inner loop", CONV, 'sch.decompose_padding("P", "px")'),
    Case("test_1d_decompose_padding: no padding", TWO, 'sch.decompose_padding("B", "j")', "decompose_padding.padding"),
    # test_tir_schedule_utilities.py
    Case(
        "test_annotate_unannotate_loop",
        MATMUL,
        'sch.annotate("i", "test_annotation", "value")\nsch.annotate("i", "test_annotation", None)',
    ),
    Case("test_annotate_unannotate_loop: a block", MATMUL, 'sch.annotate("C", "test_annotation", 2)'),
]


def _applied(case: Case) -> tuple[Schedule, str | None]:
    """The schedule with all of its calls, and the message of the last one if it was refused."""
    steps = Trace.from_python("\n".join(line.strip() for line in case.schedule.strip().splitlines())).steps
    sch = Schedule(parse_function(case.program), debug=True)
    for step in steps[:-1]:
        sch.apply(step)
    try:
        sch.apply(steps[-1])
    except ScheduleError as error:
        return sch, str(error)
    return sch, None


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.tvm)
def test_as_tvm_asks(case: Case) -> None:
    sch, message = _applied(case)
    if case.refused is None:
        assert message is None
        check(sch.start, sch, {p.name: 11 for p in sch.start.params})
    else:
        assert message is not None, f"taken, and not refused by {case.refused}"
        assert f"condition {case.refused}: " in message, message
