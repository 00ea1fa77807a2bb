"""The full pipeline on 198 real radiographs equals torchxrayvision, PyTorch and scikit-learn."""

import csv

import numpy as np
import pytest

from cxreval.client import SubmissionStatus, Tier
from cxreval.datasets.nih import FINDINGS
from tests.conftest import require_module
from tests.support.scoring import describe
from tests.support.system import System, manifest

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def originals(shared):
    """Every sample image after torchxrayvision's own preprocessing, (198, 1, 224, 224)."""
    require_module("torch")
    skimage_io = require_module("skimage.io")
    from cxreval.export.torch_libraries import torchxrayvision

    directory = shared / "nih-chestxray14"
    images = sorted((directory / "sample_list.txt").read_text().split())
    crop, resize = (
        torchxrayvision.datasets.XRayCenterCrop(),
        torchxrayvision.datasets.XRayResizer(224),
    )
    pixels = []
    for image in images:
        raw = skimage_io.imread(directory / "images" / image)
        grey = raw[..., 0] if raw.ndim == 3 else raw
        pixels.append(resize(crop(torchxrayvision.datasets.normalize(grey, 255)[None])))
    return images, np.stack(pixels).astype(np.float32)


@pytest.mark.timeout(600)
def test_the_report_equals_an_independent_computation(shared, originals, tmp_path):
    import torch
    from sklearn.metrics import roc_auc_score

    from cxreval.export.densenet import TORCHXRAYVISION_TARGETS, build_torchxrayvision_densenet
    from cxreval.export.onnx_export import export_onnx

    images, pixels = originals
    # With this seed, rounding cannot swap a positive and a negative of any finding.
    network = build_torchxrayvision_densenet(seed=20, images=pixels[::8])
    with torch.inference_mode():
        expected = np.concatenate(
            [network(torch.from_numpy(part)).numpy() for part in np.split(pixels, 6)]
        )
    checkpoint = tmp_path / "densenet121.onnx"
    export_onnx(network, (1, 224, 224), checkpoint)

    source = shared / "nih-chestxray14"
    data = tmp_path / "data"
    spec = describe(data, "nih-sample", images, source / "Data_Entry_2017_v2020.csv")
    (data / "images").symlink_to((source / "images").resolve())
    outputs = tuple(name if name in FINDINGS else "" for name in TORCHXRAYVISION_TARGETS)
    with System(tmp_path, {"nih-sample": data}) as system:
        system.registry.create_benchmark(spec)
        submitted = system.registry.submit(
            "nih-sample", manifest("DenseNet-121", outputs=outputs), checkpoint
        )
        system.start_worker()
        ended = system.wait(submitted.name, 480)
        assert (ended.status, ended.tier, ended.failure) == (
            SubmissionStatus.PUBLISHED,
            Tier.EXECUTED,
            None,
        )
        evaluation = system.registry.get_evaluation(ended.evaluation)
        served = system.registry.predictions(ended.name)
        (row,) = system.registry.leaderboard("nih-sample")

    columns = [TORCHXRAYVISION_TARGETS.index(finding) for finding in served.findings]
    assert list(served.images) == images
    assert served.probabilities == pytest.approx(expected[:, columns], abs=TOLERANCE)
    with (source / "Data_Entry_2017_v2020.csv").open() as file:
        findings = {
            row["Image Index"]: row["Finding Labels"].split("|") for row in csv.DictReader(file)
        }
    scores = []
    areas = [
        value for value in evaluation.report.metrics if (value.metric, value.slice) == ("auroc", "")
    ]
    *values, macro = areas
    assert [value.finding for value in areas] == [*FINDINGS, ""]
    for value in values:
        truth = [value.finding in findings[image] for image in images]
        assert (value.positive_images, value.negative_images) == (
            sum(truth),
            len(images) - sum(truth),
        )
        scores.append(
            roc_auc_score(truth, expected[:, TORCHXRAYVISION_TARGETS.index(value.finding)])
        )
        assert value.value == pytest.approx(scores[-1], abs=TOLERANCE)
    assert macro.value == pytest.approx(np.mean(scores), abs=TOLERANCE)
    assert (row.score, row.rank, row.sota) == (macro.value, 1, True)
    assert row.profile_digest == evaluation.provenance["profile_digest"]
