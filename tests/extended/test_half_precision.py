"""Half precision changes neither an answer nor an AUROC by more than it is allowed to, on all real radiographs."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from cxreval.datasets.benchmark import FINDINGS
from cxreval.imaging.decode import decode
from cxreval.imaging.preprocess import PROFILES
from cxreval.metrics.auroc import aurocs
from services.inference.backends.onnx import FP16_TOLERANCE, Execution, OnnxModel, inspect
from tests.conftest import require_module

AUROC_TOLERANCE = 1e-3


@pytest.mark.timeout(900)
def test_densenet_121_in_half_precision_ranks_the_real_radiographs_as_before(shared: Path, tmp_path: Path) -> None:
    require_module("torch")
    seed, systems, reading = (require_module(f"cxreval.export.{name}") for name in ("seed", "systems", "checkpoint"))
    from tests.support import checkpoints

    files = sorted((shared / "nih-chestxray14/images").glob("*.png"))
    images = np.stack([PROFILES["imagenet-224"].apply(decode(file.read_bytes())) for file in files])
    network = checkpoints.torchvision_network("densenet121", images[:6])
    checkpoint = reading.read_checkpoint(checkpoints.save_state_dict(network, tmp_path / "densenet.pth"))
    path = tmp_path / "model.onnx"
    seed.export_seed(systems.build_torchvision("densenet121", checkpoint), checkpoint, path, files[:2])

    full, half = (
        np.concatenate([model.run([image[np.newaxis]]) for image in images])
        for model in (
            OnnxModel(path, inspect(path), threads=2, max_batch=1, execution=Execution("cpu", fp16=fp16))
            for fp16 in (False, True)
        )
    )

    assert 0 < np.abs(half - full).max() <= FP16_TOLERANCE
    labels = _labels(shared / "nih-chestxray14" / "Data_Entry_2017_v2020.csv", [file.name for file in files])
    before, after = aurocs(full, labels), aurocs(half, labels)
    changes = {
        finding: abs(one - other)
        for finding, one, other in zip(FINDINGS, before, after, strict=True)
        if one is not None and other is not None
    }
    assert len(changes) >= 10
    assert float(np.mean(list(changes.values()))) <= AUROC_TOLERANCE, changes


def _labels(table: Path, names: list[str]) -> np.ndarray:
    with table.open(newline="") as file:
        found = {row["Image Index"]: row["Finding Labels"].split("|") for row in csv.DictReader(file)}
    return np.array([[finding in found[name] for finding in FINDINGS] for name in names])
