"""Leasing a queued evaluation in one statement, on PostgreSQL: what a fleet of workers does most.

The result is that of the steps of `Evaluations.lease`, which SQLite takes, and PostgreSQL when a
lease has run out.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Sequence
from datetime import datetime
from types import SimpleNamespace
from typing import Any, cast

from sqlalchemy import Connection, column, text

from cxreval.manifest.model import CheckpointFormat
from cxreval.records import Change, EvaluationState, SubmissionState
from services.registry.domain.states import EVALUATION_STATE, MOVES
from services.registry.store.models import Base, EvaluationRow, SubmissionRow


def _columns(table: type[Base], prefix: str) -> str:
    return ", ".join(
        f"{prefix}.{item.name} AS {prefix}_{item.name}" for item in table.__table__.columns
    )


# Both rows are locked at once and rows that somebody else has locked are passed over, so this never
# waits for a lock,
# and never holds one that somebody waits for while it does. Nothing is taken while a lease has run
# out: that one may be older, or have been leased too often.
_STATEMENT = f"""
WITH taken AS (
    SELECT evaluations.number, evaluations.submission_number
    FROM evaluations JOIN submissions ON submissions.number = evaluations.submission_number
    WHERE evaluations.state = '{EvaluationState.QUEUED}'
        AND (evaluations.waits_until IS NULL OR evaluations.waits_until <= :now)
        AND submissions.benchmark_number = ANY(:benchmarks)
        AND (:converts OR submissions.manifest ->> 'format' IS DISTINCT FROM '{CheckpointFormat.PYTORCH_STATE_DICT}')
        AND NOT EXISTS (
            SELECT FROM evaluations WHERE state = '{EvaluationState.RUNNING}' AND lease_expires <= :now
        )
    ORDER BY evaluations.create_time, evaluations.number
    LIMIT 1
    FOR UPDATE OF submissions, evaluations SKIP LOCKED
), run AS (
    UPDATE evaluations
    SET state = '{EVALUATION_STATE[Change.LEASED]}', update_time = :now, failure = NULL, worker = :worker,
        attempt = attempt + 1, stalled_attempts = stalled_attempts + 1,
        started = :now, progress_time = NULL, images_before = images_done,
        lease_token = :token, lease_expires = :expires
    FROM taken WHERE evaluations.number = taken.number
    RETURNING evaluations.*
), moved AS (
    UPDATE submissions
    SET state = '{MOVES[SubmissionState.QUEUED][Change.LEASED]}', update_time = :now, failure = NULL,
        version = version + 1
    FROM taken WHERE submissions.number = taken.submission_number
    RETURNING submissions.*
), happened AS (
    INSERT INTO events (id, submission_number, version, change, state, actor, reason, details, create_time)
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
_OF_RUN = [item.name for item in EvaluationRow.__table__.columns]
_OF_SUBMISSION = [item.name for item in SubmissionRow.__table__.columns]


def lease_queued(
    connection: Connection,
    benchmarks: Sequence[int],
    converts: bool,
    worker: str,
    actor: str,
    now: datetime,
    expires: datetime,
) -> tuple[EvaluationRow, SubmissionRow] | None:
    """Leases the oldest evaluation of these benchmarks that waits, and records it as an event.

    Args:
        connection: to PostgreSQL.
        benchmarks: numbers.
        converts: whether the worker converts state dicts.
        worker: its name.
        actor: who the event says did it.
        now: when it begins.
        expires: when it runs out.

    Returns:
        What the rows are now, to be read only; None when nothing waits or any lease has run out.
    """
    values: dict[str, Any] = {
        "benchmarks": list(benchmarks), "converts": converts, "worker": worker, "actor": actor, "now": now,
        "expires": expires, "token": secrets.token_hex(16), "event": uuid.uuid4().hex,
    }  # fmt: skip
    found = connection.execute(_LEASE, values).one_or_none()
    if found is None:
        return None
    run, submission = found[: len(_OF_RUN)], found[len(_OF_RUN) :]
    # They are read like rows; mapped ones would be watched for changes that nobody makes, which
    # costs time.
    return (
        cast("EvaluationRow", SimpleNamespace(**dict(zip(_OF_RUN, run, strict=True)))),
        cast(
            "SubmissionRow", SimpleNamespace(**dict(zip(_OF_SUBMISSION, submission, strict=True)))
        ),
    )
