"""A host's images and label table become a board, in the vocabularies of four collections.

Each data set is described, registered and scored as a host does it; the board's figures equal
scikit-learn's over the labels that the collection's documentation means.
"""

import sys

import numpy as np
import pytest
from pydicom import examples
from sklearn.metrics import average_precision_score, roc_auc_score

from cxreval.cli import app
from cxreval.client import EvaluationStatus
from cxreval.datasets.benchmark_file import load_spec
from cxreval.evaluation.driver import EvaluationDriver
from tests.support import onnx_models
from tests.support.system import System, manifest, predictions
from tests.support.vocabularies import chexpert, nih_experts, padchest, vindr

PATIENTS = {
    "chexpert-ignore": 40,
    "chexpert-positive": 40,
    "chexpert-negative": 40,
    "vindr": 60,
    "padchest": None,
    "nih-experts": 860,
}


CHECKPOINTS = ("chexpert-ignore", "vindr")


def run(monkeypatch, *arguments):
    """Runs a command in this process through its entry point; returns its exit status."""
    monkeypatch.setattr(sys, "argv", ["cxreval", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        app.main()
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def hosted(tmp_path_factory):
    """The data sets by name, each described by the command with its options."""
    home = tmp_path_factory.mktemp("hosted")
    sets = {f"chexpert-{policy}": chexpert(home / f"chexpert-{policy}", policy)
            for policy in ("ignore", "positive", "negative")}  # fmt: skip
    sets["vindr"] = vindr(home / "vindr", examples.get_path("mr").read_bytes())
    sets["padchest"] = padchest(home / "padchest")
    sets["nih-experts"] = nih_experts(home / "nih-experts")
    with pytest.MonkeyPatch.context() as patch:
        for name, data in sets.items():
            more = ("--ranking-metric", "average_precision") if name == "padchest" else ()
            command = ("dataset", "describe", data.directory, *data.options, *more)
            assert run(patch, *command) == 0, name
    return sets


@pytest.fixture(scope="module")
def boards(hosted, tmp_path_factory):
    """The boards of all benchmarks after one table of predictions, and what was predicted."""
    home = tmp_path_factory.mktemp("system")
    draw = np.random.default_rng(7)
    data = {name: data.directory for name, data in hosted.items()}
    found = {}
    with System(home, data, lease_seconds=10.0) as system, pytest.MonkeyPatch.context() as patch:
        registry = ("--registry", system.registry_service.address)
        clients = (system.registry, system.inference, system.scoring)
        driver = EvaluationDriver(*clients, data, "test", 10.0)
        for name, data_set in hosted.items():
            assert run(patch, "dataset", "register", data_set.directory, *registry) == 0
            guess = np.nan_to_num(data_set.labels, nan=0.5)
            values = np.clip(0.3 * guess + 0.7 * draw.random(guess.shape), 0, 1).astype(np.float32)
            file = home / f"{name}.csv"
            rows = [f"{image},{','.join(map(repr, map(float, row)))}"
                    for image, row in zip(data_set.images, values, strict=True)]  # fmt: skip
            file.write_text("\n".join([",".join(["image", *data_set.findings]), *rows, ""]))
            system.registry.submit(name, predictions(name), file)
            ended = driver.run_next(lambda *_: None)
            assert ended is not None
            assert ended.status is EvaluationStatus.SUCCEEDED, ended.failure
            board = list(system.registry.leaderboard(name))
            if name in CHECKPOINTS:  # JPEG and DICOM in folders go through a model
                model = f"{onnx_models.classifier(home, columns=len(data_set.findings))}.onnx"
                declared = manifest(name, outputs=data_set.findings)
                system.registry.submit(name, declared, home / model)
                run_model = driver.run_next(lambda *_: None)
                assert run_model is not None
                assert run_model.status is EvaluationStatus.SUCCEEDED, run_model.failure
            found[name] = values, board, ended.report, system.registry.get_benchmark(name)
    return found


def by_scikit(reference, data, values):
    """Returns a reference metric of each finding over the images that have its label."""
    known = ~np.isnan(data.labels)
    return [
        reference(data.labels[known[:, k], k], values[known[:, k], k])
        for k in range(len(data.findings))
    ]


@pytest.mark.parametrize("name", PATIENTS)
def test_the_board_of_each_vocabulary_agrees_with_scikit_learn(hosted, boards, name):
    data, (values, board, report, spec) = hosted[name], boards[name]
    figures = {(value.metric, value.finding): value for value in report.metrics if not value.slice}
    expected = by_scikit(roc_auc_score, data, values)
    got = [figures["auroc", finding].value for finding in data.findings]
    assert got == pytest.approx(expected, abs=1e-12)
    for k, finding in enumerate(data.findings):
        counts = figures["auroc", finding]
        assert counts.positive_images == np.sum(data.labels[:, k] == 1)
        assert counts.negative_images == np.sum(data.labels[:, k] == 0)
    if name == "padchest":
        expected = by_scikit(average_precision_score, data, values)
    (row,) = board
    assert row.score == pytest.approx(np.mean(expected), abs=1e-9)
    assert spec.image_count == len(data.images)
    assert PATIENTS[name] in (None, spec.patient_count)


def test_benchmarks_of_one_table_and_other_policies_have_other_digests(boards):
    specs = [boards[f"chexpert-{policy}"][3] for policy in ("ignore", "positive", "negative")]
    assert len({spec.labels_sha256 for spec in specs}) == 1
    assert len({spec.digest for spec in specs}) == 3
    assert [spec.labels.uncertain for spec in specs] == ["ignore", "positive", "negative"]


@pytest.mark.parametrize("name", ["chexpert-ignore", "vindr", "padchest"])
def test_verify_passes_and_fits_80_columns(hosted, monkeypatch, capsys, name):
    assert run(monkeypatch, "dataset", "verify", hosted[name].directory) == 0
    printed = capsys.readouterr().out.splitlines()
    assert all(finding in "\n".join(printed) for finding in hosted[name].findings)
    assert max(map(len, printed)) <= 80
    assert load_spec("", hosted[name].directory).name == name
