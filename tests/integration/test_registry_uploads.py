"""Uploads that are resumed, concurrent uploads, and artifacts that workers upload."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from cxreval.api.registry.v1 import artifact_service_pb2 as pb
from cxreval.client import Lease, UploadProgress, WorkerClient
from cxreval.client._calls import BlockingTransport, finish
from cxreval.client._upload import upload as upload_file
from cxreval.errors import CxrevalError, DigestMismatch, ServiceUnavailable
from cxreval.wire.connection import Peer
from cxreval.wire.limits import CHUNK_BYTES
from cxreval.wire.status import from_rpc_error
from services.registry.uploads import BufferedWriter
from tests.support.processes import Service
from tests.support.proxy import Proxy
from tests.support.registry import (
    DATABASES,
    Registry,
    migrated_database,
    registry_service,
    small_spec,
    upload_messages,
)
from tests.support.system import json_of

SPEC = small_spec("uploads")


def content(mib: int, seed: int) -> bytes:
    return np.random.default_rng(seed).bytes(mib * CHUNK_BYTES + seed)


class Running:
    """A registry in a directory."""

    def __init__(self, directory: Path, kind: str) -> None:
        self.directory = directory
        self.service: Service = registry_service(
            directory, database_url=migrated_database(kind, directory)
        ).start()
        self.call = Registry(self.service.address)
        self.call.create_benchmark(SPEC)

    def files(self) -> list[str]:
        return sorted(
            file.name for file in (self.directory / "artifacts").rglob("*") if file.is_file()
        )

    def received(self, submission: str) -> int:
        return self.call.artifacts.GetUpload(
            pb.GetUploadRequest(submission=submission)
        ).received_bytes


@pytest.fixture(scope="module", params=DATABASES)
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    found = Running(tmp_path_factory.mktemp("registry"), request.param)
    yield found
    found.call.channel.close()
    assert found.service.stop() == 0


def error_of(call: Callable[[], Any]) -> CxrevalError:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return from_rpc_error(caught.value)


class Held:
    """An upload that has sent its first chunks and stays open; leaving the block breaks it off."""

    def __init__(self, running: Running, submission: str, artifact: bytes, chunks: int = 1) -> None:
        self._go_on = threading.Event()
        before = running.received(submission)
        self.call = running.call.artifacts.UploadArtifact.future(
            self._messages(submission, artifact, chunks, before)
        )
        deadline = time.monotonic() + 10
        while running.received(submission) < before + chunks * CHUNK_BYTES:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def _messages(
        self, submission: str, artifact: bytes, chunks: int, offset: int
    ) -> Iterator[Any]:
        messages = upload_messages(submission, artifact, offset=offset)
        for _ in range(chunks + 1):
            yield next(messages)
        self._go_on.wait(30)

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        self.call.cancel()
        self._go_on.set()


def test_broken_upload_keeps_what_arrived_and_resumes_only_from_there(running: Running) -> None:
    artifact = content(3, 1)
    name = running.call.create_submission(SPEC.name, artifact).name
    assert running.received(name) == 0
    with Held(running, name, artifact, chunks=2):
        pass
    for offset in (0, CHUNK_BYTES, 3 * CHUNK_BYTES):
        error = until_free(
            lambda offset=offset: upload_messages(name, artifact, offset=offset), running
        )
        assert (error.reason, error.metadata["received_bytes"]) == (
            "UPLOAD_OFFSET",
            str(2 * CHUNK_BYTES),
        )
    done = running.call.artifacts.UploadArtifact(
        upload_messages(name, artifact, offset=2 * CHUNK_BYTES)
    )
    assert done.artifact == f"artifacts/{hashlib.sha256(artifact).hexdigest()}"
    assert running.call.artifacts.GetUpload(pb.GetUploadRequest(submission=name)).complete
    assert done.artifact.rpartition("/")[2] in running.files()


def until_free(messages: Callable[[], Any], running: Running) -> CxrevalError:
    """Returns an upload's error once the server has noticed that the one before broke off."""
    deadline = time.monotonic() + 10
    while (
        error := error_of(lambda: running.call.artifacts.UploadArtifact(messages()))
    ).reason == "UPLOAD_BUSY":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return error


