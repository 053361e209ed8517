"""Compiles a vector function into a loop over arrays, and measures errors in units in the last place."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from numpy.typing import NDArray

from tcompiler.backends.llvm import math
from tcompiler.backends.llvm.math.emit import FLOATS, vector_type

Array = NDArray[Any]
# From here on an f64 rounds to infinity in f32.
LARGEST = (2 - 2.0**-24) * 2.0**127
_ENGINES: list[object] = []


def kernel_ir(name: str, dtype: str, lanes: int, fma: bool = True) -> str:
    """A module with `kernel(x, y, out, n)`; n is a multiple of the lanes."""
    function = math.definition(name, dtype, lanes, fma)
    arity = math.FUNCTIONS[name].arity
    element = FLOATS[dtype]
    kind = vector_type(element, lanes)
    align = 8 if dtype == "f64" else 4
    loads = "".join(
        f"  %p{v} = getelementptr {element}, ptr %{v}, i64 %i\n  %{v}v = load {kind}, ptr %p{v}, align {align}\n"
        for v in ("x", "y")[:arity]
    )
    arguments = ", ".join(f"{kind} %{v}v" for v in ("x", "y")[:arity])
    return (
        "\n".join(function.declarations)
        + f"""
{function.ir}
define void @kernel(ptr %x, ptr %y, ptr noalias %out, i64 %n) {{
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
{loads}  %r = call {kind} @{function.symbol}({arguments})
  %po = getelementptr {element}, ptr %out, i64 %i
  store {kind} %r, ptr %po, align {align}
  %next = add i64 %i, {lanes}
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %end
end:
  ret void
}}
"""
    )


@cache
def compiled(name: str, dtype: str, lanes: int, fma: bool = True, features: str | None = None) -> Callable[..., Array]:
    """The function over arrays of any length; `features` restricts the code to an x86-64-v2 with those."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    cpu = llvm.get_host_cpu_name() if features is None else "x86-64-v2"
    flags = llvm.get_host_cpu_features().flatten() if features is None else features
    machine = target.create_target_machine(cpu=cpu, features=flags, opt=2)
    module = llvm.parse_assembly(kernel_ir(name, dtype, lanes, fma))
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    _ENGINES.append(engine)
    entry = ctypes.CFUNCTYPE(None, *([ctypes.c_void_p] * 3), ctypes.c_int64)(engine.get_function_address("kernel"))
    number = np.dtype(np.float32 if dtype == "f32" else np.float64)

    def call(x: Array, y: Array | None = None) -> Array:
        size = -(-x.size // lanes) * lanes
        inputs = [np.ones(size, number) for _ in range(2)]
        inputs[0][: x.size] = x
        if y is not None:
            inputs[1][: x.size] = y
        out = np.empty(size, number)
        entry(inputs[0].ctypes.data, inputs[1].ctypes.data, out.ctypes.data, size)
        return out[: x.size]

    return call


def ulp_errors_f32(got: Array, reference: Array) -> Array:
    """Errors of f32 results against f64 references.

    Args:
        got: Results, f32.
        reference: The right values, f64.

    Returns:
        |got - reference| in units in the last place of the reference. A NaN or an infinity on one side only counts as
        infinitely wrong; a reference that rounds to infinity is infinite.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        binade = (reference.view(np.int64) & (0x7FF << 52)).view(np.float64)
        errors: Array = np.abs(got - reference) / np.maximum(binade * 2.0**-23, 2.0**-149)
        special = ~(np.isfinite(got) & (np.abs(reference) < LARGEST))
    if special.any():
        wanted, found = reference[special], got[special]
        with np.errstate(over="ignore", invalid="ignore"):
            wanted = wanted.astype(np.float32)
        same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
        errors[special] = np.where(same, 0.0, np.inf)
    return errors
