"""Only transient errors are retried, pauses double up to a limit, and progress resets them."""

from __future__ import annotations

import json

import pytest

from cxreval import retry
from cxreval.errors import (
    CxrevalError,
    DatabaseDamaged,
    KeyUnknown,
    ServiceOverloaded,
    ServiceUnavailable,
    StorageFull,
)
from cxreval.evaluation.resume import retry_policy
from cxreval.retry import Backoff, RetryPolicy
from cxreval.wire.channel import CHANNEL_OPTIONS

GONE = ServiceUnavailable("gone")


class Clock:
    """Time that passes only while something sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(retry, "time", clock)
    return clock


def failing(*errors: CxrevalError):
    waiting = list(errors)

    def step() -> str:
        if waiting:
            raise waiting.pop(0)
        return "done"

    return step


def test_transient_errors_are_retried_with_doubling_pauses_and_reported(clock: Clock) -> None:
    reported: list[str] = []
    backoff = Backoff(RetryPolicy(max_pause=0.5), lambda error: reported.append(error.reason))
    step = failing(GONE, ServiceOverloaded("full"), GONE, GONE)
    assert backoff.call(step) == "done"
    assert clock.slept == [0.2, 0.4, 0.5, 0.5]
    assert reported == [
        "SERVICE_UNAVAILABLE", "SERVICE_OVERLOADED", "SERVICE_UNAVAILABLE", "SERVICE_UNAVAILABLE",
    ]  # fmt: skip


def test_other_errors_are_raised_at_once(clock: Clock) -> None:
    with pytest.raises(KeyUnknown):
        Backoff(RetryPolicy()).call(failing(KeyUnknown("no")))
    assert clock.slept == []


@pytest.mark.parametrize("error", [StorageFull("full"), DatabaseDamaged("damaged")])
def test_what_only_an_operator_repairs_is_raised_at_once_unless_the_policy_waits_for_it(
    clock: Clock, error: CxrevalError
) -> None:
    with pytest.raises(type(error)):
        Backoff(RetryPolicy()).call(failing(error))
    assert clock.slept == []
    assert Backoff(retry_policy(5.0)).call(failing(error)) == "done"  # a worker, for its budget


@pytest.mark.parametrize(("from_progress", "survives"), [(False, True), (True, False)])
def test_the_deadline_runs_from_the_first_failure_or_from_the_last_progress(
    clock: Clock, from_progress: bool, survives: bool
) -> None:
    backoff = Backoff(RetryPolicy(deadline_seconds=1.0, from_progress=from_progress))
    clock.now += 10  # a long step, which then fails
    if survives:
        backoff.wait(GONE)
    else:
        with pytest.raises(ServiceUnavailable):
            backoff.wait(GONE)
        backoff.progressed()
        backoff.wait(GONE)


def test_the_last_error_is_raised_before_a_pause_that_would_pass_the_deadline(clock: Clock) -> None:
    backoff = Backoff(RetryPolicy(initial_pause=1.0, deadline_seconds=4.0))
    with pytest.raises(ServiceUnavailable):
        backoff.call(failing(*[GONE] * 9))
    assert clock.slept == [1.0, 2.0]


def test_attempts_are_counted_until_there_is_progress(clock: Clock) -> None:
    backoff = Backoff(RetryPolicy(max_attempts=3))
    for _ in range(2):
        backoff.wait(GONE)
    backoff.progressed()
    for _ in range(2):
        backoff.wait(GONE)
    with pytest.raises(ServiceUnavailable):
        backoff.wait(GONE)
    assert clock.slept == [0.2, 0.4, 0.2, 0.4]


def test_a_pause_is_as_long_as_the_server_asks(clock: Clock) -> None:
    backoff = Backoff(RetryPolicy(deadline_seconds=20.0))
    backoff.wait(GONE, at_least=7.0)
    backoff.wait(GONE)
    assert clock.slept == [7.0, 0.4]
    with pytest.raises(ServiceUnavailable):
        backoff.wait(GONE, at_least=60.0)


def test_grpc_retries_calls_by_the_same_kind_of_policy() -> None:
    config = json.loads(str(dict(CHANNEL_OPTIONS)["grpc.service_config"]))
    assert config["methodConfig"][0]["retryPolicy"] == {
        "maxAttempts": 5,
        "initialBackoff": "0.2s",
        "maxBackoff": "1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
