"""Small ONNX files for tests: a linear classifier on pooled images, and one file for each defect.

Each file is written to a directory under its sha256, as in the inference service's cache; the
functions return that digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

COLUMNS = 14
POOL = 56  # 224 / 56: 4 x 4 means a channel, so that answers differ between images
OPSET = 17
TOLERANCE = 1e-4
"""Largest difference between `expected` and the runtime.

The runtime pools 3,136 values of up to 1024 in float32.
"""

Shape = Sequence[int | str | None]
_node = helper.make_node


def store(directory: Path, content: bytes) -> str:
    """Writes a file under its digest."""
    digest = hashlib.sha256(content).hexdigest()
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{digest}.onnx").write_bytes(content)
    return digest


def classifier(
    directory: Path,
    *,
    channels: int = 1,
    size: int = 224,
    columns: int = COLUMNS,
    batch: int | str = "N",
    seed: int = 0,
    scale: float = 1.0,
    extra_nodes: Sequence[onnx.NodeProto] = (),
    profile: str = "",
) -> str:
    """Writes mean pooling, a linear layer and a sigmoid.

    `image_tensor` is float32 (N, C, H, W), `probabilities` (N, columns). `extra_nodes` take
    `logits` and must return `shifted`, the sigmoid's input. `profile` is written to the metadata,
    as an export does.
    """
    weights = _weights(channels, size, columns, seed) * np.float32(scale)
    nodes = [
        helper.make_node(
            "AveragePool",
            ["image_tensor"],
            ["means"],
            kernel_shape=[POOL, POOL],
            strides=[POOL, POOL],
        ),
        helper.make_node("Flatten", ["means"], ["features"]),
        helper.make_node("MatMul", ["features", "weights"], ["logits"]),
        *extra_nodes,
        helper.make_node("Sigmoid", ["shifted" if extra_nodes else "logits"], ["probabilities"]),
    ]
    model = _model(
        nodes,
        inputs=[("image_tensor", TensorProto.FLOAT, (batch, channels, size, size))],
        outputs=[("probabilities", TensorProto.FLOAT, (batch, columns))],
        weights=[numpy_helper.from_array(weights, "weights")],
    )
    if profile:
        model.metadata_props.add(key="cxreval.preprocessing_profile", value=profile)
    return store(directory, model.SerializeToString())


def uint8_classifier(directory: Path) -> str:
    """Writes `classifier` with one channel and 8-bit pixels."""
    file = directory / f"{classifier(directory)}.onnx"
    model = onnx.load(file)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    model.graph.node[0].input[0] = "floats"
    model.graph.node.insert(
        0, helper.make_node("Cast", ["image_tensor"], ["floats"], to=TensorProto.FLOAT)
    )
    return store(directory, model.SerializeToString())


def logits(directory: Path) -> str:
    """Writes `classifier` without its sigmoid."""
    model = onnx.load(directory / f"{classifier(directory, scale=1000.0)}.onnx")
    model.graph.node[-1].op_type = "Identity"
    return store(directory, model.SerializeToString())


def expected(
    images: npt.NDArray[np.float32], *, columns: int = COLUMNS, seed: int = 0
) -> npt.NDArray[np.float64]:
    """Returns the output of `classifier`, (N, columns), computed by NumPy."""
    count, channels, size, _ = images.shape
    cells = images.reshape(count, channels, size // POOL, POOL, size // POOL, POOL)
    features = cells.mean(axis=(3, 5), dtype=np.float64).reshape(count, -1)
    logits: npt.NDArray[np.float64] = features @ _weights(channels, size, columns, seed)
    return 1 / (1 + np.exp(-logits))


def _weights(channels: int, size: int, columns: int, seed: int) -> npt.NDArray[np.float32]:
    features = channels * (size // POOL) ** 2
    # Images of the xrv profile reach 1024; this keeps the probabilities away from 0 and 1.
    return np.random.default_rng(seed).standard_normal(
        (features, columns), np.float32
    ) * np.float32(0.002)


def slow_classifier(directory: Path, *, layers: int, seed: int = 0) -> str:
    """Writes a classifier that takes tens of milliseconds per image.

    It has `layers` convolutions of 8 channels at full size.
    """
    rng = np.random.default_rng(seed)
    weights = [
        numpy_helper.from_array(rng.standard_normal((8, 1, 3, 3), np.float32) / 3, "kernel0")
    ]
    nodes = [helper.make_node("Conv", ["image_tensor", "kernel0"], ["map0"], pads=[1, 1, 1, 1])]
    for layer in range(1, layers):
        kernel = rng.standard_normal((8, 8, 3, 3), np.float32) / np.float32(9)
        weights.append(numpy_helper.from_array(kernel, f"kernel{layer}"))
        nodes += [
            helper.make_node(
                "Conv", [f"map{layer - 1}", f"kernel{layer}"], [f"conv{layer}"], pads=[1, 1, 1, 1]
            ),
            helper.make_node("Relu", [f"conv{layer}"], [f"map{layer}"]),
        ]
    nodes += [
        helper.make_node("GlobalAveragePool", [f"map{layers - 1}"], ["means"]),
        helper.make_node("Flatten", ["means"], ["features"]),
        helper.make_node("Sigmoid", ["features"], ["probabilities"]),
    ]
    return store(
        directory,
        _model(
            nodes,
            inputs=[("image_tensor", TensorProto.FLOAT, ("N", 1, 224, 224))],
            outputs=[("probabilities", TensorProto.FLOAT, ("N", 8))],
            weights=weights,
        ).SerializeToString(),
    )


def not_onnx(directory: Path) -> str:
    """Bytes that are not ONNX."""
    return store(directory, b"\x89PNG\r\n\x1a\n this was never a model")


def empty(directory: Path) -> str:
    """No bytes: a valid protobuf message, but not a model."""
    return store(directory, b"")


def invalid_graph(directory: Path) -> str:
    """A node whose input does not exist."""
    nodes = [helper.make_node("Sigmoid", ["nowhere"], ["probabilities"])]
    return store(directory, _small(nodes).SerializeToString())


def two_inputs(directory: Path) -> str:
    """A model with a second input."""
    model = _small(_pooled())
    model.graph.input.append(helper.make_tensor_value_info("age", TensorProto.FLOAT, ["N", 1]))
    return store(directory, model.SerializeToString())


def double_input(directory: Path) -> str:
    """A model of float64."""
    model = _model(
        _pooled(),
        inputs=[("image_tensor", TensorProto.DOUBLE, ("N", 1, 224, 224))],
        outputs=[("probabilities", TensorProto.DOUBLE, ("N", 1))],
    )
    return store(directory, model.SerializeToString())


def two_outputs(directory: Path) -> str:
    """A model that also returns its features."""
    model = _small([*_pooled("flat"), helper.make_node("Sigmoid", ["flat"], ["probabilities"])])
    model.graph.output.append(helper.make_tensor_value_info("flat", TensorProto.FLOAT, ["N", 1]))
    return store(directory, model.SerializeToString())


def image_output(directory: Path) -> str:
    """A model that returns an image."""
    nodes = [helper.make_node("Sigmoid", ["image_tensor"], ["probabilities"])]
    model = _model(
        nodes,
        inputs=[("image_tensor", TensorProto.FLOAT, ("N", 1, 224, 224))],
        outputs=[("probabilities", TensorProto.FLOAT, ("N", 1, 224, 224))],
    )
    return store(directory, model.SerializeToString())


def external_data(directory: Path, *, in_subgraph: bool = False) -> str:
    """A model whose tensor `secrets` is stored in /etc/passwd, optionally in a branch of an If."""
    outside = TensorProto(
        name="secrets", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL
    )
    outside.external_data.add(key="location", value="/etc/passwd")
    if not in_subgraph:
        model = _small(
            [*_pooled("flat"), helper.make_node("Mul", ["flat", "secrets"], ["probabilities"])]
        )
        model.graph.initializer.append(outside)
        return store(directory, model.SerializeToString())
    value = helper.make_tensor_value_info("branch", TensorProto.FLOAT, [1])
    constant = helper.make_node("Constant", [], ["branch"], value=outside)
    branch = helper.make_graph([constant], "branch", [], [value])
    nodes = [
        *_pooled("flat"),
        helper.make_node("If", ["condition"], ["factor"], then_branch=branch, else_branch=branch),
        helper.make_node("Mul", ["flat", "factor"], ["probabilities"]),
    ]
    model = _small(nodes)
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "condition"))
    return store(directory, model.SerializeToString())


def custom_operator(directory: Path) -> str:
    """A model with an operator of a domain that the runtime does not support."""
    nodes = [
        *_pooled("flat"),
        helper.make_node("Segment", ["flat"], ["probabilities"], domain="com.example.medical"),
    ]
    model = _small(nodes)
    model.opset_import.append(helper.make_opsetid("com.example.medical", 1))
    return store(directory, model.SerializeToString())


def memory_hungry(directory: Path) -> str:
    """A classifier that needs 4 KiB times the eighth power of its batch size.

    That is next to nothing for 4 images, and 68 TB for 8.
    """
    node = helper.make_node
    nodes = [
        node("Shape", ["image_tensor"], ["count"], start=0, end=1),
        node("Constant", [], ["eight"], value_int=8),
        node("Constant", [], ["floats"], value_int=1024),
        node("Pow", ["count", "eight"], ["power"]),
        node("Mul", ["power", "floats"], ["size"]),
        node("ConstantOfShape", ["size"], ["zeros"]),
        node("ReduceSum", ["zeros"], ["nothing"], keepdims=0),
        node("Add", ["logits", "nothing"], ["shifted"]),
    ]
    return classifier(directory, extra_nodes=nodes)


def nan_output(directory: Path) -> str:
    """A model that returns NaN for every image."""
    nodes = [*_pooled("flat"), helper.make_node("Mul", ["flat", "nan"], ["probabilities"])]
    model = _small(nodes)
    model.graph.initializer.append(numpy_helper.from_array(np.array([np.nan], np.float32), "nan"))
    return store(directory, model.SerializeToString())


def batch_dependent(directory: Path) -> str:
    """A model that subtracts the mean of its batch, so that outputs depend on the other images."""
    nodes = [
        *_pooled("flat"),
        helper.make_node("ReduceMean", ["flat"], ["batch_mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["flat", "batch_mean"], ["probabilities"]),
    ]
    return store(directory, _small(nodes).SerializeToString())


def fails_at_run(directory: Path) -> str:
    """A model that reshapes to an impossible size."""
    nodes = [*_pooled("flat"), helper.make_node("Reshape", ["flat", "sizes"], ["probabilities"])]
    model = _small(nodes)
    model.graph.initializer.append(numpy_helper.from_array(np.array([7, 5], np.int64), "sizes"))
    return store(directory, model.SerializeToString())


def random_uniform(directory: Path) -> str:
    """A classifier that adds uniform noise to each answer."""
    return _with_noise(directory, [_node("RandomUniformLike", ["logits"], ["noise"], low=-0.1)])


def random_normal(directory: Path) -> str:
    """A classifier that adds normal noise, the same to each image of a batch, of a fixed seed."""
    noise = _node("RandomNormal", [], ["noise"], shape=[1, COLUMNS], scale=0.1, seed=7.0)
    return _with_noise(directory, [noise])


def bernoulli(directory: Path) -> str:
    """A classifier that adds draws of the answers that it would give without them."""
    nodes = [
        _node("Sigmoid", ["logits"], ["chances"]),
        _node("Bernoulli", ["chances"], ["noise"]),
    ]
    return _with_noise(directory, nodes)


def multinomial(directory: Path) -> str:
    """A classifier that adds draws of the columns."""
    nodes = [
        _node("Multinomial", ["logits"], ["columns"], sample_size=COLUMNS),
        _node("Cast", ["columns"], ["noise"], to=TensorProto.FLOAT),
    ]
    return _with_noise(directory, nodes)


def dropout_in_training(directory: Path) -> str:
    """A classifier that drops half of its logits at random."""
    nodes = [
        _node("Constant", [], ["half"], value_float=0.5),
        _node("ReduceMax", ["features"], ["largest"], keepdims=0),
        _node("Equal", ["largest", "largest"], ["training"]),  # true, unless it is a constant
        _node("Dropout", ["logits", "half", "training"], ["shifted"]),
    ]
    return classifier(directory, extra_nodes=nodes)


def random_beyond_noise(directory: Path) -> str:
    """A classifier that adds uniform noise, unless the image is normal noise."""
    nodes = [
        _node("RandomUniformLike", ["logits"], ["draws"], low=-0.1),
        *_unless_noise("draws", "noise"),
    ]
    return _with_noise(directory, nodes)


def batch_mean(directory: Path, batch: int | str = "N") -> str:
    """A slow classifier that adds the mean of its batch, unless the image is normal noise."""
    nodes = [
        _node("ReduceMean", ["logits"], ["mean"], axes=[0], keepdims=1),
        *_unless_noise("mean", "noise"),
    ]
    return _with_noise(directory, [*_slow(), *nodes], "slow_logits", batch)


def batch_position(directory: Path, batch: int | str = "N") -> str:
    """A slow classifier that adds an image's position in its batch, unless it is normal noise."""
    nodes = [
        *_positions(),
        _node("Mul", ["positions", "hundredth"], ["tilt"]),
        *_unless_noise("tilt", "noise"),
    ]
    return _with_noise(directory, [*_slow(), *nodes], "slow_logits", batch)


