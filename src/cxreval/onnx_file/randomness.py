"""Finds the operators of a model that draw random numbers, so that no answer repeats."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx.numpy_helper
from google.protobuf.message import Message

from cxreval.onnx_file.reading import every

_RANDOM = frozenset({
    "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike", "SampleOp", "Sampling",
})  # fmt: skip
_DROPOUT = frozenset({"BiasDropout", "BitmaskDropout", "Dropout"})
_MOST_SHOWN = 5
_MAX_NAME = 80


def random_operators(model: Message) -> list[str]:
    """Returns type and name of each operator of a model or graph that draws random numbers.

    They are at most five. Those of subgraphs and functions are among them, and `Dropout` unless it
    is known to be off.
    """
    off = set(_false_values(model))
    found = [
        f"{node.op_type} {str(node.name)[:_MAX_NAME]!r}"
        for node in every(onnx.NodeProto, model)
        if node.op_type in _RANDOM or (node.op_type in _DROPOUT and not _is_off(node, off))
    ]
    return [*found[:_MOST_SHOWN], *(["..."] if len(found) > _MOST_SHOWN else [])]


def _is_off(node: onnx.NodeProto, off: set[str]) -> bool:
    """Returns whether a dropout is not in training mode, which is its last input."""
    training = node.input[-1] if len(node.input) > (2 if node.op_type == "Dropout" else 4) else ""
    return not training or training in off


def _false_values(model: Message) -> Iterator[str]:
    """Yields the names of constants that are false."""
    constants = [
        (node.output[0], attribute.t)
        for node in every(onnx.NodeProto, model)
        if node.op_type == "Constant" and node.output
        for attribute in node.attribute
        if attribute.name == "value"
    ]
    weights = [
        (tensor.name, tensor)
        for graph in every(onnx.GraphProto, model)
        for tensor in graph.initializer
    ]
    for name, tensor in (*constants, *weights):
        is_flag = tensor.data_type == onnx.TensorProto.BOOL and not tensor.external_data
        if is_flag and not onnx.numpy_helper.to_array(tensor).any():
            yield name
