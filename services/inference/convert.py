"""Messages of the Open Inference Protocol to arrays and back. A malformed request is told its field and what to send.

A request carries one input: the model's own tensor as FP32, or `image` as BYTES, one encoded image an element.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from cxreval.api.oip import grpc_predict_v2_pb2 as pb
from cxreval.errors import InvalidTensor, MalformedField, ModelNotFound, UnknownProfile
from cxreval.imaging.preprocess import PROFILES, Profile
from services.inference.backends.onnx import PLATFORM
from services.inference.model_pool import Demand, Listing, Model

VERSION = "1"
MAX_IMAGES = 10_000
"""Most encoded images that a request may name; how many the queue takes is a setting."""
IMAGE_INPUT = "image"

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Encoded:
    """Encoded images of a request, as they came, and the profile of the model they are for."""

    images: Sequence[bytes]
    profile: Profile

    def __len__(self) -> int:
        return len(self.images)

    @property
    def nbytes(self) -> int:
        """Bytes of the encoded images."""
        return sum(map(len, self.images))


# --- requests for inference -------------------------------------------------------------------------------------------


def to_input(request: pb.ModelInferRequest, model: Model) -> Array | Encoded:
    """What the model is to see: float32 (N, C, H, W), read-only where it shares the request's memory; or images.

    Raises:
        ModelNotFound: the version is not `1`, or the model is loaded for another profile than the request's.
        InvalidTensor, MalformedField: the request does not fit the model.
    """
    check_version(request.model_name, request.model_version)
    _no_parameters("parameters", request.parameters, ("profile",))
    _check_profile(request, model)
    _check_outputs(request, model)
    if len(request.inputs) != 1:
        _refuse("inputs", f"{len(request.inputs)} inputs", "exactly one input")
    tensor = request.inputs[0]
    _no_parameters("inputs[0].parameters", tensor.parameters)
    if len(request.raw_input_contents) > 1:
        _refuse("raw_input_contents", f"{len(request.raw_input_contents)} elements", "one element for the one input")
    if request.raw_input_contents and tensor.HasField("contents"):
        _refuse("inputs[0].contents", "contents beside raw_input_contents", "only one of the two")
    raw = request.raw_input_contents[0] if request.raw_input_contents else None
    if (tensor.name, tensor.datatype) == (IMAGE_INPUT, "BYTES"):
        return _encoded(tensor, raw, model)
    return _floats(tensor, raw, model)


def check_version(name: str, version: str) -> None:
    """Raises `ModelNotFound` unless the version is empty or `1`."""
    if version not in ("", VERSION):
        expected = f"{VERSION!r} or empty"
        message = f"model {name!r} has no version {version[:40]!r}; expected {expected}"
        raise ModelNotFound(message, field="model_version", expected=expected, model=name)


def _check_profile(request: pb.ModelInferRequest, model: Model) -> None:
    """Between a caller's load and its request another one may have loaded the same file for another profile."""
    if "profile" not in request.parameters:
        return
    _check_kind(request.parameters, "profile", "string_param")
    wanted, found = request.parameters["profile"].string_param[:80], model.profile.name if model.profile else "none"
    if wanted != found:
        message = f"model {model.digest!r} is loaded for profile {found}; expected {wanted!r}: load it for that first"
        raise ModelNotFound(message, field="parameters[profile]", expected=wanted, found=found, model=model.digest)


