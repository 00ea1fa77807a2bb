"""The audit chain: every event of submissions and benchmarks, linked by sha256 digests.

Each digest covers its event and the digest before it.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from cxreval.audit.canonical import canonical_json
from cxreval.errors import AuditMismatch
from cxreval.fields import SHA256

GENESIS = "0" * 64
"""Previous digest of the first event."""


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One link of the audit chain: an event of a submission, or of a benchmark, and its digest.

    `submission` is the resource name of the submission or benchmark; `state` is empty for a
    benchmark. `place` is the link's position in the chain, from 1; `version` is the event's
    position among those of its submission or benchmark, from 1. `number`, `id` and `request_id` are
    internal to the registry; they are part of the digest so that no stored value of an event can be
    changed. `time` is ISO 8601 in UTC with microseconds. `digest` is the stored digest; `link`
    computes the expected one.

    A sealed link has only `place` and `digest`, because the caller may not read the rest. The chain
    can still be followed across it: the next digest is computed from the sealed one.
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
        """Returns the link without its content."""
        return AuditEvent(self.place, "", 0, "", "", "", "", {}, "", 0, "", "", self.digest)

    @property
    def is_sealed(self) -> bool:
        """Whether the content is withheld."""
        return not self.submission

    def link(self, previous: str) -> str:
        """Returns the expected digest of this event after one with the digest `previous`.

        The digest is a sha256 of 64 lower-case hex characters.
        """
        content = dataclasses.asdict(self) | {"previous": previous}
        del content["digest"]
        return hashlib.sha256(canonical_json(content)).hexdigest()


@dataclass(frozen=True, slots=True)
class Head:
    """The last link of a chain: its position, which is the number of events, and its digest."""

    place: int = 0
    digest: str = GENESIS


def follow(events: Iterable[AuditEvent], since: Head = Head()) -> Iterator[AuditEvent]:
    """Yields each event of the chain after the known head `since`, after checking it.

    A sealed event is checked by the digest of the event after it.

    Raises:
        AuditMismatch: an event was changed, removed or moved; the error names its position.
    """
    head, versions, sealed = since, dict[str, int](), 0
    for event in events:
        if event.place != head.place + 1:
            raise _mismatch(head.place + 1, f"the next event has position {event.place}")
        if event.is_sealed:
            _check_seal(event)
            head, sealed = Head(event.place, event.digest), sealed + 1
            yield event
            continue
        # With `since`, the first event of a submission may have any version.
        expected_version = (
            versions.get(event.submission, event.version - 1 if since.place else 0) + 1
        )
        # Each sealed event before this one may belong to the same submission.
        if not expected_version <= event.version <= expected_version + sealed:
            raise _mismatch(
                event.place,
                f"it is version {event.version} of {event.submission}; expected {expected_version}",
            )
        if event.link(head.digest) != event.digest:
            raise _mismatch(
                event.place, f"its digest {event.digest or '(none)'} does not match its content"
            )
        versions[event.submission] = event.version
        head = Head(event.place, event.digest)
        yield event


def verify(events: Iterable[AuditEvent], since: Head = Head()) -> Head:
    """Follows the chain to its end and returns its head. Raises `AuditMismatch` like `follow`."""
    last = since
    for event in follow(events, since):
        last = Head(event.place, event.digest)
    return last


def _check_seal(event: AuditEvent) -> None:
    """Raises unless a sealed link has a well-formed digest and no other content."""
    if not SHA256.fullmatch(event.digest) or event != event.sealed():
        raise _mismatch(event.place, f"it is sealed, and its digest is {event.digest or 'absent'}")


def _mismatch(position: int, problem: str) -> AuditMismatch:
    message = f"the audit chain breaks at event {position}: {problem}"
    return AuditMismatch(message, place=position)
