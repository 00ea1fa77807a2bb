"""The life cycle of submissions on both databases: states, audit chain, receipts, past boards."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select, text
from sqlalchemy.exc import DataError, IntegrityError

from cxreval.audit import chain, receipts
from cxreval.audit.receipts import Signer
from cxreval.errors import (
    AuditMismatch,
    CxrevalError,
    LeaseLost,
    MalformedField,
    ReceiptNotFound,
    RequestIdReused,
    StaleEtag,
    SubmissionState,
)
from cxreval.manifest.model import Endpoint, Kind, Manifest
from cxreval.records import Change, Failure, Fault
from cxreval.records import SubmissionState as State
from cxreval.resource_names import BenchmarkName, EvaluationName, SubmissionName
from cxreval.wire import reports
from services.chassis.principal import EVERYBODY
from services.registry import migrations
from services.registry.convert import submissions
from services.registry.domain.board import sota_steps
from services.registry.domain.pages import Cursor
from services.registry.domain.records import ENDED, ON_BOARD, ChangeRequest, Submission
from services.registry.domain.states import DEADLINES, TRANSITIONS
from services.registry.store.benchmarks import Benchmarks
from services.registry.store.boards import Boards
from services.registry.store.database import Database
from services.registry.store.evaluations import Evaluations
from services.registry.store.events import Events
from services.registry.store.lifecycle import Lifecycle
from services.registry.store.models import EventRow
from services.registry.store.submissions import Submissions
from tests.support.registry import (
    DATABASES,
    fresh_database,
    manifest_message,
    record_all,
    report_message,
    small_images,
    small_spec,
)

SPEC = small_spec("small")
PARENT = BenchmarkName(SPEC.name)
MANIFEST = submissions.manifest(manifest_message(b"artifact"))
SIGNER = Signer(Ed25519PrivateKey.generate())
CLAIM = replace(MANIFEST, kind=Kind.CLAIM, format=None, artifact_sha256="")
ENDPOINT = replace(
    CLAIM, kind=Kind.ENDPOINT, endpoint=Endpoint("models.example.org:443", True, "m", 1.0)
)
LEASE_SECONDS, MAX_ATTEMPTS = 60.0, 3
ASKED = (
    Change.CANCELLED,
    Change.RETRIED,
    Change.WITHDRAWN,
    Change.REINSTATED,
    Change.DISPUTED,
    Change.RESOLVED,
)


class Registry:
    """All stores over one database, and their clock."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.time = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
        self.submissions = Submissions(database, self.now, SIGNER)
        self.evaluations = Evaluations(database, self.now, SIGNER, LEASE_SECONDS, MAX_ATTEMPTS)
        self.lifecycle = Lifecycle(database, self.now, SIGNER)
        self.events = Events(database)
        self.boards = Boards(database)
        benchmarks = Benchmarks(database, self.now)
        benchmarks.create(SPEC)
        benchmarks.record_images(PARENT, small_images())

    def now(self) -> datetime:
        self.time += timedelta(milliseconds=1)
        return self.time

    def create(self, manifest: Manifest = MANIFEST) -> SubmissionName:
        created = self.submissions.create(PARENT, manifest, "", EVERYBODY)
        return SubmissionName(SPEC.name, created.id)

    def queue(self, name: SubmissionName) -> Submission:
        return self.submissions.queue(name, EVERYBODY, 8, lambda: None)

    def complete(self, score: float = 0.8) -> None:
        lease = self.evaluations.lease("worker", [PARENT], EVERYBODY)
        assert lease
        name = EvaluationName(SPEC.name, lease.submission.id, lease.evaluation.id)
        record_all(self.evaluations, name, lease.token)
        self.evaluations.complete(
            name, lease.token, reports.report(report_message(SPEC, score)), {}, EVERYBODY
        )

    def published(self, score: float = 0.8) -> SubmissionName:
        name = self.create()
        self.queue(name)
        self.complete(score)
        return name

    def change(self, name: SubmissionName, change: Change, **more: Any) -> Submission:
        return self.lifecycle.change(name, ChangeRequest(change, "because", **more), EVERYBODY)

    def history(self, name: SubmissionName) -> list[Change]:
        cursor = Cursor("submissionEvents", str(name), 500)
        return [event.change for event in self.events.page(name, cursor, EVERYBODY).items]

    def on_board(self, as_of: datetime | None = None) -> list[str]:
        return [row.submission for row in self.boards.ranked_rows(PARENT, as_of)]

    def links(self) -> list[chain.AuditEvent]:
        return [link for links in self.events.links(0, 100, EVERYBODY) for link in links]