def test_second_concurrent_upload_is_refused(running: Running) -> None:
    artifact = content(2, 2)
    name = running.call.create_submission(SPEC.name, artifact).name
    with Held(running, name, artifact):
        error = error_of(
            lambda: running.call.artifacts.UploadArtifact(
                upload_messages(name, artifact, offset=CHUNK_BYTES)
            )
        )
        assert error.reason == "UPLOAD_BUSY"


def test_other_bytes_at_the_end_of_a_resumed_upload_discard_all_of_it(running: Running) -> None:
    artifact = content(2, 3)
    name = running.call.create_submission(SPEC.name, artifact).name
    before = running.files()
    with Held(running, name, artifact):
        pass
    other = artifact[:-1] + bytes([artifact[-1] ^ 1])
    error = until_free(lambda: upload_messages(name, other, offset=CHUNK_BYTES), running)
    assert (error.reason, error.metadata["found"]) == (
        "DIGEST_MISMATCH",
        hashlib.sha256(other).hexdigest(),
    )
    assert (running.received(name), running.files()) == (0, before)


def test_upload_that_ends_early_can_be_resumed(running: Running) -> None:
    artifact = content(2, 10)
    name = running.call.create_submission(SPEC.name, artifact).name
    early = upload_messages(name, artifact[:-1], size_bytes=len(artifact))
    error = error_of(lambda: running.call.artifacts.UploadArtifact(early))
    assert (error.reason, error.metadata["field"]) == ("ARTIFACT_INCOMPLETE", "header.size_bytes")
    assert running.received(name) == len(artifact) - 1
    running.call.artifacts.UploadArtifact(upload_messages(name, artifact, offset=len(artifact) - 1))


def test_offset_beyond_the_size_is_refused(running: Running) -> None:
    artifact = content(0, 4)
    name = running.call.create_submission(SPEC.name, artifact).name
    for offset in (-1, len(artifact) + 1):
        error = error_of(
            lambda offset=offset: running.call.artifacts.UploadArtifact(
                upload_messages(name, artifact, offset=offset)
            )
        )
        assert (error.reason, error.metadata["field"]) == ("MALFORMED_FIELD", "header.write_offset")


def test_client_resumes_after_the_network_was_cut(running: Running, tmp_path: Path) -> None:
    artifact = content(32, 5)
    (tmp_path / "model.onnx").write_bytes(artifact)
    name = running.call.create_submission(SPEC.name, artifact).name
    moved: list[int] = []
    reasons: list[str] = []
    progress = UploadProgress(
        lambda sent, _: moved.append(sent), lambda error: reasons.append(error.reason)
    )
    with Proxy(running.service.address) as proxy:
        proxy.cut_after = [16 * CHUNK_BYTES, 8 * CHUNK_BYTES]
        with WorkerClient(proxy.address) as client:
            assert (
                client.upload_artifact(name, tmp_path / "model.onnx", progress).status == "queued"
            )
        assert proxy.connections >= 3
    assert "SERVICE_UNAVAILABLE" in reasons
    assert moved[-1] == len(artifact)
    resumed = [offset for before, offset in itertools.pairwise(moved) if offset <= before]
    assert resumed[0] > 0  # bytes that had arrived before the cut are kept


def test_the_retry_deadline_runs_from_the_failure_and_not_from_the_start_of_a_long_call(
    running: Running, tmp_path: Path
) -> None:
    artifact = content(32, 14)
    (tmp_path / "model.onnx").write_bytes(artifact)
    name = running.call.create_submission(SPEC.name, artifact).name
    progress = UploadProgress(lambda sent, _: time.sleep(2 * (sent == 16 * CHUNK_BYTES)))
    with Proxy(running.service.address) as proxy, WorkerClient(proxy.address) as client:
        proxy.cut_after = [24 * CHUNK_BYTES]
        assert (
            client.upload_artifact(name, tmp_path / "model.onnx", progress, retry_seconds=1).status
            == "queued"
        )
        assert proxy.connections >= 2


