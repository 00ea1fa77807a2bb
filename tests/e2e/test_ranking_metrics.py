"""A benchmark may rank by any metric: from `submit` to board, steps, comparison and receipts."""

import re
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from cxreval.audit.chain import Head
from cxreval.client import ClaimedMetric, EvaluationStatus
from cxreval.client.verification import Verification
from cxreval.datasets.nih import FINDINGS
from cxreval.evaluation.driver import EvaluationDriver, local_benchmarks
from cxreval.metrics.ranking import Significance
from cxreval.metrics.registry import Direction
from tests.support.scoring import describe, small_table
from tests.support.system import System, claim, command, json_of, predictions

REFERENCES = {
    "auroc": roc_auc_score,
    "average_precision": average_precision_score,
    "brier": brier_score_loss,
}
IMAGES = [f"{patient:08d}_000.png" for patient in range(1, 121)]
DRAW = np.random.default_rng(5)
LABELS = DRAW.random((len(IMAGES), len(FINDINGS))) < 0.3
NOISE = DRAW.random(LABELS.shape)
TABLES = {
    # Orders images best, and promises far too much: first by AUROC, last by Brier score.
    "sharp": 0.9 + 0.1 * np.clip(0.5 * LABELS + 0.5 * NOISE, 0, 1),
    "fair": np.clip(0.4 * LABELS + 0.6 * NOISE, 0, 1),
    # Says the prevalence of nearly every image.
    "flat": 0.3 + 0.02 * (LABELS * 0.1 + NOISE),
}


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    directory = tmp_path_factory.mktemp("metrics")
    names = ["|".join(np.array(FINDINGS)[row]) or "No Finding" for row in LABELS]
    data = {}
    for metric in REFERENCES:
        name = metric.replace("_", "-")
        data[name] = directory / name
        labels = small_table(data[name], list(zip(IMAGES, names, strict=True)))
        describe(data[name], name, IMAGES, labels, ranking_metric=metric)
    for home in data.values():
        (home / "images").mkdir()
        for image in IMAGES:
            (home / "images" / image).touch()  # tables of predictions need no pixel
    with System(directory, data, lease_seconds=10.0) as running:
        for spec in local_benchmarks(running.data).values():
            running.registry.create_benchmark(spec)
        yield running


def expected_scores(metric):
    """Returns the macro of each table, by scikit-learn."""
    reference = REFERENCES[metric]
    return {
        model: float(
            np.mean(
                [
                    reference(LABELS[:, k], values[:, k].astype(np.float32))
                    for k in range(len(FINDINGS))
                ]
            )
        )
        for model, values in TABLES.items()
    }


def best_first(metric):
    scores = expected_scores(metric)
    return sorted(scores, key=scores.get, reverse=metric != "brier")


def submit(system, metric, directory):
    """Publishes the tables, the second best first and the best last, and a claim."""
    clients = (system.registry, system.inference, system.scoring)
    driver = EvaluationDriver(*clients, system.data, "test", 10.0)
    benchmark, names = metric.replace("_", "-"), {}
    best, second, worst = best_first(metric)
    for number, model in enumerate((second, worst, best)):
        file = directory / f"{model}.csv"
        rows = [
            ",".join([image, *map(repr, map(float, row))])
            for image, row in zip(IMAGES, TABLES[model].astype(np.float32), strict=True)
        ]
        file.write_text("\n".join([",".join(["image", *FINDINGS]), *rows, ""]))
        declared = replace(predictions(model), submitted_date=f"2026-0{number + 1}-01")
        names[model] = system.registry.submit(benchmark, declared, file).name
        ended = driver.run_next(lambda *_: None)
        assert ended.status is EvaluationStatus.SUCCEEDED, ended.failure
    claimed = replace(claim(), claimed_metrics=(ClaimedMetric(metric, 0.31),))
    system.registry.submit(benchmark, claimed, None)
    return names


@pytest.fixture(scope="module")
def published(system, tmp_path_factory):
    """The submissions of each board, by metric and model."""
    directory = tmp_path_factory.mktemp("tables")
    return {metric: submit(system, metric, directory) for metric in REFERENCES}


