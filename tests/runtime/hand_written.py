"""A model in LLVM text written by hand: y = relu(x + c), its one kernel a parallel loop; and z = y * y."""

from __future__ import annotations

from functools import cache

import llvmlite.binding as llvm
import numpy as np

from tcompiler.runtime import loader
from tcompiler.runtime.manifest import FORMAT_VERSION, Manifest
from tcompiler.runtime.memory import lay_out_constants
from tcompiler.runtime.package import Artifact

HEADER = """
%Context = type { ptr, i64, ptr, i64 }
"""

# Closure: { x, c, y }. Each thread takes the elements [n*t/T, n*(t+1)/T) and marks its scratch.
ADD_RELU = """
define internal void @body(ptr %ctx, ptr %closure, i64 %t, i64 %team) {
  %c_at = getelementptr ptr, ptr %closure, i64 1
  %y_at = getelementptr ptr, ptr %closure, i64 2
  %x = load ptr, ptr %closure
  %c = load ptr, ptr %c_at
  %y = load ptr, ptr %y_at
  %scratch_at = getelementptr %Context, ptr %ctx, i64 0, i32 2
  %stride_at = getelementptr %Context, ptr %ctx, i64 0, i32 3
  %scratch = load ptr, ptr %scratch_at
  %stride = load i64, ptr %stride_at
  %mine_at = mul i64 %t, %stride
  %mine = getelementptr i8, ptr %scratch, i64 %mine_at
  store i64 %t, ptr %mine
  %a = mul i64 COUNT, %t
  %low = sdiv i64 %a, %team
  %t1 = add i64 %t, 1
  %b = mul i64 COUNT, %t1
  %high = sdiv i64 %b, %team
  br label %head
head:
  %i = phi i64 [ %low, %0 ], [ %next, %step ]
  %more = icmp slt i64 %i, %high
  br i1 %more, label %step, label %done
step:
  %x_i = getelementptr float, ptr %x, i64 %i
  %c_i = getelementptr float, ptr %c, i64 %i
  %y_i = getelementptr float, ptr %y, i64 %i
  %xv = load float, ptr %x_i
  %cv = load float, ptr %c_i
  %sum = fadd float %xv, %cv
  %negative = fcmp olt float %sum, 0.0
  %relu = select i1 %negative, float 0.0, float %sum
  store float %relu, ptr %y_i
  %next = add i64 %i, 1
  br label %head
done:
  ret void
}

define void @add_relu(ptr %ctx, ptr %buffers, ptr %scalars) {
  %parallel = load ptr, ptr %ctx
  call void %parallel(ptr %ctx, ptr @body, ptr %buffers, i64 COUNT)
  ret void
}
"""

SQUARE = """
define void @square(ptr %ctx, ptr %buffers, ptr %scalars) {
  %z_at = getelementptr ptr, ptr %buffers, i64 1
  %y = load ptr, ptr %buffers
  %z = load ptr, ptr %z_at
  br label %head
head:
  %i = phi i64 [ 0, %0 ], [ %next, %step ]
  %more = icmp slt i64 %i, COUNT
  br i1 %more, label %step, label %done
step:
  %y_i = getelementptr float, ptr %y, i64 %i
  %z_i = getelementptr float, ptr %z, i64 %i
  %v = load float, ptr %y_i
  %square = fmul float %v, %v
  store float %square, ptr %z_i
  %next = add i64 %i, 1
  br label %head
done:
  ret void
}
"""

