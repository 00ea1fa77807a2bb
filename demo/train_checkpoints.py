"""Trains the demo's three checkpoints on phantoms, and writes them with their manifests.

    .venv/bin/python demo/train_checkpoints.py

PyTorch is not needed. Each checkpoint is a fixed feature graph (pooling, oriented filters, local
contrast) with a logistic regression on top, which is trained on the outputs of the exported ONNX
graph. The training images are the phantom data set's train_val split; the scores are those of its
test split. It takes a few minutes on two cores; the same seed gives the same weights up to rounding
in the linear algebra library. Needs the `test` extra (scikit-learn).

The sizes of the recipes were chosen with knowledge of the test split, so that three qualities are
clearly visible. The scores are for demonstration only and do not estimate performance elsewhere.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from rich.progress import track
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from cxreval.datasets.nih import FINDINGS
from cxreval.datasets.phantom import TEST_FRACTION, Study, render, split_studies
from cxreval.imaging.preprocess import PROFILES

SEED = 2017
PATIENTS = 1500
"""As in the demo's data set, so that both have the same test split."""

OPSET, IR_VERSION = 17, 10
CHECKPOINTS = Path(__file__).parent / "checkpoints"
REPOSITORY = "https://github.com/cxreval/cxreval"
COMMIT = "0" * 40
DEPENDENCIES = ("numpy", "onnx", "onnxruntime", "scikit-learn", "scipy")

Array = npt.NDArray[np.float32]


class Graph:
    """An ONNX graph under construction; its methods return names of tensors."""

    def __init__(self, input_shape: tuple[int, ...]) -> None:
        self.input_shape = input_shape
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Adds an operator and returns its output."""
        output = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def weight(self, values: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        """Adds a constant."""
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def pool(self, tensor: str, size: int) -> str:
        """Averages tiles of `size` x `size` pixels."""
        return self.add("AveragePool", tensor, kernel_shape=[size, size], strides=[size, size])

    def smooth(self, tensor: str, size: int) -> str:
        """Averages the `size` x `size` neighbourhood of every pixel."""
        pads = [size // 2] * 4
        return self.add(
            "AveragePool", tensor, kernel_shape=[size, size], pads=pads, count_include_pad=0
        )

    def flat(self, tensor: str) -> str:
        """Reshapes (N, ...) to (N, features)."""
        return self.add("Flatten", tensor)

    def finish(self, output: str, columns: int | str) -> bytes:
        """Returns the serialized model: input `image`, output `findings`, any batch size."""
        graph = helper.make_graph(
            [*self.nodes, helper.make_node("Identity", [output], ["findings"])],
            "classifier",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", *self.input_shape])],
            [helper.make_tensor_value_info("findings", TensorProto.FLOAT, ["N", columns])],
            self.weights,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        model.producer_name = "cxreval demo/train_checkpoints.py"
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString())


def thumbnail(graph: Graph) -> str:
    """Feature graph: the first channel of the image at 16 x 16 pixels."""
    channel = graph.add("Gather", "image", graph.weight([0], np.int64), axis=1)
    return graph.flat(graph.pool(channel, 14))


def oriented(graph: Graph) -> str:
    """Feature graph: exposure-corrected thumbnail, and edges in eight directions (8 x 8 grid)."""
    image = standardized(graph, "image")
    edges = edge_strength(graph, graph.pool(image, 2), wavelengths=(5.0,))
    return graph.add(
        "Concat", graph.flat(graph.pool(image, 14)), graph.flat(graph.pool(edges, 14)), axis=1
    )


def contrast(graph: Graph) -> str:
    """Feature graph: local contrast at two scales, edges, and left-right differences."""
    image = standardized(graph, "image")
    half = graph.pool(image, 2)
    detail = graph.add("Sub", half, graph.smooth(half, 21))
    edges = edge_strength(graph, half, wavelengths=(4.0, 8.0))
    spots = graph.add("Relu", graph.add("Sub", graph.smooth(half, 5), graph.smooth(half, 13)))
    parts = [graph.pool(image, 8), graph.pool(detail, 4), graph.pool(spots, 4)]
    grids = [mirrored(graph, part, 28) for part in parts] + [
        mirrored(graph, graph.pool(edges, 14), 8)
    ]
    return graph.add("Concat", *grids, axis=1)


def standardized(graph: Graph, tensor: str) -> str:
    """Normalizes every channel to mean 0 and standard deviation 1."""
    return graph.add(
        "InstanceNormalization", tensor, graph.weight([1.0]), graph.weight([0.0]), epsilon=1e-3
    )


def edge_strength(graph: Graph, tensor: str, wavelengths: tuple[float, ...]) -> str:
    """Applies Gabor filters in eight directions and returns the absolute responses."""
    filters = np.array(
        [gabor(length, np.pi * turn / 8) for length in wavelengths for turn in range(8)]
    )
    response = graph.add("Conv", tensor, graph.weight(filters[:, np.newaxis]), pads=[5, 5, 5, 5])
    return graph.add("Abs", response)


def gabor(wavelength: float, angle: float) -> npt.NDArray[np.float64]:
    """Returns an odd 11 x 11 Gabor filter for edges perpendicular to `angle`."""
    y, x = np.mgrid[-5:6, -5:6]
    along = x * np.cos(angle) + y * np.sin(angle)
    envelope = np.exp(-(x * x + y * y) / (0.3 * wavelength * wavelength))
    wave = np.sin(2 * np.pi * along / wavelength) * envelope
    normalized: npt.NDArray[np.float64] = wave / np.abs(wave).sum()
    return normalized


def mirrored(graph: Graph, tensor: str, side: int) -> str:
    """Returns the grid and, for its left half, the absolute difference to the mirrored cells."""
    flip = graph.weight(np.arange(side)[::-1][: side // 2], np.int64)
    left = graph.weight(np.arange(side // 2), np.int64)
    difference = graph.add(
        "Sub", graph.add("Gather", tensor, left, axis=3), graph.add("Gather", tensor, flip, axis=3)
    )
    return graph.add("Concat", graph.flat(tensor), graph.flat(graph.add("Abs", difference)), axis=1)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Parameters of one checkpoint."""

    name: str
    model: str
    profile: str
    features: Callable[[Graph], str]
    components: int
    """Number of principal components of the features that the regression uses."""
    strength: float
    """Inverse of the regression's regularization."""


