"""Limits the open streams of each caller, and ends those whose callers are no longer admitted, for
example by a revoked key.

One task checks all streams every second, idle ones included; no message waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from cxreval.errors import CxrevalError, ServiceOverloaded, ServiceUnavailable
from cxreval.records import Role
from services.chassis.interceptors.access import Access
from services.chassis.interceptors.call import Call
from services.chassis.principal import enter_stream

CHECK_SECONDS = 1.0

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Stream:
    call: Call
    allowed: frozenset[Role]
    refusal: CxrevalError | None = None


class RunningStreams:
    """Counts streams by caller, and ends those whose callers are no longer admitted. For one event
    loop."""

    def __init__(self, access: Access, max_per_caller: int) -> None:
        self._access = access
        self._max_per_caller = max_per_caller
        self._open: Counter[str] = Counter()
        self._running: dict[asyncio.Task[object], _Stream] = {}
        self._checking: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def admitted(self, call: Call, allowed: frozenset[Role] | None) -> Iterator[None]:
        """Registers the running task as an admitted stream, until the block ends.

        Raises:
            ServiceOverloaded: the caller has too many open streams.
            CxrevalError: the error of `Access.admit` if the caller is no longer admitted.
        """
        who = call.caller
        with self._counted(who), self._checked(call, allowed, who):
            yield

    @contextlib.contextmanager
    def _counted(self, who: str) -> Iterator[None]:
        most = self._max_per_caller
        if self._open[who] >= most:
            message = f"this caller has {most} open streams, the most that it may; retry later"
            raise ServiceOverloaded(message, limit=most)
        self._open[who] += 1
        try:
            yield
        finally:
            self._open[who] -= 1
            if not self._open[who]:
                del self._open[who]

    @contextlib.contextmanager
    def _checked(self, call: Call, allowed: frozenset[Role] | None, who: str) -> Iterator[None]:
        task = asyncio.current_task()
        if allowed is None or task is None:
            yield
            return
        stream = self._running[task] = _Stream(call, allowed)
        enter_stream(partial(self._access.check, call, allowed), who)
        if self._checking is None:
            # In a context of its own, so that its logs have no request id.
            self._checking = asyncio.create_task(
                self._keep_checking(), context=contextvars.Context()
            )
        try:
            yield
        except asyncio.CancelledError:
            if stream.refusal is None:
                raise
            task.uncancel()
            raise stream.refusal from None
        finally:
            del self._running[task]

    async def _keep_checking(self) -> None:
        try:
            while self._running:
                await asyncio.sleep(CHECK_SECONDS)
                for task, stream in list(self._running.items()):
                    await self._check(task, stream)
                    # Thousands of checks from a cache would block the event loop.
                    await asyncio.sleep(0)
        finally:
            self._checking = None

    async def _check(self, task: asyncio.Task[object], stream: _Stream) -> None:
        try:
            await self._access.check(stream.call, stream.allowed)
        except ServiceUnavailable:
            return  # callers cannot be identified at the moment; the next round checks again
        except CxrevalError as error:
            if task in self._running and stream.refusal is None:
                stream.refusal = error
                task.cancel()
        except Exception:  # noqa: BLE001 - the other streams must still be checked
            _log.exception(
                "cannot check whether a stream is still admitted; the next round checks again"
            )
