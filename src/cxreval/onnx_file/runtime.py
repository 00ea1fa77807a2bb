"""Checks whether onnxruntime supports a model, by the tables of `operators`."""

from __future__ import annotations

import math
from collections import Counter

import onnx
import onnx.defs
import onnx.helper
import onnx.shape_inference

from cxreval.errors import ModelUnsupported
from cxreval.files import MAX_FILE_BYTES
from cxreval.onnx_file.messages import plain
from cxreval.onnx_file.operators import MAX_IR_VERSION, OPERATORS, OPSETS, STANDARD
from cxreval.onnx_file.reading import every, is_external

LARGE = 4096
"""Elements of a large weight: shape inference needs those that hold a shape, which are smaller."""

VALUE_FIELDS = (
    "raw_data", "float_data", "int32_data", "string_data", "int64_data", "double_data",
    "uint64_data",
)  # fmt: skip
"""Fields of a tensor with its values."""

_COMPLEX = (onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128)
_BITS: dict[int, int] = {
    onnx.TensorProto.INT4: 4,
    onnx.TensorProto.UINT4: 4,
    onnx.TensorProto.FLOAT4E2M1: 4,
    onnx.TensorProto.INT2: 2,
    onnx.TensorProto.UINT2: 2,
}


def check_runtime_support(model: onnx.ModelProto) -> onnx.ModelProto:
    """Checks that the runtime supports a valid model; returns it with inferred types and shapes.

    It removes large weights from `model`, to save memory.

    Raises:
        ModelUnsupported: the runtime would refuse the model.
    """
    _check_versions(model)
    _check_operators(model)
    _check_names(model)
    for tensor in every(onnx.TensorProto, model):
        _check_tensor(tensor)
    sparse = list(every(onnx.SparseTensorProto, model))
    for sparse_tensor in sparse:
        _check_dense_size(sparse_tensor)
    # Shape inference of ONNX gives sparse weights a sparse type, but the runtime makes them dense.
    return model if sparse else _inferred(model)


def _check_versions(model: onnx.ModelProto) -> None:
    """Checks the versions of the file format and of the operator sets.

    Those of an older ONNX that is installed count, because it cannot check newer files.
    """
    newest_ir = min(MAX_IR_VERSION, onnx.IR_VERSION)
    if model.ir_version > newest_ir:
        raise _unsupported(
            f"it has IR version {model.ir_version}", f"IR version {newest_ir} or older"
        )
    if not model.opset_import:
        raise _unsupported("it imports no operator set", "an import of ai.onnx")
    for opset in every(onnx.OperatorSetIdProto, model):
        domain = "" if opset.domain == "ai.onnx" else opset.domain
        newest = OPSETS.get(domain, opset.version)
        if not domain:
            newest = min(newest, onnx.defs.onnx_opset_version())
        if opset.version > newest:
            name = domain or "ai.onnx"
            raise _unsupported(
                f"it needs version {opset.version} of {name}",
                f"{name} of version {newest} or older",
            )


def _check_operators(model: onnx.ModelProto) -> None:
    """Checks that the runtime has the operators of the graph and of the functions it calls."""
    functions = {(item.domain, item.name, item.overload): item for item in model.functions}
    called, pending = set(), [*model.graph.node]
    while pending:
        for node in every(onnx.NodeProto, pending.pop()):
            key = (node.domain, node.op_type, node.overload)
            if key in called:
                continue
            called.add(key)
            if key in functions:
                pending += functions[key].node
            elif node.domain not in STANDARD and node.op_type not in OPERATORS.get(node.domain, ()):
                raise _unsupported(
                    f"the runtime has no operator {node.domain}:{node.op_type}",
                    "operators of ONNX and onnxruntime",
                )


def _check_names(model: onnx.ModelProto) -> None:
    """Checks that the names of a graph's nodes are unique."""
    for graph in every(onnx.GraphProto, model):
        names = Counter(node.name for node in graph.node if node.name)
        for name, count in names.most_common(1):
            if count > 1:
                raise _unsupported(f"{count} nodes have the name {name!r}", "unique names")


def _check_tensor(tensor: onnx.TensorProto) -> None:
    """Checks type and size of a tensor; ONNX's checker does not refuse too many values."""
    name = f"tensor {tensor.name!r}"
    if tensor.data_type not in onnx.TensorProto.DataType.values():
        raise _unsupported(f"{name} has the unknown type {tensor.data_type}", "types of ONNX")
    # `bundled` has checked the sizes of external data.
    if tensor.data_type == onnx.TensorProto.UNDEFINED or is_external(tensor):
        return
    count, bits = math.prod(tensor.dims), bits_of(tensor.data_type)
    if tensor.HasField("raw_data"):
        size, expected, unit = len(tensor.raw_data), -(-count * bits // 8), "bytes"
    else:
        field = getattr(tensor, onnx.helper.tensor_dtype_to_field(tensor.data_type))
        parts = 2 if tensor.data_type in _COMPLEX else 1
        size, expected, unit = len(field), -(-count * parts * min(bits, 8) // 8), "values"
    if size != expected:
        needed = str(expected) if abs(expected) <= MAX_FILE_BYTES else "a smaller shape"
        raise _unsupported(f"{name} of shape {list(tensor.dims)[:8]} has {size} {unit}", needed)


def bits_of(data_type: int) -> int:
    """Returns the number of bits of one element of a type."""
    return _BITS.get(data_type) or onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize * 8


def _check_dense_size(sparse: onnx.SparseTensorProto) -> None:
    """Checks the size that a sparse tensor has when the runtime makes it dense."""
    nbytes = math.prod(sparse.dims) * bits_of(sparse.values.data_type) // 8
    if nbytes > MAX_FILE_BYTES:
        raise _unsupported(
            f"sparse tensor {sparse.values.name!r} has {nbytes} bytes in dense form",
            f"at most {MAX_FILE_BYTES} bytes",
        )


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the model with inferred types and shapes.

    Like the runtime, it ignores the shapes in the file for inner values and for the output.
    """
    for tensor in every(onnx.TensorProto, model):
        if math.prod(tensor.dims) > LARGE:
            for field in (*VALUE_FIELDS, "data_location", "external_data"):
                tensor.ClearField(field)
    for graph in every(onnx.GraphProto, model):
        del graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    try:
        return onnx.shape_inference.infer_shapes(
            model, check_type=True, strict_mode=True, data_prop=True
        )
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        if "(op_type:Constant)" in str(error):
            return (
                model  # shape inference fails on a constant that refers to a function's attribute
            )
        raise _unsupported(plain(error), "operators that accept their inputs") from None


def _unsupported(problem: str, expected: str) -> ModelUnsupported:
    """Returns the error for a model that the runtime would refuse."""
    return ModelUnsupported(
        f"the runtime cannot run the model: {problem}; expected {expected}",
        field="model",
        expected=expected,
    )
