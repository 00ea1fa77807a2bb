"""ONNX files that attack the process which opens or runs them: crashes, memory, time, expansion.

Each is `onnx_models.classifier` for the profile `xrv-224` with further nodes, and is written to a
directory under its sha256; the functions return that digest. A `place` says when it strikes:

- `load`: from constants, which the runtime folds while it opens the file;
- `warm-up`: at the first run, whatever the image is;
- `image`: at the run of a bright image only, such as `bright`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
from onnx import helper, numpy_helper

from tests.support import onnx_models

LOAD, WARM_UP, IMAGE = "load", "warm-up", "image"
PLACES = (LOAD, WARM_UP, IMAGE)

BRIGHT_MEAN = 900.0
"""Mean of the tensor of an image from which a model of `IMAGE` strikes; white has 1024."""

_STRIKES = {
    LOAD: "strikes = Constant <value = bool {1}> ()",
    WARM_UP: """
        mean = ReduceMean <keepdims = 0> (image_tensor)
        least = Constant <value = float {-1000000}> ()
        strikes = Greater(mean, least)
    """,
    IMAGE: f"""
        mean = ReduceMean <keepdims = 0> (image_tensor)
        least = Constant <value = float {{{BRIGHT_MEAN}}}> ()
        strikes = Greater(mean, least)
    """,
}
_HARMLESS = "zero = Constant <value = float {0}> () nothing = Mul(result, zero) "
_EMPTY = """
    none = Constant <value = int64[4] {1, 1, 0, 0}> ()
    some = Constant <value = int64[4] {1, 1, 2, 2}> ()
    sizes = Where(strikes, none, some)
    pixels = ConstantOfShape(sizes)
