"""Converts messages of the Open Inference Protocol to arrays and back.

A request has one input: the model's own tensor, as FP32, FP16 or UINT8; or `image`, BYTES with an
encoded image in each element; or `image_sha256`, BYTES with the sha256 in hex of a cached image in
each element. The last two have the shape [N] or [N, 1], and can be sent to several models at once,
named by the parameter `models`. They may also be called `image_bytes` and `image_sha256_bytes`, as
the metadata of a model call them whose own tensor has the shorter name.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from cxreval.api.oip import grpc_predict_v2_pb2 as pb
from cxreval.errors import InvalidTensor, MalformedField, ModelNotFound
from cxreval.fields import SHA256, SHA256_FORM
from cxreval.model_interface import preset
from cxreval.onnx_file.signature import Signature
from cxreval.preprocessing import PRESETS
from services.inference import parameters
from services.inference.model_pool import Model
from services.inference.parameters import BASE64, CONTENT_TYPE, MODELS, check_type

VERSION = "1"
MAX_IMAGES = 10_000
"""Most encoded images of a request; the capacity of the queue is a setting."""
MAX_MODELS = 64
"""Most models of a request."""
IMAGE_INPUT = "image"
DIGEST_INPUT = "image_sha256"
_OTHER_NAME = "_bytes"
"""Added to these names where a model's own tensor has one: no two inputs have the same name."""

Array = npt.NDArray[np.float32]
Images = npt.NDArray[Any]  # float32, float16 or uint8

DATATYPES = {
    np.dtype(np.float32): "FP32",
    np.dtype(np.float16): "FP16",
    np.dtype(np.uint8): "UINT8",
}
_PRESET_DIGESTS = {name: preset(name).digest for name in PRESETS}
_CONTENTS = {"FP32": "fp32_contents", "UINT8": "uint_contents"}  # FP16 has raw contents only


@dataclass(frozen=True, slots=True)
class Encoded:
    """Encoded images of a request: for each the bytes of a file, or the sha256 of one in hex."""

    images: Sequence[bytes | str]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def nbytes(self) -> int:
        """Size of the elements in bytes."""
        return sum(map(len, self.images))


# --- requests for inference -----------------------------------------------------------------------


def to_model_names(request: pb.ModelInferRequest) -> list[str]:
    """Returns the models to run: `model_name`, then those of the parameter `models`.

    Raises:
        MalformedField: a model is named twice, or there are too many.
    """
    if MODELS not in request.parameters:
        return [request.model_name]
    check_type(request.parameters, MODELS, "string_param")
    names = [request.model_name, *request.parameters[MODELS].string_param.split(",")]
    if len(names) > MAX_MODELS or len(set(names)) < len(names):
        expected = f"models other than model_name, each once, at most {MAX_MODELS} with it"
        message = f"parameter {MODELS!r} names {len(names) - 1} models; expected {expected}"
        raise MalformedField(message, field=f"parameters[{MODELS}]", expected=expected)
    return names


def to_input(request: pb.ModelInferRequest, models: Sequence[Model]) -> Images | Encoded:
    """Returns the input: an array (N, C, H, W), or encoded images.

    The array is read-only if it shares the request's memory.

    Raises:
        ModelNotFound: the version is not `1`, or a model is loaded for another interface than the
            request's.
        InvalidTensor, MalformedField: the request does not match the models.
    """
    check_version(request.model_name, request.model_version)
    parameters.check("request", "parameters", request.parameters)
    for model in models:
        _check_interface(request, model)
    _check_outputs(request, models)
    if len(request.inputs) != 1:
        _refuse("inputs", f"{len(request.inputs)} inputs", "exactly one input")
    tensor = request.inputs[0]
    parameters.check("input", "inputs[0].parameters", tensor.parameters)
    if len(request.raw_input_contents) > 1:
        _refuse(
            "raw_input_contents",
            f"{len(request.raw_input_contents)} elements",
            "one element for the one input",
        )
    if request.raw_input_contents and tensor.contents.ByteSize():
        _refuse("inputs[0].contents", "contents and raw_input_contents", "only one of the two")
    raw = request.raw_input_contents[0] if request.raw_input_contents else None
    parameters.check_size(
        "inputs[0].parameters", tensor.parameters, None if raw is None else len(raw)
    )
    name = tensor.name.removesuffix(_OTHER_NAME)
    if tensor.datatype == "BYTES" and name in (IMAGE_INPUT, DIGEST_INPUT):
        images = _encoded(tensor, raw, models)
        return Encoded(images if name == IMAGE_INPUT else _digests(images))
    if len(models) > 1:
        _refuse(
            "inputs[0].name",
            repr(tensor.name[:80]),
            f"{IMAGE_INPUT!r} of BYTES, for several models",
        )
    return _pixels(tensor, raw, models[0])


