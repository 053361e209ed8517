"""What a drawn model has to compute, and how far from it a result may lie.

The reference is onnxruntime without graph optimisations. How far rounding may carry a result is measured on the model
itself: onnxruntime runs it again with data that differ by a few units in the last place, and the spread of its results
is what such noise does. A result may be a multiple of that away. Where onnxruntime has no kernel, or its result and
ours part, onnx's own reference evaluator in float64 is asked: the standard decides.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from tests.fuzz.draw import Array, Case, float_type

REFUSALS = (
    errors.Fail,
    errors.InvalidArgument,
    errors.InvalidGraph,
    errors.NotImplemented,
    errors.RuntimeException,
)
"""How onnxruntime says that it has no kernel for a node, or takes it otherwise than the standard has it."""

COARSE = 1e-5
BFLOAT_EPS = 2.0**-7
NOISE_RUNS = 2
NOISE_UNITS = 2.0
NOISE_FACTOR = 64.0
RELATIVE_UNITS = 16.0
TENSOR_UNITS = 2.0
HALF_FACTOR = 12.0
HALF_UNITS = 4.0
"""A result in f16 is a sum in f32, rounded once: less is allowed where a unit means more."""


@dataclass(frozen=True, slots=True)
class Expected:
    """Reference results in the model's order, and for each element how far away a result may lie."""

    values: list[Array]
    tolerances: list[Array]
    source: str


def expected(case: Case) -> Expected:
    """The reference of a model: onnxruntime in its own types, else in f32, else the standard.

    Raises:
        LookupError: If none of them runs it.
    """
    result = _by_onnxruntime(case, case.proto, case.inputs)
    if result is None and not (case.exact and "float64" in {a.dtype.name for a in case.inputs.values()}):
        single = {k: np.asarray(a.astype(np.float32)) if float_type(a.dtype) else a for k, a in case.inputs.items()}
        result = _by_onnxruntime(case, _recast(case.proto, np.float32), single)
    result = result or standard(case)
    if result is None:
        raise LookupError(f"{case.family} {case.seed}: no reference runs this model")
    return result


def _by_onnxruntime(case: Case, proto: onnx.ModelProto, inputs: dict[str, Array]) -> Expected | None:
    weights = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer if t.name in case.noisy}
    try:
        session = _session(case, proto)
        plain = session.run(None, inputs)
    except REFUSALS:
        return None
    noise = [np.zeros(np.shape(y)) for y in plain]
    if not case.exact and case.noisy:
        rng = np.random.default_rng(case.seed)
        for _ in range(NOISE_RUNS):
            for k, y in enumerate(session.run(None, _perturbed(case, inputs | weights, rng))):
                noise[k] = np.maximum(noise[k], _distance(y, plain[k]))
    tolerances = [_tolerance(case, y, n) for y, n in zip(plain, noise, strict=True)]
    return Expected(_typed(case, plain), tolerances, "onnxruntime")


def _typed(case: Case, values: Sequence[Any]) -> list[Array]:
    """Results in the types that the model declares."""
    result = []
    for out, y in zip(case.proto.graph.output, values, strict=True):
        with np.errstate(all="ignore"):
            result.append(np.asarray(y).astype(onnx.helper.tensor_dtype_to_np_dtype(out.type.tensor_type.elem_type)))
    return result


def standard(case: Case) -> Expected | None:
    """What onnx's reference evaluator computes in float64, None where it cannot."""
    proto = _recast(case.proto, np.float64)
    inputs = {k: a.astype(np.float64) if float_type(a.dtype) else a for k, a in case.inputs.items()}
    rng = np.random.default_rng(case.seed)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            evaluator = ReferenceEvaluator(proto)
            wide = evaluator.run(None, inputs)
            moved = evaluator.run(
                None, {k: _shaken(a, rng, _eps(case)) if k in case.noisy else a for k, a in inputs.items()}
            )
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return None
    values = _typed(case, wide)
    tolerances = [_tolerance(case, v, _distance(z, y)) for v, y, z in zip(values, wide, moved, strict=True)]
    return Expected(values, tolerances, "the standard")


def disagreement(case: Case, results: list[Array], reference: Expected) -> str | None:
    """What is wrong with results, None if nothing is."""
    for out, got, want, allowed in zip(
        case.proto.graph.output, results, reference.values, reference.tolerances, strict=True
    ):
        problem = _compare(np.asarray(got), np.asarray(want), allowed)
        if problem is not None:
            return f"output {out.name}: {problem} ({reference.source})"
    return None


