"""Tells many watchers of submissions what changes, with one small query for all of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from cxreval.errors import CxrevalError, ServiceOverloaded, ServiceUnavailable
from services.chassis.principal import Principal

MAX_WATCHERS = 5000
"""Most watchers that one process serves."""

MAX_OF_ONE = 1000
"""Most watchers of one organisation, or of one caller who belongs to none: the others' are not
theirs to take."""

Marks = Mapping[str, tuple[int, int]]
"""Version and images done of submissions, by id."""

_log = logging.getLogger(__name__)


class Watching:
    """Asks for the marks of all watched submissions every `period` seconds, while there is a
    watcher."""

    def __init__(self, marks: Callable[[Sequence[str]], Marks], period: float) -> None:
        self._ask = marks
        self._period = period
        self._watched: Counter[str] = Counter()
        self._watchers: Counter[str] = Counter()
        self._marks: dict[str, tuple[int, int]] = {}
        self._changed = asyncio.Condition()
        self._asking: asyncio.Task[None] | None = None
        self._closed = False

    @contextlib.contextmanager
    def watch(self, submission: str, who: Principal) -> Iterator[None]:
        """While it lasts, `next_mark` can be awaited. Raises `ServiceOverloaded`."""
        watcher = who.organisation or who.name
        self._check_room(watcher)
        self._watched[submission] += 1
        self._watchers[watcher] += 1
        if self._asking is None:
            self._asking = asyncio.create_task(self._keep_asking())
        try:
            yield
        finally:
            self._watchers -= Counter([watcher])  # drops what is 0
            self._watched[submission] -= 1
            if not self._watched[submission]:
                del self._watched[submission]
                self._marks.pop(submission, None)

    async def next_mark(self, submission: str, seen: tuple[int, int] | None) -> tuple[int, int]:
        """The submission's mark, as soon as it is another one than was seen. Raises
        `ServiceUnavailable` at the end."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._closed or self._marks.get(submission) not in (None, seen)
            )
            if self._closed:
                raise ServiceUnavailable("the registry stops; watch again")
            return self._marks[submission]

    async def close(self) -> None:
        """Ends all watchers, who would keep a process that stops waiting; another replica, or the
        next, takes them."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _check_room(self, watcher: str) -> None:
        of_one, of_all = self._watchers[watcher], self._watchers.total()
        for count, limit, scope in (
            (of_one, MAX_OF_ONE, " per organisation"),
            (of_all, MAX_WATCHERS, ""),
        ):
            if count >= limit:
                message = (
                    f"too many open WatchSubmission streams (limit {limit}{scope}); "
                    "poll GetSubmission or retry later"
                )
                raise ServiceOverloaded(message, limit=limit)

    async def _keep_asking(self) -> None:
        try:
            while self._watched:
                with contextlib.suppress(
                    CxrevalError
                ):  # the database is away; the next time may find it
                    found = dict(await asyncio.to_thread(self._ask, list(self._watched)))
                    if found != self._marks:
                        self._marks = found
                        async with self._changed:
                            self._changed.notify_all()
                await asyncio.sleep(self._period)
        finally:
            self._asking = None