def check_version(name: str, version: str) -> None:
    """Raises `ModelNotFound` unless the version is empty or `1`."""
    if version not in ("", VERSION):
        expected = f"{VERSION!r} or empty"
        message = f"model {name!r} has no version {version[:40]!r}; expected {expected}"
        raise ModelNotFound(message, field="model_version", expected=expected, model=name)


def _check_interface(request: pb.ModelInferRequest, model: Model) -> None:
    """Checks the interface: another caller may have loaded the file anew for another one."""
    for key in ("profile", "interface"):
        if key not in request.parameters:
            continue
        check_type(request.parameters, key, "string_param")
        wanted = request.parameters[key].string_param[:80]
        meant = _PRESET_DIGESTS.get(wanted, "") if key == "profile" else wanted
        if not meant or meant != model.interface_digest:
            loaded = model.interface.preprocessing.name if model.interface else "none"
            if key == "interface":
                loaded += f", interface {model.interface_digest or 'none'}"
            raise ModelNotFound(
                f"model {model.digest!r} is loaded for profile {loaded}; expected {wanted!r}: load "
                f"it for that {key} first",
                field=f"parameters[{key}]",
                expected=wanted,
                found=loaded,
                model=model.digest,
            )


def _pixels(
    tensor: pb.ModelInferRequest.InferInputTensor, raw: bytes | None, model: Model
) -> Images:
    signature = model.signature
    datatype = DATATYPES[signature.dtype]
    if tensor.name != signature.input_name:
        takes = f"{signature.input_name!r} of {datatype}" + (
            f" or {encoded_name(model)!r} of BYTES" if model.interface else ""
        )
        _refuse("inputs[0].name", repr(tensor.name[:80]), takes)
    if tensor.datatype != datatype:
        _refuse("inputs[0].datatype", repr(tensor.datatype[:80]), datatype)
    shape = tuple(tensor.shape)
    _check_shape(shape, signature)
    count = math.prod(shape)
    if raw is None:
        return _values(tensor, datatype, count).astype(signature.dtype).reshape(shape)
    nbytes = count * signature.dtype.itemsize
    if len(raw) != nbytes:
        _refuse("raw_input_contents[0]", f"{len(raw)} bytes", f"{nbytes} bytes")
    return np.frombuffer(raw, signature.dtype.newbyteorder("<")).reshape(shape)


def _check_shape(shape: tuple[int, ...], signature: Signature) -> None:
    """Raises `InvalidTensor` unless the shape is that of one or more images."""
    wanted = signature.image_shape
    fits = len(shape) == len(wanted) + 1 and all(
        size > 0 and want in (None, size) for size, want in zip(shape, (None, *wanted), strict=True)
    )
    if not fits:
        _refuse("inputs[0].shape", str(list(shape[:8])), f"{_shape_text(signature)}, N > 0")
    if math.prod(shape[1:]) * signature.dtype.itemsize > signature.image_bytes:
        expected = f"images of at most {signature.image_bytes} bytes"
        _refuse("inputs[0].shape", str(list(shape)), expected)


def _shape_text(signature: Signature) -> str:
    """Returns the shape of images as a model takes them; S is a size that depends on the image."""
    sizes = ["S" if size is None else str(size) for size in signature.image_shape]
    return f"[N, {', '.join(sizes)}]"


def _values(
    tensor: pb.ModelInferRequest.InferInputTensor, datatype: str, count: int
) -> npt.NDArray[Any]:
    """Returns the numbers of a tensor that are not raw."""
    field = _CONTENTS.get(datatype)
    if field is None:
        _refuse("inputs[0].contents", f"contents of {datatype}", "raw_input_contents")
    values = getattr(tensor.contents, field)
    if len(values) != count or (datatype == "UINT8" and max(values) > 255):
        _refuse(
            f"inputs[0].contents.{field}",
            f"{len(values)} values",
            f"{count} values of {datatype}",
        )
    return np.array(values)


