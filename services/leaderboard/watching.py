"""Follows submissions that are being evaluated, for all visitors who look at one of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Iterable

from cxreval.client import AsyncRegistryClient, Submission
from cxreval.errors import CxrevalError
from cxreval.records import SubmissionState

RUNNING = (SubmissionState.AWAITING_ARTIFACT, SubmissionState.QUEUED, SubmissionState.RUNNING)
"""States of a submission that is not evaluated yet."""

MAX_WATCHED = 32
"""Submissions that are followed at once; pages of others show their state at the last change."""

MAX_FOLLOWERS = 1000
"""Open streams of visitors; further ones end at once, and their browsers come back later."""

_log = logging.getLogger(__name__)


class Watchers:
    """The last state of each submission that is being evaluated, and those who wait for it."""

    def __init__(self, client: AsyncRegistryClient) -> None:
        self._client = client
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._latest: dict[str, Submission] = {}
        self._news = asyncio.Condition()
        self._followers = 0

    def watch(self, submissions: Iterable[Submission]) -> None:
        """Follows the first `MAX_WATCHED` of the submissions that are being evaluated."""
        running = [item for item in submissions if item.status in RUNNING]
        for item in running[:MAX_WATCHED]:
            if item.name not in self._tasks and len(self._tasks) < MAX_WATCHED:
                self._latest[item.name] = item
                self._tasks[item.name] = asyncio.create_task(self._follow(item.name))

    async def close(self) -> None:
        """Stops to follow."""
        for task in [*self._tasks.values()]:
            task.cancel()
        async with self._news:
            self._tasks.clear()
            self._news.notify_all()

    async def follow(self, name: str, heartbeat_seconds: float) -> AsyncIterator[bytes]:
        """Yields a submission as server-sent events: now, after each change, until it has ended.

        A comment is sent after `heartbeat_seconds` without news, so that proxies keep the
        connection.
        """
        if self._followers >= MAX_FOLLOWERS:
            yield b"retry: 30000\n\n"
            return
        self._followers += 1
        try:
            sent = None
            while name in self._latest:
                latest = self._latest[name]
                if latest is not sent:
                    yield _event(latest)
                    sent = latest
                if name not in self._tasks:
                    break
                async with self._news:
                    news = self._news.wait_for(
                        lambda: self._latest.get(name) is not sent or name not in self._tasks  # noqa: B023
                    )
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(news, heartbeat_seconds)
                        continue
                yield b": nothing new\n\n"
            yield b"event: ended\ndata: {}\n\n"
        finally:
            self._followers -= 1

    async def _follow(self, name: str) -> None:
        try:
            async for latest in self._client.watch(name):
                async with self._news:
                    self._latest[name] = latest
                    self._news.notify_all()
        except CxrevalError as error:
            _log.warning("cannot follow", extra={"submission": name, "problem": str(error)})
        finally:
            self._tasks.pop(name, None)
            async with self._news:
                self._news.notify_all()
            # Streams that are open have sent the last state.
            asyncio.get_running_loop().call_later(60, self._latest.pop, name, None)


def _event(submission: Submission) -> bytes:
    """Returns the state of a submission as one server-sent event."""
    state = {
        "state": submission.status,
        "images_done": submission.images_done,
        "images_total": submission.images_total,
        "seconds_left": submission.seconds_left,
    }
    return f"event: state\ndata: {json.dumps(state)}\n\n".encode()
