"""What the pages show, as the registry returned it: records that are kept in memory and on disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from cxreval.audit.chain import AuditEvent, Head
from cxreval.client import LeaderboardEntry, SotaStep, Submission
from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.metrics.report import MetricValue
from cxreval.records import BenchmarkCard, Change, Retirement, SubmissionState, Tier

GENESIS_HEAD = Head()
"""The head of a chain without events."""

REMOVED = (SubmissionState.WITHDRAWN, SubmissionState.SUPERSEDED)
"""States of a submission that had a row."""

BOARD_CHANGES = (
    Change.PUBLISHED, Change.DISPUTED, Change.RESOLVED, Change.CORRECTED, Change.SUPERSEDED,
    Change.WITHDRAWN, Change.REINSTATED, Change.REPLAYED, Change.REPLAY_DIFFERED, Change.REPRODUCED,
    Change.NOT_REPRODUCED,
)  # fmt: skip
"""Changes of a submission that change its row."""

_GOOD = (Change.PUBLISHED, Change.REPLAYED, Change.REPRODUCED)
CORRECTIONS = tuple(change for change in BOARD_CHANGES if change not in _GOOD)
"""Changes of a row after its publication, other than runs that agree with it."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A value with the bounds of its 95 % interval, in the metric's own unit; None if undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None


class _Rows:
    """The rows of a board, by kind."""

    __slots__ = ()
    entries: tuple[LeaderboardEntry, ...]

    @property
    def evidence_rows(self) -> tuple[LeaderboardEntry, ...]:
        """The rows with evidence, by rank."""
        return tuple(entry for entry in self.entries if entry.tier is not Tier.CLAIMED)

    @property
    def claims(self) -> tuple[LeaderboardEntry, ...]:
        """The claimed rows, by rank."""
        return tuple(entry for entry in self.entries if entry.tier is Tier.CLAIMED)

    @property
    def holder(self) -> LeaderboardEntry | None:
        """The current state of the art: of the rows with evidence, else of the claims."""
        return next((entry for entry in self.entries if entry.sota), None)


@dataclass(frozen=True, slots=True)
class BoardDay(_Rows):
    """A board at the end of a day, UTC: the rows by rank, and the steps, oldest first."""

    entries: tuple[LeaderboardEntry, ...]
    steps: tuple[SotaStep, ...]


@dataclass(frozen=True, slots=True)
class BoardData(_Rows):
    """A benchmark with its board and everything that its pages show.

    `entries`: the rows with evidence by rank, then the claims by rank, without their metrics;
    `steps`: oldest first. `figures`: for each row, by submission, the figures of metric and finding
    (empty for the macro mean) over all images. `submissions`: those that anybody may read, by
    name. `events`: of each submission, oldest first. `head`: head of the audit chain when the
    board was read, at `read_time`.
    """

    spec: BenchmarkSpec
    retirement: Retirement | None = None
    card: BenchmarkCard | None = None
    entries: tuple[LeaderboardEntry, ...] = ()
    steps: tuple[SotaStep, ...] = ()
    figures: Mapping[str, Mapping[str, Figure]] = field(default_factory=dict)
    submissions: Mapping[str, Submission] = field(default_factory=dict)
    events: Mapping[str, tuple[AuditEvent, ...]] = field(default_factory=dict)
    head: Head = GENESIS_HEAD
    read_time: datetime | None = None

    @property
    def name(self) -> str:
        """The identifier of the benchmark."""
        return self.spec.name

    @property
    def changes(self) -> list[AuditEvent]:
        """The events that changed the board, oldest first."""
        events = [
            event
            for of_it in self.events.values()
            for event in of_it
            if event.change in BOARD_CHANGES
        ]
        return sorted(events, key=lambda event: event.place)

    @property
    def days(self) -> list[date]:
        """The days, UTC, on which the board changed, oldest first."""
        return sorted({event_time(event).date() for event in self.changes})


def event_time(event: AuditEvent) -> datetime:
    """Returns the time of an event, UTC."""
    return datetime.fromisoformat(event.time)


def published(row: LeaderboardEntry | SotaStep) -> datetime:
    """Returns when a row was put on the board, by the registry's clock.

    Raises:
        ValueError: the registry is of an earlier version, which does not say it.
    """
    if row.publish_time is None:
        raise ValueError("the registry does not say when rows were published; upgrade it")
    return row.publish_time


def figure_key(metric: str, finding: str = "") -> str:
    """Returns the key of a figure in `BoardData.figures`."""
    return f"{metric}|{finding}"


def figure_parts(key: str) -> tuple[str, str]:
    """Returns the metric and the finding of a `figure_key`; the finding of a mean is empty."""
    metric, _, finding = key.partition("|")
    return metric, finding


def figures(values: Iterable[MetricValue]) -> dict[str, Figure]:
    """Returns the figures over all images, by `figure_key`."""
    return {
        figure_key(item.metric, item.finding): Figure(
            item.value,
            item.interval.low if item.interval else None,
            item.interval.high if item.interval else None,
        )
        for item in values
        if not item.slice
    }
