"""Leases a queued evaluation in one statement, on PostgreSQL.

It does what `Evaluations.lease` does step by step on SQLite, and on PostgreSQL while a lease has
expired. ADR 19 has the measurements for which both exist.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping
from datetime import datetime
from types import SimpleNamespace
from typing import Any, cast

from sqlalchemy import Connection, column, text

from cxreval.manifest.model import CONVERTED, Kind
from cxreval.records import Change, EvaluationState, SubmissionState
from services.registry.domain.states import EVALUATION_STATE, TRANSITIONS
from services.registry.store.models import Base, EvaluationRow, SubmissionRow


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
        AND (evaluations.waits_until IS NULL OR evaluations.waits_until <= :now)
        AND (
            submissions.benchmark_number = ANY(:benchmarks) AND (
                :converts OR coalesce(submissions.manifest ->> 'format', '')
                    NOT IN ({", ".join(f"'{form}'" for form in CONVERTED)})
            )
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
    converts: bool,
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
        converts: whether the worker converts PyTorch files.
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
        "converts": converts,
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
