"""Reading an ONNX model: shapes fixed, functions inlined, every node converted, every problem reported at once."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from tcompiler.errors import CompileError, OpenValueError
from tcompiler.frontend.module import GraphModule
from tcompiler.frontend.onnx.data import Storage, TensorReader
from tcompiler.frontend.onnx.declarations import Declaration, ShapeMap, closed_shape, declarations, narrowed
from tcompiler.frontend.onnx.expansion import expansion
from tcompiler.frontend.onnx.limits import DEFAULT, Limits
from tcompiler.frontend.onnx.node import CONVERTERS, Item, NodeView, ReportedError, TensorList
from tcompiler.frontend.onnx.report import Problem, plain, quoted, refuse
from tcompiler.frontend.onnx.signature import check_signature
from tcompiler.frontend.onnx.unsupported import nearest
from tcompiler.frontend.onnx.wire import take_out_weights
from tcompiler.frontend.tensor import SymbolicTensor
from tcompiler.ir.graph.grammar import digest, tensor_type
from tcompiler.ops.construct import GraphWriter

# Where an operator of an early set differs it has attributes that its converter refuses.
OLDEST_OPSET = 1
_FAMILIES = (
    "elementwise",
    "linear",
    "normalization",
    "reduction",
    "shape",
    "sequence",
    "resize",
    "quantization",
    "sampling",
    "signal",
    "selection",
    "matrices",
    "lists",
    "control",
)
_STANDARD = ("", "ai.onnx")
_LARGEST_FILE = (1 << 31) - 1
_LARGE = 1 << 18
"""Bytes of a weight whose digest is worth a thread."""
_PENDING = 1 << 26
"""Bytes of weights that are read before they are stored."""

ABSENT: Final = "absent"
"""What stands in a scope for a function's input that the call leaves out."""

_Scope = dict[str, Item | Literal["absent"] | None]
"""Values by their names in a model; None comes from a node that could not be converted."""


class OnnxModel:
    """A parsed ONNX model with its functions inlined; its nodes are converted for given shapes by `read`.

    Args:
        model: A path, the bytes of a file, or an onnx.ModelProto.
        limits: What the model may ask for.

    Attributes:
        name: What messages call the model.
        inputs: Its inputs, in order; initializers are none.

    Raises:
        CompileError: If the file is no model, or an input is no tensor of a type that we have.
    """

    def __init__(self, model: str | os.PathLike[str] | bytes | Any, limits: Limits = DEFAULT) -> None:
        for family in _FAMILIES:
            importlib.import_module(f"tcompiler.frontend.onnx.{family}")
        proto, self._storage, self.name = _load(model)
        _check_text(proto, self.name)
        self._opsets = _opsets(proto, self.name)
        self._graph = _inlined(proto, self.name, self._opsets[""], limits).graph
        self._limits = limits
        self.inputs: tuple[Declaration, ...] = tuple(declarations(self._graph, self.name))

    def read(
        self, shapes: ShapeMap | None = None, values: Mapping[str, NDArray[np.generic]] | None = None
    ) -> GraphModule:
        """Converts the model for some shapes.

        Args:
            shapes: Shapes of inputs whose dimensions the model leaves open, by the input's name; an integer instead of
                a shape fixes the dimension of that name everywhere.
            values: Arrays to fix inputs to; these are then no inputs any more.

        Returns:
            The graph and its constants. Inputs and outputs are labelled with the model's names.

        Raises:
            OpenShapeError: If an input's shape is open.
            OpenValueError: If nothing is wrong but that inputs' values decide shapes; it has their names.
            CompileError: If there are nodes that have no counterpart; the message names all of them.
        """
        importer = _Importer(self.name, self._storage, self._opsets, self._limits)
        return importer.run(self._graph, self.inputs, dict(shapes or {}), dict(values or {}))

    def narrow(self, shapes: ShapeMap) -> tuple[Declaration, ...]:
        """The inputs with what `shapes` says of them put in.

        Args:
            shapes: As for `read`; what it does not name stays open.

        Raises:
            CompileError: If a name is none of the model's, or a shape does not fit.
        """
        return narrowed(self.inputs, shapes, self.name)

    def check_operators(self) -> None:
        """Refuses what no shapes could make convertible.

        Raises:
            CompileError: If there are operators without a counterpart; the message names all of them.
        """
        _Importer(self.name, self._storage, self._opsets, self._limits).survey(self._graph)


