"""Models are fetched from the registry by digest over gRPC and verified before they are stored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from cxreval.api.registry.v1 import artifact_service_pb2_grpc as artifact_grpc
from cxreval.api.registry.v1 import benchmark_service_pb2 as benchmark_pb
from cxreval.api.registry.v1 import benchmark_service_pb2_grpc as benchmark_grpc
from cxreval.api.registry.v1 import submission_service_pb2 as submission_pb
from cxreval.api.registry.v1 import submission_service_pb2_grpc as submission_grpc
from cxreval.errors import CxrevalError
from cxreval.wire.channel import connect
from cxreval.wire.status import from_rpc_error
from tests.support import onnx_models
from tests.support.inference import (
    InferenceService,
    load_request,
    random_images,
    rows,
    stub,
    tensor_request,
)
from tests.support.processes import Service
from tests.support.registry import (
    benchmark_message,
    manifest_message,
    registry_service,
    small_spec,
    upload_messages,
)

IMAGES = random_images(2, seed=3)


def submit(registry: Service, artifact: bytes) -> None:
    """Creates a submission and uploads its artifact."""
    spec = small_spec("inference-test")
    with connect(registry.address) as channel:
        benchmarks: Any = benchmark_grpc.BenchmarkServiceStub(channel)
        submissions: Any = submission_grpc.SubmissionServiceStub(channel)
        benchmarks.CreateBenchmark(
            benchmark_pb.CreateBenchmarkRequest(benchmark=benchmark_message(spec))
        )
        created = submissions.CreateSubmission(
            submission_pb.CreateSubmissionRequest(
                parent=f"benchmarks/{spec.name}",
                manifest=manifest_message(artifact),
            )
        )
        artifacts: Any = artifact_grpc.ArtifactServiceStub(channel)
        artifacts.UploadArtifact(upload_messages(created.name, artifact, chunk_bytes=300))


def error_of(call: Callable[[], Any]) -> CxrevalError:
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return from_rpc_error(raised.value)


def test_model_is_fetched_once_verified_and_fetched_again_when_its_copy_is_corrupt(
    tmp_path: Path,
) -> None:
    digest = onnx_models.classifier(tmp_path / "made")
    artifact = (tmp_path / "made" / f"{digest}.onnx").read_bytes()
    with registry_service(tmp_path) as registry:
        submit(registry, artifact)
        with (
            InferenceService(tmp_path, "--registry", registry.address) as service,
            service.connect() as channel,
        ):
            oip = stub(channel)
            oip.RepositoryModelLoad(load_request(digest))

            answer = rows(oip.ModelInfer(tensor_request(digest, IMAGES)))
            np.testing.assert_allclose(
                answer, onnx_models.expected(IMAGES), atol=onnx_models.TOLERANCE
            )
            assert [file.name for file in service.models.iterdir()] == [f"{digest}.onnx"]

            (service.models / f"{digest}.onnx").write_bytes(artifact[:-1])
            service.kill()
            service.start()
            oip.RepositoryModelLoad(load_request(digest), wait_for_ready=True)
            assert (
                hashlib.sha256((service.models / f"{digest}.onnx").read_bytes()).hexdigest()
                == digest
            )

            unknown = error_of(lambda: oip.RepositoryModelLoad(load_request("0" * 64)))
            assert unknown.reason == "ARTIFACT_NOT_FOUND"
            assert [file.name for file in service.models.iterdir()] == [f"{digest}.onnx"]


def test_registry_that_is_away_is_unavailable_and_cached_models_load_all_the_same(
    tmp_path: Path,
) -> None:
    with (
        InferenceService(tmp_path, "--registry", "127.0.0.1:1") as service,
        service.connect() as channel,
    ):
        oip = stub(channel)
        cached = onnx_models.classifier(service.models)

        assert (
            error_of(lambda: oip.RepositoryModelLoad(load_request("0" * 64))).reason
            == "SERVICE_UNAVAILABLE"
        )
        oip.RepositoryModelLoad(load_request(cached))
        assert rows(oip.ModelInfer(tensor_request(cached, IMAGES))).shape == (
            2,
            onnx_models.COLUMNS,
        )