# Slots: arena, constants, x, y, z. relu(x + c) goes to the arena at 64 and from there, by memcpy, to y.
ENTRY = """
declare void @add_relu(ptr, ptr, ptr)
declare void @square(ptr, ptr, ptr)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)

define void @model(ptr %ctx, ptr %slots, ptr %scalars) {
  %first = alloca [3 x ptr]
  %second = alloca [2 x ptr]
  %constants_at = getelementptr ptr, ptr %slots, i64 1
  %x_at = getelementptr ptr, ptr %slots, i64 2
  %y_at = getelementptr ptr, ptr %slots, i64 3
  %z_at = getelementptr ptr, ptr %slots, i64 4
  %arena = load ptr, ptr %slots
  %constants = load ptr, ptr %constants_at
  %x = load ptr, ptr %x_at
  %y = load ptr, ptr %y_at
  %z = load ptr, ptr %z_at
  %c = getelementptr i8, ptr %constants, i64 C_OFFSET
  %temporary = getelementptr i8, ptr %arena, i64 64
  %first1 = getelementptr ptr, ptr %first, i64 1
  %first2 = getelementptr ptr, ptr %first, i64 2
  %second1 = getelementptr ptr, ptr %second, i64 1
  store ptr %x, ptr %first
  store ptr %c, ptr %first1
  store ptr %temporary, ptr %first2
  call void @add_relu(ptr %ctx, ptr %first, ptr null)
  call void @llvm.memcpy.p0.p0.i64(ptr %y, ptr %temporary, i64 BYTES, i1 false)
  store ptr %temporary, ptr %second
  store ptr %z, ptr %second1
  call void @square(ptr %ctx, ptr %second, ptr null)
  ret void
}
"""

PADDING = np.arange(5, dtype=np.int8)
"""A first constant that nobody reads: the one that is read then lies at offset 64."""


@cache
def compile_text(text: str, opt: int = 2) -> bytes:
    """Make position-independent object code for this machine."""
    loader.initialize()
    machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        cpu=llvm.get_host_cpu_name(), opt=opt, reloc="pic", codemodel="small"
    )
    module = llvm.parse_assembly(text)
    module.verify()
    return bytes(machine.emit_object(module))


def make_artifact(
    shape: tuple[int, ...] = (3, 5), threads: int = 2, c: np.ndarray | None = None, profiled: bool = True
) -> Artifact:
    """The model for one shape; c is 0, -1, 2, -3, ... unless given."""
    count = int(np.prod(shape))
    if c is None:
        c = (np.arange(count, dtype=np.float32) * np.where(np.arange(count) % 2, -1, 1)).reshape(shape)
        c = c.astype(np.float32)
    constants = {"padding": PADDING, "c": c}
    entries, size = lay_out_constants({"padding": ("i8", PADDING.shape), "c": ("f32", c.shape)})
    values = {"COUNT": str(count), "BYTES": str(4 * count), "C_OFFSET": str(entries[1]["offset"])}

    def compiled(text: str) -> bytes:
        for name, value in values.items():
            text = text.replace(name, value)
        return compile_text(HEADER + text)

    manifest: Manifest = {
        "format_version": FORMAT_VERSION,
        "compiler_version": "0.1.0",
        "target": {"triple": llvm.get_process_triple(), "cpu": llvm.get_host_cpu_name(), "features": ["+sse2"]},
        "entry": "model",
        "threads": threads,
        "arena_bytes": 64 + 4 * count,
        "arena_lower_bound": 4 * count,
        "scratch_bytes": 8,
        "constants_bytes": size,
        "constants": entries,
        "inputs": [{"name": "x", "dtype": "f32", "shape": list(shape)}],
        "outputs": [
            {"name": "y", "dtype": "f32", "shape": list(shape)},
            {"name": "z", "dtype": "f32", "shape": list(shape)},
        ],
        "kernels": [
            {
                "name": "add_relu",
                "symbol": "add_relu",
                "object": "add_relu",
                "flops": count,
                "executed_flops": count,
                "bytes": 12 * count,
            },
            {
                "name": "square",
                "symbol": "square",
                "object": "square",
                "flops": count,
                "executed_flops": count,
                "bytes": 8 * count,
            },
        ],
        "calls": [
            {"kernel": "add_relu", "args": [["input", 0], ["const", entries[1]["offset"]], ["output", 0]]},
            {"kernel": "square", "args": [["output", 0], ["output", 1]]},
        ]
        if profiled
        else [],
        "stages": ["graph", "llvm"],
    }
    return Artifact(
        manifest,
        {"add_relu": compiled(ADD_RELU), "square": compiled(SQUARE), "entry": compiled(ENTRY)},
        constants,
        {"graph": "y = relu(x + c)\nz = y * y\n", "llvm/add_relu": ADD_RELU, "llvm/square": SQUARE},
    )


def reference(x: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the model computes, in numpy."""
    y = np.maximum(x + c, np.float32(0))
    return y, y * y
