"""Migrations, down and up step by step, of a database with a submission in every state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from alembic import command
from sqlalchemy import func, select

from cxreval.audit import chain
from cxreval.errors import ImageListMissing, PredictionsUnconfirmed
from cxreval.manifest.model import CheckpointFormat, Kind
from cxreval.records import AdminEvent, Change, Failure, Fault, SubmissionState
from cxreval.resource_names import EvaluationName, SubmissionName
from cxreval.wire import reports
from services.chassis.principal import EVERYBODY, Principal
from services.registry import migrations
from services.registry.domain.pages import Cursor
from services.registry.domain.records import PredictionBatch, Submission
from services.registry.store.benchmarks import Benchmarks
from services.registry.store.evaluations import Evaluations
from services.registry.store.models import EvaluationRow, PredictionRow
from services.registry.store.organisations import Organisations
from tests.integration.test_registry_lifecycle import (
    CLAIM,
    ENDPOINT,
    LEASE_SECONDS,
    MANIFEST,
    MAX_ATTEMPTS,
    PARENT,
    SIGNER,
    SPEC,
    Registry,
)
from tests.integration.test_registry_lifecycle import registry as registry  # noqa: PLC0414 - the fixture
from tests.support.registry import record_all, report_message, small_images

State = SubmissionState
STATE_DICT = replace(MANIFEST, format=CheckpointFormat.PYTORCH_STATE_DICT, architecture="resnet50")
PREDICTIONS = replace(MANIFEST, kind=Kind.PREDICTIONS, format=None)
BEFORE_EVENTS = {State.DISPUTED: State.PUBLISHED} | dict.fromkeys(
    (State.SUPERSEDED, State.WITHDRAWN, State.CANCELLED), State.FAILED
)
"""States to which revision 0002 maps those that it does not know."""


def go_to(registry: Registry, revision: str) -> None:
    config = migrations._config()
    with registry.database.engine.begin() as connection:
        config.attributes["connection"] = connection
        (command.upgrade if revision == "head" else command.downgrade)(config, revision)


@pytest.fixture
def filled(registry: Registry) -> Registry:
    """One submission in each state, with predictions, reports, receipts and an audit chain."""
    withdrawn, disputed, superseded, published = (
        registry.published(score) for score in (0.5, 0.6, 0.7, 0.8)
    )
    registry.change(withdrawn, Change.WITHDRAWN)
    registry.change(disputed, Change.DISPUTED)
    registry.change(superseded, Change.SUPERSEDED, successor=published)
    registry.change(published, Change.CORRECTED, corrections={"model": "Right"})
    registry.queue(registry.create())
    lease = registry.evaluations.lease("worker", [PARENT], EVERYBODY)
    assert lease
    name = EvaluationName(SPEC.name, lease.submission.id, lease.evaluation.id)
    registry.evaluations.fail(
        name, lease.token, Failure("BROKEN", "broken", Fault.SUBMISSION), EVERYBODY
    )
    registry.queue(registry.create())
    lease = registry.evaluations.lease("worker", [PARENT], EVERYBODY)
    assert lease
    name = EvaluationName(SPEC.name, lease.submission.id, lease.evaluation.id)
    registry.evaluations.append(
        name,
        lease.token,
        PredictionBatch(("1.png",), (b"\0\0\0\x3f" * len(SPEC.findings),)),
        EVERYBODY,
    )
    registry.queue(registry.create())
    registry.change(registry.create(), Change.CANCELLED)
    registry.create()
    registry.events.chain()
    assert {item.state for item in submissions(registry).values()} == set(State)
    return registry


def submissions(registry: Registry) -> Mapping[str, Submission]:
    found = registry.submissions.page(PARENT, Cursor("submissions", str(PARENT), 500), EVERYBODY)
    return {item.id: item for item in found.items}


def predictions(registry: Registry) -> int:
    with registry.database.reading() as session:
        return session.scalar(select(func.count()).select_from(PredictionRow)) or 0


@pytest.mark.parametrize("revision", ["0006", "0005", "0004", "0003"])
def test_way_back_and_forth_keeps_every_state_event_and_receipt(
    filled: Registry, revision: str
) -> None:
    before, links = submissions(filled), filled.links()
    receipts = {
        item: filled.events.receipt(SubmissionName(SPEC.name, item), EVERYBODY)
        for item, submission in before.items()
        if submission.tier
    }
    go_to(filled, revision)
    assert not migrations.at_head(filled.database.engine)
    go_to(filled, "head")
    assert submissions(filled) == before
    assert filled.links() == links
    assert chain.verify(iter(links)).place == len(links)
    assert {
        item: filled.events.receipt(SubmissionName(SPEC.name, item), EVERYBODY) for item in receipts
    } == receipts


@pytest.fixture
def of_every_kind(filled: Registry) -> Registry:
    """`filled`, with an endpoint, a claim, a state dict and a table of predictions."""
    for manifest in (ENDPOINT, CLAIM, STATE_DICT):
        filled.create(manifest)
    filled.create(PREDICTIONS)
    filled.events.chain()
    return filled


@pytest.mark.parametrize("revision", ["0010", "0008", "0007"])
def test_way_back_and_forth_keeps_what_every_kind_declares(
    of_every_kind: Registry, revision: str
) -> None:
    before, links = submissions(of_every_kind), of_every_kind.links()
    go_to(of_every_kind, revision)
    go_to(of_every_kind, "head")
    assert submissions(of_every_kind) == before
    assert of_every_kind.links() == links


def test_way_back_beyond_the_kinds_makes_checkpoints_of_all_but_claims(
    of_every_kind: Registry,
) -> None:
    before = submissions(of_every_kind)
    go_to(of_every_kind, "0006")
    go_to(of_every_kind, "head")
    after = submissions(of_every_kind)
    assert {item: found.state for item, found in after.items()} == {
        item: found.state for item, found in before.items()
    }
    assert {item: found.kind for item, found in after.items()} == {
        item: Kind.CLAIM if found.kind is Kind.CLAIM else Kind.CHECKPOINT
        for item, found in before.items()
    }


@pytest.mark.parametrize("revision", ["0002", "0001"])
def test_way_back_beyond_the_events_keeps_every_submission_in_a_near_state(
    filled: Registry, revision: str
) -> None:
    before, recorded = submissions(filled), predictions(filled)
    go_to(filled, revision)
    go_to(filled, "head")
    after = submissions(filled)
    assert {item: found.state for item, found in after.items()} == {
        item: BEFORE_EVENTS.get(found.state, found.state) for item, found in before.items()
    }
    assert {item: found.original for item, found in after.items()} == {
        item: found.original for item, found in before.items()
    }
    assert predictions(filled) == recorded
    filled.events.chain()
    assert chain.verify(iter(filled.links())).place >= len(after)
    # A queued evaluation is still queued.
    assert filled.evaluations.lease("worker", [PARENT], EVERYBODY)


def test_new_rule_for_steps_is_recorded_once_where_rows_with_evidence_are(
    registry: Registry,
) -> None:
    registry.create(CLAIM)
    go_to(registry, "0013")
    go_to(registry, "head")
    assert rule_changes(registry) == []
    registry.published()
    for _ in range(2):
        go_to(registry, "0013")
        assert rule_changes(registry) == []
        before = datetime.now(UTC)
        go_to(registry, "head")
        go_to(registry, "head")
        (event,) = rule_changes(registry)
        assert before <= event.time <= datetime.now(UTC)


def rule_changes(registry: Registry) -> list[AdminEvent]:
    events = Organisations(registry.database, registry.now).admin_events()
    return [event for event in events if event.action == "steps_by_publication"]


def test_predictions_of_a_running_evaluation_of_an_old_database_are_confirmed_or_dropped(
    filled: Registry,
) -> None:
    running = next(item for item in submissions(filled).values() if item.state is State.RUNNING)
    go_to(filled, "0010")
    go_to(filled, "head")
    assert running.evaluation
    name = EvaluationName(SPEC.name, running.id, running.evaluation)
    with filled.database.reading() as session:
        query = select(EvaluationRow).where(EvaluationRow.id == name.evaluation)
        row = session.scalars(query).one()
    # The lease has no owner, so it is valid with any key; its own rows count as unconfirmed, too.
    token, other = row.lease_token or "", Principal("another key", frozenset())
    evaluations = Evaluations(
        filled.database, filled.now, SIGNER, LEASE_SECONDS, MAX_ATTEMPTS
    )  # as after the restart
    report = reports.report(report_message(SPEC))
    (batch,) = evaluations.predictions(name, token, 10, other)
    assert batch.attempts == (0,)
    with pytest.raises(ImageListMissing, match="cxreval dataset register"):
        evaluations.append(name, token, batch, other)
    Benchmarks(filled.database, filled.now).record_images(PARENT, small_images())
    record_all(evaluations, name, token)
    with pytest.raises(PredictionsUnconfirmed, match="attempt 0 "):
        evaluations.complete(name, token, report, {}, other)
    assert evaluations.drop(name, token, 0, other) == 1
    record_all(evaluations, name, token)
    assert evaluations.complete(name, token, report, {}, other).report == report
