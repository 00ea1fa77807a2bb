"""Exports a PyTorch module to one ONNX file."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import onnx
import torch
from torch import nn

INPUT_NAME = "pixels"
OUTPUT_NAME = "probabilities"


def export_onnx(
    module: nn.Module,
    shape: tuple[int, int, int],
    path: Path,
    metadata: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Writes `module` to `path` as ONNX with the float32 input `pixels` and output `probabilities`.

    `pixels` is (batch, *shape) for any batch size. The file contains its weights and none of the
    exporter's notes on source files. It is renamed to `path` once it is complete.

    Args:
        module: maps (N, *shape) to (N, columns) probabilities; exported in eval mode.
        shape: channels, height and width of one image.
        path: the file to write or replace.
        metadata: the file's complete `metadata_props`.
    """
    example = torch.zeros(2, *shape)  # the exporter treats a batch size of 1 as a constant
    with _quiet_exporter():
        program: Any = torch.onnx.export(
            module.eval(),
            (example,),
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    model = program.model_proto
    _drop_notes(model)
    for key, value in sorted(metadata.items()):
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(model.SerializeToString(deterministic=True))
    partial.replace(path)


def _drop_notes(model: onnx.ModelProto) -> None:
    """Removes stack traces: they name local files and make equal models differ."""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    graph = model.graph
    parts: list[Any] = [
        *graph.node,
        *graph.value_info,
        *graph.initializer,
        *graph.input,
        *graph.output,
    ]
    for part in parts:
        part.doc_string = ""
        del part.metadata_props[:]


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Suppresses the exporter's progress, logs about torchvision, and PyTorch's warnings."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