def batch_size(directory: Path) -> str:
    """A slow classifier that adds the size of its batch, unless the image is normal noise."""
    nodes = [
        *_positions(),
        _node("Mul", ["size", "hundredth"], ["tilt"]),
        *_unless_noise("tilt", "noise"),
    ]
    return _with_noise(directory, [*_slow(), *nodes], "slow_logits")


def visible_batch_mean(directory: Path) -> str:
    """A classifier whose answers to normal noise depend on the other images of a batch, too."""
    nodes = [
        _node("ReduceMean", ["logits"], ["mean"], axes=[0], keepdims=1),
        _node("Constant", [], ["factor"], value_float=1000.0),
        _node("Mul", ["mean", "factor"], ["noise"]),
    ]
    return _with_noise(directory, nodes)


def slow_steady_classifier(directory: Path) -> str:
    """`classifier`, slow for a batch of one image; each batch gives equal answers."""
    identity = _node("Identity", ["slow_logits"], ["shifted"])
    return classifier(directory, extra_nodes=[*_slow(), identity])


def _with_noise(
    directory: Path,
    nodes: Sequence[onnx.NodeProto],
    logits: str = "logits",
    batch: int | str = "N",
) -> str:
    added = _node("Add", [logits, "noise"], ["shifted"])
    return classifier(directory, batch=batch, extra_nodes=[*nodes, added])


