"""The life of a submission: which change leads from which state to which. The store asks here
before it writes one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from cxreval.manifest.model import Kind
from cxreval.records import Change, EvaluationState, Failure, Fault, SubmissionState

_State = SubmissionState

MOVES: Mapping[SubmissionState, Mapping[Change, SubmissionState]] = {
    _State.AWAITING_ARTIFACT: {
        Change.QUEUED: _State.QUEUED,
        Change.PUBLISHED: _State.PUBLISHED,  # a claim needs no artifact; an endpoint is queued without one
        Change.EXPIRED: _State.FAILED,
        Change.CANCELLED: _State.CANCELLED,
    },
    _State.QUEUED: {
        Change.LEASED: _State.RUNNING,
        Change.FAILED: _State.FAILED,
        Change.EXPIRED: _State.FAILED,
        Change.CANCELLED: _State.CANCELLED,
    },
    _State.RUNNING: {
        Change.LEASED: _State.RUNNING,  # the lease ran out and the next worker takes over
        Change.RETURNED: _State.QUEUED,
        Change.LEASE_EXPIRED: _State.QUEUED,
        Change.PUBLISHED: _State.PUBLISHED,
        Change.FAILED: _State.FAILED,
        Change.EXPIRED: _State.FAILED,
        Change.CANCELLED: _State.CANCELLED,
    },
    _State.PUBLISHED: {
        Change.DISPUTED: _State.DISPUTED,
        Change.CORRECTED: _State.PUBLISHED,
        Change.SUPERSEDED: _State.SUPERSEDED,
        Change.WITHDRAWN: _State.WITHDRAWN,
    },
    _State.DISPUTED: {
        Change.RESOLVED: _State.PUBLISHED,
        Change.CORRECTED: _State.DISPUTED,
        Change.SUPERSEDED: _State.SUPERSEDED,
        Change.WITHDRAWN: _State.WITHDRAWN,
    },
    _State.SUPERSEDED: {Change.REINSTATED: _State.PUBLISHED, Change.WITHDRAWN: _State.WITHDRAWN},
    _State.WITHDRAWN: {Change.REINSTATED: _State.PUBLISHED},
    _State.FAILED: {Change.RETRIED: _State.QUEUED},
    _State.CANCELLED: {Change.RETRIED: _State.QUEUED},
}
"""Where each change leads. A retry without a stored artifact leads to AWAITING_ARTIFACT instead."""

EVALUATION_STATE: Mapping[Change, EvaluationState] = {
    Change.LEASED: EvaluationState.RUNNING,
    Change.RETURNED: EvaluationState.QUEUED,
    Change.LEASE_EXPIRED: EvaluationState.QUEUED,
    Change.PUBLISHED: EvaluationState.SUCCEEDED,
    Change.FAILED: EvaluationState.FAILED,
    Change.EXPIRED: EvaluationState.FAILED,
    Change.CANCELLED: EvaluationState.CANCELLED,
}
"""What a change of a submission makes of its latest evaluation."""

DEADLINES: Mapping[SubmissionState, timedelta] = {
    _State.AWAITING_ARTIFACT: timedelta(days=1),
    _State.QUEUED: timedelta(days=7),
    _State.RUNNING: timedelta(days=1),
}
"""Longest stay in a state that something has to end; a submission that stays longer expires."""

_EXPIRED: Mapping[SubmissionState, tuple[str, str, Fault]] = {
    _State.AWAITING_ARTIFACT: ("UPLOAD_EXPIRED", "its artifact was not uploaded", Fault.SUBMISSION),
    _State.QUEUED: ("NO_WORKER", "no worker took it", Fault.SYSTEM),
    _State.RUNNING: ("EVALUATION_EXPIRED", "its evaluation did not end", Fault.SYSTEM),
}

ATTEMPTS_EXHAUSTED = "ATTEMPTS_EXHAUSTED"


def following(
    state: SubmissionState, change: Change, *, ready: bool = True
) -> SubmissionState | None:
    """Where a change leads; None when it cannot happen in this state. `ready`: all that a worker
    needs is here."""
    to = MOVES[state].get(change)
    return (
        SubmissionState.AWAITING_ARTIFACT if to and change is Change.RETRIED and not ready else to
    )


def after_failure(fault: Fault, stalled_attempts: int, max_attempts: int) -> Change:
    """A fault of the platform is tried again until the attempts are used up; the submission's own
    fault is final."""
    if fault is Fault.SYSTEM and stalled_attempts < max_attempts:
        return Change.RETURNED
    return Change.FAILED


def exhausted(stalled_attempts: int, worker: str) -> Failure:
    """The failure of an evaluation whose leases ran out without progress."""
    message = f"{stalled_attempts} leases in a row ran out without a new prediction; the last worker was {worker!r}"
    return Failure(ATTEMPTS_EXHAUSTED, message, Fault.SYSTEM)


def fewest_requests_per_second(images: int) -> float:
    """The slowest rate at which an endpoint may be asked, so that it can be done in half of the
    time it has."""
    return images / (DEADLINES[_State.RUNNING] / 2).total_seconds()


def expired(state: SubmissionState, kind: Kind) -> Failure:
    """The failure of a submission that stayed in a state beyond its deadline."""
    reason, what, fault = _EXPIRED[state]
    if state is _State.RUNNING and kind is Kind.ENDPOINT:
        what, fault = "its endpoint did not answer about every image", Fault.SUBMISSION
    days = DEADLINES[state].days
    return Failure(reason, f"{what} within {'a day' if days == 1 else f'{days} days'}", fault)
