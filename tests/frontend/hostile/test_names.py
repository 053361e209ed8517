"""Names of a model's reach no code, no symbol and no path; as labels they come back as they were."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

import tcompiler as tc
from tcompiler import api
from tcompiler.ir.graph.text import parse_graph
from tcompiler.pipeline import STAGES
from tests.frontend.hostile.corpus import branch_of, graph, info, model, node
from tests.frontend.hostile.names import NAMES

MARK = "EVIL7"
"""Stands in every name, so that no name of ours is taken for one of the model's."""

LABELLED = ("imported", "graph")
"""Stages whose text shows labels, quoted."""


def named(name: str) -> Any:
    """A model of matrix products, an epilogue, a branch and a function in which everything has this name."""
    functions = [
        helper.make_function(
            "f", f"{name}f", [name], [f"{name}o"], [node("Tanh", [name], [f"{name}o"])], [helper.make_opsetid("", 22)]
        )
    ]
    nodes = [
        node("MatMul", [name, f"{name}w"], [f"{name}t"], name=name),
        node("Softmax", [f"{name}t"], [f"{name}s"], name=f"{name}2"),
        node(f"{name}f", [f"{name}s"], [f"{name}u"], name=name, domain="f"),
        node(
            "If", [f"{name}c"], [f"{name}y"], name=name,
            then_branch=branch_of(node("Relu", [f"{name}u"], [f"{name}r"]), f"{name}r"),
            else_branch=branch_of(node("Abs", [f"{name}u"], [f"{name}r"]), f"{name}r"),
        ),
    ]  # fmt: skip
    g = graph(
        nodes,
        [info(name)],
        [f"{name}y"],
        {f"{name}w": np.arange(9, dtype=np.float32).reshape(3, 3), f"{name}c": np.array(True)},
    )
    g.name = g.doc_string = name
    made = model(g, functions=functions)
    made.producer_name = made.domain = name
    made.metadata_props.add(key=name, value=name)
    return made


@pytest.mark.parametrize(
    "key", ["injection", "newline", "nul", "path", "absolute", "quotes", "escape", "bidi", "line_separator", "keyword"]
)
def test_names_stay_labels(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = NAMES[key] + MARK
    cache = tmp_path / "cache"
    monkeypatch.setenv("TCOMPILER_CACHE_DIR", str(cache))
    made = named(name)
    stages = api.compile_stages(made, STAGES[-1], threads=1)
    for stage, text in stages.texts.items():
        assert MARK not in stage
        if stage in LABELLED:
            graph_read = parse_graph(text)
            assert [v.label for v in graph_read.inputs] == [name], stage
            assert [v.label for v in graph_read.outputs] == [f"{name}y"], stage
        else:
            assert MARK not in text, stage
    compiled = tc.compile(made, threads=1)
    assert all(MARK not in k["name"] + k["symbol"] + k["object"] for k in compiled.manifest["kernels"])
    x = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
    y = compiled(**{name: x}) if name.isidentifier() else compiled(x)
    path = tmp_path / "model.tcm"
    compiled.save(path)
    assert any(cache.rglob("*"))
    for file in cache.rglob("*"):
        assert MARK not in file.name
        assert file.is_dir() or MARK.encode() not in file.read_bytes()
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            assert MARK not in member
            assert member == os.path.normpath(member) and not member.startswith(("/", ".."))
            if member != "manifest.json" and member.removeprefix("texts/").removesuffix(".txt") not in LABELLED:
                assert MARK.encode() not in archive.read(member), member
    loaded = tc.load(path)
    assert [s.name for s in loaded.inputs] == [name]
    assert [s.name for s in loaded.outputs] == [f"{name}y"]
    np.testing.assert_array_equal(loaded(x), y)