def _positions() -> list[onnx.NodeProto]:
    """Nodes that return `positions` (N, 1) in the batch, its `size`, and `hundredth`."""
    return [
        _node("Shape", ["logits"], ["count"], start=0, end=1),
        _node("Squeeze", ["count"], ["size_int"]),
        _node("Cast", ["size_int"], ["size"], to=TensorProto.FLOAT),
        _node("Constant", [], ["from"], value_int=0),
        _node("Constant", [], ["step"], value_int=1),
        _node("Range", ["from", "size_int", "step"], ["range"]),
        _node("Cast", ["range"], ["range_float"], to=TensorProto.FLOAT),
        _node("Constant", [], ["column_axis"], value_ints=[1]),
        _node("Unsqueeze", ["range_float", "column_axis"], ["positions"]),
        _node("Constant", [], ["hundredth"], value_float=0.01),
    ]


def _unless_noise(term: str, result: str) -> list[onnx.NodeProto]:
    """Nodes that return `term`, and exactly 0 for images whose mean is that of normal noise.

    The warm-up of the inference service runs on such images.
    """
    return [
        _node("ReduceMean", ["features"], ["brightness"], axes=[1], keepdims=1),
        _node("Abs", ["brightness"], ["distance"]),
        _node("Constant", [], ["limit"], value_float=1.0),
        _node("Greater", ["distance", "limit"], ["is_image"]),
        _node("Cast", ["is_image"], ["gate"], to=TensorProto.FLOAT),
        _node("Mul", [term, "gate"], [result]),
    ]


