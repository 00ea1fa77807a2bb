"""Converts between the Open Inference Protocol's messages about models and the pool of models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cxreval import model_interface
from cxreval.api.oip import grpc_predict_v2_pb2 as pb
from cxreval.bundle import Ensemble, SubmittedFile, files_of
from cxreval.errors import MalformedField, UnknownProfile
from cxreval.fields import SHA256, SHA256_FORM, field_error
from cxreval.model_interface import ModelInterface, preset
from cxreval.onnx_file.signature import Signature
from cxreval.preprocessing import PRESETS
from services.inference import parameters
from services.inference.backends.model_host import LoadRequirements
from services.inference.backends.session import PLATFORM
from services.inference.convert import (
    DATATYPES,
    DIGEST_INPUT,
    IMAGE_INPUT,
    VERSION,
    encoded_name,
)
from services.inference.model_pool import Listing, Model
from services.inference.parameters import check_type
from services.inference.statistics import Duration, Statistics


def to_metadata(name: str, model: Model) -> pb.ModelMetadataResponse:
    """Returns inputs and outputs of a model."""
    tensor = pb.ModelMetadataResponse.TensorMetadata
    signature = model.signature
    datatype, shape = DATATYPES[signature.dtype], (-1, *_sizes(signature))
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


def to_config(name: str, model: Model) -> pb.ModelConfigResponse:
    """Returns the configuration of a model."""
    signature, tensor = model.signature, pb.ModelInput
    takes_images = model.interface is not None
    inputs = [
        tensor(
            name=signature.input_name,
            data_type=f"TYPE_{DATATYPES[signature.dtype]}",
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
