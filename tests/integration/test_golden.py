"""Data that commit a7cddaa stored is read, verified, ranked and recomputed as it was then.

`tests/golden/generate.py` made the golden files. If a test here fails, an upgrade would break
existing installations: fix the code, and do not generate the files again. Each comparison states
the differences that it allows.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from alembic import command
from scipy.stats import rankdata

from cxreval.api.registry.v1 import submission_pb2
from cxreval.audit import chain, receipts
from cxreval.audit.canonical import canonical_json
from cxreval.audit.chain import Head
from cxreval.audit.receipts import Receipt, Signer
from cxreval.client import ApiKey, Predictions, ScoringClient, WorkerClient
from cxreval.client.verification import Verification
from cxreval.datasets.benchmark_file import load_spec
from cxreval.datasets.phantom import dataset as phantom
from cxreval.errors import KeyExpired, KeyRevoked
from cxreval.metrics.comparison import first_difference
from cxreval.metrics.report import Report
from services.registry import migrations
from services.registry.__main__ import migrate
from services.registry.store.database import Database
from tests.golden import observe, rows
from tests.golden.keys import ENDPOINT_TOKEN, write_keys
from tests.support.processes import Service
from tests.support.registry import DATABASES, fresh_database, registry_service
from tests.support.scoring import scoring_service

GOLDEN = Path(__file__).parents[1] / "golden"
DATA = GOLDEN / "data"
BENCHMARKS = ("golden-plain", "golden-rare", "golden-torn", "golden-void")
EXPECTED: observe.Json = json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8"))
ANSWERS: observe.Json = EXPECTED["registry"]
SUBMISSIONS: observe.Json = ANSWERS["submissions"]
RULE_CHANGE = "steps_by_publication"
"""The action of the admin event that says since when steps follow the time of publication."""

LATER = {"benchmarks.card", "events.benchmark_number"}
"""Columns that the golden version did not have, of what a downgrade loses."""

EVALUATED = {
    evaluation["name"]: name
    for name, answer in SUBMISSIONS.items()
    for evaluation in answer["evaluations"]
    if "report" in evaluation
}
"""The submission of each evaluation that has a report."""


@dataclass(frozen=True)
class Golden:
    """A database with the golden rows, migrated, in a directory with the registry's keys."""

    directory: Path
    url: str
    database: Database


@pytest.fixture(scope="module", params=DATABASES)
def golden(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Golden]:
    directory = tmp_path_factory.mktemp(f"golden-{request.param}")
    write_keys(directory)
    url = fresh_database(request.param, directory)
    if request.param == "sqlite":
        content = gzip.decompress((GOLDEN / "registry.db.gz").read_bytes())
        (directory / "registry.db").write_bytes(content)
    database = Database(url)
    if request.param == "postgresql":
        with database.engine.begin() as connection:
            config = migrations._config()
            config.attributes["connection"] = connection
            command.upgrade(config, "0009")
            rows.load(connection, stored_rows())
    migrate(database, Signer.from_file(directory / "signing-key.pem"))
    yield Golden(directory, url, database)
    database.close()


@pytest.fixture(scope="module")
def registry(golden: Golden) -> Iterator[Service]:
    """A registry service over the database that authenticates callers by key."""
    flags = ("--access=keys", "--public-board=true")
    with registry_service(golden.directory, *flags, database_url=golden.url) as service:
        yield service


@pytest.fixture(scope="module")
def client(registry: Service) -> Iterator[WorkerClient]:
    """A client with the operator's key."""
    with client_of(registry, "operator") as client:
        yield client


@pytest.fixture(scope="module")
def scoring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScoringClient]:
    """A scoring service over the data sets of every benchmark."""
    log = tmp_path_factory.mktemp("golden-scoring") / "scoring.log"
    data = {name: DATA / name for name in (*BENCHMARKS, "golden-described")}
    with scoring_service(log, **data) as service, ScoringClient(service.address) as client:
        yield client