def _compare(got: Array, want: Array, allowed: Array) -> str | None:
    if got.dtype != want.dtype:
        return f"dtype {got.dtype}, expected {want.dtype}"
    if got.shape != want.shape:
        return f"shape {got.shape}, expected {want.shape}"
    if not float_type(want.dtype):
        wrong = got != want
    else:
        with np.errstate(all="ignore"):
            far = ~(np.abs(got.astype(np.float64) - want.astype(np.float64)) <= allowed)
            wrong = far & (got != want) & ~(np.isnan(got) & np.isnan(want))
        # where noise turns a number into none, nothing can be said
        wrong &= ~np.isnan(allowed)
    if not wrong.any():
        return None
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    limit = f", allowed ±{allowed[at]:.3g}" if float_type(want.dtype) else ""
    return (
        f"{int(wrong.sum())} of {wrong.size} elements differ, first at {at}: {got[at]!r}, expected {want[at]!r}{limit}"
    )


def _tolerance(case: Case, y: Any, noise: Array) -> Array:
    y = np.asarray(y)
    if not float_type(y.dtype) or case.exact:
        return np.zeros(y.shape)
    # a type that onnxruntime has no kernel for may have been computed in a coarser one
    eps = max(_eps(case), float(np.finfo(y.dtype).eps))
    finite = noise[np.isfinite(noise)]
    spread = float(finite.max()) if finite.size else 0.0
    with np.errstate(all="ignore"):
        size = np.where(np.isfinite(y), np.abs(y.astype(np.float64)), 0.0)
        factor, units = (HALF_FACTOR, HALF_UNITS) if eps > COARSE else (NOISE_FACTOR, RELATIVE_UNITS)
        # what saturates and then cancels is rounded as the largest values are, though noise in the data does not show
        rounding = eps * (units * size + TENSOR_UNITS * float(size.max(initial=0.0)))
        allowed = factor * spread + rounding + float(np.finfo(y.dtype).tiny)
    return np.where(np.isfinite(noise), allowed, np.nan)


def _distance(a: Any, b: Any) -> Array:
    """How far results lie apart; NaN where one is a number and the other is none, or another infinity."""
    a, b = np.asarray(a), np.asarray(b)
    if not float_type(a.dtype):
        return np.where(a == b, 0.0, np.nan)
    wide, other = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(all="ignore"):
        same = (wide == other) | (np.isnan(wide) & np.isnan(other))
        return np.where(same, 0.0, np.where(np.isfinite(wide) & np.isfinite(other), np.abs(wide - other), np.nan))


def _eps(case: Case) -> float:
    """The coarsest rounding in a model."""
    if any(a.i == TensorProto.BFLOAT16 for n in case.proto.graph.node if n.op_type == "Cast" for a in n.attribute):
        return BFLOAT_EPS
    types = {a.dtype for a in case.inputs.values()}
    types |= {np.dtype(onnx.helper.tensor_dtype_to_np_dtype(t.data_type)) for t in case.proto.graph.initializer}
    for node in case.proto.graph.node:
        for a in node.attribute:
            if node.op_type == "Cast" and a.name == "to":
                types.add(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(a.i)))
    return max((float(np.finfo(t).eps) for t in types if float_type(t)), default=float(np.finfo(np.float32).eps))


def _shaken(a: Array, rng: np.random.Generator, eps: float) -> Array:
    factor = 1.0 + NOISE_UNITS * eps * rng.uniform(-1.0, 1.0, a.shape)
    return np.asarray(np.asarray(a.astype(np.float64) * factor).astype(a.dtype))


def _perturbed(case: Case, given: dict[str, Array], rng: np.random.Generator) -> dict[str, Array]:
    """Noise as large as the coarsest rounding in the model."""
    eps = _eps(case)
    return {
        k: _shaken(a, rng, max(eps, float(np.finfo(a.dtype).eps))) if k in case.noisy else a for k, a in given.items()
    }


def _session(case: Case, model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """A session whose noisy constants can be given anew."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model)
    for t in model.graph.initializer:
        if t.name in case.noisy:
            proto.graph.input.append(onnx.helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _recast(proto: onnx.ModelProto, dtype: Any) -> onnx.ModelProto:
    """The model with all its floats in one type."""
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    recast = onnx.ModelProto()
    recast.CopyFrom(proto)
    for v in (*recast.graph.input, *recast.graph.output):
        if v.type.tensor_type.elem_type in floats:
            v.type.tensor_type.elem_type = kind
    for t in recast.graph.initializer:
        if t.data_type in floats:
            t.CopyFrom(numpy_helper.from_array(np.asarray(numpy_helper.to_array(t).astype(dtype)), t.name))
    for node in recast.graph.node:
        for a in node.attribute:
            if node.op_type == "Cast" and a.name == "to" and a.i in floats:
                a.i = kind
            elif a.HasField("t") and a.t.data_type in floats:
                a.t.CopyFrom(numpy_helper.from_array(np.asarray(numpy_helper.to_array(a.t).astype(dtype))))
    return recast
