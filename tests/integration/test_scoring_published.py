"""Two real models' predictions, streamed to a real scoring service, give the AUROCs their authors published."""

import csv
import gzip

import numpy as np
import pytest

from cxreval.client import Predictions, ScoringClient
from tests.support.scoring import describe, scoring_service


@pytest.fixture(scope="module")
def tables(shared):
    """Images and float32 probabilities of each model."""
    found = {}
    for model in ("densenet121", "resnet50"):
        with gzip.open(shared / "predictions" / model / "preds.csv.gz", "rt") as file:
            header, *rows = csv.reader(file)
        found[model] = (header, [row[0] for row in rows], np.array([row[1:] for row in rows], dtype=np.float32))
    return found


@pytest.fixture(scope="module")
def service(shared, tables, tmp_path_factory):
    directory = tmp_path_factory.mktemp("published")
    labels = shared / "nih-chestxray14" / "Data_Entry_2017_v2020.csv"
    spec = describe(directory, "published", sorted(tables["densenet121"][1]), labels)
    with scoring_service(directory / "scoring.log", published=directory) as running:
        yield spec, running


@pytest.mark.parametrize("model", ["densenet121", "resnet50"])
@pytest.mark.parametrize("seed", [None, 1])
def test_each_published_auroc_is_found_to_1e_12_in_any_order_and_batching(shared, tables, service, model, seed):
    spec, running = service
    header, images, probabilities = tables[model]
    order = np.arange(len(images)) if seed is None else np.random.default_rng(seed).permutation(len(images))
    size = 4096 if seed is None else 777
    columns = [header.index(f"prob_{finding}") - 1 for finding in spec.findings]
    batches = (
        Predictions(tuple(images[i] for i in rows), probabilities[rows][:, columns])
        for rows in (order[start : start + size] for start in range(0, len(order), size))
    )
    with ScoringClient(running.address) as client:
        report = client.score(spec, batches)
    with (shared / "predictions" / model / "aucs.csv").open() as file:
        published = {row["label"]: float(row["auc"]) for row in csv.DictReader(file)}
    *findings, macro = report.metrics
    assert {value.finding for value in findings} == set(published)
    for value in findings:
        assert value.value == pytest.approx(published[value.finding], abs=1e-12, rel=0)
    assert macro.value == pytest.approx(np.mean(list(published.values())), abs=1e-12, rel=0)
    assert (report.image_count, report.patient_count) == (22433, 6187)


def test_official_split_has_the_support_counts_of_the_benchmark(shared):
    from cxreval.datasets.benchmark import load_spec
    from cxreval.datasets.truth import load_truth

    truth = load_truth(load_spec("nih-chestxray14"), shared / "nih-chestxray14")
    positives = {
        finding: (int(column.sum()), np.unique(truth.patients[column]).size)
        for finding, column in zip(truth.spec.findings, truth.labels.T, strict=True)
    }
    assert positives["Hernia"] == (86, 32)
    assert positives["Fibrosis"] == (435, 257)
    assert positives["Pneumonia"] == (555, 311)