@pytest.fixture(params=DATABASES)
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registry]:
    database = Database(fresh_database(request.param, tmp_path))
    migrations.upgrade(database.engine)
    yield Registry(database)
    database.close()


# --- the state machine ----------------------------------------------------------------------------


class Life(RuleBasedStateMachine):
    """A state machine of random actions, checked against a model of the transition table."""

    registry: Registry

    def __init__(self) -> None:
        super().__init__()
        self.states: dict[SubmissionName, State] = {}
        self.kinds: dict[SubmissionName, Kind] = {}
        self.stored: set[SubmissionName] = set()
        self.versions: dict[SubmissionName, int] = {}
        self.leases: list[tuple[EvaluationName, str]] = []
        self.newest: dict[EvaluationName, str] = {}
        self.attempts: Counter[SubmissionName] = Counter()
        self.waits: dict[SubmissionName, datetime] = {}

    def names(self) -> list[SubmissionName]:
        return list(self.states)

    def moved(self, name: SubmissionName, change: Change) -> None:
        to = TRANSITIONS[self.states[name]][change]
        if change is Change.RETRIED and name not in self.stored:
            to = State.AWAITING_ARTIFACT
        if change is Change.RETRIED:
            self.attempts[name] = 0
            self.waits.pop(name, None)
        self.states[name] = to
        self.versions[name] += 1

    @rule(kind=st.sampled_from([Kind.CHECKPOINT, Kind.CHECKPOINT, Kind.ENDPOINT, Kind.CLAIM]))
    @precondition(lambda self: len(self.states) < 4)
    def create(self, kind: Kind) -> None:
        name = self.registry.create(
            {Kind.CHECKPOINT: MANIFEST, Kind.ENDPOINT: ENDPOINT, Kind.CLAIM: CLAIM}[kind]
        )
        self.states[name], self.versions[name] = State.AWAITING_ARTIFACT, 1
        self.kinds[name] = kind
        if kind is not Kind.CHECKPOINT:
            self.moved(name, Change.QUEUED if kind is Kind.ENDPOINT else Change.PUBLISHED)
            self.stored.add(name)

    @rule(data=st.data())
    @precondition(lambda self: self.states)
    def upload(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.names()))
        if self.states[name] is State.AWAITING_ARTIFACT:
            self.registry.queue(name)
            self.stored.add(name)
            self.moved(name, Change.QUEUED)
        else:
            with pytest.raises(SubmissionState):
                self.registry.queue(name)

    @rule(data=st.data(), change=st.sampled_from(ASKED))
    @precondition(lambda self: self.states)
    def ask(self, data: st.DataObject, change: Change) -> None:
        name = data.draw(st.sampled_from(self.names()))
        if change in TRANSITIONS[self.states[name]]:
            self.registry.change(name, change)
            self.moved(name, change)
        else:
            with pytest.raises(SubmissionState):
                self.registry.change(name, change)

    @rule(data=st.data())
    @precondition(lambda self: len(self.states) > 1)
    def supersede(self, data: st.DataObject) -> None:
        name, successor = data.draw(st.permutations(self.names()))[:2]
        claims = {self.kinds[name] is Kind.CLAIM, self.kinds[successor] is Kind.CLAIM}
        possible = (
            Change.SUPERSEDED in TRANSITIONS[self.states[name]]
            and self.states[successor] in ON_BOARD
        )
        if possible and len(claims) == 1:
            found = self.registry.change(name, Change.SUPERSEDED, successor=successor)
            assert found.superseded_by == successor.submission
            self.moved(name, Change.SUPERSEDED)
        else:
            with pytest.raises((SubmissionState, MalformedField)):
                self.registry.change(name, Change.SUPERSEDED, successor=successor)

    @rule(data=st.data(), model=st.sampled_from(["One name", "Another name"]))
    @precondition(lambda self: self.states)
    def correct(self, data: st.DataObject, model: str) -> None:
        name = data.draw(st.sampled_from(self.names()))
        if Change.CORRECTED in TRANSITIONS[self.states[name]]:
            assert (
                self.registry.change(
                    name, Change.CORRECTED, corrections={"model": model}
                ).manifest.model
                == model
            )
            self.moved(name, Change.CORRECTED)
        else:
            with pytest.raises(SubmissionState):
                self.registry.change(name, Change.CORRECTED, corrections={"model": model})

    @rule()
    def lease(self) -> None:
        found = self.registry.evaluations.lease("worker", [PARENT], EVERYBODY)
        if found is None:
            queued = [name for name, state in self.states.items() if state is State.QUEUED]
            assert all(self.waits[name] > self.registry.time for name in queued)
            return
        name = SubmissionName(SPEC.name, found.submission.id)
        assert self.attempts[name] < MAX_ATTEMPTS
        self.moved(name, Change.LEASED)
        self.attempts[name] += 1
        evaluation = EvaluationName(SPEC.name, name.submission, found.evaluation.id)
        self.leases.append((evaluation, found.token))
        self.newest[evaluation] = found.token

    @rule(data=st.data(), how=st.sampled_from([*Fault, "complete"]))
    @precondition(lambda self: self.leases)
    def end(self, data: st.DataObject, how: str) -> None:
        evaluation, token = data.draw(st.sampled_from(self.leases))
        self.leases.remove((evaluation, token))
        name = SubmissionName(evaluation.benchmark, evaluation.submission)
        try:
            if how == "complete":
                report = reports.report(report_message(SPEC, 0.8))
                record_all(self.registry.evaluations, evaluation, token)
                self.registry.evaluations.complete(evaluation, token, report, {}, EVERYBODY)
            else:
                self.registry.evaluations.fail(
                    evaluation, token, Failure("BROKEN", "it broke", Fault(how)), EVERYBODY
                )
        except LeaseLost:
            goes_on = self.registry.evaluations.get(evaluation, EVERYBODY).state == "running"
            assert not (goes_on and self.newest[evaluation] == token)
            return
        if how == "complete":
            self.moved(name, Change.PUBLISHED)
        elif how == Fault.SYSTEM and self.attempts[name] < MAX_ATTEMPTS:
            self.moved(name, Change.RETURNED)
            self.waits[name] = self.registry.time + timedelta(seconds=LEASE_SECONDS)
        else:
            self.moved(name, Change.FAILED)

    @rule()
    def time_passes(self) -> None:
        """Advances beyond every deadline: every state that only another party can end then ends."""
        self.registry.time += max(DEADLINES.values())
        self.registry.evaluations.reclaim_expired_leases()
        self.registry.lifecycle.expire()
        for name, state in self.states.items():
            if state in ENDED:
                continue
            if state is not State.RUNNING:
                self.moved(name, Change.EXPIRED)
            elif self.attempts[name] < MAX_ATTEMPTS:
                self.moved(name, Change.LEASE_EXPIRED)  # the worker died; it is queued again
            else:
                self.moved(name, Change.FAILED)

    @invariant()
    def what_is_stored_is_what_the_model_says(self) -> None:
        for name, state in self.states.items():
            found = self.registry.submissions.get(name, EVERYBODY)
            assert (found.state, found.version) == (state, self.versions[name])
            history = self.registry.history(name)
            assert len(history) == found.version
            assert history[0] is Change.CREATED
        on_board = {name.submission for name, state in self.states.items() if state in ON_BOARD}
        assert set(self.registry.on_board()) == on_board

    def teardown(self) -> None:
        head = self.registry.events.chain()
        links = self.registry.links()
        assert chain.verify(links) == head
        assert head.place == sum(self.versions.values())


