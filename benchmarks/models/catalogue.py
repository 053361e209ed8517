"""Every network by name: how it is made, and what it is fed. Modules are imported where a network needs them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from benchmarks.models.inputs import Input

if TYPE_CHECKING:
    import torch

_IMAGE = (3, 224, 224)
_CALIBRATION = 2
"""Images that batch norms are calibrated with."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A network exported from PyTorch; data alone, so that its text says all that it depends on beside the sources.

    Args:
        kind: What builds the module: a name in one of this package's files, as in "ollie.CSRNet".
        inputs: By name, in order.
        outputs: Names.
        arguments: Of the builder.
        options: Of the builder, too.
        calibrated: Shape of the images that batch norms are calibrated with; None if there are none.
        draws: Whether the builder draws weights itself, those that suit it.
        optimize: False keeps the BatchNormalization nodes that torch's exporter otherwise folds into convolutions.
    """

    kind: str
    inputs: Mapping[str, Input]
    outputs: tuple[str, ...] = ("y",)
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    calibrated: tuple[int, ...] | None = None
    draws: bool = False
    optimize: bool = True

    @property
    def sources(self) -> tuple[str, ...]:
        """Files of this package that the network is made by; a change there makes it anew."""
        file = self.kind.split(".")[0]
        return (file, "networks", "weights") if file == "ollie" else (file, "weights")

    def make(self) -> torch.nn.Module:
        """The module with its weights, from torch's generator, in eval mode."""
        import torch

        from benchmarks.models.weights import initialise

        file, name = self.kind.split(".")
        builder = getattr(importlib.import_module(f"benchmarks.models.{file}"), name)
        module: torch.nn.Module = builder(*self.arguments, **self.options)
        if self.draws:
            return module.eval()
        data = () if self.calibrated is None else (torch.randn(_CALIBRATION, *self.calibrated),)
        return initialise(module, *data)


@dataclass(frozen=True, slots=True)
class Light:
    """A light model of onnx's.

    Args:
        name: Its name there.
        narrow: Divides its channels.
    """

    name: str
    narrow: int = 1


Recipe = Exported | Light


def _image(*shape: int) -> dict[str, Input]:
    return {"x": Input((1, *shape))}


def _resnet(widths: tuple[int, ...], depth: int, classes: int, *image: int, batch: int = 1) -> Exported:
    return Exported(
        "networks.ResNet",
        {"x": Input((batch, *image))},
        arguments=(widths, depth, classes),
        calibrated=image,
        optimize=False,
    )


def _resnet18(batch: int = 1) -> Exported:
    return _resnet((64, 128, 256, 512), 2, 1000, *_IMAGE, batch=batch)


def _classifier(name: str, image: tuple[int, ...], **options: Any) -> Exported:
    return Exported(f"library.{name}", _image(*image), options=options, calibrated=image, optimize=False)


def _vit(image: int, **options: Any) -> Exported:
    return Exported("library.vit", _image(3, image, image), options={"image_size": image, **options})


def _bert(length: int, vocabulary: int = 30522, **options: Any) -> Exported:
    inputs = {
        "input_ids": Input((1, length), "tokens", vocabulary),
        "attention_mask": Input((1, length), "mask"),
        "token_type_ids": Input((1, length), "tokens", 2),
    }
    return Exported("library.bert", inputs, ("hidden", "pooled"), options={"vocab_size": vocabulary, **options})


def _gpt2(length: int, vocabulary: int = 50257, **options: Any) -> Exported:
    inputs = {"input_ids": Input((1, length), "tokens", vocabulary)}
    return Exported("library.gpt2", inputs, ("logits",), options={"vocab_size": vocabulary, **options})


