"""Which state follows which. Only these moves exist; the store asks here before it writes one."""

from __future__ import annotations

from services.registry.domain.records import EvaluationState, Failure, Fault, SubmissionState

EVALUATION_MOVES: dict[EvaluationState, frozenset[EvaluationState]] = {
    EvaluationState.QUEUED: frozenset({EvaluationState.RUNNING, EvaluationState.FAILED}),
    # RUNNING to RUNNING: the lease ran out and the next worker takes over.
    EvaluationState.RUNNING: frozenset(EvaluationState),
    EvaluationState.SUCCEEDED: frozenset(),
    EvaluationState.FAILED: frozenset(),
}

SUBMISSION_STATE: dict[EvaluationState, SubmissionState] = {
    EvaluationState.QUEUED: SubmissionState.QUEUED,
    EvaluationState.RUNNING: SubmissionState.RUNNING,
    EvaluationState.SUCCEEDED: SubmissionState.PUBLISHED,
    EvaluationState.FAILED: SubmissionState.FAILED,
}
"""A submission with a checkpoint stands where its latest evaluation stands."""

ATTEMPTS_EXHAUSTED = "ATTEMPTS_EXHAUSTED"


def moved(current: EvaluationState, following: EvaluationState) -> EvaluationState:
    """`following`, when it may come after `current`. Raises `ValueError`: a defect of the caller."""
    if following not in EVALUATION_MOVES[current]:
        raise ValueError(f"an evaluation cannot go from {current} to {following}")
    return following


def after_failure(fault: Fault, stalled_attempts: int, max_attempts: int) -> EvaluationState:
    """A fault of the platform is tried again until the attempts are used up; the submission's own fault is final."""
    if fault is Fault.SYSTEM and stalled_attempts < max_attempts:
        return EvaluationState.QUEUED
    return EvaluationState.FAILED


def exhausted(stalled_attempts: int, worker: str) -> Failure:
    """The failure of an evaluation whose leases ran out without progress."""
    message = f"{stalled_attempts} leases in a row ran out without a new prediction; the last worker was {worker!r}"
    return Failure(ATTEMPTS_EXHAUSTED, message, Fault.SYSTEM)