@pytest.fixture(scope="module")
def answers(registry: Service) -> observe.Json:
    """All answers of the current registry to an operator."""
    with observe.Observer(registry.address, EXPECTED["keys"]["operator"]) as observer:
        return observe.everything(observer, EXPECTED["moments"])


def client_of(registry: Service, caller: str) -> WorkerClient:
    """Returns a client with the key of a caller."""
    return WorkerClient(registry.address, key=ApiKey(EXPECTED["keys"][caller]))


def evaluation_of(submission: str) -> str:
    """Returns the name of the evaluation with a submission's report."""
    return next(evaluation for evaluation, name in EVALUATED.items() if name == submission)


def stored_rows() -> rows.Rows:
    """Returns the golden rows as they were stored."""
    return rows.read(GOLDEN / "postgresql.json.gz")


def without_rule_change(dumped: rows.Rows) -> rows.Rows:
    """Returns a dump without the admin event that revision 0014 records, at its own time."""
    events = dumped["admin_events"]
    kept = [action != RULE_CHANGE for action in events["action"]]
    return {
        **dumped,
        "admin_events": {name: list(compress(values, kept)) for name, values in events.items()},
    }


def rows_of(golden: Golden) -> rows.Rows:
    """Returns the current rows of the migrated database, without its event of revision 0014."""
    with golden.database.engine.connect() as connection:
        return without_rule_change(rows.dump(connection))


def assert_contains(expected: Any, actual: Any) -> None:
    """Asserts that `actual` has all values of `expected`; it may have fields of newer versions."""
    differences = list(observe.differences(expected, actual))
    assert not differences, "\n".join(differences[:20])


# --- the files themselves -------------------------------------------------------------------------


def test_golden_files_have_every_kind_state_and_change() -> None:
    def names(enum: Any) -> set[str]:
        return set(enum.keys()[1:])

    submissions = [answer["submission"] for answer in SUBMISSIONS.values()]
    message = submission_pb2.Submission
    assert {item["kind"] for item in submissions} == names(message.Kind) - {"KIND_SCRIPT"}
    assert {item["state"] for item in submissions} == names(message.State)
    changes = {event["change"] for answer in SUBMISSIONS.values() for event in answer["events"]}
    later = {"CHANGE_CARD_UPDATED"} | {
        f"CHANGE_{change}"
        for change in ("REPLAYED", "REPLAY_DIFFERED", "REPRODUCED", "NOT_REPRODUCED")
    }
    assert changes == names(submission_pb2.SubmissionEvent.Change) - later
    faults = {item["failure"]["fault"] for item in submissions if "failure" in item}
    assert faults == names(submission_pb2.Failure.Fault)


# --- digests --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*BENCHMARKS, "golden-described"])
def test_specification_of_a_data_set_keeps_its_digest(name: str) -> None:
    assert load_spec(name, DATA / name).digest == EXPECTED["digests"][name]


def test_specification_in_the_package_keeps_its_digest() -> None:
    assert load_spec("nih-chestxray14").digest == EXPECTED["digests"]["nih-chestxray14"]


def test_benchmark_of_the_demo_keeps_its_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The digest does not depend on the pixels, and drawing them takes most of the time.
    monkeypatch.setattr(phantom, "render", lambda study, seed: None)
    monkeypatch.setattr(phantom, "encode_png", lambda picture: b"")
    spec = phantom.generate(tmp_path, patients=1500, seed=2017, only="test", processes=1)
    assert spec.digest == EXPECTED["digests"]["phantom-cxr of make demo"]


# --- the database ---------------------------------------------------------------------------------


def test_migration_keeps_every_row_and_a_second_migration_changes_nothing(golden: Golden) -> None:
    """The JSON of specifications may change; other tests compare digests and answers."""
    stored, migrated = stored_rows(), rows_of(golden)
    assert set(rows.changed(stored, migrated)) <= {"benchmarks.spec"}
    for table, columns in stored.items():
        assert {len(migrated[table][column]) for column in columns} == {
            len(values) for values in columns.values()
        }
    migrate(golden.database, Signer.from_file(golden.directory / "signing-key.pem"))
    assert rows_of(golden) == migrated
    assert migrations.at_head(golden.database.engine)
    with golden.database.engine.connect() as connection:
        assert rows.dump(connection)["admin_events"]["action"].count(RULE_CHANGE) == 1


