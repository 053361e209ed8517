"""From scheduled kernels to an artifact: object code, packed constants, memory and the native entry point."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import tcompiler
from tcompiler.backends.llvm.build import BuiltKernel, build_kernels, build_text, kernel_hash
from tcompiler.backends.llvm.entry import Call, Place, entry_text
from tcompiler.backends.llvm.run import call_kernel
from tcompiler.errors import InternalError
from tcompiler.ir.graph.grammar import Constant, TensorType, values
from tcompiler.ir.loop.grammar import Buffer, Function, buffer_table
from tcompiler.ir.scalar.grammar import as_int
from tcompiler.lower.pack import pack_function
from tcompiler.lower.work import executed_flops, program_bytes, program_flops
from tcompiler.plan.arena import Lifetime, plan_arena
from tcompiler.runtime.manifest import FORMAT_VERSION, ConstantEntry, KernelEntry, Manifest, TensorEntry
from tcompiler.runtime.memory import aligned_bytes, lay_out_constants, view_constant
from tcompiler.runtime.package import Artifact
from tcompiler.schedule.primitives.storage import mapped_shape, parse_index_map
from tcompiler.target.target import Target
from tcompiler.transform.group import VIEW

if TYPE_CHECKING:
    from tcompiler.pipeline import Compilation, Kernel

Array = NDArray[Any]
ENTRY = "tc_model"


@dataclass(slots=True)
class _Packing:
    """How a kernel wants a constant input: the steps of its layout, and the prepare kernels by step."""

    steps: list[tuple[Function, str]] = field(default_factory=list)


def assemble(c: Compilation) -> Artifact:
    """Compiles the kernels of a scheduled model and puts the artifact together."""
    scheduled: dict[str, Function] = {}
    for k in c.kernels.values():
        assert k.schedule is not None
        scheduled[k.name] = k.schedule.function
    keys = {name: kernel_hash(f, c.target) for name, f in scheduled.items()}
    packings = {name: _packing(k, c.target) for name, k in c.kernels.items()}
    functions = {keys[name]: f for name, f in scheduled.items()}
    for packing in packings.values():
        for steps in packing.values():
            functions.update({key: f for f, key in steps.steps})
    with c.watched("llvm", lambda: "\n".join(b.code.text for b in built.values())):
        built = build_kernels(functions, c.target, c.target.cores)
    with c.watched("prepare", lambda: ""):
        recipes, names = _wanted(c, packings)
        entries, size = lay_out_constants({name: (r.constant.type.dtype.name, r.shape) for name, r in recipes.items()})
        block = _prepare(c, recipes, built, entries, size)
    with c.watched("plan", lambda: ""):
        return _link(c, {n: built[k] for n, k in keys.items()}, names, entries, block)


def _packing(kernel: Kernel, target: Target) -> dict[str, _Packing]:
    """The layouts that a schedule asked of its constant inputs, as prepare functions."""
    assert kernel.schedule is not None and kernel.function is not None
    result: dict[str, _Packing] = {}
    buffers = buffer_table(kernel.function)
    for step in kernel.schedule.trace.steps:
        if step.primitive != "transform_layout" or step.args[0] not in kernel.function.inputs:
            continue
        name = str(step.args[0])
        index_map = parse_index_map(str(step.args[1]))
        source = buffers[name]
        packed = Buffer(name, source.dtype, mapped_shape(source, index_map))
        function = pack_function(source, packed, index_map)
        result.setdefault(name, _Packing()).steps.append((function, kernel_hash(function, target)))
        buffers[name] = packed
    for name in result:
        final = buffer_table(kernel.schedule.function)[name].shape
        if final != buffers[name].shape:
            raise InternalError(f"kernel {kernel.name} takes {name} as {final}, packed as {buffers[name].shape}")
    return result


def _dims(shape: Sequence[Any]) -> tuple[int, ...]:
    result = []
    for e in shape:
        size = as_int(e)
        if size is None:
            raise InternalError(f"extent {e!r} is symbolic behind lowering")
        result.append(size)
    return tuple(result)


@dataclass(frozen=True, slots=True)
class _Recipe:
    """A constant as kernels want it: its data, and the prepare functions to run on them in order."""

    constant: Constant
    steps: Sequence[tuple[Function, str]]

    @property
    def shape(self) -> tuple[int, ...]:
        if not self.steps:
            return self.constant.type.dims()
        return _dims(buffer_table(self.steps[-1][0])["packed"].shape)


def _wanted(
    c: Compilation, packings: Mapping[str, Mapping[str, _Packing]]
) -> tuple[dict[str, _Recipe], dict[tuple[int, str], str]]:
    """What is to be prepared: recipes by name, and per step and program input the name of its constant."""
    by_name = {k.name: k for k in c.graph.constants}
    root = _roots(c)
    recipes: dict[str, _Recipe] = {}
    names: dict[tuple[int, str], str] = {}
    for at, step in enumerate(c.steps):
        kernel = c.kernels[step.kernel]
        for formal, actual in zip((t.name for t in kernel.program.inputs), step.inputs, strict=True):
            constant = by_name.get(root(actual))
            if constant is None:
                continue
            # What is looked at in another shape has no layout of its own.
            packing = packings[step.kernel].get(formal) if actual in by_name else None
            steps = [] if packing is None else packing.steps
            chain = "".join(key for _, key in steps)
            name = f"{constant.sha256[:32]}{'.' + chain[:32] if chain else ''}.{constant.type.dtype}"
            names[at, formal] = name
            recipes.setdefault(name, _Recipe(constant, steps))
    return recipes, names


def _prepare(
    c: Compilation,
    recipes: Mapping[str, _Recipe],
    built: Mapping[str, BuiltKernel],
    entries: Sequence[ConstantEntry],
    size: int,
) -> Array:
    """Runs the prepare functions; each writes its constant straight to its place in the block, [size] of uint8."""
    block = aligned_bytes(size)

    scratch = threading.local()

    def aligned(array: Array) -> Array:
        """An array at an address that kernels take: a view of a file's bytes may lie anywhere."""
        if array.flags.c_contiguous and array.flags.aligned:
            return array
        # One piece of memory for all of a thread's: fresh pages cost more than the copy.
        kept = getattr(scratch, "block", None)
        if kept is None or kept.nbytes < array.nbytes:
            kept = scratch.block = aligned_bytes(array.nbytes)
        copy = kept[: array.nbytes].view(array.dtype).reshape(array.shape)
        copy[...] = array
        return copy

    def fill(entry: ConstantEntry) -> None:
        recipe, place = recipes[entry["name"]], view_constant(block, entry)
        array: Array = c.module.constants.typed(recipe.constant)
        if not recipe.steps:
            place[...] = array.view(place.dtype)  # bf16 travels as its bits
            return
        array = aligned(array)
        for k, (function, key) in enumerate(recipe.steps):
            packed = buffer_table(function)["packed"]
            last = k == len(recipe.steps) - 1
            result = place if last else np.empty(_dims(packed.shape), packed.dtype.numpy)
            call_kernel(built[key], [array, result])
            array = result

    with ThreadPoolExecutor(c.target.cores) as pool:
        for _ in pool.map(fill, entries):
            pass
    block.flags.writeable = False
    return block


