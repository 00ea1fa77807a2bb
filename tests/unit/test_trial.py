"""`submission check` runs a model on two images and names what is wrong with its outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from typer.testing import CliRunner

from cxreval.cli.app import app
from cxreval.imaging.decode import decode
from cxreval.imaging.preprocess import PROFILES
from tests.support import bundles, onnx_models


def checked(directory: Path, model: onnx.ModelProto, *more: str, outputs: str = "") -> Any:
    """Returns what `submission check` says of a model, as JSON."""
    manifest, file = directory / "mine.yaml", directory / "model.onnx"
    onnx.save(model, file)
    assert CliRunner().invoke(app, ["submission", "init", str(manifest)]).exit_code == 0
    text = manifest.read_text().replace("\npreprocessing: imagenet-224", "\npreprocessing: xrv-224")
    manifest.write_text(f"{text}\n{outputs}")
    arguments = ["submission", "check", str(manifest), str(file), "--json", *more]
    return json.loads(CliRunner().invoke(app, arguments).stdout)


def classifier(directory: Path, last: str = "Sigmoid", **attributes: Any) -> onnx.ModelProto:
    """Returns a classifier whose last operator is another one."""
    model = onnx.load(directory / f"{onnx_models.classifier(directory)}.onnx")
    end = model.graph.node[-1]
    end.CopyFrom(helper.make_node(last, end.input, end.output, **attributes))
    return model


def test_a_model_with_weights_in_another_file_runs_as_one_with_them_in_its_own(
    tmp_path: Path,
) -> None:
    with_data = bundles.with_external_data(tmp_path / "two")
    told = []
    for files in (with_data, [tmp_path / "one.onnx"]):
        if len(files) == 1:
            onnx.save(onnx.load(with_data[0]), files[0])
        manifest = tmp_path / f"{len(files)}.yaml"
        assert CliRunner().invoke(app, ["submission", "init", str(manifest)]).exit_code == 0
        preset = "\npreprocessing: xrv-224"
        text = manifest.read_text().replace("\npreprocessing: imagenet-224", preset)
        manifest.write_text(text)
        arguments = ["submission", "check", str(manifest), str(files[0]), "--json"]
        said = json.loads(CliRunner().invoke(app, arguments).stdout)
        assert (said["problems"], said["notes"]) == ([], [])
        told.append(said["artifact"]["tried on"])
    assert told[0] == told[1]


def test_logits_are_a_mistake_and_the_cure_is_named(tmp_path: Path) -> None:
    said = checked(tmp_path, classifier(tmp_path, "Identity"))
    (problem,) = said["problems"]
    assert problem["reason"] == "INVALID_PROBABILITY"
    assert "these look like logits: set outputs.activation: sigmoid" in problem["message"]
    cured = checked(fresh(tmp_path), classifier(tmp_path, "Identity"), outputs="outputs: sigmoid")
    assert (cured["problems"], cured["notes"]) == ([], [])
    assert cured["artifact"]["tried on"].startswith("phantom ")


def fresh(directory: Path) -> Path:
    (directory / "again").mkdir()
    return directory / "again"


@pytest.mark.parametrize(
    ("last", "outputs", "note"),
    [
        ("Sigmoid", "outputs: sigmoid", "look like probabilities already"),
        ("Softmax", "", "sum to 1"),
        ("zeros", "", "all images got the same probabilities"),
    ],
)
def test_what_looks_wrong_is_noted(tmp_path: Path, last: str, outputs: str, note: str) -> None:
    model = classifier(tmp_path, "Sigmoid" if last == "zeros" else last)
    if last == "zeros":  # the weights are zeros
        for tensor in model.graph.initializer:
            tensor.raw_data = bytes(len(tensor.raw_data))
    said = checked(tmp_path, model, outputs=outputs)
    assert said["problems"] == []
    assert any(note in one for one in said["notes"])


def test_the_preview_is_what_the_model_sees(tmp_path: Path) -> None:
    preview, image = tmp_path / "preview.png", tmp_path / "image.png"
    seen = np.random.default_rng(0).integers(0, 256, (224, 224), np.uint8)
    from cxreval.datasets.phantom import encode_png

    image.write_bytes(encode_png(seen))
    more = ("--preview", str(preview), "--image", str(image))
    said = checked(tmp_path, classifier(tmp_path), *more)
    assert said["problems"] == []
    assert said["artifact"]["preprocessing"] == PROFILES["xrv-224"].description
    assert abs(decode(preview.read_bytes()).astype(int) - seen).max() <= 1


def with_noise(directory: Path, node: onnx.NodeProto, scale: float) -> onnx.ModelProto:
    """Returns a classifier that adds the output `noise` of a node to its logits, times a factor."""
    model = classifier(directory)
    end = model.graph.node[-1]
    logits = end.input[0]
    end.input[0] = "noisy"
    model.graph.node.insert(len(model.graph.node) - 1, node)
    for made in (
        helper.make_node("Mul", ["noise", "factor"], ["small"]),
        helper.make_node("Add", [logits, "small"], ["noisy"]),
    ):
        model.graph.node.insert(len(model.graph.node) - 1, made)
    model.graph.initializer.extend([
        helper.make_tensor("factor", onnx.TensorProto.FLOAT, [], [scale]),
        helper.make_tensor("half", onnx.TensorProto.FLOAT, [], [0.5]),
        helper.make_tensor("on", onnx.TensorProto.BOOL, [], [True]),
        helper.make_tensor("off", onnx.TensorProto.BOOL, [], [False]),
        helper.make_tensor("ones", onnx.TensorProto.FLOAT, [1, 14], [1.0] * 14),
    ])  # fmt: skip
    return model


NOISE = {
    "RandomNormal": helper.make_node("RandomNormal", [], ["noise"], "drawn", shape=[1, 14]),
    "a seed": helper.make_node("RandomUniform", [], ["noise"], "drawn", shape=[1, 14], seed=3.0),
    "RandomNormalLike": helper.make_node("RandomNormalLike", ["ones"], ["noise"], "drawn"),
    "Dropout": helper.make_node("Dropout", ["ones", "half", "on"], ["noise"], "drawn"),
}


@pytest.mark.parametrize("name", NOISE)
def test_random_operators_are_named_before_a_model_is_submitted(tmp_path: Path, name: str) -> None:
    node = NOISE[name]

    said = checked(tmp_path, with_noise(tmp_path, node, 0.5))

    (problem,) = said["problems"]
    assert problem["reason"] == "NOT_DETERMINISTIC"
    assert f"{node.op_type} 'drawn'" in problem["message"]
    assert said["artifact"]["random operators"] == f"{node.op_type} 'drawn'"


def test_dropout_that_is_off_is_no_random_operator(tmp_path: Path) -> None:
    node = helper.make_node("Dropout", ["ones", "half", "off"], ["noise"], "drawn")

    said = checked(tmp_path, with_noise(tmp_path, node, 0.5))

    assert said["problems"] == []
    assert "random operators" not in said["artifact"]


def test_random_operators_that_change_no_answer_are_no_mistake(tmp_path: Path) -> None:
    said = checked(tmp_path, with_noise(tmp_path, NOISE["RandomNormal"], 0.0))

    assert said["problems"] == []
    assert said["artifact"]["random operators"] == "RandomNormal 'drawn'"


@pytest.mark.parametrize(
    ("version", "change", "problem"),
    [
        ("ir_version", {"ir_version": 99}, "it has IR version 99; save it with IR version"),
        ("opset", {"opset": 99}, "it needs version 99 of ai.onnx; expected ai.onnx of version"),
        (
            "older onnx",
            {"opset": 25},
            "it needs version 25 of ai.onnx; expected ai.onnx of version 20",
        ),
    ],
)
def test_versions_that_the_installed_onnx_does_not_have_are_a_mistake(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    change: dict[str, int],
    problem: str,
) -> None:
    model = classifier(tmp_path)
    model.ir_version = change.get("ir_version", model.ir_version)
    model.opset_import[0].version = change.get("opset", model.opset_import[0].version)
    if version == "older onnx":
        monkeypatch.setattr(onnx.defs, "onnx_opset_version", lambda: 20)

    (found,) = checked(tmp_path, model)["problems"]

    assert problem in found["message"]