@pytest.mark.parametrize("kind", DATABASES)
def test_life_of_submissions_follows_the_table_of_moves(kind: str, tmp_path: Path) -> None:
    counter = iter(range(10_000))

    class Here(Life):
        def __init__(self) -> None:
            super().__init__()
            directory = tmp_path / str(next(counter))
            directory.mkdir()
            self.registry = _empty(kind, directory)

        def teardown(self) -> None:
            super().teardown()
            self.registry.database.close()

    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    # Without shrinking, which takes minutes; the failed steps are printed anyway.
    how = settings(max_examples=12, stateful_step_count=25, deadline=None, phases=[Phase.generate])
    run_state_machine_as_test(Here, settings=settings(how, suppress_health_check=checks))


def _empty(kind: str, directory: Path) -> Registry:
    database = Database(fresh_database(kind, directory))
    migrations.upgrade(database.engine)
    return Registry(database)


# --- what is asked for ----------------------------------------------------------------------------


def test_worker_of_a_cancelled_submission_has_lost_its_lease(registry: Registry) -> None:
    name = registry.create()
    registry.queue(name)
    lease = registry.evaluations.lease("worker", [PARENT], EVERYBODY)
    assert lease

    registry.change(name, Change.CANCELLED)

    with pytest.raises(LeaseLost, match="it is cancelled"):
        registry.evaluations.renew(
            EvaluationName(SPEC.name, name.submission, lease.evaluation.id), lease.token, EVERYBODY
        )
    again = registry.change(name, Change.RETRIED)
    assert (again.state, again.evaluation != lease.evaluation.id) == (State.QUEUED, True)


