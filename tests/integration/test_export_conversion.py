"""A submitted PyTorch file is converted in the sandbox only, and what it does there is named."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from cxreval.errors import DigestMismatch, ModelCrashed, ModelInputMismatch, ModelTooSlow
from cxreval.files import file_sha256
from cxreval.manifest.model import CheckpointFormat, Manifest
from cxreval.preprocessing import Activation, Outputs
from tests.conftest import require_module
from tests.support.inference import png
from tests.support.system import manifest

require_module("safetensors")
require_module("cxreval.export.torch_libraries")

import torch  # noqa: E402 -- an optional extra
from torch import nn  # noqa: E402

from cxreval.export import conversion  # noqa: E402
from cxreval.export.conversion import convert_checkpoint  # noqa: E402
from tests.support import pytorch_files as files  # noqa: E402
from tests.support.pytorch_files import Small, seeded  # noqa: E402

NAMES = ("Mass", "", "Hernia")


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for number, path in enumerate(paths):
        path.write_bytes(png(256, 256, seed=number))
    return paths


def script(network: nn.Module, path: Path) -> Manifest:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        files.script(network, path)
    return replace(
        manifest("Script", "imagenet-224", NAMES),
        format=CheckpointFormat.TORCHSCRIPT,
        outputs=Outputs(activation=Activation.SIGMOID),
        artifact_sha256=file_sha256(path),
    )


def test_file_is_converted_in_the_sandbox_with_evidence(tmp_path: Path, images: list[Path]) -> None:
    declared = script(seeded(Small), tmp_path / "m.pt")
    path = tmp_path / "m.onnx"
    outputs, evidence = convert_checkpoint(declared, tmp_path / "m.pt", path, images)
    assert outputs == ("Mass", "Hernia")
    assert float(evidence["conversion_largest_difference"]) <= 1e-6
    assert (evidence["conversion_images"], "timm_version" in evidence) == ("2", True)
    onnx.checker.check_model(onnx.load(path), full_check=True)


def test_file_reads_nothing_outside_of_the_sandbox(tmp_path: Path, images: list[Path]) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"\0" * 6)
    network = seeded(lambda: files.Reads(secret))
    declared = script(network, tmp_path / "m.pt")
    assert network(torch.zeros(1)).shape == (6,)  # it reads the file out here
    with pytest.raises(ModelInputMismatch, match="the network fails on images"):
        convert_checkpoint(declared, tmp_path / "m.pt", tmp_path / "m.onnx", images)
    assert not (tmp_path / "m.onnx").exists()


def test_conversion_that_never_ends_is_ended(
    tmp_path: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = script(seeded(files.Endless), tmp_path / "m.pt")
    monkeypatch.setattr(conversion, "TIMEOUT_SECONDS", 3.0)
    with pytest.raises(ModelTooSlow, match="took more than 3 s"):
        convert_checkpoint(declared, tmp_path / "m.pt", tmp_path / "m.onnx", images)
    assert not (tmp_path / "m.onnx").exists()


def test_file_of_another_digest_is_not_opened(tmp_path: Path, images: list[Path]) -> None:
    declared = replace(script(seeded(Small), tmp_path / "m.pt"), artifact_sha256="0" * 64)
    with pytest.raises(DigestMismatch, match="expected 0000"):
        convert_checkpoint(declared, tmp_path / "m.pt", tmp_path / "m.onnx", images)


@pytest.mark.parametrize(
    "written",
    [
        b"",
        b"onnx\n",
        b"onnx\n[]",
        b'\n{"reason": "MALFORMED_FIELD", "message": "", "metadata": {}}',
        b'\n{"reason": "PARITY_FAILED", "message": 3, "metadata": {}}',
        b'\n{"reason": [], "message": "", "metadata": {}}',
        b'\n{"outputs": 1, "largest_difference": 0}',
        b'\n{"outputs": [], "largest_difference": NaN}',
        b'\n{"outputs": ["\\ud800"], "largest_difference": 0}',
        b"\n" + b"[" * 60000,
        b"x" * 70000,
    ],
)
def test_answer_that_a_converter_never_gives_is_not_believed(
    written: bytes, tmp_path: Path
) -> None:
    (tmp_path / "out").write_bytes(written)
    with (
        (tmp_path / "out").open("r+b") as stdout,
        pytest.raises(ModelCrashed, match="it answered wrongly"),
    ):
        conversion._answer(stdout)
