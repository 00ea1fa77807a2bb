"""ONNX files that are broken or odd, by name, for the profile `xrv-224` and one output column.

Most are written in ONNX's text form: the mean of an image, in `flat`, and what follows it.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx.parser
from onnx import TensorProto, helper, numpy_helper

INTERNALS = re.compile(r"/|\.cc\b|\.h:\d|onnxruntime::|onnx::|std::|ONNXRuntimeError|\bconst\b|\n")
"""What no message about a model has: paths and C++ of onnxruntime."""

MEAN = "means = GlobalAveragePool(pixels) flat = Flatten(means) "
MEDICAL = '"" : 17, "com.example.medical" : 1'
MICROSOFT = '"" : 17, "com.microsoft" : 1'
MINE = '"" : 17, "mine" : 1'
YES = "bool yes = {1}"
ONE = "float[1] factor = {1}"
TIMES = "probabilities = Mul(flat, factor)"
CALL = "probabilities = mine.Scale(flat)"


def text(
    body: str = "probabilities = Sigmoid(flat)",
    *,
    takes: str = "float[N,1,224,224] pixels",
    gives: str = "float[N,1] probabilities",
    weights: str = "",
    opsets: str = '"" : 17',
    ir_version: int = 9,
    functions: str = "",
    mean: str = MEAN,
) -> onnx.ModelProto:
    """Parses a model in text form."""
    held = f"<{weights}>" if weights else ""
    return onnx.parser.parse_model(
        f"<ir_version: {ir_version}, opset_import: [{opsets}]> "
        f"odd ({takes}) => ({gives}) {held} {{ {mean} {body} }} {functions}"
    )


def function(body: str, name: str = "Scale", opsets: str = '"" : 17', domain: str = "mine") -> str:
    """The text of a function of the model."""
    return f'<domain: "{domain}", opset_import: [{opsets}]> {name} (x) => (y) {{ {body} }}'


def branch(body: str) -> str:
    """A factor from a branch of an If."""
    graph = f"b () => (float[1] chosen) {{ {body} }}"
    return f"factor = If (yes) <then_branch = {graph}, else_branch = {graph}> {TIMES}"


def changed(model: onnx.ModelProto, *changes: Callable[[Any], object]) -> onnx.ModelProto:
    """The model after changes."""
    for change in changes:
        change(model)
    return model


def put(**fields: Any) -> Callable[[Any], None]:
    """A change of plain fields of a model, a tensor, or a value."""

    def change(message: Any) -> None:
        for name, value in fields.items():
            setattr(message, name, value)

    return change


def tensor(**fields: Any) -> onnx.TensorProto:
    """A tensor `factor` of one float, unless fields say otherwise."""
    return TensorProto(**{"name": "factor", "data_type": TensorProto.FLOAT, "dims": [1]} | fields)


def outside() -> onnx.TensorProto:
    """A tensor in another file."""
    held = tensor(data_location=TensorProto.EXTERNAL)
    held.external_data.add(key="location", value="/etc/passwd")
    return held


def weight(held: onnx.TensorProto) -> onnx.ModelProto:
    """The mean times a weight."""
    model = text(TIMES, weights=ONE)
    model.graph.initializer[0].CopyFrom(held)
    return model


def constant(held: onnx.TensorProto, model: onnx.ModelProto | None = None) -> onnx.ModelProto:
    """A model whose first Constant, wherever it is, holds the tensor."""
    model = model or text(f"factor = Constant <value = float[1] {{1}}> () {TIMES}")
    bodies = [model.graph.node, *(item.node for item in model.functions)]
    nodes = [node for body in bodies for node in body]
    for node in nodes:
        nodes += [inner for attribute in node.attribute for inner in attribute.g.node]
    for node in nodes:
        if node.op_type == "Constant":
            node.attribute[0].t.CopyFrom(held)
    return model


def sparse(values: onnx.TensorProto, *, index: int = 0, size: int = 1) -> onnx.SparseTensorProto:
    """A sparse tensor `factor` with one value."""
    indices = numpy_helper.from_array(np.array([index], np.int64), "indices")
    return helper.make_sparse_tensor(values, indices, [size])


def sparse_weight(held: onnx.SparseTensorProto) -> onnx.ModelProto:
    """The mean times a sparse weight."""
    model = text(TIMES, weights=ONE)
    del model.graph.initializer[:]
    model.graph.sparse_initializer.append(held)
    return model


def output_type(kind: onnx.TypeProto) -> Callable[[Any], None]:
    """A change of the output's type."""
    return lambda model: model.graph.output[0].type.CopyFrom(kind)