def test_stale_etag_and_reused_request_id_are_refused_and_change_nothing(
    registry: Registry,
) -> None:
    name = registry.published()
    seen = registry.submissions.get(name, EVERYBODY).version

    registry.change(name, Change.DISPUTED, etag=seen, request_id="a" * 32)
    with pytest.raises(StaleEtag):
        registry.change(name, Change.WITHDRAWN, etag=seen)
    again = registry.change(name, Change.DISPUTED, etag=seen, request_id="a" * 32)
    with pytest.raises(RequestIdReused):
        registry.change(name, Change.WITHDRAWN, request_id="a" * 32)

    assert (again.version, again.state) == (seen + 1, State.DISPUTED)
    assert registry.history(name)[-1] is Change.DISPUTED


def test_lease_of_a_dead_worker_is_taken_back_after_twice_its_length(registry: Registry) -> None:
    name = registry.create()
    registry.queue(name)
    registry.evaluations.lease("worker", [PARENT], EVERYBODY)

    registry.time += timedelta(seconds=1.5 * LEASE_SECONDS)
    assert registry.evaluations.reclaim_expired_leases() == 0
    registry.time += timedelta(seconds=LEASE_SECONDS)
    assert registry.evaluations.reclaim_expired_leases() == 1

    assert registry.submissions.get(name, EVERYBODY).state is State.QUEUED
    assert registry.history(name)[-1] is Change.LEASE_EXPIRED


def test_upload_that_never_comes_ends_with_its_cause(registry: Registry) -> None:
    name = registry.create()
    registry.time += timedelta(days=1)

    assert registry.lifecycle.expire() == 1

    found = registry.submissions.get(name, EVERYBODY)
    assert found.failure == Failure(
        "UPLOAD_EXPIRED", "its artifact was not uploaded within a day", Fault.SUBMISSION
    )
    assert registry.change(name, Change.RETRIED).state is State.AWAITING_ARTIFACT


def test_queue_without_a_worker_ends_as_the_platforms_fault(registry: Registry) -> None:
    name = registry.create()
    registry.queue(name)
    registry.time += timedelta(days=7)

    assert registry.lifecycle.expire() == 1

    assert registry.submissions.get(name, EVERYBODY).failure == Failure(
        "NO_WORKER", "no worker took it within 7 days", Fault.SYSTEM
    )
    assert registry.evaluations.lease("late", [PARENT], EVERYBODY) is None


def test_run_that_is_kept_for_a_day_ends_and_its_worker_loses_the_lease(registry: Registry) -> None:
    name = registry.create()
    registry.queue(name)
    lease = registry.evaluations.lease("worker", [PARENT], EVERYBODY)
    assert lease
    evaluation = EvaluationName(SPEC.name, name.submission, lease.evaluation.id)
    for _ in range(24):
        assert registry.lifecycle.expire() == 0
        registry.evaluations.renew(evaluation, lease.token, EVERYBODY)
        registry.time += timedelta(hours=1)

    assert registry.lifecycle.expire() == 1

    found = registry.submissions.get(name, EVERYBODY).failure
    assert found == Failure(
        "EVALUATION_EXPIRED", "its evaluation did not end within a day", Fault.SYSTEM
    )
    with pytest.raises(LeaseLost):
        registry.evaluations.renew(evaluation, lease.token, EVERYBODY)


