"""What scoring streams have brought so far, and what is kept of a broken one until it is resumed.

Everything is in memory. A table takes `ROW_BYTES` an image, so the tables of NIH's test split of
25,596 images take 1.5 MB each, and a service that allows 32 of them at most 47 MB.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Gauge

from cxreval.datasets.truth import Truth
from cxreval.errors import ServiceOverloaded
from cxreval.metrics.predictions import PredictionTable

PARKED_SECONDS = 600.0
"""How long a broken stream can be resumed."""

_Key = tuple[str, str]


@dataclass(slots=True, eq=False)
class Stream:
    """What the streams of one session have brought: a table and the number of messages behind the
    header."""

    table: PredictionTable
    message_count: int = 0
    finished: bool = False
    """Set when the caller has all it asked for, so that nothing is left to resume."""


class Streams:
    """Every table in memory: those of open streams, and the parked ones that can be resumed. At
    most `limit` together.

    A parked table makes room for a new stream, the oldest first.
    """

    def __init__(
        self, limit: int, metrics: CollectorRegistry, parked_seconds: float = PARKED_SECONDS
    ) -> None:
        self._limit = limit
        self._parked_seconds = parked_seconds
        self._open: set[_Key] = set()
        self._parked: dict[_Key, tuple[Stream, asyncio.TimerHandle]] = {}
        gauge = Gauge(
            "cxreval_scoring_streams",
            "Tables of predictions in memory.",
            ["state"],
            registry=metrics,
        )
        gauge.labels("open").set_function(lambda: len(self._open))
        gauge.labels("parked").set_function(lambda: len(self._parked))

    @contextmanager
    def open(self, truth: Truth, session: str) -> Iterator[Stream]:
        """A new stream, or the parked one of this benchmark and session; parked at the end unless
        it is `finished`.

        `session`: empty for a stream that cannot be resumed.

        Raises:
            ServiceOverloaded: all tables belong to open streams, or the session's own stream is
                still open.
        """
        key = (truth.spec.digest, session or uuid.uuid4().hex)
        stream = self._take(key, truth)
        self._open.add(key)
        try:
            yield stream
        finally:
            self._open.remove(key)
            if session and not stream.finished:
                self._park(key, stream)

    def _take(self, key: _Key, truth: Truth) -> Stream:
        if key in self._open:
            # Its caller saw it break and this service has not yet: the same call soon finds it
            # parked.
            raise ServiceOverloaded(
                "a stream of this session is still open; try again", field="header.session"
            )
        if len(self._open) >= self._limit:
            message = f"all {self._limit} streams are open; try again later"
            raise ServiceOverloaded(message, limit=self._limit)
        if key in self._parked:
            return self._unpark(key)
        if len(self._open) + len(self._parked) >= self._limit:
            self._unpark(next(iter(self._parked)))
        return Stream(truth.table())

    def _park(self, key: _Key, stream: Stream) -> None:
        forget = asyncio.get_running_loop().call_later(self._parked_seconds, self._unpark, key)
        self._parked[key] = (stream, forget)

    def _unpark(self, key: _Key) -> Stream:
        stream, forget = self._parked.pop(key)
        forget.cancel()
        return stream
