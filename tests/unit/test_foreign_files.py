"""Files of other frameworks are recognised by their content, and the files we accept are not."""

from __future__ import annotations

import io
import json
import pickle
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from cxreval.foreign_files import foreign_kind
from tests.conftest import require_module
from tests.support import onnx_models


def zipped(*names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
    return content.getvalue()


def safetensors(name: str, nbytes: int) -> bytes:
    header = {name: {"dtype": "F32", "shape": [10], "data_offsets": [0, 40]}}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(nbytes)


def array() -> bytes:
    content = io.BytesIO()
    np.save(content, np.zeros(3))
    return content.getvalue()


FOREIGN: dict[str, tuple[bytes, str, str]] = {
    "Keras HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(90), "HDF5", "tf2onnx.convert --keras"),
    "Keras zip": (zipped("config.json", "model.weights.h5"), "Keras", 'format="onnx"'),
    "SavedModel zip": (zipped("m/saved_model.pb", "m/variables/v"), "SavedModel", "--saved-model"),
    "saved_model.pb": (b"\x08\x01\x12\x03abc", "SavedModel", "--saved-model"),
    "frozen graph": (b"\x0a\x03abc\x0a\x03abc\x22\x00", "frozen graph", "--graphdef"),
    "TFLite": (b"\x1c\0\0\0TFL3" + bytes(20), "TensorFlow Lite", "--tflite"),
    "TensorRT": (b"ftrt" + bytes(20), "TensorRT", "the ONNX file that it was made from"),
    "Core ML": (b"\x08\x07\x12\x03abc\xa2\x1f\x03abc", "Core ML", "torch.onnx.export"),
    "Core ML package": (zipped("x.mlpackage/Data/com.apple.CoreML/model.mlmodel"), "Core ML", ""),
    "OpenVINO": (b'<?xml version="1.0"?>\n<net name="x">', "OpenVINO", "ONNX"),
    "GGUF": (b"GGUF" + bytes(20), "GGUF", "image classifier"),
    "scikit-learn": (pickle.dumps(LogisticRegression()), "LogisticRegression", "kind: predictions"),
    "as text": (pickle.dumps(LogisticRegression(), 0), "LogisticRegression", "kind: predictions"),
    "joblib": (zlib.compress(pickle.dumps(LogisticRegression())), "joblib", "unpack"),
    "arrays in a pickle": (pickle.dumps({"a": np.zeros(2)}), "without PyTorch's tensors", "ONNX"),
    "npy": (array(), "array of NumPy", "kind: predictions"),
    "npz": (zipped("a.npy", "b.npy"), "array of NumPy", "state_dict"),
    "transformers": (
        safetensors("vit.encoder.layer.0.attention.attention.query.weight", 40),
        "Hugging Face",
        "optimum-cli export onnx",
    ),
    "cut safetensors": (safetensors("fc.weight", 39), "safetensors file of", "download it again"),
    "tar.gz": (b"\x1f\x8b\x08" + bytes(20), "gzip", "tar xf"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(20), "7z", "7z x"),
    "zip": (zipped("best.pth", "readme.txt"), "zip with best.pth", "unzip"),
    "cut zip": (zipped("data.pkl")[:-30], "without its end", "download it again"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid 0\n", "LFS", "git lfs pull"),
    "git-annex": (b"/annex/objects/SHA256E-s5--0.pth\n", "annex", "git annex get"),
    "page": (b"\n<!DOCTYPE html><html><body>Sign in", "web page", "download the file itself"),
    "old page": (b"<HTML><HEAD>", "web page", "download the file itself"),
    "error": (b'<?xml version="1.0"?><Error><Code>AccessDenied', "error message", "permissions"),
    "answer": (b'{"error": "Repository not found"}', "text", "address"),
    "zeros": (bytes(5000), "only zeros", "download it again"),
    "image": (b"\x89PNG\r\n\x1a\n" + bytes(20), "image", "name the model"),
    "table": (b"image,Hernia\n1.png,0.5\n", "table", "kind: predictions"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_file_is_named_with_its_cure_whatever_its_name(tmp_path: Path, name: str) -> None:
    content, what, cure = FOREIGN[name]
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    kind = foreign_kind(file)
    assert kind is not None
    assert what in kind.what
    assert cure in kind.cure


def onnx(directory: Path) -> bytes:
    return (directory / f"{onnx_models.classifier(directory)}.onnx").read_bytes()


def test_a_complete_onnx_file_is_not_foreign_and_one_without_its_end_is(tmp_path: Path) -> None:
    content, file = onnx(tmp_path), tmp_path / "model"
    file.write_bytes(content)
    assert foreign_kind(file) is None
    file.write_bytes(content[: len(content) // 2])
    kind = foreign_kind(file)
    assert kind is not None
    assert kind.what == "an ONNX file without its end"


def test_folders_are_named(tmp_path: Path) -> None:
    for name, what in (
        ("saved_model.pb", "a TensorFlow SavedModel"),
        ("config.json", "a folder of a Hugging Face model"),
        ("other", "a folder"),
    ):
        folder = tmp_path / f"with {name}"
        folder.mkdir()
        (folder / name).touch()
        kind = foreign_kind(folder)
        assert kind is not None
        assert kind.what == what


@given(
    st.binary(max_size=400), st.sampled_from([b"", b"\x08\x08", b"\x80\x02", b"PK\x03\x04", b"c"])
)
def test_no_content_is_an_error(
    tmp_path_factory: pytest.TempPathFactory, end: bytes, start: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "any"
    file.write_bytes(start + end)
    foreign_kind(file)


def test_pytorch_checkpoints_are_not_foreign_and_whole_modules_are(tmp_path: Path) -> None:
    torch: Any = require_module("torch")
    network = torch.nn.Sequential(torch.nn.Linear(2, 2))
    state, file = network.state_dict(), tmp_path / "model"
    training = {"epoch": np.float64(3), "state_dict": state, "criterion": torch.nn.BCELoss()}
    for zip_format in (True, False):
        for protocol in (2, 4):
            options = {
                "_use_new_zipfile_serialization": zip_format,
                "pickle_protocol": protocol,
            }
            for payload in (state, dict(state), training, {"model": state}):
                torch.save(payload, file, **options)
                assert foreign_kind(file) is None, (type(payload), options)
            for payload in (network, {"epoch": 1, "model": network}):
                torch.save(payload, file, **options)
                kind = foreign_kind(file)
                assert kind is not None
                assert "torch.nn.modules.container.Sequential" in kind.what
                assert "model.state_dict()" in kind.cure
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(network), file)
    assert foreign_kind(file) is None