def input_type(kind: onnx.TypeProto) -> Callable[[Any], None]:
    """A change of the input's type."""
    return lambda model: model.graph.input[0].type.CopyFrom(kind)


def named(name: str) -> onnx.ModelProto:
    """A model whose output has this name."""
    return changed(
        text(), lambda model: put(name=name)(model.graph.output[0]),
        lambda model: model.graph.node[-1].output.__setitem__(0, name),
    )  # fmt: skip


def nested(depth: int) -> bytes:
    """Subgraphs in subgraphs, as bytes: the parser of the text form does not go so deep."""
    graph = b""
    for _ in range(depth):
        attribute = b"\x0a\x01g" + _field(0x32, graph) + b"\xa0\x01\x05"
        graph = _field(0x0A, b"\x22\x02If" + _field(0x2A, attribute))
    return b"\x08\x09" + _field(0x3A, graph)


def _field(tag: int, content: bytes) -> bytes:
    size, length = len(content), b""
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([tag]) + length + bytes([size]) + content


SIGMOID = function("y = Sigmoid(x)")
TENSOR = helper.make_tensor_type_proto
IMAGE = TENSOR(TensorProto.FLOAT, ["N", 1, 224, 224])
ROW = TENSOR(TensorProto.FLOAT, ["N", 1])
SEGMENT = "com.example.medical.Segment"
CONSTANT = "Constant <value = float[1] {1}> ()"


def files() -> dict[str, bytes]:
    """Every file by its name."""
    built = {
        **_external(), **_operators(), **_versions(), **_bytes(), **_graphs(), **_ends(),
        **_weights(),
    }  # fmt: skip
    return {
        name: content if isinstance(content, bytes) else content.SerializeToString()
        for name, content in built.items()
    }


def _external() -> dict[str, onnx.ModelProto]:
    scale = function(f"factor = {CONSTANT} y = Mul(x, factor)")
    return {
        "external initializer": weight(outside()),
        "external constant": constant(outside()),
        "external tensor without a location": weight(
            tensor(data_location=TensorProto.EXTERNAL, raw_data=b"")
        ),
        "location of a tensor that is inside": weight(
            changed(
                tensor(raw_data=bytes(4)),
                lambda held: held.external_data.add(key="location", value="w"),
            )
        ),
        "external tensor in a branch": constant(
            outside(), text(branch(f"chosen = {CONSTANT}"), weights=YES)
        ),
        "external tensor in a function": constant(
            outside(), text(CALL, opsets=MINE, functions=scale)
        ),
        "external tensor in a function that is never called": constant(
            outside(), text(opsets=MINE, functions=scale)
        ),
        "external sparse initializer": sparse_weight(sparse(outside())),
        "external sparse constant": changed(
            text(f"factor = Constant () {TIMES}"),
            lambda model: model.graph.node[2].attribute.append(
                helper.make_attribute("sparse_value", sparse(outside()))
            ),
        ),
        "external weight for training": changed(
            text(),
            lambda model: model.training_info.add().initialization.initializer.append(outside()),
        ),
    }


