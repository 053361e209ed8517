"""Front ends: from ONNX, and from Python functions traced over symbolic tensors, to graphs."""
