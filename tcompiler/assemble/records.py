"""The cache of finished kernels: what a group of nodes became, so that it is not scheduled again.

An entry lies in the object cache's store, under a digest of everything that its content depends on: the group as
text (operators, attributes, names, types, layouts, which values are known), the machine, threads and accuracy, and the
source of the whole compiler. Whatever is wrong with an entry, or with an object that it speaks of, counts as a miss.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import llvmlite

import tcompiler
from tcompiler.assemble.finished import FinishedKernel, names
from tcompiler.backends.llvm.build import BuiltKernel, cached_kernel
from tcompiler.backends.llvm.object_cache import ObjectCache
from tcompiler.ir.graph.grammar import Node, TensorType
from tcompiler.ir.layout_text import print_layout
from tcompiler.ir.scalar.grammar import Const
from tcompiler.ir.scalar.text import print_scalar
from tcompiler.target.named import maker
from tcompiler.target.target import Target


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """What a group became.

    Attributes:
        same: A text that groups of one kernel share.
        inputs: The names of the values that its program reads, in order.
        outputs: Those that leave it.
        kernel: Its kernel; None where another group of the model had it already.
    """

    same: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    kernel: FinishedKernel | None


class KernelRecords:
    """Finished kernels on disk, for one target, number of threads and accuracy.

    Args:
        target: The machine.
        threads: Threads that a call may use.
        accuracy: What lossy derivations may do.

    Attributes:
        built: The objects of all kernels that were found, by their keys.
    """

    def __init__(self, target: Target, threads: int, accuracy: str) -> None:
        self.built: dict[str, BuiltKernel] = {}
        self._store = ObjectCache()
        self._context = f"{target.digest()} {maker(target).digest()} {threads} {accuracy} {package_digest()}"
        self._types: dict[Hashable, list[Any]] = {}

    def key(
        self,
        label: str,
        nodes: Sequence[Node],
        types: Mapping[str, TensorType],
        outputs: Sequence[str],
        known: Mapping[str, Const],
        fixed: Collection[str],
    ) -> str:
        """The key of a group's entry.

        Args:
            label: The name that its kernel would have.
            nodes: The group's nodes in order.
            types: Types of every value that they read or define.
            outputs: Names of the values that leave the group.
            known: Values of one element that are known.
            fixed: Names of constants.

        Returns:
            32 hexadecimal digits.
        """
        values = dict.fromkeys(name for n in nodes for name in (*n.inputs, *(v.name for v in n.outputs)) if name)
        described = [
            [name, *self._type(types[name]), known[name].bits if name in known else None, name in fixed]
            for name in values
        ]
        # attributes as text, in which 1, 1.0 and True are three things, and 0.0 is not -0.0
        done = [[n.op, n.name, repr(n.attrs), n.inputs, [v.name for v in n.outputs]] for n in nodes]
        text = json.dumps([self._context, label, done, described, list(outputs)])
        return blake2b(text.encode(), digest_size=16).hexdigest()

    def get(self, key: str) -> GroupRecord | None:
        """What a group became, if that is known and all its objects are there; these are put into `built`."""
        entry = self._store.get(key)
        if entry is None:
            return None
        try:
            data = json.loads(entry)
            kernel = None if data["kernel"] is None else FinishedKernel.from_json(data["kernel"])
            if type(data["same"]) is not str:
                return None
            record = GroupRecord(data["same"], names(data["inputs"]), names(data["outputs"]), kernel)
        except (KeyError, TypeError, ValueError, AttributeError):
            return None
        for name in () if kernel is None else kernel.objects():
            if name not in self.built:
                found = cached_kernel(self._store, name)
                if found is None:
                    return None
                self.built[name] = found
        return record

    def put(self, key: str, record: GroupRecord) -> None:
        """Keeps what a group became."""
        data = {
            "same": record.same,
            "inputs": record.inputs,
            "outputs": record.outputs,
            "kernel": None if record.kernel is None else record.kernel.to_json(),
        }
        self._store.put(key, json.dumps(data).encode())

    def _type(self, t: TensorType) -> list[Any]:
        """A type as text. Scalars and layouts are interned: they are their own keys."""
        parts = (t.dtype.name, t.shape, t.layout)
        described = self._types.get(parts)
        if described is None:
            layout = None if t.layout is None else print_layout(t.layout)
            described = self._types[parts] = [t.dtype.name, [print_scalar(e) for e in t.shape], layout]
        return described


@cache
def package_digest() -> str:
    """A digest of the compiler's whole source and of the versions that code depends on."""
    digest = blake2b(f"{tcompiler.__version__} {llvmlite.__version__}".encode(), digest_size=16)
    root = Path(tcompiler.__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(f"\0{path.relative_to(root).as_posix()}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
