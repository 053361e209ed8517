"""PyTorch modules, compiled without an ONNX file in between."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tcompiler as tc
from tcompiler.errors import CompileError


class Small(nn.Module):
    """Something that differs between training and inference."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.drop = nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.Dropout(0.5)
        nn.init.uniform_(self.norm.running_var, 0.5, 2.0)
        nn.init.normal_(self.norm.running_mean)

    def forward(self, x: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        y = torch.relu(self.norm(self.conv(x))) + shift
        return self.drop(y), y.mean((2, 3))


def test_a_module_is_compiled_as_in_inference() -> None:
    module = Small().train()
    x, shift = torch.randn(2, 3, 7, 9), torch.randn(5, 1, 1)
    model = tc.compile(module, threads=1, example_inputs=(x, shift))
    assert module.training
    expected = module.eval()(x, shift)
    # A tensor is an argument as an array is.
    for given in ((x, shift), (x.numpy(), shift.numpy())):
        for got, want in zip(model(*given), expected, strict=True):
            np.testing.assert_allclose(got, want.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_open_dimensions_are_compiled_for_when_they_come() -> None:
    module, free = Small().eval(), torch.export.Dim.DYNAMIC
    example = (torch.randn(2, 3, 7, 9), torch.randn(5, 1, 1))
    model = tc.compile(module, threads=1, example_inputs=example, dynamic_shapes=({0: free, 3: free}, None))
    for batch, width in ((1, 4), (3, 11)):
        given = torch.randn(batch, 3, 7, width), torch.randn(5, 1, 1)
        for got, want in zip(model(*given), module(*given), strict=True):
            np.testing.assert_allclose(got, want.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_errors() -> None:
    with pytest.raises(CompileError) as caught:
        tc.compile(Small())
    assert str(caught.value) == "a PyTorch module is traced with example_inputs, and none are given"
    with pytest.raises(CompileError) as caught:
        tc.compile("model.onnx", example_inputs=())
    assert str(caught.value) == "example_inputs are for a PyTorch module, but the model is a str"

    class Branches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if bool(x.sum() > 0) else -x

    with pytest.raises(CompileError) as caught:
        tc.compile(Branches(), example_inputs=(torch.ones(3),))
    assert str(caught.value).startswith("PyTorch cannot export this Branches to ONNX: ")