def test_time_left_is_estimated_from_the_pace_of_the_lease(registry: Registry) -> None:
    from services.registry.domain.records import PredictionBatch

    name = registry.create()
    registry.queue(name)
    lease = registry.evaluations.lease("worker", [PARENT], EVERYBODY)
    assert lease
    assert registry.submissions.get(name, EVERYBODY).seconds_left is None

    registry.time += timedelta(seconds=30)
    row = b"\0\0\0\x3f" * len(SPEC.findings)
    evaluation = EvaluationName(SPEC.name, name.submission, lease.evaluation.id)
    registry.evaluations.append(
        evaluation, lease.token, PredictionBatch(("0.png",), (row,)), EVERYBODY
    )

    assert registry.submissions.get(name, EVERYBODY).seconds_left == pytest.approx(90, rel=0.01)


# --- the board of the past ------------------------------------------------------------------------


def test_board_as_of_a_moment_is_the_board_of_then(registry: Registry) -> None:
    first, second = registry.published(0.8), registry.published(0.9)
    before = registry.now()
    registry.change(second, Change.WITHDRAWN)
    registry.change(
        first, Change.CORRECTED, corrections={"model": "Right name", "open_source": False}
    )
    registry.change(first, Change.DISPUTED)

    assert registry.on_board() == [first.submission]
    assert registry.on_board(before) == [second.submission, first.submission]
    rows = registry.boards.rows(PARENT, registry.boards.ranked_rows(PARENT, before), before)
    assert [row.submission.manifest.model for row in rows] == ["Model", "Model"]
    assert {row.submission.state for row in rows} == {State.PUBLISHED}
    (now,) = registry.boards.rows(PARENT, registry.boards.ranked_rows(PARENT))
    assert (now.submission.manifest.model, now.submission.manifest.open_source) == (
        "Right name",
        False,
    )
    assert now.submission.state is State.DISPUTED
    assert registry.on_board(datetime(2025, 1, 1, tzinfo=UTC)) == []


@pytest.mark.parametrize("declared", ["2010-01", ""])
def test_declared_date_of_a_row_with_evidence_moves_no_step(
    registry: Registry, declared: str
) -> None:
    names = [registry.published(score) for score in (0.6, 0.7)]
    backdated = registry.create(replace(MANIFEST, submitted_date=declared))
    registry.queue(backdated)
    registry.complete(0.65)
    better = registry.published(0.8)
    order = registry.boards.ranked_rows(PARENT)
    steps = [row.submission for row in sota_steps(order)]
    assert steps == [name.submission for name in (*names, better)]
    assert backdated.submission in {row.submission for row in order}


def test_a_worker_without_the_images_of_a_benchmark_is_leased_its_tables_only(
    registry: Registry,
) -> None:
    table = replace(MANIFEST, kind=Kind.PREDICTIONS, format=None)
    names = [registry.create(manifest) for manifest in (MANIFEST, table, ENDPOINT, table)]
    for name, manifest in zip(names, (MANIFEST, table, ENDPOINT, table), strict=True):
        if manifest is not ENDPOINT:
            registry.queue(name)

    def lease(*benchmarks: BenchmarkName, without: Sequence[BenchmarkName] = ()) -> str:
        found = registry.evaluations.lease(
            "worker", benchmarks, EVERYBODY, converts=True, without_images=without
        )
        return found.submission.id if found else ""

    assert lease(without=[BenchmarkName("another")]) == ""
    assert lease(without=[PARENT]) == names[1].submission
    assert lease(without=[PARENT]) == names[3].submission
    assert lease(without=[PARENT]) == ""
    registry.time += timedelta(seconds=2 * LEASE_SECONDS)
    # Expired leases, too.
    assert lease(without=[PARENT]) == names[1].submission
    assert {lease(PARENT, without=[PARENT]) for _ in range(3)} == {
        name.submission for name in names if name != names[1]
    }
    assert lease(PARENT, without=[PARENT]) == ""


