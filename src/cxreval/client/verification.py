"""Verifies a whole registry: its audit chain, the receipts that the chain lists, its boards."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

from cxreval.audit import chain, receipts
from cxreval.audit.chain import AuditEvent, Head
from cxreval.audit.rows import SIGNED_FIELDS, metrics_sha256
from cxreval.client.models import LeaderboardEntry, Rescore
from cxreval.client.registry import RegistryClient
from cxreval.errors import AuditMismatch, ReceiptInvalid, UnknownRpc

_ON_BOARD = ("published", "disputed")
_PUBLISHING = ("published", "reinstated")

# A change is on the board at once, and in the chain within a second: only a difference that stays
# is a mismatch.
_TRIES, _PAUSE_SECONDS = 3, 1.0


class Verification:
    """Compares the events, receipts and boards of a registry with each other.

    Attributes:
        head: the last verified event.
        sealed: number of events that the caller may not read.
        receipts: number of verified receipts.
        rows: number of verified rows of boards.
        rescores: the rescores of these rows, oldest first.
        rescored: number of rows whose report was computed again, by at least one caller, and is the
            same.

    Args:
        client: client of the registry.
        public_key: the operator's public key, in PEM.
        since: an earlier head of the chain, which must still be in it.
    """

    def __init__(self, client: RegistryClient, public_key: str, since: Head) -> None:
        self.head, self.sealed, self.receipts, self.rows = Head(), 0, 0, 0
        self.rescores: tuple[Rescore, ...] = ()
        self._client = client
        self._public_key = public_key
        self._since = since
        self._states: dict[str, str] = {}
        self._publish_times: dict[str, str] = {}
        self._signed: dict[str, dict[str, Any]] = {}

    def run(self) -> None:
        """Verifies everything once.

        Raises:
            AuditMismatch: an event was changed, removed or moved, the chain does not contain
                `since`, or a board differs from the events and receipts.
            ReceiptInvalid: a receipt does not match its event or the public key.
        """
        self._follow()
        if self.head.place < self._since.place:
            message = f"the chain ends at event {self.head.place}, before {self._since.place}"
            raise AuditMismatch(message, place=self.head.place)
        lasting = self._differences()
        for _ in range(_TRIES):
            if not lasting:
                return
            time.sleep(_PAUSE_SECONDS)
            self._follow()
            lasting &= self._differences()
        if lasting:
            raise AuditMismatch(min(lasting), place=self.head.place)

    @property
    def rescored(self) -> int:
        """See the attributes of the class."""
        return len({item.evaluation for item in self.rescores if not item.difference})

    def _follow(self) -> None:
        """Verifies the chain from the head to its end, and the receipts of these events."""
        with_receipts: list[AuditEvent] = []
        for event in chain.follow(self._client.audit_chain(self.head.place), self.head):
            if event.place == self._since.place and event.digest != self._since.digest:
                raise AuditMismatch(
                    f"event {event.place} is not the one that was seen before", place=event.place
                )
            self.head, self.sealed = Head(event.place, event.digest), self.sealed + event.is_sealed
            if not event.is_sealed:
                self._states[event.submission] = event.state
            if event.change in _PUBLISHING:
                self._publish_times[event.submission] = event.time
            if "receipt_sha256" in event.details:
                with_receipts.append(event)
        for event in with_receipts:
            self._signed[event.submission] = self._receipt(event)
            self.receipts += 1

    def _receipt(self, event: AuditEvent) -> dict[str, Any]:
        receipt = self._client.receipt(event.submission, event.version)
        if hashlib.sha256(receipt.payload).hexdigest() != event.details["receipt_sha256"]:
            raise ReceiptInvalid(
                f"the receipt of {event.submission} is not the one of event {event.place}"
            )
        return receipts.verify(receipt, self._public_key)

    def _differences(self) -> set[str]:
        """Returns how the boards differ from the events and receipts."""
        expected = {name for name, state in self._states.items() if state in _ON_BOARD}
        shown, differences = set(), set()
        rescores: list[Rescore] = []
        for benchmark in self._client.list_benchmarks():
            for row in self._client.leaderboard(benchmark.name):
                shown.add(row.submission)
                if row.submission in expected and (difference := self._row_difference(row)):
                    differences.add(f"{row.submission}: {difference}")
            rescores += self._rescores(benchmark.name)
        self.rows = len(shown)
        self.rescores = tuple(
            item for item in rescores if item.evaluation.partition("/evaluations/")[0] in shown
        )
        differences |= {
            f"{name} is on the board; the chain does not put it there" for name in shown - expected
        }
        return differences | {
            f"{name} is not on the board; the chain puts it there" for name in expected - shown
        }

    def _rescores(self, benchmark: str) -> list[Rescore]:
        """Returns the rescores of a benchmark; none if the registry is too old to record any."""
        try:
            return list(self._client.list_rescores(benchmark))
        except UnknownRpc:
            return []

    def _row_difference(self, row: LeaderboardEntry) -> str:
        signed = self._signed.get(row.submission)
        if signed is None:
            return "it has no receipt"
        shown = {field: getattr(row, field) for field in SIGNED_FIELDS}
        shown["interval"] = [row.interval.low, row.interval.high] if row.interval else None
        shown["metrics_sha256"] = metrics_sha256(row.metrics)
        for field, value in shown.items():
            # A receipt of version 1 has fewer fields.
            if field in signed and value != signed[field]:
                return f"the board says {field} {value!r}; {json.dumps(signed[field])} was signed"
        if row.publish_time:
            time = row.publish_time.isoformat(timespec="microseconds")
            published = self._publish_times.get(row.submission, "never")
            if time != published:
                return f"the board says published {time}; the chain says {published}"
        if row.disputed != (self._states[row.submission] == "disputed"):
            state = self._states[row.submission]
            return f"the board says disputed {row.disputed}; the chain says {state}"
        return ""
