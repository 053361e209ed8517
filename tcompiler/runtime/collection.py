"""The file of a specialised model: several compiled models in one container.

A zip archive with `collection.json` and a `.tcm` container (see `package`) for each specialisation, stored as it is, so
that its own checksums hold. The archive's comment holds the SHA-256 of `collection.json`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from tcompiler.errors import LoadError
from tcompiler.runtime import package
from tcompiler.runtime.arguments import OpenSpec
from tcompiler.runtime.manifest import FORMAT_VERSION
from tcompiler.runtime.memory import Array
from tcompiler.runtime.package import Artifact

INDEX = "collection.json"
_COMMENT = b"tcompiler collection sha256:"


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One specialisation.

    Attributes:
        artifact: The compiled model.
        shapes: Shapes of all inputs, by name.
        values: Inputs whose values are compiled in, by name; bf16 as uint16.
    """

    artifact: Artifact
    shapes: dict[str, tuple[int, ...]]
    values: dict[str, Array]


@dataclass(frozen=True, slots=True, eq=False)
class Collection:
    """A specialised model as data.

    Attributes:
        inputs: The inputs as the model declares them.
        threads: How many threads it was compiled for.
        members: What is compiled.
    """

    inputs: Sequence[OpenSpec]
    threads: int
    members: Sequence[Member]


def save(collection: Collection, path: str | os.PathLike[str]) -> None:
    """Write a specialised model to a file, all of it or nothing.

    Args:
        collection: The specialised model.
        path: File to write; replaced if it exists.

    Raises:
        UserError: The file cannot be written.
    """
    package.write_file(path, lambda file: _write(collection, file))


def load(path: str | os.PathLike[str]) -> Artifact | Collection:
    """Read what `save` or `package.save` wrote, and check that it is whole and that this machine can run it.

    Args:
        path: The file.

    Returns:
        The compiled model, or the specialised one.

    Raises:
        LoadError: The file is missing, no saved model, truncated or damaged, of another format version, or for
            another machine.
    """
    return package.read_file(path, lambda name, file: _read(name, file))


def _write(collection: Collection, file: IO[bytes]) -> None:
    entries = []
    with zipfile.ZipFile(file, "w") as archive:
        for k, member in enumerate(collection.members):
            name = f"{k}.tcm"
            with archive.open(zipfile.ZipInfo(name, package.EPOCH), "w", force_zip64=True) as sink:
                buffer = io.BytesIO()
                package.write(member.artifact, buffer)
                sink.write(buffer.getbuffer())
            entries.append({"file": name, "shapes": member.shapes, "values": _encoded(member.values)})
        index = {
            "format_version": FORMAT_VERSION,
            "threads": collection.threads,
            "inputs": [{"name": s.name, "dtype": s.dtype, "shape": s.shape} for s in collection.inputs],
            "members": entries,
        }
        text = json.dumps(index, indent=1).encode()
        archive.writestr(zipfile.ZipInfo(INDEX, package.EPOCH), text, zipfile.ZIP_DEFLATED, 6)
        archive.comment = _COMMENT + hashlib.sha256(text).hexdigest().encode()


def _encoded(values: dict[str, Array]) -> dict[str, Any]:
    return {k: {"dtype": a.dtype.name, "shape": a.shape, "bytes": a.tobytes().hex()} for k, a in values.items()}


def _read(path: str, file: IO[bytes]) -> Artifact | Collection:
    with zipfile.ZipFile(file) as archive:
        if INDEX not in archive.namelist():
            return package.read(path, file)
        raw = archive.read(INDEX)
        if archive.comment != _COMMENT + hashlib.sha256(raw).hexdigest().encode():
            raise LoadError(
                f"{path}: truncated or damaged: {INDEX} does not have its checksum; compile the model again"
            )
        index = json.loads(raw)
        if index["format_version"] != FORMAT_VERSION:
            raise LoadError(
                f"{path}: its format is version {index['format_version']}, but this tcompiler reads version "
                f"{FORMAT_VERSION}; compile the model again"
            )
        members = []
        for entry in index["members"]:
            artifact = package.read(path, io.BytesIO(archive.read(entry["file"])))
            shapes = {name: tuple(shape) for name, shape in entry["shapes"].items()}
            values = {
                name: np.frombuffer(bytes.fromhex(v["bytes"]), v["dtype"]).reshape(v["shape"])
                for name, v in entry["values"].items()
            }
            members.append(Member(artifact, shapes, values))
    inputs = [
        OpenSpec(s["name"], s["dtype"], None if s["shape"] is None else tuple(s["shape"])) for s in index["inputs"]
    ]
    return Collection(inputs, index["threads"], members)
