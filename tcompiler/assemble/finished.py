"""A finished kernel: what an artifact needs of it, apart from its object code. Data only, so that it can be kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

KERNEL_STAGES = ("expr", "loop", "scheduled", "trace")
"""Stages whose texts belong to a kernel and come before its code, in order."""


@dataclass(frozen=True, slots=True)
class Packing:
    """One prepare function of a constant input: the key of its object, and shape and type of what it writes."""

    object: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class FinishedKernel:
    """A kernel after its last stage.

    Attributes:
        name: Its name in the model.
        texts: Its texts by stage, those of KERNEL_STAGES.
        inputs: The program's inputs, in order, by their names in it.
        outputs: Its outputs likewise.
        object: The key of its object.
        packings: For inputs that it takes in a layout of its own, the prepare functions to run on the constant in turn.
        more: Inputs behind those of the program, and for each the input whose constant it is made of.
        flops: Operations that its definition asks for.
        executed_flops: Operations that its schedule executes.
        bytes: The least traffic: operands and results once.
    """

    name: str
    texts: Mapping[str, str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    object: str
    packings: Mapping[str, tuple[Packing, ...]]
    more: Mapping[str, str]
    flops: int
    executed_flops: int
    bytes: int

    def fed(self, actual: Sequence[str]) -> list[tuple[str, str]]:
        """Every input that it takes, and the value that feeds it.

        Args:
            actual: The values that feed the program's inputs, in order.
        """
        by_name = dict(zip(self.inputs, actual, strict=True))
        return [*by_name.items(), *((name, by_name[source]) for name, source in self.more.items())]

    def objects(self) -> tuple[str, ...]:
        """The keys of all objects that it needs: its own, then those of its prepare functions."""
        return (self.object, *(step.object for steps in self.packings.values() for step in steps))

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `json` can write and `from_json` reads."""
        return {
            "name": self.name,
            "texts": dict(self.texts),
            "inputs": self.inputs,
            "outputs": self.outputs,
            "object": self.object,
            "packings": {name: [[s.object, s.shape, s.dtype] for s in steps] for name, steps in self.packings.items()},
            "more": dict(self.more),
            "flops": self.flops,
            "executed_flops": self.executed_flops,
            "bytes": self.bytes,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> FinishedKernel:
        """Reads what `to_json` wrote.

        Raises:
            KeyError: A field is missing.
            TypeError: A field is of another type.
            ValueError: A packing has not three parts.
        """
        texts = {stage: _of(str, data["texts"][stage]) for stage in KERNEL_STAGES}
        packings = {
            _of(str, name): tuple(
                Packing(_of(str, key), tuple(_of(int, e) for e in shape), _of(str, dtype))
                for key, shape, dtype in steps
            )
            for name, steps in _of(dict, data["packings"]).items()
        }
        return FinishedKernel(
            _of(str, data["name"]),
            texts,
            names(data["inputs"]),
            names(data["outputs"]),
            _of(str, data["object"]),
            packings,
            {_of(str, name): _of(str, source) for name, source in _of(dict, data["more"]).items()},
            _of(int, data["flops"]),
            _of(int, data["executed_flops"]),
            _of(int, data["bytes"]),
        )


def names(data: Any) -> tuple[str, ...]:
    """A list of names out of JSON.

    Raises:
        TypeError: If it is none.
    """
    return tuple(_of(str, name) for name in _of(list, data))


def _of(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}, found {type(value).__name__}")
    return value
