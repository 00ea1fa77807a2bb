"""SubmissionService: creates and reads submissions."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from datetime import datetime
from typing import Any

from cxreval.api.registry.v1 import submission_pb2, submission_service_pb2_grpc
from cxreval.api.registry.v1 import submission_service_pb2 as pb
from cxreval.errors import RequestIdReused
from cxreval.fields import check_pattern
from cxreval.manifest.model import Kind
from cxreval.resource_names import ANY_BENCHMARK, ID_PREFIX, BenchmarkName, SubmissionName
from services.chassis.principal import caller
from services.registry.convert import requests, submissions
from services.registry.store.benchmarks import Benchmarks
from services.registry.store.submissions import Submissions
from services.registry.store.vault import Vault


class SubmissionServicer(submission_service_pb2_grpc.SubmissionServiceServicer):
    """Creates and returns submissions."""

    def __init__(
        self,
        benchmarks: Benchmarks,
        submissions: Submissions,
        vault: Vault,
        clock: Callable[[], datetime],
    ) -> None:
        self._benchmarks = benchmarks
        self._submissions = submissions
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
        sealed_token = self._vault.seal(token) if token else None
        listed = await asyncio.to_thread(submissions.training_list, request.training_list, manifest)
        submission = await asyncio.to_thread(
            self._submissions.create, parent, manifest, request_id, caller(), sealed_token, listed
        )
        if request_id and manifest.kind is Kind.ENDPOINT:
            await asyncio.to_thread(
                self._check_same_token, parent, submission.id, request_id, token
            )
        return submissions.submission_message(submission)

    def _check_same_token(
        self, parent: BenchmarkName, submission: str, request_id: str, token: str
    ) -> None:
        """Raises `RequestIdReused` unless a repeated creation has the token of the first one."""
        name = SubmissionName(parent.benchmark, submission)
        sealed = self._submissions.sealed_token(name, caller())
        kept = self._vault.open(sealed) if sealed else ""
        if not hmac.compare_digest(kept.encode(), token.encode()):
            message = (
                f"request_id {request_id} was used with another endpoint_token; use a new UUID"
            )
            raise RequestIdReused(
                message, field="request_id", value=request_id, expected="a new UUID"
            )

    async def GetSubmission(
        self, request: pb.GetSubmissionRequest, context: Any
    ) -> submission_pb2.Submission:
        """Returns a submission."""
        name = SubmissionName.parse(request.name)
        submission = await asyncio.to_thread(self._submissions.get, name, caller())
        return submissions.submission_message(submission)

    async def ListSubmissions(
        self, request: pb.ListSubmissionsRequest, context: Any
    ) -> pb.ListSubmissionsResponse:
        """Returns a page of submissions, of one benchmark or with one beginning of their ids."""
        prefix = request.id_prefix
        if prefix:
            check_pattern("id_prefix", prefix, ID_PREFIX, "4 to 32 characters among 0-9 and a-f")
        everywhere = prefix and request.parent == f"benchmarks/{ANY_BENCHMARK}"
        parent = None if everywhere else BenchmarkName.parse(request.parent, "parent")
        listed = f"{request.parent}/{prefix}" if prefix else request.parent
        cursor = requests.cursor("submissions", listed, request.page_size, request.page_token)
        page = await asyncio.to_thread(self._submissions.page, parent, cursor, caller(), prefix)
        return pb.ListSubmissionsResponse(
            submissions=[submissions.submission_message(item) for item in page.items],
            next_page_token=page.next_token,
        )
