"""The client of the registry for workers: leases, recorded predictions, results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from cxreval.api.registry.v1 import artifact_service_pb2, evaluation_service_pb2
from cxreval.bundle import opened
from cxreval.client import _messages
from cxreval.client._calls import finish
from cxreval.client._registry_calls import benchmark_name
from cxreval.client._upload import UploadProgress, upload
from cxreval.client.models import Evaluation, Lease, Predictions, ScriptRecord
from cxreval.client.registry import RegistryClient
from cxreval.files import file_sha256
from cxreval.metrics.report import Report
from cxreval.records import Failure
from cxreval.wire import reports
from cxreval.wire.limits import MAX_OUTPUT_BYTES


class WorkerClient(RegistryClient):
    """A `RegistryClient` with the methods of a worker, which runs evaluations under leases."""

    def lease_evaluation(
        self,
        worker: str,
        benchmarks: list[str],
        *,
        converts: bool = False,
        reproduces: bool = False,
        without_images: Sequence[str] = (),
    ) -> Lease | None:
        """Leases the oldest evaluation that is queued or whose lease has expired; None without one.

        `benchmarks`: those whose images the worker has. `converts`: whether the worker can convert
        PyTorch state dicts; only then may the evaluation need it. `reproduces`: likewise, whether
        the worker can run submitters' scripts in isolation. `without_images`: benchmarks of which
        the worker takes tables of predictions only.
        """
        names = [benchmark_name(benchmark) for benchmark in benchmarks]
        request = evaluation_service_pb2.LeaseEvaluationRequest(
            worker=worker,
            benchmarks=names,
            converts=converts,
            reproduces=reproduces,
            benchmarks_without_images=map(benchmark_name, without_images),
        )
        answer = self._call(self._evaluations.LeaseEvaluation, request)
        return _messages.lease(answer.lease) if answer.HasField("lease") else None

    def renew_lease(self, lease: Lease) -> datetime:
        """Renews a lease and returns the time at which it expires."""
        request = evaluation_service_pb2.RenewLeaseRequest(
            evaluation=lease.evaluation, token=lease.token
        )
        answer = self._call(self._evaluations.RenewLease, request)
        return answer.expire_time.ToDatetime(UTC)  # type: ignore[no-any-return]

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
        finish(
            upload(
                self._transport,
                self._artifacts,
                {"derived": derived},
                partial(opened, [file], bundled=False),
                progress or UploadProgress(),
            )
        )
        return sha256

    def append_predictions(self, lease: Lease, predictions: Predictions) -> int:
        """Stores predictions and returns the number of images that have stored predictions."""
        request = evaluation_service_pb2.AppendPredictionsRequest(
            evaluation=lease.evaluation,
            token=lease.token,
            batch=reports.batch_message(predictions.images, predictions.probabilities),
        )
        return int(self._call(self._evaluations.AppendPredictions, request).images_done)

    def read_predictions(self, lease: Lease) -> Iterator[Predictions]:
        """Yields the predictions that are stored for the evaluation, with their attempts."""
        request = evaluation_service_pb2.ReadPredictionsRequest(
            evaluation=lease.evaluation, token=lease.token
        )
        for answer in self._stream(self._evaluations.ReadPredictions, request):
            yield _messages.predictions(answer.batch, tuple(answer.attempts))

    def confirm_predictions(self, lease: Lease, attempt: int) -> None:
        """Confirms the stored predictions of an earlier attempt, for this lease only."""
        request = evaluation_service_pb2.ConfirmPredictionsRequest(
            evaluation=lease.evaluation, token=lease.token, attempt=attempt
        )
        self._call(self._evaluations.ConfirmPredictions, request)

    def drop_predictions(self, lease: Lease, attempt: int) -> int:
        """Deletes the stored predictions of an earlier attempt and returns how many there were."""
        request = evaluation_service_pb2.DropPredictionsRequest(
            evaluation=lease.evaluation, token=lease.token, attempt=attempt
        )
        return int(self._call(self._evaluations.DropPredictions, request).images_dropped)

    def complete_evaluation(
        self,
        lease: Lease,
        report: Report | None,
        provenance: Mapping[str, str],
        run: ScriptRecord | None = None,
    ) -> Evaluation:
        """Stores the report with its evidence, which publishes the submission.

        A replay or a reproduction publishes nothing: the registry compares its predictions with
        those behind the row. It has a report if it is of all images. `run`: what is recorded of the
        submitter's script; None if none ran. Returns the evaluation.
        """
        request = evaluation_service_pb2.CompleteEvaluationRequest(
            evaluation=lease.evaluation,
            token=lease.token,
            report=reports.report_message(report) if report else None,
            provenance=provenance,
            **_run_fields(run),
        )
        if run and run.canaries:
            request.canaries.CopyFrom(_messages.canaries_message(run.canaries))
        return _messages.evaluation(self._call(self._evaluations.CompleteEvaluation, request))

    def fail_evaluation(
        self, lease: Lease, failure: Failure, run: ScriptRecord | None = None
    ) -> Evaluation:
        """Ends the evaluation with a failure and returns it. `run`: as in
        `complete_evaluation`."""
        request = evaluation_service_pb2.FailEvaluationRequest(
            evaluation=lease.evaluation,
            token=lease.token,
            failure=_messages.failure_message(failure),
            **_run_fields(run),
        )
        return _messages.evaluation(self._call(self._evaluations.FailEvaluation, request))


def _run_fields(run: ScriptRecord | None) -> dict[str, Any]:
    """Returns the fields of a request that state what is recorded of a script's run."""
    if run is None:
        return {}
    return {
        "usage": _messages.usage_message(run.usage),
        "limits": _messages.usage_message(run.limits),
        "output": run.output[:MAX_OUTPUT_BYTES],
    }
