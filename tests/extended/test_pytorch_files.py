"""Networks of many families are converted by name; hostile PyTorch files end by name in the
sandbox."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from cxreval.errors import (
    CheckpointUnreadable,
    CxrevalError,
    ModelCrashed,
    ModelInputMismatch,
    ModelTooLarge,
    ModelTooSlow,
)
from cxreval.files import file_sha256
from cxreval.manifest.model import CheckpointFormat
from tests.conftest import require_module
from tests.support.inference import png
from tests.support.system import manifest

require_module("safetensors")
require_module("cxreval.export.torch_libraries")

import torch  # noqa: E402 -- an optional extra

from cxreval.export import conversion  # noqa: E402
from cxreval.export.architectures import NetworkSpec  # noqa: E402
from cxreval.export.conversion import convert_checkpoint  # noqa: E402
from cxreval.export.conversion_request import Request  # noqa: E402
from cxreval.export.converter import convert  # noqa: E402
from cxreval.export.known_networks import NETWORKS as KNOWN  # noqa: E402
from cxreval.export.tensor_shapes import column_count, fingerprint  # noqa: E402
from tests.support import checkpoints  # noqa: E402
from tests.support import pytorch_files as files  # noqa: E402
from tests.support.pytorch_files import Small, seeded  # noqa: E402

pytestmark = pytest.mark.timeout(900)

NAMES = ("Mass", "", "Hernia")
STATE_DICT = CheckpointFormat.PYTORCH_STATE_DICT
SCRIPT, PROGRAM = CheckpointFormat.TORCHSCRIPT, CheckpointFormat.TORCH_EXPORT
NETWORKS = {
    "torchvision/convnext_tiny": 64, "torchvision/efficientnet_b0": 64, "torchvision/googlenet": 64,
    "torchvision/inception_v3": 96, "torchvision/maxvit_t": 224, "torchvision/regnet_x_400mf": 64,
    "torchvision/shufflenet_v2_x0_5": 64,
    "torchvision/swin_v2_t": 64, "torchvision/vit_b_32": 64, "monai/DenseNet121": 64,
    "timm/convnextv2_atto": 64, "timm/deit_tiny_distilled_patch16_224": 64,
    "timm/efficientnet_b0": 64, "timm/mobilenetv3_small_050": 64, "timm/resnet18.a1_in1k": 64,
    "timm/swin_tiny_patch4_window7_224": 224, "timm/vit_tiny_patch16_224": 64,
}  # fmt: skip


@pytest.mark.parametrize(("stated", "name"), KNOWN.items())
def test_known_networks_are_those_that_the_libraries_build(stated: str, name: str) -> None:
    sizes = {"inception": (299, 299), "swin_v2": (256, 256)}
    size = next((size for part, size in sizes.items() if part in name), (224, 224))
    for columns, channels in ((14, 3), (2, 1)):
        state = NetworkSpec(name, columns, channels, size).state()
        shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
        assert fingerprint(shapes) == stated
        assert column_count(shapes) in (columns, 0)


@pytest.mark.parametrize("name", NETWORKS)
def test_network_by_name_answers_like_pytorch(name: str, tmp_path: Path) -> None:
    size = NETWORKS[name]
    images = np.random.default_rng(1).normal(size=(2, 3, size, size)).astype(np.float32)
    network = seeded(NetworkSpec(name, 3, 3, (size, size)).build)
    torch.save(network.state_dict(), tmp_path / "weights")
    content, _ = convert(Request(STATE_DICT, name, NAMES), tmp_path / "weights", images)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = network(torch.from_numpy(images)).sigmoid().numpy()[:, [0, 2]]
    found = np.concatenate([session.run(None, {"pixels": images[n : n + 1]})[0] for n in (0, 1)])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_every_classifier_of_timm_builds_with_the_declared_columns() -> None:
    from cxreval.export.torch_libraries import timm

    failed = []
    for name in timm.list_models():
        size = timm.get_pretrained_cfg(name).input_size[1:]
        try:
            NetworkSpec(f"timm/{name}", 3, 1, size).state()
        except CxrevalError:
            failed.append(name)
    assert len(failed) <= 2, failed  # the encoders of language models are no classifiers


def bomb(path: Path) -> Path:
    names = ("data.pkl", "constants.pkl", "archive_format")
    return files.zip_bomb(path, names, 512 << 20)


def evil_program(path: Path) -> Path:
    """A `.pt2` whose archive has a pickle that would run code."""
    import zipfile

    network = seeded(Small)
    files.program(network, path, torch.zeros(2, 3, 224, 224))
    evil = checkpoints.hostile(path.with_name("evil"), "raise SystemExit('ran')").read_bytes()
    source = zipfile.ZipFile(path).infolist()
    with zipfile.ZipFile(path) as old:
        contents = {entry.filename: old.read(entry) for entry in source}
    with zipfile.ZipFile(path, "w") as new:
        for name, content in contents.items():
            new.writestr(name, evil if name.endswith((".pt", "_0")) else content)
    return path


def truncated(path: Path) -> Path:
    files.program(seeded(Small), path, torch.zeros(2, 3, 224, 224))
    path.write_bytes(path.read_bytes()[:-500])
    return path


@pytest.mark.parametrize(
    ("form", "write", "kinds"),
    [
        (SCRIPT, lambda path: files.script(seeded(files.Endless), path), (ModelTooSlow,)),
        (SCRIPT, lambda path: files.script(seeded(files.Greedy), path), (ModelTooLarge,)),
        (SCRIPT, lambda path: files.script(seeded(lambda: files.Reads(Path("/etc/passwd"))), path),
         (ModelInputMismatch,)),
        (SCRIPT, bomb, (ModelTooLarge,)),
        (PROGRAM, evil_program, (ModelCrashed,)),  # it runs, in the sandbox
        (PROGRAM, truncated, (CheckpointUnreadable,)),
    ],
    ids=["endless", "greedy", "reads a file", "bomb", "pickle in a program", "truncated"],
)  # fmt: skip
def test_hostile_file_ends_by_name_and_leaves_nothing(
    form: CheckpointFormat,
    write: Callable[[Path], Path],
    kinds: tuple[type[CxrevalError], ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conversion, "TIMEOUT_SECONDS", 90.0)
    image = tmp_path / "image.png"
    image.write_bytes(png(256, 256, seed=1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        file = write(tmp_path / "file")
    declared = replace(
        manifest("Hostile", "imagenet-224", NAMES), format=form, artifact_sha256=file_sha256(file)
    )
    with pytest.raises(kinds) as raised:
        convert_checkpoint(declared, file, tmp_path / "model.onnx", [image])
    assert str(tmp_path) not in raised.value.message
    assert ".py" not in raised.value.message
    assert not (tmp_path / "model.onnx").exists()
