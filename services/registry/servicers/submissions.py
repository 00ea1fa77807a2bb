"""SubmissionService: manifests in."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from datetime import datetime
from typing import Any

from cxreval.api.registry.v1 import submission_pb2, submission_service_pb2_grpc
from cxreval.api.registry.v1 import submission_service_pb2 as pb
from cxreval.errors import RequestIdReused
from cxreval.manifest.model import Kind
from cxreval.resource_names import BenchmarkName, SubmissionName
from services.chassis.principal import caller
from services.registry.convert import requests, submissions
from services.registry.servicers import shown
from services.registry.store.benchmarks import Benchmarks
from services.registry.store.submissions import Submissions
from services.registry.store.tenancy import Tenancy
from services.registry.store.vault import Vault


class SubmissionServicer(submission_service_pb2_grpc.SubmissionServiceServicer):
    """Takes submissions and gives them out again."""

    def __init__(
        self,
        benchmarks: Benchmarks,
        submissions: Submissions,
        tenancy: Tenancy,
        vault: Vault,
        clock: Callable[[], datetime],
    ) -> None:
        self._benchmarks = benchmarks
        self._submissions = submissions
        self._tenancy = tenancy
        self._vault = vault
        self._clock = clock

    async def CreateSubmission(
        self, request: pb.CreateSubmissionRequest, context: Any
    ) -> submission_pb2.Submission:
        """Checks the manifest and stores the submission."""
        parent = BenchmarkName.parse(request.parent, "parent")
        request_id = requests.request_id(request.request_id)
        benchmark = await asyncio.to_thread(self._benchmarks.get, parent)
        manifest = submissions.checked_manifest(
            request.manifest, benchmark.spec, self._clock().date()
        )
        token = submissions.endpoint_token(request.endpoint_token, manifest)
        who = caller()
        submission = await asyncio.to_thread(
            self._submissions.create,
            parent, manifest, request_id, who.name, who.organisation, self._vault.seal(token) if token else None,
        )  # fmt: skip
        if request_id and manifest.kind is Kind.ENDPOINT:
            await asyncio.to_thread(
                self._check_same_token, parent, submission.id, request_id, token
            )
        return shown.submission_message(submission)

    def _check_same_token(
        self, parent: BenchmarkName, submission: str, request_id: str, token: str
    ) -> None:
        """A repeated creation must bring the token that the first one brought."""
        sealed = self._submissions.sealed_token(SubmissionName(parent.benchmark, submission))
        kept = self._vault.open(sealed) if sealed else ""
        if not hmac.compare_digest(kept.encode(), token.encode()):
            message = (
                f"request_id {request_id} was used with another endpoint_token; expected a new one"
            )
            raise RequestIdReused(
                message, field="request_id", value=request_id, expected="a new UUID"
            )

    async def GetSubmission(
        self, request: pb.GetSubmissionRequest, context: Any
    ) -> submission_pb2.Submission:
        """Returns one."""
        name = SubmissionName.parse(request.name)
        await asyncio.to_thread(self._tenancy.check_visible, caller(), name)
        return shown.submission_message(await asyncio.to_thread(self._submissions.get, name))

    async def ListSubmissions(
        self, request: pb.ListSubmissionsRequest, context: Any
    ) -> pb.ListSubmissionsResponse:
        """A page of a benchmark's, oldest first."""
        parent = BenchmarkName.parse(request.parent, "parent")
        cursor = requests.cursor("submissions", str(parent), request.page_size, request.page_token)
        page = await asyncio.to_thread(self._submissions.page, parent, cursor, caller())
        return pb.ListSubmissionsResponse(
            submissions=[shown.submission_message(item) for item in page.items],
            next_page_token=page.next_token,
        )