def read(
    model: str | os.PathLike[str] | bytes | Any,
    shapes: ShapeMap | None = None,
    values: Mapping[str, NDArray[np.generic]] | None = None,
    limits: Limits = DEFAULT,
) -> GraphModule:
    """Reads an ONNX model: `OnnxModel(model, limits).read(shapes, values)`."""
    return OnnxModel(model, limits).read(shapes, values)


def _load(model: str | os.PathLike[str] | bytes | Any) -> tuple[Any, Storage, str]:
    """The model, where its data lie, and a name for messages."""
    try:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    except ImportError:
        raise CompileError("reading a model needs the onnx package: pip install 'tcompiler[onnx]'") from None
    if isinstance(model, onnx.ModelProto):
        return _whole(model, "the model"), Storage(None), "the model"
    folder, name = None, "the model"
    if isinstance(model, (str, os.PathLike)):
        path = Path(model)
        name = path.name
        folder = path.parent
        data: bytes | memoryview = _contents(path)
    elif isinstance(model, (bytes, bytearray, memoryview)):
        data = bytes(model)
    else:
        raise CompileError(f"a model given as {type(model).__name__}; expected a path, bytes or an onnx.ModelProto")
    small, kept = take_out_weights(data)
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(small)
    except (DecodeError, RecursionError, ValueError):
        raise CompileError(f"{name} is no ONNX model: its bytes do not parse") from None
    return _whole(proto, name), Storage(folder, kept), name


def _whole(proto: Any, name: str) -> Any:
    """A model that holds something.

    Raises:
        CompileError: If it holds no graph, or one without outputs.
    """
    if not proto.HasField("graph"):
        raise CompileError(f"{name} is no ONNX model: it holds no graph")
    if not proto.graph.output:
        raise CompileError(f"{name} has no output, expected at least one")
    return proto


def _contents(path: Path) -> memoryview:
    """The bytes of a model's file.

    Raises:
        CompileError: If there is none, it is no plain file, or is larger than protobuf's files can be.
    """
    try:
        if not path.is_file():
            raise CompileError(f"no file '{path}'; expected an ONNX model")
        size = path.stat().st_size
        if size > _LARGEST_FILE:
            raise CompileError(f"'{path}' has {size} bytes; an ONNX model has at most {_LARGEST_FILE}")
        # Not read_bytes: numpy asks for large pages, and half of the time goes into faults of small ones.
        data = np.empty(size, np.uint8)
        with path.open("rb", buffering=0) as file:
            done = 0
            while done < size and (count := file.readinto(data[done:].data)):
                done += count
        return data[:done].data
    except (OSError, ValueError) as error:
        raise CompileError(f"'{path}' cannot be read: {error}") from None


def _check_text(proto: Any, name: str) -> None:
    """Refuses names that are no UTF-8: protobuf hands them over as bytes."""
    pending = [proto.graph, *proto.functions]
    texts = [t for o in proto.opset_import for t in (o.domain,)]
    for v in proto.graph.input:
        texts += [d.dim_param for d in v.type.tensor_type.shape.dim]
    while pending:
        graph = pending.pop()
        if hasattr(graph, "initializer"):
            texts += [v.name for v in (*graph.input, *graph.output, *graph.initializer)]
            texts += [t.values.name for t in graph.sparse_initializer]
        else:
            texts += [*graph.input, *graph.output, graph.name, graph.domain, *(o.domain for o in graph.opset_import)]
        for n in graph.node:
            texts += [n.name, n.op_type, n.domain, *n.input, *n.output]
            for a in n.attribute:
                texts += [a.name, a.ref_attr_name]
                pending += [*([a.g] if a.HasField("g") else []), *a.graphs]
    if not all(isinstance(t, str) for t in texts):
        raise CompileError(f"{name} is no ONNX model: a name in it is not UTF-8")


