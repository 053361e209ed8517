"""A compiled model as data, and its file: a zip container with manifest, object code, weights and the stages' text.

Members: `manifest.json`, `objects/*.o`, `weights.safetensors` (stored, so that it can be read in place) and
`texts/*.txt`. The manifest lists every other member's SHA-256; the archive's comment holds the manifest's own.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, TypeVar, cast

import llvmlite.binding as llvm

from tcompiler.errors import LoadError, UserError
from tcompiler.runtime import weights
from tcompiler.runtime.manifest import FORMAT_VERSION, REQUIRED_KEYS, Manifest, TargetEntry
from tcompiler.runtime.memory import Array, pack_constants, view_constant

T = TypeVar("T")

_MANIFEST = "manifest.json"
_WEIGHTS = "weights.safetensors"
_COMMENT = b"tcompiler manifest sha256:"
_LOCAL_HEADER = struct.Struct("<4s22xHH")
EPOCH = (1980, 1, 1, 0, 0, 0)

_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    NotImplementedError,
    RuntimeError,
    OverflowError,
)
"""What zipfile and json raise, between them, when fed a damaged file."""


@dataclass(slots=True, eq=False)
class Artifact:
    """A compiled model as data.

    Attributes:
        manifest: Everything but what follows.
        objects: Relocatable ELF objects by name; `KernelEntry.object` refers to these.
        constants: The arrays that `manifest["constants"]` lists, by name; bf16 as uint16.
        texts: The stages' text, by "stage" or "stage/kernel".
    """

    manifest: Manifest
    objects: Mapping[str, bytes]
    constants: Mapping[str, Array]
    texts: Mapping[str, str]
    _block: Array | None = field(default=None, repr=False)

    def constants_block(self) -> Array:
        """Return the constants at their places in one block, [constants_bytes] of uint8; built once."""
        if self._block is None:
            entries, size = self.manifest["constants"], self.manifest["constants_bytes"]
            self._block = pack_constants(entries, size, self.constants)
        return self._block


class _Texts(Mapping[str, str]):
    """Texts of a loaded file: kept compressed, unpacked and checked when they are read."""

    def __init__(self, path: str, packed: Mapping[str, tuple[int, bytes, str]]) -> None:
        self._path = path
        self._packed = packed

    def __getitem__(self, key: str) -> str:
        method, data, sha256 = self._packed[key]
        try:
            raw = data if method == zipfile.ZIP_STORED else zlib.decompress(data, -15)
        except zlib.error as error:
            raise _damaged(self._path, f"the text {key!r} cannot be unpacked") from error
        if hashlib.sha256(raw).hexdigest() != sha256:
            raise _damaged(self._path, f"the text {key!r} does not have the checksum that the manifest lists")
        return raw.decode()

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)


def save(artifact: Artifact, path: str | os.PathLike[str]) -> None:
    """Write a compiled model to a file, all of it or nothing.

    The same artifact gives the same bytes.

    Args:
        artifact: The compiled model.
        path: File to write; replaced if it exists.

    Raises:
        UserError: The file cannot be written.
    """
    write_file(path, lambda file: write(artifact, file))


def load(path: str | os.PathLike[str]) -> Artifact:
    """Read a compiled model from a file and check that it is whole and that this machine can run it.

    Args:
        path: A file that `save` wrote.

    Returns:
        The compiled model. Its texts are unpacked, and their checksums compared, when they are read.

    Raises:
        LoadError: The file is missing, no saved model, truncated or damaged, of another format version, or for
            another machine.
    """
    return read_file(path, read)


def write_file(path: str | os.PathLike[str], write: Callable[[IO[bytes]], None]) -> None:
    """Write a file under a temporary name and rename it, so that there is all of it or nothing.

    Args:
        path: File to write; replaced if it exists.
        write: Writes its content.

    Raises:
        UserError: The file cannot be written.
    """
    target = os.fspath(path)
    folder, name = os.path.split(os.path.abspath(target))
    temporary = os.path.join(folder, f".{name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        try:
            with open(temporary, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            if os.path.exists(temporary):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror}") from error


def read_file(path: str | os.PathLike[str], read: Callable[[str, IO[bytes]], T]) -> T:
    """Read a container, turning whatever a damaged one makes zipfile and json raise into one error.

    Args:
        path: The file.
        read: Reads it, given its name for messages and the open file.

    Raises:
        LoadError: The file is missing, no saved model, or damaged.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb", buffering=0) as file:
            if file.read(4) != b"PK\3\4":
                raise LoadError(
                    f"{name}: not a saved model (a .tcm file, as `tcompiler compile MODEL.onnx -o MODEL.tcm` writes)"
                )
            try:
                return read(name, cast("IO[bytes]", file))
            except _DAMAGE as error:
                detail = str(error) or type(error).__name__
                raise _damaged(name, f"the container cannot be read ({detail})") from error
    except OSError as error:
        raise LoadError(f"{name}: cannot be read: {error.strerror or error}") from error


