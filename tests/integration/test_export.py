"""The four seed systems as ONNX files give the probabilities of the PyTorch originals."""

from __future__ import annotations

import itertools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from cxreval.datasets.nih import FINDINGS
from cxreval.errors import (
    DatasetInvalid,
    ImageUnreadable,
    InvalidProbability,
    MalformedField,
    ParityFailed,
)
from cxreval.imaging.decode import decode
from cxreval.imaging.preprocess import PROFILES
from tests.conftest import require_module

CALIBRATION = 6
TESTED = int(os.environ.get("CXREVAL_RADIOGRAPHS", "8"))  # `make test-full` takes all
SYSTEMS = {
    "torchxrayvision": "xrv-224", "chexnet": "imagenet-224", "densenet121": "imagenet-224",
    "resnet50": "imagenet-224",
}  # fmt: skip


@dataclass(frozen=True)
class Exported:
    system: Any
    checkpoint: Any
    path: Path
    report: Any
    images: np.ndarray


@pytest.fixture(scope="module")
def export() -> ModuleType:
    require_module("torch")
    require_module("safetensors")
    require_module("cxreval.export.torch_libraries")
    return require_module("cxreval.export.seed")


def checkpoint_of(name: str, images: np.ndarray, directory: Path) -> Path:
    from tests.support import checkpoints

    match name:
        case "torchxrayvision":
            return checkpoints.save_xrv_densenet(
                checkpoints.xrv_densenet(images), directory / "xrv.pt"
            )
        case "chexnet":
            return checkpoints.save_chexnet(
                checkpoints.chexnet(images), directory / "model.pth.tar"
            )
        case "densenet121":
            network = checkpoints.torchvision_network("densenet121", images)
            return checkpoints.save_state_dict(
                network, directory / "d.pth", data_parallel=True, wrapped=True
            )
        case _:
            network = checkpoints.torchvision_network("resnet50", images)
            return checkpoints.save_state_dict(network, directory / "r.pth")


def build(name: str, checkpoint: Any) -> Any:
    from cxreval.export import systems

    match name:
        case "torchxrayvision":
            return systems.build_torchxrayvision(checkpoint, "densenet121-res224-all")
        case "chexnet":
            return systems.build_chexnet(checkpoint)
        case _:
            return systems.build_torchvision(name, checkpoint)


@pytest.fixture(scope="module", params=SYSTEMS)
def exported(
    request: pytest.FixtureRequest,
    shared: Path,
    export: ModuleType,
    tmp_path_factory: pytest.TempPathFactory,
) -> Exported:
    from cxreval.export.checkpoint import read_checkpoint

    profile = PROFILES[SYSTEMS[request.param]]
    files = sorted((shared / "nih-chestxray14/images").glob("*.png"))[-TESTED:]
    images = np.concatenate([profile.apply(decode(file.read_bytes())) for file in files[-8:]])
    directory = tmp_path_factory.mktemp("export")
    checkpoint = read_checkpoint(checkpoint_of(request.param, images[:CALIBRATION], directory))
    path = directory / "out" / "model.onnx"
    path.parent.mkdir()
    system = build(request.param, checkpoint)
    report = export.export_seed(system, checkpoint, path, files)
    return Exported(system, checkpoint, path, report, images)


def probabilities(exported: Exported, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["probabilities"], {"pixels": images})[0])


@pytest.mark.timeout(600)
def test_exported_system_answers_like_its_original_on_real_radiographs(exported: Exported) -> None:
    assert exported.report.images == TESTED
    assert tuple(exported.report.differences) == FINDINGS
    assert 0 < exported.report.largest_difference <= 1e-5
    assert max(exported.report.differences.values()) == exported.report.largest_difference
    written = json.loads((exported.path.parent / "model.parity.json").read_text())
    assert written["largest_difference"] == exported.report.largest_difference
    assert written["checkpoint_sha256"] == exported.checkpoint.sha256
    assert len(written["onnx_sha256"]) == 64


def test_each_column_is_the_originals_column_of_that_name(exported: Exported) -> None:
    import torch

    with torch.inference_mode():
        original = exported.system.original(torch.from_numpy(exported.images[:2])).numpy()
    answer = probabilities(exported, exported.images[:2])
    for column, finding in enumerate(FINDINGS):
        expected = original[:, exported.system.outputs.index(finding)]
        np.testing.assert_allclose(answer[:, column], expected, rtol=0, atol=1e-5)


def test_exported_model_takes_any_batch_size_and_answers_the_same(exported: Exported) -> None:
    together = probabilities(exported, exported.images[:4])
    assert together.shape == (4, 14)
    one_by_one = np.concatenate(
        [probabilities(exported, image[np.newaxis]) for image in exported.images[:4]]
    )
    np.testing.assert_allclose(one_by_one, together, rtol=0, atol=1e-5)


def test_outputs_are_probabilities_that_tell_the_images_apart(exported: Exported) -> None:
    answers = probabilities(exported, exported.images)
    assert ((answers > 0) & (answers < 1)).all()
    assert answers.std(axis=0).min() > 0.01
    gaps = [np.abs(first - second).max() for first, second in itertools.combinations(answers, 2)]
    assert min(gaps) > 0.01


