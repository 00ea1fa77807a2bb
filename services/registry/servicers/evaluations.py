"""EvaluationService: leases, predictions and reports of workers, and reads of evaluations."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter

from cxreval.api.registry.v1 import evaluation_service_pb2 as pb
from cxreval.api.registry.v1 import evaluation_service_pb2_grpc
from cxreval.manifest.model import Kind
from cxreval.resource_names import EvaluationName, SubmissionName
from cxreval.wire import reports
from cxreval.wire.limits import MAX_BATCH_IMAGES
from services.chassis.principal import EVERYBODY, caller
from services.registry.convert import evaluations, requests
from services.registry.domain.records import Lease
from services.registry.store.evaluations import Evaluations
from services.registry.store.repetitions import Repetitions
from services.registry.store.rescores import Rescores
from services.registry.store.submissions import Submissions
from services.registry.store.vault import Vault

_log = logging.getLogger(__name__)


class EvaluationServicer(evaluation_service_pb2_grpc.EvaluationServiceServicer):
    """Leases evaluations to workers and takes their predictions and reports."""

    def __init__(
        self,
        evaluations: Evaluations,
        rescores: Rescores,
        repetitions: Repetitions,
        submissions: Submissions,
        vault: Vault,
        metrics: CollectorRegistry,
    ) -> None:
        self._evaluations = evaluations
        self._rescores = rescores
        self._repetitions = repetitions
        self._submissions = submissions
        self._vault = vault
        self._dropped = Counter(
            "cxreval_registry_predictions_dropped_total",
            "Predictions of earlier attempts that a later attempt did not confirm.",
            registry=metrics,
        )

    async def LeaseEvaluation(
        self, request: pb.LeaseEvaluationRequest, context: Any
    ) -> pb.LeaseEvaluationResponse:
        """Leases an evaluation; the answer is empty when none can be leased."""
        name, benchmarks, without_images = evaluations.worker(request)
        # The name that a worker gives itself proves nothing, so events also have its key or
        # certificate.
        who = caller()
        worker = name if who is EVERYBODY else f"{name}, {who.name}"
        lease = await asyncio.to_thread(
            self._evaluations.lease,
            worker,
            benchmarks,
            who,
            converts=request.converts,
            reproduces=request.reproduces,
            without_images=without_images,
        )
        if lease is None:
            return pb.LeaseEvaluationResponse()
        extra = {
            "evaluation": lease.evaluation.id,
            "worker": worker,
            "attempt": lease.evaluation.attempt,
        }
        _log.info("evaluation leased", extra=extra)
        token = await asyncio.to_thread(self._endpoint_token, lease)
        listed = await asyncio.to_thread(self._training_list, lease)
        return pb.LeaseEvaluationResponse(lease=evaluations.lease_message(lease, token, listed))

    def _endpoint_token(self, lease: Lease) -> str:
        if lease.submission.kind is not Kind.ENDPOINT:
            return ""
        name = SubmissionName(lease.submission.benchmark, lease.submission.id)
        sealed = self._submissions.sealed_token(name, caller())
        return self._vault.open(sealed) if sealed else ""

    def _training_list(self, lease: Lease) -> bytes:
        declared = lease.submission.manifest.training_data
        if declared is None or not declared.list_sha256:
            return b""
        name = SubmissionName(lease.submission.benchmark, lease.submission.id)
        return self._submissions.training_list(name, caller())

    async def RenewLease(
        self, request: pb.RenewLeaseRequest, context: Any
    ) -> pb.RenewLeaseResponse:
        """Extends a lease."""
        expires = await asyncio.to_thread(
            self._evaluations.renew, _name(request.evaluation), request.token, caller()
        )
        return pb.RenewLeaseResponse(expire_time=expires)

    async def AppendPredictions(
        self, request: pb.AppendPredictionsRequest, context: Any
    ) -> pb.AppendPredictionsResponse:
        """Records predictions; they are durable when the call returns."""
        name, batch = _name(request.evaluation), evaluations.batch(request.batch)
        done = await asyncio.to_thread(
            self._evaluations.append, name, request.token, batch, caller()
        )
        return pb.AppendPredictionsResponse(images_done=done)

    async def ReadPredictions(
        self, request: pb.ReadPredictionsRequest, context: Any
    ) -> AsyncIterator[pb.ReadPredictionsResponse]:
        """Sends the recorded predictions."""
        batches = self._evaluations.predictions(
            _name(request.evaluation), request.token, MAX_BATCH_IMAGES, caller()
        )
        while batch := await asyncio.to_thread(next, batches, None):
            yield pb.ReadPredictionsResponse(
                batch=evaluations.batch_message(batch), attempts=batch.attempts
            )

    async def ConfirmPredictions(
        self, request: pb.ConfirmPredictionsRequest, context: Any
    ) -> pb.ConfirmPredictionsResponse:
        """Confirms the predictions of an earlier attempt."""
        name, attempt = _name(request.evaluation), request.attempt
        await asyncio.to_thread(self._evaluations.confirm, name, request.token, attempt, caller())
        return pb.ConfirmPredictionsResponse()

    async def DropPredictions(
        self, request: pb.DropPredictionsRequest, context: Any
    ) -> pb.DropPredictionsResponse:
        """Deletes the predictions of an earlier attempt."""
        name, attempt = _name(request.evaluation), request.attempt
        dropped = await asyncio.to_thread(
            self._evaluations.drop, name, request.token, attempt, caller()
        )
        self._dropped.inc(dropped)
        extra = {"evaluation": name.evaluation, "attempt": attempt, "images": dropped}
        _log.warning("predictions dropped", extra={**extra, "caller": caller().name})
        return pb.DropPredictionsResponse(images_dropped=dropped)

    async def ReadReportPredictions(
        self, request: pb.ReadReportPredictionsRequest, context: Any
    ) -> AsyncIterator[pb.ReadReportPredictionsResponse]:
        """Sends the predictions behind a report."""
        batches = self._rescores.predictions(_name(request.evaluation), MAX_BATCH_IMAGES, caller())
        while batch := await asyncio.to_thread(next, batches, None):
            yield pb.ReadReportPredictionsResponse(batch=evaluations.batch_message(batch))

    async def CompleteEvaluation(
        self, request: pb.CompleteEvaluationRequest, context: Any
    ) -> pb.Evaluation:
        """Records the report and publishes the submission."""
        name, report, provenance, run = (
            _name(request.evaluation),
            reports.report(request.report) if request.HasField("report") else None,
            evaluations.provenance(request.provenance),
            evaluations.script_run(request),
        )
        evaluation = await asyncio.to_thread(
            self._evaluations.complete, name, request.token, report, provenance, caller(), run
        )
        _log.info(
            "evaluation succeeded",
            extra={"evaluation": evaluation.id, "attempt": evaluation.attempt},
        )
        return evaluations.evaluation_message(evaluation)

    async def FailEvaluation(
        self, request: pb.FailEvaluationRequest, context: Any
    ) -> pb.Evaluation:
        """Fails the evaluation, or queues it for a retry."""
        name, failure = _name(request.evaluation), evaluations.failure(request.failure)
        run = evaluations.script_run(request)
        evaluation = await asyncio.to_thread(
            self._evaluations.fail, name, request.token, failure, caller(), run
        )
        extra = {"evaluation": evaluation.id, "reason": failure.reason, "state": evaluation.state}
        _log.warning("evaluation failed", extra=extra)
        return evaluations.evaluation_message(evaluation)

    async def ReproduceSubmission(
        self, request: pb.ReproduceSubmissionRequest, context: Any
    ) -> pb.Evaluation:
        """Queues a run of the submitter's script."""
        name = SubmissionName.parse(request.name)
        evaluation = await asyncio.to_thread(
            self._repetitions.request, name, caller(), full=request.full
        )
        _log.info("reproduction queued", extra={"submission": str(name), "full": request.full})
        return evaluations.evaluation_message(evaluation)

    async def GetScriptOutput(
        self, request: pb.GetScriptOutputRequest, context: Any
    ) -> pb.GetScriptOutputResponse:
        """Returns what the submitter's script printed."""
        name = _name(request.evaluation)
        output = await asyncio.to_thread(self._evaluations.script_output, name, caller())
        return pb.GetScriptOutputResponse(output=output)

    async def GetEvaluation(self, request: pb.GetEvaluationRequest, context: Any) -> pb.Evaluation:
        """Returns an evaluation."""
        name = _name(request.name, "name")
        evaluation = await asyncio.to_thread(self._evaluations.get, name, caller())
        return evaluations.evaluation_message(evaluation)

    async def GetEvidence(
        self, request: pb.GetEvidenceRequest, context: Any
    ) -> pb.GetEvidenceResponse:
        """Returns the replicates and curves of a report."""
        name = _name(request.evaluation)
        evidence = await asyncio.to_thread(self._evaluations.evidence, name, caller())
        return pb.GetEvidenceResponse(evidence=reports.evidence_message(evidence))

    async def ListEvaluations(
        self, request: pb.ListEvaluationsRequest, context: Any
    ) -> pb.ListEvaluationsResponse:
        """Returns a page of a submission's evaluations, oldest first."""
        parent = SubmissionName.parse(request.parent, "parent")
        cursor = requests.cursor("evaluations", str(parent), request.page_size, request.page_token)
        page = await asyncio.to_thread(self._evaluations.page, parent, cursor, caller())
        return pb.ListEvaluationsResponse(
            evaluations=[evaluations.evaluation_message(item) for item in page.items],
            next_page_token=page.next_token,
        )


def _name(text: str, field: str = "evaluation") -> EvaluationName:
    return EvaluationName.parse(text, field)
