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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from cxreval import model_interface
from cxreval.api.oip import grpc_predict_v2_pb2 as pb
from cxreval.bundle import Ensemble, SubmittedFile, files_of
from cxreval.errors import InvalidTensor, MalformedField, ModelNotFound, UnknownProfile
from cxreval.fields import SHA256, SHA256_FORM, field_error
from cxreval.model_interface import ModelInterface, preset
from cxreval.onnx_file.signature import Signature
from cxreval.preprocessing import PRESETS
from services.inference import parameters
from services.inference.backends.model_host import LoadRequirements
from services.inference.backends.session import PLATFORM
from services.inference.model_pool import Listing, Model
from services.inference.parameters import BASE64, CONTENT_TYPE, MODELS, check_type
from services.inference.statistics import Duration, Statistics

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

_DATATYPES = {
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
    datatype = _DATATYPES[signature.dtype]
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
                f"{signature.input_name!r} of {_DATATYPES[signature.dtype]} and shape "
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


def to_metadata(name: str, model: Model) -> pb.ModelMetadataResponse:
    """Returns inputs and outputs of a model."""
    tensor = pb.ModelMetadataResponse.TensorMetadata
    signature = model.signature
    datatype, shape = _DATATYPES[signature.dtype], (-1, *_sizes(signature))
    inputs = [tensor(name=signature.input_name, datatype=datatype, shape=shape)]
    if model.interface:
        inputs.append(tensor(name=encoded_name(model), datatype="BYTES", shape=(-1,)))
    return pb.ModelMetadataResponse(
        name=name,
        versions=[VERSION],
        platform=PLATFORM,
        inputs=inputs,
        outputs=[tensor(name=signature.output_name, datatype="FP32", shape=(-1, model.columns))],
    )


def encoded_name(model: Model, name: str = IMAGE_INPUT) -> str:
    """Returns the name of an input of BYTES, other than that of the model's own tensor."""
    return name + _OTHER_NAME if name == model.signature.input_name else name


def to_config(name: str, model: Model) -> pb.ModelConfigResponse:
    """Returns the configuration of a model."""
    signature, tensor = model.signature, pb.ModelInput
    takes_images = model.interface is not None
    inputs = [
        tensor(
            name=signature.input_name,
            data_type=f"TYPE_{_DATATYPES[signature.dtype]}",
            dims=_sizes(signature),
            optional=takes_images,
        )
    ]
    if takes_images:
        inputs += [
            tensor(name=encoded_name(model, of), data_type=pb.TYPE_STRING, dims=(), optional=True)
            for of in (IMAGE_INPUT, DIGEST_INPUT)
        ]
    device = pb.ModelInstanceGroup.KIND_GPU if model.on_gpu else pb.ModelInstanceGroup.KIND_CPU
    return pb.ModelConfigResponse(
        config=pb.ModelConfig(
            name=name,
            platform=PLATFORM,
            backend="onnxruntime",
            max_batch_size=model.max_batch,
            input=inputs,
            output=[
                pb.ModelOutput(
                    name=signature.output_name, data_type=pb.TYPE_FP32, dims=[model.columns]
                )
            ],
            instance_group=[pb.ModelInstanceGroup(kind=device, count=1)],
            dynamic_batching=pb.ModelDynamicBatching(),
        )
    )


def _sizes(signature: Signature) -> tuple[int, ...]:
    """Returns the shape of an image as the protocol writes it: -1 where sizes differ."""
    return tuple(-1 if size is None else size for size in signature.image_shape)


def to_statistics(models: Iterable[tuple[str, Model]]) -> pb.ModelStatisticsResponse:
    """Returns the statistics of models, each under its name in the request."""
    return pb.ModelStatisticsResponse(
        model_stats=[_statistics(name, model.batcher.statistics) for name, model in models]
    )


def _statistics(name: str, statistics: Statistics) -> pb.ModelStatistics:
    def duration(of: Duration) -> pb.StatisticDuration:
        return pb.StatisticDuration(count=of.count, ns=of.ns)

    return pb.ModelStatistics(
        name=name,
        version=VERSION,
        last_inference=statistics.last_run_ms,
        inference_count=statistics.images,
        execution_count=sum(runs.count for runs in statistics.batches.values()),
        inference_stats=pb.InferStatistics(
            success=duration(statistics.success),
            fail=duration(statistics.failure),
            queue=duration(statistics.queue),
            compute_input=duration(statistics.input),
            compute_infer=duration(statistics.run),
            compute_output=duration(statistics.output),
        ),
        batch_stats=[
            pb.InferBatchStatistics(batch_size=size, compute_infer=duration(runs))
            for size, runs in sorted(statistics.batches.items())
        ],
    )


def to_index(listings: Sequence[Listing], *, only_ready: bool) -> pb.RepositoryIndexResponse:
    """Returns the models of the index."""
    entry = pb.RepositoryIndexResponse.ModelIndex
    return pb.RepositoryIndexResponse(
        models=[
            entry(
                name=listing.digest,
                version=VERSION,
                state=listing.state.value,
                reason=listing.reason,
            )
            for listing in listings
            if not only_ready or listing.state.value == "READY"
        ]
    )


# --- the repository -------------------------------------------------------------------------------


def check_repository(name: str) -> None:
    """Raises `MalformedField` unless the repository's name is empty."""
    if name:
        raise field_error("repository_name", name, "an empty name")


def to_load(request: pb.RepositoryModelLoadRequest) -> tuple[str, LoadRequirements, str]:
    """Returns the digest of the model to load, the requirements, and the model's owner.

    Raises:
        MalformedField: a field or parameter is malformed or unknown.
        UnknownProfile: no preset has this name.
    """
    check_repository(request.repository_name)
    if not SHA256.fullmatch(request.model_name):
        expected = f"the sha256 of the model's file: {SHA256_FORM}"
        raise field_error("model_name", request.model_name, expected)
    given = request.parameters
    parameters.check("load", "parameters", given)
    interface = _to_interface(given)
    columns = None
    if "output_columns" in given:
        check_type(given, "output_columns", "int64_param")
        columns = given["output_columns"].int64_param
        if columns < 1:
            raise field_error("parameters[output_columns]", columns, "at least 1")
    owner = ""
    if "owner" in given:
        check_type(given, "owner", "string_param")
        owner = given["owner"].string_param
    files, ensemble = _bundle(given)
    requirements = LoadRequirements(interface, columns, files=files, ensemble=ensemble)
    return request.model_name, requirements, owner


def _to_interface(
    given: Mapping[str, pb.ModelRepositoryParameter],
) -> ModelInterface | None:
    """Returns the interface that a load requires: stated, or that of a preset."""
    if "interface" in given:
        check_type(given, "interface", "string_param")
        if "profile" in given:
            expected = "one of the parameters interface and profile"
            message = f"both interface and profile are given; expected {expected}"
            raise MalformedField(message, field="parameters[profile]", expected=expected)
        return model_interface.read(given["interface"].string_param, "parameters[interface]")
    if "profile" not in given:
        return None
    check_type(given, "profile", "string_param")
    name = given["profile"].string_param
    if name not in PRESETS:
        expected = f"one of {', '.join(sorted(PRESETS))}"
        message = f"there is no profile {name[:80]!r}; expected {expected}"
        raise UnknownProfile(
            message, field="parameters[profile]", expected=expected, profile=name[:80]
        )
    return preset(name)


def _bundle(
    given: Mapping[str, pb.ModelRepositoryParameter],
) -> tuple[tuple[SubmittedFile, ...], Ensemble | None]:
    """Returns the files of a model that is an archive, and whether they are an ensemble."""
    for key in ("files", "ensemble"):
        if key in given:
            check_type(given, key, "string_param")
    files, ensemble = (
        given[key].string_param if key in given else "" for key in ("files", "ensemble")
    )
    if ensemble not in ("", *Ensemble):
        raise field_error("parameters[ensemble]", ensemble, f"one of {', '.join(Ensemble)}")
    if ensemble and not files:
        raise field_error("parameters[ensemble]", ensemble, "none, or `files` as well")
    return files_of(files, "parameters[files]"), Ensemble(ensemble) if ensemble else None


def to_unload(request: pb.RepositoryModelUnloadRequest) -> str:
    """Returns the digest or name of the model to unload. Raises `MalformedField`."""
    check_repository(request.repository_name)
    parameters.check("unload", "parameters", request.parameters)
    return request.model_name
