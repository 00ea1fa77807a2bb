"""What ONNX and onnxruntime say about a file is told in plain words, without their internals."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxreval.errors import CxrevalError, ModelUnsupported
from cxreval.model_interface import preset
from cxreval.onnx_file.messages import plain
from cxreval.onnx_file.signature import Signature, inspect
from services.inference.backends.session import AS_SAVED, OnnxSession
from tests.support import odd_onnx, onnx_models
from tests.support.odd_onnx import INTERNALS

XRV = (1, 224, 224)
UNINSPECTED = Signature("pixels", XRV, None, "probabilities")
FILES = odd_onnx.files()


def messages(file: Path) -> Iterator[str]:
    """Yields what the checks say about a file, and what the runtime says without them."""
    for attempt in (
        lambda: inspect(file, preset("xrv-224"), XRV, 1),
        lambda: OnnxSession(file, UNINSPECTED, threads=1, execution=AS_SAVED),
    ):
        with contextlib.suppress(UnicodeDecodeError):  # of names, in onnxruntime's own fallback
            try:
                attempt()
            except CxrevalError as error:
                yield error.message


@pytest.mark.parametrize("name", FILES)
def test_no_message_about_an_odd_file_has_internals(tmp_path: Path, name: str) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(FILES[name])

    for message in messages(file):
        # What the file itself says is quoted.
        assert not INTERNALS.search(re.sub("'[^']*'", "", message)), message
        assert len(message) > 30, message


def test_an_error_without_text_has_a_likely_cause() -> None:
    assert plain(ValueError("")) == "a name may not be valid UTF-8; export the model again"


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (onnx_models.custom_operator, "the runtime has no operator com.example.medical:Segment"),
        (onnx_models.wrong_opset, "the runtime does not have version"),
        (onnx_models.external_data, "a tensor has its data in another file"),
        (onnx_models.invalid_graph, "'nowhere'"),
    ],
)
def test_what_the_runtime_says_has_the_cause(tmp_path: Path, build, says: str) -> None:
    file = tmp_path / f"{build(tmp_path)}.onnx"

    with pytest.raises(ModelUnsupported) as refusal:
        OnnxSession(file, UNINSPECTED, threads=1, execution=AS_SAVED)

    assert says in refusal.value.message


PLACES = st.sampled_from(
    [
        (
            "/onnxruntime_src/onnxruntime/core/graph/graph.cc:1407 onnxruntime::Graph::Graph("
            "const onnxruntime::Model&, const std::unordered_map<std::__cxx11::basic_string<char>, "
            "int>&, std::function<void (int)>) "
        ),
        "tensorprotoutils.cc:592 ValidateExternalDataPathFromDir ",
        "Load model from /home/me/models/chexnet.onnx failed:",
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : ",
        "Exception during initialization: ",
        (
            "/onnxruntime_src/include/onnxruntime/core/framework/op_kernel.h:12 T "
            "onnxruntime::Kernel<T>::Get(size_t) const [with T = float] "
        ),
    ]
)
WORDS = st.lists(st.sampled_from(["the", "tensor", "weights", "has", "3", "axes"]), min_size=1)


@given(st.lists(PLACES, max_size=5), WORDS)
def test_only_the_words_are_left_of_a_message(places: list[str], words: list[str]) -> None:
    said = plain("".join(places) + " ".join(words))

    assert not INTERNALS.search(said), said
    assert said.endswith(" ".join(words)[-300:])


@given(st.text(max_size=6000))
def test_any_text_gives_one_short_printable_line(text: str) -> None:
    said = plain(text)

    assert 0 < len(said) <= 300
    assert said.isprintable()


def test_names_of_nodes_stay() -> None:
    text = (
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running "
        "Reshape node. Name:'/classifier/Reshape_1' Status Message: /onnxruntime_src/onnxruntime/"
        "core/providers/cpu/tensor/reshape_helper.h:47 onnxruntime::ReshapeHelper::ReshapeHelper("
        "const onnxruntime::TensorShape&, bool) input_shape_size == size was false. The input "
        "tensor cannot be reshaped to the requested shape. Input shape:{1,1}, requested shape:{7,5}"
    )
    assert plain(text) == (
        "the operator Reshape '/classifier/Reshape_1' failed: The input tensor cannot be reshaped "
        "to the requested shape. Input shape:{1,1}, requested shape:{7,5}"
    )
