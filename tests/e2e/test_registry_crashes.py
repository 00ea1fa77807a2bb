"""kill -9 of the registry around every change of a submission loses and repeats nothing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from sqlalchemy import update

from cxreval.api.registry.v1 import evaluation_service_pb2 as evaluation_pb
from cxreval.api.registry.v1 import lifecycle_service_pb2 as pb
from cxreval.api.registry.v1 import (
    lifecycle_service_pb2_grpc,
    submission_pb2,
    submission_service_pb2,
)
from cxreval.audit.chain import verify
from cxreval.client import WorkerClient
from services.registry.domain.states import DEADLINES
from services.registry.store.database import Database
from services.registry.store.models import SubmissionRow
from tests.support.crashing import CrashingRegistry
from tests.support.registry import (
    DATABASES,
    Registry,
    manifest_message,
    report_message,
    small_spec,
)

SPEC = small_spec("small")
ARTIFACT = b"model"
POINTS = ("before", "after")
CLAIM = {
    "kind": submission_pb2.Submission.KIND_CLAIM,
    "source_kind": submission_pb2.SOURCE_KIND_RESEARCH_PAPER,
    "format": 0, "artifact_sha256": "", "preprocessing_profile": "", "output_names": (),
    "reproduction": None,
    "environment": None,
}  # fmt: skip
ENDPOINT = {
    "kind": submission_pb2.Submission.KIND_ENDPOINT,
    "source_kind": submission_pb2.SOURCE_KIND_ENDPOINT,
    "format": 0, "artifact_sha256": "",
    "endpoint": submission_pb2.Endpoint(
        address="models.example.org:443", tls=True, model_name="model", requests_per_second=20
    ),
}  # fmt: skip


class Walk:
    """Takes submissions through their states with calls that are repeated until they succeed."""

    def __init__(self, registry: CrashingRegistry, file: Path) -> None:
        self.registry = registry
        self.file = file
        file.write_bytes(ARTIFACT)
        self.stubs = Registry(registry.address)
        self.lifecycle = lifecycle_service_pb2_grpc.LifecycleServiceStub(self.stubs.channel)
        self.client = WorkerClient(registry.address)
        self.stubs.create_benchmark(SPEC)
        self.calls = 0

    def close(self) -> None:
        self.client.close()
        self.stubs.channel.close()

    def request_id(self) -> str:
        self.calls += 1
        return f"{self.calls:032x}"

    def through(self, point: str, change: str, call: Callable[[], object]) -> None:
        """Makes the call while the registry dies at that point, and repeats it as a client does."""
        self.registry.die(f"{point} {change}")
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                call()
                break
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    raise
        assert self.registry.ahead() == []

    def created(self, point: str = "", change: str = "created", **manifest: object) -> str:
        """Creates a submission of a checkpoint, or one with the changed fields of its manifest.

        `change` is the last change of the creation.
        """
        request = submission_service_pb2.CreateSubmissionRequest(
            parent=f"benchmarks/{SPEC.name}",
            manifest=manifest_message(ARTIFACT, **manifest),
            request_id=self.request_id(),
        )
        if point:
            self.through(point, change, lambda: self.stubs.submissions.CreateSubmission(request))
        return str(self.stubs.submissions.CreateSubmission(request).name)

    def changes(self, name: str) -> list[str]:
        return [str(event.change) for event in self.client.submission_events(name)]

    def check_chain(self, *names: str) -> None:
        """Checks that all events join the audit chain, and that it verifies."""
        events = sum(len(self.changes(name)) for name in names)
        deadline = time.monotonic() + 10
        while (
            head := verify(self.client.audit_chain())
        ).place < events and time.monotonic() < deadline:
            time.sleep(0.1)
        assert head.place >= events

    def change(self, point: str, method: str, change: str, name: str, **more: object) -> None:
        request = getattr(pb, f"{method}Request")(
            name=name, reason="because", request_id=self.request_id(), **more
        )
        self.through(point, change, lambda: getattr(self.lifecycle, method)(request))

    def upload(self, name: str) -> None:
        """Uploads with the client, which recovers from a missing response by itself."""
        self.client.upload_artifact(name, self.file)

    def lease(self) -> evaluation_pb.Lease:
        """Returns the next lease; one whose response was lost must expire first."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                answer = self.stubs.evaluations.LeaseEvaluation(
                    evaluation_pb.LeaseEvaluationRequest(
                        worker="walker", benchmarks=[f"benchmarks/{SPEC.name}"]
                    )
                )
            except grpc.RpcError:
                continue
            if answer.HasField("lease"):
                return answer.lease
            time.sleep(0.05)
        raise TimeoutError

    def expire(self, point: str, name: str) -> str:
        """Lets the deadline pass while the registry dies at that point; returns the reason."""
        self.registry.die(f"{point} expired")
        late = update(SubmissionRow).where(SubmissionRow.id == name.rpartition("/")[2])
        database = Database(self.registry.database_url)
        with database.writing() as session:
            session.execute(late.values(update_time=datetime.now(UTC) - max(DEADLINES.values())))
        database.close()
        assert self.registry.ahead() == []
        deadline = time.monotonic() + 20
        while (
            found := self.client.get_submission(name)
        ).failure is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert found.failure
        return found.failure.reason

    def complete(self, lease: evaluation_pb.Lease) -> object:
        return self.stubs.complete(lease, report_message(SPEC))

    def fail(self, lease: evaluation_pb.Lease, fault: str) -> object:
        failure = {"reason": "BROKEN", "message": "broken", "fault": fault}
        try:
            return self.stubs.evaluations.FailEvaluation(
                evaluation_pb.FailEvaluationRequest(
                    evaluation=lease.evaluation.name, token=lease.token, failure=failure
                )
            )
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.FAILED_PRECONDITION:
                raise
            # A retry of the channel: the first attempt was recorded, and ended the lease.
            return None


