"""Submissions of several files: small models with weights in another file, and their archives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cxreval.bundle import SubmittedFile, described, opened
from tests.support import onnx_models


def with_external_data(
    directory: Path, *, seed: int = 0, name: str = "model.onnx", data: str = "weights.bin"
) -> list[Path]:
    """Writes `onnx_models.classifier` as a file and one with its weights; returns both.

    The first weight has 8,400 elements, of which the model uses the first 224. Others are small.
    """
    directory.mkdir(parents=True, exist_ok=True)
    model = onnx.load(directory / f"{onnx_models.classifier(directory, seed=seed)}.onnx")
    (small,) = model.graph.initializer
    weights = numpy_helper.to_array(small)
    padded = np.zeros((600, weights.shape[1]), np.float32)
    padded[: len(weights)] = weights
    rows = [np.array([0], np.int64), np.array([len(weights)], np.int64)]
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(padded, "padded"))
    for row, label in zip(rows, ("start", "end"), strict=True):
        model.graph.initializer.append(numpy_helper.from_array(row, label))
    cut = helper.make_node("Slice", ["padded", "start", "end"], ["weights"])
    model.graph.node.insert(0, cut)
    onnx.save_model(
        model, directory / name, save_as_external_data=True, location=data, size_threshold=0
    )
    return [directory / name, directory / data]


def members(directory: Path, seeds: Sequence[int] = (0, 1)) -> list[Path]:
    """Writes classifiers of several seeds, `model-<seed>.onnx`, without external data."""
    files = []
    for seed in seeds:
        digest = onnx_models.classifier(directory, seed=seed)
        files.append((directory / f"{digest}.onnx").rename(directory / f"model-{seed}.onnx"))
    return files


def archive(files: Sequence[Path]) -> bytes:
    """Returns the archive of files."""
    with opened(files, bundled=True) as content:
        return content.read()


def store(models: Path, files: Sequence[Path]) -> tuple[str, tuple[SubmittedFile, ...]]:
    """Writes the archive of files to a model cache; returns its digest, and its files."""
    return onnx_models.store(models, archive(files)), described(files, ())


def elsewhere(model: Path, **where: str | None) -> None:
    """Changes where an ONNX file has its first weight; None removes a key."""
    changed = onnx.load(model, load_external_data=False)
    tensor: TensorProto = changed.graph.initializer[0]
    entries = {entry.key: entry.value for entry in tensor.external_data} | where
    del tensor.external_data[:]
    for key, value in entries.items():
        if value is not None:
            tensor.external_data.add(key=key, value=value)
    model.write_bytes(changed.SerializeToString())
