"""A worker that lies gets nothing published, and the honest worker after it publishes as usual.

The registry, the scoring service and the honest worker's driver are real. The liar has a worker's
key of its own. A lie that is consistent, that is, invented rows and the report of these rows, or
figures that the labels do not give, cannot be refused by the registry: the last tests show that the
confirmation by the next attempt finds the first, and `cxreval audit rescore` finds the second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from click.testing import Result
from numpy.typing import NDArray
from sqlalchemy import update
from typer.testing import CliRunner

from cxreval.api.registry.v1 import evaluation_service_pb2 as pb
from cxreval.cli.app import app
from cxreval.client import (
    EvaluationStatus,
    Failure,
    Fault,
    InferenceClient,
    Lease,
    Predictions,
    Role,
    ScoringClient,
    SubmissionStatus,
    WorkerClient,
)
from cxreval.datasets.nih import FINDINGS
from cxreval.datasets.truth import load_truth
from cxreval.errors import (
    AuditMismatch,
    EvaluationNotFound,
    InvalidProbability,
    KeyMissing,
    LeaseLost,
    MalformedBatch,
    MalformedField,
    MissingField,
    MissingImages,
    OwnerRequired,
    PredictionsUnconfirmed,
    ReportMismatch,
    ReportNotFound,
    UnknownImage,
)
from cxreval.evaluation.driver import EvaluationDriver
from cxreval.metrics.report import Report
from cxreval.wire.status import from_rpc_error
from services.registry.store.database import Database
from services.registry.store.models import EvaluationRow
from tests.support.access import ClosedRegistry
from tests.support.scoring import describe, scoring_service, small_table
from tests.support.system import predictions

IMAGES = tuple(f"{patient:08d}_000.png" for patient in range(1, 13))
LABELS = [(image, ("Mass", "Edema|Hernia")[number % 2]) for number, image in enumerate(IMAGES)]
Values = NDArray[np.float32]


def values(seed: int) -> Values:
    return np.random.default_rng(seed).random((len(IMAGES), len(FINDINGS)), np.float32)


HONEST, OTHERS, INVENTED = values(1), values(2), values(3)


class World(ClosedRegistry):
    """A registry with keys, its scoring service, an honest worker and one that lies."""

    def __enter__(self) -> World:
        super().__enter__()
        data = self.directory / "data"
        self.spec = describe(data, "small", IMAGES, small_table(data, LABELS))
        self.truth = load_truth(self.spec, data)
        self.other = describe(
            self.directory / "other", "other", IMAGES, data / "labels.csv", replicates=200
        )
        for spec in (self.spec, self.other):
            self.operator.create_benchmark(spec)
            self.operator.record_image_list(spec.name, IMAGES)
        self.keys["liar"] = self.operator.create_key("operators", Role.WORKER)[1]
        self.liar, self.worker = self.client("liar"), self.client("worker")
        self.submitter = self.client("acme/submitter")
        scoring = self.enter_context(scoring_service(self.directory / "scoring.log", small=data))
        self.driver = EvaluationDriver(
            self.worker,
            self.enter_context(InferenceClient("localhost:1")),
            self.enter_context(ScoringClient(scoring.address)),
            {"small": data},
            "honest",
        )
        return self

    def submit(self, table: Values = HONEST) -> str:
        """Submits a table of predictions and returns the submission's name."""
        file = self.directory / "table.csv"
        lines = [f"Image Index,{','.join(FINDINGS)}"]
        for image, row in zip(IMAGES, table, strict=True):
            lines.append(f"{image},{','.join(f'{value:.9g}' for value in row)}")
        file.write_text("\n".join(lines))
        return self.submitter.submit("small", predictions(), file).name

    def lie(self) -> Lease:
        """Leases the oldest queued evaluation with the liar's key."""
        lease = self.liar.lease_evaluation("liar", ["small"])
        assert lease
        return lease

    def give_back(self, client: WorkerClient, lease: Lease) -> None:
        """Gives a lease back, and lets the pause before the next one pass."""
        client.fail_evaluation(lease, Failure("WORKER_ERROR", "gives up", Fault.SYSTEM))
        self.change_evaluations(waits_until=None)

    def change_evaluations(self, **values: datetime | None) -> None:
        """Changes the times of all evaluations in the database, as if time had passed."""
        database = Database(self.database_url)
        with database.writing() as session:
            session.execute(update(EvaluationRow).values(values))
        database.close()

    def report(self, table: Values = HONEST) -> Report:
        recorded = self.truth.table()
        recorded.add(IMAGES, table)
        return self.truth.report(recorded)

    def rows_on_board(self) -> int:
        return len(list(self.operator.leaderboard("small")))

    def published_honestly(self, submission: str, table: Values = HONEST) -> dict[str, str]:
        """Runs the submission with the honest worker; returns the provenance of its report."""
        ended = self.driver.run_next(lambda *_: None)
        assert ended
        assert ended.name.startswith(submission)
        assert (ended.status, ended.report) == (EvaluationStatus.SUCCEEDED, self.report(table))
        assert self.operator.get_submission(submission).status is SubmissionStatus.PUBLISHED
        return dict(ended.provenance)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("lies")
    with World(directory) as running:
        yield running


