"""Streams without content end by name, keep what can be resumed, and close no service to others."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from cxreval.api.oip import grpc_predict_v2_pb2 as oip
from cxreval.api.registry.v1 import artifact_service_pb2 as artifact_pb
from cxreval.api.scoring.v1 import scoring_service_pb2 as pb
from cxreval.api.scoring.v1 import scoring_service_pb2_grpc
from cxreval.client import Predictions, RegistryClient, ScoringClient, TlsFiles
from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.errors import CxrevalError
from cxreval.wire import reports
from cxreval.wire.limits import CHUNK_BYTES
from cxreval.wire.status import from_rpc_error
from services.registry.servicers.artifacts import MAX_TRANSFERS
from tests.support import onnx_models
from tests.support.access import ClosedRegistry
from tests.support.certificates import make_certificates, server_flags
from tests.support.inference import InferenceService, load_request, stub, tensor_request
from tests.support.processes import Service
from tests.support.registry import Registry, registry_service, upload_messages
from tests.support.scoring import describe, scoring_service, small_table
from tests.support.silent import SCORE, UPLOAD, SilentStreams

IMAGES = tuple(f"0000000{patient}_000.png" for patient in range(1, 9))
BENCHMARK = "nih-chestxray14"
IDLE = ("--stream-idle-seconds=0.5", "--stream-deadline-seconds=2")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BenchmarkSpec]:
    directory = tmp_path_factory.mktemp("silent")
    rows = [(image, "Mass" if number % 2 else "No Finding") for number, image in enumerate(IMAGES)]
    return directory, describe(directory, "small", IMAGES, small_table(directory, rows))


@pytest.fixture(scope="module")
def scoring(
    data: tuple[Path, BenchmarkSpec], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    log = tmp_path_factory.mktemp("log") / "scoring.log"
    with scoring_service(log, *IDLE, small=data[0]) as service:
        yield service


def error_of(call: Callable[[], Any]) -> CxrevalError:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return from_rpc_error(caught.value)


def header(session: str = "") -> pb.ScorePredictionsRequest:
    content = pb.ScorePredictionsHeader(benchmark="benchmarks/small", session=session)
    return pb.ScorePredictionsRequest(header=content)


def batch(images: tuple[str, ...]) -> pb.ScorePredictionsRequest:
    values = np.full((len(images), 14), 0.5, np.float32)
    return pb.ScorePredictionsRequest(batch=reports.batch_message(images, values))


def scores(address: str, data: tuple[Path, BenchmarkSpec], tls: TlsFiles | None = None) -> bool:
    """Returns whether a client gets a report."""
    whole = Predictions(IMAGES, np.full((len(IMAGES), 14), 0.5, np.float32))
    with ScoringClient(address, tls) as client:
        return client.score(data[1], [whole]).image_count == len(IMAGES)


def then_silent(*messages: Any, pause: float = 20.0) -> Iterator[Any]:
    """Yields the messages, and then nothing until the call has ended for long."""
    yield from messages
    threading.Event().wait(pause)


# --- the idle limit -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["ScorePredictions", "ListTruths"])
def test_a_call_without_its_first_message_ends_by_name_and_the_next_works(
    scoring: Service, data: tuple[Path, BenchmarkSpec], method: str
) -> None:
    path = SCORE.replace("ScorePredictions", method)
    with grpc.insecure_channel(scoring.address) as channel:
        error = error_of(lambda: channel.stream_unary(path)(then_silent(), timeout=20))
    assert (error.reason, error.metadata) == ("STREAM_IDLE", {"limit_seconds": "0.5"})
    assert scores(scoring.address, data)


@pytest.mark.parametrize("method", ["Check", "Watch"])
def test_health_answers_no_call_without_a_request(scoring: Service, method: str) -> None:
    path = f"/grpc.health.v1.Health/{method}"
    with grpc.insecure_channel(scoring.address) as channel:
        ended = error_of(lambda: channel.stream_unary(path)(iter([]), timeout=20))
        idle = error_of(lambda: channel.stream_unary(path)(then_silent(), timeout=20))
    assert (ended.reason, idle.reason) == ("EMPTY_STREAM", "STREAM_IDLE")


def test_a_scoring_stream_that_pauses_too_long_is_parked_and_resumes(scoring: Service) -> None:
    session = uuid.uuid4().hex
    with grpc.insecure_channel(scoring.address) as channel:
        call = scoring_service_pb2_grpc.ScoringServiceStub(channel).ScorePredictions
        sent = then_silent(header(session), batch(IMAGES[:3]))
        assert error_of(lambda: list(call(sent, timeout=20))).reason == "STREAM_IDLE"
        begin, *_, last = call(iter([header(session), batch(IMAGES[3:])]), timeout=20)
    assert (begin.progress.message_count, begin.progress.image_count) == (1, 3)
    assert last.report.image_count == len(IMAGES)


def test_the_scoring_client_resumes_after_a_pause(
    scoring: Service, data: tuple[Path, BenchmarkSpec]
) -> None:
    class Slow(list[Predictions]):
        paused = False

        def __iter__(self) -> Iterator[Predictions]:
            for number, part in enumerate(list.__iter__(self)):
                if number == 1 and not self.paused:
                    self.paused = True
                    time.sleep(1.5)
                yield part

    halves = (IMAGES[:3], IMAGES[3:])
    parts = Slow(
        Predictions(images, np.full((len(images), 14), 0.5, np.float32)) for images in halves
    )
    with ScoringClient(scoring.address) as client:
        assert client.score(data[1], parts).image_count == len(IMAGES)
    assert parts.paused


def test_a_stream_that_trickles_ends_at_its_deadline(scoring: Service) -> None:
    def trickle() -> Iterator[pb.ScorePredictionsRequest]:
        yield header()
        for _ in range(100):
            time.sleep(0.2)
            yield batch(IMAGES[:1])

    with grpc.insecure_channel(scoring.address) as channel:
        call = scoring_service_pb2_grpc.ScoringServiceStub(channel).ScorePredictions
        error = error_of(lambda: list(call(trickle(), timeout=30)))
    assert (error.reason, error.metadata["limit_seconds"]) == ("DEADLINE_EXCEEDED", "2.0")


def test_a_model_stream_that_is_idle_after_its_answers_ends_by_name(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    digest = onnx_models.classifier(tmp_path / "models")
    request = tensor_request(digest, np.zeros((1, 1, 224, 224), np.float32))
    with InferenceService(tmp_path, *IDLE) as service, service.connect() as channel:
        stub(channel).RepositoryModelLoad(load_request(digest, "xrv-224"), timeout=30)
        answers: list[oip.ModelStreamInferResponse] = []

        def receive() -> None:
            for answer in stub(channel).ModelStreamInfer(then_silent(request), timeout=20):
                answers.append(answer)  # noqa: PERF402 -- those before the error are kept

        assert error_of(receive).reason == "STREAM_IDLE"
        assert [answer.error_message for answer in answers] == [""]
        assert stub(channel).ModelInfer(request, timeout=20).raw_output_contents


def test_an_upload_that_pauses_keeps_its_bytes_and_a_reader_that_does_not_read_is_ended(
    tmp_path: Path,
) -> None:
    content = os.urandom(32 * CHUNK_BYTES)
    with registry_service(tmp_path, *IDLE) as service, Registry(service.address) as call:
        name = call.create_submission(BENCHMARK, content).name
        head = list(upload_messages(name, content))[:4]
        idle = error_of(lambda: call.artifacts.UploadArtifact(then_silent(*head), timeout=20))
        assert idle.reason == "STREAM_IDLE"
        stored = call.artifacts.GetUpload(artifact_pb.GetUploadRequest(submission=name))
        assert stored.received_bytes == 3 * CHUNK_BYTES
        file = tmp_path / "model.onnx"
        file.write_bytes(content)
        with RegistryClient(service.address) as client:
            uploaded = client.upload_artifact(name, file)
        request = artifact_pb.DownloadArtifactRequest(
            name=f"artifacts/{uploaded.manifest.artifact_sha256}"
        )
        unread = [call.artifacts.DownloadArtifact(request, timeout=60) for _ in range(3)]
        assert in_flight(service, "DownloadArtifact", expected=3)
        assert in_flight(service, "DownloadArtifact", expected=0)
        assert error_of(lambda: list(unread[0])).reason == "STREAM_IDLE"
        assert b"".join(part.chunk for part in call.artifacts.DownloadArtifact(request)) == content


def test_a_watcher_that_waits_for_news_is_not_idle(tmp_path: Path) -> None:
    with (
        registry_service(tmp_path, "--stream-idle-seconds=0.5") as service,
        Registry(service.address) as call,
        RegistryClient(service.address) as client,
    ):
        name = call.create_submission(BENCHMARK, b"model").name
        failures: list[CxrevalError] = []
        watched = client.watch(name, failures.append)
        assert next(watched).status == "awaiting_artifact"
        time.sleep(1.5)
        call.artifacts.UploadArtifact(upload_messages(name, b"model"), timeout=20)
        assert next(watched).status == "queued"
        assert failures == []
        watched.close()  # type: ignore[attr-defined]  # a generator


def in_flight(service: Service, method: str, expected: int) -> bool:
    """Returns whether so many calls of a method run, now or within half a minute."""
    for _ in range(300):
        page = urllib.request.urlopen(f"http://{service.metrics_address}/metrics", timeout=10)
        for line in page.read().decode().splitlines():
            start = f'grpc_server_in_flight{{grpc_method="{method}"'
            if line.startswith(start) and float(line.split()[-1]) == expected:
                return True
        time.sleep(0.1)
    return False


# --- fair slots -----------------------------------------------------------------------------------


def test_scoring_streams_with_only_a_header_do_not_close_scoring_to_another_certificate(
    data: tuple[Path, BenchmarkSpec], tmp_path: Path
) -> None:
    attacker = make_certificates(tmp_path)
    honest = TlsFiles(attacker.ca, tmp_path / "server.pem", tmp_path / "server.key")
    flags = [*server_flags(tmp_path), "--max-streams=32"]
    service = scoring_service(tmp_path / "log", *flags, tls=attacker, small=data[0])
    assert attacker.key
    assert attacker.certificate
    credentials = grpc.ssl_channel_credentials(
        attacker.ca.read_bytes(), attacker.key.read_bytes(), attacker.certificate.read_bytes()
    )

    async def attack() -> None:
        async with SilentStreams(service.address, credentials=credentials) as streams:
            await streams.open(SCORE, 40, header().SerializeToString())
            await streams.wait_for_ends(8)  # 32 hold their slots
            for _ in range(2):
                assert await asyncio.to_thread(scores, service.address, data, honest)
            await streams.wait_for_ends(1)  # the honest caller used its slot twice
            assert streams.ended() == 9

    with service:
        asyncio.run(asyncio.wait_for(attack(), 60))


def test_uploads_without_a_header_are_limited_by_caller_and_end(tmp_path: Path) -> None:
    flags = ("--stream-idle-seconds=3", "--max-streams-per-caller=200")
    with ClosedRegistry(tmp_path, "sqlite", *flags) as registry:

        async def attack() -> None:
            address, key = registry.service.address, registry.keys["acme/submitter"]
            async with SilentStreams(address, key) as streams:
                await streams.open(UPLOAD, 300)
                await asyncio.to_thread(submit, registry, "rival/submitter")
                reasons = await streams.reasons()
                assert reasons == {"STREAM_IDLE": 200, "SERVICE_OVERLOADED": 100}

        asyncio.run(asyncio.wait_for(attack(), 60))
        submit(registry, "acme/submitter")


def submit(registry: ClosedRegistry, who: str) -> None:
    """Submits a model with a key."""
    assert registry.stubs(who).submit(BENCHMARK, os.urandom(100)).name


def test_uploads_that_hold_every_slot_give_one_to_another_caller_and_resume(
    tmp_path: Path,
) -> None:
    content = os.urandom(2 * CHUNK_BYTES)
    with ClosedRegistry(tmp_path) as registry, registry.stubs("acme/submitter") as call:
        names = [
            call.create_submission(BENCHMARK, content + bytes([number])).name
            for number in range(MAX_TRANSFERS)
        ]

        async def attack() -> int:
            address, key = registry.service.address, registry.keys["acme/submitter"]
            async with SilentStreams(address, key) as streams:
                for name in names:
                    first, chunk, *_ = upload_messages(name, content + b"?")
                    messages = first.SerializeToString(), chunk.SerializeToString()
                    await streams.open(UPLOAD, 1, *messages)
                await asyncio.to_thread(all_received, call, names)
                assert streams.ended() == 0
                await asyncio.to_thread(submit, registry, "rival/submitter")
                await streams.wait_for_ends(1)
                return streams.ended()

        assert asyncio.run(asyncio.wait_for(attack(), 60)) == 1
        whole = content + bytes([3])
        messages = upload_messages(names[3], whole, offset=CHUNK_BYTES)
        assert call.artifacts.UploadArtifact(messages, timeout=20).submission.name == names[3]


def all_received(call: Registry, names: list[str]) -> None:
    """Waits until the registry has a chunk of each upload."""
    for name in names:
        request = artifact_pb.GetUploadRequest(submission=name)
        while call.artifacts.GetUpload(request, timeout=20).received_bytes < CHUNK_BYTES:
            time.sleep(0.05)
