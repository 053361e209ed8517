"""Large weights left where they lie in a model's bytes.

A parsed model would copy every weight twice: into the message, and out of it again. So the raw data of large
initializers are taken out of the bytes before they are parsed; what is parsed in their place says where they are, in
the form of external data. Field numbers and wire types are those of onnx.proto and of the Protocol Buffers encoding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

PREFIX = "\0kept:"
"""How the location of a tensor whose data were taken out begins; no file's name holds a NUL."""

_LARGE = 1 << 12
_GRAPH, _INITIALIZER = 7, 5
_RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 9, 13, 14
_VARINT, _BYTES = 0, 2


class _IrregularError(Exception):
    """The bytes are not what an encoder writes; protobuf's parser shall judge them."""


def take_out_weights(data: bytes | memoryview) -> tuple[bytes, list[memoryview]]:
    """Separates a model from the raw data of its large initializers.

    Args:
        data: An encoded ModelProto.

    Returns:
        An encoded ModelProto in which these initializers have external data at PREFIX and a number, and the data by
        that number, views of `data`. The same bytes and nothing where there is nothing to take out, or where the bytes
        do not parse.
    """
    kept: list[memoryview] = []
    try:
        model = list(_fields(memoryview(data)))
        if sum(key == _key(_GRAPH) for key, _ in model) != 1:
            return bytes(data), []
        parts = [_encoded(key, _graph(value, kept) if key == _key(_GRAPH) else value) for key, value in model]
    except _IrregularError:
        return bytes(data), []
    return (b"".join(parts), kept) if kept else (bytes(data), [])


def kept_data(location: str, kept: Sequence[memoryview]) -> memoryview | None:
    """The data that a location stands for, None if it is the name of a file."""
    number = location.removeprefix(PREFIX)
    if number == location or not (number.isascii() and number.isdigit() and len(number) < 10):
        return None
    return kept[int(number)] if int(number) < len(kept) else None


def _graph(graph: memoryview, kept: list[memoryview]) -> bytes:
    """A graph with its large initializers replaced."""
    parts = []
    for key, value in _fields(graph):
        large = key == _key(_INITIALIZER) and len(value) > _LARGE
        parts.append(_encoded(key, _tensor(value, kept) if large else value))
    return b"".join(parts)


def _tensor(tensor: memoryview, kept: list[memoryview]) -> bytes | memoryview:
    """A tensor without its raw data, if these are all the data that it has."""
    fields = list(_fields(tensor))
    raw = [value for key, value in fields if key == _key(_RAW_DATA)]
    if len(raw) != 1 or any(key >> 3 in (_EXTERNAL_DATA, _DATA_LOCATION) for key, _ in fields):
        return tensor
    location = f"{PREFIX}{len(kept)}".encode()
    entry = _encoded(_key(1), b"location") + _encoded(_key(2), location)
    kept.append(raw[0])
    parts = [_encoded(key, value) for key, value in fields if key != _key(_RAW_DATA)]
    parts += [_varint(_DATA_LOCATION << 3 | _VARINT), _varint(1), _encoded(_key(_EXTERNAL_DATA), entry)]
    return b"".join(parts)


def _key(number: int) -> int:
    """The key of a field of bytes."""
    return number << 3 | _BYTES


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The fields of a message: keys, and values as they are encoded (without the length of bytes)."""
    at, end = 0, len(message)
    while at < end:
        key, start = _read_varint(message, at)
        match key & 7:
            case 0:
                stop = _read_varint(message, start)[1]
            case 1:
                stop = start + 8
            case 2:
                length, start = _read_varint(message, start)
                stop = start + length
            case 5:
                stop = start + 4
            case _:
                raise _IrregularError
        if stop > end or key >> 3 == 0:
            raise _IrregularError
        yield key, message[start:stop]
        at = stop


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number, and where the next byte is."""
    result = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
    raise _IrregularError


def _encoded(key: int, value: bytes | memoryview) -> bytes:
    """A field as it stands in a message."""
    length = _varint(len(value)) if key & 7 == _BYTES else b""
    return b"".join((_varint(key), length, value))


def _varint(number: int) -> bytes:
    result = bytearray()
    while number >= 0x80:
        result.append(number & 0x7F | 0x80)
        number >>= 7
    result.append(number)
    return bytes(result)
