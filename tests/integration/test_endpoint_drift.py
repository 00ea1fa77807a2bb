"""Endpoints are asked again about images that the registry draws; a change is stated on the row."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from cxreval.audit import receipts
from cxreval.client.evidence_text import agreements
from cxreval.errors import EvaluationNotFound
from cxreval.manifest.model import Kind
from cxreval.records import (
    ENDPOINT_TOLERANCE,
    Agreement,
    Change,
    Failure,
    Fault,
    Purpose,
    Tier,
    Verdict,
)
from cxreval.records import SubmissionState as State
from cxreval.resource_names import SubmissionName
from cxreval.wire import reports
from services.chassis.principal import EVERYBODY
from services.registry.domain.agreements import tier
from services.registry.domain.pages import Cursor
from services.registry.domain.records import PredictionBatch, Submission
from services.registry.store import repetitions as repetitions_module
from tests.integration.test_registry_lifecycle import ENDPOINT, PARENT, SIGNER, SPEC, Registry
from tests.integration.test_registry_lifecycle import registry as registry  # noqa: PLC0414 - the fixture
from tests.integration.test_repetitions import (
    PUBLIC,
    end,
    lease,
    named,
    record,
    repetitions,
)
from tests.support.registry import report_message, small_images

MONTH = timedelta(days=30)
AGREEMENT = Agreement(
    "again", "first", Verdict.AGREES, 2, 4, True, 0.0, 0.0, "", "", 0.0,
    datetime(2026, 1, 2, tzinfo=UTC),
)  # fmt: skip


@pytest.fixture(autouse=True)
def two_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark has few images, so a sample has two."""
    monkeypatch.setattr(repetitions_module, "ENDPOINT_IMAGES", 2)


def published(registry: Registry) -> SubmissionName:
    """Publishes the row of an endpoint that gives 0.5 for every image."""
    name = registry.create(ENDPOINT)
    found = lease(registry)
    record(registry, found)
    report = reports.report(report_message(SPEC, 0.8))
    registry.evaluations.complete(named(found), found.token, report, {}, EVERYBODY)
    return name


def ask(registry: Registry, value: float) -> tuple[str, ...]:
    """Asks the endpoint again a month later, which gives a value for every image of the sample,
    which is returned."""
    registry.time += MONTH
    assert repetitions(registry).queue_due() == 1
    found = lease(registry)
    assert found.evaluation.purpose is Purpose.REPLAY
    end(registry, found, value)
    return found.images


def row(registry: Registry, name: SubmissionName) -> Submission:
    """Returns the submission as everybody reads it."""
    return registry.submissions.get(name, PUBLIC)


def line(submission: Submission) -> str:
    (found,) = agreements(submission.kind, submission.replay, submission.reproduction)
    return found


def reasons(registry: Registry, name: SubmissionName) -> list[tuple[Change, str]]:
    """Returns the second runs among the events that everybody reads, with their reasons."""
    page = registry.events.page(name, Cursor("submissionEvents", str(name), 500), PUBLIC)
    runs = (Change.REPLAYED, Change.REPLAY_DIFFERED)
    return [(event.change, event.reason) for event in page.items if event.change in runs]


def test_each_sample_is_drawn_afresh_and_only_a_worker_reads_it(registry: Registry) -> None:
    published(registry)
    samples = [ask(registry, 0.5) for _ in range(8)]
    assert {len(set(images)) for images in samples} == {2}
    assert set().union(*samples) <= set(small_images())
    assert len(set(samples)) > 1
    registry.time += MONTH
    repetitions(registry).queue_due()
    found = lease(registry)
    with pytest.raises(EvaluationNotFound):
        registry.evaluations.get(named(found), PUBLIC)
    owners = str(asdict(registry.evaluations.get(named(found), EVERYBODY)))
    assert not any(image in owners for image in found.images)