def test_downgrade_to_the_golden_revision_restores_every_row(golden: Golden) -> None:
    with golden.database.engine.connect() as connection:
        assert rows.downgraded(connection, migrations._config(), "0009") == stored_rows()


def test_downgrade_and_upgrade_lose_only_what_the_revision_cannot_store(golden: Golden) -> None:
    migrated = rows_of(golden)
    with golden.database.engine.connect() as connection:
        for revision, lost in EXPECTED["migrated"].items():
            after = without_rule_change(
                rows.there_and_back(connection, migrations._config(), revision)
            )
            for column, values in rows.changed(migrated, after).items():
                if column in LATER:
                    continue
                assert column in lost, f"{column} is lost by a downgrade to {revision}"
                # No digests are listed for a column whose values vary.
                assert not lost[column] or rows.digest(values) in lost[column], (revision, column)
    assert rows_of(golden) == migrated


# --- the registry's answers -----------------------------------------------------------------------


def test_submissions_events_evaluations_reports_and_receipts_are_unchanged(
    answers: observe.Json,
) -> None:
    assert list(answers["submissions"]) == list(SUBMISSIONS)
    assert_contains(SUBMISSIONS, answers["submissions"])


def test_current_and_past_boards_are_unchanged_but_for_their_steps(answers: observe.Json) -> None:
    """Steps followed the declared dates then, and follow the time of publication now."""
    expected, actual = (
        {name: without_steps(answer) for name, answer in of["benchmarks"].items()}
        for of in (ANSWERS, answers)
    )
    assert_contains(expected, actual)


def without_steps(answer: observe.Json) -> observe.Json:
    """Returns the answers about a benchmark without the steps of its boards."""
    boards = {
        moment: {key: value for key, value in board.items() if key != "steps"}
        for moment, board in answer["boards"].items()
    }
    return {**answer, "boards": boards}


def test_steps_are_the_rows_that_were_better_than_all_published_before(
    answers: observe.Json,
) -> None:
    """Of these rows, the last event that put them on the board tells when."""
    for name, answer in ANSWERS["benchmarks"].items():
        for moment, board in answer["boards"].items():
            rows, claims = (
                [row for row in board["entries"] if (row["kind"] == "KIND_CLAIM") is claimed]
                for claimed in (False, True)
            )
            scored = [row for row in rows if "score" in row]
            expected, best = [], -1.0
            for row in sorted(scored, key=lambda row: publish_time(row["submission"], moment)):
                if row["score"] > best:
                    expected.append(row["submission"])
                    best = row["score"]
            claimed_steps = {row["submission"] for row in claims}
            expected += [
                step["submission"] for step in board["steps"] if step["submission"] in claimed_steps
            ]
            actual = answers["benchmarks"][name]["boards"][moment]
            assert [step["submission"] for step in actual["steps"]] == expected
            for item in (*actual["entries"], *actual["steps"]):
                assert item["publish_time"] == publish_time(item["submission"], moment)


def publish_time(submission: str, moment: str) -> str:
    """Returns when a row was last put on the board before a moment, by the golden events."""
    return max(
        str(event["time"])
        for event in SUBMISSIONS[submission]["events"]
        if event["change"] in ("CHANGE_PUBLISHED", "CHANGE_REINSTATED")
        and (moment == observe.NOW or event["time"] <= moment)
    )


def test_audit_chain_has_the_same_links(answers: observe.Json) -> None:
    assert_contains(ANSWERS["audit"], answers["audit"])


