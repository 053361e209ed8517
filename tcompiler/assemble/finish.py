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
from tcompiler.target.named import maker
from tcompiler.target.target import Target

if TYPE_CHECKING:
    from tcompiler.pipeline import Kernel
    from tcompiler.schedule.schedule import Schedule


def finish(
    kernel: Kernel, texts: Mapping[str, str], target: Target
) -> tuple[FinishedKernel, dict[Target, dict[str, Function]]]:
    """Says what the artifact needs of a scheduled kernel.

    Args:
        kernel: The kernel.
        texts: The model's texts, by "stage/kernel".
        target: The machine.

    Returns:
        The finished kernel, and by their targets and keys the functions whose objects it needs.

    Raises:
        InternalError: If its schedule takes a constant in another layout than its steps say.
    """
    assert kernel.schedule is not None and kernel.function is not None
    found = hoisted(kernel.schedule.function, kernel.constants)
    function = found.function
    key = kernel_hash(function, target)
    preparing = maker(target)
    functions: dict[Target, dict[str, Function]] = {target: {key: function}}
    packings = {}
    steps_of = packing_functions(kernel.function, kernel.schedule)
    before = {name: tuple(steps) for name, steps in steps_of.items()}
    for name, last in found.packs.items():
        steps_of[name] = [*before.get(found.sources.get(name, name), ()), last]
    for name, steps in steps_of.items():
        keys = [kernel_hash(f, preparing) for f in steps]
        functions.setdefault(preparing, {}).update(zip(keys, steps, strict=True))
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


def packing_functions(function: Function, schedule: Schedule) -> dict[str, list[Function]]:
    """The functions that bring inputs into the layouts which a schedule chose, in order.

    Args:
        function: The loop program that was scheduled.
        schedule: Its schedule.

    Returns:
        Functions from one buffer to another, "packed", by input.

    Raises:
        InternalError: If the schedule takes an input in another layout than its steps say.
    """
    result: dict[str, list[Function]] = {}
    buffers = buffer_table(function)
    for step in schedule.trace.steps:
        if step.primitive != "transform_layout" or step.args[0] not in function.inputs:
            continue
        name = str(step.args[0])
        index_map = parse_index_map(str(step.args[1]))
        source = buffers[name]
        packed = Buffer(name, source.dtype, mapped_shape(source, index_map))
        result.setdefault(name, []).append(pack_function(source, packed, index_map))
        buffers[name] = packed
    final = buffer_table(schedule.function)
    for name in result:
        if final[name].shape != buffers[name].shape:
            raise InternalError(
                f"kernel {function.name} takes {name} as {final[name].shape}, packed as {buffers[name].shape}"
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
