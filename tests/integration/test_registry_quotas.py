"""Quotas on both databases: what counts, what does not, the errors, and no races over a limit."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from cxreval.audit.receipts import Signer
from cxreval.client import Quota as ClientQuota
from cxreval.errors import QuotaExceeded
from cxreval.records import Change, Failure, Fault, Quota, Role
from cxreval.resource_names import BenchmarkName, EvaluationName, OrganisationName, SubmissionName
from cxreval.wire.status import DETAILS_KEY, from_rpc_error, to_status
from services.chassis.principal import EVERYBODY, Principal
from services.registry.__main__ import migrate
from services.registry.convert import submissions
from services.registry.domain.access import Usage
from services.registry.domain.records import ChangeRequest, Submission
from services.registry.store.benchmarks import Benchmarks
from services.registry.store.database import Database
from services.registry.store.evaluations import Evaluations
from services.registry.store.garbage import GRACE
from services.registry.store.lifecycle import Lifecycle
from services.registry.store.organisations import Organisations
from services.registry.store.quotas import Quotas
from services.registry.store.submissions import Submissions
from tests.support.access import ClosedRegistry
from tests.support.registry import (
    DATABASES,
    fresh_database,
    manifest_message,
    small_spec,
    upload_messages,
)

SPEC = small_spec("small")
PARENT = BenchmarkName(SPEC.name)
ACME = OrganisationName("acme")
NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)


def manifest(artifact: bytes = b"model") -> object:
    return submissions.checked_manifest(manifest_message(artifact), SPEC, NOON.date())


class Store:
    def __init__(self, url: str, directory: Path) -> None:
        self.now = NOON
        self.database = Database(url)
        signer = Signer.from_file(directory / "signing-key.pem")
        migrate(self.database, signer)
        Benchmarks(self.database, self.clock).create(SPEC)
        self.submissions = Submissions(self.database, self.clock, signer)
        self.evaluations = Evaluations(
            self.database, self.clock, signer, lease_seconds=60, max_attempts=1
        )
        self.lifecycle = Lifecycle(self.database, self.clock, signer)
        self.organisations = Organisations(self.database, self.clock)
        self.organisations.create(ACME, "Acme", Quota(), "test")
        self.organisations.create(OrganisationName("rival"), "Rival", Quota(), "test")

    def clock(self) -> datetime:
        return self.now

    def limit(self, **limits: int) -> None:
        self.organisations.update(ACME, "Acme", Quota(**limits), "test")

    def create(
        self, request_id: str = "", owner: str = "acme", artifact: bytes = b"model"
    ) -> Submission:
        return self.submissions.create(PARENT, manifest(artifact), request_id, member(owner))

    def upload(self, submission: Submission, size: int = 5) -> None:
        self.submissions.queue(name_of(submission), EVERYBODY, size, lambda: None)

    def end(self, submission: Submission, fault: Fault) -> None:
        self.upload(submission)
        lease = self.evaluations.lease("worker", [PARENT], EVERYBODY)
        assert lease is not None
        name = EvaluationName(SPEC.name, submission.id, lease.evaluation.id)
        self.evaluations.fail(name, lease.token, Failure("X", "because", fault), EVERYBODY)

    def change(self, submission: Submission, change: Change) -> None:
        self.lifecycle.change(name_of(submission), ChangeRequest(change, "because"), EVERYBODY)

    def usage(self) -> Usage:
        return Quotas(self.database, self.clock).get(ACME, EVERYBODY)[1]


def member(organisation: str) -> Principal:
    """A caller of an organisation; empty: of none."""
    return Principal("test", frozenset(Role), organisation)


def name_of(submission: Submission) -> SubmissionName:
    return SubmissionName(SPEC.name, submission.id)


@pytest.fixture(params=DATABASES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    found = Store(fresh_database(request.param, tmp_path), tmp_path)
    yield found
    found.database.close()


def test_the_daily_quota_counts_submissions_but_not_the_platforms_faults(store: Store) -> None:
    store.limit(submissions_per_day=3)
    store.end(store.create(), Fault.SUBMISSION)
    assert store.usage().submissions_today == 1
    store.end(store.create(), Fault.SYSTEM)
    assert store.usage().submissions_today == 1
    store.change(store.create(), Change.CANCELLED)
    assert store.usage().submissions_today == 1
    running = store.create()
    store.upload(running)
    assert store.evaluations.lease("worker", [PARENT], EVERYBODY)
    store.change(running, Change.CANCELLED)
    assert store.usage().submissions_today == 2
    store.create()
    with pytest.raises(
        QuotaExceeded,
        match=r"3 of 3 submissions and retries of today; submit again after 2026-03-15T00",
    ):
        store.create()
    assert store.usage().submissions_today == 3
    store.create(owner="rival")
    store.create(owner="")
    store.now = NOON + timedelta(hours=12)
    assert store.create().owner == "acme"
    assert store.usage().submissions_today == 1


def test_a_retry_counts_for_its_day_unless_the_platform_failed_what_it_repeats(
    store: Store,
) -> None:
    store.limit(submissions_per_day=2)
    made = [store.create() for _ in range(2)]
    for submission in made:
        store.change(submission, Change.CANCELLED)
    made.append(store.create())
    store.change(made[2], Change.CANCELLED)
    assert store.usage().submissions_today == 0
    for submission in made[:2]:
        store.change(submission, Change.RETRIED)
    assert store.usage().submissions_today == 2  # a submission and its retry count once
    with pytest.raises(QuotaExceeded, match="2 of 2 submissions and retries of today"):
        store.change(made[2], Change.RETRIED)
    store.end(made[0], Fault.SUBMISSION)
    with pytest.raises(QuotaExceeded):
        store.change(made[0], Change.RETRIED)

    store.now += timedelta(days=1)
    assert store.usage().submissions_today == 0
    store.change(made[2], Change.RETRIED)
    assert store.usage().submissions_today == 1
    store.end(made[2], Fault.SYSTEM)
    assert store.usage().submissions_today == 0
    store.change(made[0], Change.RETRIED)  # a retry after the submitter's fault
    assert store.usage().submissions_today == 1
    store.create()
    store.change(made[2], Change.RETRIED)  # its submission was already charged
    assert store.usage().submissions_today == 3
    with pytest.raises(QuotaExceeded):
        store.create()
    store.now += timedelta(days=1)
    assert store.usage().submissions_today == 0


def test_an_expired_submission_is_charged_by_its_fault(store: Store) -> None:
    never_uploaded, never_taken = store.create(), store.create()
    store.upload(never_taken)
    store.now = NOON + timedelta(days=8)
    for submission in (never_uploaded, never_taken):
        store.lifecycle.expire()
        assert store.submissions.get(name_of(submission), EVERYBODY).state == "failed"
    store.limit(submissions_per_day=0)
    store.change(never_taken, Change.RETRIED)
    with pytest.raises(QuotaExceeded):
        store.change(never_uploaded, Change.RETRIED)


def test_a_repeated_request_is_charged_once_and_answered_when_all_is_used_up(store: Store) -> None:
    store.limit(submissions_per_day=1)
    first = store.create("a" * 32)
    assert store.create("a" * 32) == first
    assert store.usage().submissions_today == 1


def test_unfinished_submissions_and_retries_count_as_concurrent(store: Store) -> None:
    store.limit(concurrent=1)
    first = store.create()
    with pytest.raises(QuotaExceeded, match="1 of 1 submissions have not ended"):
        store.create()
    store.end(first, Fault.SUBMISSION)
    second = store.create()
    with pytest.raises(QuotaExceeded):
        store.change(first, Change.RETRIED)
    store.change(second, Change.CANCELLED)
    store.change(first, Change.RETRIED)
    assert store.usage().concurrent == 1


def test_bytes_are_counted_once_and_a_larger_artifact_is_refused_before_it_comes(
    store: Store,
) -> None:
    store.limit(stored_bytes=10)
    store.upload(store.create(), 6)
    same, other = store.create(), store.create(artifact=b"other")
    store.submissions.begin_upload(name_of(same), EVERYBODY, 6)
    store.upload(same, 6)
    for refused in (
        lambda: store.submissions.begin_upload(name_of(other), EVERYBODY, 5),
        lambda: store.upload(other, 5),
    ):
        with pytest.raises(
            QuotaExceeded, match="6 of 10 bytes are taken, and this artifact has 5"
        ) as caught:
            refused()
        assert caught.value.metadata["reset_time"] == "never by itself"
    assert store.usage().stored_bytes == 6
    assert store.submissions.get(name_of(other), EVERYBODY).state == "awaiting_artifact"
    store.upload(other, 4)
    assert store.usage().stored_bytes == 10


def test_uploads_under_way_take_the_room_that_they_declared_until_their_bytes_are_gone(
    store: Store,
) -> None:
    store.limit(stored_bytes=1000)
    first, second = store.create(artifact=b"first"), store.create(artifact=b"second")
    store.submissions.begin_upload(name_of(first), EVERYBODY, 900)
    store.submissions.begin_upload(name_of(first), EVERYBODY, 900)  # goes on
    store.submissions.begin_upload(name_of(first), EVERYBODY, 1)  # what came of 900 may be there
    assert store.usage().stored_bytes == 900
    text = (
        "900 of 1000 bytes are taken, 900 of them by uploads in progress, and this artifact has 101"
    )
    with pytest.raises(QuotaExceeded, match=text) as caught:
        store.submissions.begin_upload(name_of(second), EVERYBODY, 101)
    assert caught.value.metadata["reset_time"] == "when an upload ends"
    store.submissions.begin_upload(name_of(second), EVERYBODY, 100)
    with pytest.raises(QuotaExceeded):
        store.submissions.begin_upload(name_of(second), EVERYBODY, 101)
    store.submissions.begin_upload(
        name_of(store.create(artifact=b"first", owner="rival")), EVERYBODY, 5000
    )  # has no limit
    store.submissions.forget_upload(name_of(second), EVERYBODY)  # all of it was refused
    assert store.usage().stored_bytes == 900

    store.change(first, Change.CANCELLED)  # its bytes are not collected yet
    with pytest.raises(QuotaExceeded):
        store.submissions.begin_upload(name_of(second), EVERYBODY, 101)
    store.now += GRACE + timedelta(hours=2)
    store.submissions.begin_upload(name_of(second), EVERYBODY, 1000)
    store.upload(second, 700)
    assert store.usage().stored_bytes == 700


def test_stored_bytes_can_be_uploaded_again_but_only_so_often(store: Store) -> None:
    store.limit(stored_bytes=1000)
    store.upload(store.create(), 900)
    again, once_more = store.create(), store.create()
    store.submissions.begin_upload(name_of(again), EVERYBODY, 900)
    with pytest.raises(QuotaExceeded):
        store.submissions.begin_upload(name_of(once_more), EVERYBODY, 900)
    store.upload(again, 900)
    store.submissions.begin_upload(name_of(once_more), EVERYBODY, 900)
    store.upload(once_more, 900)
    assert store.usage().stored_bytes == 900


def test_many_uploads_at_once_do_not_slip_over_the_bytes(store: Store) -> None:
    store.limit(stored_bytes=1000)
    names = [name_of(store.create(artifact=b"%d" % number)) for number in range(12)]

    def begin(name: SubmissionName) -> bool:
        try:
            store.submissions.begin_upload(name, EVERYBODY, 300)
        except QuotaExceeded:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(begin, names)) == 3


def test_uploads_that_break_off_leave_no_more_than_the_quota_on_the_disk(tmp_path: Path) -> None:
    with ClosedRegistry(tmp_path) as running:
        running.operator.create_benchmark(SPEC)
        running.operator.update_organisation("acme", "Acme", ClientQuota(stored_bytes=1_000_000))
        call, reasons = running.stubs("acme/submitter"), []
        for number in range(4):
            artifact = bytes([number]) * 1_000_000
            name = call.create_submission(SPEC.name, artifact).name
            with pytest.raises(grpc.RpcError) as caught:
                call.artifacts.UploadArtifact(
                    upload_messages(name, artifact[:900_000], size_bytes=1_000_000)
                )
            reasons.append(from_rpc_error(caught.value).reason)
        assert reasons == ["ARTIFACT_INCOMPLETE", *["QUOTA_EXCEEDED"] * 3]
        files = [file for file in (tmp_path / "artifacts").rglob("*") if file.is_file()]
        assert sum(file.stat().st_size for file in files) == 900_000
        assert running.client("acme/submitter").quota().stored_bytes == 1_000_000
        other = call.create_submission(SPEC.name, b"right").name
        running.operator.update_organisation("acme", "Acme", ClientQuota(stored_bytes=1_000_005))
        with pytest.raises(grpc.RpcError):
            call.artifacts.UploadArtifact(upload_messages(other, b"wrong"))
        # A refused upload no longer counts.
        assert running.client("acme/submitter").quota().stored_bytes == 1_000_000
        call.artifacts.UploadArtifact(upload_messages(other, b"right"))
        assert running.client("acme/submitter").quota().stored_bytes == 1_000_005


@pytest.mark.parametrize("limits", [{"submissions_per_day": 5}, {"concurrent": 5}])
def test_many_at_once_do_not_slip_over_a_limit(store: Store, limits: dict[str, int]) -> None:
    store.limit(**limits)

    def attempt(_: int) -> bool:
        try:
            store.create()
        except QuotaExceeded:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(24))) == 5
    assert store.usage().submissions_today == store.usage().concurrent == 5


def test_a_refusal_says_limit_use_reset_and_when_to_come_back() -> None:
    error = QuotaExceeded("used up", quota="concurrent", limit=1, used=1, retry_seconds="60")
    retry = error_details_pb2.RetryInfo()
    status = status_pb2.Status.FromString(to_status(error)[2])
    assert status.details[1].Unpack(retry)
    assert retry.retry_delay.seconds == 60


def test_quota_over_grpc_leaves_no_row_and_no_file(tmp_path: Path) -> None:
    with ClosedRegistry(tmp_path) as running:
        running.operator.create_benchmark(SPEC)
        running.operator.update_organisation(
            "acme", "Acme", ClientQuota(submissions_per_day=1, stored_bytes=10)
        )
        call, client = running.stubs("acme/submitter"), running.client("acme/submitter")
        name = call.create_submission(SPEC.name, b"more than ten bytes").name
        with pytest.raises(grpc.RpcError) as caught:
            call.artifacts.UploadArtifact(upload_messages(name, b"more than ten bytes"))
        assert from_rpc_error(caught.value).metadata["quota"] == "stored_bytes"
        assert not [file for file in (tmp_path / "artifacts").rglob("*") if file.is_file()]
        with pytest.raises(grpc.RpcError) as caught:
            call.create_submission(SPEC.name, b"x")
        error = from_rpc_error(caught.value)
        assert (caught.value.code(), error.reason) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "QUOTA_EXCEEDED",
        )
        tomorrow = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
        assert {**error.metadata, "retry_seconds": ""} == {
            "quota": "submissions_per_day", "limit": "1", "used": "1",
            "reset_time": f"{tomorrow}T00:00:00+00:00",
            "retry_seconds": "",
        }  # fmt: skip
        details = status_pb2.Status.FromString(dict(caught.value.trailing_metadata())[DETAILS_KEY])
        retry = error_details_pb2.RetryInfo()
        assert any(detail.Unpack(retry) for detail in details.details)
        assert 0 < retry.retry_delay.seconds <= 86_400
        usage = client.quota()
        assert (usage.organisation, usage.submissions_today, usage.stored_bytes) == ("acme", 1, 0)
        assert usage.reset_time.date().isoformat() == tomorrow
        assert [item.name for item in client.list_submissions(SPEC.name)] == [name]
