"""Streams that go on: whether who opened one may still come in is asked every second, for a key may
be revoked.

One task asks for all of them, those too that wait for their caller or have nothing to say. No
message waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from cxreval.errors import CxrevalError, ServiceUnavailable
from cxreval.records import Role
from services.chassis.interceptors.access import Access
from services.chassis.interceptors.call import Call
from services.chassis.principal import enter_stream

ASK_SECONDS = 1.0

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Stream:
    call: Call
    allowed: frozenset[Role]
    refusal: CxrevalError | None = None


class RunningStreams:
    """Ends streams whose callers may not come in any more. Used by one event loop."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._running: dict[asyncio.Task[object], _Stream] = {}
        self._asking: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def admitted(self, call: Call, allowed: frozenset[Role] | None) -> Iterator[None]:
        """Within it, the running task serves a stream that was let in. Raises what `Access.admit`
        would by then."""
        task = asyncio.current_task()
        if allowed is None or task is None:
            yield
            return
        stream = self._running[task] = _Stream(call, allowed)
        enter_stream(partial(self._access.check, call, allowed))
        if self._asking is None:
            # In a context of its own: what it logs belongs to no call.
            self._asking = asyncio.create_task(self._keep_asking(), context=contextvars.Context())
        try:
            yield
        except asyncio.CancelledError:
            if stream.refusal is None:
                raise
            task.uncancel()
            raise stream.refusal from None
        finally:
            del self._running[task]

    async def _keep_asking(self) -> None:
        try:
            while self._running:
                await asyncio.sleep(ASK_SECONDS)
                for task, stream in list(self._running.items()):
                    await self._ask(task, stream)
                    await asyncio.sleep(
                        0
                    )  # a key that is remembered is no reason to wait, and there may be thousands
        finally:
            self._asking = None

    async def _ask(self, task: asyncio.Task[object], stream: _Stream) -> None:
        try:
            await self._access.check(stream.call, stream.allowed)
        except ServiceUnavailable:
            return  # who can say is away; it is asked again
        except CxrevalError as error:
            if task in self._running and stream.refusal is None:
                stream.refusal = error
                task.cancel()
        except Exception:  # noqa: BLE001 - whatever it is, the others still have to be asked for
            _log.exception("cannot say whether a stream may go on; asked again")
