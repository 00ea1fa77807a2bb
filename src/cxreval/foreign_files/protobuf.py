"""Tells models in protobuf files apart by the numbers of their outermost fields."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from cxreval.foreign_files.kinds import (
    CAFFE,
    CORE_ML,
    CUT_ONNX,
    FROZEN_GRAPH,
    SAVED_MODEL,
    ForeignKind,
)

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_ONNX_GRAPH = 7  # ModelProto.graph
_ONNX = {*range(1, 9), 14, 20, 25, 26}  # fields of ModelProto
_CORE_ML = range(200, 3001)  # the kinds of models in Core ML's Model
_CAFFE_LAYER = 100  # NetParameter.layer
_GRAPH_DEF = {1, 2, 3, 4, 5}
_MAX_FIELDS = 100_000
_MAX_VARINT = 10


def protobuf_kind(file: Path) -> ForeignKind | None:
    """Returns the kind of a file that is a protobuf message of another framework, or cut off.

    None for a complete ONNX file, and for what is no protobuf message.
    """
    fields: dict[int, tuple[int, int]] = {}
    with file.open("rb") as stream:
        complete = _walk(stream, file.stat().st_size, fields)
    if complete is None or not fields:
        return None
    wire, value = fields.get(1, (-1, 0))
    rules = {
        # ONNX readers skip fields that they do not know.
        CORE_ML: wire == _VARINT
        and _ONNX_GRAPH not in fields
        and any(number in _CORE_ML for number in fields),
        CAFFE: wire == _LENGTH and _CAFFE_LAYER in fields,
        FROZEN_GRAPH: complete and wire == _LENGTH and fields.keys() <= _GRAPH_DEF,
        SAVED_MODEL: (wire, value) == (_VARINT, 1) and fields.keys() == {1, 2},
        CUT_ONNX: not complete and wire == _VARINT and fields.keys() <= _ONNX,
    }
    return next((kind for kind, applies in rules.items() if applies), None)


def _walk(stream: BinaryIO, size: int, fields: dict[int, tuple[int, int]]) -> bool | None:
    """Notes type and value of each first field by number; returns whether the last one is complete.

    The value is a varint, or a length. None if it is no message.
    """
    for _ in range(_MAX_FIELDS):
        tag = _varint(stream)
        if tag is None:
            return stream.tell() >= size
        number, wire = tag >> 3, tag & 7
        if not number or wire not in (_VARINT, _FIXED64, _LENGTH, _FIXED32):
            return None
        value = _varint(stream) if wire in (_VARINT, _LENGTH) else 0
        if value is None:
            return False
        fields.setdefault(number, (wire, value))
        stream.seek({_LENGTH: value, _FIXED64: 8, _FIXED32: 4}.get(wire, 0), 1)
        if stream.tell() > size:
            return False
    return True


def _varint(stream: BinaryIO) -> int | None:
    """Returns the next varint; None at the end of the file, or if it is too long."""
    value = 0
    for index in range(_MAX_VARINT):
        byte = stream.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << 7 * index
        if byte[0] < 0x80:
            return value
    return None