def test_client_waits_for_a_registry_that_is_down_when_the_upload_begins(tmp_path: Path) -> None:
    running = Running(tmp_path, "sqlite")
    (tmp_path / "model.onnx").write_bytes(b"model")
    name = running.call.create_submission(SPEC.name, b"model").name
    running.service.stop()
    reasons: list[str] = []

    def broken(error: CxrevalError) -> None:
        reasons.append(error.reason)
        if len(reasons) == 1:
            running.service.start()

    with WorkerClient(running.service.address) as client:
        done = client.upload_artifact(
            name, tmp_path / "model.onnx", UploadProgress(on_failure=broken)
        )
        assert (done.status, set(reasons)) == ("queued", {"SERVICE_UNAVAILABLE"})
        running.service.stop()
        with pytest.raises(ServiceUnavailable):
            client.upload_artifact(name, tmp_path / "model.onnx", retry_seconds=0.1)
    running.call.channel.close()


def test_client_gives_up_without_progress(running: Running, tmp_path: Path) -> None:
    artifact = content(2, 6)
    (tmp_path / "model.onnx").write_bytes(artifact)
    name = running.call.create_submission(SPEC.name, artifact).name
    with Held(running, name, artifact), pytest.raises(CxrevalError) as caught:
        finish(
            upload_file(
                BlockingTransport(Peer("registry", running.service.address, tls=False)),
                running.call.artifacts,
                {"submission": name},
                partial((tmp_path / "model.onnx").open, "rb"),
                UploadProgress(),
                retry_seconds=1,
            )
        )
    assert caught.value.reason == "UPLOAD_BUSY"


@pytest.mark.parametrize("size", [1, 4])
def test_client_restarts_when_the_earlier_bytes_were_of_another_file(
    running: Running, tmp_path: Path, size: int
) -> None:
    artifact, other = content(2, 13 + size), content(size, 20 + size)
    (tmp_path / "model.onnx").write_bytes(artifact)
    name = running.call.create_submission(SPEC.name, artifact).name
    early = upload_messages(name, other, size_bytes=len(other) + 1)
    assert (
        error_of(lambda: running.call.artifacts.UploadArtifact(early)).reason
        == "ARTIFACT_INCOMPLETE"
    )
    assert running.received(name) == len(other)
    reasons: list[str] = []
    with WorkerClient(running.service.address) as client:
        done = client.upload_artifact(
            name,
            tmp_path / "model.onnx",
            UploadProgress(on_failure=lambda error: reasons.append(error.reason)),
        )
    assert (done.status, reasons) == (
        "queued",
        ["DIGEST_MISMATCH" if size == 1 else "UPLOAD_OFFSET"],
    )


def test_client_sends_no_byte_of_another_file(running: Running, tmp_path: Path) -> None:
    artifact = content(1, 7)
    (tmp_path / "other.onnx").write_bytes(b"other")
    name = running.call.create_submission(SPEC.name, artifact).name
    with (
        WorkerClient(running.service.address) as client,
        pytest.raises(DigestMismatch, match=name),
    ):
        client.upload_artifact(name, tmp_path / "other.onnx")
    assert running.received(name) == 0


def test_same_bytes_of_two_submissions_uploaded_at_once_are_one_file(running: Running) -> None:
    artifact = content(4, 11)
    names = [running.call.create_submission(SPEC.name, artifact).name for _ in range(4)]
    before = running.files()
    uploads = [
        running.call.artifacts.UploadArtifact.future(upload_messages(name, artifact))
        for name in names
    ]
    assert {upload.result(60).submission.name for upload in uploads} == set(names)
    assert running.files() == sorted([*before, hashlib.sha256(artifact).hexdigest()])
    for name in names:
        assert running.call.artifacts.GetUpload(pb.GetUploadRequest(submission=name)).complete


