"""The networks of OLLIE's evaluation (Zheng et al., arXiv 2208.02025) beside ResNet-18, written as PyTorch modules.

They hold what rules on tensor expressions gain from: transposed convolutions, dilated ones, long thin kernels, and an
attention whose band is dilated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from benchmarks.models.networks import ResNet, TransformerBlock
from benchmarks.models.weights import linear

__all__ = ["FSRCNN", "GCN", "CSRNet", "LongformerLayer", "generator"]


def generator(
    latent: int, first: int, kernel: int, widths: Sequence[int] = (256, 128, 64), colours: int = 3
) -> nn.Module:
    """The generator of a GAN: transposed convolutions from one pixel up, batch norm and ReLU after each but the last.

    Radford et al., *DCGAN*, Fig. 1 (latent 100, first 512, kernel 4: images of 64²); Chen et al., *InfoGAN*, in
    OLLIE's sizes (latent 228, first 448, kernel 2: images of 32²).

    Args:
        latent: Channels of the input [n, latent, 1, 1].
        first: Channels after the first layer.
        kernel: Kernel of the first layer, and so its output's height and width.
        widths: Channels after each further layer; every one doubles height and width (4×4, stride 2, pad 1).
        colours: Channels of the image.
    """
    layers: list[nn.Module] = [nn.ConvTranspose2d(latent, first, kernel, bias=False), nn.BatchNorm2d(first), nn.ReLU()]
    for before, after in pairwise((first, *widths)):
        layers += [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], colours, 4, 2, 1), nn.Tanh())


class FSRCNN(nn.Module):
    """Super-resolution of one channel by a factor of four (Dong et al., *Accelerating SRCNN*, Fig. 2).

    Args:
        wide: Channels of the feature extraction and before the deconvolution (d).
        narrow: Channels of the mapping (s).
        depth: 3×3 convolutions of the mapping (m).
    """

    def __init__(self, wide: int = 56, narrow: int = 12, depth: int = 4) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, wide, 5, padding=2), nn.PReLU(wide)]
        layers += [nn.Conv2d(wide, narrow, 1), nn.PReLU(narrow)]
        for _ in range(depth):
            layers += [nn.Conv2d(narrow, narrow, 3, padding=1), nn.PReLU(narrow)]
        layers += [nn.Conv2d(narrow, wide, 1), nn.PReLU(wide)]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(wide, 1, 9, 4, 4, output_padding=3))

    def forward(self, x: Tensor) -> Tensor:
        """Images [n, 1, 4h, 4w] of images [n, 1, h, w]."""
        y: Tensor = self.layers(x)
        return y


class CSRNet(nn.Module):
    """Crowd counting: ten layers of VGG-16, then six dilated 3×3 convolutions (Li et al., *CSRNet*, Table 3, B).

    Args:
        front: Channels of the front end's convolutions; 0 is a max pool.
        back: Channels of the back end's convolutions, dilated by two.
    """

    def __init__(
        self,
        front: Sequence[int] = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512),
        back: Sequence[int] = (512, 512, 512, 256, 128, 64),
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for dilation, width in [(1, width) for width in front] + [(2, width) for width in back]:
            if width == 0:
                layers.append(nn.MaxPool2d(2))
                continue
            layers += [nn.Conv2d(channels, width, 3, padding=dilation, dilation=dilation), nn.ReLU()]
            channels = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Density maps [n, 1, h/8, w/8] of images [n, 3, h, w]."""
        y: Tensor = self.layers(x)
        return y