def _operators() -> dict[str, onnx.ModelProto]:
    called = function(f"y = {SEGMENT}(x)", opsets=MEDICAL)
    recursive = '"mine" : 1'
    return {
        "unknown operator": text("probabilities = Diagnose(flat)"),
        "unknown operator in a function": text(
            CALL, opsets=MINE, functions=function("y = Diagnose(x)")
        ),
        "unknown operator in a function that is never called": text(
            opsets=MINE, functions=function("y = Diagnose(x)")
        ),
        "unknown domain": text(f"probabilities = {SEGMENT}(flat)", opsets=MEDICAL),
        "unknown domain in a branch": text(
            branch(f"one = {CONSTANT} chosen = {SEGMENT}(one)"), weights=YES, opsets=MEDICAL
        ),
        "unknown domain in a function": text(
            CALL, opsets=f"{MEDICAL}, {recursive}", functions=called
        ),
        "unknown domain in a function that is never called": text(
            opsets=f"{MEDICAL}, {recursive}", functions=called
        ),
        "unknown domain that is not used": text(opsets=MEDICAL),
        "unknown operator of a contrib domain": text(
            "probabilities = com.microsoft.Diagnose(flat)", opsets=MICROSOFT
        ),
        "contrib operator": text("probabilities = com.microsoft.Gelu(flat)", opsets=MICROSOFT),
        "contrib operator whose domain is not imported": text(
            "probabilities = com.microsoft.Gelu(flat)"
        ),
        "operator that only ONNX knows": text(
            "a = Unsqueeze(flat, axes) b = ai.onnx.preview.FlexAttention(a, a, a) "
            "probabilities = Squeeze(b, axes)",
            weights="int64[2] axes = {2, 3}",
            opsets='"" : 17, "ai.onnx.preview" : 1',
        ),
        "function": text(CALL, opsets=MINE, functions=SIGMOID),
        "function called twice": text(
            f"once = mine.Scale(flat) {CALL}", opsets=MINE, functions=SIGMOID
        ),
        "function of a function": text(
            CALL,
            opsets=MINE,
            functions=function("y = mine.Other(x)", opsets=recursive)
            + function("y = Sigmoid(x)", "Other"),
        ),
        "function that calls itself": text(
            CALL, opsets=MINE, functions=function("y = mine.Scale(x)", opsets=recursive)
        ),
        "functions that call each other": text(
            CALL,
            opsets=MINE,
            functions=function("y = mine.Other(x)", opsets=recursive)
            + function("y = mine.Scale(x)", "Other", recursive),
        ),
        "function twice": text(CALL, opsets=MINE, functions=SIGMOID + SIGMOID),
        "function in a contrib domain": text(
            "probabilities = com.microsoft.Scale(flat)",
            opsets=MICROSOFT,
            functions=function("y = Sigmoid(x)", domain="com.microsoft"),
        ),
        "function whose domain is not imported": text(CALL, functions=SIGMOID),
        "function without imports": changed(
            text(CALL, opsets=MINE, functions=SIGMOID),
            lambda model: model.functions[0].ClearField("opset_import"),
        ),
        "overloaded function called without its overload": changed(
            text(CALL, opsets=MINE, functions=SIGMOID, ir_version=10),
            lambda model: put(overload="v2")(model.functions[0]),
        ),
        "overloaded function": changed(
            text(CALL, opsets=MINE, functions=SIGMOID, ir_version=10),
            lambda model: put(overload="v2")(model.functions[0]),
            lambda model: put(overload="v2")(model.graph.node[-1]),
        ),
        "constant of a function whose value is an attribute": text(
            "probabilities = mine.Scale <factor = 0.5> (flat)",
            opsets=MINE,
            functions='<domain: "mine", opset_import: ["" : 17]> Scale <factor> (x) => (y) '
            "{ c = Constant <value_float: float = @factor> () y = Mul(x, c) }",
        ),
        "standard operator in a domain of that name": changed(
            text(), lambda model: put(domain="ai.onnx")(model.graph.node[0])
        ),
        "operator newer than its opset": text("probabilities = Gelu(flat)"),
        "operator that was removed": text(
            "up = Upsample(means, sizes) probabilities = Flatten(up)",
            weights="float[4] sizes = {1, 1, 1, 1}",
        ),
        "unknown attribute": text("probabilities = Relu <slope = 2.0> (flat)"),
        "missing attribute": text("probabilities = Cast(flat)"),
        "attribute of a wrong type": text('probabilities = LeakyRelu <alpha = "x"> (flat)'),
        "attribute twice": text("probabilities = LeakyRelu <alpha = 0.5, alpha = 0.25> (flat)"),
        "too many inputs": text("probabilities = Relu(flat, flat)"),
        "too few inputs": text("probabilities = Mul(flat)"),
        "node without an operator": changed(
            text(), lambda model: put(op_type="")(model.graph.node[0])
        ),
        "operator with control characters": changed(
            text(), lambda model: put(op_type="\x1b[31mred\x07")(model.graph.node[0])
        ),
        "types that do not fit": text(TIMES, weights="int64[1] factor = {1}"),
        "types that do not fit in a function": text(
            CALL,
            opsets=MINE,
            functions=function("i = Cast <to = 7> (x) y = Mul(x, i)"),
        ),
        "shapes that do not fit": text(
            "probabilities = MatMul(flat, wide)", weights="float[2, 1] wide = {1, 1}"
        ),
    }


