"""Declared training data from a manifest to the board, the rule of clean steps, and the ladder.

Registry, scoring and the worker's driver are real.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cxreval.cli.app import app
from cxreval.client import (
    Failure,
    Fault,
    InferenceClient,
    LeaderboardEntry,
    ScoringClient,
    Submission,
    SubmissionStatus,
)
from cxreval.datasets.benchmark import BenchmarkSpec, StepRule
from cxreval.datasets.benchmark_file import SPEC_FILE
from cxreval.datasets.nih import FINDINGS
from cxreval.datasets.training_list import TrainingData, TrainingUse
from cxreval.datasets.truth import load_truth
from cxreval.errors import (
    CxrevalError,
    DigestMismatch,
    MalformedField,
    ReportMismatch,
    TrainingListInvalid,
)
from cxreval.evaluation.driver import EvaluationDriver
from cxreval.manifest.text import write_manifest
from cxreval.metrics.report import CLEAN_SLICE, TrainingVerdict
from tests.support.access import ClosedRegistry
from tests.support.scoring import describe, scoring_service, small_table
from tests.support.system import predictions

IMAGES = tuple(f"{patient:08d}_000.png" for patient in range(1, 61))
PRESENT = np.arange(len(IMAGES)) % 2 == 0
LABELS = [
    (image, "|".join(FINDINGS) if present else "No Finding")
    for image, present in zip(IMAGES, PRESENT, strict=True)
]
CLEAN = TrainingData(TrainingUse.NONE)
LISTED = TrainingData(TrainingUse.IMAGES)


class World(ClosedRegistry):
    """A registry with keys, scoring, a worker, and three benchmarks over the same images."""

    def __enter__(self) -> World:
        super().__enter__()
        self.specs = {
            "any": self.benchmark("any"),
            "clean": self.benchmark("clean", steps=StepRule.CLEAN),
            "ladder": self.benchmark("ladder", ladder=True),
        }
        data = {name: self.directory / name for name in self.specs}
        (data["any"] / "training_lists").mkdir()
        (data["any"] / "training_lists" / "public.txt").write_text("\n".join(IMAGES[:30]))
        scoring = self.enter_context(scoring_service(self.directory / "scoring.log", **data))
        self.worker = self.client("worker")
        self.reader = self.client("rival/submitter")
        self.driver = EvaluationDriver(
            self.worker,
            self.enter_context(InferenceClient("localhost:1")),
            self.enter_context(ScoringClient(scoring.address)),
            data,
            "worker",
        )
        return self

    def benchmark(self, name: str, **rules: StepRule | bool) -> BenchmarkSpec:
        directory = self.directory / name
        labels = small_table(directory, LABELS)
        spec = replace(describe(directory, name, IMAGES, labels), **rules)
        (directory / SPEC_FILE).write_text(spec.to_toml())
        self.operator.create_benchmark(spec)
        self.operator.record_image_list(name, IMAGES)
        return spec

    def submit(
        self,
        benchmark: str,
        signal: float,
        data: TrainingData | None = None,
        listed: list[str] | None = None,
        who: str = "acme",
        seed: int = 1,
    ) -> Submission:
        """Submits a table; the larger the signal, the better it is."""
        noise = np.random.default_rng(seed).random((len(IMAGES), len(FINDINGS)))
        values = (noise + signal * PRESENT[:, np.newaxis]) / (1 + signal)
        lines = [f"Image Index,{','.join(FINDINGS)}"]
        for image, row in zip(IMAGES, values, strict=True):
            lines.append(f"{image},{','.join(f'{value:.7f}' for value in row)}")
        table = self.directory / "table.csv"
        table.write_text("\n".join(lines))
        manifest = replace(predictions(f"signal {signal}"), training_data=data)
        client = self.client(f"{who}/submitter")
        return client.submit(benchmark, manifest, table, training_list=self.list_file(listed))

    def list_file(self, names: list[str] | None) -> Path | None:
        if names is None:
            return None
        file = self.directory / "list.txt"
        file.write_text("\n".join(names))
        return file

    def evaluated(self, *arguments: object, **named: object) -> Submission:
        """Submits a table, evaluates it and returns the submission as its owner reads it."""
        name = self.submit(*arguments, **named).name
        self.driver.run_next(lambda *_: None)
        return self.client(f"{named.get('who', 'acme')}/submitter").get_submission(name)

    def row(self, benchmark: str, submission: str) -> LeaderboardEntry:
        board = self.reader.leaderboard(benchmark)
        return next(entry for entry in board if entry.submission == submission)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("training")) as running:
        yield running


def test_only_clean_rows_hold_a_step_where_the_benchmark_says_so(world: World) -> None:
    undeclared = world.evaluated("clean", 0.5)
    clean = world.evaluated("clean", 0.2, CLEAN)
    overlapping = world.evaluated("clean", 5.0, LISTED, [*IMAGES[:10], "of another set.png"])
    steps = {step.submission: step for step in world.reader.sota_steps("clean")}
    assert [*steps] == [undeclared.name, clean.name, overlapping.name]
    assert [step.not_counted for step in steps.values()] == [True, False, True]
    assert [step.training_verdict for step in steps.values()] == [
        TrainingVerdict.UNDECLARED, TrainingVerdict.CLEAN, TrainingVerdict.OVERLAP,
    ]  # fmt: skip
    board = world.reader.leaderboard("clean")
    assert [entry.submission for entry in board if entry.sota] == [clean.name]
    row = world.row("clean", overlapping.name)
    assert (row.overlap_images, row.overlap_patients) == (10, 10)
    assert row.clean_score == pytest.approx(row.score, abs=0.05)
    assert row.clean_interval.low <= row.clean_score <= row.clean_interval.high
    assert world.row("clean", clean.name).clean_score is None


def test_where_any_row_holds_a_step_the_verdict_changes_nothing(world: World) -> None:
    first = world.evaluated("any", 0.2)
    second = world.evaluated("any", 2.0, LISTED, [IMAGES[0]])
    steps = list(world.reader.sota_steps("any"))
    assert [step.submission for step in steps] == [first.name, second.name]
    assert not any(step.not_counted for step in steps)
    report = world.reader.get_evaluation(second.evaluation).report
    assert report.contamination.clean_metrics[-1].slice == CLEAN_SLICE
    (signal,) = report.membership
    assert (signal.list, signal.member_images, signal.other_images) == ("public", 30, 30)


def test_the_list_of_an_organisation_is_in_nothing_that_others_read(world: World) -> None:
    secret = "patient-of-ours.png"
    submission = world.submit("any", 1.0, LISTED, [secret])
    declared = submission.manifest.training_data
    assert declared.list_sha256 == hashlib.sha256(secret.encode()).hexdigest()
    lease = world.worker.lease_evaluation("worker", ["any"])
    assert lease.training_list
    world.worker.fail_evaluation(lease, Failure("MODEL_BROKEN", "-", Fault.SUBMISSION))
    for who in ("rival/submitter", "acme/submitter"):
        for shown in world.client(who).list_submissions("any"):
            assert secret not in str(shown)


@pytest.mark.parametrize(
    ("data", "listed", "error"),
    [
        (None, ["a.png"], TrainingListInvalid),
        (CLEAN, ["a.png"], TrainingListInvalid),
        (LISTED, [" "], TrainingListInvalid),
        (LISTED, None, CxrevalError),
        (replace(LISTED, list_sha256="0" * 64), ["a.png"], DigestMismatch),
        (replace(LISTED, salt="a-salt-of-mine"), ["a.png"], TrainingListInvalid),
        (replace(LISTED, list_sha256="0" * 64), None, TrainingListInvalid),
        (replace(CLEAN, salt="a-salt-of-mine"), None, MalformedField),
    ],
)
def test_a_wrong_declaration_is_refused_and_nothing_is_stored(
    world: World, data: TrainingData | None, listed: list[str] | None, error: type[CxrevalError]
) -> None:
    before = len(list(world.operator.list_submissions("any")))
    with pytest.raises(error) as caught:
        world.submit("any", 1.0, data, listed)
    assert "training" in caught.value.metadata["field"]
    assert len(list(world.operator.list_submissions("any"))) == before


def test_the_registry_refuses_a_report_without_the_declared_verdict(world: World) -> None:
    world.submit("clean", 1.0, CLEAN, seed=9)
    lease = world.worker.lease_evaluation("worker", ["clean"])
    truth = load_truth(world.specs["clean"], world.directory / "clean")
    table = truth.table()
    for batch in world.worker.read_predictions(lease):
        table.add(batch.images, batch.probabilities)
    values = np.full((len(IMAGES), len(FINDINGS)), 0.5, np.float32)
    table.add(IMAGES, values)
    report = truth.report(table)
    exposed = truth.report(table, truth.training.exposure(CLEAN, frozenset()))
    for wrong in (
        report,
        replace(exposed, contamination=replace(exposed.contamination, patients=1)),
        replace(exposed, contamination=replace(exposed.contamination, clean_patients=-1)),
        replace(
            exposed,
            contamination=replace(exposed.contamination, clean_metrics=report.metrics[:15]),
        ),
    ):
        with pytest.raises(ReportMismatch, match="contamination"):
            world.worker.complete_evaluation(lease, wrong, {})
    world.worker.fail_evaluation(lease, Failure("MODEL_BROKEN", "-", Fault.SUBMISSION))


def test_the_command_line_sends_the_list_and_shows_the_verdict(world: World) -> None:
    def cxreval(*arguments: str) -> str:
        environment = {"CXREVAL_CLIENT_KEY": world.keys["acme/submitter"], "COLUMNS": "200"}
        registry = f"--registry={world.service.address}"
        ran = CliRunner(env=environment).invoke(app, [*arguments, registry])
        assert ran.exit_code == 0, ran.output
        return ran.output

    world.evaluated("clean", 7.0, seed=3)
    manifest, listed = world.directory / "mine.yaml", world.list_file([*IMAGES[:12]])
    declared = replace(predictions("Mine"), training_data=LISTED)
    manifest.write_text(write_manifest(declared))
    table = str(world.directory / "table.csv")
    name = cxreval(
        "submit", str(manifest), table, "--benchmark=clean", f"--training-list={listed}", "--json"
    )
    world.driver.run_next(lambda *_: None)
    submission = json.loads(name[name.index("{") :])["name"]
    assert "training data: overlap, as declared; 12 images and 12" in cxreval("report", submission)
    explained = json.loads(cxreval("audit", "explain", submission, "--json"))
    told = {sentence["text"]: sentence["digest"] for sentence in explained}
    sha256 = hashlib.sha256(listed.read_bytes()).hexdigest()
    assert told["It declares as training data of this data set: images."] == f"list {sha256}"
    verdict = "Training data: overlap, as declared; 12 images and 12 patients of these."
    assert told[verdict].startswith("report ")
    mistyped = world.evaluated("clean", 1.0, LISTED, ["00000001_000.jpeg"], seed=4)
    note = "training data: clean, as declared; no identifier of the list is in this data set"
    assert note in cxreval("report", mistyped.name)
    # Who scores again has no list, so the verdict is not compared.
    labels = f"--labels={world.directory / 'clean' / 'labels.csv'}"
    assert "DIFFERENT" not in cxreval("audit", "rescore", submission, labels)
    board = " ".join(cxreval("leaderboard", "--benchmark=clean").split())
    assert "trained on 12 images and 12 patients of the benchmark" in board
    assert "Steps of the state of the art count for rows whose declared training data" in board
    assert "no, undeclared" in board
    assert "further submission are withheld" in cxreval("benchmark", "show", "ladder")


def test_the_ladder_withholds_what_is_no_significant_change(world: World) -> None:
    first = world.evaluated("ladder", 0.3)
    same = world.evaluated("ladder", 0.3)
    rival = world.evaluated("ladder", 0.1, who="rival")
    better = world.evaluated("ladder", 3.0)
    worse = world.evaluated("ladder", 0.1)
    states = [item.status for item in (first, same, rival, better, worse)]
    published, failed = SubmissionStatus.PUBLISHED, SubmissionStatus.FAILED
    assert states == [published, failed, published, published, failed]
    for withheld in (same, worse):
        assert withheld.failure.reason == "NO_SIGNIFICANT_CHANGE"
        assert withheld.failure.fault is Fault.SUBMISSION
        assert not any(character.isdigit() for character in withheld.failure.message)
        assert world.client("acme/submitter").get_evaluation(withheld.evaluation).report is None
    board = [entry.submission for entry in world.reader.leaderboard("ladder")]
    assert {*board} == {first.name, rival.name, better.name}


def test_a_withdrawn_row_still_counts_for_the_ladder(world: World) -> None:
    best = world.evaluated("ladder", 0.5, who="rival", seed=2)
    assert best.status is SubmissionStatus.PUBLISHED
    world.client("rival/submitter").withdraw(best.name, "to try again")
    again = world.evaluated("ladder", 0.5, who="rival", seed=2)
    assert again.failure.reason == "NO_SIGNIFICANT_CHANGE"
