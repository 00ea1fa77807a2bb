"""The client's methods of the registry that change, follow and explain a submission."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

from cxreval.api.registry.v1 import lifecycle_service_pb2
from cxreval.client import _messages
from cxreval.client._calls import RETRY_SECONDS, STREAM_SECONDS, listing, operation
from cxreval.client._registry_calls import RegistryCalls
from cxreval.client.models import Event, Submission
from cxreval.errors import CxrevalError, DeadlineExceeded
from cxreval.retry import TRANSIENT, Backoff, RetryPolicy


class LifecycleMethods(RegistryCalls):
    """What `RegistryClient` and `AsyncRegistryClient` share of the life of a submission."""

    @operation
    async def cancel(self, submission: str, reason: str, etag: str = "") -> Submission:
        """Cancels a submission that has no row on the board yet, and returns it.

        With an `etag`, this and the other changes fail with `StaleEtag` if the submission has
        changed since.
        """
        return await self._change("CancelSubmission", submission, reason, etag)

    @operation
    async def retry(self, submission: str, reason: str, etag: str = "") -> Submission:
        """Queues a failed or cancelled submission again."""
        return await self._change("RetrySubmission", submission, reason, etag)

    @operation
    async def withdraw(self, submission: str, reason: str, etag: str = "") -> Submission:
        """Removes the row of a submission from the board."""
        return await self._change("WithdrawSubmission", submission, reason, etag)

    @operation
    async def reinstate(self, submission: str, reason: str, etag: str = "") -> Submission:
        """Restores a withdrawn or superseded row."""
        return await self._change("ReinstateSubmission", submission, reason, etag)

    @operation
    async def dispute(self, submission: str, reason: str, etag: str = "") -> Submission:
        """Marks a row as disputed."""
        return await self._change("DisputeSubmission", submission, reason, etag)

    @operation
    async def resolve(self, submission: str, reason: str, etag: str = "") -> Submission:
        """Ends the dispute of a row."""
        return await self._change("ResolveDispute", submission, reason, etag)

    @operation
    async def supersede(
        self, submission: str, successor: str, reason: str, etag: str = ""
    ) -> Submission:
        """Replaces the row of a submission by that of its `successor`."""
        name = await self._full_name(successor)
        return await self._change("SupersedeSubmission", submission, reason, etag, successor=name)

    @operation
    async def correct(
        self, /, submission: str, reason: str, etag: str = "", **values: str | bool
    ) -> Submission:
        """Corrects fields of a row: `model`, `organisation`, `open_source` or `source_url`."""
        fields = lifecycle_service_pb2.Correction(**values)  # type: ignore[arg-type]
        return await self._change("CorrectSubmission", submission, reason, etag, correction=fields)

    @listing
    async def watch(
        self,
        submission: str,
        on_failure: Callable[[CxrevalError], None] = lambda _: None,
        retry_seconds: float = RETRY_SECONDS,
    ) -> AsyncIterator[Submission]:
        """Yields a submission now, and after each change or progress until it has ended.

        Errors are retried until `retry_seconds` pass without a response; `on_failure` is called
        with each error that is retried.
        """
        name = await self._full_name(submission)
        policy = RetryPolicy(deadline_seconds=retry_seconds)
        async for latest in self._watched(name, Backoff(policy, on_failure), math.inf):
            yield latest

    @operation
    async def wait(
        self,
        submission: str,
        timeout: float | None = None,  # noqa: ASYNC109 -- a blocking client needs it
        on_progress: Callable[[Submission], None] = lambda _: None,
    ) -> Submission:
        """Waits until a submission has ended, and returns it: published, failed or cancelled.

        `on_progress` is called with the submission now and after each change or progress.

        Raises:
            DeadlineExceeded: it has not ended after `timeout` seconds. It goes on; wait again.
        """
        end = math.inf if timeout is None else time.monotonic() + timeout
        name = await self._full_name(submission)
        backoff = Backoff(RetryPolicy(deadline_seconds=RETRY_SECONDS))
        async for latest in self._watched(name, backoff, end):
            on_progress(latest)
        return latest

    async def _watched(self, name: str, backoff: Backoff, end: float) -> AsyncIterator[Submission]:
        """Yields a submission until it has ended; see `watch`.

        Raises:
            DeadlineExceeded: it has not ended at the time `end` of `time.monotonic`.
        """
        request = lifecycle_service_pb2.WatchSubmissionRequest(name=name)
        state = "not known to have ended"
        while (left := end - time.monotonic()) > 0:
            seconds = min(left, STREAM_SECONDS)
            try:
                async for message in self._answers(
                    self._lifecycle.WatchSubmission, request, seconds
                ):
                    backoff.progressed()
                    latest = _messages.submission(message)
                    state = latest.status
                    yield latest
            except TRANSIENT as error:  # the call has a deadline; an evaluation may take longer
                pause = backoff.pause(error)
                await self._transport.sleep(max(min(pause, end - time.monotonic()), 0))
            else:
                return
        message = f"the time to wait for {name} is over, and it is {state}; wait again"
        raise DeadlineExceeded(message, name=name, state=state)

    @listing
    async def submission_events(self, submission: str) -> AsyncIterator[Event]:
        """Yields the events of a submission, oldest first."""
        name = await self._full_name(submission)
        request = lifecycle_service_pb2.ListSubmissionEventsRequest(parent=name)
        async for event in self._items(
            self._lifecycle.ListSubmissionEvents, request, "events", _messages.event
        ):
            yield event

    async def _change(
        self, method: str, submission: str, reason: str, etag: str, **more: Any
    ) -> Submission:
        """Calls a method of the lifecycle service and returns the submission."""
        request = getattr(lifecycle_service_pb2, f"{method}Request")(
            name=await self._full_name(submission),
            reason=reason,
            etag=etag,
            request_id=str(uuid.uuid4()),
            **more,
        )
        return _messages.submission(await self._ask(getattr(self._lifecycle, method), request))
