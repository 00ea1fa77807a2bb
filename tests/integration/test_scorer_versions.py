"""A new scorer version leaves a living registry as it is and gets a benchmark of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cxreval.audit.receipts import Signer
from cxreval.datasets import benchmark_file
from cxreval.datasets.benchmark import BenchmarkSpec, ranked_by
from cxreval.datasets.benchmark_file import load_spec, packaged_names
from cxreval.errors import ReportMismatch
from cxreval.metrics.registry import METRICS, Direction, Metric
from cxreval.metrics.scorers import SCORERS, Scorer
from cxreval.resource_names import BenchmarkName, EvaluationName, SubmissionName
from cxreval.wire import reports
from services.chassis.principal import EVERYBODY
from services.registry import migrations
from services.registry.__main__ import migrate
from services.registry.convert import submissions
from services.registry.domain import seed
from services.registry.store.benchmarks import Benchmarks
from services.registry.store.boards import Boards
from services.registry.store.database import Database
from services.registry.store.evaluations import Evaluations
from services.registry.store.submissions import Submissions
from tests.support.registry import (
    manifest_message,
    record_all,
    report_message,
    small_images,
    small_spec,
)

SIGNER = Signer(Ed25519PrivateKey.generate())
MANIFEST = submissions.manifest(manifest_message(b"artifact"))
NIH = BenchmarkName(seed.BENCHMARK)


def now() -> datetime:
    return datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'registry.db'}")
    migrate(opened, SIGNER)
    yield opened
    opened.close()


@pytest.fixture
def version_3(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next release: a scorer with another metric, which the NIH benchmark does not have."""
    misses = Metric(
        "misses", "misses", Direction.LOWER_IS_BETTER, "Share of positives below 0.5.", "-", False,
        lambda scores, positive: float((scores[positive] < 0.5).mean()) if positive.any() else None,
    )  # fmt: skip
    monkeypatch.setitem(METRICS, misses.name, misses)
    monkeypatch.setitem(SCORERS, "3", Scorer({**SCORERS["2"].metrics, "misses": misses}, "auroc"))


def publish(database: Database, spec: BenchmarkSpec, score: float) -> str:
    """Runs a submission to its published row; returns its id."""
    stores = Submissions(database, now, SIGNER)
    evaluations = Evaluations(database, now, SIGNER, 60.0, 3)
    parent = BenchmarkName(spec.name)
    created = stores.create(parent, MANIFEST, "", EVERYBODY)
    stores.queue(SubmissionName(spec.name, created.id), EVERYBODY, 8, lambda: None)
    lease = evaluations.lease("worker", [parent], EVERYBODY)
    assert lease
    name = EvaluationName(spec.name, created.id, lease.evaluation.id)
    report = reports.report(report_message(spec, score))
    Benchmarks(database, now).record_images(parent, small_images(spec.image_count))
    record_all(evaluations, name, lease.token, spec.image_count)
    evaluations.complete(name, lease.token, report, {}, EVERYBODY)
    return created.id


def board(database: Database, spec: BenchmarkSpec) -> list[tuple[str, int | None, float | None]]:
    rows = Boards(database).ranked_rows(BenchmarkName(spec.name))
    return [(row.submission, row.ranked.rank, row.score) for row in rows]


