"""The clients of the registry: benchmarks, submissions, reports, boards, audit, access."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np

from cxreval.api.registry.v1 import (
    artifact_service_pb2,
    benchmark_service_pb2,
    evaluation_service_pb2,
    leaderboard_service_pb2,
    submission_service_pb2,
)
from cxreval.bundle import arranged, artifact_sha256, opened
from cxreval.client import _messages
from cxreval.client._administration import AdministrationMethods
from cxreval.client._calls import (
    RETRY_SECONDS,
    AsyncServiceClient,
    ServiceClient,
    listing,
    operation,
    pages,
)
from cxreval.client._lifecycle import LifecycleMethods
from cxreval.client._registry_calls import benchmark_name
from cxreval.client._upload import UploadProgress, paths, upload, with_files
from cxreval.client.models import (
    Board,
    EntryComparison,
    Evaluation,
    Event,
    Predictions,
    SotaStep,
    Submission,
)
from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.errors import DigestMismatch, ReportNotFound
from cxreval.manifest.model import Kind, Manifest, parts
from cxreval.metrics.report import Evidence, Report, covered_findings
from cxreval.records import Part
from cxreval.resource_names import ArtifactName
from cxreval.retry import TRANSIENT, Backoff, RetryPolicy
from cxreval.wire import benchmarks, reports
from cxreval.wire.channel import ApiKey, TlsFiles
from cxreval.wire.limits import MAX_PAGE_SIZE


class RegistryMethods(AdministrationMethods, LifecycleMethods):
    """The methods that `RegistryClient` and `AsyncRegistryClient` share.

    A benchmark is named by its identifier (`nih-chestxray14`) or resource name. A submission is
    named by its resource name, its id, or at least the first four characters of its id. Each
    method raises the `CxrevalError` that the registry reports.
    """

    # --- benchmarks -------------------------------------------------------------------------------

    @operation
    async def create_benchmark(self, spec: BenchmarkSpec) -> BenchmarkSpec:
        """Creates a benchmark and returns it; idempotent for the same specification."""
        request = benchmark_service_pb2.CreateBenchmarkRequest(
            benchmark=benchmarks.spec_message(spec)
        )
        return _messages.benchmark(await self._ask(self._benchmarks.CreateBenchmark, request))

    @operation
    async def get_benchmark(self, benchmark: str) -> BenchmarkSpec:
        """Returns a benchmark."""
        request = benchmark_service_pb2.GetBenchmarkRequest(name=benchmark_name(benchmark))
        return _messages.benchmark(await self._ask(self._benchmarks.GetBenchmark, request))

    @operation
    async def record_image_list(self, benchmark: str, images: Sequence[str]) -> None:
        """Records the names of a benchmark's images, which its digest covers; idempotent.

        The registry refuses predictions of any other image, and predictions of a benchmark without
        a recorded list.
        """
        request = benchmark_service_pb2.RecordImageListRequest(
            name=benchmark_name(benchmark), images=images
        )
        await self._ask(self._benchmarks.RecordImageList, request)

    @listing
    def list_benchmarks(self) -> AsyncIterator[BenchmarkSpec]:
        """Yields all benchmarks, oldest first."""
        return self._listed(_messages.benchmark)

    # --- submissions ------------------------------------------------------------------------------

    @operation
    async def submit(
        self,
        benchmark: str,
        manifest: Manifest,
        file: Path | str | Sequence[Path | str] | None = None,
        progress: UploadProgress | None = None,
        endpoint_token: str = "",
    ) -> Submission:
        """Creates a submission, uploads its file or files, if any, and returns the submission.

        The upload is that of `upload_artifact`. `endpoint_token`: token that is sent to an endpoint
        as `authorization: Bearer`.
        """
        files = paths(file)
        if files:
            manifest = await self._transport.run(with_files, manifest, files)
        methods = RegistryMethods
        submission = await methods.create_submission(
            self, benchmark, manifest, endpoint_token=endpoint_token
        )
        if not files:
            return submission
        return await methods.upload_artifact(self, submission.name, files, progress)

    @operation
    async def create_submission(
        self, benchmark: str, manifest: Manifest, request_id: str = "", endpoint_token: str = ""
    ) -> Submission:
        """Creates a submission and returns it; if its kind has a file, it then awaits the upload.

        Calls with the same `request_id` create one submission.
        """
        request = submission_service_pb2.CreateSubmissionRequest(
            parent=benchmark_name(benchmark),
            manifest=_messages.manifest_message(manifest),
            request_id=request_id or str(uuid.uuid4()),
            endpoint_token=endpoint_token,
        )
        return _messages.submission(await self._ask(self._submissions.CreateSubmission, request))

    @operation
    async def upload_artifact(
        self,
        submission: str,
        file: Path | str | Sequence[Path | str],
        progress: UploadProgress | None = None,
        retry_seconds: float = RETRY_SECONDS,
    ) -> Submission:
        """Uploads the artifact of a submission and returns the submission, which is then queued.

        The artifact is the file, or the archive of the files that the manifest names. An
        interrupted upload is resumed, also that of an earlier call. Errors are retried until
        `retry_seconds` pass without progress.

        Raises:
            DigestMismatch: the digest of the artifact is not the one in the manifest; no byte is
                sent.
            MalformedField: the manifest names other files.
        """
        progress = progress or UploadProgress()
        backoff = Backoff(RetryPolicy(deadline_seconds=retry_seconds), progress.on_failure)
        declared = await self._patiently(submission, backoff)
        files = arranged(paths(file), declared.manifest.files)
        bundled, expected = bool(declared.manifest.files), declared.manifest.artifact_sha256
        digest = await self._transport.run(artifact_sha256, files, bundled=bundled)
        if digest != expected:
            named = f"the archive of {', '.join(map(str, files))}" if bundled else str(files[0])
            message = f"{named} has sha256 {digest}; the manifest of {declared.name} has {expected}"
            raise DigestMismatch(message, field="file", found=digest, expected=expected)
        content = partial(opened, files, bundled=bundled)
        artifact = {"submission": declared.name}
        answer = await upload(
            self._transport, self._artifacts, artifact, content, progress, retry_seconds
        )
        if answer:
            return _messages.submission(answer.submission)
        backoff.progressed()
        return await self._patiently(declared.name, backoff)

    @operation
    async def upload_part(
        self,
        submission: str,
        part: Part,
        file: Path | str,
        progress: UploadProgress | None = None,
        retry_seconds: float = RETRY_SECONDS,
    ) -> Submission:
        """Uploads a file that the manifest's `reproduction` declares, and returns the submission.

        The upload is that of `upload_artifact`.

        Raises:
            SubmissionState: the manifest declares no such file.
            DigestMismatch: the file has another digest than the manifest states; no byte is sent.
        """
        progress = progress or UploadProgress()
        backoff = Backoff(RetryPolicy(deadline_seconds=retry_seconds), progress.on_failure)
        declared = await self._patiently(submission, backoff)
        digest = await self._transport.run(artifact_sha256, [Path(file)], bundled=False)
        expected = parts(declared.manifest).get(part, digest)
        if digest != expected:
            message = f"{file} has sha256 {digest}; the manifest of {declared.name} has {expected}"
            raise DigestMismatch(message, field="file", found=digest, expected=expected)
        named = _messages.submission_file(declared.name, part)
        content = partial(opened, [Path(file)], bundled=False)
        await upload(
            self._transport, self._artifacts, {"file": named}, content, progress, retry_seconds
        )
        backoff.progressed()
        return await self._patiently(declared.name, backoff)

    @operation
    async def reproduce_submission(self, submission: str, *, full: bool = False) -> Evaluation:
        """Queues a run of the submitter's script, which is compared with the row, and returns it.

        `full`: over all images of the benchmark instead of a sample. One that is queued or runs is
        returned as it is.
        """
        request = evaluation_service_pb2.ReproduceSubmissionRequest(name=submission, full=full)
        return _messages.evaluation(await self._ask(self._evaluations.ReproduceSubmission, request))

    @operation
    async def script_output(self, evaluation: str) -> bytes:
        """Returns what the submitter's script printed in an evaluation of a submission of one's
        own; empty if none ran."""
        request = evaluation_service_pb2.GetScriptOutputRequest(evaluation=evaluation)
        answer = await self._ask(self._evaluations.GetScriptOutput, request)
        return bytes(answer.output)

    async def _patiently(self, submission: str, backoff: Backoff) -> Submission:
        """Returns a submission after as many attempts as the backoff allows."""
        while True:
            try:
                return await RegistryMethods.get_submission(self, submission)
            except TRANSIENT as error:
                await self._transport.sleep(backoff.pause(error))

    @operation
    async def get_submission(self, name: str) -> Submission:
        """Returns a submission."""
        request = submission_service_pb2.GetSubmissionRequest(name=await self._full_name(name))
        return _messages.submission(await self._ask(self._submissions.GetSubmission, request))

    @listing
    def list_submissions(self, benchmark: str) -> AsyncIterator[Submission]:
        """Yields all submissions of a benchmark, oldest first."""
        request = submission_service_pb2.ListSubmissionsRequest(parent=benchmark_name(benchmark))
        return self._items(
            self._submissions.ListSubmissions, request, "submissions", _messages.submission
        )

    @listing
    async def download_artifact(self, sha256: str) -> AsyncIterator[bytes]:
        """Yields the bytes of an artifact, in chunks."""
        request = artifact_service_pb2.DownloadArtifactRequest(name=str(ArtifactName(sha256)))
        async for answer in self._answers(self._artifacts.DownloadArtifact, request):
            yield answer.chunk

    # --- reports and predictions ------------------------------------------------------------------

    @operation
    async def report(self, submission: str, *, evidence: bool = False) -> Report:
        """Returns the report of a submission; with its evidence only if `evidence`.

        Raises:
            ReportNotFound: the submission has none; the message says why.
        """
        evaluation, report = await self._reported(submission)
        if not evidence:
            return report
        replicates = await RegistryMethods.get_evidence(self, evaluation)
        return dataclasses.replace(report, evidence=replicates)

    @operation
    async def predictions(self, submission: str) -> Predictions:
        """Returns all predictions behind the report of a submission, sorted by image.

        Raises:
            ReportNotFound: the submission has no report; the message says why.
            OwnerRequired: they are the table of another organisation.
        """
        evaluation, report = await self._reported(submission)
        batches = [batch async for batch in RegistryMethods.report_predictions(self, evaluation)]
        images = np.array([image for batch in batches for image in batch.images], np.str_)
        values = np.concatenate([batch.probabilities for batch in batches])
        order = np.argsort(images)
        findings = covered_findings(report.metrics)
        return Predictions(tuple(images[order].tolist()), values[order], findings=findings)

    async def _reported(self, submission: str) -> tuple[str, Report]:
        """Returns the name of the evaluation behind a submission's report, and the report."""
        latest = await RegistryMethods.get_submission(self, submission)
        if latest.kind is Kind.CLAIM:
            message = f"{latest.name} is a claim: nothing was run or scored, so it has no report"
            raise ReportNotFound(message, name=latest.name)
        if latest.evaluation:
            evaluation = await RegistryMethods.get_evaluation(self, latest.evaluation)
            if evaluation.report:
                return evaluation.name, evaluation.report
        failure = f": {latest.failure.reason}" if latest.failure else ""
        message = f"{latest.name} has no report, because it is {latest.status}{failure}"
        raise ReportNotFound(message, name=latest.name, state=latest.status)

    @listing
    async def report_predictions(self, evaluation: str) -> AsyncIterator[Predictions]:
        """Yields the predictions behind the report of an evaluation, as they were recorded."""
        request = evaluation_service_pb2.ReadReportPredictionsRequest(evaluation=evaluation)
        async for answer in self._answers(self._evaluations.ReadReportPredictions, request):
            yield _messages.predictions(answer.batch)

    @operation
    async def get_evaluation(self, name: str) -> Evaluation:
        """Returns an evaluation with its report, without the evidence; see `get_evidence`."""
        request = evaluation_service_pb2.GetEvaluationRequest(name=name)
        return _messages.evaluation(await self._ask(self._evaluations.GetEvaluation, request))

    @operation
    async def get_evidence(self, evaluation: str) -> Evidence:
        """Returns the evidence for the report of an evaluation: replicates and curves."""
        request = evaluation_service_pb2.GetEvidenceRequest(evaluation=evaluation)
        return reports.evidence((await self._ask(self._evaluations.GetEvidence, request)).evidence)

    @listing
    async def list_evaluations(self, submission: str) -> AsyncIterator[Evaluation]:
        """Yields all evaluations of a submission, oldest first."""
        name = await self._full_name(submission)
        request = evaluation_service_pb2.ListEvaluationsRequest(parent=name)
        async for evaluation in self._items(
            self._evaluations.ListEvaluations, request, "evaluations", _messages.evaluation
        ):
            yield evaluation

    # --- the board --------------------------------------------------------------------------------

    @operation
    async def leaderboard(
        self,
        benchmark: str,
        as_of: datetime | None = None,
        metric: str = "",
        findings: Sequence[str] = (),
        *,
        metrics: bool = True,
    ) -> Board:
        """Returns the board of a benchmark, as it is or as it was at a time.

        `metric`: ranks by this one of the metrics that the reports have; empty for the benchmark's
        ranking metric. `findings`: ranks the rows that cover all of these by the mean over exactly
        these; empty for all findings of the benchmark. `metrics`: whether the rows have their
        metrics, which are most of the bytes; rows of an older registry always have them.
        """
        request = leaderboard_service_pb2.ListLeaderboardEntriesRequest(
            parent=benchmark_name(benchmark),
            page_size=MAX_PAGE_SIZE,
            metric=metric,
            findings=findings,
            view="LEADERBOARD_VIEW_FULL" if metrics else "LEADERBOARD_VIEW_BASIC",
        )
        if as_of:
            request.as_of.FromDatetime(as_of)
        method = self._leaderboard.ListLeaderboardEntries
        answers = [answer async for answer in pages(self._transport, method, request)]
        entries = [
            _messages.leaderboard_entry(entry) for answer in answers for entry in answer.entries
        ]
        # Later pages may include later events, but every page includes those up to the first head.
        return Board(tuple(entries), _messages.head(answers[0].audit_head))

    @listing
    def sota_steps(
        self,
        benchmark: str,
        as_of: datetime | None = None,
        metric: str = "",
        findings: Sequence[str] = (),
    ) -> AsyncIterator[SotaStep]:
        """Yields the steps of the state of the art, oldest first; evidence before claims.

        Arguments as for `leaderboard`.
        """
        request = leaderboard_service_pb2.ListSotaStepsRequest(
            parent=benchmark_name(benchmark),
            page_size=MAX_PAGE_SIZE,
            metric=metric,
            findings=findings,
        )
        if as_of:
            request.as_of.FromDatetime(as_of)
        return self._items(self._leaderboard.ListSotaSteps, request, "steps", _messages.sota_step)

    @listing
    def leaderboard_changes(
        self, benchmark: str, *, newest_first: bool = False
    ) -> AsyncIterator[Event]:
        """Yields the events that changed a board, oldest or newest first."""
        request = leaderboard_service_pb2.ListLeaderboardChangesRequest(
            parent=benchmark_name(benchmark), page_size=MAX_PAGE_SIZE, newest_first=newest_first
        )
        return self._items(
            self._leaderboard.ListLeaderboardChanges, request, "changes", _messages.event
        )

    @operation
    async def compare(
        self, benchmark: str, submissions: Sequence[str], *, per_finding: bool = False
    ) -> EntryComparison:
        """Compares every pair of 2 to 50 rows with evidence, in the order given.

        `per_finding`: compares at most 10 rows by each finding too. Rows without a score, because
        they lack findings, are then compared by their findings only.
        """
        names = [await self._full_name(submission) for submission in submissions]
        request = leaderboard_service_pb2.CompareEntriesRequest(
            parent=benchmark_name(benchmark), submissions=names, per_finding=per_finding
        )
        return _messages.entry_comparison(
            await self._ask(self._leaderboard.CompareEntries, request)
        )


class RegistryClient(RegistryMethods, ServiceClient):
    """A blocking client of one registry; see `RegistryMethods` for its methods and names."""

    service = "registry"

    def __init__(self, target: str, tls: TlsFiles | None = None, key: ApiKey | None = None) -> None:
        """Opens a channel to `host:port`, which connects at the first call.

        Raises:
            KeyNeedsTls: the key would be sent in plain text to another machine.
        """
        super().__init__(target, tls, key)
        self._open(self._channel)


class AsyncRegistryClient(RegistryMethods, AsyncServiceClient):
    """An asyncio client of one registry: the methods of `RegistryClient` as coroutines.

    Methods that yield items are async iterators. Create it while an event loop runs.
    """

    service = "registry"

    def __init__(self, target: str, tls: TlsFiles | None = None, key: ApiKey | None = None) -> None:
        """Opens a channel to `host:port`, which connects at the first call.

        Raises:
            KeyNeedsTls: the key would be sent in plain text to another machine.
        """
        super().__init__(target, tls, key)
        self._open(self._channel)
