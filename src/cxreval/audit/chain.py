"""The audit chain: every event of every submission, each with the sha256 of itself and of the one
before it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from cxreval.audit.canonical import canonical_json
from cxreval.errors import AuditMismatch
from cxreval.fields import SHA256

GENESIS = "0" * 64
"""What the first event has in place of a digest before it."""


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One link. `place` counts all events from 1, `version` those of the submission.

    `number`, `id` and `request_id` are the registry's own; they are here so that nothing of an
    event can be changed. `time` is ISO 8601 in UTC with microseconds. `digest` is what the registry
    says; `link` says what it must be.

    A sealed link has nothing but `place` and `digest`: its content is not for whoever asked. It
    holds its place all the same, since the digest after it is made of its digest.
    """

    place: int
    submission: str
    version: int
    change: str
    state: str
    actor: str
    reason: str
    details: Mapping[str, str]
    time: str
    number: int
    id: str
    request_id: str
    digest: str = ""

    def sealed(self) -> AuditEvent:
        """The link without its content."""
        return AuditEvent(self.place, "", 0, "", "", "", "", {}, "", 0, "", "", self.digest)

    @property
    def is_sealed(self) -> bool:
        """Whether its content is kept back."""
        return not self.submission

    def link(self, previous: str) -> str:
        """sha256 of the event after one with the digest `previous`: 64 lower-case hex
        characters."""
        content = dataclasses.asdict(self) | {"previous": previous}
        del content["digest"]
        return hashlib.sha256(canonical_json(content)).hexdigest()


@dataclass(frozen=True, slots=True)
class Head:
    """The last link: how many events there are, and the digest of the last one."""

    place: int = 0
    digest: str = GENESIS


def follow(events: Iterable[AuditEvent], since: Head = Head()) -> Iterator[AuditEvent]:
    """Gives every event of the chain after `since`, a head that was seen before, once it has been
    checked.

    Of a sealed event only its place can be checked, by the event after it.

    Raises:
        AuditMismatch: an event was changed, is missing, or stands in another place; it names the
            first one.
    """
    head, versions, sealed = since, dict[str, int](), 0
    for event in events:
        if event.place != head.place + 1:
            raise _mismatch(head.place + 1, f"the next event says that it is number {event.place}")
        if event.is_sealed:
            _check_seal(event)
            head, sealed = Head(event.place, event.digest), sealed + 1
            yield event
            continue
        # Of a chain that is followed from its middle, the first event of a submission may have any
        # version.
        expected_version = (
            versions.get(event.submission, event.version - 1 if since.place else 0) + 1
        )
        # Sealed events may be of any submission, this one too.
        if not expected_version <= event.version <= expected_version + sealed:
            raise _mismatch(
                event.place,
                f"it is version {event.version} of {event.submission}, not {expected_version}",
            )
        if event.link(head.digest) != event.digest:
            raise _mismatch(
                event.place, f"its digest is {event.digest or 'absent'}, not that of its content"
            )
        versions[event.submission] = event.version
        head = Head(event.place, event.digest)
        yield event


def verify(events: Iterable[AuditEvent], since: Head = Head()) -> Head:
    """Follows the chain to its end. Raises `AuditMismatch`: see `follow`."""
    last = since
    for event in follow(events, since):
        last = Head(event.place, event.digest)
    return last


def _check_seal(event: AuditEvent) -> None:
    """A sealed link cannot be checked by itself; it can only have the form of a digest, and nothing
    else."""
    if not SHA256.fullmatch(event.digest) or event != event.sealed():
        raise _mismatch(event.place, f"it is sealed, and its digest is {event.digest or 'absent'}")


def _mismatch(place: int, what: str) -> AuditMismatch:
    return AuditMismatch(f"the audit chain breaks at event {place}: {what}", place=place)