def test_a_new_version_starts_on_a_living_registry_and_changes_no_board(
    database: Database, version_3: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    nih, old = load_spec(NIH.benchmark), small_spec("old")
    Benchmarks(database, now).create(old)
    publish(database, old, 0.7)
    before = board(database, nih), board(database, old)

    # The next release also packages a benchmark with its scorer.
    new = replace(
        nih,
        name="nih-chestxray14-v3",
        list_sha256=old.list_sha256,
        image_count=old.image_count,
        scorer_version="3",
        metrics=ranked_by("auroc", "misses"),
        ranking_metric="misses",
        replicates=100,
    )
    packaged = {nih.name: nih, new.name: new}
    monkeypatch.setattr("services.registry.__main__.packaged_names", lambda: list(packaged))
    monkeypatch.setattr("services.registry.__main__.load_spec", packaged.__getitem__)
    migrate(database, SIGNER)
    migrate(database, SIGNER)  # as at every start with SQLite

    assert (board(database, nih), board(database, old)) == before
    stored = Benchmarks(database, now).get(BenchmarkName(new.name)).spec
    assert (stored, stored.digest) == (new, new.digest)
    assert new.digest != nih.digest

    worse, better = publish(database, new, 0.4), publish(database, new, 0.1)
    assert [row[0] for row in board(database, new)] == [better, worse]  # lower is better
    assert (board(database, nih), board(database, old)) == before
    publish(database, old, 0.9)  # the old rules go on, too
    assert [row[2] for row in board(database, old)] == [0.9, 0.7]


def test_a_report_of_another_version_is_refused(database: Database, version_3: None) -> None:
    spec = small_spec("old")
    later = replace(spec, scorer_version="3")
    Benchmarks(database, now).create(spec)
    stores = Submissions(database, now, SIGNER)
    created = stores.create(BenchmarkName("old"), MANIFEST, "", EVERYBODY)
    stores.queue(SubmissionName("old", created.id), EVERYBODY, 8, lambda: None)
    evaluations = Evaluations(database, now, SIGNER, 60.0, 3)
    lease = evaluations.lease("worker", [BenchmarkName("old")], EVERYBODY)
    assert lease
    name = EvaluationName("old", created.id, lease.evaluation.id)
    report = reports.report(
        report_message(later, 0.8, benchmark_digest=spec.digest, seed=spec.seed)
    )
    with pytest.raises(ReportMismatch) as caught:
        evaluations.complete(name, lease.token, report, {}, EVERYBODY)
    assert caught.value.metadata["field"] == "report.scorer_version"


def test_a_registry_without_the_scorer_still_reads_the_benchmark(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older release reads the board of a newer benchmark and refuses its reports."""
    spec = replace(small_spec("later"), scorer_version="3")
    monkeypatch.setitem(SCORERS, "3", SCORERS["2"])
    Benchmarks(database, now).create(spec)
    publish(database, spec, 0.8)
    monkeypatch.delitem(SCORERS, "3")
    migrate(database, SIGNER)
    assert [row[2] for row in board(database, spec)] == [0.8]
    assert Benchmarks(database, now).get(BenchmarkName("later")).spec.digest == spec.digest
    monkeypatch.setitem(SCORERS, "3", SCORERS["2"])
    report = reports.report(report_message(spec, 0.8))
    monkeypatch.delitem(SCORERS, "3")
    stores = Submissions(database, now, SIGNER)
    created = stores.create(BenchmarkName("later"), MANIFEST, "", EVERYBODY)
    stores.queue(SubmissionName("later", created.id), EVERYBODY, 8, lambda: None)
    evaluations = Evaluations(database, now, SIGNER, 60.0, 3)
    lease = evaluations.lease("worker", [BenchmarkName("later")], EVERYBODY)
    assert lease
    name = EvaluationName("later", created.id, lease.evaluation.id)
    with pytest.raises(ReportMismatch, match="the scorers that this registry has"):
        evaluations.complete(name, lease.token, report, {}, EVERYBODY)


def test_the_packaged_benchmarks_are_all_created(database: Database) -> None:
    assert packaged_names() == [NIH.benchmark]
    assert Benchmarks(database, now).get(NIH).spec == load_spec(NIH.benchmark)
    assert benchmark_file.load_spec("").name == NIH.benchmark


def test_the_way_back_refuses_rules_that_the_earlier_schema_cannot_hold(database: Database) -> None:
    spec = small_spec("calibrated", ranking_metric="brier")
    Benchmarks(database, now).create(spec)

    def go_back() -> None:
        config = migrations._config()
        with database.engine.begin() as connection:
            config.attributes["connection"] = connection
            command.downgrade(config, "0009")

    with pytest.raises(ValueError, match="benchmark calibrated has rules"):
        go_back()
    assert migrations.at_head(database.engine)
    assert Benchmarks(database, now).get(BenchmarkName(spec.name)).spec == spec