def _gpt2_decode(cache: int, layers: int, heads: int, dim: int, vocabulary: int = 50257, **options: Any) -> Exported:
    inputs = {"input_ids": Input((1, 1), "tokens", vocabulary)}
    names = [f"{kind}_{layer}" for layer in range(layers) for kind in ("key", "value")]
    inputs |= {f"past_{name}": Input((1, heads, cache, dim // heads)) for name in names}
    outputs = ("logits", *(f"present_{name}" for name in names))
    sizes = {"vocab_size": vocabulary, "n_layer": layers, "n_head": heads, "n_embd": dim}
    return Exported("library.gpt2_decode", inputs, outputs, options={**sizes, **options})


def _ollie(kind: str, image: tuple[int, ...], *arguments: Any, norms: bool = False) -> Exported:
    calibrated = image if norms else None
    return Exported(f"ollie.{kind}", _image(*image), arguments=arguments, calibrated=calibrated, optimize=not norms)


def _longformer(length: int, *arguments: int, dim: int) -> Exported:
    return Exported("ollie.LongformerLayer", {"x": Input((1, length, dim))}, arguments=(dim, *arguments))


def _plain(kind: str, shape: tuple[int, ...], *arguments: Any) -> Exported:
    return Exported(f"networks.{kind}", {"x": Input(shape)}, arguments=arguments, draws=True)


_SMALL_GPT2 = {"n_positions": 64, "vocabulary": 211, "bos_token_id": 0, "eos_token_id": 0}

RECIPES: dict[str, Recipe] = {
    # What people run, at full size.
    **{f"light_{name}": Light(name) for name in (
        "bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet", "squeezenet", "vgg19",
        "zfnet512",
    )},
    "resnet18": _resnet18(),
    "resnet50": _classifier("resnet50", _IMAGE, num_labels=1000),
    "mobilenetv2": _classifier("mobilenetv2", _IMAGE, num_labels=1001),
    "vit_b16": _vit(224, num_labels=1000),
    "bert_base": _bert(128),
    "gpt2": _gpt2(128),
    "gpt2_decode": _gpt2_decode(128, 12, 12, 768),
    "dcgan": _ollie("generator", (100, 1, 1), 100, 512, 4, norms=True),
    "infogan": _ollie("generator", (228, 1, 1), 228, 448, 2, norms=True),
    "fsrcnn": _ollie("FSRCNN", (1, 128, 128)),
    "csrnet": _ollie("CSRNet", (3, 256, 256)),
    "gcn": _ollie("GCN", _IMAGE, norms=True),
    "longformer": _longformer(10000, 8, 1000, 4, 500, dim=512),
    # The same kinds of nodes in a second of work.
    "light_bvlc_alexnet_small": Light("bvlc_alexnet", 4),
    "light_vgg19_small": Light("vgg19", 4),
    "light_zfnet512_small": Light("zfnet512", 4),
    "resnet50_small": _classifier(
        "resnet50", (3, 75, 61), embedding_size=20, hidden_sizes=[28, 40, 56, 76], depths=[2, 1, 1, 2], num_labels=10
    ),
    "mobilenetv2_small": _classifier("mobilenetv2", (3, 75, 61), depth_multiplier=0.35, num_labels=10),
    "vit_small": _vit(
        48, hidden_size=60, num_hidden_layers=2, num_attention_heads=3, intermediate_size=130, num_labels=10
    ),
    "bert_small": _bert(
        37, 211, hidden_size=60, num_hidden_layers=2, num_attention_heads=3, intermediate_size=130
    ),
    "gpt2_small": _gpt2(37, n_layer=2, n_head=3, n_embd=60, **_SMALL_GPT2),
    "gpt2_decode_small": _gpt2_decode(7, 2, 3, 60, **_SMALL_GPT2),
    "csrnet_small": _ollie("CSRNet", (3, 56, 40), (8, 8, 0, 16, 16, 0, 17, 17, 0, 24), (24, 20, 8)),
    "gcn_small": _ollie("GCN", (3, 96, 64), (8, 12, 17, 24), 1, 5, norms=True),
    "longformer_small": _longformer(148, 3, 13, 4, 16, dim=60),
    "resnet18_batch2": _resnet18(2),
    "resnet18_folded": replace(_resnet18(), optimize=True),
    "resnet_tiny": _resnet((8, 12, 17), 1, 10, 3, 45, 37),
    "mlp": _plain("MLP", (32, 256), (256, 512, 512, 128, 10)),
    "mlp_odd": _plain("MLP", (7, 61), (61, 127, 93, 33, 5)),
    "transformer": _plain("TransformerBlock", (1, 64, 128), 128, 4),
    "transformer_odd": _plain("TransformerBlock", (1, 37, 60), 60, 3),
}  # fmt: skip

NETWORKS: tuple[str, ...] = tuple(RECIPES)[: list(RECIPES).index("longformer") + 1]
"""The networks at full size."""
