"""Reads the arrays of a MindSpore .ckpt file without MindSpore, so that policies run where it is not installed.

`mindspore.load_checkpoint` also leaks the size of the file at every call.

The file is a protobuf message: `Checkpoint { repeated Value value = 1 }`, `Value { string tag = 1; Tensor tensor = 2
}`, `Tensor { repeated int64 dims = 1; string type = 2; bytes content = 3 }` (mindspore/ccsrc/utils/checkpoint.proto).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from awac.errors import CheckpointError, first_line
from awac.runs.files import READ_ERRORS

_TYPES = {"Float32": np.float32, "Float64": np.float64, "Int32": np.int32, "Int64": np.int64, "UInt8": np.uint8}
_VARINT, _BYTES = 0, 2


def read(path: Path) -> dict[str, np.ndarray]:
    """Arrays by parameter name.

    Raises:
        CheckpointError: the file is missing, damaged, or holds a type that awac does not write.
    """
    arrays = {}
    try:
        for number, value in _fields(memoryview(path.read_bytes())):
            if number == 1:
                fields = dict(_fields(value))
                arrays[bytes(fields[1]).decode()] = _array(fields[2])
    except READ_ERRORS as error:
        raise CheckpointError(f"{path} is not a MindSpore checkpoint ({first_line(error)})") from error
    return arrays


def _array(tensor: memoryview) -> np.ndarray:
    dims: list[int] = []
    kind, content = "", b""
    for number, value in _fields(tensor):
        if number == 1 and isinstance(value, int):
            dims.append(value)
        elif number == 1:  # packed
            position = 0
            while position < len(value):
                size, position = _varint(value, position)
                dims.append(size)
        elif number == 2:
            kind = bytes(value).decode()
        elif number == 3:
            content = bytes(value)
    return np.frombuffer(content, _TYPES[kind]).reshape([] if dims == [0] else dims).copy()


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(field number, value) of a message; a varint's value is an int."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        if tag & 7 == _VARINT:
            value, position = _varint(message, position)
            yield tag >> 3, value  # type: ignore[misc]
        elif tag & 7 == _BYTES:
            length, position = _varint(message, position)
            if position + length > len(message):
                raise ValueError("it ends too early")
            yield tag >> 3, message[position : position + length]
            position += length
        else:
            raise ValueError(f"it has a field of wire type {tag & 7}")


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