def test_a_row_that_was_taken_off_the_board_counts_from_its_return(registry: Registry) -> None:
    first, second = registry.published(0.7), registry.published(0.6)
    assert steps_of(registry) == [first]
    times = publish_times(registry)
    for change in (Change.DISPUTED, Change.CORRECTED, Change.RESOLVED):
        registry.change(first, change, corrections={"model": "Right"})
        assert publish_times(registry) == times
    registry.change(first, Change.WITHDRAWN)
    assert steps_of(registry) == [second]
    before = registry.now()
    registry.change(first, Change.REINSTATED)
    assert steps_of(registry) == [second, first]
    after = publish_times(registry)
    assert after == {**times, first: after[first]}
    assert after[first] > before
    assert steps_of(registry, before) == [second]
    registry.change(second, Change.SUPERSEDED, successor=first)
    registry.change(second, Change.REINSTATED)
    assert steps_of(registry) == [first]


def steps_of(registry: Registry, as_of: datetime | None = None) -> list[SubmissionName]:
    order = registry.boards.ranked_rows(PARENT, as_of)
    return [SubmissionName(SPEC.name, row.submission) for row in sota_steps(order)]


def publish_times(registry: Registry) -> dict[SubmissionName, datetime]:
    return {
        SubmissionName(SPEC.name, row.submission): row.publish_time
        for row in registry.boards.ranked_rows(PARENT)
    }


def test_history_of_a_board_lists_its_changes(registry: Registry) -> None:
    name = registry.published()
    registry.change(name, Change.DISPUTED)
    registry.change(name, Change.RESOLVED)

    page = registry.events.board_changes(PARENT, Cursor("leaderboardChanges", str(PARENT), 2))

    assert [event.change for event in page.items] == [Change.PUBLISHED, Change.DISPUTED]
    newest = registry.events.board_changes(
        PARENT, Cursor("leaderboardChanges", str(PARENT), 500), newest_first=True
    )
    oldest = registry.events.board_changes(PARENT, Cursor("leaderboardChanges", str(PARENT), 500))
    assert newest.items == oldest.items[::-1]
    assert len(newest.items) > 2
    rest = registry.events.board_changes(
        PARENT, Cursor.parse("leaderboardChanges", str(PARENT), 2, page.next_token)
    )
    assert [event.change for event in rest.items] == [Change.RESOLVED]


# --- audit ----------------------------------------------------------------------------------------


def test_every_flipped_value_of_the_event_table_is_found(registry: Registry) -> None:
    name = registry.published()
    registry.change(
        name, Change.CORRECTED, corrections={"model": "Right name"}, request_id="b" * 32
    )
    head = registry.events.chain()
    assert chain.verify(registry.links()) == head
    columns = [column.name for column in EventRow.__table__.columns]

    for position in range(1, head.place + 1):
        for column in columns:
            for original, changed in _flips(registry.database, position, column):
                try:
                    _store(registry.database, position, column, changed)
                except (DataError, IntegrityError):
                    continue  # a constraint of the database refuses the change
                assert _verdict(registry, head) != "good", (position, column, original, changed)
                _store(registry.database, position, column, original)
    assert _verdict(registry, head) == "good"


def test_every_character_of_every_text_of_an_event_counts(registry: Registry) -> None:
    name = registry.published()
    registry.change(
        name, Change.CORRECTED, corrections={"model": "Right name"}, request_id="b" * 32
    )
    head, links = registry.events.chain(), registry.links()
    tried = 0
    for index, link in enumerate(links):
        for changed in _misspelt(link):
            with pytest.raises(AuditMismatch):
                chain.verify([*links[:index], changed, *links[index + 1 :]])
            tried += 1
    assert tried > 1000
    assert chain.verify(links) == head


def _misspelt(link: chain.AuditEvent) -> Iterator[chain.AuditEvent]:
    """Copies of an event, each with one character of one of its texts changed."""
    for field, value in asdict(link).items():
        if isinstance(value, str):
            yield from (replace(link, **{field: other}) for other in _flipped(value))
    for key, value in link.details.items():
        yield from (
            replace(link, details={**link.details, key: other}) for other in _flipped(value)
        )


def _flipped(text: str) -> Iterator[str]:
    for at, letter in enumerate(text):
        yield text[:at] + chr(ord(letter) ^ 1) + text[at + 1 :]


def _verdict(registry: Registry, head: chain.Head) -> str:
    try:
        return "good" if chain.verify(registry.links()) == head else "another head"
    except CxrevalError as error:
        return error.reason