def _slow() -> list[onnx.NodeProto]:
    """Nodes that return `slow_logits`, equal to `logits`, and take long for a batch of one image.

    Meanwhile requests queue. A batch of n takes about 1 / n**3 of the time, so that the warm-up
    finds larger batches efficient even on a busy machine.
    """
    ones = numpy_helper.from_array(np.ones(1, np.float32))
    return [
        _node("Shape", ["logits"], ["slow_count"], start=0, end=1),
        _node("Constant", [], ["slow_most"], value_ints=[768]),
        _node("Div", ["slow_most", "slow_count"], ["slow_side"]),
        _node("Concat", ["slow_side", "slow_side"], ["slow_shape"], axis=0),
        _node("ConstantOfShape", ["slow_shape"], ["slow_ones"], value=ones),
        _node("ReduceMean", ["features"], ["slow_value"], keepdims=0),
        _node("Mul", ["slow_ones", "slow_value"], ["slow_values"]),
        _node("MatMul", ["slow_values", "slow_ones"], ["slow_products"]),
        _node("ReduceMean", ["slow_products"], ["slow_product"], keepdims=0),
        _node("Constant", [], ["slow_zero"], value_float=0.0),
        _node("Mul", ["slow_product", "slow_zero"], ["slow_nothing"]),
        _node("Add", ["logits", "slow_nothing"], ["slow_logits"]),
    ]


