"""The Python builder: functions written with numpy's names, traced over symbolic tensors into graphs.

def model(x, w):
    return relu(x @ w)

module = trace(model, spec("f32", (32, 64)), spec("f32", (64, 16)))
"""

from tcompiler.frontend.functions import *  # noqa: F403
from tcompiler.frontend.module import GraphModule as GraphModule
from tcompiler.frontend.tensor import SymbolicTensor as SymbolicTensor
from tcompiler.frontend.tracing import Spec as Spec
from tcompiler.frontend.tracing import function as function
from tcompiler.frontend.tracing import spec as spec
from tcompiler.frontend.tracing import trace as trace
