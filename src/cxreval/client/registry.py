"""Client of the registry: submissions, checkpoints, evaluations, the board."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cxreval.api.registry.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    artifact_service_pb2,
    artifact_service_pb2_grpc,
    audit_service_pb2,
    audit_service_pb2_grpc,
    benchmark_service_pb2,
    benchmark_service_pb2_grpc,
    evaluation_service_pb2,
    evaluation_service_pb2_grpc,
    leaderboard_service_pb2,
    leaderboard_service_pb2_grpc,
    lifecycle_service_pb2,
    lifecycle_service_pb2_grpc,
    submission_service_pb2,
    submission_service_pb2_grpc,
)
from cxreval.audit.chain import AuditEvent, Head
from cxreval.audit.receipts import Receipt
from cxreval.client import _messages
from cxreval.client._calls import RETRY_SECONDS, ServiceClient, call, items, pages, stream
from cxreval.client._upload import UploadProgress, upload
from cxreval.client.models import (
    AdminEvent,
    Board,
    EntryComparison,
    Evaluation,
    Event,
    Failure,
    KeyInfo,
    Lease,
    Organisation,
    Predictions,
    Quota,
    QuotaUsage,
    Role,
    SotaStep,
    Submission,
)
from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.errors import (
    CxrevalError,
    DeadlineExceeded,
    DigestMismatch,
    ServiceOverloaded,
    ServiceUnavailable,
)
from cxreval.files import file_sha256
from cxreval.manifest.model import Manifest
from cxreval.metrics.report import Evidence, Report
from cxreval.resource_names import ArtifactName, BenchmarkName, OrganisationName
from cxreval.retry import Backoff, RetryPolicy
from cxreval.wire import reports
from cxreval.wire.channel import ApiKey, TlsFiles


class RegistryClient(ServiceClient):
    """Speaks to one registry. Every method raises the `CxrevalError` that the registry names.

    Benchmarks are given by their identifier (`nih-chestxray14`), submissions and evaluations by
    resource name.
    """

    def __init__(self, target: str, tls: TlsFiles | None = None, key: ApiKey | None = None) -> None:
        """Raises `KeyNeedsTls` when the key would travel in plain text to another machine."""
        super().__init__(target, tls, key)
        # Stubs of mypy-protobuf choose between sync and aio by overload; the channel here is always
        # sync.
        self._benchmarks: Any = benchmark_service_pb2_grpc.BenchmarkServiceStub(self._channel)
        self._artifacts: Any = artifact_service_pb2_grpc.ArtifactServiceStub(self._channel)
        self._submissions: Any = submission_service_pb2_grpc.SubmissionServiceStub(self._channel)
        self._evaluations: Any = evaluation_service_pb2_grpc.EvaluationServiceStub(self._channel)
        self._leaderboard: Any = leaderboard_service_pb2_grpc.LeaderboardServiceStub(self._channel)
        self._lifecycle: Any = lifecycle_service_pb2_grpc.LifecycleServiceStub(self._channel)
        self._admin: Any = admin_service_pb2_grpc.AdminServiceStub(self._channel)
        self._audit: Any = audit_service_pb2_grpc.AuditServiceStub(self._channel)

    # --- benchmarks -------------------------------------------------------------------------------

    def create_benchmark(self, spec: BenchmarkSpec) -> BenchmarkSpec:
        """Creates a benchmark; the same specification again is harmless."""
        request = benchmark_service_pb2.CreateBenchmarkRequest(
            benchmark=_messages.benchmark_message(spec)
        )
        return _messages.benchmark(call(self._benchmarks.CreateBenchmark, request))

    def get_benchmark(self, benchmark: str) -> BenchmarkSpec:
        """One benchmark."""
        request = benchmark_service_pb2.GetBenchmarkRequest(name=str(BenchmarkName(benchmark)))
        return _messages.benchmark(call(self._benchmarks.GetBenchmark, request))

    def list_benchmarks(self) -> Iterator[BenchmarkSpec]:
        """All benchmarks, oldest first."""
        request = benchmark_service_pb2.ListBenchmarksRequest()
        return map(
            _messages.benchmark, items(self._benchmarks.ListBenchmarks, request, "benchmarks")
        )

    # --- submissions ------------------------------------------------------------------------------

    def submit(
        self,
        benchmark: str,
        manifest: Manifest,
        file: Path | None = None,
        progress: UploadProgress | None = None,
        endpoint_token: str = "",
    ) -> Submission:
        """Creates a submission and uploads its checkpoint or table, as `upload_artifact` does, if
        its kind has one.

        `endpoint_token`: what an endpoint is sent as `authorization: Bearer`.
        """
        if file:
            manifest = dataclasses.replace(manifest, artifact_sha256=file_sha256(file))
        submission = self.create_submission(benchmark, manifest, endpoint_token=endpoint_token)
        return self.upload_artifact(submission.name, file, progress) if file else submission

    def create_submission(
        self, benchmark: str, manifest: Manifest, request_id: str = "", endpoint_token: str = ""
    ) -> Submission:
        """Creates a submission, which awaits its file if it has one. One `request_id` creates one
        submission."""
        request = submission_service_pb2.CreateSubmissionRequest(
            parent=str(BenchmarkName(benchmark)),
            manifest=_messages.manifest_message(manifest),
            request_id=request_id or str(uuid.uuid4()),
            endpoint_token=endpoint_token,
        )
        return _messages.submission(call(self._submissions.CreateSubmission, request))

    def upload_artifact(
        self,
        submission: str,
        file: Path,
        progress: UploadProgress | None = None,
        retry_seconds: float = RETRY_SECONDS,
    ) -> Submission:
        """Uploads the artifact that the manifest names by its digest; the submission is queued.

        Goes on where an earlier upload stopped, and by itself after a broken connection, until
        `retry_seconds` pass without progress. Raises `DigestMismatch` before anything is sent
        when the file is another one.
        """
        progress = progress or UploadProgress()
        backoff = Backoff(RetryPolicy(deadline_seconds=retry_seconds), progress.on_failure)
        declared = backoff.call(lambda: self.get_submission(submission)).manifest
        expected, found = declared.artifact_sha256, file_sha256(file)
        if found != expected:
            message = f"{file} has sha256 {found}; the manifest of {submission} declares {expected}"
            raise DigestMismatch(message, field="file", found=found, expected=expected)
        artifact = {"submission": submission}
        answer = upload(self._artifacts, artifact, file, progress, retry_seconds)
        if answer:
            return _messages.submission(answer.submission)
        backoff.progressed()
        return backoff.call(lambda: self.get_submission(submission))

    def upload_derived_artifact(
        self, lease: Lease, file: Path, progress: UploadProgress | None = None
    ) -> str:
        """Uploads what a worker made for the evaluation that it has leased, as `upload_artifact`
        does; its sha256."""
        sha256 = file_sha256(file)
        derived = artifact_service_pb2.DerivedArtifact(
            evaluation=lease.evaluation, token=lease.token, sha256=sha256
        )
        upload(self._artifacts, {"derived": derived}, file, progress or UploadProgress())
        return sha256

    def get_submission(self, name: str) -> Submission:
        """One submission."""
        request = submission_service_pb2.GetSubmissionRequest(name=name)
        return _messages.submission(call(self._submissions.GetSubmission, request))

    def list_submissions(self, benchmark: str) -> Iterator[Submission]:
        """All submissions of a benchmark, oldest first."""
        request = submission_service_pb2.ListSubmissionsRequest(
            parent=str(BenchmarkName(benchmark))
        )
        return map(
            _messages.submission, items(self._submissions.ListSubmissions, request, "submissions")
        )

    def download_artifact(self, sha256: str) -> Iterator[bytes]:
        """The bytes of an artifact, piece by piece."""
        request = artifact_service_pb2.DownloadArtifactRequest(name=str(ArtifactName(sha256)))
        return (answer.chunk for answer in stream(self._artifacts.DownloadArtifact, request))

    # --- the life of a submission -----------------------------------------------------------------

    def cancel(self, submission: str, reason: str, etag: str = "") -> Submission:
        """Calls off a submission that is not on the board yet. With an `etag`, only if nothing
        happened since."""
        return self._change("CancelSubmission", submission, reason, etag)

    def retry(self, submission: str, reason: str, etag: str = "") -> Submission:
        """Runs a submission again that failed or was cancelled."""
        return self._change("RetrySubmission", submission, reason, etag)

    def withdraw(self, submission: str, reason: str, etag: str = "") -> Submission:
        """Takes a row off the board."""
        return self._change("WithdrawSubmission", submission, reason, etag)

    def reinstate(self, submission: str, reason: str, etag: str = "") -> Submission:
        """Puts a withdrawn or superseded row back on the board."""
        return self._change("ReinstateSubmission", submission, reason, etag)

    def dispute(self, submission: str, reason: str, etag: str = "") -> Submission:
        """Marks a row as doubted."""
        return self._change("DisputeSubmission", submission, reason, etag)

    def resolve(self, submission: str, reason: str, etag: str = "") -> Submission:
        """Settles a dispute."""
        return self._change("ResolveDispute", submission, reason, etag)

    def supersede(self, submission: str, successor: str, reason: str, etag: str = "") -> Submission:
        """Puts another submission in the place of a row."""
        return self._change("SupersedeSubmission", submission, reason, etag, successor=successor)

    def correct(
        self, submission: str, reason: str, etag: str = "", **values: str | bool
    ) -> Submission:
        """Corrects what a row shows: `model`, `organisation`, `open_source`, `source_url`."""
        correction = lifecycle_service_pb2.Correction(**values)  # type: ignore[arg-type]
        return self._change("CorrectSubmission", submission, reason, etag, correction=correction)

    def watch(
        self,
        submission: str,
        on_failure: Callable[[CxrevalError], None] = lambda _: None,
        retry_seconds: float = RETRY_SECONDS,
    ) -> Iterator[Submission]:
        """The submission as it is, and again whenever it changes or gets on, until it has ended.

        Resumes if the registry is back within `retry_seconds`; `on_failure` is called with each
        error that is retried.
        """
        request = lifecycle_service_pb2.WatchSubmissionRequest(name=submission)
        backoff = Backoff(RetryPolicy(deadline_seconds=retry_seconds), on_failure)
        while True:
            try:
                for message in stream(self._lifecycle.WatchSubmission, request):
                    backoff.progressed()
                    yield _messages.submission(message)
            except DeadlineExceeded:
                continue  # No call lasts forever; some evaluations take longer.
            except (ServiceUnavailable, ServiceOverloaded) as error:
                backoff.wait(error)
            else:
                return

    def submission_events(self, submission: str) -> Iterator[Event]:
        """What happened to a submission, oldest first."""
        request = lifecycle_service_pb2.ListSubmissionEventsRequest(parent=submission)
        return map(_messages.event, items(self._lifecycle.ListSubmissionEvents, request, "events"))

    def _change(
        self, method: str, submission: str, reason: str, etag: str, **more: Any
    ) -> Submission:
        request = getattr(lifecycle_service_pb2, f"{method}Request")(
            name=submission, reason=reason, etag=etag, request_id=str(uuid.uuid4()), **more
        )
        return _messages.submission(call(getattr(self._lifecycle, method), request))

    # --- audit ------------------------------------------------------------------------------------

    def audit_head(self) -> Head:
        """The head of the audit chain; events join it within a second."""
        head = call(self._audit.GetAuditHead, audit_service_pb2.GetAuditHeadRequest())
        return Head(head.place, head.digest)

    def audit_chain(self, after_place: int = 0) -> Iterator[AuditEvent]:
        """All events with their digests, oldest first; `cxreval.audit.chain.verify` follows
        them."""
        request = audit_service_pb2.ReadAuditChainRequest(after_place=after_place)
        for answer in stream(self._audit.ReadAuditChain, request):
            yield from map(_messages.audit_event, answer.links)

    def receipt(self, submission: str, version: int = 0) -> Receipt:
        """What was signed about a row, by default the latest; `cxreval.audit.receipts.verify`
        checks it."""
        answer = call(
            self._audit.GetReceipt,
            audit_service_pb2.GetReceiptRequest(name=submission, version=version),
        )
        return Receipt(answer.payload, answer.signature)

    def public_key(self) -> str:
        """The key, in PEM, that this registry signs with. Who does not trust it asks the operator
        for theirs."""
        return str(call(self._audit.GetPublicKey, audit_service_pb2.GetPublicKeyRequest()).pem)

    # --- organisations, keys, quotas --------------------------------------------------------------

    def quota(self, organisation: str = "") -> QuotaUsage:
        """What an organisation may use up and has; by default the caller's own."""
        name = str(OrganisationName(organisation)) if organisation else ""
        return _messages.quota_usage(
            call(self._admin.GetQuota, admin_service_pb2.GetQuotaRequest(name=name))
        )

    def create_organisation(
        self, organisation: str, display_name: str, quota: Quota
    ) -> Organisation:
        """Creates an organisation."""
        request = admin_service_pb2.CreateOrganisationRequest(
            organisation=_messages.organisation_message(organisation, display_name, quota)
        )
        return _messages.organisation(call(self._admin.CreateOrganisation, request))

    def update_organisation(
        self, organisation: str, display_name: str, quota: Quota
    ) -> Organisation:
        """Replaces display name and quota."""
        request = admin_service_pb2.UpdateOrganisationRequest(
            organisation=_messages.organisation_message(organisation, display_name, quota)
        )
        return _messages.organisation(call(self._admin.UpdateOrganisation, request))

    def list_organisations(self) -> Iterator[Organisation]:
        """All organisations, oldest first."""
        request = admin_service_pb2.ListOrganisationsRequest()
        return map(
            _messages.organisation, items(self._admin.ListOrganisations, request, "organisations")
        )

    def create_key(
        self, organisation: str, role: Role, lifetime: timedelta | None = None, request_id: str = ""
    ) -> tuple[KeyInfo, str]:
        """Creates an API key. Its text, the second value, is never shown again.

        One `request_id` creates one key: the second call raises `ApiKeyExists`, which names it.
        """
        request = admin_service_pb2.CreateApiKeyRequest(
            parent=str(OrganisationName(organisation)),
            role=f"ROLE_{role.name}",
            request_id=request_id or str(uuid.uuid4()),
        )
        if lifetime is not None:
            request.lifetime.FromTimedelta(lifetime)
        answer = call(self._admin.CreateApiKey, request)
        return _messages.key_info(answer.key), str(answer.text)

    def list_keys(self, organisation: str) -> Iterator[KeyInfo]:
        """All keys of an organisation, oldest first."""
        request = admin_service_pb2.ListApiKeysRequest(parent=str(OrganisationName(organisation)))
        return map(_messages.key_info, items(self._admin.ListApiKeys, request, "keys"))

    def revoke_key(self, name: str) -> KeyInfo:
        """Takes a key back for good; within five seconds it opens nothing any more."""
        return _messages.key_info(
            call(self._admin.RevokeApiKey, admin_service_pb2.RevokeApiKeyRequest(name=name))
        )

    def admin_events(self) -> list[AdminEvent]:
        """What operators did last to organisations and keys, the newest first."""
        answer = call(self._admin.ListAdminEvents, admin_service_pb2.ListAdminEventsRequest())
        return [
            AdminEvent(_messages.time(event.time), event.actor, event.action, event.target)
            for event in answer.events
        ]

    # --- evaluations, for workers -----------------------------------------------------------------

    def lease_evaluation(
        self, worker: str, benchmarks: list[str], *, converts: bool = False
    ) -> Lease | None:
        """The oldest evaluation that waits or was abandoned; None when there is none.

        `converts`: whether the worker can convert PyTorch state dicts; one that cannot is not given
        any.
        """
        names = [str(BenchmarkName(benchmark)) for benchmark in benchmarks]
        request = evaluation_service_pb2.LeaseEvaluationRequest(
            worker=worker, benchmarks=names, converts=converts
        )
        answer = call(self._evaluations.LeaseEvaluation, request)
        return _messages.lease(answer.lease) if answer.HasField("lease") else None

    def renew_lease(self, lease: Lease) -> datetime:
        """Keeps a lease; returns when it runs out unless renewed again."""
        request = evaluation_service_pb2.RenewLeaseRequest(
            evaluation=lease.evaluation, token=lease.token
        )
        return _messages.time(call(self._evaluations.RenewLease, request).expire_time)

    def append_predictions(self, lease: Lease, predictions: Predictions) -> int:
        """Records predictions durably; returns how many images are recorded."""
        request = evaluation_service_pb2.AppendPredictionsRequest(
            evaluation=lease.evaluation,
            token=lease.token,
            batch=reports.batch_message(predictions.images, predictions.probabilities),
        )
        return int(call(self._evaluations.AppendPredictions, request).images_done)

    def read_predictions(self, lease: Lease) -> Iterator[Predictions]:
        """The predictions recorded so far."""
        request = evaluation_service_pb2.ReadPredictionsRequest(
            evaluation=lease.evaluation, token=lease.token
        )
        for answer in stream(self._evaluations.ReadPredictions, request):
            images = tuple(answer.batch.images)
            yield Predictions(images, reports.probabilities(answer.batch).reshape(len(images), -1))

    def complete_evaluation(
        self, lease: Lease, report: Report, provenance: Mapping[str, str]
    ) -> Evaluation:
        """Records the report with its evidence; the submission is published."""
        request = evaluation_service_pb2.CompleteEvaluationRequest(
            evaluation=lease.evaluation,
            token=lease.token,
            report=reports.report_message(report),
            provenance=provenance,
        )
        return _messages.evaluation(call(self._evaluations.CompleteEvaluation, request))

    def fail_evaluation(self, lease: Lease, failure: Failure) -> Evaluation:
        """Ends the evaluation with a failure."""
        request = evaluation_service_pb2.FailEvaluationRequest(
            evaluation=lease.evaluation,
            token=lease.token,
            failure=_messages.failure_message(failure),
        )
        return _messages.evaluation(call(self._evaluations.FailEvaluation, request))

    def get_evaluation(self, name: str) -> Evaluation:
        """One evaluation with its report; what stands behind the report comes from
        `get_evidence`."""
        request = evaluation_service_pb2.GetEvaluationRequest(name=name)
        return _messages.evaluation(call(self._evaluations.GetEvaluation, request))

    def get_evidence(self, evaluation: str) -> Evidence:
        """What stands behind the report of an evaluation: replicates and curves."""
        request = evaluation_service_pb2.GetEvidenceRequest(evaluation=evaluation)
        return reports.evidence(call(self._evaluations.GetEvidence, request).evidence)

    def list_evaluations(self, submission: str) -> Iterator[Evaluation]:
        """All evaluations of a submission, oldest first."""
        request = evaluation_service_pb2.ListEvaluationsRequest(parent=submission)
        return map(
            _messages.evaluation, items(self._evaluations.ListEvaluations, request, "evaluations")
        )

    # --- the board --------------------------------------------------------------------------------

    def leaderboard(self, benchmark: str, as_of: datetime | None = None) -> Board:
        """The board, now, or as it was at a moment."""
        request = leaderboard_service_pb2.ListLeaderboardEntriesRequest(
            parent=str(BenchmarkName(benchmark))
        )
        if as_of:
            request.as_of.FromDatetime(as_of)
        answers = list(pages(self._leaderboard.ListLeaderboardEntries, request))
        entries = [
            _messages.leaderboard_entry(entry) for answer in answers for entry in answer.entries
        ]
        # Later pages may know later events; all of them know those up to the first one's head.
        head = answers[0].audit_head
        return Board(tuple(entries), Head(head.place, head.digest))

    def sota_steps(self, benchmark: str, as_of: datetime | None = None) -> Iterator[SotaStep]:
        """The records that were broken, oldest first: evidence, then claims."""
        request = leaderboard_service_pb2.ListSotaStepsRequest(parent=str(BenchmarkName(benchmark)))
        if as_of:
            request.as_of.FromDatetime(as_of)
        return map(_messages.sota_step, items(self._leaderboard.ListSotaSteps, request, "steps"))

    def leaderboard_changes(self, benchmark: str) -> Iterator[Event]:
        """What changed a board, oldest first."""
        request = leaderboard_service_pb2.ListLeaderboardChangesRequest(
            parent=str(BenchmarkName(benchmark))
        )
        return map(
            _messages.event, items(self._leaderboard.ListLeaderboardChanges, request, "changes")
        )

    def compare(self, benchmark: str, submissions: Sequence[str]) -> EntryComparison:
        """Compares 2 to 50 rows that were run or scored, every two of them, in the order given."""
        request = leaderboard_service_pb2.CompareEntriesRequest(
            parent=str(BenchmarkName(benchmark)), submissions=submissions
        )
        return _messages.entry_comparison(call(self._leaderboard.CompareEntries, request))
