"""What every service has, tested on scoring: health, reflection, TLS, drain, deadlines, errors."""

import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from cxreval.api.scoring.v1 import report_pb2, scoring_service_pb2, scoring_service_pb2_grpc
from cxreval.client import Predictions, ScoringClient, TlsFiles
from cxreval.errors import CertificateNotAllowed, ServiceUnavailable
from cxreval.wire.status import from_rpc_error
from tests.support.certificates import make_certificates, server_flags
from tests.support.processes import Service
from tests.support.scoring import describe, small_table

IMAGES = [f"0000000{patient}_000.png" for patient in range(1, 5)]
SERVICE = "cxreval.api.scoring.v1.ScoringService"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("chassis")
    labels = small_table(
        directory, [(image, "Mass" if i % 2 else "No Finding") for i, image in enumerate(IMAGES)]
    )
    return directory, describe(directory, "small", IMAGES, labels)


@pytest.fixture
def service(data, tmp_path):
    with Service("scoring", ["--data", f"small={data[0]}"], tmp_path / "scoring.log") as running:
        yield running


def slow_stream(started, release):
    request = scoring_service_pb2.ScorePredictionsRequest
    yield request(header=scoring_service_pb2.ScorePredictionsHeader(benchmark="benchmarks/small"))
    started.set()
    release.wait(20)
    yield request(
        batch=report_pb2.PredictionBatch(
            images=IMAGES, probabilities=np.full(4 * 14, 0.5, "<f4").tobytes()
        )
    )


def test_health_answers_for_the_process_and_for_each_service(service):
    with grpc.insecure_channel(service.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", SERVICE):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        first = next(iter(stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE), timeout=5)))
        assert first.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=5)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_reflection_lists_the_services(service):
    with grpc.insecure_channel(service.address) as channel:
        names = set(ProtoReflectionDescriptorDatabase(channel).get_services())
    assert {SERVICE, "grpc.health.v1.Health"} <= names


def test_sigterm_turns_health_first_finishes_running_calls_and_exits_0(service):
    started, release = threading.Event(), threading.Event()
    with grpc.insecure_channel(service.address) as channel:
        stub = scoring_service_pb2_grpc.ScoringServiceStub(channel)
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(service=SERVICE), timeout=20
        )
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        running = stub.ScorePredictions(slow_stream(started, release), timeout=20)
        assert started.wait(10)
        time.sleep(0.2)  # until the header has arrived, the server does not count the call
        service.process.terminate()
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        release.set()
        *_, last = running
        assert last.report.image_count == len(IMAGES)
    assert service.process.wait(timeout=20) == 0


def test_a_call_that_outlives_its_deadline_ends_and_the_next_works(data, service):
    started, release = threading.Event(), threading.Event()
    with grpc.insecure_channel(service.address) as channel:
        stub = scoring_service_pb2_grpc.ScoringServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.ScorePredictions(slow_stream(started, release), timeout=0.5))
        release.set()
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    with ScoringClient(service.address) as client:
        whole = Predictions(tuple(IMAGES), np.full((4, 14), 0.5, dtype=np.float32))
        assert client.score(data[1], [whole]).image_count == len(IMAGES)


def test_the_servers_own_limit_ends_a_call_without_a_deadline(data, tmp_path):
    arguments = ["--data", f"small={data[0]}", "--stream-deadline-seconds", "0.3"]
    with (
        Service("scoring", arguments, tmp_path / "scoring.log") as running,
        grpc.insecure_channel(running.address) as channel,
    ):
        started, release = threading.Event(), threading.Event()
        stub = scoring_service_pb2_grpc.ScoringServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.ScorePredictions(slow_stream(started, release)))
        release.set()
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert from_rpc_error(caught.value).metadata == {"limit_seconds": "0.3"}


def test_two_servers_never_share_a_port(data, service, tmp_path):
    second = Service("scoring", ["--data", f"small={data[0]}"], tmp_path / "second.log")
    second._command[second._command.index("--listen") + 1] = service.address
    with pytest.raises(RuntimeError, match="cannot listen on"):
        second.start()


def test_an_unknown_setting_is_refused_with_its_name():
    ended = subprocess.run(
        [sys.executable, "-m", "services.scoring"],
        env={"CXREVAL_SCORING_DATE": "x", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 1
    assert "unknown variable CXREVAL_SCORING_DATE" in ended.stderr


def test_tls_accepts_only_clients_that_the_ca_signed(data, tmp_path):
    known = make_certificates(tmp_path)
    flags = ["--data", f"small={data[0]}", *server_flags(tmp_path)]
    with Service("scoring", flags, tmp_path / "scoring.log", tls=known) as running:
        with ScoringClient(running.address, known) as client:
            assert [truth.benchmark for truth in client.list_truths()] == ["small"]
        for stranger in (TlsFiles(known.ca), None):
            with (
                ScoringClient(running.address, stranger) as client,
                pytest.raises(ServiceUnavailable),
            ):
                client.list_truths()


def test_only_clients_with_an_allowed_name_may_call_and_health_answers_all(data, tmp_path):
    known = make_certificates(tmp_path)
    flags = ["--data", f"small={data[0]}", *server_flags(tmp_path)]
    for name, allowed in (("client", True), ("localhost", True), ("somebody-else", False)):
        service = Service(
            "scoring", [*flags, "--allowed-certificates", name], tmp_path / "scoring.log", tls=known
        )
        with service as running, ScoringClient(running.address, known) as client:
            if allowed:
                assert client.list_truths()
                continue
            with pytest.raises(
                CertificateNotAllowed, match=r"certificate has 127\.0\.0\.1, client"
            ):
                client.list_truths()


@pytest.mark.parametrize(
    ("method", "wrong"),
    [
        pytest.param("ListTruths", b"\xff\xff\xff", id="no protobuf, one request"),
        pytest.param("ScorePredictions", b"\xff\xff\xff", id="no protobuf, a stream"),
        pytest.param("ScorePredictions", b"\x0a\x03\x0a\x01\xff", id="no UTF-8"),
    ],
)
def test_bytes_that_are_no_request_are_refused_by_name(service, method, wrong):
    with grpc.insecure_channel(service.address) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.stream_unary(f"/{SERVICE}/{method}")(iter([wrong]), timeout=20)
    error = from_rpc_error(caught.value)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (error.reason, error.metadata["field"]) == ("MALFORMED_FIELD", "request")


def test_a_message_far_above_what_scoring_needs_is_refused_unread(service):
    with grpc.insecure_channel(service.address) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"/{SERVICE}/ListTruths")(b"\x0a\x00" * (5 << 20), timeout=20)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