def test_chunks_are_written_in_order_at_any_pace_and_errors_are_raised() -> None:
    written: list[bytes] = []

    def write(content: bytes) -> None:
        time.sleep(len(written) % 3 / 1000)
        if len(written) == 5:
            raise ServiceUnavailable("the disk is full")
        written.append(content)

    async def send(chunks: list[bytes]) -> None:
        writer = BufferedWriter(write)
        try:
            for chunk in chunks:
                await writer.put(chunk)
        finally:
            await writer.flush()

    some = [bytes([number]) for number in range(4)]
    asyncio.run(send(some))
    assert b"".join(written) == b"".join(some)
    written.clear()
    many = [bytes([number]) for number in range(200)]
    with pytest.raises(ServiceUnavailable):
        asyncio.run(send(many))
    assert b"".join(many).startswith(b"".join(written))


@pytest.mark.parametrize(
    "name",
    [
        "../../registry.db",
        "benchmarks/uploads/submissions/../../x",
        "benchmarks/uploads/submissions/" + "0" * 31 + "/",
    ],
)
def test_path_tricks_in_names_are_malformed_and_leave_nothing(running: Running, name: str) -> None:
    before = running.files()
    for call in (
        lambda: running.call.artifacts.GetUpload(pb.GetUploadRequest(submission=name)),
        lambda: running.call.artifacts.UploadArtifact(upload_messages(name, b"bytes")),
    ):
        assert error_of(call).reason == "MALFORMED_FIELD"
    assert running.files() == before


def test_command_resumes_a_broken_upload(running: Running, tmp_path: Path) -> None:
    artifact = content(2, 12)
    (tmp_path / "model.onnx").write_bytes(artifact)
    name = running.call.create_submission(SPEC.name, artifact).name
    with Held(running, name, artifact):
        pass
    file = str(tmp_path / "model.onnx")
    done = json_of("submission", "upload", name, file, "--registry", running.service.address)
    assert done["status"] == "queued"


def leased(running: Running, artifact: bytes) -> Lease:
    submitted = running.call.submit(SPEC.name, artifact)
    with WorkerClient(running.service.address) as client:
        while True:
            lease = client.lease_evaluation("worker", [SPEC.name])
            assert lease
            if lease.submission.name == submitted.name:
                return lease


def test_worker_uploads_artifacts_only_under_its_lease(running: Running, tmp_path: Path) -> None:
    lease, made = leased(running, content(0, 8)), content(1, 9)
    (tmp_path / "made.onnx").write_bytes(made)
    sha256 = hashlib.sha256(made).hexdigest()
    with WorkerClient(running.service.address) as client:
        for _ in range(2):  # the second call has nothing to send
            assert client.upload_derived_artifact(lease, tmp_path / "made.onnx") == sha256
        assert b"".join(client.download_artifact(sha256)) == made

    def field_error(
        evaluation: str = lease.evaluation, token: str = lease.token, digest: str = sha256
    ) -> str:
        derived = pb.DerivedArtifact(evaluation=evaluation, token=token, sha256=digest)
        header = pb.UploadArtifactHeader(derived=derived, size_bytes=1)
        asked = error_of(
            lambda: running.call.artifacts.GetUpload(pb.GetUploadRequest(derived=derived))
        )
        message = pb.UploadArtifactRequest(header=header)
        sent = error_of(lambda: running.call.artifacts.UploadArtifact(iter([message])))
        assert asked.reason == sent.reason
        return sent.reason

    before = running.files()
    assert field_error(token="0" * 32) == "LEASE_LOST"
    assert field_error(evaluation=lease.evaluation[:-1] + "_") == "MALFORMED_FIELD"
    assert field_error(evaluation=lease.evaluation[:-32] + "0" * 32) == "EVALUATION_NOT_FOUND"
    assert field_error(digest="../../registry.db") == "MALFORMED_FIELD"
    assert field_error(digest="") == "MISSING_FIELD"
    assert running.files() == before