def test_organisations_keys_quotas_and_admin_events_are_unchanged(answers: observe.Json) -> None:
    newest, *events = answers["organisations"]["admin_events"]
    assert (newest["action"], newest["actor"]) == (RULE_CHANGE, "registry")
    assert "follow the time of publication" in newest["target"]
    assert_contains(ANSWERS["organisations"], {**answers["organisations"], "admin_events": events})


@pytest.mark.parametrize("caller", ["acme/submitter", "acme/viewer", "rival/submitter", "public"])
def test_other_callers_can_read_neither_more_nor_less(
    registry: Service, answers: observe.Json, caller: str
) -> None:
    expected = ANSWERS[f"as {caller}"]
    with observe.Observer(registry.address, EXPECTED["keys"].get(caller, "")) as observer:
        actual = observe.restricted(observer, answers["submissions"])
    assert actual["sealed_links"] == expected["sealed_links"]
    assert_contains(expected["submissions"], actual["submissions"])
    assert_contains(without_purpose(actual["submissions"]), expected["submissions"])


def without_purpose(answers: Any) -> Any:
    """Returns answers without the purpose of evaluations, which everyone may read; the golden
    files are of a version before it."""
    if isinstance(answers, dict):
        return {
            key: without_purpose(value)
            for key, value in answers.items()
            if (key, value) != ("purpose", "PURPOSE_MEASURE")
        }
    return [without_purpose(item) for item in answers] if isinstance(answers, list) else answers


@pytest.mark.parametrize(
    ("caller", "error"), [("acme/revoked", KeyRevoked), ("rival/expired", KeyExpired)]
)
def test_revoked_and_expired_keys_are_refused(
    registry: Service, caller: str, error: type[Exception]
) -> None:
    with client_of(registry, caller) as client, pytest.raises(error):
        client.get_benchmark("golden-plain")


# --- ranks under resamples ------------------------------------------------------------------------


@pytest.mark.parametrize("benchmark", EXPECTED["spreads_with_undefined_resamples"])
def test_resamples_undefined_for_every_row_are_left_out_or_counted_as_before(
    client: WorkerClient, answers: observe.Json, benchmark: str
) -> None:
    """The golden version counted such a resample as rank 1 for every row, which was a bug.

    A board with too few defined resamples may also leave out the spread.
    """
    for moment, expected in EXPECTED["spreads_with_undefined_resamples"][benchmark].items():
        board = answers["benchmarks"][benchmark]["boards"][moment]
        scored = [row["submission"] for row in board["entries"] if "score" in row]
        shares = rank_shares([macro_replicates(client, name) for name in scored])
        for row, row_shares in zip(board["entries"], shares, strict=False):
            spread = {key: row["spread"][key] for key in observe.SPREAD if key in row["spread"]}
            allowed = [expected["rows"][row["submission"]], spread_of(row_shares)]
            assert spread in (allowed if benchmark != "benchmarks/golden-torn" else [*allowed, {}])
        if expected["rank_frequencies"]:
            frequencies = board["comparison"]["rank_frequencies"]
            corrected = [
                {"submission": name, "shares": pytest.approx(row, abs=1e-12)}
                for name, row in zip(scored, shares, strict=True)
            ]
            assert frequencies in (expected["rank_frequencies"], corrected)


def rank_shares(vectors: Sequence[Any]) -> Any:
    """Returns each row's share of the defined resamples with each rank: shape (rows, ranks)."""
    if not vectors:
        return np.empty((0, 0))
    stacked = np.stack(vectors)
    ranks = rankdata(-stacked[:, ~np.isnan(stacked).all(axis=0)], method="min", axis=0)
    possible_ranks = np.arange(1, len(vectors) + 1)
    return (ranks[:, :, np.newaxis] == possible_ranks).mean(axis=1)


def spread_of(shares: Any) -> observe.Json:
    """Returns the spread of a row with these rank shares."""
    cumulative = np.cumsum(shares)
    return {
        "rank_low": 1 + int(np.argmax(cumulative >= 0.025 - 1e-12)),
        "rank_high": 1 + int(np.argmax(cumulative >= 0.975 - 1e-12)),
        "first_share": pytest.approx(float(shares[0]), abs=1e-12),
    }


