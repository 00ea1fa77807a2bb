"""ONNX files as people export them: small classifiers on pooled pixels, whose answers NumPy gives.

Each has the form of an export that people have: its layout, types, outputs, sizes and files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from cxreval.datasets.nih import FINDINGS
from tests.support.forty_files import Array, Brought, Pixels

FLOAT, HALF, DOUBLE = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE
_node = helper.make_node
_CELLS = 4  # the pixels are pooled to 4 x 4 means a channel

TXRV = (
    "Atelectasis", "Consolidation", "Infiltration", "Pneumothorax", "Edema", "Emphysema",
    "Fibrosis", "Effusion", "Pneumonia", "Pleural_Thickening", "Cardiomegaly", "Nodule", "Mass",
    "Hernia", "Lung Lesion", "Fracture", "Lung Opacity", "Enlarged Cardiomediastinum",
)  # fmt: skip
"""TorchXRayVision's 18 pathologies."""

CHEXPERT = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion",
    "Edema", "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion",
    "Pleural Other", "Fracture", "Support Devices",
)  # fmt: skip
"""CheXpert's 14 observations, of which six have the names of the benchmark."""


def sigmoid(logits: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-logits)))


def positive(logits: Array) -> Array:
    """Returns the softmax of (negative, positive) pairs, (images, columns / 2)."""
    pairs = np.exp(logits.reshape(len(logits), -1, 2))
    return np.asarray(pairs[..., 1] / pairs.sum(axis=2))


