"""From a scheduled kernel to a finished one: its key, the packing of its constants, its amounts of work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tcompiler.assemble.finished import KERNEL_STAGES, FinishedKernel, Packing
from tcompiler.backends.llvm.build import kernel_hash
from tcompiler.errors import InternalError
from tcompiler.ir.loop.grammar import Buffer, Function, buffer_table
from tcompiler.ir.scalar.grammar import as_int
from tcompiler.lower.pack import hoisted, pack_function
from tcompiler.lower.work import executed_flops, program_bytes, program_flops
from tcompiler.schedule.primitives.storage import mapped_shape, parse_index_map
from tcompiler.target.target import Target

if TYPE_CHECKING:
    from tcompiler.pipeline import Kernel


def finish(kernel: Kernel, texts: Mapping[str, str], target: Target) -> tuple[FinishedKernel, dict[str, Function]]:
    """Says what the artifact needs of a scheduled kernel.

    Args:
        kernel: The kernel.
        texts: The model's texts, by "stage/kernel".
        target: The machine.

    Returns:
        The finished kernel, and by their keys the functions whose objects it needs.

    Raises:
        InternalError: If its schedule takes a constant in another layout than its steps say.
    """
    assert kernel.schedule is not None
    found = hoisted(kernel.schedule.function, kernel.constants)
    function = found.function
    key = kernel_hash(function, target)
    functions = {key: function}
    packings = {}
    steps_of = _packings(kernel)
    before = {name: tuple(steps) for name, steps in steps_of.items()}
    for name, last in found.packs.items():
        steps_of[name] = [*before.get(found.sources.get(name, name), ()), last]
    for name, steps in steps_of.items():
        keys = [kernel_hash(f, target) for f in steps]
        functions.update(zip(keys, steps, strict=True))
        packings[name] = tuple(
            Packing(k, _packed_shape(f), buffer_table(f)["packed"].dtype.name) for k, f in zip(keys, steps, strict=True)
        )
    finished = FinishedKernel(
        kernel.name,
        {stage: texts[f"{stage}/{kernel.name}"] for stage in KERNEL_STAGES},
        tuple(t.name for t in kernel.program.inputs),
        kernel.program.outputs,
        key,
        packings,
        found.sources,
        program_flops(kernel.program),
        executed_flops(function),
        program_bytes(kernel.program),
    )
    return finished, functions


def _packings(kernel: Kernel) -> dict[str, list[Function]]:
    """The functions that bring inputs into the layouts which the schedule chose, in order."""
    assert kernel.schedule is not None and kernel.function is not None
    result: dict[str, list[Function]] = {}
    buffers = buffer_table(kernel.function)
    for step in kernel.schedule.trace.steps:
        if step.primitive != "transform_layout" or step.args[0] not in kernel.function.inputs:
            continue
        name = str(step.args[0])
        index_map = parse_index_map(str(step.args[1]))
        source = buffers[name]
        packed = Buffer(name, source.dtype, mapped_shape(source, index_map))
        result.setdefault(name, []).append(pack_function(source, packed, index_map))
        buffers[name] = packed
    final = buffer_table(kernel.schedule.function)
    for name in result:
        if final[name].shape != buffers[name].shape:
            raise InternalError(
                f"kernel {kernel.name} takes {name} as {final[name].shape}, packed as {buffers[name].shape}"
            )
    return result


def _packed_shape(function: Function) -> tuple[int, ...]:
    result = []
    for e in buffer_table(function)["packed"].shape:
        size = as_int(e)
        if size is None:
            raise InternalError(f"extent {e!r} is symbolic behind lowering")
        result.append(size)
    return tuple(result)