def record(client: WorkerClient, lease: Lease, table: Values, count: int = len(IMAGES)) -> None:
    client.append_predictions(lease, Predictions(IMAGES[:count], table[:count]))


# --- twelve lies ----------------------------------------------------------------------------------


def count(world: World, lease: Lease) -> None:
    """The report states more predictions than were recorded, or there are none at all."""
    with pytest.raises(MissingImages, match="12 of 12"):
        world.liar.complete_evaluation(lease, world.report(), {})
    record(world.liar, lease, HONEST, len(IMAGES) - 1)
    with pytest.raises(MissingImages, match="1 of 12"):
        world.liar.complete_evaluation(lease, world.report(), {})


def digest(world: World, lease: Lease) -> None:
    """The report has the digest of no predictions."""
    record(world.liar, lease, HONEST)
    invented = replace(world.report(), predictions_sha256="a" * 64)
    with pytest.raises(ReportMismatch, match=r"report.predictions_sha256"):
        world.liar.complete_evaluation(lease, invented, {})


def rows(world: World, lease: Lease) -> None:
    """The recorded rows are not those of the report."""
    record(world.liar, lease, INVENTED)
    with pytest.raises(ReportMismatch, match=r"report.predictions_sha256"):
        world.liar.complete_evaluation(lease, world.report(), {})


def images(world: World, lease: Lease) -> None:
    """One image does not exist; the whole batch is refused."""
    for name in ("99999999_000.png", "../labels.csv", IMAGES[0].upper(), f"{IMAGES[0]} "):
        batch = Predictions((IMAGES[0], name), HONEST[:2])
        with pytest.raises(UnknownImage, match=r"batch.images\[1\]"):
            world.liar.append_predictions(lease, batch)
    assert list(world.liar.read_predictions(lease)) == []


def other_lease(world: World, lease: Lease) -> None:
    """The token is that of another evaluation's lease."""
    record(world.liar, lease, HONEST)
    name = world.submit(OTHERS)
    second = world.lie()
    stolen = replace(second, token=lease.token)
    for call in (
        lambda: world.liar.complete_evaluation(stolen, world.report(), {}),
        lambda: record(world.liar, stolen, HONEST),
    ):
        with pytest.raises(LeaseLost):
            call()
    world.operator.cancel(name, "only a lie")


def replayed(world: World, lease: Lease) -> None:
    """A completion is repeated with its lease after the evaluation went to another worker."""
    record(world.liar, lease, HONEST)
    world.give_back(world.liar, lease)
    for _ in range(2):
        with pytest.raises(LeaseLost):
            world.liar.complete_evaluation(lease, world.report(), {})


def other_benchmark(world: World, lease: Lease) -> None:
    """The report is of a benchmark with the same images and another number of replicates."""
    record(world.liar, lease, HONEST)
    truth = load_truth(world.other, world.directory / "other")
    table = truth.table()
    table.add(IMAGES, HONEST)
    report = truth.report(table)
    with pytest.raises(ReportMismatch, match=r"report.benchmark"):
        world.liar.complete_evaluation(lease, report, {})
    renamed = replace(report, benchmark="benchmarks/small", benchmark_digest=world.spec.digest)
    with pytest.raises(ReportMismatch, match=r"report.(replicate_count|seed)"):
        world.liar.complete_evaluation(lease, renamed, {})


def late(world: World, lease: Lease) -> None:
    """The lease has expired and another worker has it."""
    record(world.liar, lease, HONEST)
    world.change_evaluations(lease_expires=datetime.now(UTC))
    second = world.worker.lease_evaluation("honest", ["small"])
    assert second
    with pytest.raises(LeaseLost):
        world.liar.complete_evaluation(lease, world.report(), {})
    world.give_back(world.worker, second)