def test_endpoint_that_answers_as_before_stays_executed_with_the_date(registry: Registry) -> None:
    name = published(registry)
    ask(registry, 0.5 + 0.9 * ENDPOINT_TOLERANCE)
    found = row(registry, name)
    assert (found.tier, found.state) == (Tier.EXECUTED, State.PUBLISHED)
    assert found.replay
    assert (found.replay.verdict, found.replay.differed_since) == (Verdict.AGREES, None)
    assert line(found) == (
        f"2 of {SPEC.image_count} images asked again 2026-02-01: the same predictions, "
        "max |Δp| 0.0018"
    )
    assert reasons(registry, name) == [(Change.REPLAYED, "")]


def test_row_says_since_when_its_endpoint_changed_and_keeps_its_figures(
    registry: Registry,
) -> None:
    name = published(registry)
    (before,) = registry.boards.rows(PARENT, registry.boards.ranked_rows(PARENT, None), None)
    ask(registry, 0.6)
    since = registry.time
    ask(registry, 0.7)
    (after,) = registry.boards.rows(PARENT, registry.boards.ranked_rows(PARENT, None), None)
    assert (after.figures, after.score) == (before.figures, before.score)
    found = row(registry, name)
    assert (found.tier, found.state) == (Tier.EXECUTED, State.DISPUTED)
    assert found.replay
    assert found.replay.differed_since
    assert abs(found.replay.differed_since - since) < timedelta(seconds=1)
    assert found.replay.max_difference == pytest.approx(0.2)
    assert line(found).startswith("changed since 2026-02-01: max |Δp| 0.2 for ")
    assert line(found).endswith(f"(2 of {SPEC.image_count} images asked again 2026-03-03)")
    first, second = reasons(registry, name)
    assert first[0] is second[0] is Change.REPLAY_DIFFERED
    assert first[1].startswith(
        f"the endpoint, asked again for 2 of {SPEC.image_count} images, gave"
    )
    signed = receipts.verify(registry.events.receipt(name, EVERYBODY), SIGNER.public_key)
    assert signed["replay"]["differed_since"][:10] == "2026-02-01"


def test_row_says_that_its_endpoint_answers_as_before_its_change(registry: Registry) -> None:
    name = published(registry)
    for value in (0.6, 0.5):
        ask(registry, value)
    again = row(registry, name)
    assert "the same predictions, as before its change of 2026-02-01" in line(again)
    change, reason = reasons(registry, name)[-1]
    assert change is Change.REPLAYED
    assert reason.endswith("gave the row's predictions again; it differed since 2026-02-01")
    ask(registry, 0.5)
    later = row(registry, name).replay
    assert later
    assert later.differed_since is None
    ask(registry, 0.6)
    assert line(row(registry, name)).startswith("changed since 2026-05-02: ")


def test_endpoint_that_does_not_answer_has_not_changed(registry: Registry) -> None:
    name = published(registry)
    ask(registry, 0.5)
    before = row(registry, name)
    registry.time += MONTH
    repetitions(registry).queue_due()
    found = lease(registry)
    one = found.images[:1]
    values = np.full(len(SPEC.findings), 0.9, "<f4").tobytes()
    registry.evaluations.append(
        named(found), found.token, PredictionBatch(one, (values,)), EVERYBODY
    )
    failure = Failure("ENDPOINT_UNAVAILABLE", "it did not respond", Fault.SUBMISSION)
    registry.evaluations.fail(named(found), found.token, failure, EVERYBODY)
    assert row(registry, name) == before
    assert repetitions(registry).queue_due() == 0
    ask(registry, 0.5)  # on the next date of the schedule, with another sample


def test_script_that_reproduced_an_endpoint_keeps_the_tier_when_the_endpoint_changes() -> None:
    reproduced, replay = (AGREEMENT, replace(AGREEMENT, verdict=Verdict.DIFFERS))
    found = {Purpose.REPRODUCE: reproduced, Purpose.REPLAY: replay}
    assert tier(Kind.ENDPOINT, found) is Tier.REPRODUCED
    assert tier(Kind.CHECKPOINT, found) is Tier.EXECUTED
    assert tier(Kind.ENDPOINT, {Purpose.REPLAY: reproduced}) is Tier.EXECUTED
