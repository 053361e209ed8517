"""Networks of the `transformers` library, made from configurations with random weights: nothing is downloaded."""

from __future__ import annotations

from typing import Any

import transformers
from torch import Tensor, nn

__all__ = ["bert", "gpt2", "gpt2_decode", "mobilenetv2", "resnet50", "vit"]


class _Called(nn.Module):
    """A network of the library as a function of tensors with the outputs that one wants."""

    def __init__(self, model: nn.Module, *names: str) -> None:
        super().__init__()
        self.model, self.names = model, names


class _Classifier(_Called):
    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x).logits
        return logits


class _Encoder(_Called):
    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> tuple[Tensor, Tensor]:
        result = self.model(input_ids, attention_mask, token_type_ids)
        return result.last_hidden_state, result.pooler_output


class _Prefill(_Called):
    def forward(self, input_ids: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids=input_ids, use_cache=False).logits
        return logits


class _Decode(_Called):
    def forward(self, input_ids: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        """Logits, and the keys and values of each layer with those of the new tokens behind the old ones."""
        cache = transformers.DynamicCache(list(zip(past[0::2], past[1::2], strict=True)))
        result = self.model(input_ids=input_ids, past_key_values=cache, use_cache=True)
        present = [t for layer in result.past_key_values.layers for t in (layer.keys, layer.values)]
        return (result.logits, *present)


def resnet50(**options: Any) -> nn.Module:
    """ResNet-50 (the version with the stride in the 3×3 convolutions), logits [n, 1000] of images [n, 3, h, w]."""
    return _Classifier(transformers.ResNetForImageClassification(_config(transformers.ResNetConfig, options)))


def mobilenetv2(**options: Any) -> nn.Module:
    """MobileNetV2 with TensorFlow's asymmetric padding, logits [n, 1001] of images [n, 3, h, w]."""
    return _Classifier(transformers.MobileNetV2ForImageClassification(_config(transformers.MobileNetV2Config, options)))


def vit(**options: Any) -> nn.Module:
    """ViT-B/16, logits of images [n, 3, image_size, image_size]."""
    return _Classifier(transformers.ViTForImageClassification(_config(transformers.ViTConfig, options)))


def bert(**options: Any) -> nn.Module:
    """BERT-base: hidden states and the pooled first one, of tokens, mask and segments [n, sequence]."""
    return _Encoder(transformers.BertModel(_config(transformers.BertConfig, options)))


def gpt2(**options: Any) -> nn.Module:
    """GPT-2: logits [n, sequence, vocabulary] of tokens [n, sequence]."""
    return _Prefill(transformers.GPT2LMHeadModel(_config(transformers.GPT2Config, options)))


def gpt2_decode(**options: Any) -> nn.Module:
    """GPT-2 with a cache: of tokens and each layer's keys and values, the logits and the longer keys and values."""
    return _Decode(transformers.GPT2LMHeadModel(_config(transformers.GPT2Config, options)))


def _config(kind: Any, options: dict[str, Any]) -> Any:
    # Attention written out: that is what exporters of most frameworks write.
    config = kind(**options)
    config._attn_implementation = "eager"
    return config