def doubled(world: World, lease: Lease) -> None:
    """An image is recorded twice, in one batch and in two; the first row stays."""
    twice = Predictions((IMAGES[0], IMAGES[0]), HONEST[:2])
    with pytest.raises(MalformedBatch, match="repeated images"):
        world.liar.append_predictions(lease, twice)
    record(world.liar, lease, INVENTED)
    record(world.liar, lease, HONEST)
    with pytest.raises(ReportMismatch, match=r"report.predictions_sha256"):
        world.liar.complete_evaluation(lease, world.report(), {})


def swapped_findings(world: World, lease: Lease) -> None:
    """The columns, or the values of the report, are in another order of findings."""
    order = [1, 0, *range(2, len(FINDINGS))]
    record(world.liar, lease, HONEST[:, order])
    with pytest.raises(ReportMismatch, match=r"report.predictions_sha256"):
        world.liar.complete_evaluation(lease, world.report(), {})
    report = world.report(HONEST[:, order])
    first, second, *rest = report.metrics
    swapped = replace(report, metrics=(second, first, *rest))
    with pytest.raises(ReportMismatch, match=r"report.metrics"):
        world.liar.complete_evaluation(lease, swapped, {})


def nan_payloads(world: World, lease: Lease) -> None:
    """Probabilities and figures are NaN of several payloads, infinite, or outside of [0, 1]."""
    for bits in (0x7FC00000, 0x7FC00001, 0xFFC12345, 0x7F800001, 0x7F800000, 0xBF800000):
        wrong = HONEST.copy()
        wrong.view(np.uint32)[3, 3] = bits
        with pytest.raises(InvalidProbability, match=r"batch\.probabilities"):
            record(world.liar, lease, wrong)
    record(world.liar, lease, HONEST)
    report = world.report()
    for number in (float("nan"), float("inf"), 1.5):
        first, *rest = report.metrics
        metrics = (replace(first, value=number), *rest)
        with pytest.raises(ReportMismatch, match=r"report.metrics\[0\]"):
            world.liar.complete_evaluation(lease, replace(report, metrics=metrics), {})


def report_of_another_submission(world: World, lease: Lease) -> None:
    """The report is the true one of other predictions."""
    record(world.liar, lease, HONEST)
    with pytest.raises(ReportMismatch, match=r"report.predictions_sha256"):
        world.liar.complete_evaluation(lease, world.report(OTHERS), {})


LIES = (
    count, digest, rows, images, other_lease, replayed, other_benchmark, late, doubled,
    swapped_findings, nan_payloads, report_of_another_submission,
)  # fmt: skip


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_a_lie_publishes_nothing_and_the_honest_worker_publishes(
    world: World, lie: Callable[[World, Lease], None]
) -> None:
    submission, before = world.submit(), world.rows_on_board()
    lease = world.lie()
    lie(world, lease)
    assert world.rows_on_board() == before
    try:
        world.give_back(world.liar, lease)
    except LeaseLost:
        assert lie in (replayed, late)
    provenance = world.published_honestly(submission)
    invented = lie in (rows, doubled, swapped_findings)
    assert (int(provenance["dropped_images"]) > 0) == invented
    assert world.rows_on_board() == before + 1


# --- the token of another worker ------------------------------------------------------------------


def test_a_token_works_only_with_the_key_that_leased(world: World) -> None:
    submission = world.submit()
    lease = world.worker.lease_evaluation("honest", ["small"])
    assert lease
    record(world.worker, lease, HONEST, 3)
    before = world.operator.get_evaluation(lease.evaluation)
    calls: list[Callable[[], object]] = [
        lambda: world.liar.renew_lease(lease),
        lambda: record(world.liar, lease, HONEST),
        lambda: list(world.liar.read_predictions(lease)),
        lambda: world.liar.confirm_predictions(lease, 0),
        lambda: world.liar.drop_predictions(lease, 0),
        lambda: world.liar.complete_evaluation(lease, world.report(), {}),
        lambda: world.liar.upload_derived_artifact(lease, world.directory / "table.csv"),
        lambda: world.give_back(world.liar, lease),
    ]
    for call in calls:
        with pytest.raises(LeaseLost, match="another key or certificate"):
            call()
    assert world.operator.get_evaluation(lease.evaluation) == before
    world.give_back(world.worker, lease)
    assert world.published_honestly(submission)["resumed_images"] == "3"


