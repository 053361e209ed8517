"""What the orders of values cost together: a table for each node and each value that it reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

import numpy as np

from tcompiler.ir.graph.grammar import TensorType
from tcompiler.transform.definitions import is_map
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
            self._pair(out, orders, *self._outside(name), lambda i, o: _else(i, o, type_, costs.copy(type_)))
        sums = r.sums
        if sums is not None and len(orders) > 0:
            main = next(iter((*r.follows, *r.data)), None)
            for x in dict.fromkeys((*r.follows, *r.data)):
                self._pair(*self._read(x, r), out, orders, self._contracted(r, x, x == main))
            if main is None:
                nothing = TensorType(type_.dtype, ())
                self._alone(out, orders, lambda o: self._sum(r, nothing, True, o))
            return
        scattered = c.summed(r.node.group) or not is_map(r.program)
        for x in dict.fromkeys(r.follows):
            other = c.type_of(x)
            if len(other.shape) != len(type_.shape):
                continue
            if self._maker.get(x, "") == r.node.group:
                penalty = inf
            else:
                penalty = costs.scattered(other) if scattered else costs.turned(other)
            self._pair(*self._read(x, r), out, orders, _penalty(other, penalty))

    def _contracted(self, r: Reader, x: str, main: bool) -> Callable[[Order, Order], float]:
        """The cost of a contraction that reads data in one order and writes in another."""
        data = self._candidates.type_of(x)
        rows = plain(len(data.shape))

        def cost(i: Order, o: Order) -> float:
            in_order = same_places(i, rows, data.dims())
            against = self._costs.against(data) if in_order == (o != plain(len(o))) and len(i) == len(o) else 0.0
            return against + (self._sum(r, data, in_order, o) if main else 0.0)

        return cost

    def _sum(self, r: Reader, data: TensorType, in_order: bool, order: Order) -> float:
        assert r.sums is not None
        if order[-1] == r.sums.place or r.sums.columns == 1:
            return self._costs.by_columns(r.sums)
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


def _else(one: Order, other: Order, type_: TensorType, cost: float) -> float:
    return 0.0 if same_places(one, other, type_.dims()) else cost


def _penalty(type_: TensorType, cost: float) -> Callable[[Order, Order], float]:
    return lambda i, o: _else(i, o, type_, cost)