def _versions() -> dict[str, onnx.ModelProto]:
    newest = onnx.defs.onnx_opset_version()
    versions = {
        "far newer": 999, "next": newest + 1, "newest": newest, "old": 9, "zero": 0, "negative": -1,
    }  # fmt: skip
    listed = "float[N,1,224,224] pixels, float[1] factor"
    return {
        **{f"{name} opset": text(opsets=f'"" : {number}') for name, number in versions.items()},
        "newer opset of a contrib domain": text(opsets='"" : 17, "com.microsoft" : 2'),
        "newer opset of ai.onnx.ml": text(opsets='"" : 17, "ai.onnx.ml" : 99'),
        "newer opset of a function": text(
            CALL, opsets=MINE, functions=function("y = Sigmoid(x)", opsets='"" : 999')
        ),
        "older opset of a function": text(
            CALL, opsets=MINE, functions=function("y = Sigmoid(x)", opsets='"" : 13')
        ),
        "opset by its long name": text(opsets='"ai.onnx" : 17'),
        "opset twice": text(opsets='"" : 17, "" : 13'),
        "no opset": changed(text(), lambda model: model.ClearField("opset_import")),
        "newer IR version": text(ir_version=99),
        "negative IR version": changed(text(), put(ir_version=-1)),
        "no IR version": changed(text(), lambda model: model.ClearField("ir_version")),
        "IR version 2": text(ir_version=2),
        "IR version 2 without an opset": changed(
            text(ir_version=2), lambda model: model.ClearField("opset_import")
        ),
        "IR version 3": text(TIMES, weights=ONE, takes=listed, ir_version=3),
        "IR version 3, weights not listed": text(TIMES, weights=ONE, ir_version=3),
        "weights listed among the inputs": text(TIMES, weights=ONE, takes=listed),
    }


def _bytes() -> dict[str, bytes]:
    whole = weight(tensor(raw_data=bytes(4))).SerializeToString()
    metadata = text()
    metadata.metadata_props.add(key="cxreval.preprocessing_profile", value="xrv-224")
    return {
        "empty file": b"",
        "truncated file": whole[:-20],
        "gzip of a file": gzip.compress(whole, mtime=0),
        "plain text": b"this was never a model",
        "zeros": bytes(1000),
        "text form": onnx.printer.to_text(text()).encode(),
        "bytes after the end": whole + b"\xff\xff\xff",
        "unknown field": whole + b"\xfa\x3f\x03abc",
        "file twice": whole * 2,
        "subgraphs deeper than the parser goes": nested(200),
        "name that is not UTF-8": whole.replace(b"probabilities", b"prob\xff\xfeilities"),
        "input name that is not UTF-8": whole.replace(b"pixels", b"pix\xff\xfes"),
        "operator that is not UTF-8": whole.replace(b"Flatten", b"Flatt\xff\xff"),
        "metadata that is not UTF-8": metadata.SerializeToString().replace(
            b"xrv-224", b"xrv\xff\xff\xff4"
        ),
    }


def _graphs() -> dict[str, onnx.ModelProto]:
    metadata = text()
    for profile in ("xrv-224", "xrv-512"):
        metadata.metadata_props.add(key="cxreval.preprocessing_profile", value=profile)
    return {
        "empty graph": text("", mean=""),
        "no graph": changed(text(), lambda model: model.ClearField("graph")),
        "graph without a name": changed(text(), lambda model: put(name="")(model.graph)),
        "cycle": text("a = Add(flat, b) b = Relu(a) probabilities = Identity(b)"),
        "nodes out of order": text(
            "probabilities = Flatten(means) means = GlobalAveragePool(pixels)", mean=""
        ),
        "value written twice": text(f"flat = Relu(means) {CALL}"),
        "node that writes the input": text("probabilities = Sigmoid(flat) pixels = Relu(means)"),
        "output that nothing writes": text(""),
        "input that nothing reads": text(
            "probabilities = Identity(one)", weights="float[1, 1] one = {1}", mean=""
        ),
        "output that is a weight": text("", weights="float[1, 1] probabilities = {1}"),
        "output that is the input": text(gives="float[N,1,224,224] pixels"),
        "weight twice": text(TIMES, weights=f"{ONE}, {ONE}"),
        "weight without a name": changed(
            text(), lambda model: model.graph.initializer.append(tensor(name="", raw_data=bytes(4)))
        ),
        "two nodes of one name": changed(
            text(), *(lambda model, i=i: put(name="same")(model.graph.node[i]) for i in (0, 2))
        ),
        "branch that takes an outer name": text(
            branch(f"flat = {CONSTANT} chosen = Identity(flat)"), weights=YES
        ),
        "branches": text(branch(f"chosen = {CONSTANT}"), weights=YES),
        "metadata twice": metadata,
        "output name with control characters": named("\x1b[31mred\x07\n"),
        "output name with NUL": named("a\0b"),
    }


