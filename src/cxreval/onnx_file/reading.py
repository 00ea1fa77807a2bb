"""Parses ONNX files safely, and iterates over their parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import onnx
import onnx.checker
from google.protobuf.message import DecodeError, Message

from cxreval.errors import ModelExternalData, ModelNotOnnx
from cxreval.files import MAX_ARTIFACT_BYTES
from cxreval.onnx_file.messages import plain

PROFILE_KEY = "cxreval.preprocessing_profile"
"""Key of a file's metadata that names its preprocessing profile; `cxreval export` writes it."""

Part = TypeVar("Part", bound=Message)


def read(file: Path) -> onnx.ModelProto:
    """Returns the model in an ONNX file, after checking it against the ONNX specification.

    Files to which the file refers are not opened.

    Raises:
        ModelNotOnnx: the file is not a valid ONNX model.
        ModelExternalData: the model has tensors in other files.
    """
    model = _parse(file)
    for tensor in every(onnx.TensorProto, model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ModelExternalData(
                f"tensor {tensor.name!r} has its data in another file; expected one "
                "self-contained ONNX file",
                field="model",
                expected="tensors stored inside the file",
                tensor=tensor.name,
            )
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise not_onnx(plain(error)) from None
    return model


def profile_name(file: Path) -> str:
    """Returns the preprocessing profile that a file's metadata names, or an empty string."""
    try:
        metadata = _parse(file).metadata_props
    except ModelNotOnnx:
        return ""
    return next((str(entry.value) for entry in metadata if entry.key == PROFILE_KEY), "")


def _parse(file: Path) -> onnx.ModelProto:
    """Returns the model in a file, not validated. Raises `ModelNotOnnx`."""
    size = file.stat().st_size
    if size > MAX_ARTIFACT_BYTES:
        raise not_onnx(f"it has {size} bytes; expected at most {MAX_ARTIFACT_BYTES}")
    try:
        model = onnx.load_model(file, format="protobuf", load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise not_onnx(plain(error)) from None
    if not model.ir_version or not model.graph.node:
        raise not_onnx("it has no graph")
    return model


def not_onnx(problem: str) -> ModelNotOnnx:
    """Returns the error for a file that breaks the ONNX specification."""
    return ModelNotOnnx(
        f"file is not a valid ONNX model: {problem}", field="model", expected="a valid ONNX model"
    )


def every(kind: type[Part], message: Message) -> Iterator[Part]:
    """Yields each message of a type in a message, at any depth, itself included."""
    if isinstance(message, kind):
        yield message
    if isinstance(message, onnx.TensorProto):
        return  # it has no parts to yield, and listing its fields would copy the weights
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if field.is_repeated else (value,):
                yield from every(kind, inner)
