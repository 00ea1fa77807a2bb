"""The states of submissions and evaluations, and the changes between them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from cxreval.manifest.model import Kind
from cxreval.records import Change, EvaluationState, Failure, Fault, SubmissionState

_State = SubmissionState

TRANSITIONS: Mapping[SubmissionState, Mapping[Change, SubmissionState]] = {
    _State.AWAITING_ARTIFACT: {
        Change.QUEUED: _State.QUEUED,
        Change.PUBLISHED: _State.PUBLISHED,  # a claim, which needs no artifact
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
        Change.LEASED: _State.RUNNING,  # the lease expired and another worker has a new one
        Change.RETURNED: _State.QUEUED,
        Change.LEASE_EXPIRED: _State.QUEUED,
        Change.PUBLISHED: _State.PUBLISHED,
        Change.FAILED: _State.FAILED,
        Change.EXPIRED: _State.FAILED,
        Change.CANCELLED: _State.CANCELLED,
    },
    _State.PUBLISHED: {
        Change.DISPUTED: _State.DISPUTED,
        Change.REPLAYED: _State.PUBLISHED,
        Change.REPRODUCED: _State.PUBLISHED,
        Change.REPLAY_DIFFERED: _State.DISPUTED,
        Change.NOT_REPRODUCED: _State.DISPUTED,
        Change.CORRECTED: _State.PUBLISHED,
        Change.SUPERSEDED: _State.SUPERSEDED,
        Change.WITHDRAWN: _State.WITHDRAWN,
    },
    _State.DISPUTED: {
        Change.RESOLVED: _State.PUBLISHED,
        **dict.fromkeys(
            (Change.REPLAYED, Change.REPRODUCED, Change.REPLAY_DIFFERED, Change.NOT_REPRODUCED),
            _State.DISPUTED,
        ),
        Change.CORRECTED: _State.DISPUTED,
        Change.SUPERSEDED: _State.SUPERSEDED,
        Change.WITHDRAWN: _State.WITHDRAWN,
    },
    _State.SUPERSEDED: {Change.REINSTATED: _State.PUBLISHED, Change.WITHDRAWN: _State.WITHDRAWN},
    _State.WITHDRAWN: {Change.REINSTATED: _State.PUBLISHED},
    _State.FAILED: {Change.RETRIED: _State.QUEUED},
    _State.CANCELLED: {Change.RETRIED: _State.QUEUED},
}
"""The state after each allowed change, by state.

A retry without a stored artifact leads to AWAITING_ARTIFACT instead.
"""

EVALUATION_STATE: Mapping[Change, EvaluationState] = {
    Change.LEASED: EvaluationState.RUNNING,
    Change.RETURNED: EvaluationState.QUEUED,
    Change.LEASE_EXPIRED: EvaluationState.QUEUED,
    Change.PUBLISHED: EvaluationState.SUCCEEDED,
    Change.FAILED: EvaluationState.FAILED,
    Change.EXPIRED: EvaluationState.FAILED,
    Change.CANCELLED: EvaluationState.CANCELLED,
}
"""The state of a submission's latest evaluation after a change of the submission."""

DEADLINES: Mapping[SubmissionState, timedelta] = {
    _State.AWAITING_ARTIFACT: timedelta(days=1),
    _State.QUEUED: timedelta(days=7),
    _State.RUNNING: timedelta(days=1),
}
"""How long a submission may stay in a state before it expires."""

_EXPIRED: Mapping[SubmissionState, tuple[str, str, Fault]] = {
    _State.AWAITING_ARTIFACT: ("UPLOAD_EXPIRED", "its artifact was not uploaded", Fault.SUBMISSION),
    _State.QUEUED: ("NO_WORKER", "no worker took it", Fault.SYSTEM),
    _State.RUNNING: ("EVALUATION_EXPIRED", "its evaluation did not end", Fault.SYSTEM),
}

ATTEMPTS_EXHAUSTED = "ATTEMPTS_EXHAUSTED"


def state_after(
    state: SubmissionState, change: Change, *, ready: bool = True
) -> SubmissionState | None:
    """Returns the state after a change; None if the state forbids the change.

    `ready`: the submission has everything that a worker needs.
    """
    new_state = TRANSITIONS[state].get(change)
    if new_state and change is Change.RETRIED and not ready:
        return SubmissionState.AWAITING_ARTIFACT
    return new_state


def after_failure(fault: Fault, stalled_attempts: int, max_attempts: int) -> Change:
    """Returns the change after a failed evaluation: `RETURNED` to retry it, or `FAILED`.

    A failure by the platform's fault is retried until `max_attempts` is reached. A failure by the
    submission's own fault is final.
    """
    if fault is Fault.SYSTEM and stalled_attempts < max_attempts:
        return Change.RETURNED
    return Change.FAILED


def exhausted(stalled_attempts: int, worker: str) -> Failure:
    """Returns the failure of an evaluation whose leases expired without progress."""
    message = f"{stalled_attempts} leases in a row expired without a new prediction; "
    message += f"the last worker was {worker!r}"
    return Failure(ATTEMPTS_EXHAUSTED, message, Fault.SYSTEM)


def fewest_requests_per_second(images: int) -> float:
    """Returns the lowest request rate that evaluates an endpoint within half of its deadline."""
    return images / (DEADLINES[_State.RUNNING] / 2).total_seconds()


def expired(state: SubmissionState, kind: Kind) -> Failure:
    """Returns the failure of a submission that exceeded the deadline of its state."""
    reason, problem, fault = _EXPIRED[state]
    if state is _State.RUNNING and kind is Kind.ENDPOINT:
        problem, fault = "its endpoint did not answer about every image", Fault.SUBMISSION
    days = DEADLINES[state].days
    return Failure(reason, f"{problem} within {'a day' if days == 1 else f'{days} days'}", fault)