def _opsets(proto: Any, name: str) -> dict[str, int]:
    """Versions of operator sets by domain; the standard domain is the empty name."""
    import onnx

    opsets: dict[str, int] = {}
    for o in proto.opset_import:
        domain = "" if o.domain in _STANDARD else o.domain
        if opsets.setdefault(domain, int(o.version)) != o.version:
            found = f"{opsets[domain]} and {o.version}"
            raise CompileError(f"{name} uses opsets {found} of domain {quoted(o.domain)}, expected one")
    newest = onnx.defs.onnx_opset_version()
    version = opsets.setdefault("", 1)
    if not OLDEST_OPSET <= version <= newest:
        raise CompileError(
            f"{name} uses opset {version}; expected {OLDEST_OPSET} to {newest} (convert it with "
            f"onnx.version_converter.convert_version)"
        )
    return opsets


def _inlined(proto: Any, name: str, opset: int, limits: Limits) -> Any:
    """The model with its own functions written out, after counting what that takes."""
    if not proto.functions:
        return proto
    import onnx.checker
    import onnx.inliner

    functions = {(f.domain, f.name): f for f in proto.functions}
    if len(functions) < len(proto.functions):
        raise CompileError(f"{name} defines a function twice")
    sizes: dict[tuple[str, str], int] = {}

    def size(nodes: Any, path: tuple[tuple[str, str], ...]) -> int:
        total = 0
        for n in nodes:
            key = (n.domain, n.op_type)
            total += 1
            if key in functions:
                if key in path or len(path) >= limits.nesting:
                    raise CompileError(
                        f"{name}: function {quoted(n.op_type)} calls itself or nests deeper than {limits.nesting}"
                    )
                called = functions[key]
                if len(n.input) > len(called.input) or len(n.output) > len(called.output):
                    raise CompileError(
                        f"{name}: function {quoted(n.op_type)} is called with {len(n.input)} inputs and "
                        f"{len(n.output)} outputs, expected at most {len(called.input)} and {len(called.output)}"
                    )
                for o in called.opset_import:
                    if o.domain in _STANDARD and o.version != opset:
                        raise CompileError(
                            f"{name}: function {quoted(n.op_type)} is written for opset {o.version} and the model for "
                            f"{opset}, expected the same (convert it with onnx.version_converter.convert_version)"
                        )
                if key not in sizes:
                    sizes[key] = size(functions[key].node, (*path, key))
                total += sizes[key]
            for a in n.attribute:
                for g in ([a.g] if a.HasField("g") else []) + list(a.graphs):
                    total += size(g.node, path)
            if total > limits.nodes:
                raise CompileError(f"{name} has more than {limits.nodes} nodes once functions are inlined, the limit")
        return total

    size(proto.graph.node, ())
    reduced = onnx.ModelProto()
    reduced.CopyFrom(proto)
    # The inliner refuses functions that call each other even where nobody calls them.
    del reduced.functions[:]
    reduced.functions.extend(f for key, f in functions.items() if key in sizes)
    try:
        return onnx.inliner.inline_local_functions(reduced)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        raise CompileError(f"{name}: its functions cannot be inlined: {plain(str(error))}") from None