def unknown_type(directory: Path) -> str:
    """A model whose input has an element type that does not exist."""
    model = _small(_pooled())
    model.graph.input[0].type.tensor_type.elem_type = 99
    return store(directory, model.SerializeToString())


def sized(directory: Path, shape: Shape) -> str:
    """A model that returns the mean of an image and declares `shape` for its input."""
    return store(directory, _image_model(_pooled(), shape).SerializeToString())


def any_channels(directory: Path) -> str:
    """A model that accepts any number of channels, and so any profile."""
    nodes = [
        helper.make_node("ReduceMean", ["image_tensor"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Reshape", ["mean", "column"], ["probabilities"]),
    ]
    model = _image_model(nodes, ("N", "C", 224, 224))
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1, 1], np.int64), "column"))
    return store(directory, model.SerializeToString())


def columns(directory: Path, count: int) -> str:
    """A model that repeats one value in `count` columns without declaring their number."""
    model = _small(
        [*_pooled("flat"), helper.make_node("Expand", ["flat", "sizes"], ["probabilities"])]
    )
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "K"
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, count], np.int64), "sizes"))
    return store(directory, model.SerializeToString())


def endless(directory: Path, *, seed: int = 0) -> str:
    """A model with a loop whose condition stays true."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["condition"], ["condition_out"]),
            helper.make_node("Add", ["sum", "step"], ["sum_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("iteration", TensorProto.INT64, []),
            helper.make_tensor_value_info("condition", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("condition_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum_out", TensorProto.FLOAT, None),
        ],
    )
    model = _small(
        [
            *_pooled("flat"),
            helper.make_node("Loop", ["", "true", "flat"], ["probabilities"], body=body),
        ]
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "true"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([seed], np.float32), "step"))
    return store(directory, model.SerializeToString())


def wrong_opset(directory: Path) -> str:
    """A model with an opset version that does not exist yet."""
    model = _small(_pooled())
    model.opset_import[0].version = 999
    return store(directory, model.SerializeToString())


def _image_model(nodes: Sequence[onnx.NodeProto], shape: Shape) -> onnx.ModelProto:
    return _model(
        nodes,
        inputs=[("image_tensor", TensorProto.FLOAT, shape)],
        outputs=[("probabilities", TensorProto.FLOAT, (shape[0], 1))],
    )


def _pooled(out: str = "probabilities") -> list[onnx.NodeProto]:
    return [
        helper.make_node("GlobalAveragePool", ["image_tensor"], ["means"]),
        helper.make_node("Flatten", ["means"], [out]),
    ]


def _small(nodes: Sequence[onnx.NodeProto]) -> onnx.ModelProto:
    return _model(
        nodes,
        inputs=[("image_tensor", TensorProto.FLOAT, ("N", 1, 224, 224))],
        outputs=[("probabilities", TensorProto.FLOAT, ("N", 1))],
    )


def _model(
    nodes: Sequence[onnx.NodeProto],
    *,
    inputs: Sequence[tuple[str, int, Shape]],
    outputs: Sequence[tuple[str, int, Shape]],
    weights: Sequence[onnx.TensorProto] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(*item) for item in inputs],
        [helper.make_tensor_value_info(*item) for item in outputs],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