def check_target(target: TargetEntry) -> str | None:
    """Compare the machine that object code is for with this one.

    Args:
        target: The manifest's entry.

    Returns:
        None if this machine can run the code, else a clause that says why not.
    """
    here = llvm.get_process_triple()
    wanted_arch, _, wanted_system = target["triple"].partition("-")
    arch, _, system = here.partition("-")
    if wanted_arch != arch or ("linux" in wanted_system) != ("linux" in system):
        return f"compiled for {target['triple']}, but this machine is {here}"
    present = llvm.get_host_cpu_features()
    needed = [feature.removeprefix("+") for feature in target["features"] if not feature.startswith("-")]
    missing = [feature for feature in needed if not present.get(feature, False)]
    if missing:
        cpu = target["cpu"]
        return f"compiled for a {cpu} with {', '.join(missing)}, which this machine ({llvm.get_host_cpu_name()}) lacks"
    return None


def write(artifact: Artifact, file: IO[bytes]) -> None:
    """Write the container of a compiled model."""
    members: dict[str, str] = {}
    entries = artifact.manifest["constants"]
    with zipfile.ZipFile(file, "w") as archive:
        with archive.open(zipfile.ZipInfo(_WEIGHTS, EPOCH), "w", force_zip64=True) as sink:
            members[_WEIGHTS] = weights.write(sink, entries, artifact.constants_block())
        for member, data in _files(artifact):
            members[member] = hashlib.sha256(data).hexdigest()
            archive.writestr(zipfile.ZipInfo(member, EPOCH), data, zipfile.ZIP_DEFLATED, 6)
        manifest: Manifest = {**artifact.manifest, "format_version": FORMAT_VERSION, "members": members}
        text = json.dumps(manifest, indent=1).encode()
        archive.writestr(zipfile.ZipInfo(_MANIFEST, EPOCH), text, zipfile.ZIP_DEFLATED, 6)
        archive.comment = _COMMENT + hashlib.sha256(text).hexdigest().encode()


def _files(artifact: Artifact) -> Iterator[tuple[str, bytes]]:
    for name, data in artifact.objects.items():
        yield f"objects/{name}.o", data
    for key, text in artifact.texts.items():
        yield f"texts/{key}.txt", text.encode()


def read(path: str, file: IO[bytes]) -> Artifact:
    """Read the container of a compiled model; `path` is for messages."""
    with zipfile.ZipFile(file) as archive:
        raw = archive.read(_MANIFEST)
        manifest = json.loads(raw)
        _check_manifest(path, manifest)
        if archive.comment != _COMMENT + hashlib.sha256(raw).hexdigest().encode():
            raise _damaged(path, "manifest.json does not have its checksum")
        members: dict[str, str] = manifest.pop("members")
        present = {info.filename: info for info in archive.infolist() if info.filename != _MANIFEST}
        if present.keys() != members.keys():
            odd = sorted(present.keys() ^ members.keys())
            raise _damaged(path, f"its members are not those that the manifest lists ({', '.join(odd)})")

        objects: dict[str, bytes] = {}
        texts: dict[str, tuple[int, bytes, str]] = {}
        for member, info in present.items():
            if member.startswith("objects/"):
                data = archive.read(info)
                if hashlib.sha256(data).hexdigest() != members[member]:
                    raise _wrong_checksum(path, member)
                objects[member.removeprefix("objects/").removesuffix(".o")] = data
            elif member.startswith("texts/"):
                _seek_data(file, info)
                packed = file.read(info.compress_size)
                texts[member.removeprefix("texts/").removesuffix(".txt")] = (
                    info.compress_type,
                    packed,
                    members[member],
                )
        info = present[_WEIGHTS]
        _seek_data(file, info)
        block, sha256 = weights.read(file, info.file_size, manifest["constants"], manifest["constants_bytes"])
        if sha256 != members[_WEIGHTS]:
            raise _wrong_checksum(path, _WEIGHTS)
    constants = {entry["name"]: view_constant(block, entry) for entry in manifest["constants"]}
    return Artifact(manifest, objects, constants, _Texts(path, texts), block)


def _check_manifest(path: str, manifest: dict[str, object]) -> None:
    version = manifest["format_version"]
    if version != FORMAT_VERSION:
        writer = manifest.get("compiler_version", "of unknown version")
        raise LoadError(
            f"{path}: its format is version {version} (written by tcompiler {writer}), but this tcompiler reads "
            f"version {FORMAT_VERSION}; compile the model again"
        )
    missing = sorted({*REQUIRED_KEYS, "members"} - manifest.keys())
    if missing:
        raise _damaged(path, f"the manifest lacks {', '.join(missing)}")
    mismatch = check_target(cast("Manifest", manifest)["target"])
    if mismatch is not None:
        raise LoadError(f"{path}: {mismatch}; compile the model again on this machine")


def _seek_data(file: IO[bytes], info: zipfile.ZipInfo) -> None:
    file.seek(info.header_offset)
    magic, name_length, extra_length = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    if magic != b"PK\3\4":
        raise zipfile.BadZipFile(f"no member at {info.header_offset}")
    file.seek(name_length + extra_length, io.SEEK_CUR)


def _damaged(path: str, detail: str) -> LoadError:
    return LoadError(f"{path}: truncated or damaged: {detail}; compile the model again")


def _wrong_checksum(path: str, member: str) -> LoadError:
    return _damaged(path, f"{member} does not have the checksum that the manifest lists")