@pytest.mark.parametrize("metric", REFERENCES)
def test_a_board_ranks_by_the_metric_of_its_benchmark(system, published, metric):
    benchmark, names = metric.replace("_", "-"), published[metric]
    spec = system.registry.get_benchmark(benchmark)
    lower = spec.direction is Direction.LOWER_IS_BETTER
    assert lower is (metric == "brier")
    expected, (best, second, worst) = expected_scores(metric), best_first(metric)

    board = system.registry.leaderboard(benchmark)
    rows = [row for row in board if row.submission in names.values()]
    assert [row.model for row in rows] == [best, second, worst]
    assert [row.score for row in rows] == pytest.approx(
        [expected[model] for model in (best, second, worst)]
    )
    assert [row.rank for row in rows] == [1, 2, 3]  # far apart: each is separated from the next
    assert [row.sota for row in rows] == [True, False, False]
    assert all(row.interval.low <= row.score <= row.interval.high for row in rows)
    assert rows[0].spread.first_share > 0.9
    assert [row.score for row in board if row not in rows] == [0.31]

    steps = [
        step for step in system.registry.sota_steps(benchmark) if step.submission in names.values()
    ]
    assert [(step.model, step.significance) for step in steps] == [
        (second, Significance.FIRST),
        (best, Significance.SIGNIFICANT),
    ]

    comparison = system.registry.compare(benchmark, [names[best], names[worst]])
    (pair,) = comparison.pairs
    assert pair.separable
    assert (pair.difference < 0) is lower
    assert comparison.rank_frequencies[names[best]][0] > 0.9


@pytest.mark.parametrize("metric", REFERENCES)
def test_the_command_line_names_the_metric_and_its_direction(system, published, metric):
    benchmark = metric.replace("_", "-")
    address = ["--registry", system.registry_service.address]
    printed = command("leaderboard", "--benchmark", benchmark, *address)
    assert printed.returncode == 0, printed.stderr
    direction = "lower" if metric == "brier" else "higher"
    assert f"metric {metric} (macro, {direction} is better, 0-100)" in printed.stdout
    label = {"auroc": "AUROC", "average_precision": "AP", "brier": "Brier"}[metric]
    assert re.search(rf"^ # .* {label} ", printed.stdout, re.MULTILINE)
    told = json_of("leaderboard", "--benchmark", benchmark, *address)
    assert told["benchmark"]["ranking_metric"] == metric
    rows = [row["submission"] for row in told["entries"] if row["tier"] == "scored"]
    assert set(rows) == set(published[metric].values())
    compared = command("compare", *rows[:2], "--per-finding", *address)
    assert f"First minus second, {label} 0-100" in compared.stdout, compared.stderr
    assert f"{label} of each finding, 0-100" in compared.stdout
    status = command("status", rows[0], *address)
    assert re.search(rf"^  {label} ", status.stdout, re.MULTILINE), status.stdout + status.stderr


def test_receipts_chain_and_boards_of_every_metric_agree(system, published):
    checked = Verification(system.registry, system.registry.public_key(), Head())
    checked.run()
    assert checked.rows >= len(REFERENCES) * (len(TABLES) + 1)


@pytest.mark.parametrize("metric", REFERENCES)
def test_score_compares_two_tables_by_the_metric_of_the_benchmark(system, tmp_path, metric):
    home = system.data[metric.replace("_", "-")]
    files = []
    for model in ("sharp", "flat"):
        file = tmp_path / f"{model}.csv"
        rows = [
            ",".join([image, *map(repr, map(float, row))])
            for image, row in zip(IMAGES, TABLES[model].astype(np.float32), strict=True)
        ]
        file.write_text("\n".join([",".join(["image", *FINDINGS]), *rows, ""]))
        files.append(str(file))
    labels = ["--labels", str(home / "labels.csv")]
    printed = command("score", files[0], "--against", files[1], *labels)
    assert printed.returncode == 0, printed.stderr
    better = (
        "flat.csv is better than sharp.csv"
        if metric == "brier"
        else "sharp.csv is better than flat.csv"
    )
    assert better in " ".join(printed.stdout.split())
