"""The arena planner: nothing live overlaps, aliases share, and no plan beats its lower bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcompiler.errors import InternalError
from tcompiler.plan.arena import ArenaPlan, Lifetime, plan_arena


@st.composite
def lifetimes(draw: st.DrawFn) -> list[Lifetime]:
    count = draw(st.integers(0, 24))
    tensors: list[Lifetime] = []
    for i in range(count):
        first = draw(st.integers(0, 20))
        alias = draw(st.integers(0, 3 * count)) if i else count
        tensors.append(
            Lifetime(
                f"t{i}",
                draw(st.integers(0, 300)),
                first,
                first + draw(st.integers(0, 6)),
                f"t{alias}" if alias < i else None,
                draw(st.integers(0, 100)) if alias < i else 0,
            )
        )
    # An alias may come before what it lies in.
    return draw(st.permutations(tensors))


def root_of(tensors: list[Lifetime], tensor: Lifetime) -> tuple[str, int]:
    by_name = {t.name: t for t in tensors}
    shift = 0
    while tensor.alias_of is not None:
        shift += tensor.alias_offset
        tensor = by_name[tensor.alias_of]
    return tensor.name, shift


@given(lifetimes(), st.sampled_from([1, 16, 64]))
def test_plans_are_sound(tensors: list[Lifetime], alignment: int) -> None:
    plan = plan_arena(tensors, alignment)
    roots = {t.name: root_of(tensors, t) for t in tensors}
    assert set(plan.offsets) == {t.name for t in tensors}
    for t in tensors:
        root, shift = roots[t.name]
        assert plan.offsets[t.name] == plan.offsets[root] + shift
        assert plan.offsets[root] % alignment == 0
        assert t.bytes == 0 or plan.offsets[t.name] + t.bytes <= plan.total
    for i, a in enumerate(tensors):
        for b in tensors[:i]:
            if roots[a.name][0] == roots[b.name][0] or a.last < b.first or b.last < a.first or 0 in (a.bytes, b.bytes):
                continue
            start_a, start_b = plan.offsets[a.name], plan.offsets[b.name]
            assert start_a + a.bytes <= start_b or start_b + b.bytes <= start_a, (a, b)


@given(lifetimes(), st.sampled_from([1, 64]))
def test_the_lower_bound_is_the_peak(tensors: list[Lifetime], alignment: int) -> None:
    groups: dict[str, list[tuple[Lifetime, int]]] = {}
    for t in tensors:
        root, shift = root_of(tensors, t)
        groups.setdefault(root, []).append((t, shift))
    live = [
        sum(
            max(t.bytes + shift for t, shift in group)
            for group in groups.values()
            if min(t.first for t, _ in group) <= step <= max(t.last for t, _ in group)
        )
        for step in range(28)
    ]
    plan = plan_arena(tensors, alignment)
    assert plan.lower_bound == max(live)
    assert plan.total >= plan.lower_bound


def test_a_chain_needs_two_buffers() -> None:
    plan = plan_arena([Lifetime(f"t{i}", 1000, i, i + 1) for i in range(10)])
    assert plan.total == 2048
    assert plan.lower_bound == 2000


def test_the_smallest_fitting_gap_is_taken() -> None:
    # While c1, c2 and c3 hold the ends, the gaps of a (512) and b (256) are free again for x and y.
    plan = plan_arena(
        [
            Lifetime("c1", 1024, 0, 9),
            Lifetime("a", 512, 0, 2),
            Lifetime("c2", 640, 0, 9),
            Lifetime("b", 256, 0, 2),
            Lifetime("x", 192, 4, 5),
        ]
    )
    assert plan == ArenaPlan({"c1": 0, "a": 1664, "c2": 1024, "b": 2176, "x": 1664}, 2432, 2432)
    plan = plan_arena(
        [
            Lifetime("big", 512, 0, 3),
            Lifetime("left", 448, 0, 9),
            Lifetime("small", 256, 0, 3),
            Lifetime("right", 192, 0, 9),
            Lifetime("x", 128, 5, 6),
        ]
    )
    # Free in steps 5 and 6: 512 bytes at 0 and 256 at 960; the second is the better fit.
    assert plan.offsets["x"] == 960


def test_in_place_results_and_views_share() -> None:
    plan = plan_arena(
        [
            Lifetime("x", 256, 0, 1),
            Lifetime("relu", 256, 1, 3, alias_of="x"),
            Lifetime("row", 64, 2, 5, alias_of="relu", alias_offset=64),
            Lifetime("y", 256, 4, 6),
        ]
    )
    assert plan.offsets["x"] == plan.offsets["relu"] == plan.offsets["row"] - 64
    # The view keeps the whole of x alive beside y.
    assert plan.total == 512


def test_parts_of_a_concatenation_lie_in_it() -> None:
    plan = plan_arena(
        [
            Lifetime("a", 100, 0, 2, alias_of="concat"),
            Lifetime("b", 60, 1, 2, alias_of="concat", alias_offset=100),
            Lifetime("concat", 160, 2, 3),
        ]
    )
    assert plan.offsets["b"] - plan.offsets["a"] == 100
    assert plan.total == 192


def test_empty_plans_and_empty_buffers() -> None:
    assert plan_arena([]) == ArenaPlan({}, 0, 0)
    assert plan_arena([Lifetime("x", 0, 0, 5), Lifetime("y", 0, 0, 5)]) == ArenaPlan({"x": 0, "y": 0}, 0, 0)


def test_sharing_beats_separate_buffers_and_comes_near_the_bound() -> None:
    # A network's shape: sizes halve every few layers, with residual connections over two steps.
    tensors = [Lifetime(f"t{i}", 64 * (1000 >> (i // 8)), i, i + 1 + 2 * (i % 2)) for i in range(40)]
    plan = plan_arena(tensors)
    assert plan.total < sum(t.bytes for t in tensors) / 4
    assert plan.total <= 1.2 * plan.lower_bound


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ([Lifetime("a", 1, 0, 0)] * 2, "buffer 'a' is planned twice"),
        ([Lifetime("a", -1, 0, 0)], "buffer 'a' has a negative size or offset"),
        ([Lifetime("a", 1, 3, 2)], "buffer 'a' is last read in step 2, before it is written"),
        ([Lifetime("a", 1, 0, 0, "b")], "buffer 'a' lies in 'b', which is not planned"),
        (
            [Lifetime("a", 1, 0, 0, "b"), Lifetime("b", 1, 0, 0, "a")],
            "buffer 'a' lies in itself, by way of its aliases",
        ),
    ],
)
def test_impossible_lifetimes_are_refused(tensors: list[Lifetime], message: str) -> None:
    with pytest.raises(InternalError) as caught:
        plan_arena(tensors)
    assert str(caught.value) == message
