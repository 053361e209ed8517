"""What the orders of values cost together: a table for each node and each value that it reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

import numpy as np

from tcompiler.ir.graph.grammar import TensorType
from tcompiler.transform.definitions import is_map, points
from tcompiler.transform.layouts.candidates import Candidates, Reader
from tcompiler.transform.layouts.choose import Table
from tcompiler.transform.layouts.costs import Costs, Order, plain, same_places


def made(name: str) -> str:
    """The variable of the order in which a contraction writes a value, ahead of a copy."""
    return f"{name}'"


class Tables:
    """Makes the tables.

    Args:
        candidates: The orders that values may have.
        costs: The machine.

    Attributes:
        sizes: How many orders each variable has.
        tables: The costs.
    """

    def __init__(self, candidates: Candidates, costs: Costs) -> None:
        self._candidates, self._costs = candidates, costs
        self._maker = {v.name: r.node.group for r in candidates.readers for v in r.node.outputs}
        self.sizes: dict[str, int] = {}
        self.tables: list[Table] = []
        for r in candidates.readers:
            for value in r.node.outputs:
                if len(value.type.shape) >= 3:
                    self._written(r, value.name)

    def _written(self, r: Reader, name: str) -> None:
        """The tables of one result of a node."""
        c, costs = self._candidates, self._costs
        type_ = c.type_of(name)
        out, orders = self._inside(name)
        if c.apart(name):
            self._pair(out, orders, *self._outside(name), _else(c.dims_of(name), costs.copy(type_)))
        if r.sums is not None:
            operands = dict.fromkeys((*r.follows, *r.data))
            for k, x in enumerate(operands):
                self._pair(*self._read(x, r), out, orders, self._contracted(r, x, k == 0))
            if not operands:
                nothing = TensorType(type_.dtype, ())
                self._alone(out, orders, lambda o: self._sum(r, nothing, True, o))
            return
        for x in dict.fromkeys(r.follows):
            self._pair(*self._read(x, r), out, orders, self._followed(r, x, type_))

    def _followed(self, r: Reader, x: str, type_: TensorType) -> Callable[[Order, Order], float]:
        """The cost of a map, of a window or of another reduction that reads one order and writes another."""
        c, costs = self._candidates, self._costs
        data = c.type_of(x)
        into, dims = c.dims_of(x), type_.dims()
        if self._maker.get(x, "") == r.node.group:
            return _else(c.dims_of(x), inf)
        if is_map(r.program):
            against = costs.scattered(data) if c.summed(r.node.group) else costs.turned(data)
            return _else(c.dims_of(x), against)
        size = points(r.program)

        def cost(i: Order, o: Order) -> float:
            lane, contiguous = _innermost(o, dims), _innermost(i, into)
            if lane == contiguous:
                return costs.windows(size, dims[lane], into[lane] >= 2 * dims[lane])
            against = costs.against(data) if dims[contiguous] == 1 else costs.scattered(data)
            return costs.windows(size, dims[lane], False) + against

        return cost

    def _contracted(self, r: Reader, x: str, main: bool) -> Callable[[Order, Order], float]:
        """The cost of a contraction that reads data in one order and writes in another."""
        data = self._candidates.type_of(x)
        rows, dims = plain(len(data.shape)), self._candidates.dims_of(x)

        def cost(i: Order, o: Order) -> float:
            in_order = same_places(i, rows, dims)
            against = in_order and len(i) == len(o) and not same_places(o, rows, dims)
            other = self._costs.against(data) if against else 0.0
            return other + (self._sum(r, data, in_order, o) if main else 0.0)

        return cost

    def _sum(self, r: Reader, data: TensorType, in_order: bool, order: Order) -> float:
        assert r.sums is not None
        if order[-1] == r.sums.place or r.sums.columns == 1:
            return self._costs.by_columns(r.sums, in_order and order != plain(len(order)))
        return self._costs.by_rows(r.sums, data, in_order)

    def _inside(self, name: str) -> tuple[str, Sequence[Order]]:
        """The variable of what a kernel writes, and its orders."""
        return (made(name), self._candidates.made(name)) if self._candidates.apart(name) else self._outside(name)

    def _outside(self, name: str) -> tuple[str, Sequence[Order]]:
        """The variable of a value for its readers, and its orders."""
        return self._candidates.variable(name), self._candidates.orders(name)

    def _read(self, name: str, r: Reader) -> tuple[str, Sequence[Order]]:
        """The variable of a value for one reader, and its orders."""
        return self._inside(name) if self._maker.get(name, "") == r.node.group else self._outside(name)

    def _pair(
        self,
        one: str,
        its: Sequence[Order],
        other: str,
        theirs: Sequence[Order],
        cost: Callable[[Order, Order], float],
    ) -> None:
        """A table over two variables."""
        self.sizes[one], self.sizes[other] = len(its), len(theirs)
        if one == other:
            self._alone(one, its, lambda o: cost(o, o))
        elif len(its) > 1 or len(theirs) > 1:
            self.tables.append(Table((one, other), np.array([[cost(i, o) for o in theirs] for i in its])))

    def _alone(self, one: str, its: Sequence[Order], cost: Callable[[Order], float]) -> None:
        """A table over one variable."""
        self.sizes[one] = len(its)
        if len(its) > 1:
            self.tables.append(Table((one,), np.array([cost(i) for i in its])))


def _innermost(order: Order, dims: tuple[int, ...]) -> int:
    """The axis that a tensor is contiguous along."""
    return next((a for a in reversed(order) if dims[a] != 1), order[-1])


def _else(dims: tuple[int, ...], cost: float) -> Callable[[Order, Order], float]:
    """What two orders of a tensor cost: nothing where they put every element in the same place."""
    return lambda one, other: 0.0 if same_places(one, other, dims) else cost
