"""PyTorch's DenseNet-121 and its ONNX export answer alike on real radiographs."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from cxreval.imaging.decode import decode
from cxreval.imaging.preprocess import PROFILES
from tests.conftest import require_module

CALIBRATION, TESTED = 24, 8
SEED = 7


@dataclass(frozen=True)
class Exported:
    profile: str
    columns: int
    module: Any
    images: np.ndarray
    path: Path


@pytest.fixture(scope="module")
def onnx_export() -> ModuleType:
    require_module("torch")
    require_module("cxreval.export.torch_libraries")
    return require_module("cxreval.export.onnx_export")


@pytest.fixture(scope="module", params=["torchxrayvision", "torchvision"])
def exported(
    request: pytest.FixtureRequest, shared: Path, onnx_export: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    from cxreval.export import densenet

    build, profile, columns = {
        "torchxrayvision": (densenet.build_torchxrayvision_densenet, "xrv-224", 18),
        "torchvision": (densenet.build_torchvision_densenet, "imagenet-224", 14),
    }[request.param]
    files = sorted((shared / "nih-chestxray14/images").glob("*.png"))[: CALIBRATION + TESTED]
    images = np.stack([PROFILES[profile].apply(decode(file.read_bytes())) for file in files])
    module = build(SEED, images[:CALIBRATION])
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    onnx_export.export_onnx(module, PROFILES[profile].shape, path)
    return Exported(profile, columns, module, images[CALIBRATION:], path)


def probabilities(exported: Exported, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["probabilities"], {"pixels": images})[0])


def test_exported_model_answers_like_pytorch_on_real_radiographs(exported: Exported, onnx_export: ModuleType) -> None:
    assert onnx_export.parity(exported.module, exported.path, exported.images) < 1e-5


def test_exported_model_takes_any_batch_size_and_answers_the_same(exported: Exported) -> None:
    together = probabilities(exported, exported.images)
    assert together.shape == (TESTED, exported.columns)
    one_by_one = np.concatenate([probabilities(exported, image[np.newaxis]) for image in exported.images])
    np.testing.assert_allclose(one_by_one, together, rtol=0, atol=1e-5)


def test_outputs_are_probabilities_that_tell_the_images_apart(exported: Exported) -> None:
    answers = probabilities(exported, exported.images)
    assert ((answers > 0) & (answers < 1)).all()
    logits = np.log(answers / (1 - answers))
    assert logits.std(axis=0).min() > 0.2
    gaps = [np.abs(first - second).max() for first, second in itertools.combinations(answers, 2)]
    assert min(gaps) > 0.01


def test_file_is_one_valid_onnx_model_without_external_data_or_paths(exported: Exported) -> None:
    model = onnx.load(exported.path, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert not any(onnx.external_data_helper.uses_external_data(tensor) for tensor in model.graph.initializer)
    assert [part.name for part in model.graph.input] == ["pixels"]
    assert [part.name for part in model.graph.output] == ["probabilities"]
    assert [file.name for file in exported.path.parent.iterdir()] == ["model.onnx"]
    del model.graph.initializer[:]  # random weights spell anything
    assert b".py" not in model.SerializeToString()


def test_same_seed_and_images_give_the_same_weights_and_another_seed_others(onnx_export: ModuleType) -> None:
    from cxreval.export import densenet

    images = np.random.default_rng(0).uniform(-1024, 1024, (4, 1, 64, 64)).astype(np.float32)
    first, again, other = (densenet.build_torchxrayvision_densenet(seed, images).state_dict() for seed in (1, 1, 2))
    assert all(bool((first[name] == again[name]).all()) for name in first)
    assert not all(bool((first[name] == other[name]).all()) for name in first)