class _LargeKernel(nn.Module):
    """k×k convolution approximated by two thin pairs (Peng et al., *Large Kernel Matters*, Fig. 3 B)."""

    def __init__(self, inputs: int, outputs: int, k: int) -> None:
        super().__init__()
        tall, long = ((k, 1), (k // 2, 0)), ((1, k), (0, k // 2))
        self.left, self.right = (
            nn.Sequential(
                linear(nn.Conv2d(inputs, outputs, first[0], padding=first[1])),
                linear(nn.Conv2d(outputs, outputs, second[0], padding=second[1]), 0.5),
            )
            for first, second in ((tall, long), (long, tall))
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.left(x) + self.right(x)
        return y


class _Refinement(nn.Module):
    """A residual block that sharpens boundaries (Peng et al., Fig. 3 C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = linear(nn.Conv2d(channels, channels, 3, padding=1), 0.25)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.conv2(torch.relu(self.conv1(x)))
        return y


class GCN(nn.Module):
    """Segmentation with large kernels on a residual network's four stages (Peng et al., *Large Kernel Matters*).

    Args:
        widths: Channels of the backbone's stages.
        depth: Basic blocks per stage.
        classes: Channels of the scores.
        k: Length of the thin kernels, odd.
    """

    def __init__(
        self, widths: tuple[int, ...] = (64, 128, 256, 512), depth: int = 2, classes: int = 21, k: int = 7
    ) -> None:
        super().__init__()
        backbone = ResNet(widths, depth, 1)
        self.stem = backbone.stem
        self.stages = nn.ModuleList(
            nn.Sequential(*list(backbone.blocks)[i * depth : (i + 1) * depth]) for i in range(len(widths))
        )
        self.kernels = nn.ModuleList(_LargeKernel(width, classes, k) for width in widths)
        self.refine = nn.ModuleList(_Refinement(classes) for _ in widths)
        self.grow = nn.ModuleList(linear(nn.ConvTranspose2d(classes, classes, 4, 2, 1), 0.5) for _ in (*widths, 0))
        self.after = nn.ModuleList(_Refinement(classes) for _ in (*widths, 0))

    def forward(self, x: Tensor) -> Tensor:
        """Scores [n, classes, h, w] of images [n, 3, h, w], h and w multiples of 32."""
        x = self.stem(x)
        scores: list[Tensor] = []
        for stage, kernel, refine in zip(self.stages, self.kernels, self.refine, strict=True):
            x = stage(x)
            scores.append(refine(kernel(x)))
        y = scores.pop()
        for grow, after in zip(self.grow, self.after, strict=True):
            y = grow(y)
            y = after(y + scores.pop() if scores else y)
        return y


class LongformerLayer(nn.Module):
    """A transformer layer whose queries see a dilated band of keys (Beltagy et al., *Longformer*, Fig. 2 c).

    Position i sees the positions i + d·j for |j| ≤ w. Positions of one residue modulo d see one another alone, so the
    residues are batches here; in each, a block of queries meets the keys within reach of it, and a mask cuts the band.

    Args:
        dim: Model width, a multiple of `heads`.
        heads: Attention heads.
        window: w, to either side.
        dilation: d, which divides the sequence's length.
        block: Queries per block.
    """

    def __init__(self, dim: int = 512, heads: int = 8, window: int = 1000, dilation: int = 4, block: int = 500) -> None:
        super().__init__()
        self.heads, self.window, self.dilation, self.block = heads, window, dilation, block
        self.inner = TransformerBlock(dim, heads)

    def forward(self, x: Tensor) -> Tensor:
        """A sequence [n, length, dim] of the same shape."""
        inner = self.inner
        batch, length, dim = x.shape
        d, size = self.dilation, dim // self.heads
        qkv = inner.qkv(inner.norm1(x)).reshape(batch, length // d, d, 3, self.heads, size)
        q, k, v = qkv.permute(3, 0, 2, 4, 1, 5)
        blocks = []
        for start in range(0, length // d, self.block):
            end = min(start + self.block, length // d)
            first, last = max(0, start - self.window), min(length // d, end + self.window)
            scores = (q[..., start:end, :] @ k[..., first:last, :].transpose(-2, -1)) / math.sqrt(size)
            distance = torch.arange(first, last)[None, :] - torch.arange(start, end)[:, None]
            scores = scores.masked_fill(distance.abs() > self.window, -torch.inf)
            blocks.append(torch.softmax(scores, -1) @ v[..., first:last, :])
        attended = torch.cat(blocks, -2).permute(0, 3, 1, 2, 4).reshape(batch, length, dim)
        x = x + inner.project(attended)
        fed: Tensor = inner.down(nn.functional.gelu(inner.up(inner.norm2(x))))
        return x + fed
