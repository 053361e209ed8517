"""Built-in models, written with the builder: what `example:NAME` means on the command line."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tcompiler.errors import UserError
from tcompiler.frontend.functions import conv, max_pool, mean, relu
from tcompiler.frontend.module import GraphModule
from tcompiler.frontend.tensor import SymbolicTensor
from tcompiler.frontend.tracing import spec, trace

Weights = NDArray[np.float32]


class _Init:
    """He-initialised weights from one seed."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)

    def weight(self, *shape: int) -> Weights:
        """Normal, scaled by the square root of 2 / (inputs per output)."""
        fan_in = int(np.prod(shape[1:]))
        scaled = self._rng.standard_normal(shape) * np.sqrt(2.0 / fan_in)
        return np.asarray(scaled, dtype=np.float32)

    def bias(self, size: int) -> Weights:
        """Small normal values."""
        return np.asarray(self._rng.standard_normal(size) * 0.1, dtype=np.float32)


def mlp() -> GraphModule:
    """A perceptron of three layers, 784 → 512 → 256 → 10, batch 32."""
    init = _Init()
    sizes = (784, 512, 256, 10)
    layers = [(init.weight(b, a).T.copy(), init.bias(b)) for a, b in pairwise(sizes)]

    def model(x: SymbolicTensor) -> SymbolicTensor:
        for k, (w, b) in enumerate(layers):
            x = x @ w + b
            if k + 1 < len(layers):
                x = relu(x)
        return x

    return trace(model, x=spec("f32", (32, 784)))


def resnet18() -> GraphModule:
    """ResNet-18 (He et al., *Deep Residual Learning for Image Recognition*) without batch norms, 1x3x224x224."""
    init = _Init()

    def layer(x: SymbolicTensor, filters: int, kernel: int, stride: int) -> SymbolicTensor:
        channels = int(x.shape[1])
        w = init.weight(filters, channels, kernel, kernel)
        return conv(x, w, init.bias(filters), strides=stride, pads=kernel // 2)

    def block(x: SymbolicTensor, filters: int, stride: int) -> SymbolicTensor:
        y = layer(relu(layer(x, filters, 3, stride)), filters, 3, 1)
        short = x if stride == 1 and int(x.shape[1]) == filters else layer(x, filters, 1, stride)
        return relu((y + short) * np.float32(0.5))

    def model(x: SymbolicTensor) -> SymbolicTensor:
        x = max_pool(relu(layer(x, 64, 7, 2)), 3, strides=2, pads=1)
        for filters, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            x = block(block(x, filters, stride), filters, 1)
        return mean(x, axis=(2, 3)) @ init.weight(1000, 512).T.copy() + init.bias(1000)

    return trace(model, x=spec("f32", (1, 3, 224, 224)))


EXAMPLES: dict[str, Callable[[], GraphModule]] = {"mlp": mlp, "resnet18": resnet18}
"""The examples by name."""


def build(name: str) -> GraphModule:
    """Builds an example.

    Raises:
        UserError: If there is none of this name.
    """
    make = EXAMPLES.get(name)
    if make is None:
        near = difflib.get_close_matches(name, EXAMPLES, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f'there is no example "{name}"; the examples are {", ".join(EXAMPLES)}{hint}')
    return make()
