"""Which evaluations a worker may lease; leases a queued one in one statement, on PostgreSQL.

The statement does what `Evaluations.lease` does step by step on SQLite, and on PostgreSQL while a
lease has expired. ADR 19 has the measurements for which both exist. It leases no replay and no
reproduction: those wait until nothing else is queued.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

from sqlalchemy import ColumnElement, Connection, and_, column, false, or_, text, true

from cxreval.manifest.model import CONVERTED, Kind
from cxreval.records import Change, EvaluationState, Purpose, SubmissionState
from services.registry.domain.states import EVALUATION_STATE, TRANSITIONS
from services.registry.store.models import Base, BenchmarkRow, EvaluationRow, SubmissionRow

SEEN = timedelta(minutes=10)
"""How long after its last request for work a worker counts as alive."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a worker can do.

    `benchmarks`, `without_images`: ids of the benchmarks whose images it has, and of those of which
    it takes tables of predictions only. `avoided`: the name of the caller, whose own evaluations it
    does not replay; empty if it does.
    """

    benchmarks: tuple[str, ...]
    without_images: tuple[str, ...]
    converts: bool
    reproduces: bool
    avoided: str


class SeenWorkers:
    """The callers that asked for work lately, so that another one than the first replays a row.

    Of this process only: after a restart, and where each caller asks another registry, the caller
    that measured may replay too.
    """

    def __init__(self) -> None:
        self._last: dict[str, datetime] = {}

    def avoided(self, caller: str, now: datetime) -> str:
        """Records that a caller asks for work; returns its name if there are others, else an empty
        text."""
        self._last = {name: time for name, time in self._last.items() if time > now - SEEN}
        self._last[caller] = now
        return caller if len(self._last) > 1 else ""


def runnable(able: Abilities) -> ColumnElement[bool]:
    """The evaluations that a worker can run."""
    format_ = SubmissionRow.manifest["format"].as_string()
    complete, imageless = (
        BenchmarkRow.id.in_(names) for names in (able.benchmarks, able.without_images)
    )
    purpose, kind = EvaluationRow.purpose, SubmissionRow.kind
    runs_script = or_(purpose == Purpose.REPRODUCE, kind == Kind.SCRIPT)
    model = and_(
        ~runs_script, true() if able.converts else or_(format_.is_(None), format_.not_in(CONVERTED))
    )
    script = and_(runs_script, true() if able.reproduces else false())
    is_table = and_(kind == Kind.PREDICTIONS, purpose == Purpose.MEASURE)
    others = or_(EvaluationRow.avoids.is_(None), EvaluationRow.avoids != able.avoided)
    return and_(or_(and_(complete, or_(model, script)), and_(imageless, is_table)), others)


def _columns(table: type[Base], prefix: str) -> str:
    return ", ".join(
        f"{prefix}.{item.name} AS {prefix}_{item.name}" for item in table.__table__.columns
    )


# Locks both rows at once and skips locked rows, so it never waits for a lock. Leases nothing while
# a lease has expired: that evaluation may be older, or may have used up its attempts.
_STATEMENT = f"""
WITH taken AS (
    SELECT evaluations.number, evaluations.submission_number
    FROM evaluations JOIN submissions ON submissions.number = evaluations.submission_number
    WHERE evaluations.state = '{EvaluationState.QUEUED}'
        AND evaluations.purpose = '{Purpose.MEASURE}'
        AND (evaluations.waits_until IS NULL OR evaluations.waits_until <= :now)
        AND (
            submissions.benchmark_number = ANY(:benchmarks) AND (
                :converts OR coalesce(submissions.manifest ->> 'format', '')
                    NOT IN ({", ".join(f"'{form}'" for form in CONVERTED)})
            ) AND (:reproduces OR submissions.kind <> '{Kind.SCRIPT}')
            OR submissions.benchmark_number = ANY(:without_images)
                AND submissions.kind = '{Kind.PREDICTIONS}'
        )
        AND NOT EXISTS (
            SELECT FROM evaluations
            WHERE state = '{EvaluationState.RUNNING}' AND lease_expires <= :now
        )
    ORDER BY evaluations.create_time, evaluations.number
    LIMIT 1
    FOR UPDATE OF submissions, evaluations SKIP LOCKED
), run AS (
    UPDATE evaluations
    SET state = '{EVALUATION_STATE[Change.LEASED]}', update_time = :now, failure = NULL,
        worker = :worker,
        attempt = attempt + 1, stalled_attempts = stalled_attempts + 1,
        started = :now, progress_time = NULL, images_before = images_done,
        lease_token = :token, lease_expires = :expires, lease_owner = :owner
    FROM taken WHERE evaluations.number = taken.number
    RETURNING evaluations.*
), moved AS (
    UPDATE submissions
    SET state = '{TRANSITIONS[SubmissionState.QUEUED][Change.LEASED]}', update_time = :now,
        failure = NULL, version = version + 1
    FROM taken WHERE submissions.number = taken.submission_number
    RETURNING submissions.*
), recorded AS (
    INSERT INTO events (
        id, submission_number, version, change, state, actor, reason, details, create_time
    )
    SELECT :event, moved.number, moved.version, '{Change.LEASED}', moved.state, :actor, '',
        '{{"attempt":"' || run.attempt || '","evaluation":"' || run.id || '"}}', :now
    FROM moved, run
)
SELECT {_columns(EvaluationRow, "run")}, {_columns(SubmissionRow, "moved")} FROM run, moved
"""  # noqa: S608 - of constants


_LEASE = text(_STATEMENT).columns(
    *(column(f"run_{item.name}", item.type) for item in EvaluationRow.__table__.columns),
    *(column(f"moved_{item.name}", item.type) for item in SubmissionRow.__table__.columns),
)
_EVALUATION_COLUMNS = [item.name for item in EvaluationRow.__table__.columns]
_SUBMISSION_COLUMNS = [item.name for item in SubmissionRow.__table__.columns]


def lease_queued(
    connection: Connection,
    benchmarks: Mapping[int, bool],
    able: Abilities,
    worker: str,
    actor: str,
    owner: str,
    now: datetime,
    expires: datetime,
) -> tuple[EvaluationRow, SubmissionRow] | None:
    """Leases the oldest queued evaluation of these benchmarks and records the event.

    Args:
        connection: to PostgreSQL.
        benchmarks: numbers of the benchmarks, and whether the worker has the images; without them
            it takes tables of predictions only.
        able: what the worker can do.
        worker: name of the worker.
        actor: actor of the event.
        owner: name of the caller, whose lease it is.
        now: when the lease begins.
        expires: when it expires.

    Returns:
        The changed rows, read-only; None when nothing is queued or any lease has expired.
    """
    values: dict[str, Any] = {
        "benchmarks": [number for number, complete in benchmarks.items() if complete],
        "without_images": [number for number, complete in benchmarks.items() if not complete],
        "converts": able.converts,
        "reproduces": able.reproduces,
        "worker": worker,
        "actor": actor,
        "owner": owner,
        "now": now,
        "expires": expires,
        "token": secrets.token_hex(16),
        "event": uuid.uuid4().hex,
    }
    row = connection.execute(_LEASE, values).one_or_none()
    if row is None:
        return None
    split = len(_EVALUATION_COLUMNS)
    evaluation = dict(zip(_EVALUATION_COLUMNS, row[:split], strict=True))
    submission = dict(zip(_SUBMISSION_COLUMNS, row[split:], strict=True))
    # Plain objects with the rows' attributes: the session would track changes of mapped rows, which
    # costs time.
    return (
        cast("EvaluationRow", SimpleNamespace(**evaluation)),
        cast("SubmissionRow", SimpleNamespace(**submission)),
    )