class _Importer:
    """The conversion of one model."""

    def __init__(self, name: str, storage: Storage, opsets: dict[str, int], limits: Limits) -> None:
        self._name = name
        self._opsets = opsets
        self._limits = limits
        self._writer = GraphWriter("model", max_elements=limits.elements, max_rank=limits.rank)
        self._tensors = TensorReader(storage, limits)
        self._problems: list[Problem] = []
        self._count = 0
        self._depth = 0

    def run(
        self,
        graph: Any,
        inputs: Sequence[Declaration],
        shapes: dict[str, Any],
        values: dict[str, NDArray[np.generic]],
    ) -> GraphModule:
        """Converts the main graph."""
        scope: _Scope = {}
        self._initializers(graph, scope)
        self._inputs(inputs, scope, shapes, values)
        self._nodes(graph, scope)
        outputs: list[SymbolicTensor] = []
        for out in graph.output:
            if out.name not in scope:
                self._problems.append(Problem("output", out.name, "no node defines it"))
            elif isinstance(value := scope[out.name], SymbolicTensor):
                outputs.append(value)
            elif isinstance(value, TensorList):
                why = f"it is {value!r}, expected a tensor: give the elements, or ConcatFromSequence of them"
                self._problems.append(Problem("output", out.name, why))
        refuse(self._name, self._problems)
        labels = [out.name for out in graph.output]
        return GraphModule(self._writer.finish([v.value for v in outputs], labels), self._writer.store)

    def _initializers(self, graph: Any, scope: _Scope) -> None:
        for sparse in graph.sparse_initializer:
            self._problems.append(Problem("initializer", sparse.values.name, "it is sparse, expected a dense one"))
            scope[sparse.values.name] = None
        pending: dict[str, NDArray[np.generic]] = {}
        size = 0
        with ThreadPoolExecutor(os.cpu_count()) as pool:

            def store() -> None:
                large = {name: pool.submit(digest, a) for name, a in pending.items() if a.nbytes > _LARGE}
                for name, array in pending.items():
                    known = large[name].result() if name in large else None
                    scope[name] = SymbolicTensor(self._writer, self._writer.constant(array, known))
                pending.clear()

            for tensor in graph.initializer:
                if tensor.name in scope or tensor.name in pending:
                    self._problems.append(Problem("initializer", tensor.name, "its name is defined twice"))
                    continue
                try:
                    pending[tensor.name] = self._tensors.read(tensor)
                except CompileError as error:
                    self._problems.append(Problem("initializer", tensor.name, str(error)))
                    scope[tensor.name] = None
                    continue
                # A thousand weights may be one: equal ones share memory once their digests are known.
                size += pending[tensor.name].nbytes
                if size > _PENDING:
                    store()
                    size = 0
            store()

    def _lift(self, array: NDArray[np.generic]) -> SymbolicTensor:
        return SymbolicTensor(self._writer, self._writer.constant(array))

    def _inputs(
        self,
        declared: Sequence[Declaration],
        scope: _Scope,
        shapes: dict[str, Any],
        values: dict[str, NDArray[np.generic]],
    ) -> None:
        for v in narrowed(declared, {**shapes, **{name: np.shape(a) for name, a in values.items()}}, self._name):
            if v.name in values:
                scope[v.name] = self._lift(np.asarray(values[v.name]))
                continue
            shape = closed_shape(v, self._name)
            self._limits.check_shape(shape, f"{self._name}: input {quoted(v.name)}")
            scope[v.name] = SymbolicTensor(self._writer, self._writer.input(tensor_type(v.dtype, shape), v.name))

    def survey(self, graph: Any) -> None:
        """Refuses operators that have no counterpart, whatever their inputs are."""
        pending = [graph]
        while pending:
            for proto in pending.pop().node:
                domain = "" if proto.domain in _STANDARD else proto.domain
                if (domain, proto.op_type) not in CONVERTERS and (domain or not self._expandable(proto.op_type)):
                    why = self._unknown(domain, proto.op_type)
                    self._problems.append(Problem("node", proto.name, why, proto.op_type))
                pending += [g for a in proto.attribute for g in ([a.g] if a.HasField("g") else []) + list(a.graphs)]
        refuse(self._name, self._problems)

    def _nodes(self, graph: Any, scope: _Scope) -> None:
        """Converts the nodes of a graph in order."""
        self._count += len(graph.node)
        if self._count > self._limits.nodes:
            raise CompileError(f"{self._name} has more than {self._limits.nodes} nodes, the limit")
        for proto in graph.node:
            results = self._node(proto, scope)
            for k, name in enumerate(proto.output):
                if not name:
                    continue
                if name in scope:
                    self._problem(proto, f"it defines {quoted(name)}, which is defined already")
                scope[name] = results[k] if results is not None and k < len(results) else None

    def _problem(self, proto: Any, why: str, inputs: tuple[str, ...] = ()) -> None:
        self._problems.append(Problem("node", proto.name, why, proto.op_type, inputs))

    def _node(self, proto: Any, scope: _Scope) -> Sequence[Item | None] | None:
        domain = "" if proto.domain in _STANDARD else proto.domain
        converter = CONVERTERS.get((domain, proto.op_type))
        undefined = [i for i in proto.input if i and i not in scope]
        if converter is not None and undefined:
            self._problem(proto, f"its input {quoted(undefined[0])} is not defined before it")
            return None
        found = [scope.get(i) if i else ABSENT for i in proto.input]
        inputs = [x if isinstance(x, (SymbolicTensor, TensorList)) else None for x in found]
        poisoned = any(x is None for x in found)
        if converter is None:
            known = not undefined and not poisoned
            function = None if domain or not known else expansion(proto, self._opsets[""], inputs)
            if function is None and (domain or known or not self._expandable(proto.op_type)):
                self._problem(proto, self._unknown(domain, proto.op_type))
            return None if function is None else self._expand(proto, function, inputs)
        if poisoned:
            return None
        view = NodeView(
            proto,
            self._opsets.get(domain, 1),
            inputs,
            self._writer,
            self._tensors,
            lambda graph, given: self._subgraph(graph, given, scope),
            self._limits,
        )
        try:
            check_signature(proto, domain, view.opset)
            result = converter(view)
            if view.unread():
                keys = ", ".join(map(quoted, view.unread()))
                raise CompileError(f"attribute {keys} is none that {proto.op_type} has in opset {view.opset}")
        except ReportedError:
            return None
        except CompileError as error:
            needed = error.inputs if isinstance(error, OpenValueError) else ()
            self._problem(proto, str(error), needed)
            return None
        results = [result] if isinstance(result, (SymbolicTensor, TensorList)) else list(result)
        for k, name in enumerate(proto.output):
            if name and (k >= len(results) or results[k] is None):
                self._problem(proto, f"its output {k} ({quoted(name)}) is not supported, leave it out")
                return None
        return results

    def _expandable(self, op: str) -> bool:
        """Whether ONNX defines an operator by others (its inputs may not be known yet)."""
        import onnx

        try:
            schema: Any = onnx.defs.get_schema(op, self._opsets[""], "")
        except onnx.defs.SchemaError:
            return False
        return bool(schema.has_function or schema.has_context_dependent_function)

    def _expand(self, proto: Any, function: Any, inputs: Sequence[Item | None]) -> list[Item | None] | None:
        """Converts the nodes that define an operator in its place."""
        if self._depth >= self._limits.nesting:
            raise CompileError(f"{self._name}: functions nest deeper than {self._limits.nesting}, the limit")
        scope: _Scope = dict.fromkeys(function.input, ABSENT)
        scope.update({name: ABSENT if x is None else x for name, x in zip(function.input, inputs, strict=False)})
        before = len(self._problems)
        outer = self._opsets
        self._opsets = {
            **outer,
            **{("" if o.domain in _STANDARD else o.domain): o.version for o in function.opset_import},
        }
        self._depth += 1
        self._nodes(function, scope)
        self._depth -= 1
        self._opsets = outer
        outside = Problem("node", proto.name, "", proto.op_type).where()
        for problem in self._problems[before:]:
            problem.path = f"{outside}, in {problem.path}" if problem.path else outside
        results = [scope.get(name) for name in function.output]
        return [r if isinstance(r, (SymbolicTensor, TensorList)) else None for r in results]

    def _unknown(self, domain: str, op: str) -> str:
        """What to say of an operator that has no converter."""
        hint = nearest(op, domain, CONVERTERS)
        of = f" of domain {quoted(domain)}" if domain else f" (opset {self._opsets['']})"
        return f"no converter for operator {quoted(op)}{of}{hint and '; ' + hint}"

    def _subgraph(self, graph: Any, given: Mapping[str, Item], outer: _Scope) -> list[Item]:
        """Converts a subgraph in place; it sees the values around it."""
        if self._depth >= self._limits.nesting:
            raise CompileError(f"subgraphs nest deeper than {self._limits.nesting}, the limit")
        scope = {**outer, **given}
        for name in (*(t.name for t in graph.initializer), *(o for n in graph.node for o in n.output)):
            # A name of the subgraph may hide one of the graph around it.
            if name not in given:
                scope.pop(name, None)
        before = len(self._problems)
        self._depth += 1
        self._initializers(graph, scope)
        self._nodes(graph, scope)
        self._depth -= 1
        undefined = [out.name for out in graph.output if out.name not in scope]
        if undefined:
            raise CompileError(f"no node of its subgraph defines the output {quoted(undefined[0])}")
        results = [scope[out.name] for out in graph.output]
        done = [r for r in results if isinstance(r, (SymbolicTensor, TensorList))]
        if len(done) != len(results) or len(self._problems) > before:
            raise ReportedError("a node inside, or one before, cannot be converted")
        return done
