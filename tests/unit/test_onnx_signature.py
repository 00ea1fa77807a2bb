"""Which input and output of a file are meant, and what a refusal says to change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from cxreval.errors import CxrevalError, ModelInputMismatch, ModelOutputMismatch
from cxreval.imaging.preprocess import profile_of
from cxreval.model_interface import ModelInterface
from cxreval.onnx_file.signature import Signature, check
from cxreval.preprocessing import (
    PRESETS,
    Activation,
    Layout,
    Outputs,
    Preprocessing,
    Resize,
    ResizeTo,
    TensorType,
)
from tests.support import odd_onnx

STEPS = Preprocessing(resize=Resize(ResizeTo.EXACT, (48, 64)))
RAW = PRESETS["raw"]
BYTES = replace(STEPS, dtype=TensorType.UINT8, value_range=(0.0, 255.0))


def model(
    takes: str = "float[N,3,48,64] image",
    gives: str = "float[N,2] probabilities",
    weights: str = "float[3,2] w = {1, 1, 1, 1, 1, 1}",
    body: str = "probabilities = MatMul(flat, w)",
) -> onnx.ModelProto:
    """Returns a model of the means of the channels of `image`."""
    mean = "means = GlobalAveragePool(image) flat = Flatten(means)"
    return odd_onnx.text(body, takes=takes, gives=gives, weights=weights, mean=mean)


def any_model(takes: str, gives: str = "float[N,2] probabilities") -> onnx.ModelProto:
    """Returns a model that does not look at its inputs: only they matter."""
    body = "probabilities = Constant <value = float[1,2] {0, 0}> ()"
    return odd_onnx.text(body, takes=takes, gives=gives, mean="")


def signature(
    file: onnx.ModelProto,
    steps: Preprocessing = STEPS,
    outputs: Outputs | None = None,
    columns: int | None = None,
) -> Signature:
    interface = ModelInterface(steps, outputs or Outputs())
    return check(file, interface, profile_of(steps).shape, columns)


def refusal(
    file: onnx.ModelProto, steps: Preprocessing = STEPS, outputs: Outputs | None = None
) -> CxrevalError:
    with pytest.raises((ModelInputMismatch, ModelOutputMismatch)) as raised:
        signature(file, steps, outputs, 2)
    assert raised.value.metadata["expected"]
    return raised.value


# --- the input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("takes", "steps", "shape", "dtype"),
    [
        ("float[N,3,48,64] x", STEPS, (3, 48, 64), "float32"),
        ("float[N,C,H,W] x", STEPS, (3, 48, 64), "float32"),
        ("float16[N,3,48,64] x", replace(STEPS, dtype=TensorType.FLOAT16), (3, 48, 64), "float16"),
        ("uint8[N,3,48,64] x", BYTES, (3, 48, 64), "uint8"),
        ("float[N,48,64,3] x", replace(STEPS, layout=Layout.NHWC), (48, 64, 3), "float32"),
        ("uint8[N,1,H,W] x", RAW, (1, None, None), "uint8"),
        ("uint8[N,H,W,C] x", replace(RAW, layout=Layout.NHWC), (None, None, 1), "uint8"),
    ],
)
def test_an_input_of_the_declared_layout_and_type_is_taken(
    takes: str, steps: Preprocessing, shape: tuple[int | None, ...], dtype: str
) -> None:
    found = signature(any_model(takes), steps)

    assert (found.input_name, found.image_shape, found.dtype) == ("x", shape, np.dtype(dtype))
    assert found.sizes_differ is (None in shape)


@pytest.mark.parametrize(
    ("takes", "steps", "cure"),
    [
        ("float[N,48,64,3] x", STEPS, "or set preprocessing.layout: NHWC"),
        ("float[N,3,48,64] x", replace(STEPS, layout=Layout.NHWC), "layout: NCHW"),
        ("float[N,1,48,64] x", STEPS, "or set preprocessing.channels: 1"),
        ("uint8[N,3,48,64] x", STEPS, "or set preprocessing.dtype: uint8"),
        ("float16[N,3,48,64] x", STEPS, "or set preprocessing.dtype: float16"),
        ("float[N,3,48,64] x", BYTES, "or set preprocessing.dtype: float32"),
        ("double[N,3,48,64] x", STEPS, "let the model take one of float32, float16, uint8"),
        ("float[N,3,224,224] x", STEPS, "or set preprocessing.resize and preprocessing.crop"),
        ("uint8[N,1,512,512] x", RAW, "export the model with free height and width"),
        ("uint8[N,3,H,W] x", RAW, "set preprocessing.channels: 3, with all steps instead of raw"),
        ("float[N,3,48] x", STEPS, "expected one float32 input of shape (N, 3, 48, 64)"),
    ],
)
def test_a_refused_input_names_the_field_that_would_fit(
    takes: str, steps: Preprocessing, cure: str
) -> None:
    error = refusal(any_model(takes), steps)

    assert isinstance(error, ModelInputMismatch)
    assert cure in error.message
    assert "'x'" in error.message


TWO = "float[N,3,48,64] image, float[N,1] age"


def test_of_several_inputs_all_but_the_images_need_a_default() -> None:
    assert "set preprocessing.tensor" in refusal(any_model(TWO)).message
    named = refusal(any_model(TWO), replace(STEPS, tensor="image"))
    assert "a default (an initializer) for 'age' float (N, 1)" in named.message

    with_default = any_model(TWO)
    default = numpy_helper.from_array(np.zeros((1, 1), np.float32), "age")
    with_default.graph.initializer.append(default)
    for name in ("", "image"):
        assert signature(with_default, replace(STEPS, tensor=name)).input_name == "image"


def test_a_name_of_an_input_that_is_absent_is_refused_with_those_that_are_there() -> None:
    error = refusal(any_model(TWO), replace(STEPS, tensor="pixels"))

    assert "an input 'pixels', as preprocessing.tensor says" in error.message
    assert "'image' float (N, 3, 48, 64), 'age' float (N, 1)" in error.message


def test_many_inputs_are_not_all_listed() -> None:
    takes = ", ".join(f"float[N,1] age{number}" for number in range(100))

    assert len(refusal(any_model(takes)).message) < 600


# --- the output -----------------------------------------------------------------------------------

BOTH = "float[N,3] flat, float[N,2] probabilities"


def test_of_several_outputs_the_named_one_is_taken() -> None:
    error = refusal(model(gives=BOTH))
    assert "set outputs.tensor" in error.message
    assert "'flat' float (N, 3), 'probabilities' float (N, 2)" in error.message

    assert signature(
        model(gives=BOTH), outputs=Outputs("probabilities"), columns=2
    ).output_name == ("probabilities")
    absent = refusal(model(gives=BOTH), outputs=Outputs("logits"))
    assert "an output 'logits', as outputs.tensor says" in absent.message


@pytest.mark.parametrize(
    ("gives", "body", "outputs"),
    [
        ("float16[N,2] p", "y = MatMul(flat, w) p = Cast <to = 10> (y)", Outputs()),
        ("double[N,2] p", "y = MatMul(flat, w) p = Cast <to = 11> (y)", Outputs()),
        (
            "float[N,2,1,1] p",
            "y = MatMul(flat, w) a = Constant <value = int64[2] {2, 3}> () p = Unsqueeze(y, a)",
            Outputs(),
        ),
        (
            "float[N,4] p",
            "y = MatMul(flat, w) p = Concat <axis = 1> (y, y)",
            Outputs(activation=Activation.SOFTMAX_POSITIVE),
        ),
        (
            "float[N,2,2] p",
            (
                "y = MatMul(flat, w) a = Constant <value = int64[1] {2}> () "
                "z = Unsqueeze(y, a) p = Concat <axis = 2> (z, z)"
            ),
            Outputs(activation=Activation.SOFTMAX_POSITIVE),
        ),
        ("float[N,K] p", "p = MatMul(flat, w)", Outputs(activation=Activation.SIGMOID)),
    ],
)
def test_an_output_of_any_floating_type_with_a_row_of_probabilities_is_taken(
    gives: str, body: str, outputs: Outputs
) -> None:
    found = signature(model(gives=gives, body=body), outputs=outputs, columns=2)

    assert (found.output_name, found.activation) == ("p", outputs.activation)


@pytest.mark.parametrize(
    ("gives", "body", "outputs", "says"),
    [
        ("int64[N] p", "p = ArgMax <axis = 1, keepdims = 0> (flat)", Outputs(), "int64 (N)"),
        ("float[N,3,1,1] p", "p = Identity(means)", Outputs(), "returns 3 columns; expected 2"),
        ("float[N,3,48,64] p", "p = Identity(image)", Outputs(), "expected a row of 1 to"),
        (
            "float[N,3] p", "p = Identity(flat)",
            Outputs(activation=Activation.SOFTMAX_POSITIVE), "(N, K, 2) or (N, 2K)",
        ),
        (
            "float[N,2] p", "p = MatMul(flat, w)",
            Outputs(activation=Activation.SOFTMAX_POSITIVE), "returns 1 columns; expected 2",
        ),
        (
            "float[N,2,2] p",
            ("y = MatMul(flat, w) a = Constant <value = int64[1] {2}> () "
            "z = Unsqueeze(y, a) p = Concat <axis = 2> (z, z)"),
            Outputs(), "set outputs.activation: softmax-positive",
        ),
    ],
)  # fmt: skip
def test_other_outputs_are_refused_with_the_form_that_is_expected(
    gives: str, body: str, outputs: Outputs, says: str
) -> None:
    error = refusal(model(gives=gives, body=body), outputs=outputs)

    assert isinstance(error, ModelOutputMismatch)
    assert says in error.message


def test_without_an_interface_the_file_fixes_the_shape_and_float16_is_taken() -> None:
    taken = check(any_model("float16[N,3,48,64] x"))
    assert (taken.image_shape, taken.dtype) == ((3, 48, 64), np.dtype("float16"))
    with pytest.raises(ModelInputMismatch, match=r"\(N, C, H, W\)"):
        check(any_model("float[N,3,H,W] x"))


def test_a_fixed_batch_of_images_of_any_size_is_bounded_by_their_largest() -> None:
    signature(any_model("uint8[4,1,H,W] x"), RAW)
    with pytest.raises(ModelInputMismatch, match="an input of at most"):
        signature(any_model("uint8[5,1,H,W] x"), RAW)
