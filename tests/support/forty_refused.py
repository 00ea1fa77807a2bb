"""Files that people bring and that no benchmark can run: refused before upload, with the cure."""

from __future__ import annotations

import pickle
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from sklearn.linear_model import LogisticRegression

from tests.support.forty_files import Board, submit, written_manifest

_WEIGHTS: Mapping[str, Any] = {
    "format": "pytorch-state-dict",
    "architecture": "torchvision/resnet18",
}
_IMAGE = ("N", 3, 224, 224)


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that is refused, the words of the cure, and the manifest's fields."""

    name: str
    file: str
    write: Callable[[Path], object]
    cure: str
    fields: Mapping[str, Any] = field(default_factory=dict)


def _bytes(content: bytes) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(content)


def _zip(*names: str) -> Callable[[Path], object]:
    def write(file: Path) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            for name in names:
                archive.writestr(name, "{}")

    return write


def _packed(file: Path) -> None:
    inside = file.with_name("checkpoint.pth")
    inside.write_bytes(b"PK\3\4 weights")
    with tarfile.open(file, "w:gz") as archive:
        archive.add(inside, "checkpoint.pth")


def _pickled(file: Path) -> None:
    draw = np.random.default_rng(0)
    model = LogisticRegression().fit(draw.random((20, 4)), np.arange(20) % 2)
    file.write_bytes(pickle.dumps(model))


def _onnx(
    node: onnx.NodeProto,
    inputs: tuple[str, int, tuple[Any, ...]],
    *outputs: onnx.ValueInfoProto,
    before: tuple[onnx.NodeProto, ...] = (),
    more: tuple[onnx.NodeProto, ...] = (),
    domain: str = "",
) -> Callable[[Path], object]:
    taken = [helper.make_tensor_value_info(*inputs)]
    graph = helper.make_graph([*before, node, *more], "brought", taken, [*outputs])
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    return _bytes(model.SerializeToString())


def _zipmap() -> Callable[[Path], object]:
    """A classifier as sklearn-onnx exports it: a label, and a dict of probabilities a row."""
    classes = {"classlabels_ints": [0, 1], "coefficients": [1.0] * 8, "intercepts": [0.0] * 2}
    linear = helper.make_node(
        "LinearClassifier", ["X"], ["label", "scores"], domain="ai.onnx.ml", **classes
    )
    named = helper.make_node(
        "ZipMap", ["scores"], ["probabilities"], domain="ai.onnx.ml", classlabels_int64s=[0, 1]
    )
    column = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    rows = helper.make_sequence_type_proto(helper.make_map_type_proto(TensorProto.INT64, column))
    return _onnx(
        linear,
        ("X", TensorProto.FLOAT, ("N", 4)),
        helper.make_tensor_value_info("label", TensorProto.INT64, ("N",)),
        helper.make_value_info("probabilities", rows),
        more=(named,),
        domain="ai.onnx.ml",
    )


REFUSED = (
    Refused(
        "Keras .h5",
        "model.h5",
        _bytes(b"\x89HDF\r\n\x1a\n" + bytes(100)),
        "python -m tf2onnx.convert --keras",
    ),
    Refused(
        "Keras .keras",
        "model.keras",
        _zip("metadata.json", "config.json", "model.weights.h5"),
        '.export("model.onnx", format="onnx")',
    ),
    Refused(
        "zip of a SavedModel",
        "saved_model.zip",
        _zip("saved_model.pb", "variables/variables.index"),
        "tf2onnx.convert --saved-model",
    ),
    Refused(
        "TFLite",
        "model.tflite",
        _bytes(b"\x1c\0\0\0TFL3" + bytes(100)),
        "tf2onnx.convert --tflite",
    ),
    Refused(
        "TensorRT",
        "model.engine",
        _bytes(b"ftrt" + bytes(100)),
        "submit the ONNX file that it was made from",
    ),
    Refused("pickle of scikit-learn", "model.pkl", _pickled, "kind: predictions"),
    Refused("tar.gz of a checkpoint", "model.tar.gz", _packed, "tar xf", _WEIGHTS),
    Refused(
        "Git LFS pointer",
        "model.safetensors",
        _bytes(
            b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 46\n"
        ),
        "git lfs pull",
        _WEIGHTS,
    ),
    Refused(
        "web page instead of weights",
        "model.pth",
        _bytes(b"<!DOCTYPE html><html><title>Sign in</title></html>"),
        "download the file itself",
        _WEIGHTS,
    ),
    Refused(
        ".npy of predictions",
        "predictions.npy",
        lambda file: np.save(file, np.zeros((8, 14))),
        "write a CSV table",
    ),
    Refused("ZipMap of sklearn-onnx", "model.onnx", _zipmap(), "(N, 3, 224, 224)"),
    Refused(
        "object detector",
        "yolo.onnx",
        _onnx(
            helper.make_node("Identity", ["images"], ["output0"]),
            ("images", TensorProto.FLOAT, _IMAGE),
            helper.make_tensor_value_info("output0", TensorProto.FLOAT, ("N", 84, 8400)),
        ),
        "expected a row of 1 to 10000 columns per image",
    ),
    Refused(
        "int64 input",
        "model.onnx",
        _onnx(
            helper.make_node("Cast", ["image"], ["probabilities"], to=TensorProto.FLOAT),
            ("image", TensorProto.INT64, _IMAGE),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ("N", 14)),
        ),
        "a Cast as its first node",
    ),
    Refused(
        "logits without an activation",
        "model.onnx",
        _onnx(
            helper.make_node("ReduceSum", ["image", "axes"], ["scores"], keepdims=0),
            ("image", TensorProto.FLOAT, _IMAGE),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ("N", 3)),
            before=(helper.make_node("Constant", [], ["axes"], value_ints=[2, 3]),),
        ),
        "outputs.activation: sigmoid",
        {"output_names": ["Mass", "Nodule", "Hernia"]},
    ),
)


def check_refused(
    board: Board,
    refused: Refused,
    directory: Path,
    patch: pytest.MonkeyPatch,
    printed: pytest.CaptureFixture[str],
) -> None:
    """Submits a file and checks that the cure is printed and nothing is stored."""
    refused.write(directory / refused.file)
    before = len(list(board.registry.list_submissions("small")))
    assert submit(
        board, written_manifest(directory, refused.fields), [directory / refused.file], patch
    )
    assert refused.cure in printed.readouterr().err
    assert len(list(board.registry.list_submissions("small"))) == before
