"""Scoring is healthy while its truths are complete and its report threads take work."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from cxreval.datasets.truth import Truth, load_truth
from services.chassis.health import Unhealthy
from services.scoring import servicer
from services.scoring.servicer import ScoringServicer
from tests.support.scoring import describe, small_table

IMAGE = "00000001_000.png"


@pytest.fixture
def truth(tmp_path: Path) -> Truth:
    labels = small_table(tmp_path, [(IMAGE, "Mass")])
    return load_truth(describe(tmp_path, "small", [IMAGE], labels), tmp_path)


@pytest.fixture
def release() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def serving(threads: int, **truths: Truth) -> ScoringServicer:
    return ScoringServicer(truths, threads, 1, CollectorRegistry())


def reason(scoring: ScoringServicer) -> str:
    """Returns why scoring is not healthy; nothing if it is."""
    try:
        assert scoring.check_health()
    except Unhealthy as error:
        return error.reason
    return ""


def becomes(expected: str, scoring: ScoringServicer) -> bool:
    end = time.monotonic() + 10
    while reason(scoring) != expected and time.monotonic() < end:
        time.sleep(0.01)
    return reason(scoring) == expected


def test_scoring_is_unhealthy_only_while_every_report_thread_hangs(
    truth: Truth, release: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    scoring = serving(2, small=truth)
    scoring._threads.submit(release.wait, 30)
    monkeypatch.setattr(servicer, "_HUNG_SECONDS", 1.0)
    end = time.monotonic() + 1.5
    while time.monotonic() < end:  # one thread is left
        assert not reason(scoring)
        time.sleep(0.02)
    scoring._threads.submit(release.wait, 30)
    assert becomes("threads_hung", scoring)
    release.set()
    assert becomes("", scoring)


def test_scoring_waits_for_a_report_thread_that_is_only_busy(
    truth: Truth, release: threading.Event
) -> None:
    scoring = serving(1, small=truth)
    scoring._threads.submit(release.wait, 30)
    assert not any(reason(scoring) for _ in range(3))


def test_scoring_is_unhealthy_without_a_complete_truth(truth: Truth) -> None:
    assert reason(serving(1)) == "truth_incomplete"
    cut = replace(truth, rows={})
    assert reason(serving(1, small=truth, cut=cut)) == "truth_incomplete"
