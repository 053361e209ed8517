"""The systems a model can be measured with: ours and its peers. Each runs in a process of its own (see `child`).

A system is a function (path, threads) → prepare, and prepare(inputs) → call; call() runs the model once and returns
its outputs as arrays. Thread counts are set explicitly everywhere; libraries are imported only where they are used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Call: TypeAlias = Callable[[], list[Array]]
Prepare: TypeAlias = Callable[[dict[str, Array]], Call]
System: TypeAlias = Callable[[str, int], Prepare]


def tcompiler(path: str, threads: int) -> Prepare:
    """This compiler: an ONNX file is compiled, a saved model (.tcm) is loaded."""
    import tcompiler as tc

    model: Any = tc.load(path) if path.endswith(".tcm") else tc.compile(path, target="cpu", threads=threads)

    def prepare(inputs: dict[str, Array]) -> Call:
        arguments = list(inputs.values())

        def call() -> list[Array]:
            outputs = model(*arguments)
            return list(outputs) if isinstance(outputs, tuple) else [outputs]

        return call

    return prepare


def onnxruntime(path: str, threads: int) -> Prepare:
    """ONNX Runtime's CPU provider at its default optimisation level (all)."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda inputs: lambda: list(session.run(None, inputs))


def openvino(path: str, threads: int) -> Prepare:
    """OpenVINO's CPU plugin, one stream, in f32 (its default would use bf16 where the machine has it)."""
    import openvino as ov

    configuration = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = ov.Core().compile_model(path, "CPU", configuration)
    request = compiled.create_infer_request()

    def prepare(inputs: dict[str, Array]) -> Call:
        def call() -> list[Array]:
            results = request.infer(inputs, share_inputs=True, share_outputs=True)
            return [results[i] for i in range(len(compiled.outputs))]

        return call

    return prepare


def torch(path: str, threads: int) -> Prepare:
    """PyTorch's kernels run eagerly, one call per ONNX node."""
    import torch as pytorch

    from tcompiler.cli.bench.onnx_torch import TorchModel

    pytorch.set_num_threads(threads)
    if pytorch.get_num_interop_threads() != 1:  # may be set only once in a process
        pytorch.set_num_interop_threads(1)
    model = TorchModel(path)

    def prepare(inputs: dict[str, Array]) -> Call:
        arguments = [pytorch.from_numpy(inputs[name]) for name in model.input_names]
        return lambda: [np.asarray(y) for y in model(*arguments)]

    return prepare


SYSTEMS: dict[str, System] = {
    "tcompiler": tcompiler,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "torch": torch,
}
PEERS: tuple[str, ...] = tuple(name for name in SYSTEMS if name != "tcompiler")