def macro_replicates(client: WorkerClient, submission: str) -> Any:
    """Returns the macro AUROC of a row in each resample."""
    evaluation = evaluation_of(submission)
    evidence = client.get_evidence(evaluation).replicates
    return next(item.values for item in evidence if (item.metric, item.finding) == ("auroc", ""))


# --- verification ---------------------------------------------------------------------------------


def test_chain_receipts_and_boards_are_verified_with_the_old_key(client: WorkerClient) -> None:
    audit = ANSWERS["audit"]
    head = Head(int(audit["head"]["place"]), audit["head"]["digest"])
    assert client.public_key() == audit["public_key"]
    assert client.audit_head() == head
    assert chain.verify(client.audit_chain()) == head
    verification = Verification(client, audit["public_key"], head)
    verification.run()
    assert verification.head == head
    assert verification.sealed == 0
    assert verification.receipts == sum(len(answer["receipts"]) for answer in SUBMISSIONS.values())
    assert verification.rows == sum(
        len(answer["boards"][observe.NOW]["entries"]) for answer in ANSWERS["benchmarks"].values()
    )


def test_golden_receipts_are_valid_and_sign_the_stored_reports(golden: Golden) -> None:
    query = sa.text(
        "SELECT evaluations.id, reports.report FROM reports"
        " JOIN evaluations ON evaluations.number = reports.evaluation_number"
    ).columns(sa.column("id"), sa.column("report", sa.JSON))
    with golden.database.engine.connect() as connection:
        reports = {row.id: row.report for row in connection.execute(query)}
    assert len(reports) == len(EVALUATED)
    for answer in SUBMISSIONS.values():
        for message in answer["receipts"].values():
            content = receipts.verify(receipt_of(message), ANSWERS["audit"]["public_key"])
            if content["evaluation"]:
                report = reports[content["evaluation"]]
                assert (
                    content["report_sha256"] == hashlib.sha256(canonical_json(report)).hexdigest()
                )


def receipt_of(message: observe.Json) -> Receipt:
    parts = (base64.b64decode(message[field]) for field in ("payload", "signature"))
    receipt = Receipt(*parts)
    assert Receipt.from_file(receipt.to_file()) == receipt
    return receipt


def test_client_reads_everything(client: WorkerClient) -> None:
    for spec in client.list_benchmarks():
        assert spec.digest == EXPECTED["digests"][spec.name]
        listed = list(client.list_submissions(spec.name))
        names = [name for name in SUBMISSIONS if name.split("/")[1] == spec.name]
        assert [item.name for item in listed] == names
        for name in names:
            assert len(list(client.submission_events(name))) == len(SUBMISSIONS[name]["events"])
            evaluations = list(client.list_evaluations(name))
            assert len(evaluations) == len(SUBMISSIONS[name]["evaluations"])
        expected = ANSWERS["benchmarks"][f"benchmarks/{spec.name}"]["boards"][observe.NOW]
        board = client.leaderboard(spec.name)
        assert [(row.submission, row.rank, row.score) for row in board] == [
            (row["submission"], row.get("rank"), row.get("score")) for row in expected["entries"]
        ]
    for name, seed in EXPECTED["seeds"].items():
        assert client.get_benchmark(name).seed == seed


# --- recomputed reports ---------------------------------------------------------------------------


def recorded(golden: Golden, evaluation: str) -> Predictions:
    """Returns the stored predictions of an evaluation in the order of their recording."""
    query = sa.text(
        "SELECT image, probabilities FROM predictions WHERE evaluation_number ="
        " (SELECT number FROM evaluations WHERE id = :id) ORDER BY number"
    )
    with golden.database.engine.connect() as connection:
        predictions = connection.execute(query, {"id": evaluation.rpartition("/")[2]}).all()
    values = np.stack([np.frombuffer(row.probabilities, "<f4") for row in predictions])
    return Predictions(tuple(row.image for row in predictions), values)


