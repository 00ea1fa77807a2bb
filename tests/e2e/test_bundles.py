"""Submissions of several files: from `submit` to the board, with figures that NumPy computes."""

from dataclasses import replace

import numpy as np
import pytest
import yaml
from sklearn.metrics import roc_auc_score

from cxreval.bundle import Ensemble, SubmittedFile
from cxreval.client import EvaluationStatus, Fault, SubmissionStatus
from cxreval.client._upload import with_files
from cxreval.datasets.benchmark_file import load_spec
from cxreval.datasets.nih import FINDINGS
from cxreval.evaluation.driver import EvaluationDriver, local_benchmarks
from cxreval.imaging.decode import decode
from cxreval.imaging.preprocess import PROFILES
from cxreval.manifest.model import Kind
from cxreval.manifest.template import template
from tests.support import bundles, onnx_models
from tests.support.inference import png
from tests.support.scoring import describe, small_table
from tests.support.system import System, command, manifest

IMAGES = [f"{patient:08d}_000.png" for patient in range(1, 13)]
LABELS = np.random.default_rng(2).random((len(IMAGES), len(FINDINGS))) < 0.4
LABELS[0], LABELS[1] = True, False


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    directory = tmp_path_factory.mktemp("bundles")
    data = directory / "data"
    names = ["|".join(np.array(FINDINGS)[row]) or "No Finding" for row in LABELS]
    describe(data, "small", IMAGES, small_table(data, list(zip(IMAGES, names, strict=True))))
    (data / "images").mkdir()
    for number, image in enumerate(IMAGES):
        (data / "images" / image).write_bytes(png(seed=number))
    with System(directory, {"small": data}, lease_seconds=10.0) as running:
        running.registry.create_benchmark(local_benchmarks(running.data)["small"])
        yield running


def run(system):
    clients = (system.registry, system.inference, system.scoring)
    return EvaluationDriver(*clients, system.data, "test", 10.0).run_next(lambda *_: None)


def expected(system, *seeds):
    """Returns the mean of the answers of `onnx_models.classifier` with these seeds."""
    files = [system.data["small"] / "images" / image for image in IMAGES]
    profile = PROFILES["xrv-224"]
    pixels = np.concatenate([profile.apply(decode(file.read_bytes())) for file in files])
    return np.mean([onnx_models.expected(pixels, seed=seed) for seed in seeds], axis=0)


def check_published(system, submission, values):
    """Checks predictions, macro AUROC and place on the board of a submission."""
    (found,) = system.registry.report_predictions(
        system.registry.get_submission(submission).evaluation
    )
    order = [found.images.index(image) for image in IMAGES]
    assert np.allclose(found.probabilities[order], values, atol=onnx_models.TOLERANCE)
    recorded = found.probabilities[order]
    auroc = np.mean([roc_auc_score(LABELS[:, k], recorded[:, k]) for k in range(len(FINDINGS))])
    (row,) = [row for row in system.registry.leaderboard("small").entries
              if row.submission == submission]  # fmt: skip
    assert row.score == pytest.approx(auroc, abs=1e-12)


def submitted_by_command(system, directory, files, **fields):
    """Returns the submission that `cxreval submit` creates."""
    document = yaml.safe_load(template(Kind.CHECKPOINT, load_spec("nih-chestxray14")))
    (directory / "mine.yaml").write_text(
        yaml.safe_dump(document | {"preprocessing": "xrv-224"} | fields)
    )
    before = {found.name for found in system.registry.list_submissions("small")}
    ended = command(
        "submit", str(directory / "mine.yaml"), *map(str, files),
        "--benchmark", "small", "--registry", system.registry_service.address,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    (created,) = [
        found for found in system.registry.list_submissions("small") if found.name not in before
    ]
    return created


def test_a_model_with_external_data_gets_the_row_of_its_probabilities(system, tmp_path):
    files = bundles.with_external_data(tmp_path, seed=4)
    created = submitted_by_command(system, tmp_path, files)
    ended = run(system)
    assert ended.status is EvaluationStatus.SUCCEEDED, ended.failure
    assert ended.provenance["model_sha256"] == created.manifest.artifact_sha256
    check_published(system, created.name, expected(system, 4))


def test_an_ensemble_gets_the_row_of_the_mean_of_its_models(system, tmp_path):
    files = bundles.members(tmp_path, (5, 6))
    created = submitted_by_command(system, tmp_path, files, ensemble="mean")
    assert [file.name for file in created.manifest.files] == ["model-5.onnx", "model-6.onnx"]
    ended = run(system)
    assert ended.status is EvaluationStatus.SUCCEEDED, ended.failure
    check_published(system, created.name, expected(system, 5, 6))


def test_an_archive_that_differs_from_its_manifest_is_the_submitters_fault(system, tmp_path):
    files = bundles.with_external_data(tmp_path, seed=7)
    declared = with_files(manifest("Other file"), files)
    wrong = replace(declared, files=(declared.files[0], SubmittedFile("weights.bin", "0" * 64)))
    created = system.registry.create_submission("small", wrong)
    system.registry.upload_artifact(created.name, files)

    failure = run(system).failure

    assert (failure.reason, failure.fault) == ("BUNDLE_INVALID", Fault.SUBMISSION)
    assert "weights.bin has sha256" in failure.message
    assert system.registry.get_submission(created.name).status is SubmissionStatus.FAILED


def test_an_ensemble_whose_second_model_fails_names_it(system, tmp_path):
    files = bundles.members(tmp_path, (8, 9))
    files[1].write_bytes((tmp_path / f"{onnx_models.custom_operator(tmp_path)}.onnx").read_bytes())
    declared = replace(manifest("Half an ensemble"), ensemble=Ensemble.MEAN)
    system.registry.submit("small", declared, files)

    failure = run(system).failure

    assert (failure.reason, failure.fault) == ("MODEL_UNSUPPORTED", Fault.SUBMISSION)
    assert failure.message.startswith("model-9.onnx: ")