def _roots(c: Compilation) -> Callable[[str], str]:
    """What a value is in memory: that which it only looks at in another shape."""
    alias = {n.outputs[0].name: n.inputs[0] for n in c.graph.nodes if n.group == VIEW}

    def root(name: str) -> str:
        while name in alias:
            name = alias[name]
        return name

    return root


def _link(
    c: Compilation,
    built: Mapping[str, BuiltKernel],
    constant_names: Mapping[tuple[int, str], str],
    entries: list[ConstantEntry],
    block: Array,
) -> Artifact:
    """Places every buffer, and makes manifest and entry point."""
    types: Mapping[str, TensorType] = dict(values(c.graph))
    fixed = {k.name for k in c.graph.constants}
    inputs = {v.name: k for k, v in enumerate(c.graph.inputs)}
    root = _roots(c)
    leaving = {root(v.name): k for k, v in enumerate(c.graph.outputs)}
    offset_of = {e["name"]: e["offset"] for e in entries}
    lifetimes: dict[str, tuple[int, int, int]] = {}
    workspaces: list[Lifetime] = []
    for at, step in enumerate(c.steps):
        for name in (*step.inputs, *step.outputs):
            r = root(name)
            if r in inputs or r in fixed or r in leaving:
                continue
            first, _, size = lifetimes.get(r, (at, at, _bytes(types[r])))
            lifetimes[r] = (first, at, size)
        for k, size in enumerate(built[step.kernel].code.workspaces):
            workspaces.append(Lifetime(f"workspace {at}.{k}", size, at, at))
    plan = plan_arena([*(Lifetime(n, size, a, b) for n, (a, b, size) in lifetimes.items()), *workspaces])

    def place(at: int, formal: str, actual: str) -> Place:
        known = constant_names.get((at, formal))
        if known is not None:
            return ("const", 0, offset_of[known])
        r = root(actual)
        if r in inputs:
            return ("input", inputs[r], 0)
        if r in leaving:
            return ("output", leaving[r], 0)
        return ("arena", 0, plan.offsets[r])

    calls: list[Call] = []
    for at, step in enumerate(c.steps):
        kernel, code = c.kernels[step.kernel], built[step.kernel].code
        # by position: kernels of equal structure share code, whatever their buffers are called
        formals = (*(t.name for t in kernel.program.inputs), *kernel.program.outputs)
        args = [place(at, f, v) for f, v in zip(formals, (*step.inputs, *step.outputs), strict=True)]
        args += [("arena", 0, plan.offsets[f"workspace {at}.{k}"]) for k in range(len(code.workspaces))]
        calls.append(Call(code.symbol, tuple(args)))
    text = entry_text(ENTRY, calls, len(c.graph.inputs))
    objects = {code.code.symbol: code.object_bytes for code in built.values()}
    objects[ENTRY] = build_text(text, c.target)
    texts = dict(c.texts)
    for name, b in built.items():
        texts[f"llvm/{name}"] = b.code.text
    texts["llvm/entry"] = text
    manifest: Manifest = {
        "format_version": FORMAT_VERSION,
        "compiler_version": tcompiler.__version__,
        "target": {"triple": c.target.triple, "cpu": c.target.cpu, "features": list(c.target.features)},
        "entry": ENTRY,
        "threads": c.threads,
        "arena_bytes": plan.total,
        "arena_lower_bound": plan.lower_bound,
        "scratch_bytes": max((b.code.scratch_bytes for b in built.values()), default=0),
        "constants_bytes": len(block),
        "constants": entries,
        "inputs": [_tensor(v.label or v.name, v.type) for v in c.graph.inputs],
        "outputs": [_tensor(v.label or v.name, v.type) for v in c.graph.outputs],
        "kernels": [_kernel(c.kernels[n], b) for n, b in built.items()],
        "calls": [{"kernel": call.kernel, "args": [_argument(a) for a in call.args]} for call in calls],
        "stages": list(dict.fromkeys([t.split("/")[0] for t in texts])),
    }
    constants = {e["name"]: view_constant(block, e) for e in entries}
    return Artifact(manifest, objects, constants, texts, block)


def _argument(a: Place) -> list[str | int]:
    kind, which, offset = a
    if kind in ("arena", "const"):
        return [kind, offset]
    return [kind, which, offset] if offset else [kind, which]


def _bytes(t: TensorType) -> int:
    size = t.dtype.bytes
    for e in _dims(t.layout.shape if t.layout is not None else t.shape):
        size *= e
    return size


def _tensor(name: str, t: TensorType) -> TensorEntry:
    return {"name": name, "dtype": t.dtype.name, "shape": list(t.dims())}


def _kernel(kernel: Kernel, built: BuiltKernel) -> KernelEntry:
    assert kernel.schedule is not None
    return {
        "name": kernel.name,
        "symbol": built.code.symbol,
        "object": built.code.symbol,
        "flops": program_flops(kernel.program),
        "executed_flops": executed_flops(kernel.schedule.function),
        "bytes": program_bytes(kernel.program),
    }
