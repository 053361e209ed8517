"""The networks as PyTorch modules, written here, with seeded weights that keep every activation of order one."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

__all__ = ["MLP", "ResNet", "TransformerBlock"]


class _BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut (He et al., *Deep Residual Learning for Image Recognition*, Fig. 5)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """A residual network of basic blocks.

    Args:
        widths: Channels of each stage; every stage but the first halves height and width.
        depth: Blocks per stage. (64, 128, 256, 512) at depth 2 is ResNet-18.
        classes: Length of the logits.
    """

    def __init__(self, widths: tuple[int, ...] = (64, 128, 256, 512), depth: int = 2, classes: int = 1000) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, widths[0], 7, 2, 3, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        blocks: list[nn.Module] = []
        previous = widths[0]
        for stage, width in enumerate(widths):
            for block in range(depth):
                blocks.append(_BasicBlock(previous, width, 2 if stage > 0 and block == 0 else 1))
                previous = width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(previous, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [n, classes] of images [n, 3, h, w]."""
        y = torch.flatten(nn.functional.adaptive_avg_pool2d(self.blocks(self.stem(x)), 1), 1)
        logits: Tensor = self.head(y)
        return logits


class MLP(nn.Module):
    """Fully connected layers with relu, tanh and sigmoid; every second one is a matmul and an add, not a Gemm.

    Args:
        sizes: Features of the input and after each layer.
    """

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(torch.randn(a, b) * math.sqrt(2.0 / a) for a, b in pairwise(sizes))
        self.biases = nn.ParameterList(torch.randn(b) * 0.5 for b in sizes[1:])

    def forward(self, x: Tensor) -> Tensor:
        """Logits [n, sizes[-1]] of features [n, sizes[0]]."""
        activations = (torch.relu, torch.tanh, torch.sigmoid)
        layers = list(zip(self.weights, self.biases, strict=True))
        for i, (weight, bias) in enumerate(layers):
            x = torch.addmm(bias, x, weight) if i % 2 == 0 else x @ weight + bias
            if i + 1 < len(layers):
                x = activations[i % 3](x)
        return x


class TransformerBlock(nn.Module):
    """One pre-norm transformer encoder block, attention written out (Vaswani et al.; Xiong et al. for the order).

    Args:
        dim: Model width, a multiple of `heads`.
        heads: Attention heads.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.project = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        for norm in (self.norm1, self.norm2):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, 0.0, 0.25)
        for linear in (self.qkv, self.project, self.up, self.down):
            nn.init.normal_(linear.weight, 0.0, 1.5 / math.sqrt(linear.in_features))
            nn.init.normal_(linear.bias, 0.0, 0.25)

    def forward(self, x: Tensor) -> Tensor:
        """A sequence [n, length, dim] of the same shape."""
        batch, sequence, dim = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, sequence, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-2, -1)) / math.sqrt(dim // self.heads)
        attended = (torch.softmax(scores, -1) @ v).transpose(1, 2).reshape(batch, sequence, dim)
        x = x + self.project(attended)
        fed: Tensor = self.down(nn.functional.gelu(self.up(self.norm2(x))))
        return x + fed
