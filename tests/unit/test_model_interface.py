"""The interface of a model: its JSON, its digest, and the probabilities in an output."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from cxreval.errors import CxrevalError, MalformedField, ModelOutputMismatch
from cxreval.imaging.preprocess import profile_of
from cxreval.model_interface import (
    MAX_TENSOR_BYTES,
    ModelInterface,
    check,
    preset,
    probabilities,
    read,
)
from cxreval.preprocessing import (
    PRESETS,
    Activation,
    Crop,
    CropKind,
    Equalize,
    EqualizeKind,
    Interpolation,
    Layout,
    Library,
    Outputs,
    Preprocessing,
    Resize,
    ResizeTo,
    Square,
    TensorType,
    preprocessing_problems,
)
from tests.support.processes import REPOSITORY

NONE, SIGMOID, PAIRS = Activation.NONE, Activation.SIGMOID, Activation.SOFTMAX_POSITIVE

names = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)
resizes = st.one_of(
    st.builds(
        Resize,
        st.sampled_from([ResizeTo.SHORT_SIDE, ResizeTo.LONG_SIDE]),
        st.tuples(st.integers(512, 700)),
        st.sampled_from(Interpolation),
        st.booleans(),
        st.sampled_from(Library),
    ),
    st.builds(Resize, st.just(ResizeTo.EXACT), st.tuples(*[st.integers(512, 700)] * 2)),
)
pipelines = st.builds(
    Preprocessing,
    channels=st.sampled_from([1, 3]),
    square=st.sampled_from(Square),
    resize=resizes,
    crop=st.builds(Crop, st.sampled_from([CropKind.CENTER]), st.tuples(st.integers(16, 512))),
    equalize=st.sampled_from([Equalize(), Equalize(EqualizeKind.CLAHE, 2.0, 8)]),
    layout=st.sampled_from(Layout),
    dtype=st.sampled_from([TensorType.FLOAT32, TensorType.FLOAT16]),
    tensor=names,
).filter(lambda steps: not preprocessing_problems(steps, "preprocessing"))
interfaces = st.builds(
    ModelInterface, pipelines, st.builds(Outputs, names, st.sampled_from(Activation))
)


def shuffled(value: Any, order: Any) -> Any:
    """Returns JSON with the keys of each object in another order."""
    if isinstance(value, dict):
        keys = order.draw(st.permutations(sorted(value)))
        return {key: shuffled(value[key], order) for key in keys}
    return value


# --- JSON and digest ------------------------------------------------------------------------------


@given(interfaces, st.data())
def test_an_interface_is_read_back_equal_in_any_order_of_keys(
    interface: ModelInterface, order: Any
) -> None:
    text = json.dumps(shuffled(json.loads(interface.json), order))

    assert read(text, "interface") == interface
    assert read(text, "interface").digest == interface.digest


@given(interfaces, interfaces)
def test_the_digest_tells_interfaces_apart(one: ModelInterface, other: ModelInterface) -> None:
    same = one.outputs == other.outputs and (
        (one.preprocessing.digest, one.preprocessing.tensor)
        == (other.preprocessing.digest, other.preprocessing.tensor)
    )
    assert (one.digest == other.digest) is same


def test_fields_that_are_left_out_have_their_defaults() -> None:
    assert read('{"preprocessing": {}}', "interface") == ModelInterface(Preprocessing())


def test_the_example_of_the_page_on_serving_is_an_interface() -> None:
    page = (REPOSITORY / "docs/serving.md").read_text()
    example = page.partition("```json\n")[2].partition("```")[0]

    assert read(example, "interface").outputs == Outputs("logits", Activation.SIGMOID)


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_has_an_interface(name: str) -> None:
    assert read(preset(name).json, "interface") == preset(name)


XRV = json.loads(preset("xrv-224").json)


def changed(path: str, value: object) -> str:
    copied = json.loads(json.dumps(XRV))
    *parents, last = path.split(".")
    inner = copied
    for parent in parents:
        inner = inner[parent]
    inner[last] = value
    return json.dumps(copied)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", ""),
        ("null", ""),
        ("[]", ""),
        ("7", ""),
        ("{", ""),
        ("[" * 10_000, ""),
        ('{"preprocessing": {}' + " " * 20_000 + "}", ""),
        ("{}", ".preprocessing"),
        ('{"preprocessing": null}', ".preprocessing"),
        ('{"preprocessing": []}', ".preprocessing"),
        ('{"preprocessing": "xrv-224"}', ".preprocessing"),
        (changed("preprocessing.rotate", 90), ".preprocessing"),
        (changed("files", []), ""),
        (changed("preprocessing.channels", "3"), ".preprocessing.channels"),
        (changed("preprocessing.channels", True), ".preprocessing.channels"),
        (changed("preprocessing.channels", 1.0), ".preprocessing.channels"),
        (changed("preprocessing.channels", 10**400), ".preprocessing.channels"),
        (changed("preprocessing.value_range", [0, 10**400]), ".preprocessing.value_range[1]"),
        (changed("preprocessing.value_range", [0, float("nan")]), ".preprocessing.value_range[1]"),
        (changed("preprocessing.value_range", [0, float("inf")]), ".preprocessing.value_range[1]"),
        (changed("preprocessing.value_range", [0, None]), ".preprocessing.value_range[1]"),
        (changed("preprocessing.value_range", [[0], 1]), ".preprocessing.value_range[0]"),
        (changed("preprocessing.value_range", {"0": 1}), ".preprocessing.value_range"),
        (changed("preprocessing.mean", [0.5] * 1000), ".preprocessing.mean"),
        (changed("preprocessing.std", [0, 1, 1]), ".preprocessing.std[0]"),
        (changed("preprocessing.layout", "CHW"), ".preprocessing.layout"),
        (changed("preprocessing.layout", ["NCHW"]), ".preprocessing.layout"),
        (changed("preprocessing.dtype", "float64"), ".preprocessing.dtype"),
        (changed("preprocessing.tensor", "x" * 1000), ".preprocessing.tensor"),
        (changed("preprocessing.tensor", "a\u202eb"), ".preprocessing.tensor"),
        (changed("preprocessing.resize", "none"), ".preprocessing.resize"),
        (changed("preprocessing.resize.size", [1]), ".preprocessing.resize.size[0]"),
        (changed("preprocessing.resize.size", [4096, 4096]), ".preprocessing.resize.size[0]"),
        (changed("preprocessing.resize.antialias", 1), ".preprocessing.resize.antialias"),
        (changed("preprocessing.equalize.clip", "2"), ".preprocessing.equalize.clip"),
        (changed("outputs", None), ".outputs"),
        (changed("outputs.activation", "relu"), ".outputs.activation"),
        (changed("outputs.tensor", 7), ".outputs.tensor"),
    ],
)
def test_json_of_another_form_is_refused_with_the_field(text: str, field: str) -> None:
    with pytest.raises(MalformedField) as refusal:
        read(text, "interface")

    assert refusal.value.metadata["field"] == f"interface{field}"
    assert refusal.value.metadata["expected"]
    assert len(refusal.value.message) < 500


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["preprocessing", "outputs", "resize", "size", "mean", "x"]), inner
    ),
    max_leaves=10,
))  # fmt: skip
def test_any_json_is_an_interface_or_a_named_error(value: object) -> None:
    try:
        interface = read(json.dumps(value), "interface")
    except CxrevalError as error:
        assert error.metadata["field"].startswith("interface")  # noqa: PT017
    else:
        assert asdict(interface)


# --- the size of an image -------------------------------------------------------------------------


def sized(size: int, crop: CropKind = CropKind.TEN, **changes: Any) -> Preprocessing:
    given = Preprocessing(
        resize=Resize(ResizeTo.SHORT_SIDE, (2048,)), crop=Crop(crop, (size, size))
    )
    return replace(given, **changes)


@given(
    st.integers(16, 2048),
    st.sampled_from([CropKind.CENTER, CropKind.TEN]),
    st.sampled_from([1, 3]),
    st.sampled_from([TensorType.FLOAT32, TensorType.FLOAT16]),
)
def test_all_crops_of_an_image_fit_into_their_limit_or_are_refused(
    size: int, crop: CropKind, channels: int, dtype: TensorType
) -> None:
    steps = sized(size, crop, channels=channels, dtype=dtype)
    crops = 10 if crop is CropKind.TEN else 1
    nbytes = crops * channels * size * size * np.dtype(dtype).itemsize
    try:
        check(ModelInterface(steps), "manifest")
    except MalformedField as error:
        assert error.metadata["field"] == "manifest.preprocessing.crop.size"  # noqa: PT017
        assert nbytes > MAX_TENSOR_BYTES
    else:
        assert nbytes <= MAX_TENSOR_BYTES


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_fits(name: str) -> None:
    check(preset(name), "manifest")
    profile = profile_of(PRESETS[name])
    sizes = [size or 1 for size in profile.tensor_shape]
    assert np.prod(sizes) * profile.dtype.itemsize <= MAX_TENSOR_BYTES


# --- probabilities --------------------------------------------------------------------------------

outputs = npst.arrays(
    np.float32, npst.array_shapes(min_dims=2, max_dims=2), elements=st.floats(width=32)
)


@given(outputs)
def test_without_activation_the_values_stay(output: np.ndarray) -> None:
    np.testing.assert_array_equal(probabilities(output, NONE), output)


@given(outputs)
def test_a_sigmoid_is_that_of_float64_within_float32_and_never_overflows(
    output: np.ndarray,
) -> None:
    values = probabilities(output, SIGMOID)
    exact = 1 / (1 + np.exp(-np.clip(output.astype(np.float64), -700, 700)))
    np.testing.assert_allclose(values, exact, rtol=3e-7, atol=1e-44)
    assert values.dtype == np.float32


@given(outputs)
def test_softmax_positive_is_the_softmax_of_each_pair(output: np.ndarray) -> None:
    pairs = np.repeat(np.clip(output, -1e4, 1e4), 2, axis=1)
    pairs[:, ::2] *= np.float32(0.5)
    high = pairs.astype(np.float64).reshape(len(pairs), -1, 2)
    with np.errstate(invalid="ignore"):
        powers = np.exp(high - high.max(axis=2, keepdims=True))
    expected = (powers / powers.sum(axis=2, keepdims=True))[..., 1]

    flat = probabilities(pairs, PAIRS)

    np.testing.assert_allclose(flat, expected, rtol=2e-3, atol=1e-30)
    np.testing.assert_array_equal(flat, probabilities(pairs.reshape(*high.shape), PAIRS))


@pytest.mark.parametrize(
    ("shape", "activation", "columns"),
    [
        ((2, 3), NONE, 3),
        ((2, 3, 1), NONE, 3),
        ((2, 3, 1, 1), SIGMOID, 3),
        ((2, 1), NONE, 1),
        ((2, 1, 1, 1), NONE, 1),
        ((2, 3, 2), PAIRS, 3),
        ((2, 6), PAIRS, 3),
        ((2, 6, 1, 1), PAIRS, 3),
        ((2, 1, 2), PAIRS, 1),
        ((2, 2), PAIRS, 1),
    ],
)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_shapes_that_have_a_row_of_probabilities(
    shape: tuple[int, ...], activation: Activation, columns: int, dtype: Any
) -> None:
    values = probabilities(np.zeros(shape, dtype), activation)

    assert (values.shape, values.dtype) == ((2, columns), np.float32)


@pytest.mark.parametrize(
    ("shape", "activation"),
    [
        ((2,), NONE),
        ((), NONE),
        ((2, 0), NONE),
        ((2, 10_001), NONE),
        ((2, 3, 2), NONE),
        ((2, 3, 2), SIGMOID),
        ((2, 1, 7, 7), NONE),
        ((2, 3), PAIRS),
        ((2, 1), PAIRS),
        ((2, 3, 3), PAIRS),
        ((2, 20_002), PAIRS),
        ((2, 3, 2, 2), PAIRS),
    ],
)
def test_other_shapes_are_refused(shape: tuple[int, ...], activation: Activation) -> None:
    with pytest.raises(ModelOutputMismatch) as refusal:
        probabilities(np.zeros(shape, np.float32), activation)

    assert str(shape) in refusal.value.message
