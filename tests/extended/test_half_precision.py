"""Half precision: models that pass the check on phantoms rank as before, others are refused."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from cxreval.bundle import described
from cxreval.client import read_manifest
from cxreval.datasets import phantom
from cxreval.datasets.nih import FINDINGS
from cxreval.errors import ModelUnsupported
from cxreval.imaging.decode import decode
from cxreval.imaging.preprocess import PROFILES
from cxreval.metrics.auroc import auroc
from cxreval.model_interface import preset
from services.inference.backends.model_host import LoadRequirements
from services.inference.backends.onnx_model import OnnxModel
from services.inference.backends.precision import FP16_TOLERANCE
from services.inference.backends.session import Execution
from tests.conftest import REPOSITORY, require_module
from tests.support import bundles, onnx_models
from tests.support.inference import HOST_LIMITS, random_images

AUROC_TOLERANCE = 1e-3
PHANTOM_PATIENTS = 200
IMAGENET = PROFILES["imagenet-224"]

pytestmark = pytest.mark.timeout(900)


def pair(file: Path, profile_name: str, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The answers in full and half precision; the latter is checked on phantoms when loaded."""
    answers = []
    for fp16 in (False, True):
        model = OnnxModel(
            file,
            LoadRequirements(preset(profile_name)),
            threads=2,
            max_batch=1,
            limits=HOST_LIMITS,
            execution=Execution("cpu", fp16=fp16),
        )
        try:
            answers.append(model.each(images))
        finally:
            model.host.close()
    full, half = answers
    return full, half


def auroc_changes(
    full: np.ndarray, half: np.ndarray, findings: Sequence[frozenset[str]]
) -> np.ndarray:
    """Returns the change of AUROC by half precision for each finding with both labels.

    Outputs are (n, 14).
    """
    labels = np.array([[finding in found for finding in FINDINGS] for found in findings])
    pairs = zip(map(auroc, full.T, labels.T), map(auroc, half.T, labels.T), strict=True)
    return np.array([other - one for one, other in pairs if one is not None and other is not None])


def test_the_demos_trained_models_rank_phantoms_as_before() -> None:
    studies = [
        study for patient in range(PHANTOM_PATIENTS) for study in phantom.draw_studies(3, patient)
    ]
    pictures, accepted = [phantom.render(study, 3) for study in studies], 0
    for file in sorted((REPOSITORY / "demo" / "checkpoints").glob("*.onnx")):
        profile = read_manifest(file.with_suffix(".yaml")).preprocessing_profile
        images = np.concatenate([PROFILES[profile].apply(picture) for picture in pictures])
        try:
            full, half = pair(file, profile, images)
        except ModelUnsupported:
            continue
        accepted += 1
        assert 0 < np.quantile(np.abs(half - full), 0.999) <= FP16_TOLERANCE
        changes = auroc_changes(full, half, [study.findings for study in studies])
        assert np.abs(changes).max() <= AUROC_TOLERANCE
    assert accepted


@pytest.mark.parametrize(("scale", "accepted"), [(1.0, False), (0.05, True)])
def test_phantoms_judge_densenet_121_as_the_real_radiographs_do(
    shared: Path, tmp_path: Path, scale: float, accepted: bool
) -> None:
    """Random weights exaggerate rounding; the scale of the classifier determines how much."""
    torch = require_module("torch")
    seed, systems, reading = (
        require_module(f"cxreval.export.{name}") for name in ("seed", "systems", "checkpoint")
    )
    from tests.support import checkpoints

    files = sorted((shared / "nih-chestxray14/images").glob("*.png"))
    images = np.concatenate([IMAGENET.apply(decode(file.read_bytes())) for file in files])
    network = checkpoints.torchvision_network("densenet121", images[:6])
    with torch.no_grad():
        network.classifier.weight *= scale
    checkpoint = reading.read_checkpoint(
        checkpoints.save_state_dict(network, tmp_path / "densenet.pth")
    )
    path = tmp_path / "model.onnx"
    seed.export_seed(
        systems.build_torchvision("densenet121", checkpoint), checkpoint, path, files[:2]
    )

    if not accepted:
        with pytest.raises(
            ModelUnsupported, match="in half precision the model's answers differ by"
        ):
            pair(path, "imagenet-224", images)
        return
    full, half = pair(path, "imagenet-224", images)
    assert 0 < np.abs(half - full).max() <= FP16_TOLERANCE
    table = shared / "nih-chestxray14" / "Data_Entry_2017_v2020.csv"
    # Only two of the 198 images show a hernia, so that swapping one pair of images changes that
    # AUROC by more than is allowed.
    assert (
        abs(auroc_changes(full, half, _findings(table, [file.name for file in files])).mean())
        <= AUROC_TOLERANCE
    )


def _findings(table: Path, names: list[str]) -> list[frozenset[str]]:
    with table.open(newline="") as file:
        found = {
            row["Image Index"]: frozenset(row["Finding Labels"].split("|"))
            for row in csv.DictReader(file)
        }
    return [found[name] for name in names]


def test_half_precision_reads_weights_of_other_files_as_well(tmp_path: Path) -> None:
    images = random_images(5)
    (tmp_path / "archive").write_bytes(bundles.archive(bundles.with_external_data(tmp_path)))
    listed = described([tmp_path / "model.onnx", tmp_path / "weights.bin"], ())
    model = OnnxModel(
        tmp_path / "archive",
        LoadRequirements(PROFILES["xrv-224"], onnx_models.COLUMNS, files=listed),
        threads=1,
        max_batch=1,
        limits=HOST_LIMITS,
        execution=Execution("cpu", fp16=True),
    )
    try:
        found = model.each(images)
    finally:
        model.host.close()
    assert np.abs(found - onnx_models.expected(images)).max() < FP16_TOLERANCE
    assert not np.array_equal(found, onnx_models.expected(images).astype(np.float32))