"""
_SHIFT = _HARMLESS + "shifted = Add(logits, nothing)"


def hostile(directory: Path, place: str, body: str, seed: int = 0) -> str:
    """Writes a classifier with nodes that take the scalar `strikes` and return the scalar
    `result`."""
    return _classifier(directory, f"{_STRIKES[place]} {body} {_SHIFT}", seed)


def _classifier(directory: Path, text: str, seed: int = 0) -> str:
    return onnx_models.classifier(directory, extra_nodes=_nodes(text), seed=seed)


def _nodes(text: str) -> list[onnx.NodeProto]:
    graph = onnx.parser.parse_graph(
        "attack (float[N,1,224,224] image_tensor, float[N,14] logits) => (float[N,14] shifted) "
        f"{{ {text} }}"
    )
    return list(graph.node)


def crash(directory: Path, place: str) -> str:
    """Divides -2**31 by -1: SIGFPE."""
    return hostile(
        directory,
        place,
        """
        minus = Constant <value = int32 {-1}> ()
        one = Constant <value = int32 {1}> ()
        divisor = Where(strikes, minus, one)
        smallest = Constant <value = int32 {-2147483648}> ()
        quotient = Div(smallest, divisor)
        result = Cast <to = 1> (quotient)
        """,
    )


def normalise_nothing(directory: Path, place: str) -> str:
    """Normalises an image without pixels: SIGSEGV."""
    return hostile(
        directory,
        place,
        f"""
        {_EMPTY}
        one = Constant <value = float[1] {{1}}> ()
        normalised = InstanceNormalization(pixels, one, one)
        count = Size(normalised)
        result = Cast <to = 1> (count)
        """,
    )


def align_nothing(directory: Path, place: str) -> str:
    """Reads a region of an image without pixels: SIGSEGV."""
    return hostile(
        directory,
        place,
        f"""
        {_EMPTY}
        region = Constant <value = float[1,4] {{0, 0, 1, 1}}> ()
        index = Constant <value = int64[1] {{0}}> ()
        aligned = RoiAlign <output_height = 2, output_width = 2, sampling_ratio = 2> (
            pixels, region, index)
        result = ReduceMax <keepdims = 0> (aligned)
        """,
    )


def memory(directory: Path, place: str) -> str:
    """Makes one tensor of 32 GiB."""
    return hostile(
        directory,
        place,
        """
        many = Constant <value = int64[1] {8589934592}> ()
        one = Constant <value = int64[1] {1}> ()
        size = Where(strikes, many, one)
        zeros = ConstantOfShape(size)
        result = ReduceSum <keepdims = 0> (zeros)
        """,
    )


def doubling(directory: Path, place: str) -> str:
    """Doubles a tensor in a loop, 60 times."""
    return hostile(
        directory,
        place,
        """
        often = Constant <value = int64 {60}> ()
        once = Constant <value = int64 {1}> ()
        count = Where(strikes, often, once)
        small = Constant <value = float[2] {0, 0}> ()
        true = Constant <value = bool {1}> ()
        large = Loop (count, true, small) <body = step (int64 i, bool on, float[K] x)
            => (bool still, float[L] twice) {
                still = Identity(on)
                twice = Concat <axis = 0> (x, x)
            }>
        result = ReduceSum <keepdims = 0> (large)
        """,
    )


def endless(directory: Path, place: str, seed: int = 0) -> str:
    """Suppresses none of 2 million boxes, each of which is compared with all before: one node."""
    return hostile(
        directory,
        place,
        """
        many = Constant <value = int64[3] {1, 2000000, 4}> ()
        one = Constant <value = int64[3] {1, 1, 4}> ()
        sizes = Where(strikes, many, one)
        box = Constant <value = float[1,1,4] {0, 0, 1, 1}> ()
        boxes = Expand(box, sizes)
        scores = ReduceMax <axes = [2], keepdims = 1> (boxes)
        rows = Transpose <perm = [0, 2, 1]> (scores)
        most = Constant <value = int64 {2000000}> ()
        overlap = Constant <value = float {1}> ()
        chosen = NonMaxSuppression(boxes, rows, most, overlap)
        count = Size(chosen)
        result = Cast <to = 1> (count)
        """,
        seed,
    )


def endless_open(directory: Path, seed: int = 0) -> str:
    """Pools constants with a kernel of a million values, which the runtime folds: one node."""
    return _classifier(
        directory,
        f"""
        sizes = Constant <value = int64[4] {{1, 1, 1024, 1024}}> ()
        map = ConstantOfShape(sizes)
        pooled = MaxPool <kernel_shape = [1023, 1023], pads = [1022, 1022, 1022, 1022]> (map)
        result = ReduceMax <keepdims = 0> (pooled)
        {_SHIFT}
        """,
        seed,
    )


def memory_open(directory: Path) -> str:
    """Joins a weight of 400 kB to itself 1000 times, which the runtime folds while it opens the
    file."""

    def add(model: onnx.ModelProto) -> None:
        weight = numpy_helper.from_array(np.zeros(100_000, np.float32), "weight")
        model.graph.initializer.append(weight)

    joined = f"joined = Concat <axis = 0> ({', '.join(['weight'] * 1000)})"
    text = f"{joined} result = ReduceMax <keepdims = 0> (joined) {_SHIFT}"
    return _changed(directory, _classifier(directory, text), add)


def memory_inspection(directory: Path) -> str:
    """Fills a tensor of 2 GB, whose values the inference of shapes computes."""
    return _classifier(
        directory,
        f"""
        sizes = Constant <value = int64[1] {{500000000}}> ()
        zeros = ConstantOfShape(sizes)
        result = ReduceMax <keepdims = 0> (zeros)
        {_SHIFT}
        """,
    )


def endless_loop(directory: Path) -> str:
    """Repeats a node 2**63 times at the first run."""
    return hostile(
        directory,
        WARM_UP,
        """
        often = Constant <value = int64 {9223372036854775807}> ()
        once = Constant <value = int64 {1}> ()
        count = Where(strikes, often, once)
        true = Constant <value = bool {1}> ()
        result = Loop (count, true, mean) <body = step (int64 i, bool on, float x)
            => (bool still, float next) {
                still = Identity(on)
                next = Neg(x)
            }>
        """,
    )


def sequence(directory: Path) -> str:
    """Appends pieces of 16 MiB to a sequence at the first run, without end."""
    return hostile(
        directory,
        WARM_UP,
        """
        often = Constant <value = int64 {9223372036854775807}> ()
        once = Constant <value = int64 {1}> ()
        count = Where(strikes, often, once)
        true = Constant <value = bool {1}> ()
        none = SequenceConstruct(logits)
        all = Loop (count, true, none) <body = step (int64 i, bool on, seq(float) x)
            => (bool still, seq(float) more) {
                still = Identity(on)
                sizes = Constant <value = int64[1] {4194304}> ()
                piece = ConstantOfShape(sizes)
                more = SequenceInsert(x, piece)
            }>
        length = SequenceLength(all)
        result = Cast <to = 1> (length)
        """,
    )


def functions(directory: Path, *, levels: int = 10, calls: int = 10) -> str:
    """Functions that call the next level `calls` times: `calls ** levels` nodes when inlined."""
    bodies = [[("", "Neg")] * calls, *([("mine", f"f{n}")] * calls for n in range(levels - 1))]

    def add(model: onnx.ModelProto) -> None:
        model.opset_import.append(helper.make_opsetid("mine", 1))
        for level, body in enumerate(bodies):
            names = ["x", *(f"x{n}" for n in range(1, calls)), "y"]
            nodes = [
                helper.make_node(kind, [names[n]], [names[n + 1]], domain=domain)
                for n, (domain, kind) in enumerate(body)
            ]
            opsets = [helper.make_opsetid("", onnx_models.OPSET), helper.make_opsetid("mine", 1)]
            model.functions.append(
                helper.make_function("mine", f"f{level}", ["x"], ["y"], nodes, opsets)
            )

    call = helper.make_node(f"f{levels - 1}", ["logits"], ["shifted"], domain="mine")
    return _changed(directory, onnx_models.classifier(directory, extra_nodes=[call]), add)


def chain(directory: Path, length: int = 100_000) -> str:
    """A chain of so many nodes."""
    names = ["logits", *(f"x{n}" for n in range(1, length)), "shifted"]
    nodes = [helper.make_node("Neg", [names[n]], [names[n + 1]]) for n in range(length)]
    return onnx_models.classifier(directory, extra_nodes=nodes)


def nested(directory: Path, depth: int) -> str:
    """Branches in branches."""
    graph = "inner = Neg(logits)"
    for n in range(depth):
        graph = (
            f"strikes{n} = Identity(strikes) chosen{n} = If (strikes{n}) <then_branch = "
            f"b{n} () => (float[M,14] {'inner' if n == 0 else f'chosen{n - 1}'}) {{ {graph} }}, "
            f"else_branch = e{n} () => (float[M,14] other{n}) {{ other{n} = Neg(logits) }}>"
        )
    return _classifier(
        directory, f"{_STRIKES[WARM_UP]} {graph} shifted = Identity(chosen{depth - 1})"
    )


def long_name(directory: Path, name: str, *, valid: bool) -> str:
    """A model whose input has this name; if it is not valid, its output is not float32."""

    def rename(model: onnx.ModelProto) -> None:
        model.graph.input[0].name = model.graph.node[0].input[0] = name
        if not valid:
            model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE

    return _changed(directory, onnx_models.classifier(directory), rename)


def huge_dimensions(directory: Path) -> str:
    """A weight that declares 2**40 values and holds one."""

    def declare(model: onnx.ModelProto) -> None:
        weight = numpy_helper.from_array(np.zeros(1, np.float32), "huge")
        weight.dims[:] = [1 << 20, 1 << 20]
        model.graph.initializer.append(weight)

    return _changed(directory, onnx_models.classifier(directory), declare)


def sparse(directory: Path) -> str:
    """A sparse weight with one value, which takes 4 TiB when it is made dense."""

    def add(model: onnx.ModelProto) -> None:
        values = numpy_helper.from_array(np.ones(1, np.float32), "huge")
        indices = numpy_helper.from_array(np.zeros(1, np.int64), "places")
        model.graph.sparse_initializer.append(
            helper.make_sparse_tensor(values, indices, [1 << 20, 1 << 20])
        )

    nodes = "result = ReduceMax <keepdims = 0> (huge) " + _SHIFT
    return _changed(directory, _classifier(directory, nodes), add)


def _changed(directory: Path, digest: str, change: Callable[[onnx.ModelProto], None]) -> str:
    file = directory / f"{digest}.onnx"
    model = onnx.load(file)
    file.unlink()
    change(model)
    return onnx_models.store(directory, model.SerializeToString())
