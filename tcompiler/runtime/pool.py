"""A small pool of persistent threads, as LLVM text: the last choice of `threads.py`.

Each worker has a cache line of its own: a sequence number and a flag that says that it sleeps. The caller makes the
number odd to offer the worker its part of the current job; whoever makes it even again runs that part: the worker, or
the caller, when it has done its own and the worker still has not come (its processor was given to somebody else). So
nobody waits for a thread that has not begun; a part is cheap to run for nothing if others took what it was to do.
Raising the number and then reading the flag on one side, setting the flag and then reading the number on the other,
both sequentially consistent, loses no wake-up (Dekker's pattern). Only who took a part reads the job, and the caller
returns after the last part has finished, so the job needs no further protection.

Workers and the waiting caller spin for `PAUSE_CYCLES` of the time-stamp counter, then give their processor to whoever
else wants it (perhaps the very thread that they wait for) up to `SPIN_CYCLES`, then sleep on a futex. On a virtual
machine it took the caller 0.3 ms to wake a sleeper whose processor had halted, so they seldom sleep between two calls
that follow each other.

One job runs at a time: a second caller finds the pool busy and runs its body alone, as does a nested call.
"""

from __future__ import annotations

from tcompiler.runtime.adapters import PRELUDE

MAX_WORKERS = 255
PAUSE_CYCLES = 100_000
SPIN_CYCLES = 5_000_000

POOL_IMPORTS = ("pthread_create", "pthread_detach", "pthread_sigmask", "sched_yield", "syscall")

