"""The client of the registry: benchmarks, submissions, evaluations, boards, audit, access."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
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
from cxreval.api.scoring.v1 import report_pb2
from cxreval.audit.chain import AuditEvent, Head
from cxreval.audit.receipts import Receipt
from cxreval.client import _messages
from cxreval.client._calls import RETRY_SECONDS, ServiceClient, call, items, pages, stream
from cxreval.client._upload import UploadProgress, upload
from cxreval.client.models import (
    Board,
    EntryComparison,
    Evaluation,
    Event,
    KeyInfo,
    Lease,
    Organisation,
    Predictions,
    QuotaUsage,
    Rescore,
    SotaStep,
    Submission,
)
from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.errors import CxrevalError, DigestMismatch
from cxreval.files import file_sha256
from cxreval.manifest.model import Manifest
from cxreval.metrics.report import Evidence, Report
from cxreval.records import AdminEvent, Failure, Quota, Role
from cxreval.resource_names import ArtifactName, BenchmarkName, OrganisationName
from cxreval.retry import TRANSIENT, Backoff, RetryPolicy
from cxreval.wire import benchmarks, reports
from cxreval.wire.channel import ApiKey, TlsFiles


class RegistryClient(ServiceClient):
    """A client of one registry; every method raises the `CxrevalError` that the registry reports.

    Benchmarks are named by identifier (`nih-chestxray14`), submissions and evaluations by
    resource name.
    """

    def __init__(self, target: str, tls: TlsFiles | None = None, key: ApiKey | None = None) -> None:
        """Opens a channel to `host:port`, which connects at the first call.

        Raises:
            KeyNeedsTls: the key would be sent in plain text to another machine.
        """
        super().__init__(target, tls, key)
        # Any, because mypy-protobuf types each stub for both sync and aio channels; this channel is
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
        """Creates a benchmark and returns it; idempotent for the same specification."""
        request = benchmark_service_pb2.CreateBenchmarkRequest(
            benchmark=benchmarks.spec_message(spec)
        )
        return _messages.benchmark(call(self._benchmarks.CreateBenchmark, request))

    def get_benchmark(self, benchmark: str) -> BenchmarkSpec:
        """Returns a benchmark."""
        request = benchmark_service_pb2.GetBenchmarkRequest(name=str(BenchmarkName(benchmark)))
        return _messages.benchmark(call(self._benchmarks.GetBenchmark, request))

    def record_image_list(self, benchmark: str, images: Sequence[str]) -> None:
        """Records the names of a benchmark's images, which its digest covers; idempotent.

        The registry refuses predictions of any other image, and predictions of a benchmark without
        a recorded list.
        """
        request = benchmark_service_pb2.RecordImageListRequest(
            name=str(BenchmarkName(benchmark)), images=images
        )
        call(self._benchmarks.RecordImageList, request)

    def list_benchmarks(self) -> Iterator[BenchmarkSpec]:
        """Yields all benchmarks, oldest first."""
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
        """Creates a submission, uploads its file, if any, and returns the submission.

        The upload is that of `upload_artifact`. `endpoint_token`: token that is sent to an endpoint
        as `authorization: Bearer`.
        """
        if file:
            manifest = dataclasses.replace(manifest, artifact_sha256=file_sha256(file))
        submission = self.create_submission(benchmark, manifest, endpoint_token=endpoint_token)
        return self.upload_artifact(submission.name, file, progress) if file else submission

    def create_submission(
        self, benchmark: str, manifest: Manifest, request_id: str = "", endpoint_token: str = ""
    ) -> Submission:
        """Creates a submission and returns it; if its kind has a file, it then awaits the upload.

        Calls with the same `request_id` create one submission.
        """
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
        """Uploads the artifact of a submission and returns the submission, which is then queued.

        An interrupted upload is resumed, also that of an earlier call. Errors are retried until
        `retry_seconds` pass without progress.

        Raises:
            DigestMismatch: the digest of the file is not the one in the manifest; no byte is sent.
        """
        progress = progress or UploadProgress()
        backoff = Backoff(RetryPolicy(deadline_seconds=retry_seconds), progress.on_failure)
        declared = backoff.call(lambda: self.get_submission(submission)).manifest
        expected, digest = declared.artifact_sha256, file_sha256(file)
        if digest != expected:
            message = f"{file} has sha256 {digest}; the manifest of {submission} has {expected}"
            raise DigestMismatch(message, field="file", found=digest, expected=expected)
        artifact = {"submission": submission}
        answer = upload(self._artifacts, artifact, file, progress, retry_seconds)
        if answer:
            return _messages.submission(answer.submission)
        backoff.progressed()
        return backoff.call(lambda: self.get_submission(submission))

    def upload_derived_artifact(
        self, lease: Lease, file: Path, progress: UploadProgress | None = None
    ) -> str:
        """Uploads a file that the worker made for its evaluation, and returns the file's sha256.

        The upload is that of `upload_artifact`.
        """
        sha256 = file_sha256(file)
        derived = artifact_service_pb2.DerivedArtifact(
            evaluation=lease.evaluation, token=lease.token, sha256=sha256
        )
        upload(self._artifacts, {"derived": derived}, file, progress or UploadProgress())
        return sha256

    def get_submission(self, name: str) -> Submission:
        """Returns a submission."""
        request = submission_service_pb2.GetSubmissionRequest(name=name)
        return _messages.submission(call(self._submissions.GetSubmission, request))

    def list_submissions(self, benchmark: str) -> Iterator[Submission]:
        """Yields all submissions of a benchmark, oldest first."""
        request = submission_service_pb2.ListSubmissionsRequest(
            parent=str(BenchmarkName(benchmark))
        )
        return map(
            _messages.submission, items(self._submissions.ListSubmissions, request, "submissions")
        )

    def download_artifact(self, sha256: str) -> Iterator[bytes]:
        """Yields the bytes of an artifact, in chunks."""
        request = artifact_service_pb2.DownloadArtifactRequest(name=str(ArtifactName(sha256)))
        return (answer.chunk for answer in stream(self._artifacts.DownloadArtifact, request))

    # --- changes of a submission ------------------------------------------------------------------

    def cancel(self, submission: str, reason: str, etag: str = "") -> Submission:
        """Cancels a submission that has no row on the board yet, and returns it.

        With an `etag`, this and the other changes fail with `StaleEtag` if the submission has
        changed since.
        """
        return self._change("CancelSubmission", submission, reason, etag)

    def retry(self, submission: str, reason: str, etag: str = "") -> Submission:
        """Queues a failed or cancelled submission again."""
        return self._change("RetrySubmission", submission, reason, etag)

    def withdraw(self, submission: str, reason: str, etag: str = "") -> Submission:
        """Removes the row of a submission from the board."""
        return self._change("WithdrawSubmission", submission, reason, etag)

    def reinstate(self, submission: str, reason: str, etag: str = "") -> Submission:
        """Restores a withdrawn or superseded row."""
        return self._change("ReinstateSubmission", submission, reason, etag)

    def dispute(self, submission: str, reason: str, etag: str = "") -> Submission:
        """Marks a row as disputed."""
        return self._change("DisputeSubmission", submission, reason, etag)

    def resolve(self, submission: str, reason: str, etag: str = "") -> Submission:
        """Ends the dispute of a row."""
        return self._change("ResolveDispute", submission, reason, etag)

    def supersede(self, submission: str, successor: str, reason: str, etag: str = "") -> Submission:
        """Replaces the row of a submission by that of its `successor`."""
        return self._change("SupersedeSubmission", submission, reason, etag, successor=successor)

    def correct(
        self, submission: str, reason: str, etag: str = "", **values: str | bool
    ) -> Submission:
        """Corrects fields of a row: `model`, `organisation`, `open_source` or `source_url`."""
        correction = lifecycle_service_pb2.Correction(**values)  # type: ignore[arg-type]
        return self._change("CorrectSubmission", submission, reason, etag, correction=correction)

    def watch(
        self,
        submission: str,
        on_failure: Callable[[CxrevalError], None] = lambda _: None,
        retry_seconds: float = RETRY_SECONDS,
    ) -> Iterator[Submission]:
        """Yields a submission now, and after each change or progress until it has ended.

        Errors are retried until `retry_seconds` pass without a response; `on_failure` is called
        with each error that is retried.
        """
        request = lifecycle_service_pb2.WatchSubmissionRequest(name=submission)
        backoff = Backoff(RetryPolicy(deadline_seconds=retry_seconds), on_failure)
        while True:
            try:
                for message in stream(self._lifecycle.WatchSubmission, request):
                    backoff.progressed()
                    yield _messages.submission(message)
            except TRANSIENT as error:  # the call has a deadline; an evaluation may take longer
                backoff.wait(error)
            else:
                return

    def submission_events(self, submission: str) -> Iterator[Event]:
        """Yields the events of a submission, oldest first."""
        request = lifecycle_service_pb2.ListSubmissionEventsRequest(parent=submission)
        return map(_messages.event, items(self._lifecycle.ListSubmissionEvents, request, "events"))

    def _change(
        self, method: str, submission: str, reason: str, etag: str, **more: Any
    ) -> Submission:
        """Calls a method of the lifecycle service and returns the submission."""
        request = getattr(lifecycle_service_pb2, f"{method}Request")(
            name=submission, reason=reason, etag=etag, request_id=str(uuid.uuid4()), **more
        )
        return _messages.submission(call(getattr(self._lifecycle, method), request))

    # --- audit ------------------------------------------------------------------------------------

    def audit_head(self) -> Head:
        """Returns the head of the audit chain; a new event is in the chain within a second."""
        return _messages.head(
            call(self._audit.GetAuditHead, audit_service_pb2.GetAuditHeadRequest())
        )

    def audit_chain(self, after_place: int = 0) -> Iterator[AuditEvent]:
        """Yields the events of the audit chain, oldest first, without verifying them.

        `cxreval.audit.chain.verify` verifies them.
        """
        request = audit_service_pb2.ReadAuditChainRequest(after_place=after_place)
        for answer in stream(self._audit.ReadAuditChain, request):
            yield from map(_messages.audit_event, answer.links)

    def receipt(self, submission: str, version: int = 0) -> Receipt:
        """Returns the receipt of a row, without verifying it; by default the latest.

        `cxreval.audit.receipts.verify` verifies it.
        """
        answer = call(
            self._audit.GetReceipt,
            audit_service_pb2.GetReceiptRequest(name=submission, version=version),
        )
        return _messages.receipt(answer)

    def record_rescore(self, evaluation: str, report: Report) -> Rescore:
        """Records that the caller computed this report again, and returns how it compares."""
        request = audit_service_pb2.RecordRescoreRequest(
            evaluation=evaluation, report=reports.report_message(report)
        )
        return _messages.rescore(call(self._audit.RecordRescore, request))

    def list_rescores(self, benchmark: str) -> Iterator[Rescore]:
        """Yields the rescores of a benchmark's submissions, oldest first."""
        request = audit_service_pb2.ListRescoresRequest(parent=str(BenchmarkName(benchmark)))
        return map(_messages.rescore, items(self._audit.ListRescores, request, "rescores"))

    def public_key(self) -> str:
        """Returns the public key of the registry's receipts, in PEM.

        To verify receipts independently of the registry, get the key from the operator.
        """
        return str(call(self._audit.GetPublicKey, audit_service_pb2.GetPublicKeyRequest()).pem)

    # --- organisations, keys, quotas --------------------------------------------------------------

    def quota(self, organisation: str = "") -> QuotaUsage:
        """Returns the quota of an organisation and its use; by default the caller's own."""
        name = str(OrganisationName(organisation)) if organisation else ""
        return _messages.quota_usage(
            call(self._admin.GetQuota, admin_service_pb2.GetQuotaRequest(name=name))
        )

    def create_organisation(
        self, organisation: str, display_name: str, quota: Quota
    ) -> Organisation:
        """Creates an organisation and returns it."""
        request = admin_service_pb2.CreateOrganisationRequest(
            organisation=_messages.organisation_message(organisation, display_name, quota)
        )
        return _messages.organisation(call(self._admin.CreateOrganisation, request))

    def update_organisation(
        self, organisation: str, display_name: str, quota: Quota
    ) -> Organisation:
        """Replaces the display name and quota of an organisation, and returns it."""
        request = admin_service_pb2.UpdateOrganisationRequest(
            organisation=_messages.organisation_message(organisation, display_name, quota)
        )
        return _messages.organisation(call(self._admin.UpdateOrganisation, request))

    def list_organisations(self) -> Iterator[Organisation]:
        """Yields all organisations, oldest first."""
        request = admin_service_pb2.ListOrganisationsRequest()
        return map(
            _messages.organisation, items(self._admin.ListOrganisations, request, "organisations")
        )

    def create_key(
        self, organisation: str, role: Role, lifetime: timedelta | None = None, request_id: str = ""
    ) -> tuple[KeyInfo, str]:
        """Creates an API key and returns it with its text, which cannot be read again.

        Raises:
            ApiKeyExists: an earlier call with this `request_id` created a key; the error names it.
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
        """Yields all keys of an organisation, oldest first."""
        request = admin_service_pb2.ListApiKeysRequest(parent=str(OrganisationName(organisation)))
        return map(_messages.key_info, items(self._admin.ListApiKeys, request, "keys"))

    def revoke_key(self, name: str) -> KeyInfo:
        """Revokes a key and returns it; the registry refuses it after at most five seconds."""
        return _messages.key_info(
            call(self._admin.RevokeApiKey, admin_service_pb2.RevokeApiKeyRequest(name=name))
        )

    def admin_events(self) -> list[AdminEvent]:
        """Returns the latest changes of organisations and keys by operators, newest first."""
        answer = call(self._admin.ListAdminEvents, admin_service_pb2.ListAdminEventsRequest())
        return [_messages.admin_event(event) for event in answer.events]

    # --- evaluations, for workers -----------------------------------------------------------------

    def lease_evaluation(
        self, worker: str, benchmarks: list[str], *, converts: bool = False
    ) -> Lease | None:
        """Leases the oldest evaluation that is queued or whose lease has expired; None without one.

        `converts`: whether the worker can convert PyTorch files; only then may the evaluation
        need it.
        """
        names = [str(BenchmarkName(benchmark)) for benchmark in benchmarks]
        request = evaluation_service_pb2.LeaseEvaluationRequest(
            worker=worker, benchmarks=names, converts=converts
        )
        answer = call(self._evaluations.LeaseEvaluation, request)
        return _messages.lease(answer.lease) if answer.HasField("lease") else None

    def renew_lease(self, lease: Lease) -> datetime:
        """Renews a lease and returns the time at which it expires."""
        request = evaluation_service_pb2.RenewLeaseRequest(
            evaluation=lease.evaluation, token=lease.token
        )
        answer = call(self._evaluations.RenewLease, request)
        return answer.expire_time.ToDatetime(UTC)  # type: ignore[no-any-return]

    def append_predictions(self, lease: Lease, predictions: Predictions) -> int:
        """Stores predictions and returns the number of images that have stored predictions."""
        request = evaluation_service_pb2.AppendPredictionsRequest(
            evaluation=lease.evaluation,
            token=lease.token,
            batch=reports.batch_message(predictions.images, predictions.probabilities),
        )
        return int(call(self._evaluations.AppendPredictions, request).images_done)

    def read_predictions(self, lease: Lease) -> Iterator[Predictions]:
        """Yields the predictions that are stored for the evaluation, with their attempts."""
        request = evaluation_service_pb2.ReadPredictionsRequest(
            evaluation=lease.evaluation, token=lease.token
        )
        for answer in stream(self._evaluations.ReadPredictions, request):
            yield _predictions(answer.batch, tuple(answer.attempts))

    def confirm_predictions(self, lease: Lease, attempt: int) -> None:
        """Confirms the stored predictions of an earlier attempt, for this lease only."""
        request = evaluation_service_pb2.ConfirmPredictionsRequest(
            evaluation=lease.evaluation, token=lease.token, attempt=attempt
        )
        call(self._evaluations.ConfirmPredictions, request)

    def drop_predictions(self, lease: Lease, attempt: int) -> int:
        """Deletes the stored predictions of an earlier attempt and returns how many there were."""
        request = evaluation_service_pb2.DropPredictionsRequest(
            evaluation=lease.evaluation, token=lease.token, attempt=attempt
        )
        return int(call(self._evaluations.DropPredictions, request).images_dropped)

    def report_predictions(self, evaluation: str) -> Iterator[Predictions]:
        """Yields the predictions behind the report of an evaluation."""
        request = evaluation_service_pb2.ReadReportPredictionsRequest(evaluation=evaluation)
        for answer in stream(self._evaluations.ReadReportPredictions, request):
            yield _predictions(answer.batch)

    def complete_evaluation(
        self, lease: Lease, report: Report, provenance: Mapping[str, str]
    ) -> Evaluation:
        """Stores the report with its evidence, which publishes the submission.

        Returns the evaluation.
        """
        request = evaluation_service_pb2.CompleteEvaluationRequest(
            evaluation=lease.evaluation,
            token=lease.token,
            report=reports.report_message(report),
            provenance=provenance,
        )
        return _messages.evaluation(call(self._evaluations.CompleteEvaluation, request))

    def fail_evaluation(self, lease: Lease, failure: Failure) -> Evaluation:
        """Ends the evaluation with a failure and returns it."""
        request = evaluation_service_pb2.FailEvaluationRequest(
            evaluation=lease.evaluation,
            token=lease.token,
            failure=_messages.failure_message(failure),
        )
        return _messages.evaluation(call(self._evaluations.FailEvaluation, request))

    def get_evaluation(self, name: str) -> Evaluation:
        """Returns an evaluation with its report, without the evidence; see `get_evidence`."""
        request = evaluation_service_pb2.GetEvaluationRequest(name=name)
        return _messages.evaluation(call(self._evaluations.GetEvaluation, request))

    def get_evidence(self, evaluation: str) -> Evidence:
        """Returns the evidence for the report of an evaluation: replicates and curves."""
        request = evaluation_service_pb2.GetEvidenceRequest(evaluation=evaluation)
        return reports.evidence(call(self._evaluations.GetEvidence, request).evidence)

    def list_evaluations(self, submission: str) -> Iterator[Evaluation]:
        """Yields all evaluations of a submission, oldest first."""
        request = evaluation_service_pb2.ListEvaluationsRequest(parent=submission)
        return map(
            _messages.evaluation, items(self._evaluations.ListEvaluations, request, "evaluations")
        )

    # --- the board --------------------------------------------------------------------------------

    def leaderboard(self, benchmark: str, as_of: datetime | None = None) -> Board:
        """Returns the board of a benchmark, as it is or as it was at a time."""
        request = leaderboard_service_pb2.ListLeaderboardEntriesRequest(
            parent=str(BenchmarkName(benchmark))
        )
        if as_of:
            request.as_of.FromDatetime(as_of)
        answers = list(pages(self._leaderboard.ListLeaderboardEntries, request))
        entries = [
            _messages.leaderboard_entry(entry) for answer in answers for entry in answer.entries
        ]
        # Later pages may include later events, but every page includes those up to the first head.
        return Board(tuple(entries), _messages.head(answers[0].audit_head))

    def sota_steps(self, benchmark: str, as_of: datetime | None = None) -> Iterator[SotaStep]:
        """Yields the steps of the state of the art, oldest first; evidence before claims."""
        request = leaderboard_service_pb2.ListSotaStepsRequest(parent=str(BenchmarkName(benchmark)))
        if as_of:
            request.as_of.FromDatetime(as_of)
        return map(_messages.sota_step, items(self._leaderboard.ListSotaSteps, request, "steps"))

    def leaderboard_changes(self, benchmark: str) -> Iterator[Event]:
        """Yields the events that changed a board, oldest first."""
        request = leaderboard_service_pb2.ListLeaderboardChangesRequest(
            parent=str(BenchmarkName(benchmark))
        )
        return map(
            _messages.event, items(self._leaderboard.ListLeaderboardChanges, request, "changes")
        )

    def compare(self, benchmark: str, submissions: Sequence[str]) -> EntryComparison:
        """Compares every pair of 2 to 50 rows with evidence, in the order given."""
        request = leaderboard_service_pb2.CompareEntriesRequest(
            parent=str(BenchmarkName(benchmark)), submissions=submissions
        )
        return _messages.entry_comparison(call(self._leaderboard.CompareEntries, request))


def _predictions(
    message: report_pb2.PredictionBatch, attempts: tuple[int, ...] = ()
) -> Predictions:
    images = tuple(message.images)
    values = reports.probabilities(message).reshape(len(images), -1)
    return Predictions(images, values, attempts)
