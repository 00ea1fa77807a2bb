"""The life of a submission: its events as a time line, and what was said against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from cxreval.audit.chain import AuditEvent
from cxreval.records import CORRECTED_FIELDS, Change
from services.leaderboard.charts import svg, timeline
from services.leaderboard.data import CORRECTIONS, event_time

_NAMES: Mapping[str, str] = {
    Change.CREATED: "handed in",
    Change.QUEUED: "file complete, queued",
    Change.LEASED: "run began",
    Change.RETURNED: "run ended early, queued again",
    Change.LEASE_EXPIRED: "worker was lost, queued again",
    Change.RETRIED: "queued again",
    Change.RESOLVED: "dispute closed",
    Change.SUPERSEDED: "replaced by another row",
    Change.REINSTATED: "put on the board again",
    Change.REPLAYED: "replayed",
    Change.REPLAY_DIFFERED: "second run differed",
    Change.REPRODUCED: "reproduced",
    Change.NOT_REPRODUCED: "their script differed",
}
_SHOWN = 100
"""Events in the table; of more, the latest."""


@dataclass(frozen=True, slots=True)
class Life:
    """The events of a submission that anybody may read, by time.

    `remarks`: its disputes, corrections and removals, latest first.
    """

    picture: Markup
    table: svg.Table
    remarks: Sequence[timeline.Event]


def life(events: Sequence[AuditEvent]) -> Life | None:
    """Returns the life of a submission, None without events."""
    if not events:
        return None
    shown = [_event(event) for event in events]
    remarks = [_event(event) for event in reversed(events) if event.change in CORRECTIONS]
    return Life(
        svg.both(
            lambda width, prefix: timeline.chart(shown, width=width, prefix=prefix), "timeline"
        ),
        timeline.table(shown[-_SHOWN:]),
        remarks[:_SHOWN],
    )


def _event(event: AuditEvent) -> timeline.Event:
    notes = [event.reason] if event.reason else []
    if event.change == Change.CORRECTED:
        notes += [
            f"{field.replace('_', ' ')}: {event.details[field]}"
            for field in CORRECTED_FIELDS
            if field in event.details
        ]
    return timeline.Event(
        _NAMES.get(event.change, event.change), event_time(event), "; ".join(notes)
    )
