"""Operation counts and traffic of programs."""

from __future__ import annotations

import pytest

from tcompiler.ir.expr.text import parse_program
from tcompiler.lower.work import executed_flops, operand_bytes, program_bytes
from tests.schedule.data.test_tensorize import dot


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            """
            def whole(x: f32[8, 4]):
                y = compute(f32[8], lambda i: x[i, 0] + x[i, 1])
                return y
            """,
            (64, 32),
            id="two of four columns",
        ),
        pytest.param(
            """
            def gather(table: f32[1000, 16], rows: i64[3]):
                y = compute(f32[3, 16], lambda i, j: table[rows[i], j])
                return y
            """,
            (3 * 16 * 4, 3 * 8, 3 * 16 * 4),
            id="three rows of a table",
        ),
        pytest.param(
            """
            def windows(x: f32[10]):
                y = reduce(sum, f32[8], (3,), lambda i, k: x[i + k])
                return y
            """,
            (40, 32),
            id="never more than there is",
        ),
        pytest.param(
            """
            def unread(x: f32[10], z: f64[5]):
                y = compute(f64[2], lambda i: z[3])
                return y
            """,
            (0, 8, 16),
            id="unread inputs cost nothing",
        ),
        pytest.param(
            """
            def empty(x: f32[0]):
                y = reduce(sum, f32[2], (0,), lambda i, k: x[k])
                return y
            """,
            (0, 8),
            id="empty",
        ),
    ],
)
def test_operands(text: str, expected: tuple[int, ...]) -> None:
    lines = text.strip("\n").splitlines()
    program = parse_program("@expr.program\n" + "\n".join(line[12:] for line in lines) + "\n")
    assert operand_bytes(program) == expected
    assert program_bytes(program) == sum(expected)


def test_instructions_count_as_what_they_mean() -> None:
    sch = dot(4, 32, 6, 16, "x86.dot_bf16x16")
    flops = executed_flops(sch.function)
    assert flops == 2 * 4 * 32 * 6
    sch.reorder("m", "n_0", "k_0", "n_1", "k_1")
    sch.decompose_reduction("C", "k_0")
    sch.blockize("n_1")
    assert executed_flops(sch.function) == flops
    sch.tensorize("C_o", "x86.dot_bf16x16")
    assert executed_flops(sch.function) == flops