def test_scoring_service_has_the_truths_of_the_golden_benchmarks(scoring: ScoringClient) -> None:
    truths = {truth.benchmark: truth.benchmark_digest for truth in scoring.list_truths()}
    assert truths == {name: EXPECTED["digests"][name] for name in truths}
    assert set(truths) == {*BENCHMARKS, "golden-described"}


def test_reports_recomputed_from_stored_predictions_are_identical_to_the_stored_reports(
    golden: Golden, client: WorkerClient, scoring: ScoringClient
) -> None:
    for evaluation in EVALUATED:
        stored = stored_report(client, evaluation)
        benchmark = client.get_benchmark(evaluation.split("/")[1])
        recomputed = scoring.score(benchmark, [recorded(golden, evaluation)])
        assert first_difference(recomputed, stored) == ""


def stored_report(client: WorkerClient, evaluation: str) -> Report:
    """Returns the stored report of an evaluation, with its evidence."""
    report = client.get_evaluation(evaluation).report
    assert report
    return replace(report, evidence=client.get_evidence(evaluation))


# --- these tests change the database, so they are the last ----------------------------------------


def test_reports_of_earlier_versions_are_rescored_to_the_last_bit(
    client: WorkerClient, scoring: ScoringClient
) -> None:
    before = {name: list(client.leaderboard(name)) for name in BENCHMARKS}
    for evaluation in EVALUATED:
        benchmark = client.get_benchmark(evaluation.split("/")[1])
        computed = scoring.score(benchmark, list(client.report_predictions(evaluation)))
        assert client.record_rescore(evaluation, computed).difference == ""
    assert {name: list(client.leaderboard(name)) for name in BENCHMARKS} == before
    verification = Verification(client, ANSWERS["audit"]["public_key"], Head())
    verification.run()
    assert verification.rescored > 0


def test_golden_benchmark_accepts_new_submissions_with_the_same_figures_and_digests(
    golden: Golden, registry: Service, client: WorkerClient, scoring: ScoringClient
) -> None:
    names = {label: name for name, label in EXPECTED["labels"].items()}
    queued, old = names["endpoint that waits"], names["alpha"]
    evaluation = evaluation_of(old)
    with client_of(registry, "acme/submitter") as submitter:
        manifest = submitter.get_submission(queued).manifest
        created = submitter.create_submission("golden-plain", manifest, endpoint_token="another")
    with client_of(registry, "operators/worker") as worker:
        lease = worker.lease_evaluation("golden", ["golden-plain"])
        assert lease
        # The golden submissions were created in 2100, so a new one is the oldest in the queue.
        assert lease.submission.name == created.name
        assert lease.endpoint_token == "another"
        predictions = recorded(golden, evaluation)
        worker.record_image_list("golden-plain", predictions.images)
        worker.append_predictions(lease, predictions)
        report = scoring.score(lease.benchmark, [predictions])
        assert first_difference(report, stored_report(client, evaluation)) == ""
        worker.complete_evaluation(lease, report, {})
        next_lease = worker.lease_evaluation("golden", ["golden-plain"])
        assert next_lease
        assert next_lease.submission.name == queued
        assert next_lease.endpoint_token == ENDPOINT_TOKEN
    old_receipt, new_receipt = (
        json.loads(client.receipt(name).payload) for name in (old, created.name)
    )
    # Digests of reports differ: the last bits of analytic standard errors of earlier versions do.
    for field in ("predictions_sha256", "score", "interval"):
        assert new_receipt[field] == old_receipt[field], field
    assert set(new_receipt) >= set(old_receipt)
    board = {row.submission: row for row in client.leaderboard("golden-plain")}
    assert board[created.name].rank == board[old].rank == 1
    verification = Verification(client, ANSWERS["audit"]["public_key"], Head())
    verification.run()
    assert verification.head.place > int(ANSWERS["audit"]["head"]["place"])
