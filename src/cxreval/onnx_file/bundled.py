"""Checks the ONNX files of a submission with several files, whose weights may be in others of them.

No file is unpacked: a tensor's place in another file becomes its place in the archive.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import onnx
from google.protobuf.message import EncodeError

from cxreval.bundle import Ensemble, Section, model_names
from cxreval.errors import (
    BundleInvalid,
    CxrevalError,
    ModelExternalData,
    ModelInputMismatch,
    ModelTooLarge,
)
from cxreval.files import MAX_FILE_BYTES
from cxreval.onnx_file.reading import check_valid, every, external_data, is_external, parse
from cxreval.onnx_file.runtime import LARGE, VALUE_FIELDS, bits_of
from cxreval.onnx_file.signature import Signature

_MOST_SHARED = 2  # weights that two operators share may be stored as two tensors at one place
_WHOLE = re.compile(r"[0-9]{1,18}")
_KEYS = ("location", "offset", "length", "checksum")


@dataclass(frozen=True, slots=True)
class BundledModel:
    """A checked model of a bundle.

    `content` is the file with each weight of another file at its place in the archive; `graph` has
    inputs and outputs as they are in the file.
    """

    name: str
    content: bytes
    graph: onnx.GraphProto
    signature: Signature


def inspect_bundle(
    files: Mapping[str, Section],
    ensemble: Ensemble | None,
    check: Callable[[onnx.ModelProto], Signature],
    *,
    embed: bool = False,
) -> Iterator[BundledModel]:
    """Yields the models of a bundle, one at a time, after all checks that do not need a run.

    Args:
        files: the bundle's files by name.
        ensemble: that of the manifest; it must be given for several models, and only then.
        check: `signature.check` with the shape and the number of columns.
        embed: whether weights of other files are copied into the model's.

    Raises:
        BundleInvalid: the number of models does not fit `ensemble`.
        ModelExternalData: a weight's data are not within another file of the bundle, or no model
            refers to a file.
        ModelInputMismatch: the models have different inputs.
        ModelTooLarge: with `embed`, a model with its weights exceeds `MAX_FILE_BYTES`.
        SubmissionFault: as `read` and `check` raise.
    """
    names = model_names(list(files))
    if not names or (len(names) > 1) != (ensemble is not None):
        expected = "one .onnx file, or several and `ensemble: mean` in the manifest"
        message = f"the submission has {len(names)} .onnx files, "
        message += f"ensemble {ensemble or 'is not given'}; expected {expected}"
        raise BundleInvalid(message, field="manifest.ensemble", expected=expected)
    data = {name: section for name, section in files.items() if name not in names}
    unused, first = set(data), None
    for name in names:
        with in_file(name):
            model, used = _read(files[name], data, embed=embed)
            unused -= used
            content = _serialized(model)
            signature = check(model)  # removes weights from the model
            first = first or signature
            _check_alike(signature, first, names[0])
        yield BundledModel(name, content, model.graph, signature)
    if unused:
        listed = ", ".join(sorted(unused))
        expected = "models, and files in which their weights are"
        message = f"no model has weights in {listed}; expected {expected}: leave it out"
        raise ModelExternalData(message, field="files", expected=expected)


@contextmanager
def in_file(name: str) -> Iterator[None]:
    """Puts the name of one of several models before the message of an error in the block."""
    try:
        yield
    except CxrevalError as error:
        raise type(error)(f"{name}: {error.message}", **error.metadata) from None


def _check_alike(signature: Signature, first: Signature, name: str) -> None:
    """Raises `ModelInputMismatch` if two models of an ensemble take different images."""
    unnamed = [
        dataclasses.replace(one, input_name="", output_name="") for one in (signature, first)
    ]
    if unnamed[0] != unnamed[1]:
        found, expected = (
            f"{one.dtype} images {one.image_shape}, batch {one.batch or 'free'}"
            for one in (signature, first)
        )
        expected += f", as {name} takes"
        raise ModelInputMismatch(
            f"model takes {found}; expected {expected}",
            field="model.inputs",
            expected=expected,
            found=found,
        )


def _read(
    file: Section, data: Mapping[str, Section], *, embed: bool
) -> tuple[onnx.ModelProto, set[str]]:
    """Returns the model in a file, checked as `reading.read` does, and the files of its weights."""
    model = parse(file)
    weights = [
        tensor
        for graph in every(onnx.GraphProto, model)
        for tensor in graph.initializer
        if is_external(tensor)
    ]
    held: list[tuple[onnx.TensorProto, list[int], Section]] = []
    used: Counter[str] = Counter()
    nbytes = file.nbytes
    for tensor in weights:
        name, place = _place(tensor, data)
        used[name] += place.nbytes
        if used[name] > _MOST_SHARED * data[name].nbytes:
            most = f"each place of {name} at most {_MOST_SHARED} times"
            raise external_data(tensor, "has data that other tensors have as well", most)
        for field in ("data_location", "external_data"):
            tensor.ClearField(field)
        if embed or math.prod(tensor.dims) <= LARGE:
            nbytes += place.nbytes
            if nbytes > MAX_FILE_BYTES:
                raise _too_large()
            tensor.raw_data = place.read(0, place.nbytes)
        else:
            # The checker must not look for the data: it gets a tensor without elements.
            held.append((tensor, list(tensor.dims), place))
            del tensor.dims[:]
            tensor.dims.append(0)
    for tensor in every(onnx.TensorProto, model):
        if is_external(tensor):
            raise external_data(
                tensor, "has its data in another file", "that only of the weights of a graph"
            )
    check_valid(model)
    for tensor, dims, place in held:
        tensor.dims[:] = dims
        tensor.data_location = onnx.TensorProto.EXTERNAL
        where = {"location": place.path.name, "offset": place.start, "length": place.nbytes}
        for key, value in where.items():
            tensor.external_data.add(key=key, value=str(value))
    return model, set(used)


def _place(tensor: onnx.TensorProto, data: Mapping[str, Section]) -> tuple[str, Section]:
    """Returns the file of a tensor's data, and where they are."""
    entries = [(entry.key, entry.value) for entry in tensor.external_data]
    stated = {key: value for key, value in entries if isinstance(value, str)}  # else not UTF-8
    if (
        tensor.data_location != onnx.TensorProto.EXTERNAL
        or len(stated) < len(entries)
        or not stated.keys() <= set(_KEYS)
    ):
        expected = f"data_location EXTERNAL, and at most {', '.join(_KEYS)}, each once"
        raise external_data(tensor, "describes its data wrongly", expected)
    if tensor.data_type in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING) or (
        tensor.data_type not in onnx.TensorProto.DataType.values()
    ):
        raise external_data(tensor, f"has type {tensor.data_type}", "a type of numbers")
    if any(tensor.HasField(field) if field == "raw_data" else getattr(tensor, field)
           for field in VALUE_FIELDS):  # fmt: skip
        raise external_data(tensor, "has data in the file as well", "them in one place")
    name = stated.get("location", "")
    if name not in data:
        known = f"one of {', '.join(data)}" if data else "that file submitted with the model"
        expected = f"{known}, named without folders"
        raise external_data(tensor, f"has its data in {name[:80]!r}", expected)
    numbers = {key: stated.get(key, "0") for key in ("offset", "length")}
    if not all(_WHOLE.fullmatch(number) for number in numbers.values()):
        text = " and ".join(f"{key} {number[:40]!r}" for key, number in numbers.items())
        raise external_data(tensor, f"has {text}", "whole numbers of bytes")
    section, offset, shape = data[name], int(numbers["offset"]), list(tensor.dims)[:8]
    count = math.prod(tensor.dims) if all(size >= 0 for size in tensor.dims) else -1
    nbytes = -(-count * bits_of(tensor.data_type) // 8)
    if not 0 <= nbytes <= section.nbytes - offset:
        raise external_data(
            tensor,
            f"of shape {shape} does not fit into {name} at offset {offset}",
            f"data within its {section.nbytes} bytes",
        )
    if "length" in stated and int(numbers["length"]) != nbytes:
        problem = f"of shape {shape} has length {numbers['length']}"
        raise external_data(tensor, problem, f"length {nbytes}")
    return name, Section(section.path, section.start + offset, nbytes)


def _serialized(model: onnx.ModelProto) -> bytes:
    try:
        return bytes(model.SerializeToString())
    except (EncodeError, ValueError):
        raise _too_large() from None


def _too_large() -> ModelTooLarge:
    expected = f"at most {MAX_FILE_BYTES} bytes"
    return ModelTooLarge(
        "the model is too large together with those weights of other files that the server has to "
        f"copy into it, small ones and all in half precision; expected {expected}",
        field="model",
        expected=expected,
    )