# 202 is futex; 128 and 129 are FUTEX_WAIT_PRIVATE and FUTEX_WAKE_PRIVATE; 2 is SIG_SETMASK.
POOL = (
    PRELUDE
    + """
%Slot = type { i32, i32, [14 x i32] }                ; sequence number (odd: offered), asleep; one cache line
%Pool = type { [16 x i32], [16 x i32], %Job, i64, [32 x i8], [256 x %Slot] }
; busy, workers started | workers unfinished, caller asleep | job | team size

@pool = internal global %Pool zeroinitializer, align 64
@all_signals = internal constant [128 x i8] c"ALL_SIGNALS"

declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_detach(i64)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare i32 @sched_yield()
declare i64 @syscall(i64, ...)
declare i64 @llvm.readcyclecounter()
declare void @llvm.x86.sse2.pause()
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)

; Only right while no thread but the caller exists: after a fork.
define void @tc_pool_reset() {
  %size = ptrtoint ptr getelementptr (%Pool, ptr null, i64 1) to i64
  call void @llvm.memset.p0.i64(ptr @pool, i8 0, i64 %size, i1 false)
  ret void
}

; Waits while *word == seen: spins, then sleeps with *asleep set.
define internal void @wait_while(ptr %word, ptr %asleep, i32 %seen) {
  %start = call i64 @llvm.readcyclecounter()
  br label %spin
spin:
  %now = load atomic i32, ptr %word acquire, align 4
  %changed = icmp ne i32 %now, %seen
  br i1 %changed, label %done, label %pause
pause:
  call void @llvm.x86.sse2.pause()
  %cycles = call i64 @llvm.readcyclecounter()
  %spent = sub i64 %cycles, %start
  %long = icmp ugt i64 %spent, PAUSE_CYCLES
  br i1 %long, label %yield, label %spin
yield:
  %ignored = call i32 @sched_yield()
  %over = icmp ugt i64 %spent, SPIN_CYCLES
  br i1 %over, label %announce, label %spin
announce:
  store atomic i32 1, ptr %asleep seq_cst, align 4
  br label %check
check:
  %again = load atomic i32, ptr %word seq_cst, align 4
  %changed2 = icmp ne i32 %again, %seen
  br i1 %changed2, label %awake, label %sleep
sleep:
  %status = call i64 (i64, ...) @syscall(i64 202, ptr %word, i32 128, i32 %seen, ptr null, ptr null, i32 0)
  br label %check
awake:
  store atomic i32 0, ptr %asleep seq_cst, align 4
  br label %done
done:
  ret void
}

define internal void @wake(ptr %word, ptr %asleep) {
  %sleeping = load atomic i32, ptr %asleep seq_cst, align 4
  %no = icmp eq i32 %sleeping, 0
  br i1 %no, label %done, label %call
call:
  %status = call i64 (i64, ...) @syscall(i64 202, ptr %word, i32 129, i32 1, ptr null, ptr null, i32 0)
  br label %done
done:
  ret void
}

define internal ptr @worker(ptr %argument) {
  %index = ptrtoint ptr %argument to i64
  %slot = getelementptr %Pool, ptr @pool, i64 0, i32 5, i64 %index
  %asleep = getelementptr %Slot, ptr %slot, i64 0, i32 1
  %job = getelementptr %Pool, ptr @pool, i64 0, i32 2
  %team_at = getelementptr %Pool, ptr @pool, i64 0, i32 3
  %unfinished = getelementptr %Pool, ptr @pool, i64 0, i32 1, i64 0
  %caller_asleep = getelementptr %Pool, ptr @pool, i64 0, i32 1, i64 1
  br label %next
next:
  %seen = phi i32 [ 0, %0 ], [ %found, %offered ], [ %found, %look ], [ %even, %finished ], [ %even, %last ]
  call void @wait_while(ptr %slot, ptr %asleep, i32 %seen)
  br label %look
look:
  %found = load atomic i32, ptr %slot acquire, align 4
  %low = and i32 %found, 1
  %odd = icmp eq i32 %low, 1
  br i1 %odd, label %offered, label %next
offered:
  %even = add i32 %found, 1
  %pair = cmpxchg ptr %slot, i32 %found, i32 %even seq_cst seq_cst
  %mine = extractvalue { i32, i1 } %pair, 1
  br i1 %mine, label %run, label %next
run:
  %team = load i64, ptr %team_at
  call void @run_job(ptr %job, i64 %index, i64 %team)
  %before = atomicrmw sub ptr %unfinished, i32 1 seq_cst
  %is_last = icmp eq i32 %before, 1
  br i1 %is_last, label %last, label %finished
last:
  call void @wake(ptr %unfinished, ptr %caller_asleep)
  br label %next
finished:
  br label %next
}

; Starts workers until `wanted` run, with all signals blocked in them. Returns how many run.
define internal i32 @start_workers(i32 %wanted) {
  %id = alloca i64
  %mask = alloca [128 x i8]
  %started_at = getelementptr %Pool, ptr @pool, i64 0, i32 0, i64 1
  %started = load i32, ptr %started_at
  %enough = icmp sge i32 %started, %wanted
  br i1 %enough, label %ready, label %prepare
ready:
  ret i32 %started
prepare:
  %1 = call i32 @pthread_sigmask(i32 2, ptr @all_signals, ptr %mask)
  br label %loop
loop:
  %count = phi i32 [ %started, %prepare ], [ %index, %created ]
  %full = icmp sge i32 %count, %wanted
  br i1 %full, label %done, label %create
create:
  %index = add i32 %count, 1
  %wide = zext i32 %index to i64
  %argument = inttoptr i64 %wide to ptr
  %error = call i32 @pthread_create(ptr %id, ptr null, ptr @worker, ptr %argument)
  %failed = icmp ne i32 %error, 0
  br i1 %failed, label %done, label %created
created:
  %thread = load i64, ptr %id
  %2 = call i32 @pthread_detach(i64 %thread)
  br label %loop
done:
  store i32 %count, ptr %started_at
  %3 = call i32 @pthread_sigmask(i32 2, ptr %mask, ptr null)
  ret i32 %count
}

define void @tc_parallel(ptr %context, ptr %body, ptr %closure, i64 %n) {
  %busy = getelementptr %Pool, ptr @pool, i64 0, i32 0, i64 0
  %unfinished = getelementptr %Pool, ptr @pool, i64 0, i32 1, i64 0
  %caller_asleep = getelementptr %Pool, ptr @pool, i64 0, i32 1, i64 1
  %job = getelementptr %Pool, ptr @pool, i64 0, i32 2
  %team_at = getelementptr %Pool, ptr @pool, i64 0, i32 3
  %asked = call i64 @team_size(ptr %context, i64 %n)
  %alone = icmp sle i64 %asked, 1
  br i1 %alone, label %inline, label %acquire
inline:
  call void %body(ptr %context, ptr %closure, i64 0, i64 1)
  ret void
acquire:
  %pair = cmpxchg ptr %busy, i32 0, i32 1 acquire monotonic
  %taken = extractvalue { i32, i1 } %pair, 1
  br i1 %taken, label %start, label %inline
start:
  %more = sub i64 %asked, 1
  %many = icmp sgt i64 %more, MAX_WORKERS
  %capped = select i1 %many, i64 MAX_WORKERS, i64 %more
  %wanted = trunc i64 %capped to i32
  %running = call i32 @start_workers(i32 %wanted)
  %fewer = icmp slt i32 %running, %wanted
  %workers = select i1 %fewer, i32 %running, i32 %wanted
  %workers64 = zext i32 %workers to i64
  %team = add i64 %workers64, 1
  %at1 = getelementptr %Job, ptr %job, i64 0, i32 1
  %at2 = getelementptr %Job, ptr %job, i64 0, i32 2
  store ptr %body, ptr %job
  store ptr %context, ptr %at1
  store ptr %closure, ptr %at2
  store i64 %team, ptr %team_at
  store atomic i32 %workers, ptr %unfinished seq_cst, align 4
  br label %post
post:
  %index = phi i64 [ 1, %start ], [ %next, %hand ]
  %posted = icmp sge i64 %index, %team
  br i1 %posted, label %run, label %hand
hand:
  %slot = getelementptr %Pool, ptr @pool, i64 0, i32 5, i64 %index
  %asleep = getelementptr %Slot, ptr %slot, i64 0, i32 1
  %before = atomicrmw add ptr %slot, i32 1 seq_cst
  call void @wake(ptr %slot, ptr %asleep)
  %next = add i64 %index, 1
  br label %post
run:
  call void %body(ptr %context, ptr %closure, i64 0, i64 %team)
  %open = load atomic i32, ptr %unfinished acquire, align 4
  %done = icmp eq i32 %open, 0
  br i1 %done, label %release, label %late
late:
  %part = phi i64 [ 1, %run ], [ %following, %begun ]
  %offer = getelementptr %Pool, ptr @pool, i64 0, i32 5, i64 %part
  %number = load atomic i32, ptr %offer monotonic, align 4
  %bit = and i32 %number, 1
  %waiting = icmp eq i32 %bit, 1
  br i1 %waiting, label %take, label %begun
take:
  %taken_back = add i32 %number, 1
  %exchange = cmpxchg ptr %offer, i32 %number, i32 %taken_back seq_cst seq_cst
  %got = extractvalue { i32, i1 } %exchange, 1
  br i1 %got, label %stand_in, label %begun
stand_in:
  call void %body(ptr %context, ptr %closure, i64 %part, i64 %team)
  %rest = atomicrmw sub ptr %unfinished, i32 1 seq_cst
  br label %begun
begun:
  %following = add i64 %part, 1
  %through = icmp sge i64 %following, %team
  br i1 %through, label %wait, label %late
wait:
  %left = load atomic i32, ptr %unfinished acquire, align 4
  %finished = icmp eq i32 %left, 0
  br i1 %finished, label %release, label %sleep
sleep:
  call void @wait_while(ptr %unfinished, ptr %caller_asleep, i32 %left)
  br label %wait
release:
  store atomic i32 0, ptr %busy release, align 4
  ret void
}
"""
)
for _name, _value in (
    ("MAX_WORKERS", str(MAX_WORKERS)),
    ("PAUSE_CYCLES", str(PAUSE_CYCLES)),
    ("SPIN_CYCLES", str(SPIN_CYCLES)),
    ("ALL_SIGNALS", "\\FF" * 128),
):
    POOL = POOL.replace(_name, _value)