def test_a_completion_cannot_be_repeated_with_another_key(world: World) -> None:
    submission = world.submit()
    lease = world.worker.lease_evaluation("honest", ["small"])
    assert lease
    record(world.worker, lease, HONEST)
    done = world.worker.complete_evaluation(lease, world.report(), {})
    assert world.worker.complete_evaluation(lease, world.report(), {}) == done
    with pytest.raises(LeaseLost):
        world.liar.complete_evaluation(lease, world.report(), {})
    assert done.name.startswith(submission)


# --- rows of earlier attempts ---------------------------------------------------------------------


def test_rows_of_an_earlier_attempt_are_not_published_unconfirmed(world: World) -> None:
    """The next worker does not look at them, or confirms only a part."""
    submission = world.submit()
    for part in (0, 6):
        lease = world.lie()
        world.liar.append_predictions(
            lease, Predictions(IMAGES[part : part + 6], HONEST[part : part + 6])
        )
        world.give_back(world.liar, lease)
    lease = world.lie()
    (recorded,) = world.liar.read_predictions(lease)
    assert recorded.attempts == (1,) * 6 + (2,) * 6
    with pytest.raises(PredictionsUnconfirmed, match="attempt 1, 2"):
        world.liar.complete_evaluation(lease, world.report(), {})
    world.liar.confirm_predictions(lease, 2)
    with pytest.raises(PredictionsUnconfirmed, match="attempt 1 "):
        world.liar.complete_evaluation(lease, world.report(), {})
    for attempt in (-1, 3, 4, 2**31 - 1):
        for change in (world.liar.confirm_predictions, world.liar.drop_predictions):
            with pytest.raises(MalformedField, match="attempt"):
                change(lease, attempt)
    world.give_back(world.liar, lease)
    # The confirmation of attempt 2 was for the lease that ended.
    provenance = world.published_honestly(submission)
    assert provenance["confirmed_sample_images"] == provenance["resumed_images"] == "12"


def test_two_invented_rows_of_a_lease_that_was_given_back_are_not_in_the_next_report(
    world: World,
) -> None:
    submission = world.submit()
    lease = world.lie()
    record(world.liar, lease, INVENTED, 2)
    world.give_back(world.liar, lease)
    provenance = world.published_honestly(submission)
    assert (provenance["dropped_images"], provenance["resumed_images"]) == ("2", "0")
    metric = "cxreval_registry_predictions_dropped_total"
    assert world.service.metrics()[metric] >= 2


def test_dropped_rows_do_not_count_as_done(world: World) -> None:
    submission = world.submit()
    lease = world.lie()
    record(world.liar, lease, INVENTED, 5)
    world.give_back(world.liar, lease)
    lease = world.lie()
    record(world.liar, lease, INVENTED, 7)
    assert world.operator.get_evaluation(lease.evaluation).images_done == 7
    assert world.liar.drop_predictions(lease, 1) == 5
    assert world.liar.drop_predictions(lease, 1) == 0
    assert world.operator.get_evaluation(lease.evaluation).images_done == 2
    world.give_back(world.liar, lease)
    world.published_honestly(submission)


# --- a worker that lies consistently --------------------------------------------------------------


def test_invented_rows_with_their_report_are_found_by_the_next_attempt(world: World) -> None:
    """Swapped findings, too: no digest can show that no model gave these rows."""
    submission = world.submit()
    lease = world.lie()
    record(world.liar, lease, HONEST[:, ::-1].copy())
    world.give_back(world.liar, lease)
    assert world.published_honestly(submission)["dropped_images"] == str(len(IMAGES))


def reason(call: Callable[[], object]) -> str:
    with pytest.raises(Exception) as caught:  # noqa: PT011 -- from_rpc_error takes only rpc errors
        call()
    return from_rpc_error(caught.value).reason  # type: ignore[arg-type]


def test_messages_without_a_token_attempt_or_report_are_refused_by_name(world: World) -> None:
    submission = world.submit()
    lease = world.lie()
    stubs = world.stubs("liar").evaluations
    name = lease.evaluation
    assert reason(lambda: stubs.ConfirmPredictions(pb.ConfirmPredictionsRequest())) == (
        MalformedField.reason
    )
    request = pb.DropPredictionsRequest(evaluation=name, attempt=0)
    assert reason(lambda: stubs.DropPredictions(request)) == LeaseLost.reason
    completion = pb.CompleteEvaluationRequest(evaluation=name, token=lease.token)
    assert reason(lambda: stubs.CompleteEvaluation(completion)) == MissingField.reason
    world.give_back(world.liar, lease)
    world.published_honestly(submission)