@contextlib.contextmanager
def walking(kind: str, directory: Path, lease_seconds: float) -> Iterator[Walk]:
    """A walk on a new registry. Leases are reclaimed after twice their length."""
    registry = CrashingRegistry(
        directory, kind, f"--lease-seconds={lease_seconds}", "--max-attempts=20"
    )
    registry.start()
    found = Walk(registry, directory / "model.onnx")
    try:
        yield found
    finally:
        found.close()
        registry.stop()


@pytest.mark.parametrize("kind", DATABASES)
def test_submissions_complete_after_a_crash_at_every_transition(kind: str, tmp_path: Path) -> None:
    # The registry restarts before the lease of the calling worker expires.
    with walking(kind, tmp_path, lease_seconds=3.0) as walk:
        _live(walk, tmp_path / "artifacts")


def _live(walk: Walk, artifacts: Path) -> None:
    names = []
    for point in POINTS:
        name = walk.created(point)
        names.append(name)
        walk.through(point, "queued", lambda name=name: walk.upload(name))
        leases: list[evaluation_pb.Lease] = []
        walk.through(point, "leased", lambda leases=leases: leases.append(walk.lease()))
        walk.through(point, "returned", lambda lease=leases[-1]: walk.fail(lease, "FAULT_SYSTEM"))
        # A lease whose response was lost adds an event: it expires or is taken over.
        heard = [
            change for change in walk.changes(name) if change not in ("leased", "lease_expired")
        ]
        assert heard == ["created", "queued", "returned"]
        lease = walk.lease()
        walk.through(point, "failed", lambda lease=lease: walk.fail(lease, "FAULT_SUBMISSION"))
        walk.change(point, "RetrySubmission", "retried", name)
        walk.change(point, "CancelSubmission", "cancelled", name)
        walk.change(point, "RetrySubmission", "retried", name)
        lease = walk.lease()
        walk.through(point, "published", lambda lease=lease: walk.complete(lease))
        walk.change(point, "DisputeSubmission", "disputed", name)
        walk.change(point, "ResolveDispute", "resolved", name)
        walk.change(
            point, "CorrectSubmission", "corrected", name, correction=pb.Correction(model="Right")
        )
        walk.change(point, "WithdrawSubmission", "withdrawn", name)
        walk.change(point, "ReinstateSubmission", "reinstated", name)
        heard = [
            change for change in walk.changes(name) if change not in ("leased", "lease_expired")
        ]
        assert heard == [
            "created", "queued", "returned", "failed", "retried", "cancelled", "retried",
            "published",
            "disputed", "resolved", "corrected", "withdrawn", "reinstated",
        ]  # fmt: skip
        walk.client.receipt(name)
    successor = walk.created()
    walk.upload(successor)
    walk.complete(walk.lease())
    for point, name in zip(POINTS, names, strict=True):
        walk.change(point, "SupersedeSubmission", "superseded", name, successor=successor)
        assert walk.changes(name)[-2:] == ["reinstated", "superseded"]
    assert [entry.submission for entry in walk.client.leaderboard(SPEC.name)] == [successor]
    assert len(list(walk.client.list_submissions(SPEC.name))) == 3
    assert [file.read_bytes() for file in artifacts.rglob("*") if file.is_file()] == [ARTIFACT]
    walk.check_chain(*names, successor)


