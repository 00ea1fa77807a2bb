"""PyTorch files of every kind become ONNX files that answer like PyTorch; other files are refused
with the cure."""

from __future__ import annotations

import argparse
import json
import pathlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from cxreval.errors import (
    CheckpointMismatch,
    CheckpointUnreadable,
    CxrevalError,
    InvalidProbability,
    ModelInputMismatch,
    ModelOutputMismatch,
    ModelTooLarge,
    NotDeterministic,
)
from cxreval.manifest.model import CheckpointFormat
from cxreval.preprocessing import Activation
from tests.conftest import require_module

require_module("safetensors")
require_module("cxreval.export.torch_libraries")

import torch  # noqa: E402 -- an optional extra
from safetensors.torch import save_file  # noqa: E402
from torch import nn  # noqa: E402

from cxreval.export import pytorch_file, weights  # noqa: E402
from cxreval.export.architectures import NetworkSpec  # noqa: E402
from cxreval.export.conversion_request import Request  # noqa: E402
from cxreval.export.converter import convert  # noqa: E402
from cxreval.export.pytorch_file import FileKind, check_file, kind_of  # noqa: E402
from cxreval.export.state_dict import read_state_dict  # noqa: E402
from tests.support import pytorch_files as files  # noqa: E402
from tests.support.checkpoints import hostile  # noqa: E402
from tests.support.pytorch_files import Small, seeded  # noqa: E402

STATE_DICT, SCRIPT, PROGRAM = tuple(pytorch_file.FORMATS)
IMAGES = np.random.default_rng(1).normal(size=(3, 3, 64, 64)).astype(np.float32)
NAMES = ("Mass", "", "Hernia")


def probabilities(content: bytes, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["probabilities"], {"pixels": images})[0])


def answers(network: nn.Module, images: np.ndarray = IMAGES) -> torch.Tensor:
    with torch.inference_mode():
        return network(torch.from_numpy(images))


@pytest.fixture(autouse=True)
def quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        yield


# --- weights of named networks --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "channels", "activation"),
    [
        ("torchvision/squeezenet1_1", 1, Activation.SOFTMAX_POSITIVE),
        ("timm/test_vit", 3, Activation.NONE),
    ],
)
def test_network_by_name_answers_like_pytorch_in_any_batch(
    name: str, channels: int, activation: Activation, tmp_path: Path
) -> None:
    pairs = 2 if activation is Activation.SOFTMAX_POSITIVE else 1
    network = seeded(NetworkSpec(name, 3 * pairs, channels, (64, 64)).build)
    torch.save(network.state_dict(), tmp_path / "weights")
    images = np.ascontiguousarray(IMAGES[:, :channels])
    content, answer = convert(
        Request(STATE_DICT, name, NAMES, activation), tmp_path / "weights", images
    )
    logits = answers(network, images)
    expected = logits.reshape(3, 3, 2).softmax(-1)[..., 1] if pairs == 2 else logits.sigmoid()
    assert answer["outputs"] == ("Mass", "Hernia")
    np.testing.assert_allclose(
        probabilities(content, images), expected[:, [0, 2]].numpy(), rtol=0, atol=1e-5
    )


NETWORK = seeded(Small)
STATE = NETWORK.state_dict()


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in STATE.items()}


def with_head(head: nn.Module) -> dict[str, torch.Tensor]:
    return seeded(lambda: Small(head=head)).state_dict()


