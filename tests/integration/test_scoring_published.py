"""Two real models' predictions, sent to the scoring service, give their published AUROCs."""

import csv
import gzip
from fractions import Fraction

import numpy as np
import pytest

from cxreval.client import Predictions, ScoringClient
from cxreval.datasets.benchmark_file import load_spec
from cxreval.datasets.truth import load_truth
from cxreval.metrics.ranking import Entry, compare
from tests.support.scoring import describe, scoring_service, serialised

MACROS = {"densenet121": 0.8382671331804827, "resnet50": 0.8216306988745135}
"""The mean of the 14 published AUROCs, as the authors state it."""

ROUNDING = 2.3e-16
"""Tolerance: the authors' values come from scikit-learn, which rounds each summand.

cxreval's AUROC is rounded once.
"""

REPLICATES = {"full": 2000, "quick": 100}
"""Two benchmarks of the same images, one of which is scored quickly."""


@pytest.fixture(scope="module")
def tables(shared):
    """Images and float32 probabilities of each model."""
    found = {}
    for model in ("densenet121", "resnet50"):
        with gzip.open(shared / "predictions" / model / "preds.csv.gz", "rt") as file:
            header, *rows = csv.reader(file)
        found[model] = (
            header,
            [row[0] for row in rows],
            np.array([row[1:] for row in rows], dtype=np.float32),
        )
    return found


@pytest.fixture(scope="module")
def service(shared, tables, tmp_path_factory):
    directory = tmp_path_factory.mktemp("published")
    labels = shared / "nih-chestxray14" / "Data_Entry_2017_v2020.csv"
    images = sorted(tables["densenet121"][1])
    specs = {
        name: describe(directory / name, name, images, labels, count)
        for name, count in REPLICATES.items()
    }
    with scoring_service(
        directory / "scoring.log", **{name: directory / name for name in specs}
    ) as running:
        yield specs, running, directory


def batches(tables, spec, model, *, size, seed=None):
    """Returns the model's table in batches of `size`, shuffled by the seed."""
    header, images, probabilities = tables[model]
    order = (
        np.arange(len(images))
        if seed is None
        else np.random.default_rng(seed).permutation(len(images))
    )
    columns = [header.index(f"prob_{finding}") - 1 for finding in spec.findings]
    parts = (order[start : start + size] for start in range(0, len(order), size))
    return [
        Predictions(tuple(images[i] for i in rows), probabilities[rows][:, columns])
        for rows in parts
    ]


@pytest.fixture(scope="module")
def scored(tables, service):
    """The report of each model with all its replicates, sent in the table's order."""
    specs, running, _ = service
    with ScoringClient(running.address) as client:
        return {
            model: client.score(specs["full"], batches(tables, specs["full"], model, size=4096))
            for model in tables
        }


def published(shared, model):
    with (shared / "predictions" / model / "aucs.csv").open() as file:
        return {row["label"]: float(row["auc"]) for row in csv.DictReader(file)}


def aurocs(report):
    """Returns the AUROCs over all images: the findings', then the macro mean."""
    *findings, macro = [
        value for value in report.metrics if value.metric == "auroc" and not value.slice
    ]
    return findings, macro


@pytest.mark.parametrize("model", MACROS)
def test_each_published_auroc_is_found_to_the_rounding_of_its_authors(shared, scored, model):
    findings, macro = aurocs(scored[model])
    expected = published(shared, model)
    assert len(expected) == 14
    found = {value.finding: value.value for value in findings}
    assert found == {
        finding: pytest.approx(auc, abs=ROUNDING, rel=0) for finding, auc in expected.items()
    }
    assert macro.value == pytest.approx(MACROS[model], abs=ROUNDING, rel=0)
    assert (scored[model].image_count, scored[model].patient_count) == (22433, 6187)


@pytest.mark.parametrize("model", MACROS)
def test_each_auroc_is_the_exact_share_of_pairs_rounded_once(tables, service, scored, model):
    truth = load_truth(service[0]["full"], service[2] / "full")
    table = truth.table()
    for batch in batches(tables, truth.spec, model, size=4096):
        table.add(batch.images, batch.probabilities)
    for value, scores, positive in zip(
        aurocs(scored[model])[0], table.probabilities.T, truth.cohort.labels.T, strict=True
    ):
        low, high = np.sort(scores[~positive]), scores[positive]
        twice = np.searchsorted(low, high, "left").sum() + np.searchsorted(low, high, "right").sum()
        assert value.value == float(Fraction(int(twice), 2 * low.size * high.size))


@pytest.mark.parametrize("model", MACROS)
def test_any_order_and_batching_gives_the_same_report(tables, service, model):
    specs, running, _ = service
    with ScoringClient(running.address) as client:
        ordered, shuffled = (
            client.score(specs["quick"], batches(tables, specs["quick"], model, **how))
            for how in ({"size": 4096}, {"size": 777, "seed": 1})
        )
    assert serialised(shuffled) == serialised(ordered)


def test_the_better_model_is_better_by_more_than_chance(scored):
    entries = []
    for model, report in scored.items():
        *_, macro = report.evidence.replicates
        entries.append(Entry(model, aurocs(report)[1].value, replicates=macro.values))
    (compared,) = compare(entries)
    assert (compared.first, compared.second) == ("densenet121", "resnet50")
    assert 0 < compared.low < compared.difference < compared.high
    assert compared.separable


@pytest.mark.parametrize("model", MACROS)
def test_clustered_delong_agrees_with_the_bootstrap_within_5_percent(scored, model):
    findings, macro = aurocs(scored[model])
    ratios = {
        value.finding: value.analytic_standard_error / value.interval.standard_error
        for value in findings
    }
    ratios["macro"] = macro.analytic_standard_error / macro.interval.standard_error
    assert ratios == dict.fromkeys(ratios, pytest.approx(1, abs=0.05))


def test_official_split_has_the_support_counts_of_the_benchmark(shared):
    truth = load_truth(load_spec("nih-chestxray14"), shared / "nih-chestxray14")
    cohort = truth.cohort
    positives = {
        finding: (int(column.sum()), np.unique(cohort.patients[column]).size)
        for finding, column in zip(truth.spec.findings, cohort.labels.T, strict=True)
    }
    assert positives["Hernia"] == (86, 32)
    assert positives["Fibrosis"] == (435, 257)
    assert positives["Pneumonia"] == (555, 311)