def pooled(pixels: Array) -> Array:
    """Returns the means of 4 x 4 cells of each channel, (N, C * 16), of pixels (N, C, H, W)."""
    count, channels, height, width = pixels.shape
    cells = (count, channels, _CELLS, height // _CELLS, _CELLS, width // _CELLS)
    return pixels.reshape(cells).mean(axis=(3, 5), dtype=np.float64).reshape(count, -1)


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear layer on pooled pixels.

    `shape` and `kind` are those of its input `image`. The nodes `before` make `pixels`, float32
    (N, C, H, W), of it, or of its upper left `corner`; those of `after` make the outputs of
    `logits`. `answer` makes probabilities of logits.
    """

    shape: tuple[int | str, ...] = ("N", 3, 224, 224)
    kind: int = FLOAT
    columns: int = 14
    before: tuple[NodeProto, ...] = (_node("Identity", ["image"], ["pixels"]),)
    corner: int | None = None
    after: tuple[NodeProto, ...] = (_node("Sigmoid", ["logits"], ["probabilities"]),)
    outputs: Mapping[str, tuple[int, tuple[int | str, ...]]] | None = None
    answer: Callable[[Array], Array] = sigmoid
    seed: int = 0
    change: Callable[[onnx.ModelProto], object] | None = None

    def make(self, directory: Path, pixels: Pixels) -> tuple[list[Path], Array]:
        """Writes model.onnx."""
        model, answers = self.model(pixels)
        onnx.save_model(model, directory / "model.onnx")
        return [directory / "model.onnx"], answers

    def model(self, pixels: Pixels) -> tuple[onnx.ModelProto, Array]:
        """Returns the model and its answers; each of its logits has mean 0 and deviation 1."""
        cut = slice(self.corner)
        each = [pooled(self._channels_first(image)[..., cut, cut]) for image in pixels]
        together = np.concatenate(each)
        weights = np.random.default_rng(self.seed).standard_normal(
            (together.shape[1], self.columns)
        )
        logits = together @ weights
        weights, bias = weights / logits.std(axis=0), -logits.mean(axis=0) / logits.std(axis=0)
        answers = [self.answer(image @ weights + bias).mean(axis=0) for image in each]
        return self._graph(weights, bias), np.stack(answers)

    def _channels_first(self, image: Array) -> Array:
        values = image.astype(np.float64)
        return np.moveaxis(values, 3, 1) if self.shape[3] in (1, 3) else values

    def _graph(self, weights: Array, bias: Array) -> onnx.ModelProto:
        batch = self.shape[0]
        outputs = self.outputs or {"probabilities": (FLOAT, (batch, self.columns))}
        side = [int(self.corner or self.shape[2]) // _CELLS] * 2
        nodes = (
            *self.before,
            _node("AveragePool", ["pixels"], ["cells"], kernel_shape=side, strides=side),
            _node("Flatten", ["cells"], ["features"]),
            _node("Gemm", ["features", "weights", "bias"], ["logits"]),
            *self.after,
        )
        values = {"weights": weights.astype(np.float32), "bias": bias.astype(np.float32)}
        graph = helper.make_graph(
            nodes,
            "brought",
            [helper.make_tensor_value_info("image", self.kind, self.shape)],
            [helper.make_tensor_value_info(name, *form) for name, form in outputs.items()],
            [numpy_helper.from_array(value, name) for name, value in values.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        if self.change:
            self.change(model)
        return model


def _logits(shape: tuple[int | str, ...] = ("N", 14), nodes: Sequence[NodeProto] = ()) -> Any:
    """Returns the fields of `Linear` for an output `scores` that is no probability."""
    nodes = tuple(nodes) or (_node("Identity", ["logits"], ["scores"]),)
    return {"after": nodes, "outputs": {"scores": (FLOAT, shape)}}


def _reshaped(*sizes: int) -> tuple[NodeProto, ...]:
    return (
        _node("Constant", [], ["sizes"], value_ints=[0, *sizes]),
        _node("Reshape", ["logits", "sizes"], ["scores"]),
    )


def _cast(kind: int, source: str, target: str) -> NodeProto:
    return _node("Cast", [source], [target], to=kind)


_CORNER = (
    _cast(FLOAT, "image", "levels"),
    _node("Constant", [], ["start"], value_ints=[0, 0]),
    _node("Constant", [], ["end"], value_ints=[64, 64]),
    _node("Constant", [], ["axes"], value_ints=[2, 3]),
    _node("Slice", ["levels", "start", "end", "axes"], ["pixels"]),
)


def _with_age(model: onnx.ModelProto) -> None:
    """Adds a second input with a default."""
    model.graph.input.append(helper.make_tensor_value_info("age", FLOAT, [1]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([0.5], np.float32), "age"))


def _with_external_data(directory: Path, pixels: Pixels) -> tuple[list[Path], Array]:
    """Writes a model, and its weights in two other files."""
    model, answers = Linear(seed=1).model(pixels)
    for tensor in model.graph.initializer:
        onnx.external_data_helper.set_external_data(tensor, f"{tensor.name}.bin")
    onnx.save_model(model, directory / "model.onnx")
    return [directory / name for name in ("model.onnx", "weights.bin", "bias.bin")], answers


def _ensemble(*models: Linear) -> Callable[[Path, Pixels], tuple[list[Path], Array]]:
    def make(directory: Path, pixels: Pixels) -> tuple[list[Path], Array]:
        files, answers = [], []
        for number, linear in enumerate(models):
            model, probabilities = linear.model(pixels)
            files.append(directory / f"fold{number}.onnx")
            answers.append(probabilities)
            onnx.save_model(model, files[-1])
        return files, np.mean(answers, axis=0)

    return make


def _fields(preprocessing: Any = "imagenet-224", **more: Any) -> dict[str, Any]:
    return {"preprocessing": preprocessing} | more


IMAGENET = {
    "resize": {"to": "short-side", "size": 256, "interpolation": "bicubic"},
    "crop": {"kind": "center", "size": 224},
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}
_EXACT = {"resize": {"to": "exact", "size": [224, 224], "library": "opencv"}}
_GRAY = {"channels": 1, "resize": {"to": "exact", "size": [224, 224]}}
_SIGMOID = {"activation": "sigmoid"}
_PAIRS = {"activation": "softmax-positive"}
_ONE = ("N", 1, 224, 224)


def _brought(name: str, fields: Mapping[str, Any], linear: Linear) -> Brought:
    return Brought(name, fields, linear.make)


ONNX_FILES = (
    _brought("probabilities", _fields(IMAGENET), Linear()),
    _brought("logits", _fields(outputs=_SIGMOID), Linear(**_logits())),
    _brought(
        "NHWC of Keras and tf2onnx",
        _fields(_EXACT | {"layout": "NHWC"}),
        Linear(
            ("N", 224, 224, 3),
            before=(_node("Transpose", ["image"], ["pixels"], perm=[0, 3, 1, 2]),),
        ),
    ),
    _brought(
        "float16 input",
        _fields(IMAGENET | {"dtype": "float16"}),
        Linear(kind=HALF, before=(_cast(FLOAT, "image", "pixels"),)),
    ),
    _brought(
        "uint8, raw, with preprocessing inside",
        _fields("raw"),
        Linear(
            ("N", 1, "H", "W"),
            TensorProto.UINT8,
            before=_CORNER,
            corner=64,
        ),
    ),
    _brought("[-1024, 1024] of TorchXRayVision", _fields("xrv-224"), Linear(_ONE)),
    _brought(
        "[0, 255] with the means of Caffe",
        _fields(_EXACT | {"value_range": [0, 255], "mean": [103.939, 116.779, 123.68]}),
        Linear(),
    ),
    _brought("512 pixels", _fields("xrv-512"), Linear(("N", 1, 512, 512))),
    _brought(
        "320 pixels and the names of CheXpert",
        _fields(
            {"resize": {"to": "exact", "size": [320, 320]}}
            | {"mean": [0.53] * 3, "std": [0.09] * 3},
            output_names=[*CHEXPERT],
        ),
        Linear(("N", 3, 320, 320)),
    ),
    _brought(
        "logits beside features",
        _fields(outputs=_SIGMOID | {"tensor": "scores"}),
        Linear(
            after=(_node("Identity", ["logits"], ["scores"]),),
            outputs={"features": (FLOAT, ("N", 48)), "scores": (FLOAT, ("N", 14))},
        ),
    ),
    _brought(
        "a second input with a default",
        _fields(IMAGENET | {"tensor": "image"}),
        Linear(
            after=(
                _node("Add", ["logits", "age"], ["shifted"]),
                _node("Sigmoid", ["shifted"], ["probabilities"]),
            ),
            change=_with_age,
            answer=lambda logits: sigmoid(logits + 0.5),
        ),
    ),
    _brought(
        "two columns a finding, (N, 14, 2)",
        _fields(outputs=_PAIRS),
        Linear(columns=28, **_logits(("N", 14, 2), _reshaped(14, 2)), answer=positive),
    ),
    _brought(
        "two columns a finding, (N, 28)",
        _fields(outputs=_PAIRS),
        Linear(columns=28, **_logits(("N", 28)), answer=positive),
    ),
    _brought(
        "a fully convolutional head, (N, 14, 1, 1)",
        _fields(outputs=_SIGMOID),
        Linear(**_logits(("N", 14, 1, 1), _reshaped(14, 1, 1))),
    ),
    _brought("fixed batch of 1", _fields(), Linear((1, 3, 224, 224))),
    _brought("fixed batch of 8", _fields(_GRAY), Linear((8, 1, 224, 224))),
    Brought("weights in two other files", _fields(), _with_external_data),
    Brought(
        "ensemble of two",
        _fields(_GRAY, ensemble="mean"),
        _ensemble(Linear(_ONE, seed=1), Linear(_ONE, seed=2)),
    ),
    Brought(
        "ensemble of three",
        _fields(ensemble="mean"),
        _ensemble(*(Linear(seed=seed) for seed in (3, 4, 5))),
    ),
    _brought(
        "18 outputs of TorchXRayVision, four of them blank",
        _fields("xrv-224", output_names=[*TXRV[:14], "", "", "", ""]),
        Linear(_ONE, columns=18),
    ),
    _brought(
        "18 outputs of TorchXRayVision by name",
        _fields("xrv-224", output_names=[*TXRV]),
        Linear(_ONE, columns=18),
    ),
    _brought(
        "15 outputs with No Finding",
        _fields(output_names=[*FINDINGS, "No Finding"]),
        Linear(columns=15),
    ),
    _brought(
        "8 findings of ChestX-ray8",
        _fields(output_names=[*FINDINGS[:8]]),
        Linear(columns=8),
    ),
    _brought(
        "float64 output",
        _fields(),
        Linear(
            after=(
                _node("Sigmoid", ["logits"], ["answers"]),
                _cast(DOUBLE, "answers", "probabilities"),
            ),
            outputs={"probabilities": (DOUBLE, ("N", 14))},
        ),
    ),
    _brought(
        "equalised histograms",
        _fields(_EXACT | {"equalize": "histogram"}),
        Linear(),
    ),
    _brought(
        "CLAHE",
        _fields(_EXACT | {"equalize": {"kind": "clahe", "clip": 4.0, "tiles": 8}}),
        Linear(),
    ),
    _brought(
        "five crops",
        _fields(IMAGENET | {"crop": {"kind": "five", "size": 224}}),
        replace(Linear(), seed=6),
    ),
    _brought("ten crops", _fields("imagenet-224-tencrop"), replace(Linear(), seed=7)),
)
"""What is on the board without a change of the file."""
