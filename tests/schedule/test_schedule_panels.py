"""Panels that come slowly from beyond the level 2 cache: what keeps tiles from waiting for them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

import tcompiler as tc
from tests.schedule.test_schedule_contractions import affine, normal, product, traces, write


@pytest.mark.parametrize(("target", "parts"), [("znver3", True), ("znver5", False)])
def test_panels_that_come_slowly_meet_all_rows_of_a_part(tmp_path: Path, target: str, parts: bool) -> None:
    # 6 MB of weights lie in the last cache, which one core reads swiftly and the other does not
    text = traces(affine(tmp_path / "m.onnx", 125, 2000, 770), target)
    found = re.search(r'sch\.split\("(\w+_k)", \[None, \d{3}\]\)', text)
    assert (found is not None) == parts, text
    copied = re.search(r'sch\.compute_at\("\w+_copy", "(\w+)_0"\)', text)
    assert (copied and copied[1]) == (found and found[1]), text


@pytest.mark.parametrize(
    ("target", "depth", "columns", "asked"),
    [("znver3", 1000, 1100, True), ("znver5", 1000, 1100, False), ("znver3", 500, 500, False)],
)
def test_panels_that_blocks_pass_again_are_asked_for_where_they_come_slowly(
    tmp_path: Path, target: str, depth: int, columns: int, asked: bool
) -> None:
    # 1 MB, as those of the last, is near enough
    text = traces(product(tmp_path / "m.onnx", "ij,jk->ik", {"i": 900, "j": depth, "k": columns}, 1), target)
    assert re.search(r'sch\.split\("\w+_i_0", ', text), text
    assert ('sch.prefetch("v1_block", "c0", ' in text) == asked


@pytest.mark.parametrize(
    ("target", "rows", "depth", "columns", "streams"),
    [
        ("x86-64-v3", 1, 3001, 1291, True),  # 5 panels behind the last four of 16 columns, and 11 columns
        ("x86-64-v3", 1, 3000, 1280, True),
        ("x86-64-v3", 1, 100, 30011, True),
        ("x86-64-v3", 1, 180, 1280, False),  # 0.9 MB
        ("x86-64-v3", 2, 3000, 1280, False),
        ("znver5", 1, 3000, 1280, False),
    ],
)
def test_a_single_row_reads_several_far_panels_at_once(
    tmp_path: Path, target: str, rows: int, depth: int, columns: int, streams: bool
) -> None:
    path = affine(tmp_path / "m.onnx", rows, depth, columns)
    assert (re.search(r'sch\.split\("\w+_0", \[None, 4\]\)', traces(path, target)) is not None) == streams
    if streams:
        a = np.random.default_rng(1).standard_normal((rows, depth), np.float32)
        found = [np.asarray(tc.compile(path, target=target, threads=n)(a)) for n in (1, 2)]
        expected = np.asarray(tc.compile(path)(a))
        assert np.count_nonzero(expected)
        for each in found:
            np.testing.assert_allclose(each, expected, rtol=1e-4, atol=1e-3)


def test_panels_are_copied_in_their_own_order(tmp_path: Path) -> None:
    # the steps of a panel are those of j and d, while d is outermost in what is copied
    path = product(tmp_path / "m.onnx", "jdi,djk->ik", {"i": 300, "j": 20, "d": 31, "k": 136}, None)
    text = tc.compile(path, target="znver3", threads=2).text("scheduled")
    copy = text[text.index("v1_cache = alloc(f32[9, 20, 31, 16]") : text.index("v1_cache[")]
    assert re.findall(r"for v1_copy_ax\d in \w+\((\d+)\):", copy) == ["20", "31"]


@pytest.mark.parametrize(
    ("filters", "places", "target", "asked"),
    [
        (13, (126, 127), "znver3", True),
        (3, (200, 201), "znver3", True),
        (13, (126, 127), "znver5", False),  # which has them in time
        (13, (30, 31), "znver3", False),  # 0.2 MB
        (13, (64, 208), "znver3", False),  # lines of all channels crowd a set of the level 1 cache
        (13, (128, 128), "znver3", False),  # lines of all channels crowd a set of each cache, and are copied
        (13, (127, 129), "znver3", False),  # and here four of these
        (61, (126, 127), "znver3", False),  # enough rows for a copy
    ],
)
def test_planes_that_are_read_where_they_lie_are_asked_for_a_panel_ahead(
    tmp_path: Path, filters: int, places: tuple[int, int], target: str, asked: bool
) -> None:
    x, w = normal(1, 55, *places), normal(filters, 55, 1, 1)
    write(tmp_path / "m.onnx", [helper.make_node("Conv", ["x", "w"], ["y"])], {"x": x}, {"w": w})
    assert ('.prefetch("v1_block", "v0", ' in traces(tmp_path / "m.onnx", target)) == asked
    expected = np.einsum("oc,ncyx->noyx", w[:, :, 0, 0].astype(np.float64), x)
    for threads in (1, 2):
        found = tc.compile(tmp_path / "m.onnx", target="znver3", threads=threads)(x)
        np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-4, atol=1e-4)
