"""ONNX's backend suite: its cases, what comes of each, and the file of what is expected.

The suite is part of the onnx package: node cases are computed when they are collected, the others lie there as files.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

import tcompiler as tc
from tcompiler.errors import UserError

EXPECTATIONS = Path(__file__).with_name("expectations.txt")

SUITES = ("core", "wider", "other", "simple", "pytorch-operator", "pytorch-converted")
"""Node cases of the types that networks compute in (core), of half precision and small integers (wider), and all
others; then the three suites of models in files. The light models are left out: their weights are all alike."""

PASS = "pass"

FAMILIES: dict[str, tuple[str, str]] = {
    "sequence": ("refused", "a list of tensors, or an optional one, goes in or out"),
    "string": ("refused", "tensors of strings"),
    "float8": ("refused", "elements of 8 bits or fewer in floating point"),
    "subbyte": ("refused", "integers of 2 or 4 bits"),
    "random": ("refused", "random numbers"),
    "training": ("refused", "gradients, optimizers, and layers in training"),
    "data-shape": ("refused", "boxes that survive: how many is known only when all have been looked at"),
    "image-file": ("refused", "decoding of image files"),
    "trees": ("refused", "tables and trees of ai.onnx.ml"),
    "text": ("refused", "counts of n-grams"),
    "bits": ("refused", "an element's bits read as another type"),
    "scan-8": ("refused", "the form that Scan had before opset 9"),
    "preview": ("refused", "operators of ai.onnx.preview"),
    "rounding": ("near", "the reference itself is further from the exact result, in half precision or next to 0"),
}
"""Why a case is not expected to pass; it is "refused" with a UserError, or its result is "near": outside of the case's
tolerance, within sixteen times that (a last place of bf16 is eight)."""


@dataclass(frozen=True, slots=True)
class Case:
    """One case: a model, and pairs of inputs and outputs."""

    name: str
    model: Any
    data_sets: tuple[tuple[list[Any], list[Any]], ...]
    rtol: float
    atol: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a case: "pass", "near", "differs" or "refused", and why."""

    kind: str
    why: str = ""


@cache
def node_cases() -> Mapping[str, Case]:
    """The node cases by name."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        # The references overflow and divide by zero on purpose.
        warnings.simplefilter("ignore", RuntimeWarning)
        found = collect_testcases(None)
    return {c.name: Case(c.name, c.model, tuple(c.data_sets), c.rtol, c.atol) for c in found}


@cache
def stored_cases(suite: str) -> Mapping[str, Case]:
    """The cases of a suite of models in files, by name."""
    return {c.name: _stored(c) for c in load_model_tests(kind=suite)}


def _stored(case: Any) -> Case:
    folder = Path(case.model_dir)
    sets = [(_tensors(d, "input"), _tensors(d, "output")) for d in sorted(folder.glob("test_data_set_*"))]
    return Case(case.name, onnx.load(folder / "model.onnx"), tuple(sets), case.rtol, case.atol)


def _tensors(folder: Path, stem: str) -> list[Any]:
    """The tensors of a data set; a file that holds something else is kept as its bytes."""
    result: list[Any] = []
    for k in range(len(list(folder.glob(f"{stem}_*.pb")))):
        raw = (folder / f"{stem}_{k}.pb").read_bytes()
        tensor = onnx.TensorProto()
        try:
            tensor.ParseFromString(raw)
            result.append(_array(tensor))
        except (ValueError, TypeError, onnx.onnx_cpp2py_export.checker.ValidationError):
            result.append(raw)
    return result


def _array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def find(key: str) -> Case | None:
    """A case by suite and name, as "core/test_abs"; None if onnx has none."""
    suite, _, name = key.partition("/")
    known = node_cases() if suite in SUITES[:3] else stored_cases(suite)
    return known.get(name)


def keys() -> Iterator[str]:
    """All that onnx has, the node cases as "node/…"."""
    yield from (f"node/{name}" for name in node_cases())
    for suite in SUITES[3:]:
        yield from (f"{suite}/{name}" for name in stored_cases(suite))


def expectations() -> dict[str, str]:
    """What is expected, by suite and name: "pass" or a family."""
    lines = (line.partition("#")[0].split() for line in EXPECTATIONS.read_text().splitlines())
    return {fields[0]: fields[1] for fields in lines if fields}


def outcome(case: Case) -> Outcome:
    """Compiles a case and compares all of its data sets."""
    try:
        compiled = tc.compile(case.model, threads=1)
        for inputs, outputs in case.data_sets:
            got = compiled(*map(_array, inputs))
            found = got if isinstance(got, tuple) else (got,)
            wanted = [_array(w) for w in outputs]
            problem = difference(found, wanted, case)
            if problem:
                return Outcome("differs" if difference(found, wanted, case, 16.0) else "near", problem)
    except UserError as error:
        return Outcome("refused", str(error))
    return Outcome(PASS)


def difference(results: tuple[np.ndarray, ...], wanted: list[Any], case: Case, times: float = 1.0) -> str:
    """How results differ from those wanted in number, element type, shape or value; empty if they do not.

    Args:
        results: What came out.
        wanted: What the case says.
        case: Has the tolerances.
        times: What multiple of the tolerances is allowed.
    """
    if len(results) != len(wanted):
        return f"{len(results)} results, expected {len(wanted)}"
    for k, (got, want) in enumerate(zip(results, wanted, strict=True)):
        if want.dtype == ml_dtypes.bfloat16 and got.dtype == np.uint16:
            # numpy has no such type of its own: results come as their bits.
            got = got.view(ml_dtypes.bfloat16)
        if got.dtype != want.dtype or got.shape != want.shape:
            return f"result {k} is {got.dtype}{list(got.shape)}, expected {want.dtype}{list(want.shape)}"
        if want.dtype == ml_dtypes.bfloat16:
            got, want = got.astype(np.float32), want.astype(np.float32)
        if not np.allclose(got, want, rtol=times * case.rtol, atol=times * case.atol, equal_nan=True):
            return f"result {k} differs by up to {np.nanmax(np.abs(got.astype(np.float64) - want)):.3g}"
    return ""


def operators(model: Any) -> set[str]:
    """The operators that a model's nodes name."""
    return {node.op_type for node in model.graph.node}