@pytest.mark.parametrize("kind", DATABASES)
def test_a_submission_without_a_file_is_created_once_across_crashes(
    kind: str, tmp_path: Path
) -> None:
    with walking(kind, tmp_path, lease_seconds=60.0) as walk:
        claims = [walk.created(point, "published", **CLAIM) for point in POINTS]
        endpoints = [walk.created(point, "queued", **ENDPOINT) for point in POINTS]
        assert [
            submission.name for submission in walk.client.list_submissions(SPEC.name)
        ] == claims + endpoints
        assert [walk.changes(name) for name in claims] == [["created", "published"]] * 2
        assert [walk.changes(name) for name in endpoints] == [["created", "queued"]] * 2
        assert {entry.submission for entry in walk.client.leaderboard(SPEC.name)} == set(claims)
        for name in claims:
            walk.client.receipt(name)
        leases = [walk.client.lease_evaluation("walker", [SPEC.name]) for _ in range(3)]
        assert [lease and lease.submission.name for lease in leases] == [*endpoints, None]
        walk.check_chain(*claims, *endpoints)


@pytest.mark.parametrize("kind", DATABASES)
def test_each_deadline_ends_a_submission_once_whenever_the_registry_crashes(
    kind: str, tmp_path: Path
) -> None:
    with walking(kind, tmp_path, lease_seconds=60.0) as walk:
        for point in POINTS:
            _be_late(walk, point)


def _be_late(walk: Walk, point: str) -> None:
    name = walk.created()
    assert walk.expire(point, name) == "UPLOAD_EXPIRED"
    walk.client.retry(name, "because")
    walk.upload(name)
    assert walk.expire(point, name) == "NO_WORKER"
    walk.client.retry(name, "because")
    walk.lease()
    assert walk.expire(point, name) == "EVALUATION_EXPIRED"
    walk.client.retry(name, "because")
    walk.complete(walk.lease())
    assert walk.changes(name) == [
        "created", "expired", "retried", "queued", "expired", "retried", "leased", "expired",
        "retried", "leased",
        "published",
    ]  # fmt: skip
    runs = [evaluation.status for evaluation in walk.client.list_evaluations(name)]
    assert runs == ["failed", "failed", "succeeded"]
    walk.check_chain(name)


@pytest.mark.parametrize("kind", DATABASES)
def test_lease_of_a_worker_that_died_with_the_registry_is_taken_back_whenever_it_crashes(
    kind: str, tmp_path: Path
) -> None:
    with walking(kind, tmp_path, lease_seconds=1.0) as walk:
        for point in POINTS:
            _die_with_the_registry(walk, point)


def _die_with_the_registry(walk: Walk, point: str) -> None:
    name = walk.created()
    walk.upload(name)
    walk.registry.die(f"{point} lease_expired")
    lease = walk.lease()
    assert walk.registry.ahead(seconds=20) == []
    deadline = time.monotonic() + 20
    while "lease_expired" not in walk.changes(name) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert walk.changes(name).count("lease_expired") == 1
    walk.complete(walk.lease())
    assert walk.client.get_submission(name).status == "published"
    assert walk.client.get_evaluation(lease.evaluation.name).attempt == 2