@pytest.mark.parametrize(
    "tensors",
    [
        STATE,
        prefixed("module."),
        prefixed("module.model.net.backbone."),
        prefixed("m.") | {"criterion.pos_weight": torch.ones(3)},
        STATE | {"total_ops": torch.zeros(1), "n_averaged": torch.tensor(3)},
        {"backbone." + k: v for k, v in STATE.items() if "feat" in k}
        | {"head." + k.rpartition(".")[2]: v for k, v in STATE.items() if "cl" in k},
        {name.replace("classifier", "classifier.0"): value for name, value in STATE.items()},
        {name.replace("classifier", "fc.1"): value for name, value in STATE.items()},
    ],
    ids=[
        "as is", "DataParallel", "nested", "loss", "profiler and averaging", "backbone and head",
        "sigmoid", "dropout",
    ],
)  # fmt: skip
def test_names_of_training_scripts_are_those_of_the_network(
    tensors: Mapping[str, torch.Tensor],
) -> None:
    fitted = weights.fitted(STATE, tensors)
    assert set(fitted) == set(STATE)
    assert all(torch.equal(fitted[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (with_head(nn.Linear(4, 5)),
         "the last layer classifier has 5 columns; the manifest declares 3"),
        (with_head(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))),
         r"2 are missing \(classifier.weight, classifier.bias\), and the checkpoint has 4 others"),
        (STATE | {"features.0.weight": torch.ones(4, 1, 3, 3)},
         "the first layer features.0.weight takes 1 channels; preprocessing.channels is 3"),
        ({}, "4 are missing"),
        (STATE | {"extra": torch.ones(1)}, r"0 are missing, .* has 1 others \(extra\)"),
        (STATE | {"features.0.bias": torch.ones(9, 9)}, "0.bias with .9, 9. instead of .4,."),
        (STATE | {"features.0.bias": torch.full((4,), torch.nan)}, "values that are not finite"),
        (STATE | {"features.0.bias": torch.ones(4, dtype=torch.int8)}, "is of torch.int8"),
        (STATE | {"\x1b[2Jfeatures": torch.ones(1)}, r"others \( \[2Jfeatures\)"),
        (prefixed("a.") | {"classifier.bias": STATE["classifier.bias"]},
         "the same name without 'a.'"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_are_described(
    tensors: Mapping[str, torch.Tensor], message: str
) -> None:
    with pytest.raises(CheckpointMismatch, match=message):
        weights.fitted(STATE, tensors)


def test_weights_of_a_sibling_are_named(tmp_path: Path) -> None:
    network = NetworkSpec("timm/test_efficientnet", 3, 3, (64, 64)).build()
    torch.save(network.state_dict(), tmp_path / "weights")
    with pytest.raises(CheckpointMismatch, match="of timm/test_efficientnet, not timm/test_resnet"):
        convert(Request(STATE_DICT, "timm/test_resnet", NAMES), tmp_path / "weights", IMAGES)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("timm/resnet51", "timm/resnet5"),
        ("torchvision/resnet-50", "torchvision/resnet50"),
        ("monai/DenseNet120", "monai/DenseNet12"),
        ("vit_b_16", "torchvision/vit_b_16"),
        ("timm/hf_hub:someone/model", "timm/NAME"),
        ("torchvision/fasterrcnn_resnet50_fpn", "torchvision/"),
    ],
)
def test_unknown_network_is_refused_with_near_names(name: str, expected: str) -> None:
    with pytest.raises(CheckpointMismatch, match=f"no classifier .*expected .*{expected}"):
        NetworkSpec(name, 3, 3, (64, 64)).build()


def test_monai_and_torchvision_networks_have_the_declared_channels_and_columns() -> None:
    for name in ("monai/DenseNet121", "torchvision/vit_b_32"):
        state = NetworkSpec(name, 5, 1, (224, 224)).state()
        first, *_, last = state.values()
        if name.startswith("torchvision"):
            first = state["conv_proj.weight"]
        assert (first.shape[1], last.shape[0]) == (1, 5)


