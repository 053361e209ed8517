"""Weights in files beside the model: no path, link or length leads out of the model's own folder or file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from onnx import TensorProto

from tests.frontend.hostile.corpus import Model, hostile, model, node


def external(
    folder: Path, location: str = "w.bin", entries: dict[str, str] | None = None, dims: tuple[int, ...] = (2,)
) -> Path:
    """A model whose weight lies in a file; the folder is the model's own, beside a secret."""
    own = folder / "model"
    own.mkdir(exist_ok=True)
    secret = np.arange(4, dtype=np.float32).tobytes()
    (folder / "secret.bin").write_bytes(secret)
    (own / "w.bin").write_bytes(secret)
    tensor = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, text in {"location": location, **(entries or {})}.items():
        tensor.external_data.add(key=key, value=text)
    path = own / "m.onnx"
    path.write_bytes(model([node("Add", ["x", "c"], ["y"])], tensors=[tensor]).SerializeToString())
    return path


for _name, _location in {
    "dots": "../secret.bin",
    "dots_inside": "a/../../secret.bin",
    "dots_that_come_back": "../model/w.bin",
    "absolute": "/etc/passwd",
    "absolute_twice": "//etc/passwd",
    "backslashes": "..\\secret.bin",
    "drive": "C:\\secret.bin",
    "share": "\\\\host\\share",
    "empty": "",
    "dot": ".",
    "nul": "w.bin\0.png",
    "newline": "w\n.bin",
    "kept": "\0kept:0",
    "kept_beyond": "\0kept:99",
    "kept_negative": "\0kept:-1",
    "kept_nothing": "\0kept:",
    "kept_letters": "\0kept:x",
    "address": "file:///etc/passwd",
    "missing": "none.bin",
    "long": "w" * 5000,
    "long_path": "w/" * 40_000,
    "home": "~/w.bin",
    "surrogate": "w\u2028.bin",
    "proc": "/proc/self/mem",
    "device": "/dev/zero",
}.items():
    hostile(external, f"location_{_name}", location=_location)

for _name, _entries in {
    "offset_negative": {"offset": "-4", "length": "8"},
    "offset_past_the_end": {"offset": "16", "length": "8"},
    "offset_huge": {"offset": str(1 << 62)},
    "offset_over_i64": {"offset": str(1 << 70)},
    "offset_a_million_digits": {"offset": "9" * 1_000_000},
    "offset_no_integer": {"offset": "4.0"},
    "offset_underscores": {"offset": "1_0"},
    "length_negative": {"length": "-1"},
    "length_huge": {"length": str(1 << 62)},
    "length_short": {"length": "4"},
    "length_empty": {"length": ""},
    "unknown_key": {"key": "x"},
}.items():
    hostile(external, _name, entries=_entries)

hostile(external, "more_than_the_file", dims=(5,))
hostile(external, "huge_shape", dims=(1 << 20, 1 << 10))


@hostile
def symbolic_link(folder: Path) -> Model:
    path = external(folder, "link.bin")
    (path.parent / "link.bin").symlink_to(folder / "secret.bin")
    return path


@hostile
def symbolic_link_to_a_file_inside(folder: Path) -> Model:
    path = external(folder, "link.bin")
    (path.parent / "link.bin").symlink_to("w.bin")
    return path


@hostile
def symbolic_link_as_folder(folder: Path) -> Model:
    path = external(folder, "up/secret.bin")
    (path.parent / "up").symlink_to(folder)
    return path


@hostile
def symbolic_link_loop(folder: Path) -> Model:
    path = external(folder, "loop.bin")
    (path.parent / "loop.bin").symlink_to("loop.bin")
    return path


@hostile
def hard_link(folder: Path) -> Model:
    path = external(folder, "hard.bin")
    os.link(folder / "secret.bin", path.parent / "hard.bin")
    return path


@hostile
def directory(folder: Path) -> Model:
    path = external(folder, "inner")
    (path.parent / "inner").mkdir()
    return path


@hostile
def pipe(folder: Path) -> Model:
    path = external(folder, "pipe.bin")
    os.mkfifo(path.parent / "pipe.bin")
    return path


@hostile
def no_permission_to_pass(folder: Path) -> Model:
    path = external(folder, "w.bin/more")
    return path


@hostile
def sparse_file(folder: Path) -> Model:
    """A file of a terabyte that takes no room: its length alone must not be believed."""
    path = external(folder, "big.bin", dims=(1 << 20, 1 << 18))
    with open(path.parent / "big.bin", "wb") as file:
        file.truncate(1 << 40)
    return path


@hostile
def overlapping(folder: Path) -> Model:
    """Weights may share bytes; nothing is written."""
    path = external(folder)
    tensors = []
    for k, offset in enumerate((0, 4, 8)):
        tensor = TensorProto(name=f"c{k}", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
        for key, text in {"location": "w.bin", "offset": str(offset), "length": "8"}.items():
            tensor.external_data.add(key=key, value=text)
        tensors.append(tensor)
    nodes = [node("Add", ["c0", "c1"], ["a"]), node("Mul", ["a", "c2"], ["y"])]
    path.write_bytes(model(nodes, inputs=[], tensors=tensors).SerializeToString())
    return path


@hostile
def a_thousand_times_one_file(folder: Path) -> Model:
    """One gigabyte asked for, of a file of a megabyte."""
    path = external(folder)
    (path.parent / "w.bin").write_bytes(bytes(1 << 20))
    tensors = []
    for k in range(1500):
        tensor = TensorProto(
            name=f"c{k}", data_type=TensorProto.FLOAT, dims=[1 << 18], data_location=TensorProto.EXTERNAL
        )
        tensor.external_data.add(key="location", value="w.bin")
        tensors.append(tensor)
    nodes = [node("Add", ["c0", "c1"], ["y"])]
    path.write_bytes(model(nodes, inputs=[], tensors=tensors).SerializeToString())
    return path


@hostile
def raw_and_external(folder: Path) -> Model:
    path = external(folder)
    tensor = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    tensor.raw_data = bytes(12)
    path.write_bytes(model([node("Add", ["x", "c"], ["y"])], tensors=[tensor]).SerializeToString())
    return path


@hostile
def attribute_in_a_file(folder: Path) -> Model:
    """A Constant's tensor obeys the same rule."""
    path = external(folder)
    tensor = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../secret.bin")
    path.write_bytes(model([node("Constant", [], ["y"], value=tensor)], inputs=[]).SerializeToString())
    return path


@hostile
def location_twice(folder: Path) -> Model:
    path = external(folder)
    tensor = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="w.bin")
    tensor.external_data.add(key="location", value="../secret.bin")
    path.write_bytes(model([node("Add", ["x", "c"], ["y"])], tensors=[tensor]).SerializeToString())
    return path


@hostile
def model_is_a_pipe(folder: Path) -> Model:
    os.mkfifo(folder / "m.onnx")
    return folder / "m.onnx"


@hostile
def model_is_a_directory(folder: Path) -> Model:
    (folder / "m.onnx").mkdir()
    return folder / "m.onnx"


@hostile
def model_is_a_terabyte(folder: Path) -> Model:
    with open(folder / "m.onnx", "wb") as file:
        file.truncate(1 << 40)
    return folder / "m.onnx"


@hostile
def model_cannot_be_read(folder: Path) -> Model:
    return Path("/dev/mem")
