"""Parses ONNX files safely, and iterates over their parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import onnx
import onnx.checker
from google.protobuf.message import DecodeError, Message

from cxreval.bundle import Section, whole
from cxreval.errors import ModelExternalData, ModelNotOnnx
from cxreval.files import MAX_FILE_BYTES
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
    model = parse(whole(file))
    for tensor in every(onnx.TensorProto, model):
        if is_external(tensor):
            where = [entry.value for entry in tensor.external_data if entry.key == "location"]
            raise external_data(
                tensor,
                f"has its data in another file, {str(*where[:1])[:80]!r}",
                "one self-contained ONNX file, or that file submitted with it: `cxreval submit "
                "MANIFEST MODEL.onnx DATA`",
            )
    check_valid(model)
    return model


def data_names(file: Path) -> list[str]:
    """Returns the names of other files in which the weights of an ONNX file are, as it has them.

    Raises:
        ModelNotOnnx: the file is not an ONNX model.
    """
    tensors = every(onnx.TensorProto, parse(whole(file)))
    entries = (entry for tensor in tensors for entry in tensor.external_data)
    return sorted({str(entry.value) for entry in entries if entry.key == "location"})


def is_external(tensor: onnx.TensorProto) -> bool:
    """Returns whether a tensor has its data in another file, or says where they would be."""
    return tensor.data_location == onnx.TensorProto.EXTERNAL or bool(tensor.external_data)


def external_data(tensor: onnx.TensorProto, problem: str, expected: str) -> ModelExternalData:
    """Returns the error for a tensor whose data in another file cannot be used."""
    return ModelExternalData(
        f"tensor {tensor.name!r} {problem}; expected {expected}",
        field="model",
        expected=expected,
        tensor=tensor.name,
    )


def check_valid(model: onnx.ModelProto) -> None:
    """Checks a model without external data. Raises `ModelNotOnnx`."""
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise not_onnx(plain(error)) from None


def profile_name(file: Path) -> str:
    """Returns the preprocessing profile that a file's metadata names, or an empty string."""
    try:
        metadata = parse(whole(file)).metadata_props
    except ModelNotOnnx:
        return ""
    return next((str(entry.value) for entry in metadata if entry.key == PROFILE_KEY), "")


def parse(file: Section) -> onnx.ModelProto:
    """Returns the model in a file, not validated. Raises `ModelNotOnnx`."""
    if file.nbytes > MAX_FILE_BYTES:
        raise not_onnx(f"it has {file.nbytes} bytes; expected at most {MAX_FILE_BYTES}")
    try:
        model = onnx.load_model_from_string(file.read(0, file.nbytes))
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
