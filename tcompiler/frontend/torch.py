"""PyTorch modules, by way of PyTorch's own ONNX exporter."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any

from tcompiler.errors import CompileError


def is_module(model: object) -> bool:
    """Whether an object is a torch.nn.Module; PyTorch is not imported to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def export(module: Any, example_inputs: Sequence[Any], dynamic_shapes: Any = None) -> Any:
    """Exports a module to ONNX as it is in inference.

    Args:
        module: A torch.nn.Module; it is left in the mode (training or not) that it is in.
        example_inputs: Arguments of its forward function, in order.
        dynamic_shapes: Which dimensions stay open, in the form that torch.export takes.

    Returns:
        An onnx.ModelProto.

    Raises:
        CompileError: If PyTorch cannot export it, or a package is missing that its exporter needs.
    """
    import torch

    training = module.training
    module.eval()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module, tuple(example_inputs), dynamo=True, dynamic_shapes=dynamic_shapes, verbose=False
            )
    except ImportError as error:
        raise CompileError(
            f"exporting a module needs more packages ({error}): pip install 'tcompiler[torch]'"
        ) from None
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError, TypeError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise CompileError(f"PyTorch cannot export this {type(module).__name__} to ONNX: {reason}") from error
    finally:
        module.train(training)
    assert program is not None
    return program.model_proto