RECIPES = (
    Recipe("thumbnail-linear", "Thumbnail", "imagenet-224", thumbnail, 24, 0.01),
    Recipe("oriented-linear", "Oriented edges", "xrv-224", oriented, 40, 0.01),
    Recipe("contrast-linear", "Two-scale contrast", "xrv-224", contrast, 500, 0.003),
)


def feature_model(recipe: Recipe) -> bytes:
    """Returns the recipe's feature graph as a model of its own."""
    graph = Graph(PROFILES[recipe.profile].shape)
    return graph.finish(recipe.features(graph), "features")


@cache
def feature_sessions() -> tuple[ort.InferenceSession, ...]:
    """Returns one single-threaded session per recipe; cached in every worker process."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return tuple(
        ort.InferenceSession(feature_model(recipe), options, ["CPUExecutionProvider"])
        for recipe in RECIPES
    )


def extract(study: Study) -> list[Array]:
    """Returns the features of one study for every recipe."""
    picture = render(study, SEED)
    tensors = {name: profile.apply(picture) for name, profile in PROFILES.items()}
    return [
        session.run(None, {"image": tensors[recipe.profile]})[0][0]
        for recipe, session in zip(RECIPES, feature_sessions(), strict=True)
    ]


def extract_all(studies: list[Study]) -> list[Array]:
    """Returns for every recipe the features of all studies, (studies, features)."""
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        rows = list(
            track(
                pool.map(extract, studies, chunksize=8), "drawing and measuring", total=len(studies)
            )
        )
    return [np.stack(columns) for columns in zip(*rows, strict=True)]


def truth(studies: list[Study]) -> npt.NDArray[np.bool_]:
    """Returns the labels, (studies, 14)."""
    return np.array([[finding in study.findings for finding in FINDINGS] for study in studies])


def fit(recipe: Recipe, features: Array, labels: npt.NDArray[np.bool_]) -> tuple[Array, Array]:
    """Returns weights (features, 14) and biases (14,) of logistic regressions on raw features."""
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-3 * features.std()
    reduce = PCA(recipe.components, random_state=SEED, svd_solver="randomized")
    scores = reduce.fit_transform((features - mean) / scale)
    models = [
        LogisticRegression(C=recipe.strength, max_iter=2000).fit(scores, labels[:, k])
        for k in range(14)
    ]
    coefficients = np.concatenate([model.coef_ for model in models])
    weights = (coefficients @ reduce.components_ / scale).T
    biases = (
        np.array([model.intercept_[0] for model in models])
        - (mean + reduce.mean_ * scale) @ weights
    )
    return weights.astype(np.float32), biases.astype(np.float32)


def classifier(recipe: Recipe, weights: Array, biases: Array) -> bytes:
    """Returns the model of a recipe: probabilities in the order of `FINDINGS`."""
    graph = Graph(PROFILES[recipe.profile].shape)
    logits = graph.add("Gemm", recipe.features(graph), graph.weight(weights), graph.weight(biases))
    return graph.finish(graph.add("Sigmoid", logits), len(FINDINGS))


def aurocs(probabilities: Array, labels: npt.NDArray[np.bool_]) -> list[float]:
    """Returns the AUROC of each finding."""
    return [float(roc_auc_score(labels[:, k], probabilities[:, k])) for k in range(len(FINDINGS))]


def predict(study: Study) -> list[Array]:
    """Returns the probabilities (14,) of one study from every written checkpoint."""
    picture = render(study, SEED)
    return [
        load(recipe).run(None, {"image": PROFILES[recipe.profile].apply(picture)})[0][0]
        for recipe in RECIPES
    ]


@cache
def load(recipe: Recipe) -> ort.InferenceSession:
    """Returns a session of the written checkpoint."""
    return ort.InferenceSession(checkpoint_file(recipe), providers=["CPUExecutionProvider"])


def checkpoint_file(recipe: Recipe) -> Path:
    """Returns the path of the checkpoint; its manifest has the same name with .yaml."""
    return CHECKPOINTS / f"{recipe.name}.onnx"


def manifest(recipe: Recipe, auroc: float) -> str:
    """Returns the submission's manifest as YAML."""
    names = "".join(f"  - {finding}\n" for finding in FINDINGS)
    dependencies = "".join(f"    - {package}=={version(package)}\n" for package in DEPENDENCIES)
    return f"""# Written by demo/train_checkpoints.py.
kind: checkpoint
format: onnx
model: {recipe.model}
organisation: cxreval demo
open_source: true
source_kind: checkpoint
contact: demo@example.org
preprocessing_profile: {recipe.profile}
output_names:
{names}
reproduction:
  repository: {REPOSITORY}
  commit: "{COMMIT}"
  seed: {SEED}
  script: demo/train_checkpoints.py

environment:
  python_version: {platform.python_version()}
  dependencies:
{dependencies}
# Measured by the script on the {PATIENTS}-patient phantom data set's test split.
claimed_metrics:
  - metric: auroc
    value: {auroc:.6f}
"""


def main() -> None:
    """Trains, writes and scores every checkpoint."""
    test, train_val = split_studies(SEED, PATIENTS, TEST_FRACTION)
    CHECKPOINTS.mkdir(exist_ok=True)
    for recipe, features in zip(RECIPES, extract_all(train_val), strict=True):
        checkpoint_file(recipe).write_bytes(
            classifier(recipe, *fit(recipe, features, truth(train_val)))
        )
    predictions = zip(*(predict(study) for study in track(test, "scoring")), strict=True)
    for recipe, probabilities in zip(RECIPES, predictions, strict=True):
        scores = aurocs(np.stack(probabilities), truth(test))
        macro = float(np.mean(scores))
        checkpoint_file(recipe).with_suffix(".yaml").write_text(
            manifest(recipe, macro), encoding="utf-8"
        )
        table = ", ".join(
            f"{finding} {score:.3f}" for finding, score in zip(FINDINGS, scores, strict=True)
        )
        print(f"{recipe.name}: macro AUROC {macro:.4f} on {len(test)} images ({table})")  # noqa: T201


if __name__ == "__main__":
    main()
