"""A matmul with a bias and a ReLU, written in Python: compile it, run it, read the schedule it got.

Run: python examples/matmul.py
"""

from __future__ import annotations

import numpy as np

import tcompiler as tc

rng = np.random.default_rng(0)
weights = rng.standard_normal((192, 160), np.float32)
bias = rng.standard_normal(160, np.float32)

# Traced over symbolic tensors: numpy's operators and broadcasting; arrays become constants of the graph.
graph = tc.trace(lambda x: tc.maximum(x @ weights + bias, 0.0), x=tc.spec("f32", (100, 192)))
model = tc.compile(graph, target="cpu", threads=1)

x = rng.standard_normal((100, 192), np.float32)
y = model(x)
expected = np.maximum(x.astype(np.float64) @ weights + bias, 0.0)
print("relative error", np.linalg.norm(y - expected) / np.linalg.norm(expected))
print(model.text("scheduled"))