def _floats(tensor: pb.ModelInferRequest.InferInputTensor, raw: bytes | None, model: Model) -> Array:
    signature = model.signature
    if tensor.name != signature.input_name:
        takes = f"{signature.input_name!r}" + (f" or {IMAGE_INPUT!r} of BYTES" if model.profile else "")
        _refuse("inputs[0].name", repr(tensor.name[:80]), takes)
    if tensor.datatype != "FP32":
        _refuse("inputs[0].datatype", repr(tensor.datatype[:80]), "FP32")
    shape = tuple(tensor.shape)
    if len(shape) != 4 or shape[0] < 1 or shape[1:] != signature.image_shape:
        _refuse("inputs[0].shape", str(list(shape[:8])), f"[N, {', '.join(map(str, signature.image_shape))}], N > 0")
    count = shape[0] * int(np.prod(signature.image_shape))
    if raw is None:
        values = tensor.contents.fp32_contents
        if len(values) != count:
            _refuse("inputs[0].contents.fp32_contents", f"{len(values)} values", f"{count} values")
        return np.array(values, np.float32).reshape(shape)
    if len(raw) != 4 * count:
        _refuse("raw_input_contents[0]", f"{len(raw)} bytes", f"{4 * count} bytes")
    return np.frombuffer(raw, "<f4").reshape(shape)


def _encoded(tensor: pb.ModelInferRequest.InferInputTensor, raw: bytes | None, model: Model) -> Encoded:
    if model.profile is None:
        _refuse("inputs[0].name", repr(IMAGE_INPUT), f"{model.signature.input_name!r}: it was loaded without a profile")
    if len(tensor.shape) != 1 or tensor.shape[0] < 1:
        _refuse("inputs[0].shape", str(list(tensor.shape[:8])), "[N], N > 0: one element an image")
    count = tensor.shape[0]
    if count > MAX_IMAGES:
        _refuse("inputs[0].shape", f"{count} images", f"at most {MAX_IMAGES} images")
    elements: Iterable[bytes]
    if raw is None:
        field, elements = "inputs[0].contents.bytes_contents", tensor.contents.bytes_contents
    else:
        field, elements = "raw_input_contents[0]", _elements(raw)
    images = list(islice(elements, count + 1))  # not all: a message has room for millions of empty ones
    if len(images) != count:
        found = f"more than {count}" if len(images) > count else f"{len(images)}"
        _refuse(field, f"{found} elements", f"{count} elements, as the shape says")
    return Encoded(images, model.profile)


def _elements(raw: bytes) -> Iterator[bytes]:
    """BYTES elements, each after its length in four little-endian bytes."""
    start = 0
    while start < len(raw):
        end = start + 4 + int.from_bytes(raw[start : start + 4], "little")
        if end > len(raw) or start + 4 > len(raw):
            _refuse("raw_input_contents[0]", f"an element that ends at byte {end} of {len(raw)}", "whole elements")
        yield raw[start + 4 : end]
        start = end


def _check_outputs(request: pb.ModelInferRequest, model: Model) -> None:
    name = model.signature.output_name
    if len(request.outputs) > 1:
        _refuse("outputs", f"{len(request.outputs)} outputs", f"none, or {name!r}")
    for output in request.outputs:
        if output.name != name:
            _refuse("outputs[0].name", repr(output.name[:80]), repr(name))
        _no_parameters("outputs[0].parameters", output.parameters)


def _no_parameters(field: str, parameters: Mapping[str, object], known: Sequence[str] = ()) -> None:
    """Refuses parameters that would otherwise be ignored in silence."""
    for key in sorted(parameters.keys() - set(known)):
        expected = " or ".join(repr(name) for name in known) or "no parameters"
        message = f"{field} has {key[:80]!r}; expected {expected}"
        raise MalformedField(message, field=f"{field}[{key[:80]}]", expected=expected)


def _refuse(field: str, found: str, expected: str) -> NoReturn:
    raise InvalidTensor(f"{field}: found {found}; expected {expected}", field=field, expected=expected, found=found)


# --- answers ----------------------------------------------------------------------------------------------------------


def to_response(request: pb.ModelInferRequest, model: Model, rows: Array) -> pb.ModelInferResponse:
    """The answer with (N, columns) float32, always raw, as every client of the protocol reads it."""
    return pb.ModelInferResponse(
        model_name=model.digest,
        model_version=VERSION,
        id=request.id,
        outputs=[
            pb.ModelInferResponse.InferOutputTensor(name=model.signature.output_name, datatype="FP32", shape=rows.shape)
        ],
        raw_output_contents=[rows.astype("<f4", copy=False).tobytes()],
    )


