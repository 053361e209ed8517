"""A few rows times a matrix that is no constant: it passes by once, in the order in which it lies in memory."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import tcompiler as tc
from tests.schedule.test_schedule_contractions import normal, product

PART = re.compile(r"in unrolled\((\d+)\):\n +for \w+ in vectorized\((\d+)\):\n +with block\(\"v2_block")


def scheduled(path: Path, target: str, threads: int = 1) -> str:
    return tc.compile(path, target=target, threads=threads).text("scheduled")


@pytest.mark.parametrize("target", ["cpu", "x86-64-v3"])
@pytest.mark.parametrize(
    ("rows", "depth", "columns"),
    [
        (2, 997, 1111),
        (3, 1024, 1024),
        (4, 1000, 1001),
        (5, 1040, 640),
        (7, 331, 3000),
        (16, 700, 1500),
        (16, 768, 3072),
    ],
)
def test_a_few_rows_of_any_size(tmp_path: Path, rows: int, depth: int, columns: int, target: str) -> None:
    path = product(tmp_path / "m.onnx", "ij,jk->ik", {"i": rows, "j": depth, "k": columns}, None)
    x, z = normal(rows, depth), normal(depth, columns)
    found = [np.asarray(tc.compile(path, target=target, threads=n)(x, z)) for n in (1, 2)]
    np.testing.assert_allclose(found[0], x.astype(np.float64) @ z, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize(
    "equation", ["ji,jk->ik", "ij,jk->ki", "aij,jk->aik", "ijd,jdk->ik", "idj,djk->ik", "jdi,djk->ik", "bij,bjk->bik"]
)
def test_axes_in_any_order(tmp_path: Path, equation: str) -> None:
    product(tmp_path / "m.onnx", equation, {"i": 5, "j": 61, "k": 1111, "d": 11, "a": 2, "b": 3}, None)


@pytest.mark.parametrize(
    ("rows", "columns", "steps"),
    [
        (2, 1111, 16),
        (2, 1024, 8),  # sixteen lines at even distances, of which the next tile reads the rest
        (6, 1024, 16),
        (16, 1111, 16),
        (9, 1024, 0),  # sums of as many rows crowd a set of the cache
        (17, 1111, 0),
        (4, 200, 0),  # what a panel reads is near enough for a processor to foresee it
    ],
)
def test_rows_of_memory_are_read_side_by_side(tmp_path: Path, rows: int, columns: int, steps: int) -> None:
    path = product(tmp_path / "m.onnx", "ij,jk->ik", {"i": rows, "j": 1024, "k": columns}, None)
    text = scheduled(path, "znver3")
    parts = re.search(r"for v2_j_0\w* in range\((\d+)\):", text)
    assert (1024 // (int(parts[1]) + 1) if parts and "] += v2_acc[" in text else 0) == steps


@pytest.mark.parametrize(("rows", "columns", "shares"), [(4, 1024, 2), (4, 1111, 2), (16, 3000, 4), (4, 300, 2)])
def test_threads_share_columns_whose_sums_stay_near(tmp_path: Path, rows: int, columns: int, shares: int) -> None:
    path = product(tmp_path / "m.onnx", "ij,jk->ik", {"i": rows, "j": 2048, "k": columns}, None)
    text = scheduled(path, "znver3", 2)
    found = [int(n) for n in re.findall(r"for v2_k_0\w* in parallel\((\d+)", text)]
    assert sum(found) == shares


@pytest.mark.parametrize(("columns", "copied"), [(1024, True), (1000, False)])
def test_a_matrix_whose_lines_crowd_a_cache_is_copied_for_more_rows(tmp_path: Path, columns: int, copied: bool) -> None:
    path = product(tmp_path / "m.onnx", "ij,jk->ik", {"i": 20, "j": 1024, "k": columns}, None)
    assert ("v1_cache = alloc" in scheduled(path, "znver3")) == copied


@pytest.mark.parametrize(("columns", "along"), [(1024, "k"), (1000, "i")])
def test_lanes_leave_rows_where_lines_of_columns_crowd_a_cache(tmp_path: Path, columns: int, along: str) -> None:
    path = product(tmp_path / "m.onnx", "ij,jk->ik", {"i": 48, "j": 1024, "k": columns}, None)
    lanes = re.findall(r"for v2_(\w)_1 in vectorized\(\d+\):\n +with block\(\"v2_block\"", scheduled(path, "znver3"))
    assert lanes == [along]
