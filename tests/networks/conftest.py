"""The networks that every test here runs on: compiled once each, and let go before the next."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import pytest

import tcompiler as tc
from benchmarks import models
from tcompiler import api
from tcompiler.assemble import assemble
from tcompiler.pipeline import Compilation
from tcompiler.runtime.model import Model

NETWORKS = (
    *("light_bvlc_alexnet_small", "light_densenet121", "light_inception_v1", "light_inception_v2", "light_resnet50"),
    *("light_shufflenet", "light_squeezenet", "light_vgg19_small", "light_zfnet512_small"),
    *("resnet18", "resnet_tiny", "resnet50_small", "mobilenetv2_small", "vit_small", "bert_small", "gpt2_small"),
    *("gpt2_decode_small", "dcgan", "infogan", "fsrcnn", "csrnet_small", "gcn_small", "longformer_small"),
    *("mlp", "mlp_odd", "transformer", "transformer_odd"),
)
"""Every network of the benchmarks: at full size where that is quick, else fewer layers, channels or pixels."""


class Network:
    """A network with what is made of it, each when it is first asked for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.file = models.build(name)

    @cached_property
    def compilation(self) -> Compilation:
        """Its stages for two threads."""
        return api.compile_stages(self.file.path, "scheduled", threads=2)

    @cached_property
    def models(self) -> dict[int, Model]:
        """Compiled for one thread and for two."""
        one = tc.compile(self.file.path, threads=1)
        assert isinstance(one, Model)
        return {1: one, 2: Model(assemble(self.compilation))}


# Of the session, so that pytest runs all tests of one network before it goes on to the next.
@pytest.fixture(scope="session", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    made = Network(request.param)
    yield made
    made.__dict__.clear()