def to_metadata(model: Model) -> pb.ModelMetadataResponse:
    """What a model takes and gives."""
    tensor = pb.ModelMetadataResponse.TensorMetadata
    signature = model.signature
    inputs = [tensor(name=signature.input_name, datatype="FP32", shape=(-1, *signature.image_shape))]
    if model.profile:
        inputs.append(tensor(name=IMAGE_INPUT, datatype="BYTES", shape=(-1,)))
    return pb.ModelMetadataResponse(
        name=model.digest,
        versions=[VERSION],
        platform=PLATFORM,
        inputs=inputs,
        outputs=[tensor(name=signature.output_name, datatype="FP32", shape=(-1, model.columns))],
    )


def to_index(listings: Sequence[Listing], *, only_ready: bool) -> pb.RepositoryIndexResponse:
    """The models of the index."""
    entry = pb.RepositoryIndexResponse.ModelIndex
    return pb.RepositoryIndexResponse(
        models=[
            entry(name=listing.digest, version=VERSION, state=listing.state.value, reason=listing.reason)
            for listing in listings
            if not only_ready or listing.state.value == "READY"
        ]
    )


# --- the repository ---------------------------------------------------------------------------------------------------

_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_repository(name: str) -> None:
    """Raises `MalformedField` unless the repository's name is empty."""
    if name:
        raise MalformedField(
            f"repository_name is {name[:80]!r}; expected an empty name",
            field="repository_name",
            expected="an empty name",
        )


def to_load(request: pb.RepositoryModelLoadRequest) -> tuple[str, Demand]:
    """The digest of a model to load, and what is demanded of it.

    Raises:
        MalformedField: a field or parameter has the wrong form, or is not known.
        UnknownProfile: no profile has this name.
    """
    check_repository(request.repository_name)
    if not _SHA256.fullmatch(request.model_name):
        expected = "the sha256 of the model's file: 64 lower-case hex characters"
        message = f"model_name is {request.model_name[:80]!r}; expected {expected}"
        raise MalformedField(message, field="model_name", expected=expected)
    parameters = request.parameters
    _no_parameters("parameters", parameters, ("profile", "output_columns"))
    profile = None
    if "profile" in parameters:
        _check_kind(parameters, "profile", "string_param")
        name = parameters["profile"].string_param
        if name not in PROFILES:
            expected = f"one of {', '.join(sorted(PROFILES))}"
            message = f"there is no profile {name[:80]!r}; expected {expected}"
            raise UnknownProfile(message, field="parameters[profile]", expected=expected, profile=name[:80])
        profile = PROFILES[name]
    columns = None
    if "output_columns" in parameters:
        _check_kind(parameters, "output_columns", "int64_param")
        columns = parameters["output_columns"].int64_param
        if columns < 1:
            message = f"output_columns is {columns}; expected at least 1"
            raise MalformedField(message, field="parameters[output_columns]", expected="at least 1")
    return request.model_name, Demand(profile, columns)


def to_unload(request: pb.RepositoryModelUnloadRequest) -> str:
    """The digest of a model to unload. Raises `MalformedField`."""
    check_repository(request.repository_name)
    # Triton's client always says whether to unload the models that an ensemble is made of; there are none here.
    _no_parameters("parameters", request.parameters, ("unload_dependents",))
    return request.model_name


def _check_kind(parameters: Mapping[str, pb.ModelRepositoryParameter | pb.InferParameter], key: str, kind: str) -> None:
    if parameters[key].WhichOneof("parameter_choice") != kind:
        message = f"parameter {key!r} is not a {kind}; expected {kind}"
        raise MalformedField(message, field=f"parameters[{key}]", expected=kind)
