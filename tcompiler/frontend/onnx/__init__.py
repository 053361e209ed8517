"""The ONNX reader: `read` turns a model file into a graph; one converter per operator, in one table."""

from tcompiler.frontend.onnx.reader import OnnxModel as OnnxModel
from tcompiler.frontend.onnx.reader import read as read
