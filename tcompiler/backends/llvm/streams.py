"""Streams of elements that lie in turn in memory: taken apart, and put together, in registers.

Colours of pixels side by side are three streams. Lanes along the pixels would read, or write, every third element; here
memory is read and written in whole vectors, and shuffles deal them out among the streams, or interleave these.
"""

from __future__ import annotations

from collections.abc import Sequence

from tcompiler.backends.llvm.linear import Linear
from tcompiler.backends.llvm.ssa import Value, memory_type, next_power
from tcompiler.backends.llvm.values import Values
from tcompiler.ir import dtypes as dt
from tcompiler.ir.dtypes import DType

MOST = 16
"""Streams: more of them are read row by row."""
FACTOR = 7
"""The largest prime factor of a number of streams: a vector takes as many shuffles as its factors' sum, or so.

Of bytes any number up to MOST will do: rows of them are many, and each would take a load of its own.
"""
WORD_BYTES = 8
"""Bytes of a row that are as good as one element where rows are transposed."""


def are_streams(count: int, d: DType) -> bool:
    """Whether so many streams take less than tiles that are transposed."""
    return 2 <= count <= MOST and (d.bytes == 1 or max(_factors(count)) <= FACTOR)


class Streams(Values):
    """Emits vectors of several streams."""

    def deals_out(self, d: DType, count: int, step: int, rows: int) -> bool:
        """Whether streams are better dealt out than transposed: not where rows of short elements are long, or words.

        Before instructions that pick such elements out of two vectors, taking every second one costs several.

        Args:
            d: The type of the elements.
            count: How many streams are asked for.
            step: How many there are.
            rows: Elements of each.
        """
        feature, row = {1: "avx512vbmi", 2: "avx512bw"}.get(d.bytes), step * d.bytes
        if feature is not None and not self.target.has(feature) and (row >= 2 * WORD_BYTES or row % WORD_BYTES == 0):
            return False
        return count <= step < 2 * count and count <= rows and are_streams(step, d)

    def read_streams(self, buffer: str, first: Linear, count: int, step: int, rows: int) -> list[Value]:
        """The elements at `first + k + step * row`, a vector over the rows for each k.

        Args:
            buffer: A buffer in memory.
            first: The first element.
            count: How many streams.
            step: Elements from one of a stream to the next, at least `count`.
            rows: Elements of each stream.
        """
        d, lanes = self.buffers[buffer].dtype, next_power(rows)
        width = min(lanes, self.target.vector_lanes(d.bytes * 8))
        last = step * (rows - 1) + count - width  # what lies behind the last whole vector is in one that begins earlier
        vectors: list[Value] = []
        for at in range(0, step * lanes, width):
            if at >= last + width:
                vectors.append(Value("poison", d, width))
                continue
            x = self._load_run(d, self.pointer(buffer, first + Linear(min(at, last), {})), width)
            vectors.append(x if at <= last else self._shuffled(x, x, list(range(at - last, width)), width))
        groups = [self._dealt(vectors[g : g + step]) for g in range(0, len(vectors), step)]
        return [self._one_behind_another(stream) for stream in zip(*groups, strict=True)][:count]

    def write_streams(self, buffer: str, first: Linear, streams: Sequence[Value], rows: int) -> None:
        """Writes vectors over rows such that their elements lie in turn: what `read_streams` reads, without gaps."""
        d, count = self.buffers[buffer].dtype, len(streams)
        if d is dt.bool_:
            streams = [
                Value(self.w.effect(f"zext {x.typed} to {memory_type(d, x.lanes)}"), dt.u8, x.lanes) for x in streams
            ]
        lanes = streams[0].lanes
        width = min(lanes, self.target.vector_lanes(d.bytes * 8))
        groups = [[self._lanes_from(x, at, width) for x in streams] for at in range(0, lanes, width)]
        vectors = [x for group in groups for x in self._woven(group)]
        whole, rest = divmod(count * rows, width)
        written = [(at * width, x) for at, x in enumerate(vectors[:whole])]
        if rest:
            ends = list(range(rest, rest + width))
            written.append((count * rows - width, self._shuffled(vectors[whole - 1], vectors[whole], ends, width)))
        self.w.forget_loads((buffer,))
        for at, x in written:
            self.w.line(f"store {x.typed}, ptr {self.pointer(buffer, first + Linear(at, {}))}, align {d.bytes}")

    def _dealt(self, vectors: Sequence[Value]) -> list[Value]:
        """Vectors one behind another as streams: every so many elements, as many as there are vectors."""
        count = len(vectors)
        if count == 1:
            return list(vectors)
        first = _factors(count)[0]
        groups = [self._dealt_prime(vectors[g : g + first]) for g in range(0, count, first)]
        apart = [self._dealt(stream) for stream in zip(*groups, strict=True)]
        return [apart[k % first][k // first] for k in range(count)]

    def _woven(self, streams: Sequence[Value]) -> list[Value]:
        """Streams as vectors one behind another: the inverse of `_dealt`."""
        count = len(streams)
        if count == 1:
            return list(streams)
        first = _factors(count)[0]
        apart = [self._woven(streams[k::first]) for k in range(first)]
        return [x for group in zip(*apart, strict=True) for x in self._woven_prime(group)]

    def _dealt_prime(self, vectors: Sequence[Value]) -> list[Value]:
        count, n = len(vectors), vectors[0].lanes
        if count == 2:
            a, b = vectors
            return [self._shuffled(a, b, list(range(k, 2 * n, 2)), n) for k in range(2)]
        # the elements of a stream are in lanes of their own, of whichever vector: they are gathered there, then ordered
        streams: list[Value] = []
        for k in range(count):
            places = [k + count * i for i in range(n)]
            source = {p % n: p // n for p in places}
            mixed = vectors[0]
            for v in range(1, count):
                mixed = self._shuffled(mixed, vectors[v], [n + i if source[i] == v else i for i in range(n)], n)
            streams.append(self._shuffled(mixed, mixed, [p % n for p in places], n))
        return streams

    def _woven_prime(self, streams: Sequence[Value]) -> list[Value]:
        count, n = len(streams), streams[0].lanes
        if count == 2:
            a, b = streams
            return [self._shuffled(a, b, [k // 2 + k % 2 * n for k in range(s, s + n)], n) for s in (0, n)]
        # every element goes to the lane where it is written, of whichever vector; then each takes what is its own
        placed: list[Value] = []
        for k, x in enumerate(streams):
            at = {(k + count * i) % n: i for i in range(n)}
            placed.append(self._shuffled(x, x, [at[i] for i in range(n)], n))
        vectors: list[Value] = []
        for v in range(count):
            mixed = placed[0]
            for k in range(1, count):
                picks = [n + i if (v * n + i) % count == k else i for i in range(n)]
                mixed = self._shuffled(mixed, placed[k], picks, n)
            vectors.append(mixed)
        return vectors

    def _lanes_from(self, x: Value, start: int, lanes: int) -> Value:
        return x if x.lanes == lanes else self._shuffled(x, x, list(range(start, start + lanes)), lanes)

    def _one_behind_another(self, parts: Sequence[Value]) -> Value:
        """Vectors of one length, a power of two of them, one behind another."""
        while len(parts) > 1:
            both = 2 * parts[0].lanes
            parts = [
                self._shuffled(a, b, list(range(both)), both) for a, b in zip(parts[::2], parts[1::2], strict=True)
            ]
        return parts[0]


def _factors(n: int) -> list[int]:
    """The prime factors of a number, the least one first; of one its own."""
    least = next((k for k in range(2, n) if n % k == 0), n)
    return [least] if least == n else [least, *_factors(n // least)]