# --- files of state dicts -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("form", ["safetensors", "zip", "legacy", "lightning", "net"])
def test_state_dict_is_read_from_every_container(
    kind: torch.dtype, form: str, tmp_path: Path
) -> None:
    tensors = {name: tensor.to(kind) for name, tensor in STATE.items()}
    file = tmp_path / "weights.bin"
    match form:
        case "safetensors":
            save_file(tensors, file)
        case "legacy":
            torch.save(tensors, file, _use_new_zipfile_serialization=False)
        case "lightning":
            hyper = argparse.Namespace(root=pathlib.PurePosixPath("/data"), rate=np.float64(0.1))
            torch.save(
                {
                    "hyper_parameters": hyper,
                    "callbacks": {pathlib.PurePosixPath("/a"): hyper},
                    "state_dict": tensors,
                },
                file,
            )
        case "net":
            torch.save({"net": tensors, "epoch": 3}, file)
        case _:
            torch.save({name: nn.Parameter(tensor) for name, tensor in tensors.items()}, file)
    read = read_state_dict(file, check_file(file, STATE_DICT))
    assert all(torch.equal(read[name], tensors[name]) for name in STATE)
    assert weights.fitted(STATE, read)["features.0.bias"].dtype is torch.float32


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    file = hostile(tmp_path / "evil.pt", f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert list(read_state_dict(file, FileKind.PICKLE)) == ["classifier.weight"]
    assert not (tmp_path / "ran").exists()


def test_whole_model_is_refused_with_the_cure(tmp_path: Path) -> None:
    for number, payload in enumerate((NETWORK, {"model": nn.DataParallel(NETWORK)})):
        torch.save(payload, tmp_path / str(number))
        with pytest.raises(CheckpointUnreadable, match=r"whole model .*save model.state_dict\(\)"):
            read_state_dict(tmp_path / str(number), FileKind.PICKLE)


def test_tensor_that_repeats_its_memory_is_counted_as_it_would_be_used(tmp_path: Path) -> None:
    torch.save({"x": torch.ones(1).expand(100_000, 100_000)}, tmp_path / "x")
    with pytest.raises(ModelTooLarge, match="40000000000 bytes"):
        read_state_dict(tmp_path / "x", FileKind.PICKLE)


ONE = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}


@pytest.mark.parametrize(
    "header",
    [
        {"a": ONE, "b": ONE | {"data_offsets": [8, 24]}},
        {"a": ONE | {"data_offsets": [0, 2**63]}},
        {"a": ONE | {"shape": [2**62]}},
        {"a": ONE | {"data_offsets": [16, 0]}},
        {"a": ONE | {"shape": [-4]}},
        {"a": ONE | {"dtype": "F33"}},
        {"a": None},
    ],
)
def test_lying_safetensors_file_is_refused(header: dict[str, object], tmp_path: Path) -> None:
    file = files.lying_safetensors(tmp_path / "x", header)
    assert kind_of(file) is FileKind.SAFETENSORS
    with pytest.raises(CheckpointUnreadable, match="the safetensors file is damaged"):
        read_state_dict(file, FileKind.SAFETENSORS)


def test_safetensors_file_with_a_header_beyond_its_end_is_of_another_kind(tmp_path: Path) -> None:
    assert kind_of(files.lying_safetensors(tmp_path / "x", {}, 2**63)) is FileKind.OTHER


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "as Keras writes .h5; .*--keras FILE --output"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html>", "is a web page, not a model"),
        (b"\x08\x08\x12\x07pytorch", "set format: onnx"),
        (b"PK\x03\x04" + bytes(99), "a zip archive .* without its end"),
        (b"", "of no known format"),
        (bytes(99), "only zeros at its start"),
        (b"\xfe" * 99, "of no known format; .*submit another file"),
    ],
)
def test_file_of_another_kind_is_named_with_the_cure(
    content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(CheckpointUnreadable, match=message):
        check_file(tmp_path / "x", STATE_DICT)


def test_kinds_of_pytorch_files_are_told_apart_and_the_right_format_is_named(
    tmp_path: Path,
) -> None:
    script = files.script(NETWORK, tmp_path / "a")
    program = files.program(NETWORK, tmp_path / "b", torch.from_numpy(IMAGES[:2]))
    torch.save(STATE, tmp_path / "c")
    made = {SCRIPT: script, PROGRAM: program, STATE_DICT: tmp_path / "c"}
    for form, file in made.items():
        check_file(file, form)
        for other in made.keys() - {form}:
            with pytest.raises(CheckpointUnreadable, match=f"set format: {form}"):
                check_file(file, other)


@pytest.mark.parametrize("form", [STATE_DICT, SCRIPT, PROGRAM])
def test_archive_that_unpacks_to_too_much_is_refused_unopened(
    form: CheckpointFormat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pytorch_file, "MAX_FILE_BYTES", 1 << 20)
    file = files.zip_bomb(tmp_path / "bomb", ("data.pkl", "version"), 1 << 24)
    assert file.stat().st_size < 1 << 18
    with pytest.raises(ModelTooLarge, match="unpacks to 33554432 bytes"):
        check_file(file, form)


# --- TorchScript and torch.export -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "tensor"), [(Small, ""), (files.Pair, "1"), (files.Named, "logits")]
)
def test_torchscript_answers_like_pytorch(network: Any, tensor: str, tmp_path: Path) -> None:
    module = seeded(network)
    file = files.script(module, tmp_path / "m.pt")
    content, answer = convert(Request(SCRIPT, "", NAMES, Activation.SIGMOID, tensor), file, IMAGES)
    logits = answers(getattr(module, "network", module))
    np.testing.assert_allclose(
        probabilities(content, IMAGES), logits.sigmoid()[:, [0, 2]].numpy(), rtol=0, atol=1e-5
    )
    assert answer["outputs"] == ("Mass", "Hernia")