def _ends() -> dict[str, onnx.ModelProto]:
    def sized(takes: str, gives: str = "float[N,1]") -> onnx.ModelProto:
        return text(takes=f"{takes} pixels", gives=f"{gives} probabilities")

    def cast(number: int, stated: str) -> onnx.ModelProto:
        return text(
            f"probabilities = Cast <to = {number}> (flat)", gives=f"{stated}[N,1] probabilities"
        )

    def free(message: Any) -> None:
        message.type.tensor_type.ClearField("shape")

    from_cast = (
        "floats = Cast <to = 1> (pixels) means = GlobalAveragePool(floats) flat = Flatten(means) "
    )
    wide = {
        "weights": "float[1, 5] wide = {1, 1, 1, 1, 1}",
        "body": "probabilities = MatMul(flat, wide)",
    }
    mean = "flat = ReduceMean <axes = [1, 2], keepdims = 0> (pixels) "
    return {
        "no input": text(takes="", mean="", body=f"probabilities = {CONSTANT}"),
        "two inputs": text(takes="float[N,1,224,224] pixels, float[N,1] age"),
        "input twice": text(takes="float[N,1,224,224] pixels, float[N,1,224,224] pixels"),
        "input without a name": changed(text(), lambda model: put(name="")(model.graph.input[0])),
        "input without a type": changed(
            text(), lambda model: model.graph.input[0].ClearField("type")
        ),
        "output without a type": changed(
            text(), lambda model: model.graph.output[0].ClearField("type")
        ),
        "input without a shape": changed(text(), lambda model: free(model.graph.input[0])),
        "output without a shape": changed(text(), lambda model: free(model.graph.output[0])),
        "sequence input": changed(text(), input_type(helper.make_sequence_type_proto(IMAGE))),
        "optional input": changed(text(), input_type(helper.make_optional_type_proto(IMAGE))),
        "sequence output": changed(
            text("probabilities = SequenceConstruct(flat)"),
            output_type(helper.make_sequence_type_proto(ROW)),
        ),
        "sparse output": changed(
            text(), output_type(helper.make_sparse_tensor_type_proto(TensorProto.FLOAT, ["N", 1]))
        ),
        "float16 input": text(takes="float16[N,1,224,224] pixels", mean=from_cast),
        "uint8 input": text(takes="uint8[N,1,224,224] pixels", mean=from_cast),
        "input of an unknown type": changed(
            text(), lambda model: put(elem_type=99)(model.graph.input[0].type.tensor_type)
        ),
        "string output": cast(TensorProto.STRING, "string"),
        "float16 output": cast(TensorProto.FLOAT16, "float16"),
        "output of another type than stated": cast(TensorProto.DOUBLE, "float"),
        "fixed batch of 1": sized("float[1,1,224,224]", "float[1,1]"),
        "fixed batch of 2000": sized("float[2000,1,224,224]", "float[2000,1]"),
        "fixed batch of 2**62": sized(f"float[{2**62},1,224,224]"),
        "batch of 0": sized("float[0,1,224,224]", "float[0,1]"),
        "negative batch": sized("float[-1,1,224,224]", "float[-1,1]"),
        "image of height 0": sized("float[N,1,0,224]"),
        "image of free size": sized("float[N,C,H,W]"),
        "input of three dimensions": sized("float[1,224,224]"),
        "input of five dimensions": sized("float[N,1,1,224,224]"),
        "channels last": text(takes="float[N,224,224,1] pixels", mean=mean),
        "three channels": sized("float[N,3,224,224]", "float[N,3]"),
        "another image size": sized("float[N,1,512,512]"),
        "two outputs": text(gives="float[N,1] probabilities, float[N,1] flat"),
        "output twice": text(gives="float[N,1] probabilities, float[N,1] probabilities"),
        "no output": text(gives=""),
        "output of one dimension": text(
            "probabilities = Squeeze(flat)", gives="float[N] probabilities"
        ),
        "output of four dimensions": text(
            "probabilities = Sigmoid(pixels)", gives="float[N,1,224,224] probabilities"
        ),
        "wrong number of columns": text(**wide, gives="float[N,5] probabilities"),
        "wrong number of columns, not stated": text(**wide, gives="float[N,K] probabilities"),
        "wrong number of columns, stated as the right one": text(**wide),
        "columns stated as none": text(gives="float[N,0] probabilities"),
        "columns stated wrongly": text(gives="float[N,7] probabilities"),
        "no columns": text(
            "probabilities = Expand(flat, none)",
            weights="int64[2] none = {1, 0}",
            gives="float[N,K] probabilities",
        ),
    }


