"""Random weights for PyTorch modules that keep every activation of order one, so that no error hides in rounding.

Small weights, or statistics that belong to no data, let activations vanish or blow up: a dropped bias, a wrong pad or a
missing layer would then change the outputs by less than the rounding error of what remains.
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor, nn

_Layer = TypeVar("_Layer", bound=nn.Module)


def linear(layer: _Layer, gain: float = 1.0) -> _Layer:
    """Marks a convolution that no ReLU follows: its outputs have `gain` times the variance of its inputs."""
    setattr(layer, "gain", gain)  # noqa: B010
    return layer


def initialise(module: nn.Module, *calibration: Tensor) -> nn.Module:
    """He weights, uneven norms, biases that show, and running statistics near those of some data.

    Args:
        module: Convolutions, linear layers, embeddings and norms in any nesting; other parameters are drawn normal
            with a standard deviation of a half.
        *calibration: Inputs that batch norms are calibrated with, at least two values per channel at every norm;
            none if the module has no batch norm.

    Returns:
        The module, in eval mode. Values come from torch's generator.
    """
    with torch.no_grad():
        known: set[int] = set()
        for layer in module.modules():
            if _draw(layer):
                known.update(id(p) for p in layer.parameters(recurse=False))
        for parameter in module.parameters():
            if id(parameter) not in known:
                nn.init.normal_(parameter, 0.0, 0.5)
    if calibration:
        calibrate(module, *calibration)
    return module.eval()


def _draw(layer: nn.Module) -> bool:
    """Gives one layer its weights; whether it is of a kind that we know."""
    bias, gain = getattr(layer, "bias", None), getattr(layer, "gain", 2.0)
    match layer:
        case nn.ConvTranspose2d():
            # An output element is a sum over the taps of one residue class of the stride, not over all taps.
            taps = math.prod(layer.kernel_size) / math.prod(layer.stride)
            nn.init.normal_(layer.weight, 0.0, math.sqrt(gain / (layer.in_channels // layer.groups * max(1.0, taps))))
        case nn.Conv1d() | nn.Conv2d():
            nn.init.normal_(layer.weight, 0.0, math.sqrt(gain / math.prod(layer.weight.shape[1:])))
        case nn.Linear():
            nn.init.normal_(layer.weight, 0.0, 1.0 / math.sqrt(layer.in_features))
        case nn.Embedding():
            nn.init.normal_(layer.weight)
        case nn.PReLU():
            nn.init.uniform_(layer.weight, 0.1, 0.4)
        case nn.LayerNorm() | nn.BatchNorm1d() | nn.BatchNorm2d() | nn.GroupNorm():
            nn.init.uniform_(layer.weight, 0.5, 1.5)
        case _ if type(layer).__name__ == "Conv1D":  # transformers' linear layer with its weight the other way round
            weight = layer.weight
            assert isinstance(weight, Tensor)
            nn.init.normal_(weight, 0.0, 1.0 / math.sqrt(weight.shape[0]))
        case _:
            return False
    if isinstance(bias, Tensor):
        nn.init.normal_(bias, 0.0, 0.25)
    return True


def calibrate(module: nn.Module, *inputs: Tensor) -> None:
    """Gives batch norms the statistics of some data, slightly off, so that no norm is an identity.

    Args:
        module: The module; afterwards in eval mode.
        *inputs: What it is called with.
    """
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # a plain average over the calibration passes
    module.train()
    with torch.no_grad():
        module(*inputs)
        for norm, momentum in zip(norms, momenta, strict=True):
            mean, variance = norm.running_mean, norm.running_var
            assert mean is not None and variance is not None
            mean.add_(0.1 * variance.sqrt() * torch.randn_like(mean))
            variance.mul_(torch.empty_like(variance).uniform_(0.8, 1.25))
            norm.momentum = momentum
    module.eval()
