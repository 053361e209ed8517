"""The native `parallel` and `enter` as LLVM text, over each OpenMP runtime and over the calling thread alone."""

from __future__ import annotations

PRELUDE = """
%Context = type { ptr, i64, ptr, i64 }
%Invocation = type { ptr, ptr, ptr, ptr }
%Job = type { ptr, ptr, ptr }                        ; body, context, closure

@default_mxcsr = internal constant i32 8064          ; 0x1F80: nearest, exceptions masked, denormals kept

declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)

; Is the floating-point control (all but the six sticky flags) other than the default? Leaves it in %saved.
define internal i1 @foreign_mxcsr(ptr %saved) alwaysinline {
  call void @llvm.x86.sse.stmxcsr(ptr %saved)
  %value = load i32, ptr %saved
  %control = and i32 %value, -64
  %foreign = icmp ne i32 %control, 8064
  ret i1 %foreign
}

define void @tc_enter(ptr %invocation) {
  %saved = alloca i32
  %at1 = getelementptr %Invocation, ptr %invocation, i64 0, i32 1
  %at2 = getelementptr %Invocation, ptr %invocation, i64 0, i32 2
  %at3 = getelementptr %Invocation, ptr %invocation, i64 0, i32 3
  %function = load ptr, ptr %invocation
  %context = load ptr, ptr %at1
  %buffers = load ptr, ptr %at2
  %scalars = load ptr, ptr %at3
  %foreign = call i1 @foreign_mxcsr(ptr %saved)
  br i1 %foreign, label %guarded, label %plain
plain:
  call void %function(ptr %context, ptr %buffers, ptr %scalars)
  ret void
guarded:
  call void @llvm.x86.sse.ldmxcsr(ptr @default_mxcsr)
  call void %function(ptr %context, ptr %buffers, ptr %scalars)
  call void @llvm.x86.sse.ldmxcsr(ptr %saved)
  ret void
}

define internal void @run_job(ptr %job, i64 %thread, i64 %threads) {
  %saved = alloca i32
  %at1 = getelementptr %Job, ptr %job, i64 0, i32 1
  %at2 = getelementptr %Job, ptr %job, i64 0, i32 2
  %body = load ptr, ptr %job
  %context = load ptr, ptr %at1
  %closure = load ptr, ptr %at2
  %foreign = call i1 @foreign_mxcsr(ptr %saved)
  br i1 %foreign, label %guarded, label %plain
plain:
  call void %body(ptr %context, ptr %closure, i64 %thread, i64 %threads)
  ret void
guarded:
  call void @llvm.x86.sse.ldmxcsr(ptr @default_mxcsr)
  call void %body(ptr %context, ptr %closure, i64 %thread, i64 %threads)
  call void @llvm.x86.sse.ldmxcsr(ptr %saved)
  ret void
}

; min(context.threads, n)
define internal i64 @team_size(ptr %context, i64 %n) alwaysinline {
  %at = getelementptr %Context, ptr %context, i64 0, i32 1
  %threads = load i64, ptr %at
  %few = icmp slt i64 %n, %threads
  %team = select i1 %few, i64 %n, i64 %threads
  ret i64 %team
}
"""

INLINE = (
    PRELUDE
    + """
define void @tc_parallel(ptr %context, ptr %body, ptr %closure, i64 %n) {
  call void %body(ptr %context, ptr %closure, i64 0, i64 1)
  ret void
}
"""
)

GOMP_IMPORTS = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")

# The team may be smaller than asked for (a thread limit, a call from inside somebody's parallel region): the
# partition is computed from the size it really has.
GOMP = (
    PRELUDE
    + """
declare void @GOMP_parallel(ptr, ptr, i32, i32)
declare i32 @omp_get_thread_num()
declare i32 @omp_get_num_threads()

define internal void @team_body(ptr %job) {
  %thread32 = call i32 @omp_get_thread_num()
  %threads32 = call i32 @omp_get_num_threads()
  %thread = sext i32 %thread32 to i64
  %threads = sext i32 %threads32 to i64
  call void @run_job(ptr %job, i64 %thread, i64 %threads)
  ret void
}

define void @tc_parallel(ptr %context, ptr %body, ptr %closure, i64 %n) {
  %job = alloca %Job
  %team = call i64 @team_size(ptr %context, i64 %n)
  %alone = icmp sle i64 %team, 1
  br i1 %alone, label %inline, label %fork
inline:
  call void %body(ptr %context, ptr %closure, i64 0, i64 1)
  ret void
fork:
  %at1 = getelementptr %Job, ptr %job, i64 0, i32 1
  %at2 = getelementptr %Job, ptr %job, i64 0, i32 2
  store ptr %body, ptr %job
  store ptr %context, ptr %at1
  store ptr %closure, ptr %at2
  %team32 = trunc i64 %team to i32
  call void @GOMP_parallel(ptr @team_body, ptr %job, i32 %team32, i32 0)
  ret void
}
"""
)

KMP_IMPORTS = ("__kmpc_fork_call", "__kmpc_push_num_threads", "__kmpc_global_thread_num", "omp_get_num_threads")

# The ident_t of LLVM's OpenMP runtime: flag 2 says that a compiler of the __kmpc interface emitted the call.
KMP = (
    PRELUDE
    + """
%Ident = type { i32, i32, i32, i32, ptr }
@source = internal constant [23 x i8] c";unknown;unknown;0;0;;\\00"
@ident = internal global %Ident { i32 0, i32 2, i32 0, i32 22, ptr @source }

declare void @__kmpc_fork_call(ptr, i32, ptr, ...)
declare void @__kmpc_push_num_threads(ptr, i32, i32)
declare i32 @__kmpc_global_thread_num(ptr)
declare i32 @omp_get_num_threads()

define internal void @team_body(ptr %global_thread, ptr %bound_thread, ptr %job) {
  %thread32 = load i32, ptr %bound_thread
  %threads32 = call i32 @omp_get_num_threads()
  %thread = sext i32 %thread32 to i64
  %threads = sext i32 %threads32 to i64
  call void @run_job(ptr %job, i64 %thread, i64 %threads)
  ret void
}

define void @tc_parallel(ptr %context, ptr %body, ptr %closure, i64 %n) {
  %job = alloca %Job
  %team = call i64 @team_size(ptr %context, i64 %n)
  %alone = icmp sle i64 %team, 1
  br i1 %alone, label %inline, label %fork
inline:
  call void %body(ptr %context, ptr %closure, i64 0, i64 1)
  ret void
fork:
  %at1 = getelementptr %Job, ptr %job, i64 0, i32 1
  %at2 = getelementptr %Job, ptr %job, i64 0, i32 2
  store ptr %body, ptr %job
  store ptr %context, ptr %at1
  store ptr %closure, ptr %at2
  %team32 = trunc i64 %team to i32
  %caller = call i32 @__kmpc_global_thread_num(ptr @ident)
  call void @__kmpc_push_num_threads(ptr @ident, i32 %caller, i32 %team32)
  call void (ptr, i32, ptr, ...) @__kmpc_fork_call(ptr @ident, i32 1, ptr @team_body, ptr %job)
  ret void
}
"""
)
