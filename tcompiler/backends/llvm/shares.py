"""How threads share the iterations of a parallel loop: each takes its own share first, then what others have left.

A thread's share is contiguous and a function of the extent and the size of the team, so a loop that follows another
over the same rows finds them in the cache of the core that wrote them. It takes its share piece by piece from the
front. Who has finished takes pieces from the back of the others' shares: no thread waits long for one whose core is
slower, or has been given to somebody else. Who computes an iteration changes nothing about it.

What is taken of a share stands in one word, in the scratch area of the thread that the share belongs to: pieces from
the front count in its lower half, pieces from the back in its upper half. It is taken by compare and exchange, which
costs some nanoseconds as long as nobody else does.
"""

from __future__ import annotations

from collections.abc import Callable

from tcompiler.backends.llvm.writer import Writer

WORD_BYTES = 64
"""Bytes of scratch that a thread's word takes: a cache line."""
PIECES = 32
"""Pieces of a share that are not cut further."""
QUARTER = 2
"""Shift: a piece is this part of what is left of a share, as long as that is more than the least piece."""
_HALF = 32
_LIMIT = 1 << 31


def reset_shares(w: Writer, offset: int) -> None:
    """Emits the caller's part, in front of the fork: nothing is taken of any share.

    Args:
        w: Writes the function that forks; `%ctx` is its context.
        offset: Of the words in each thread's scratch area.
    """
    base, stride = _words(w, offset)
    place = w.instruction("getelementptr i8, ptr %ctx, i64 8", 0)
    threads = w.effect(f"load i64, ptr {place}, align 8")
    head, done = w.fresh_label("reset"), w.fresh_label("done")
    k, following = w.fresh("i"), w.fresh("n")
    before = w.top.label
    w.line(f"br label %{head}")
    w.top.lines.append(f"{head}:")
    w.line(f"{k} = phi i64 [ 0, %{before} ], [ {following}, %{head} ]")
    shift = w.effect(f"mul i64 {k}, {stride}")
    word = w.effect(f"getelementptr i8, ptr {base}, i64 {shift}")
    w.line(f"store atomic i64 0, ptr {word} monotonic, align 8")
    w.line(f"{following} = add nuw nsw i64 {k}, 1")
    more = w.effect(f"icmp slt i64 {following}, {threads}")
    w.line(f"br i1 {more}, label %{head}, label %{done}")
    w.label(done)


def take_shares(w: Writer, offset: int, extent: int, run: Callable[[str, str], None]) -> None:
    """Emits a thread's part: `run` on piece after piece until nothing is left of any share.

    Args:
        w: Writes the body that threads run, with `%ctx`, `%thread` and `%threads`.
        offset: Of the words in each thread's scratch area.
        extent: Iterations of the loop.
        run: Emits the iterations from a first one to one that is not among them, at least one.
    """
    step = 1 + extent // _LIMIT  # so that a count fits half a word
    steps = -(-extent // step)
    base, stride = _words(w, offset)
    cuts = w.effect(f"mul i64 %threads, {PIECES}")
    even = w.effect(f"udiv i64 {steps}, {cuts}")
    least = w.effect(f"call i64 @llvm.umax.i64(i64 {even}, i64 1)")
    names = ("share", "take", "try", "piece", "empty", "done")
    share, take, attempt, piece, empty, done = (w.fresh_label(n) for n in names)
    entry = w.top.label
    w.line(f"br label %{share}")
    w.label(share)
    turn, following = w.fresh("i"), w.fresh("n")
    w.line(f"{turn} = phi i64 [ 0, %{entry} ], [ {following}, %{empty} ]")
    around = w.effect(f"add i64 %thread, {turn}")
    wrapped = w.effect(f"sub i64 {around}, %threads")
    beyond = w.effect(f"icmp uge i64 {around}, %threads")
    owner = w.effect(f"select i1 {beyond}, i64 {wrapped}, i64 {around}")
    low = _share_start(w, steps, owner)
    high = _share_start(w, steps, w.effect(f"add i64 {owner}, 1"))
    size = w.effect(f"sub i64 {high}, {low}")
    own = w.effect(f"icmp eq i64 {turn}, 0")
    place = w.effect(f"getelementptr i8, ptr {base}, i64 {w.effect(f'mul i64 {owner}, {stride}')}")
    w.line(f"br label %{take}")
    w.label(take)
    word = w.effect(f"load atomic i64, ptr {place} monotonic, align 8")
    front = w.effect(f"and i64 {word}, {(1 << _HALF) - 1}")
    back = w.effect(f"lshr i64 {word}, {_HALF}")
    left = w.effect(f"sub i64 {w.effect(f'sub i64 {size}, {front}')}, {back}")
    some = w.effect(f"icmp sgt i64 {left}, 0")
    w.line(f"br i1 {some}, label %{attempt}, label %{empty}")
    w.label(attempt)
    part = w.effect(f"lshr i64 {left}, {QUARTER}")
    wanted = w.effect(f"call i64 @llvm.umax.i64(i64 {part}, i64 {least})")
    count = w.effect(f"call i64 @llvm.umin.i64(i64 {wanted}, i64 {left})")
    upper = w.effect(f"shl i64 {count}, {_HALF}")
    more = w.effect(f"select i1 {own}, i64 {count}, i64 {upper}")
    taken = w.effect(f"add i64 {word}, {more}")
    pair = w.effect(f"cmpxchg ptr {place}, i64 {word}, i64 {taken} monotonic monotonic, align 8")
    got = w.effect(f"extractvalue {{ i64, i1 }} {pair}, 1")
    w.line(f"br i1 {got}, label %{piece}, label %{take}")
    w.label(piece)
    ahead = w.effect(f"add i64 {low}, {front}")
    end = w.effect(f"sub i64 {high}, {back}")
    behind = w.effect(f"sub i64 {end}, {count}")
    first = w.effect(f"select i1 {own}, i64 {ahead}, i64 {behind}")
    stop = w.effect(f"add i64 {first}, {count}")
    if step > 1:
        first = w.effect(f"mul i64 {first}, {step}")
        stop = w.effect(f"mul i64 {stop}, {step}")
        stop = w.effect(f"call i64 @llvm.umin.i64(i64 {stop}, i64 {extent})")
    run(first, stop)
    w.line(f"br label %{take}")
    w.label(empty)
    w.line(f"{following} = add nuw nsw i64 {turn}, 1")
    others = w.effect(f"icmp ult i64 {following}, %threads")
    w.line(f"br i1 {others}, label %{share}, label %{done}")
    w.label(done)


def declarations() -> list[str]:
    """Functions of LLVM's own that the code calls."""
    return ["declare i64 @llvm.umax.i64(i64, i64)", "declare i64 @llvm.umin.i64(i64, i64)"]


def _words(w: Writer, offset: int) -> tuple[str, str]:
    """The first thread's word, and how far the next is from it."""
    place = w.instruction("getelementptr i8, ptr %ctx, i64 16", 0)
    scratch = w.effect(f"load ptr, ptr {place}, align 8")
    stride_place = w.instruction("getelementptr i8, ptr %ctx, i64 24", 0)
    stride = w.effect(f"load i64, ptr {stride_place}, align 8")
    return w.effect(f"getelementptr i8, ptr {scratch}, i64 {offset}"), stride


def _share_start(w: Writer, steps: int, thread: str) -> str:
    product = w.effect(f"mul i64 {steps}, {thread}")
    return w.effect(f"udiv i64 {product}, %threads")
