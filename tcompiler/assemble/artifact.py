"""From scheduled kernels to an artifact: object code, packed constants, memory and the native entry point."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import tcompiler
from tcompiler.assemble.finished import KERNEL_STAGES, FinishedKernel
from tcompiler.assemble.prepare import Array, prepare, recipes
from tcompiler.assemble.records import GroupRecord
from tcompiler.backends.llvm.build import BuiltKernel, build_kernels, build_text
from tcompiler.backends.llvm.entry import Call, Place, entry_text
from tcompiler.errors import InternalError
from tcompiler.ir.graph.grammar import TensorType, values
from tcompiler.ir.scalar.grammar import as_int
from tcompiler.ops.registry import get as operator
from tcompiler.plan.arena import Lifetime, plan_arena
from tcompiler.runtime.manifest import FORMAT_VERSION, ConstantEntry, KernelEntry, Manifest, TensorEntry
from tcompiler.runtime.memory import lay_out_constants, view_constant
from tcompiler.runtime.package import Artifact
from tcompiler.target.target import Target
from tcompiler.transform.definitions import Definitions
from tcompiler.transform.group import VIEW
from tcompiler.transform.parts import places

if TYPE_CHECKING:
    from tcompiler.ir.loop.grammar import Function
    from tcompiler.pipeline import Compilation

ENTRY = "tc_model"


def assemble(c: Compilation) -> Artifact:
    """Compiles the kernels of a scheduled model and puts the artifact together."""
    finished = dict(c.finished)
    functions: dict[Target, dict[str, Function]] = {}
    if c.kernels:
        # What finishes a kernel is not loaded where all of them were found finished.
        from tcompiler.assemble.finish import finish

        for kernel in c.kernels.values():
            finished[kernel.name], needed = finish(kernel, c.texts, c.target)
            for target, some in needed.items():
                functions.setdefault(target, {}).update(some)
    kernels = {name: finished[name] for name in dict.fromkeys(s.kernel for s in c.steps)}
    built: dict[str, BuiltKernel] = {}

    def text() -> str:
        return "\n".join(
            built[key].code.text for key in dict.fromkeys(k for f in kernels.values() for k in f.objects())
        )

    with c.watched("llvm", text):
        known = {} if c.records is None else c.records.built
        built.update(known)
        for target, some in functions.items():
            built.update(build_kernels({k: f for k, f in some.items() if k not in known}, target, c.target.cores))
        _keep(c, finished)
    with c.watched("prepare", lambda: ""):
        wanted, names = recipes(c, kernels, _roots(c))
        entries, size = lay_out_constants({name: (r.dtype, r.shape) for name, r in wanted.items()})
        block = prepare(wanted, c.module.constants, built, entries, size, c.target.cores)
    with c.watched("plan", lambda: ""):
        return _link(c, kernels, {n: built[f.object] for n, f in kernels.items()}, names, entries, block)


def _keep(c: Compilation, finished: Mapping[str, FinishedKernel]) -> None:
    """Puts the kernels that were not found finished into the cache."""
    for kernel in c.kernels.values():
        if c.records is not None and kernel.key is not None:
            done = finished[kernel.name]
            c.records.put(kernel.key, GroupRecord(kernel.same, done.inputs, done.outputs, done))


def _dims(shape: Sequence[Any]) -> tuple[int, ...]:
    result = []
    for e in shape:
        size = as_int(e)
        if size is None:
            raise InternalError(f"extent {e!r} is symbolic behind lowering")
        result.append(size)
    return tuple(result)


def _roots(c: Compilation) -> Callable[[str], tuple[str, int]]:
    """What a value is in memory: the value that it lies in, and how many elements from its beginning."""
    within = places(c.graph, Definitions(c.graph, operator), VIEW)

    def root(name: str) -> tuple[str, int]:
        offset = 0
        while name in within:
            offset += within[name].offset
            name = within[name].around
        return name, offset

    return root


def _link(
    c: Compilation,
    kernels: Mapping[str, FinishedKernel],
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
    leaving = {root(v.name)[0]: k for k, v in enumerate(c.graph.outputs)}
    offset_of = {e["name"]: e["offset"] for e in entries}
    lifetimes: dict[str, tuple[int, int, int]] = {}
    workspaces: list[Lifetime] = []
    written = {*inputs, *fixed}
    for at, step in enumerate(c.steps):
        early = [name for name in step.inputs if root(name)[0] not in written]
        if early:
            raise InternalError(f"{step.kernel} reads {', '.join(early)}, which no step before it has written")
        written.update(root(name)[0] for name in step.outputs)
        for name in (*step.inputs, *step.outputs):
            r, _ = root(name)
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
        r, offset = root(actual)
        offset *= types[r].dtype.bytes
        if r in inputs:
            return ("input", inputs[r], offset)
        if r in leaving:
            return ("output", leaving[r], offset)
        return ("arena", 0, plan.offsets[r] + offset)

    calls: list[Call] = []
    for at, step in enumerate(c.steps):
        kernel, code = kernels[step.kernel], built[step.kernel].code
        # by position: kernels of equal structure share code, whatever their buffers are called
        fed = [*kernel.fed(step.inputs), *zip(kernel.outputs, step.outputs, strict=True)]
        args = [place(at, formal, actual) for formal, actual in fed]
        args += [("arena", 0, plan.offsets[f"workspace {at}.{k}"]) for k in range(len(code.workspaces))]
        calls.append(Call(code.symbol, tuple(args)))
    text = entry_text(ENTRY, calls, len(c.graph.inputs))
    objects = {code.code.symbol: code.object_bytes for code in built.values()}
    objects[ENTRY] = build_text(text, c.target)
    # in one order, wherever the kernels come from
    texts: dict[str, str] = {stage: c.texts[stage] for stage in ("imported", "graph") if stage in c.texts}
    for stage in KERNEL_STAGES:
        texts.update({f"{stage}/{name}": kernel.texts[stage] for name, kernel in kernels.items()})
    texts.update({f"llvm/{name}": b.code.text for name, b in built.items()})
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
        "kernels": [_kernel(kernels[n], b) for n, b in built.items()],
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


def _kernel(kernel: FinishedKernel, built: BuiltKernel) -> KernelEntry:
    return {
        "name": kernel.name,
        "symbol": built.code.symbol,
        "object": built.code.symbol,
        "flops": kernel.flops,
        "executed_flops": kernel.executed_flops,
        "bytes": kernel.bytes,
    }