# --- figures that the labels do not give ----------------------------------------------------------


class Rescored:
    """The commands of `cxreval audit` with the keys of a world."""

    def __init__(self, world: World) -> None:
        self.world = world

    def run(self, who: str, *arguments: str) -> Result:
        environment = {"CXREVAL_CLIENT_KEY": self.world.keys[who], "COLUMNS": "80"}
        registry = ["--registry", self.world.service.address]
        return CliRunner(env=environment).invoke(app, ["audit", *arguments, *registry])

    def rescore(self, who: str, submission: str) -> Result:
        labels = str(self.world.directory / "data" / "labels.csv")
        return self.run(who, "rescore", submission, "--labels", labels)


def published_lie(world: World) -> str:
    """Publishes a report whose values of two findings are exchanged; no digest can show that."""
    submission = world.submit()
    lease = world.lie()
    record(world.liar, lease, HONEST)
    report = world.report()
    metrics = list(report.metrics)
    one, another = FINDINGS.index("Edema"), FINDINGS.index("Mass")
    metrics[one] = replace(report.metrics[another], finding="Edema")
    metrics[another] = replace(report.metrics[one], finding="Mass")
    false = replace(report, metrics=tuple(metrics))
    world.liar.complete_evaluation(lease, false, {})
    return submission


def test_rescore_finds_figures_that_the_recorded_predictions_do_not_give(world: World) -> None:
    commands, true, false = Rescored(world), world.submit(), ""
    world.published_honestly(true)
    false = published_lie(world)
    board = list(world.operator.leaderboard("small"))

    done = commands.rescore("acme/submitter", true)
    assert (done.exit_code, "bit for bit; recorded by organisations/acme" in done.output) == (
        0,
        True,
    )
    assert "12 recorded predictions" in done.output
    refused = commands.rescore("operator", false)
    assert (refused.exit_code, isinstance(refused.exception, AuditMismatch)) == (1, True)
    assert "auroc of Mass is not what the recorded predictions give" in str(refused.exception)
    for _ in range(2):  # the same result of the same key is recorded once
        commands.rescore("acme/submitter", true)
    unable = commands.rescore("acme/viewer", true)
    assert (unable.exit_code, "not recorded" in unable.output) == (0, True)

    verified = commands.run("operator", "verify")
    assert verified.exit_code == 0, verified.output
    assert ",," not in verified.output
    rows = len(board)
    key = next(item.actor for item in world.operator.list_rescores("small") if not item.difference)
    assert key.startswith("organisations/acme/keys/")
    assert f"Rescored: 1 of {rows + 4} rows, by {key}\n" in verified.output
    (line,) = [one for one in verified.output.splitlines() if one.startswith("DIFFERENT")]
    assert false in line
    assert ": auroc of Mass, by organisations/operators/keys/" in line
    # A rescore changes no row, receipt or event.
    assert list(world.operator.leaderboard("small")) == board


def test_predictions_of_a_table_are_read_by_its_organisation_only(world: World) -> None:
    submission = world.submit()
    world.published_honestly(submission)
    evaluation = world.operator.get_submission(submission).evaluation
    for who in ("acme/submitter", "acme/viewer", "operator", "worker"):
        (batch,) = world.client(who).report_predictions(evaluation)
        assert batch.images == IMAGES
        np.testing.assert_array_equal(batch.probabilities, HONEST)
    with pytest.raises(OwnerRequired, match="another organisation"):
        list(world.client("rival/submitter").report_predictions(evaluation))
    with pytest.raises(KeyMissing):
        list(world.client().report_predictions(evaluation))


def test_an_evaluation_without_a_report_cannot_be_rescored(world: World) -> None:
    submission = world.submit()
    lease = world.lie()
    assert isinstance(Rescored(world).rescore("operator", submission).exception, ReportNotFound)
    with pytest.raises(ReportNotFound):
        world.operator.record_rescore(lease.evaluation, world.report())
    with pytest.raises(EvaluationNotFound):
        world.client("rival/submitter").record_rescore(lease.evaluation, world.report())
    world.give_back(world.liar, lease)
    world.published_honestly(submission)
