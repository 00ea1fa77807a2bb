"""Keeps the tables of scoring streams in memory; an interrupted stream can be resumed.

A table has `ROW_BYTES` for each image. A table for NIH's test split of 25,596 images has 1.5 MB;
the 32 tables that a service allows by default have at most 47 MB.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Gauge

from cxreval.datasets.truth import Truth
from cxreval.errors import ServiceOverloaded
from cxreval.metrics.predictions import PredictionTable
from services.chassis.fair_slots import FairSlots, Slot

PARKED_SECONDS = 600.0
"""Seconds for which an interrupted stream can be resumed."""

_Key = tuple[str, str, tuple[str, ...]]


@dataclass(slots=True, eq=False)
class Stream:
    """The table of one session, and the number of messages received after the header."""

    table: PredictionTable
    caller: str
    message_count: int = 0
    finished: bool = False
    """Set when the last response was sent, so that the stream is not parked."""


class Streams:
    """The tables of open streams, and the parked tables of interrupted ones.

    There are at most `limit` of both. Callers share the open streams fairly (`FairSlots`). A new
    stream replaces a parked table if necessary: the oldest of the caller that has most tables.
    """

    def __init__(
        self, limit: int, metrics: CollectorRegistry, parked_seconds: float = PARKED_SECONDS
    ) -> None:
        self._limit = limit
        self._slots = FairSlots(limit, "open streams")
        self._parked_seconds = parked_seconds
        self._open: dict[_Key, Stream] = {}
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
    def open(
        self, truth: Truth, session: str, caller: str = "", covered: tuple[str, ...] = ()
    ) -> Iterator[tuple[Stream, Slot]]:
        """Opens the parked stream of this benchmark, session and coverage, or a new stream.

        At the end the stream is parked unless it is `finished`. `session`: empty for a stream that
        cannot be resumed. `caller`: who shares the limit, see `Call.caller`. `covered`: the
        findings of the predictions, empty for all.

        Raises:
            ServiceOverloaded: all tables belong to open streams, or a stream of the session is
                still open; or, in the block, another caller got this stream's slot.
        """
        key = (truth.spec.digest, session or uuid.uuid4().hex, covered)
        if key in self._open:
            # The client has noticed the broken connection before the service; after a retry the
            # stream is parked.
            raise ServiceOverloaded(
                "a stream of this session is still open; retry", field="header.session"
            )
        with self._slots.hold(caller) as slot:
            parked = key in self._parked
            stream = self._unpark(key) if parked else Stream(truth.table(covered), caller)
            self._open[key] = stream
            self._make_room()
            try:
                yield stream, slot
            finally:
                del self._open[key]
                if session and not stream.finished:
                    self._park(key, stream)

    def _make_room(self) -> None:
        """Removes parked tables until there are at most `limit` tables."""
        while self._parked and len(self._open) + len(self._parked) > self._limit:
            parked = [stream for stream, _ in self._parked.values()]
            tables = Counter(stream.caller for stream in (*self._open.values(), *parked))
            self._unpark(max(self._parked, key=lambda key: tables[self._parked[key][0].caller]))

    def _park(self, key: _Key, stream: Stream) -> None:
        """Keeps a stream for some time, so that it can be resumed."""
        expiry = asyncio.get_running_loop().call_later(self._parked_seconds, self._unpark, key)
        self._parked[key] = (stream, expiry)
        self._make_room()

    def _unpark(self, key: _Key) -> Stream:
        """Returns a parked stream, which is not parked any more."""
        stream, expiry = self._parked.pop(key)
        expiry.cancel()
        return stream