def test_file_is_one_valid_onnx_model_that_says_what_it_is_and_nothing_else(
    exported: Exported,
) -> None:
    model = onnx.load(exported.path, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert not any(
        onnx.external_data_helper.uses_external_data(tensor) for tensor in model.graph.initializer
    )
    assert [part.name for part in model.graph.input] == ["pixels"]
    assert [part.name for part in model.graph.output] == ["probabilities"]
    assert sorted(file.name for file in exported.path.parent.iterdir()) == [
        "model.onnx",
        "model.parity.json",
    ]
    profile = exported.system.profile
    assert [(part.key, part.value) for part in model.metadata_props] == [
        ("cxreval.checkpoint_sha256", exported.checkpoint.sha256),
        ("cxreval.output_names", json.dumps(FINDINGS)),
        ("cxreval.preprocessing_profile", profile.name),
        ("cxreval.profile_digest", profile.digest),
        ("cxreval.system", exported.system.name),
        ("cxreval.version", exported.system.version),
    ]
    del model.graph.initializer[:]  # random weights may contain any bytes
    assert b".py" not in model.SerializeToString()


def test_operating_points_are_applied_as_the_library_applies_them(export: ModuleType) -> None:
    import torch
    from torch import nn

    from cxreval.export.probabilities import Probabilities
    from cxreval.export.torch_libraries import torchxrayvision

    known = torchxrayvision.models.model_urls["densenet121-res224-all"]
    columns = [known["labels"].index(finding) for finding in FINDINGS]
    thresholds = torch.tensor(known["op_threshs"])
    linear = nn.Linear(18, 18)
    nn.init.eye_(linear.weight)
    nn.init.zeros_(linear.bias)
    logits = torch.linspace(-12, 12, 1001)[:, None].expand(-1, 18)
    logits = torch.cat(
        [logits, torch.logit(thresholds)[None]]
    )  # exactly at the operating points, too
    expected = torchxrayvision.models.op_norm(torch.sigmoid(logits), thresholds)[:, columns]
    exported = Probabilities(linear, columns, thresholds=thresholds[columns])(logits)
    assert torch.equal(exported, expected)
    assert (exported.diff(dim=0)[:1000] >= 0).all()  # monotonic, so that AUROCs do not change


@pytest.fixture
def small(export: ModuleType) -> Any:
    """A fast system: a seed system's shape with one layer, and its checkpoint."""
    import copy

    import torch
    from torch import nn

    from cxreval.export.checkpoint import Checkpoint
    from cxreval.export.probabilities import Probabilities
    from cxreval.export.systems import SeedSystem

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 14)).eval()
    system = SeedSystem(
        "small", "none", PROFILES["imagenet-224"], FINDINGS, nn.Sequential(network, nn.Sigmoid()),
        Probabilities(copy.deepcopy(network), list(range(14))),
    )  # fmt: skip
    return system, Checkpoint({}, "0" * 64, whole_pickle=False)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    import imagecodecs

    file = tmp_path / "images" / "a.png"
    file.parent.mkdir()
    file.write_bytes(imagecodecs.png_encode(np.arange(64, dtype=np.uint8).reshape(8, 8)))
    return file


def test_same_system_gives_the_same_bytes(export: ModuleType, small: Any, tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        assert export.export_seed(*small, tmp_path / name) is None
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_failed_parity_changes_no_file(
    export: ModuleType, small: Any, picture: Path, tmp_path: Path
) -> None:
    import torch

    system, checkpoint = small
    out = tmp_path / "out"
    out.mkdir()
    (out / "model.onnx").write_bytes(b"earlier")
    (out / "model.parity.json").write_bytes(b"{}")
    with torch.no_grad():
        system.original[0][2].bias[4] += 1e-3
    with pytest.raises(
        ParityFailed, match=r"from its original by 0\.000\d+ in Mass; expected at most 1e-05"
    ):
        export.export_seed(system, checkpoint, out / "model.onnx", [picture])
    with torch.no_grad():
        system.exported.network[2].bias[4] = torch.nan
    with pytest.raises(ParityFailed, match="by nan in Mass"):  # NaN in the export only
        export.export_seed(system, checkpoint, out / "model.onnx", [picture])
    with torch.no_grad():
        system.original[0][2].bias[4] = torch.nan
    with pytest.raises(
        InvalidProbability, match="PyTorch returns a value that is not finite for Mass"
    ):  # NaN in the weights
        export.export_seed(system, checkpoint, out / "model.onnx", [picture])
    assert {file.name: file.read_bytes() for file in out.iterdir()} == {
        "model.onnx": b"earlier", "model.parity.json": b"{}",
    }  # fmt: skip


def test_file_without_parity_has_no_report_of_an_earlier_one(
    export: ModuleType, small: Any, tmp_path: Path
) -> None:
    (tmp_path / "model.parity.json").write_bytes(b"{}")
    export.export_seed(*small, tmp_path / "model.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_unusable_images_and_output_paths_are_named(
    export: ModuleType, small: Any, picture: Path, tmp_path: Path
) -> None:
    from cxreval.export.parity import find_images

    assert find_images(picture.parent) == [picture]
    for directory in (tmp_path / "none", tmp_path):
        with pytest.raises(DatasetInvalid, match="holds no image"):
            find_images(directory)
    picture.write_bytes(picture.read_bytes()[:-20])
    with pytest.raises(ImageUnreadable, match=r"a\.png: image is unreadable"):
        export.export_seed(*small, tmp_path / "model.onnx", [picture])
    with pytest.raises(MalformedField, match="output is"):
        export.export_seed(*small, tmp_path / "none" / "model.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["images"]


def test_same_seed_and_images_give_the_same_weights_and_another_seed_others(
    export: ModuleType,
) -> None:
    from cxreval.export import densenet

    images = np.random.default_rng(0).uniform(-1024, 1024, (4, 1, 64, 64)).astype(np.float32)
    first, again, other = (
        densenet.build_torchxrayvision_densenet(seed, images).state_dict() for seed in (1, 1, 2)
    )
    assert all(bool((first[name] == again[name]).all()) for name in first)
    assert not all(bool((first[name] == other[name]).all()) for name in first)
