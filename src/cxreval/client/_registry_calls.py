"""What the methods of both registry clients are made of: stubs, calls, and names of submissions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from cxreval.api.registry.v1 import (
    admin_service_pb2_grpc,
    artifact_service_pb2_grpc,
    audit_service_pb2_grpc,
    benchmark_service_pb2_grpc,
    evaluation_service_pb2_grpc,
    leaderboard_service_pb2_grpc,
    lifecycle_service_pb2_grpc,
    submission_service_pb2,
    submission_service_pb2_grpc,
)
from cxreval.client._calls import STREAM_SECONDS, UNARY_SECONDS, Transport, items
from cxreval.errors import AmbiguousName, SubmissionNotFound
from cxreval.resource_names import ANY_BENCHMARK, BenchmarkName, SubmissionPrefix

T = TypeVar("T")

_NAMED = 10  # candidates that the error of an ambiguous name lists


class RegistryCalls:
    """Calls of the registry's services through the transport of the client."""

    _transport: Transport

    def _open(self, channel: Any) -> None:
        """Creates the stubs."""
        # Any, because mypy-protobuf types each stub for both sync and aio channels.
        self._benchmarks: Any = benchmark_service_pb2_grpc.BenchmarkServiceStub(channel)
        self._artifacts: Any = artifact_service_pb2_grpc.ArtifactServiceStub(channel)
        self._submissions: Any = submission_service_pb2_grpc.SubmissionServiceStub(channel)
        self._evaluations: Any = evaluation_service_pb2_grpc.EvaluationServiceStub(channel)
        self._leaderboard: Any = leaderboard_service_pb2_grpc.LeaderboardServiceStub(channel)
        self._lifecycle: Any = lifecycle_service_pb2_grpc.LifecycleServiceStub(channel)
        self._admin: Any = admin_service_pb2_grpc.AdminServiceStub(channel)
        self._audit: Any = audit_service_pb2_grpc.AuditServiceStub(channel)

    async def _ask(
        self, method: Callable[..., Any], request: Any, seconds: float = UNARY_SECONDS
    ) -> Any:
        """Returns the response of a call with one response."""
        return await self._transport.call(method, request, seconds)

    def _answers(
        self, method: Callable[..., Any], request: Any, seconds: float = STREAM_SECONDS
    ) -> AsyncIterator[Any]:
        """Yields the responses of a streaming call."""
        return self._transport.stream(method, request, seconds)

    def _items(
        self, method: Callable[..., Any], request: Any, name: str, decoded: Callable[[Any], T]
    ) -> AsyncIterator[T]:
        """Yields every item of a list, page by page; `name` is the field that holds the items."""
        return items(self._transport, method, request, name, decoded)

    async def _full_name(self, submission: str) -> str:
        """Returns the resource name of a submission that is named by it, an id, or its beginning.

        Raises:
            MalformedField: the text is none of them.
            SubmissionNotFound: the caller may read no submission whose id begins so.
            AmbiguousName: it may read several; the message lists them.
        """
        prefix = SubmissionPrefix.parse(submission)
        if prefix.is_full:
            return submission
        request = submission_service_pb2.ListSubmissionsRequest(
            parent=f"benchmarks/{prefix.benchmark}",
            id_prefix=prefix.submission,
            page_size=_NAMED,
        )
        answer = await self._ask(self._submissions.ListSubmissions, request)
        if not answer.submissions:
            where = "" if prefix.benchmark == ANY_BENCHMARK else f" of {prefix.benchmark}"
            message = (
                f"no submission{where} that you may read has an id that begins with "
                f"{prefix.submission}; `cxreval submission list` shows them"
            )
            raise SubmissionNotFound(message, name=submission)
        if len(answer.submissions) > 1:
            lines = [f"{item.name} ({item.manifest.model})" for item in answer.submissions] + [
                "..."
            ] * bool(answer.next_page_token)
            message = f"{submission} is the beginning of several ids: {', '.join(lines)}"
            raise AmbiguousName(message, name=submission, expected="more characters of one id")
        return str(answer.submissions[0].name)


def benchmark_name(benchmark: str) -> str:
    """Returns the resource name of a benchmark that is named by it or by its identifier."""
    return str(BenchmarkName(benchmark.removeprefix("benchmarks/")))
