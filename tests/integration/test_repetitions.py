"""Replays and reproductions of rows: when they are queued, who runs them, what they change."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest

from cxreval.audit import receipts
from cxreval.client import Canaries
from cxreval.errors import (
    EvaluationNotFound,
    MalformedBatch,
    MissingImages,
    OwnerRequired,
    SubmissionState,
    UnknownImage,
)
from cxreval.manifest.model import Manifest
from cxreval.records import (
    Change,
    EvaluationState,
    Failure,
    Fault,
    Part,
    Purpose,
    Role,
    Tier,
    Usage,
    Verdict,
)
from cxreval.records import SubmissionState as State
from cxreval.resource_names import EvaluationName, SubmissionName
from cxreval.wire import reports
from services.chassis.principal import EVERYBODY, Principal
from services.registry.domain.pages import Cursor
from services.registry.domain.records import NO_SCRIPT, Lease, PredictionBatch, ScriptRun
from services.registry.store import repetitions as repetitions_module
from services.registry.store.parts import Parts
from services.registry.store.repetitions import Repetitions, Schedule
from tests.integration.test_registry_lifecycle import MANIFEST, PARENT, SIGNER, SPEC, Registry
from tests.integration.test_registry_lifecycle import registry as registry  # noqa: PLC0414 - the fixture
from tests.support.registry import report_message, small_images

HOURLY = Schedule(timedelta(hours=1), timedelta(days=30))
BUNDLE = "b" * 64
PUBLIC = Principal("somebody", frozenset({Role.PUBLIC}), "")
CPU = {"device": "cpu", "cpu": "Processor", "inference_runtime": "onnxruntime 1"}


def with_script(manifest: Manifest = MANIFEST) -> Manifest:
    """Returns a manifest that declares a source bundle."""
    assert manifest.reproduction
    given = replace(
        manifest.reproduction, bundle_sha256=BUNDLE, entry_point="reproduce.py", commit="a" * 40
    )
    return replace(manifest, reproduction=given)


def repetitions(registry: Registry, schedule: Schedule = HOURLY) -> Repetitions:
    return Repetitions(registry.database, registry.now, schedule)


def lease(registry: Registry, caller: Principal = EVERYBODY, *, scripts: bool = True) -> Lease:
    found = registry.evaluations.lease("worker", [PARENT], caller, reproduces=scripts)
    assert found
    return found


def named(found: Lease) -> EvaluationName:
    return EvaluationName(SPEC.name, found.submission.id, found.evaluation.id)


def record(registry: Registry, found: Lease, value: float = 0.5) -> None:
    """Records the same value for every image of the evaluation; 0.5 is what measured rows have."""
    images = found.images or tuple(small_images())
    row = np.full(len(SPEC.findings), value, "<f4").tobytes()
    batch = PredictionBatch(tuple(images), (row,) * len(images))
    registry.evaluations.append(named(found), found.token, batch, EVERYBODY)


def published(registry: Registry, manifest: Manifest = MANIFEST) -> SubmissionName:
    """Publishes a row that was measured on a processor."""
    name = registry.create(manifest)
    registry.queue(name)
    found = lease(registry)
    record(registry, found)
    registry.evaluations.complete(
        named(found), found.token, reports.report(report_message(SPEC, 0.8)), CPU, EVERYBODY
    )
    return name


def end(registry: Registry, found: Lease, value: float = 0.5, run: ScriptRun = NO_SCRIPT) -> None:
    record(registry, found, value)
    registry.evaluations.complete(named(found), found.token, None, CPU, EVERYBODY, run)


def upload_bundle(registry: Registry, name: SubmissionName) -> None:
    Parts(registry.database, registry.now).record(
        name, Part.SOURCE_BUNDLE, EVERYBODY, 100, lambda: None
    )


def test_row_is_replayed_an_hour_after_publication_and_each_month_again(registry: Registry) -> None:
    name, due = published(registry), repetitions(registry)
    assert due.queue_due() == 0
    registry.time += timedelta(hours=1)
    assert due.queue_due() == 1
    assert due.queue_due() == 0  # it is queued already
    end(registry, lease(registry))
    first = registry.submissions.get(name, EVERYBODY)
    assert (first.tier, first.state) == (Tier.REPLAYED, State.PUBLISHED)
    assert first.replay
    assert first.replay.verdict is Verdict.AGREES
    assert first.replay.bit_identical
    assert (first.replay.tolerance, first.replay.images) == (0, SPEC.image_count)
    assert due.queue_due() == 0
    registry.time += timedelta(days=30)
    assert due.queue_due() == 1
    assert registry.history(name).count(Change.REPLAYED) == 1


@pytest.mark.parametrize(
    ("schedule", "queued"),
    [(Schedule(None, timedelta(days=1)), [0, 0]), (Schedule(timedelta(0), None), [1, 0])],
)
def test_operator_turns_replays_off_or_has_one_only(
    registry: Registry, schedule: Schedule, queued: list[int]
) -> None:
    published(registry)
    due, counts = repetitions(registry, schedule), []
    for _ in queued:
        counts.append(due.queue_due())
        if counts[-1]:
            end(registry, lease(registry))
        registry.time += timedelta(days=400)
    assert counts == queued


def test_earlier_board_has_the_tier_and_the_agreements_of_its_time(registry: Registry) -> None:
    name = published(registry)
    before = registry.now()
    repetitions(registry, Schedule(timedelta(0), None)).queue_due()
    end(registry, lease(registry))

    def tiers(as_of: datetime | None) -> list[tuple[Tier | None, bool]]:
        rows = registry.boards.rows(PARENT, registry.boards.ranked_rows(PARENT, as_of), as_of)
        return [
            (row.submission.tier, row.submission.replay is not None)
            for row in rows
            if row.submission.id == name.submission
        ]

    assert tiers(before) == [(Tier.EXECUTED, False)]
    assert tiers(registry.now()) == tiers(None) == [(Tier.REPLAYED, True)]


def test_replay_with_another_last_bit_disputes_the_row_in_public(registry: Registry) -> None:
    name, due = published(registry), repetitions(registry, Schedule(timedelta(0), None))
    due.queue_due()
    end(registry, lease(registry), float(np.nextafter(np.float32(0.5), np.float32(1))))
    row = registry.submissions.get(name, PUBLIC)
    assert (row.tier, row.state) == (Tier.EXECUTED, State.DISPUTED)
    assert row.replay
    assert row.replay.verdict is Verdict.DIFFERS
    assert row.replay.max_difference == pytest.approx(6e-8, rel=0.1)
    cursor = Cursor("submissionEvents", str(name), 500)
    event = registry.events.page(name, cursor, PUBLIC).items[-1]
    assert (event.change, event.actor) == (Change.REPLAY_DIFFERED, "registry")
    assert event.details["tolerance"] == "0"
    assert f"contact of {MANIFEST.organisation}" in event.reason
    assert MANIFEST.contact not in event.reason
    assert name.submission in registry.on_board()


def test_replay_on_another_processor_may_differ_within_the_benchmarks_tolerance(
    registry: Registry,
) -> None:
    name = published(registry)
    repetitions(registry, Schedule(timedelta(0), None)).queue_due()
    found = lease(registry)
    record(registry, found, 0.50001)
    other = {**CPU, "cpu": "Another processor"}
    registry.evaluations.complete(named(found), found.token, None, other, EVERYBODY)
    row = registry.submissions.get(name, EVERYBODY)
    assert row.tier is Tier.REPLAYED
    assert row.replay
    assert not row.replay.bit_identical
    assert row.replay.tolerance == SPEC.reproduction_tolerance


def test_receipt_of_a_replayed_row_states_the_agreement_and_verifies(registry: Registry) -> None:
    name = published(registry)
    before = registry.events.receipt(name, EVERYBODY)
    repetitions(registry, Schedule(timedelta(0), None)).queue_due()
    end(registry, lease(registry))
    after = receipts.verify(registry.events.receipt(name, EVERYBODY), SIGNER.public_key)
    assert after["tier"] == "replayed"
    assert after["replay"]["max_difference"] == 0
    earlier = receipts.verify(before, SIGNER.public_key)
    assert earlier["tier"] == "executed"
    assert "replay" not in earlier


def test_replays_wait_until_nothing_else_is_queued(registry: Registry) -> None:
    published(registry)
    repetitions(registry, Schedule(timedelta(0), None)).queue_due()
    registry.queue(registry.create())
    assert lease(registry).evaluation.purpose is Purpose.MEASURE
    assert lease(registry).evaluation.purpose is Purpose.REPLAY


def test_another_worker_replays_a_row_if_one_asked_for_work_lately(registry: Registry) -> None:
    first, second = (
        Principal(f"organisations/lab/keys/{key}", frozenset({Role.WORKER}), "lab")
        for key in ("0", "1")
    )
    name = registry.create()
    registry.queue(name)
    found = lease(registry, first)
    images = tuple(small_images())
    row = np.full(len(SPEC.findings), 0.5, "<f4").tobytes()
    batch = PredictionBatch(images, (row,) * len(images))
    registry.evaluations.append(named(found), found.token, batch, first)
    report = reports.report(report_message(SPEC, 0.8))
    registry.evaluations.complete(named(found), found.token, report, CPU, first)
    repetitions(registry, Schedule(timedelta(0), None)).queue_due()
    assert registry.evaluations.lease("second", [], second, without_images=[PARENT]) is None
    assert registry.evaluations.lease("first", [PARENT], first) is None
    registry.time += timedelta(minutes=11)  # the second worker has gone
    again = registry.evaluations.lease("first", [PARENT], first)
    assert again
    assert again.evaluation.purpose is Purpose.REPLAY


def test_script_is_run_on_images_drawn_after_its_files_came(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repetitions_module, "SAMPLE_IMAGES", 2)
    never = repetitions(registry, Schedule(None, None))
    name = published(registry, with_script())
    assert never.queue_due() == 0  # the source bundle is not stored
    upload_bundle(registry, name)
    assert never.queue_due() == 1
    assert registry.evaluations.lease("worker", [PARENT], EVERYBODY) is None
    found = lease(registry)
    assert found.evaluation.purpose is Purpose.REPRODUCE
    assert len(found.images) == 2
    other = next(image for image in small_images() if image not in found.images)
    row = np.full(len(SPEC.findings), 0.5, "<f4").tobytes()
    with pytest.raises(UnknownImage):
        registry.evaluations.append(
            named(found), found.token, PredictionBatch((other,), (row,)), EVERYBODY
        )
    with pytest.raises(MalformedBatch):
        registry.evaluations.append(
            named(found), found.token, PredictionBatch(found.images[:1], (row[:-4],)), EVERYBODY
        )
    with pytest.raises(MissingImages):
        registry.evaluations.complete(named(found), found.token, None, CPU, EVERYBODY)
    run = ScriptRun(Usage(1.5, 2.0, 3, 4), Usage(60), Canaries(32, 1, 0.25), b"printed")
    end(registry, found, 0.50005, run)
    reproduced = registry.submissions.get(name, EVERYBODY)
    assert reproduced.tier is Tier.REPRODUCED
    assert reproduced.reproduction
    assert (reproduced.reproduction.images, reproduced.reproduction.images_total) == (
        2,
        SPEC.image_count,
    )
    assert (reproduced.reproduction.canaries, reproduced.reproduction.canaries_flagged) == (32, 1)
    evaluation = registry.evaluations.get(named(found), PUBLIC)
    assert evaluation.usage == run.usage
    assert evaluation.limits == run.limits
    assert registry.evaluations.script_output(named(found), EVERYBODY) == b"printed"
    with pytest.raises(OwnerRequired):
        registry.evaluations.script_output(named(found), PUBLIC)
    # The state of the art is then run over all images, once.
    assert never.reproduced_on_samples() == [name]
    never.queue_full(name)
    assert never.reproduced_on_samples() == []
    assert lease(registry).images == ()


def test_script_with_other_numbers_leaves_the_row_executed_and_disputed(registry: Registry) -> None:
    name = published(registry, with_script())
    upload_bundle(registry, name)
    repetitions(registry, Schedule(None, None)).queue_due()
    end(registry, lease(registry), 0.6)
    row = registry.submissions.get(name, PUBLIC)
    assert (row.tier, row.state) == (Tier.EXECUTED, State.DISPUTED)
    assert row.reproduction
    assert row.reproduction.max_difference == pytest.approx(0.1)
    assert registry.history(name)[-1] is Change.NOT_REPRODUCED


def test_script_that_does_not_run_changes_nothing_and_only_its_owner_reads_why(
    registry: Registry,
) -> None:
    name = published(registry, with_script())
    upload_bundle(registry, name)
    repetitions(registry, Schedule(None, None)).queue_due()
    found, before = lease(registry), registry.submissions.get(name, EVERYBODY)
    failure = Failure("SCRIPT_FAILED", "it exited with 1", Fault.SUBMISSION)
    run = ScriptRun(output=b"Traceback")
    registry.evaluations.fail(named(found), found.token, failure, EVERYBODY, run)
    assert registry.submissions.get(name, EVERYBODY) == before
    failed = registry.evaluations.get(named(found), EVERYBODY)
    assert (failed.state, failed.failure) == (EvaluationState.FAILED, failure)
    assert registry.evaluations.script_output(named(found), EVERYBODY) == b"Traceback"
    with pytest.raises(EvaluationNotFound):
        registry.evaluations.get(named(found), PUBLIC)


def test_failure_of_the_platform_is_tried_again_without_an_event(registry: Registry) -> None:
    name = published(registry, with_script())
    upload_bundle(registry, name)
    repetitions(registry, Schedule(None, None)).queue_due()
    history = registry.history(name)
    failure = Failure("SANDBOX_UNAVAILABLE", "no sandbox", Fault.SYSTEM)
    for _ in range(3):
        found = lease(registry)
        registry.evaluations.fail(named(found), found.token, failure, EVERYBODY)
        registry.time += timedelta(hours=1)
    assert registry.evaluations.get(named(found), EVERYBODY).failure == failure
    assert registry.history(name) == history


def test_reproduction_on_request_is_queued_once_and_needs_the_files(registry: Registry) -> None:
    due, name = repetitions(registry), published(registry, with_script())
    with pytest.raises(SubmissionState, match="source_bundle"):
        due.request(name, EVERYBODY, full=True)
    with pytest.raises(SubmissionState, match="no source bundle"):
        due.request(published(registry), EVERYBODY, full=True)
    upload_bundle(registry, name)
    first = due.request(name, EVERYBODY, full=True)
    assert due.request(name, EVERYBODY, full=True).id == first.id
    registry.change(name, Change.WITHDRAWN)
    assert (
        registry.evaluations.get(
            EvaluationName(SPEC.name, name.submission, first.id), EVERYBODY
        ).state
        is EvaluationState.CANCELLED
    )


def test_replay_that_no_worker_finishes_ends_after_a_week(registry: Registry) -> None:
    name, due = published(registry), repetitions(registry, Schedule(timedelta(0), None))
    due.queue_due()
    registry.time += timedelta(days=8)
    due.queue_due()
    assert registry.evaluations.lease("worker", [PARENT], EVERYBODY) is None
    assert registry.submissions.get(name, EVERYBODY).tier is Tier.EXECUTED