def _flips(database: Database, position: int, column: str) -> list[tuple[Any, Any]]:
    """A stored value, with copies in which one bit is flipped."""
    with database.reading() as session:
        value = session.scalar(
            text(f"SELECT {column} FROM events WHERE place = :position"), {"position": position}
        )
    match value:
        case None | "":
            changed: list[Any] = ["x"]
        case int():
            changed = [value ^ 1, value ^ (1 << 10)] if column != "place" else []
        case datetime():
            changed = [value + timedelta(microseconds=1)]
        case _:
            offsets = {0, len(value) // 2, len(value) - 1}
            changed = [
                value[:offset] + chr(ord(value[offset]) ^ bit) + value[offset + 1 :]
                for offset in sorted(offsets)
                for bit in (1, 32)
            ]
    return [(value, other) for other in changed]


def _store(database: Database, position: int, column: str, value: Any) -> None:
    with database.writing() as session:
        statement = text(f"UPDATE events SET {column} = :value WHERE place = :position")
        session.execute(statement, {"value": value, "position": position})


@pytest.mark.parametrize("damage", ["DELETE FROM events WHERE place = 2", "reorder", "cut"])
def test_missing_and_reordered_events_are_found(registry: Registry, damage: str) -> None:
    registry.create()
    registry.create()
    registry.create()
    head = registry.events.chain()
    if damage == "cut":
        damage = f"DELETE FROM events WHERE place = {head.place}"
    with registry.database.writing() as session:
        if damage == "reorder":
            for old, new in ((1, -1), (2, 1), (-1, 2)):
                session.execute(text(f"UPDATE events SET place = {new} WHERE place = {old}"))
        else:
            session.execute(text(damage))

    if damage.endswith(str(head.place)):
        assert chain.verify(registry.links()) != head, (
            "only who kept the head can know of a cut end"
        )
    else:
        with pytest.raises(AuditMismatch, match=r"the audit chain breaks at event [12]"):
            chain.verify(registry.links())


def test_chain_is_verified_from_an_earlier_head(registry: Registry) -> None:
    name = registry.published()
    kept = registry.events.chain()
    registry.change(name, Change.WITHDRAWN)
    head = registry.events.chain()

    later = [link for links in registry.events.links(kept.place, 100, EVERYBODY) for link in links]

    assert chain.verify(later, kept) == head


def test_receipt_of_a_row_verifies_offline_and_the_chain_vouches_for_it(registry: Registry) -> None:
    import hashlib

    draft = registry.create()
    with pytest.raises(ReceiptNotFound):
        registry.events.receipt(draft, EVERYBODY)
    registry.change(draft, Change.CANCELLED)
    name = registry.published(0.8)
    first = registry.events.receipt(name, EVERYBODY)
    registry.change(name, Change.CORRECTED, corrections={"model": "Right name"})
    second = registry.events.receipt(name, EVERYBODY)

    content = receipts.verify(first, SIGNER.public_key)
    assert (content["submission"], content["score"], content["model"]) == (str(name), 0.8, "Model")
    assert content["benchmark_digest"] == SPEC.digest
    assert receipts.verify(second, SIGNER.public_key)["model"] == "Right name"
    assert registry.events.receipt(name, EVERYBODY, content["version"]) == first
    with registry.database.reading() as session:
        vouched = [row.details.get("receipt_sha256") for row in session.scalars(select(EventRow))]
    assert {hashlib.sha256(receipt.payload).hexdigest() for receipt in (first, second)} <= set(
        vouched
    )


def test_every_flipped_bit_of_a_receipt_file_is_found(registry: Registry) -> None:
    file = registry.events.receipt(registry.published(), EVERYBODY).to_file()
    assert receipts.verify(receipts.Receipt.from_file(file), SIGNER.public_key)
    for offset in range(len(file)):
        for bit in (1, 8, 32, 128):
            changed = file[:offset] + bytes((file[offset] ^ bit,)) + file[offset + 1 :]
            with pytest.raises(CxrevalError):
                receipts.verify(receipts.Receipt.from_file(changed), SIGNER.public_key)


def test_receipt_of_another_key_is_refused(registry: Registry) -> None:
    receipt = registry.events.receipt(registry.published(), EVERYBODY)
    other = Signer(Ed25519PrivateKey.generate())
    with pytest.raises(CxrevalError, match="the signature does not match the receipt"):
        receipts.verify(receipt, other.public_key)
    assert json.loads(receipt.payload)["kind"] == "checkpoint"
