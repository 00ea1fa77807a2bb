"""LifecycleService: changes of submissions after their creation, and their events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

from cxreval.api.registry.v1 import lifecycle_service_pb2 as pb
from cxreval.api.registry.v1 import lifecycle_service_pb2_grpc, submission_pb2
from cxreval.records import Change
from cxreval.resource_names import SubmissionName
from services.chassis.principal import caller
from services.registry.convert import requests, submissions
from services.registry.domain.corrections import check_correction
from services.registry.domain.records import ENDED
from services.registry.servicers.watching import Watching
from services.registry.store.events import Events
from services.registry.store.lifecycle import Lifecycle
from services.registry.store.submissions import Submissions

_log = logging.getLogger(__name__)


class LifecycleServicer(lifecycle_service_pb2_grpc.LifecycleServiceServicer):
    """Changes submissions, and sends updates and events."""

    def __init__(
        self,
        lifecycle: Lifecycle,
        submissions: Submissions,
        events: Events,
        watching: Watching,
    ) -> None:
        self._lifecycle = lifecycle
        self._submissions = submissions
        self._events = events
        self._watching = watching

    async def CancelSubmission(
        self, request: pb.CancelSubmissionRequest, context: Any
    ) -> submission_pb2.Submission:
        """Cancels a submission."""
        return await self._change(request, Change.CANCELLED)

    async def RetrySubmission(
        self, request: pb.RetrySubmissionRequest, context: Any
    ) -> submission_pb2.Submission:
        """Queues a failed or cancelled submission again."""
        return await self._change(request, Change.RETRIED)

    async def WithdrawSubmission(
        self, request: pb.WithdrawSubmissionRequest, context: Any
    ) -> submission_pb2.Submission:
        """Withdraws a submission from the board."""
        return await self._change(request, Change.WITHDRAWN)

    async def ReinstateSubmission(
        self, request: pb.ReinstateSubmissionRequest, context: Any
    ) -> submission_pb2.Submission:
        """Puts a submission back on the board."""
        return await self._change(request, Change.REINSTATED)

    async def DisputeSubmission(
        self, request: pb.DisputeSubmissionRequest, context: Any
    ) -> submission_pb2.Submission:
        """Marks a row of the board as disputed."""
        return await self._change(request, Change.DISPUTED)

    async def ResolveDispute(
        self, request: pb.ResolveDisputeRequest, context: Any
    ) -> submission_pb2.Submission:
        """Resolves a dispute."""
        return await self._change(request, Change.RESOLVED)

    async def SupersedeSubmission(
        self, request: pb.SupersedeSubmissionRequest, context: Any
    ) -> submission_pb2.Submission:
        """Replaces a submission on the board by another one."""
        successor = SubmissionName.parse(request.successor, "successor")
        return await self._change(request, Change.SUPERSEDED, successor=successor)

    async def CorrectSubmission(
        self, request: pb.CorrectSubmissionRequest, context: Any
    ) -> submission_pb2.Submission:
        """Corrects names or source of a row."""
        values = {field.name: value for field, value in request.correction.ListFields()}
        check_correction(values)
        return await self._change(request, Change.CORRECTED, corrections=values)

    async def WatchSubmission(
        self, request: pb.WatchSubmissionRequest, context: Any
    ) -> AsyncIterator[submission_pb2.Submission]:
        """Sends the submission now and after each change, until it has ended."""
        name = SubmissionName.parse(request.name)
        submission = await asyncio.to_thread(self._submissions.get, name, caller())
        with self._watching.watch(name.submission, caller()):
            while True:
                yield submissions.submission_message(submission)
                if submission.state in ENDED:
                    return
                await self._watching.next_mark(
                    name.submission, (submission.version, submission.images_done)
                )
                submission = await asyncio.to_thread(self._submissions.get, name, caller())

    async def ListSubmissionEvents(
        self, request: pb.ListSubmissionEventsRequest, context: Any
    ) -> pb.ListSubmissionEventsResponse:
        """Returns a page of the events that the caller may read, oldest first."""
        parent = SubmissionName.parse(request.parent, "parent")
        cursor = requests.cursor(
            "submissionEvents", str(parent), request.page_size, request.page_token
        )
        page = await asyncio.to_thread(self._events.page, parent, cursor, caller())
        return pb.ListSubmissionEventsResponse(
            events=[submissions.event_message(event) for event in page.items],
            next_page_token=page.next_token,
        )

    async def _change(self, request: Any, change: Change, **more: Any) -> submission_pb2.Submission:
        name = SubmissionName.parse(request.name)
        change_request = requests.change_request(request, change, **more)
        submission = await asyncio.to_thread(self._lifecycle.change, name, change_request, caller())
        _log.info(
            "submission changed",
            extra={"submission": str(name), "change": change, "state": submission.state},
        )
        return submissions.submission_message(submission)