@pytest.mark.parametrize("free", [True, False])
def test_exported_program_answers_like_pytorch(free: bool, tmp_path: Path) -> None:
    network = seeded(lambda: nn.Sequential(Small(), nn.Sigmoid()))
    example = torch.from_numpy(IMAGES[: 2 if free else 1])
    file = files.program(network, tmp_path / "m.pt2", example, free=free)
    content, _ = convert(Request(PROGRAM, "", NAMES), file, IMAGES)
    batches = [IMAGES] if free else [IMAGES[n : n + 1] for n in range(3)]
    found = np.concatenate([probabilities(content, batch) for batch in batches])
    np.testing.assert_allclose(found, answers(network)[:, [0, 2]].numpy(), rtol=0, atol=1e-5)


def fixed_pair(path: Path) -> Path:
    return files.program(NETWORK, path, torch.from_numpy(IMAGES[:2]), free=False)


@pytest.mark.parametrize(
    ("write", "request_", "kind", "message"),
    [
        (lambda p: files.script(NETWORK, p), Request(SCRIPT, "", NAMES), InvalidProbability,
         "look like logits: set outputs.activation to sigmoid"),
        (lambda p: files.script(NETWORK, p), Request(SCRIPT, "", NAMES[:2]), ModelOutputMismatch,
         r"shape \(1, 3\) for an image; expected \(1, 2\)"),
        (lambda p: files.script(seeded(files.Pair), p), Request(SCRIPT, "", NAMES),
         ModelOutputMismatch, "returns 2 tensors; expected outputs.tensor, one of 0, 1"),
        (lambda p: files.script(seeded(files.TwoInputs), p), Request(SCRIPT, "", NAMES),
         ModelInputMismatch, "has 2 inputs; expected one"),
        (lambda p: files.script(nn.Sequential(NETWORK, nn.Dropout().train()).train(), p),
         Request(SCRIPT, "", NAMES, Activation.SIGMOID), None, ""),
        (lambda p: files.script(seeded(lambda: nn.Conv2d(1, 3, 3)), p), Request(SCRIPT, "", NAMES),
         ModelInputMismatch, r"fails on images of shape \(1, 3, 64, 64\)"),
        (lambda p: files.script(seeded(files.Greedy), p), Request(SCRIPT, "", NAMES),
         MemoryError, ""),
        (fixed_pair, Request(PROGRAM, "", NAMES), ModelInputMismatch, "for batches of 2 images"),
    ],
)  # fmt: skip
def test_programs_that_do_not_fit_are_refused(
    write: Any, request_: Request, kind: Any, message: str, tmp_path: Path
) -> None:
    file = write(tmp_path / "m")
    if kind is None:
        convert(request_, file, IMAGES)
        return
    with pytest.raises(kind, match=message) as raised:
        convert(request_, file, IMAGES)
    if isinstance(raised.value, CxrevalError):
        told = json.dumps([raised.value.message, raised.value.metadata])
        assert ".py" not in told
        assert str(tmp_path) not in told


def test_random_answers_are_refused(tmp_path: Path) -> None:
    class Random(Small):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return super().forward(pixels) + torch.rand(1)

    file = tmp_path / "m"
    torch.jit.save(
        torch.jit.trace(seeded(Random), torch.from_numpy(IMAGES), check_trace=False), file
    )
    with pytest.raises(NotDeterministic, match=r"call model.eval\(\) before"):
        convert(Request(SCRIPT, "", NAMES, Activation.SIGMOID), file, IMAGES)