def _encoded(
    tensor: pb.ModelInferRequest.InferInputTensor, raw: bytes | None, models: Sequence[Model]
) -> list[bytes]:
    for model in models:
        if model.interface is None:
            signature = model.signature
            _refuse(
                "inputs[0].datatype",
                f"BYTES of shape {list(tensor.shape[:8])} for model {model.digest}, which is "
                "loaded without a profile of preprocessing",
                f"{signature.input_name!r} of {DATATYPES[signature.dtype]} and shape "
                f"{_shape_text(signature)}; or load it for a profile or interface, with "
                "RepositoryModelLoad or --preprocessing, and send encoded images",
            )
    count, *further = tensor.shape or [0]
    if further not in ([], [1]) or count < 1:
        expected = "[N] or [N, 1], N > 0: one element an image"
        _refuse("inputs[0].shape", str(list(tensor.shape[:8])), expected)
    if count > MAX_IMAGES:
        _refuse("inputs[0].shape", f"{count} images", f"at most {MAX_IMAGES} images")
    elements: Iterable[bytes]
    if raw is None:
        field, elements = "inputs[0].contents.bytes_contents", tensor.contents.bytes_contents
    else:
        field, elements = "raw_input_contents[0]", _elements(raw)
    # At most one too many: a message has room for millions of empty elements.
    images = list(islice(elements, count + 1))
    if len(images) != count:
        number = f"more than {count}" if len(images) > count else f"{len(images)}"
        _refuse(field, f"{number} elements", f"{count} elements, as the shape says")
    if CONTENT_TYPE in tensor.parameters and (
        tensor.parameters[CONTENT_TYPE].string_param == BASE64
    ):
        return [_decoded(image, f"{field}[{index}]") for index, image in enumerate(images)]
    return images


def _decoded(text: bytes, field: str) -> bytes:
    """Returns the bytes that an element in base64 stands for."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        _refuse(field, "bytes that are not base64", "base64, as content_type says")


def _digests(elements: Sequence[bytes]) -> list[str]:
    digests = [element.decode("latin-1") for element in elements]
    for index, digest in enumerate(digests):
        if not SHA256.fullmatch(digest):
            _refuse(
                f"inputs[0].contents[{index}]",
                repr(digest[:80]),
                f"sha256 of an image: {SHA256_FORM}",
            )
    return digests


def _elements(raw: bytes) -> Iterator[bytes]:
    """Yields BYTES elements; each follows its length in four little-endian bytes."""
    start = 0
    while start < len(raw):
        end = start + 4 + int.from_bytes(raw[start : start + 4], "little")
        if end > len(raw) or start + 4 > len(raw):
            _refuse(
                "raw_input_contents[0]",
                f"an element that ends at byte {end} of {len(raw)}",
                "complete elements",
            )
        yield raw[start + 4 : end]
        start = end


def _check_outputs(request: pb.ModelInferRequest, models: Sequence[Model]) -> None:
    name = models[0].signature.output_name
    if len(models) > 1 and request.outputs:
        _refuse(
            "outputs",
            f"{len(request.outputs)} outputs",
            "none, for several models: all outputs are returned",
        )
    if len(request.outputs) > 1:
        _refuse("outputs", f"{len(request.outputs)} outputs", f"none, or {name!r}")
    for output in request.outputs:
        if output.name != name:
            _refuse("outputs[0].name", repr(output.name[:80]), repr(name))
        parameters.check("output", "outputs[0].parameters", output.parameters)


def _refuse(field: str, found: str, expected: str) -> NoReturn:
    raise InvalidTensor(
        f"{field}: found {found}; expected {expected}", field=field, expected=expected, found=found
    )


# --- answers --------------------------------------------------------------------------------------


def to_response(
    request: pb.ModelInferRequest, models: Sequence[Model], rows: Sequence[Array]
) -> pb.ModelInferResponse:
    """Returns a response with raw float32 rows (N, columns) of each model.

    The first output is that of `model_name`, with its own name. The outputs of the parameter
    `models` follow in their order, named `<model>:<output>`.
    """
    first, *others = (model.signature.output_name for model in models)
    names = [
        first,
        *(f"{model.digest}:{name}" for model, name in zip(models[1:], others, strict=True)),
    ]
    return pb.ModelInferResponse(
        model_name=request.model_name,
        model_version=VERSION,
        id=request.id,
        outputs=[
            pb.ModelInferResponse.InferOutputTensor(
                name=name, datatype="FP32", shape=of_model.shape
            )
            for name, of_model in zip(names, rows, strict=True)
        ],
        raw_output_contents=[of_model.astype("<f4", copy=False).tobytes() for of_model in rows],
    )


def encoded_name(model: Model, name: str = IMAGE_INPUT) -> str:
    """Returns the name of an input of BYTES, other than that of the model's own tensor."""
    return name + _OTHER_NAME if name == model.signature.input_name else name
