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
    # The exporter treats a batch size of 1 as a constant.
    content = onnx_bytes(module, torch.zeros(2, *shape), metadata)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)


def onnx_bytes(
    module: nn.Module,
    example: torch.Tensor,
    metadata: Mapping[str, str] = MappingProxyType({}),
    *,
    traced: bool = False,
) -> bytes:
    """Returns a module as an ONNX file with the input `pixels` and the output `probabilities`.

    Args:
        module: exported in eval mode.
        example: images of the shape and type of the input; a batch of one image fixes the batch
            size, a larger batch leaves it free.
        metadata: the file's complete `metadata_props`.
        traced: use the older of PyTorch's two exporters. It is five times as fast, and the only
            one that takes TorchScript; but a tracer treats what depends on the example as constant,
            so the file must be compared with the module.
    """
    with _quiet_exporter():
        export = _by_tracing if traced else _by_export
        model = export(module.eval(), example, free_batch=len(example) > 1)
    _drop_notes(model)
    for key, value in sorted(metadata.items()):
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def _by_export(module: nn.Module, example: torch.Tensor, *, free_batch: bool) -> onnx.ModelProto:
    program: Any = torch.onnx.export(
        module,
        (example,),
        input_names=[INPUT_NAME],
        output_names=[OUTPUT_NAME],
        dynamic_shapes=({0: torch.export.Dim("batch")},) if free_batch else None,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    return program.model_proto


def _by_tracing(module: nn.Module, example: torch.Tensor, *, free_batch: bool) -> onnx.ModelProto:
    names = (INPUT_NAME, OUTPUT_NAME)
    content: Any = io.BytesIO()
    jit: Any = torch.jit  # without types
    torch.onnx.export(
        jit.trace(module, example, check_trace=False),  # it may contain TorchScript
        (example,),
        content,
        input_names=[INPUT_NAME],
        output_names=[OUTPUT_NAME],
        dynamic_axes={name: {0: "batch"} for name in names} if free_batch else None,
        dynamo=False,
        verbose=False,
    )
    return onnx.load_model_from_string(content.getvalue())


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
