"""The interface of a model: what an image becomes before a run, and where its probabilities are.

A client states it when it loads a model, as JSON, and by its digest in each request.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from cxreval.errors import MalformedField, ModelOutputMismatch
from cxreval.fields import field_error
from cxreval.preprocessing import (
    PRESETS,
    Activation,
    CropKind,
    Outputs,
    Preprocessing,
    ResizeTo,
    TensorType,
    preprocessing_problems,
)

MAX_TENSOR_BYTES = 64 << 20
"""Maximum size in bytes of what one image becomes, all crops together."""

MAX_COLUMNS = 10_000
"""Maximum number of values that a model may return for an image."""

_MAX_CHARACTERS = 16_384  # of the JSON; the longest valid one has a tenth
_ITEM_BYTES = {TensorType.FLOAT32: 4, TensorType.FLOAT16: 2, TensorType.UINT8: 1}
_CROPS = {CropKind.FIVE: 5, CropKind.TEN: 10}


@dataclass(frozen=True, slots=True)
class ModelInterface:
    """Preprocessing of a model's images, and where its probabilities are."""

    preprocessing: Preprocessing
    outputs: Outputs = dataclasses.field(default_factory=Outputs)

    @property
    def json(self) -> str:
        """The JSON that `read` reads."""
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))

    @property
    def digest(self) -> str:
        """The sha256 of canonical JSON, as 64 hex characters; equal for equal interfaces."""
        parts = {
            "preprocessing": self.preprocessing.digest,
            "tensor": self.preprocessing.tensor,
            "outputs": dataclasses.asdict(self.outputs),
        }
        canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def preset(name: str) -> ModelInterface:
    """Returns the interface of a preset, of a model with one input, whose output are
    probabilities. Raises `KeyError`."""
    return ModelInterface(PRESETS[name])


def read(text: str, field: str) -> ModelInterface:
    """Returns the interface of its JSON.

    Raises:
        MalformedField: it is not that of an interface, or a value has another form; every further
            contradiction is in `also`.
    """
    if len(text) > _MAX_CHARACTERS:
        expected = f"JSON of at most {_MAX_CHARACTERS} characters"
        raise field_error(field, f"{len(text)} characters", expected)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise field_error(field, text, "JSON of preprocessing and outputs") from None
    interface: ModelInterface = _record(ModelInterface, value, field)
    check(interface, field)
    return interface


def check(interface: ModelInterface, field: str) -> None:
    """Raises `CxrevalError` if fields contradict each other, or one image takes too much memory."""
    path = f"{field}.preprocessing"
    problems = preprocessing_problems(interface.preprocessing, path)
    if not problems:
        return _check_size(interface.preprocessing, path)
    first = problems[0]
    first.also = tuple(problems[1:])
    raise first


def _check_size(preprocessing: Preprocessing, path: str) -> None:
    """Raises `MalformedField` if all crops of an image take more than `MAX_TENSOR_BYTES`."""
    crop, resize = preprocessing.crop, preprocessing.resize
    size, field = (crop.size, "crop") if crop.kind is not CropKind.NONE else (resize.size, "resize")
    if field == "resize" and resize.to is not ResizeTo.EXACT:
        return  # it depends on the image, so the decoder checks it
    height, width = size[0], size[-1]
    shape = (_CROPS.get(crop.kind, 1), preprocessing.channels, height, width)
    nbytes = math.prod(shape) * _ITEM_BYTES[preprocessing.dtype]
    if nbytes > MAX_TENSOR_BYTES:
        expected = f"at most {MAX_TENSOR_BYTES >> 20} MiB for all crops of an image"
        found = f"{'x'.join(map(str, shape))} of {preprocessing.dtype}, {nbytes >> 20} MiB"
        message = f"{path}.{field}.size makes an image {found}; expected {expected}"
        raise MalformedField(message, field=f"{path}.{field}.size", expected=expected, found=found)