def _weights() -> dict[str, onnx.ModelProto]:
    one = tensor(raw_data=bytes(4))
    few = tensor(dims=[100], raw_data=bytes(4))
    packed = helper.make_tensor("q", TensorProto.INT4, [3], [1, 2, 3])
    return {
        "huge weight without bytes": weight(tensor(dims=[2**40])),
        "huge weight with few bytes": weight(tensor(dims=[2**40], raw_data=bytes(4))),
        "weight whose size overflows": weight(tensor(dims=[2**32, 2**32], raw_data=bytes(4))),
        "weight with too few bytes": weight(few),
        "weight with too many bytes": weight(tensor(raw_data=bytes(8))),
        "weight with too few values": weight(tensor(dims=[2], float_data=[1])),
        "weight with too many values": weight(tensor(float_data=[1, 2])),
        "weight with values of another type": weight(tensor(int32_data=[1])),
        "weight with values and bytes": weight(tensor(float_data=[1], raw_data=bytes(4))),
        "weight of negative size": weight(tensor(dims=[-1], raw_data=bytes(4))),
        "weight of an unknown type": weight(tensor(data_type=99, raw_data=bytes(4))),
        "weight without a type": weight(tensor(data_type=0, raw_data=bytes(4))),
        "weight in a segment": weight(changed(one, lambda held: put(begin=0, end=1)(held.segment))),
        "constant with too few bytes": constant(few),
        "branch with too few bytes": constant(
            few, text(branch(f"chosen = {CONSTANT}"), weights=YES)
        ),
        "sparse weight": sparse_weight(sparse(tensor(raw_data=bytes(4)))),
        "sparse weight out of range": sparse_weight(sparse(tensor(raw_data=bytes(4)), index=7)),
        "huge sparse weight": sparse_weight(sparse(tensor(raw_data=bytes(4)), size=2**40)),
        "weights of four bits": changed(
            text(
                "w = DequantizeLinear(q, factor) m = ReduceMax <keepdims = 0> (w) "
                "probabilities = Mul(flat, m)",
                weights="float factor = {1}, float q = {1}",
                opsets='"" : 21',
                ir_version=10,
            ),
            lambda model: model.graph.initializer[1].CopyFrom(packed),
        ),
    }


def only_a_run_shows() -> dict[str, bytes]:
    """Files that look right: opening a session or running the model shows that they are not."""
    loop = (
        "body (int64 i, bool go, float[N,1] sum) => (bool next, float[N,1] more) "
        "{ next = Identity(go) more = Add(sum, step) }"
    )
    built = {
        "operator version that the runtime does not implement": text(opsets='"" : 1'),
        "shape that no image has": text(
            "probabilities = Reshape(flat, sizes)", weights="int64[2] sizes = {7, 1}"
        ),
        "loop without an end": text(
            f"probabilities = Loop (, yes, flat) <body = {loop}>",
            weights="bool yes = {1}, float[1] step = {1}",
        ),
    }
    return {name: model.SerializeToString() for name, model in built.items()}
