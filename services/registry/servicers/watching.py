"""Notifies watchers of submissions of changes, with one small query for all of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from cxreval.errors import CxrevalError, ServiceOverloaded, ServiceUnavailable
from services.chassis.principal import Principal

MAX_WATCHERS = 5000
"""Most open WatchSubmission streams of a process."""

MAX_WATCHERS_OF_ONE = 1000
"""Most open streams of one organisation, or of one caller without an organisation."""

Marks = Mapping[str, tuple[int, int]]
"""Version and number of images done of submissions, by id."""

_log = logging.getLogger(__name__)


class Watching:
    """Reads the marks of all watched submissions every `period` seconds, while there are any."""

    def __init__(self, marks: Callable[[Sequence[str]], Marks], period: float) -> None:
        self._read_marks = marks
        self._period = period
        self._watched: Counter[str] = Counter()
        self._watchers: Counter[str] = Counter()
        self._marks: dict[str, tuple[int, int]] = {}
        self._changed = asyncio.Condition()
        self._polling: asyncio.Task[None] | None = None
        self._closed = False

    @contextlib.contextmanager
    def watch(self, submission: str, who: Principal) -> Iterator[None]:
        """Registers a watcher for the block, in which `next_mark` can be awaited. Raises
        `ServiceOverloaded`."""
        watcher = who.organisation or who.name
        self._check_room(watcher)
        self._watched[submission] += 1
        self._watchers[watcher] += 1
        if self._polling is None:
            self._polling = asyncio.create_task(self._poll())
        try:
            yield
        finally:
            self._watchers -= Counter([watcher])  # drops entries of 0
            self._watched[submission] -= 1
            if not self._watched[submission]:
                del self._watched[submission]
                self._marks.pop(submission, None)

    async def next_mark(self, submission: str, seen: tuple[int, int] | None) -> tuple[int, int]:
        """Waits until the submission's mark differs from `seen`, and returns it. Raises
        `ServiceUnavailable` when the registry stops."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._closed or self._marks.get(submission) not in (None, seen)
            )
            if self._closed:
                raise ServiceUnavailable("the registry is stopping; watch again")
            return self._marks[submission]

    async def close(self) -> None:
        """Ends all streams, so that the process can stop; clients reconnect to another replica."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _check_room(self, watcher: str) -> None:
        for count, limit, scope in (
            (self._watchers[watcher], MAX_WATCHERS_OF_ONE, "limit"),
            (self._watchers.total(), MAX_WATCHERS, "limit of the registry"),
        ):
            if count >= limit:
                message = f"too many open WatchSubmission streams ({scope} {limit}); "
                message += "poll GetSubmission or retry later"
                raise ServiceOverloaded(message, limit=limit)

    async def _poll(self) -> None:
        try:
            while self._watched:
                with contextlib.suppress(CxrevalError):  # the database is down; retry next time
                    marks = dict(await asyncio.to_thread(self._read_marks, list(self._watched)))
                    if marks != self._marks:
                        self._marks = marks
                        async with self._changed:
                            self._changed.notify_all()
                await asyncio.sleep(self._period)
        finally:
            self._polling = None