def probabilities(output: npt.NDArray[Any], activation: Activation) -> npt.NDArray[np.float32]:
    """Returns the probabilities (N, K), float32, of a model's output.

    The output is (N, K), or (N, K, 2) or (N, 2K) for `softmax-positive`; further axes of size 1
    are dropped. The activation is computed in float32, in forms that do not overflow:

    - sigmoid: 1 / (1 + exp(-x)) for x >= 0, exp(x) / (1 + exp(x)) for x < 0;
    - softmax-positive: the sigmoid of positive minus negative, which is the softmax of the two.

    Raises:
        ModelOutputMismatch: it has another shape, or no value for an image, or more than
            `MAX_COLUMNS`.
    """
    found = f"output of shape {output.shape}"
    columns = columns_of(output.shape, activation, found)
    if columns is None or not 0 < columns <= MAX_COLUMNS:
        raise output_mismatch(found, activation)
    with np.errstate(over="ignore", invalid="ignore"):  # the values are checked where they are used
        values = np.asarray(output, np.float32)
        if activation is Activation.NONE:
            return values.reshape(-1, columns)
        if activation is Activation.SOFTMAX_POSITIVE:
            pairs = values.reshape(-1, columns, 2)
            values = pairs[..., 1] - pairs[..., 0]
        small = np.exp(-np.abs(values))
        result: npt.NDArray[np.float32] = np.where(values >= 0, np.float32(1), small) / (1 + small)
    return result.reshape(-1, columns)


def columns_of(
    shape: typing.Sequence[int | None], activation: Activation, found: str
) -> int | None:
    """Returns the number of probabilities of an image in an output of this shape.

    A size is None if it is free; then the number may be None. `found` describes the output in the
    error.

    Raises:
        ModelOutputMismatch: no output of this shape has them.
    """
    sizes = [*shape]
    while len(sizes) > 2 and sizes[-1] == 1:
        del sizes[-1]
    if activation is not Activation.SOFTMAX_POSITIVE:
        if len(sizes) == 2:
            return sizes[1]
    elif len(sizes) == 3 and sizes[2] in (2, None):
        return sizes[1]
    elif len(sizes) == 2 and (sizes[1] is None or sizes[1] % 2 == 0):
        return None if sizes[1] is None else sizes[1] // 2
    raise output_mismatch(found, activation)


def output_mismatch(found: str, activation: Activation) -> ModelOutputMismatch:
    """Returns the error of an output of another shape than `probabilities` takes."""
    form = {
        Activation.SOFTMAX_POSITIVE: "(N, K, 2) or (N, 2K), negative then positive, for "
        "outputs.activation: softmax-positive",
    }.get(activation, "(N, K); for two columns a finding set outputs.activation: softmax-positive")
    expected = f"a row of 1 to {MAX_COLUMNS} columns per image, {form}"
    return ModelOutputMismatch(
        f"model returns {found}; expected {expected}",
        field="model.outputs",
        expected=expected,
        found=found,
    )


def _record(kind: type[Any], value: object, path: str) -> Any:
    """Returns a dataclass of a JSON object. Raises `MalformedField`."""
    hints = typing.get_type_hints(kind)
    if not isinstance(value, Mapping):
        raise field_error(path, value, f"an object with {', '.join(hints)}")
    if unknown := value.keys() - hints.keys():
        raise field_error(path, f"key {min(unknown)}", f"keys {', '.join(hints)}")
    known = {}
    for field in dataclasses.fields(kind):
        if field.name in value:
            name = f"{path}.{field.name}"
            known[field.name] = _value(hints[field.name], value[field.name], name, field.metadata)
        elif (field.default, field.default_factory) == (dataclasses.MISSING, dataclasses.MISSING):
            raise field_error(f"{path}.{field.name}", "absent", "a value")
    return kind(**known)


def _value(hint: Any, value: Any, path: str, facts: Mapping[str, Any]) -> Any:
    """Returns a value of a field's type and form. Raises `MalformedField`."""
    if dataclasses.is_dataclass(hint):
        return _record(typing.cast("type[Any]", hint), value, path)
    if typing.get_origin(hint) is tuple:
        most = facts["most"]
        if not isinstance(value, list) or len(value) > most:
            raise field_error(path, value, f"a list of at most {most}")
        item = typing.get_args(hint)[0]
        return tuple(
            _value(item, one, f"{path}[{index}]", facts) for index, one in enumerate(value)
        )
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        if value not in [*hint]:
            raise field_error(path, value, f"one of {', '.join(hint)}")
        return hint(value)
    if value is None and type(None) in typing.get_args(hint):
        return None
    return _scalar(next(iter(typing.get_args(hint)), hint), value, path, facts)


def _scalar(kind: type[Any], value: Any, path: str, facts: Mapping[str, Any]) -> Any:
    """Returns a number, text or flag. Raises `MalformedField`."""
    form = facts["form"]
    if kind is float and type(value) is int and abs(value) < 1 << 53:
        value = float(value)
    if type(value) is not kind:
        raise field_error(path, value, form.expected)
    if value != "":
        form.check(path, value)
    return value
