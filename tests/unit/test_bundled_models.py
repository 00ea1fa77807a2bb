"""Weights in another file are found inside of it, or refused before a runtime opens anything."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cxreval.bundle import Ensemble, Section, whole
from cxreval.errors import BundleInvalid, ModelExternalData, ModelTooLarge, SubmissionFault
from cxreval.files import MAX_FILE_BYTES
from cxreval.imaging.preprocess import PROFILES
from cxreval.onnx_file import bundled
from cxreval.onnx_file.bundled import BundledModel, inspect_bundle
from cxreval.onnx_file.reading import read
from cxreval.onnx_file.signature import check
from tests.support import bundles, onnx_models

XRV = partial(check, image_shape=PROFILES["xrv-224"].shape, columns=onnx_models.COLUMNS)


def inspected(
    files: Sequence[Path], ensemble: Ensemble | None = None, *, embed: bool = False
) -> list[BundledModel]:
    sections = {file.name: whole(file) for file in files}
    return list(inspect_bundle(sections, ensemble, XRV, embed=embed))


def refused(files: Sequence[Path], ensemble: Ensemble | None = None) -> SubmissionFault:
    with pytest.raises(SubmissionFault) as caught:
        inspected(files, ensemble)
    assert str(files[0].parent) not in caught.value.message
    assert len(caught.value.message) < 600
    return caught.value


# --- weights that are there -----------------------------------------------------------------------


def test_small_weights_come_into_the_model_and_large_ones_stay_where_they_are(
    tmp_path: Path,
) -> None:
    model_file, data = bundles.with_external_data(tmp_path)
    archive = tmp_path / "archive"
    archive.write_bytes(b"?" * 1000 + data.read_bytes())
    sections = {
        "model.onnx": whole(model_file),
        "weights.bin": Section(archive, 1000, data.stat().st_size),
    }

    (found,) = inspect_bundle(sections, None, XRV)

    model = onnx.load_model_from_string(found.content)
    large, *small = model.graph.initializer
    stated = {entry.key: entry.value for entry in large.external_data}
    original = onnx.load(model_file)
    content = archive.read_bytes()[int(stated["offset"]) :][: int(stated["length"])]
    assert stated["location"] == "archive"
    assert content == numpy_helper.to_array(original.graph.initializer[0]).tobytes()
    assert [numpy_helper.to_array(tensor) for tensor in small] == [0, 16]
    assert found.signature.image_shape == (1, 224, 224)


def test_all_weights_come_into_a_model_for_half_precision(tmp_path: Path) -> None:
    files = bundles.with_external_data(tmp_path)
    (found,) = inspected(files, embed=True)
    embedded = onnx.load_model_from_string(found.content)
    for left, right in zip(
        embedded.graph.initializer, onnx.load(files[0]).graph.initializer, strict=True
    ):
        assert np.array_equal(numpy_helper.to_array(left), numpy_helper.to_array(right))


def test_weights_that_do_not_fit_into_one_file_cannot_be_embedded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundled, "MAX_FILE_BYTES", 20_000)
    files = bundles.with_external_data(tmp_path)
    with pytest.raises(ModelTooLarge, match=r"model\.onnx: the model is too large"):
        inspected(files, embed=True)
    assert inspected(files)


def test_weights_of_a_branch_are_found(tmp_path: Path) -> None:
    files = bundles.with_external_data(tmp_path)
    model = onnx.load(files[0], load_external_data=False)
    large = model.graph.initializer.pop(0)
    value = helper.make_tensor_value_info("padded", TensorProto.FLOAT, [600, 14])
    branch = helper.make_graph(
        [helper.make_node("Identity", ["held"], ["padded"])], "branch", [], [value]
    )
    large.name = "held"
    branch.initializer.append(large)
    either = helper.make_node("If", ["yes"], ["padded"], then_branch=branch, else_branch=branch)
    model.graph.node.insert(0, either)
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    files[0].write_bytes(model.SerializeToString())

    (found,) = inspected(files)

    assert found.signature.output_name == "probabilities"


def test_two_tensors_may_share_their_data_but_not_thousands(tmp_path: Path) -> None:
    files = bundles.with_external_data(tmp_path)
    model = onnx.load(files[0], load_external_data=False)
    for count, accepted in ((1, True), (2, False)):
        for number in range(count):
            model.graph.initializer.add().CopyFrom(model.graph.initializer[0])
            model.graph.initializer[-1].name = f"shared {count} {number}"
        files[0].write_bytes(model.SerializeToString())
        if accepted:
            assert inspected(files)
        else:
            assert "at most 2 times" in refused(files).message


# --- weights that are not -------------------------------------------------------------------------

ELSEWHERE: dict[str, dict[str, str | None]] = {
    "/etc/passwd": {"location": "/etc/passwd"},
    "a path upwards": {"location": "../weights.bin"},
    "a path in a folder": {"location": "x/../weights.bin"},
    "this folder": {"location": "./weights.bin"},
    "this folder itself": {"location": "."},
    "no location": {"location": None},
    "an empty location": {"location": ""},
    "a file that is not there": {"location": "other.bin"},
    "another case": {"location": "WEIGHTS.bin"},
    "the model": {"location": "model.onnx"},
    "a location of 1 MB": {"location": "w" * 1_000_000},
    "memory of the runtime": {"location": "*/_ORT_MEM_ADDR_/*"},
    "a null byte": {"location": "weights.bin\0"},
    "an offset beyond the end": {"offset": "999999"},
    "an offset that leaves too little": {"offset": "999"},
    "a negative offset": {"offset": "-4"},
    "an offset of 2**63": {"offset": str(2**63)},
    "an offset of 2**64": {"offset": str(2**64)},
    "an offset with a sign": {"offset": "+0"},
    "an offset with a space": {"offset": " 0"},
    "an offset in hex": {"offset": "0x0"},
    "a fraction": {"offset": "0.0"},
    "another numeral": {"offset": "\N{ARABIC-INDIC DIGIT ZERO}"},
    "an empty offset": {"offset": ""},
    "an offset of 1 MB": {"offset": "0" * 1_000_000},
    "a shorter length": {"length": "33596"},
    "a longer length": {"length": "33604"},
    "a negative length": {"length": "-1"},
    "a length of 2**63": {"length": str(2**63)},
    "an unknown key": {"basepath": "/etc"},
}


@pytest.mark.parametrize("kind", ELSEWHERE)
def test_data_that_are_not_in_a_file_of_the_submission_are_refused(
    tmp_path: Path, kind: str
) -> None:
    files = bundles.with_external_data(tmp_path)
    bundles.elsewhere(files[0], **ELSEWHERE[kind])
    error = refused(files)
    assert isinstance(error, ModelExternalData)
    assert error.message.startswith("model.onnx: tensor 'padded'")
    assert error.metadata["tensor"] == "padded"


def changed(files: Sequence[Path], **fields: object) -> None:
    """Changes fields of the first weight."""
    model = onnx.load(files[0], load_external_data=False)
    tensor = model.graph.initializer[0]
    for field, value in fields.items():
        if isinstance(value, list):
            del getattr(tensor, field)[:]
            getattr(tensor, field).extend(value)
        else:
            setattr(tensor, field, value)
    files[0].write_bytes(model.SerializeToString())


TENSORS: dict[str, dict[str, object]] = {
    "a larger shape": {"dims": [601, 14]},
    "a negative shape": {"dims": [-600, 14]},
    "two negative sizes": {"dims": [-600, -14]},
    "a shape of 2**126": {"dims": [2**62, 2**62, 4]},
    "a shape of 1,000 sizes": {"dims": [2**62] * 1000},
    "a wider type": {"data_type": TensorProto.DOUBLE},
    "texts": {"data_type": TensorProto.STRING},
    "no type": {"data_type": TensorProto.UNDEFINED},
    "an unknown type": {"data_type": 999},
    "data in the file as well": {"raw_data": bytes(600 * 14 * 4)},
    "values in the file as well": {"float_data": [0.0]},
    "an inner location": {"data_location": TensorProto.DEFAULT},
}


@pytest.mark.parametrize("kind", TENSORS)
def test_a_tensor_that_does_not_fit_its_data_is_refused(tmp_path: Path, kind: str) -> None:
    files = bundles.with_external_data(tmp_path)
    changed(files, **TENSORS[kind])
    error = refused(files)
    assert isinstance(error, ModelExternalData)
    assert error.message.startswith("model.onnx: tensor 'padded'")


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    files = bundles.with_external_data(tmp_path)
    model = onnx.load(files[0], load_external_data=False)
    model.graph.initializer[0].external_data.add(key="location", value="weights.bin")
    files[0].write_bytes(model.SerializeToString())
    assert "describes its data wrongly" in refused(files).message


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    files = bundles.with_external_data(tmp_path)
    files[0].write_bytes(files[0].read_bytes().replace(b"weights.bin", b"weights.\xff\xff\xff"))
    assert refused(files).reason in ("MODEL_EXTERNAL_DATA", "MODEL_NOT_ONNX")


def test_only_weights_of_a_graph_may_be_in_another_file(tmp_path: Path) -> None:
    files = bundles.with_external_data(tmp_path)
    model = onnx.load(files[0], load_external_data=False)
    large = model.graph.initializer.pop(0)
    model.graph.node.insert(0, helper.make_node("Constant", [], ["padded"], value=large))
    files[0].write_bytes(model.SerializeToString())
    assert "only of the weights of a graph" in refused(files).message


def test_a_file_in_which_no_model_has_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README").write_bytes(b"weights of my model")
    error = refused([*bundles.with_external_data(tmp_path), tmp_path / "README"])
    assert "no model has weights in README" in error.message


def test_a_model_without_its_data_is_refused_with_the_cure(tmp_path: Path) -> None:
    (model, _) = bundles.with_external_data(tmp_path)
    with pytest.raises(ModelExternalData, match="cxreval submit MANIFEST MODEL"):
        read(model)
    error = refused([model])
    assert re.search("data in 'weights.bin'; expected that file submitted with", error.message)


# --- which models ---------------------------------------------------------------------------------


def test_several_models_need_an_ensemble_and_one_must_not_have_it(tmp_path: Path) -> None:
    one, two = bundles.members(tmp_path)
    data = tmp_path / "weights.bin"
    data.write_bytes(b"x")
    for files, ensemble in (([one, two], None), ([one], Ensemble.MEAN), ([data], None)):
        assert isinstance(refused(files, ensemble), BundleInvalid)
    assert [model.name for model in inspected([one, two], Ensemble.MEAN)] == [one.name, two.name]


def test_the_models_of_an_ensemble_take_the_same_images(tmp_path: Path) -> None:
    files = bundles.members(tmp_path, [0])
    for batch, name in ((4, "fixed.onnx"), ("N", "odd.onnx")):
        digest = onnx_models.classifier(tmp_path, batch=batch, channels=1 if batch == 4 else 3)
        other = (tmp_path / f"{digest}.onnx").rename(tmp_path / name)
        error = refused([*files, other], Ensemble.MEAN)
        assert error.reason == "MODEL_INPUT_MISMATCH"
        assert error.message.startswith(f"{name}: ")


def test_a_defect_of_one_model_names_its_file(tmp_path: Path) -> None:
    files = bundles.members(tmp_path)
    for function in (onnx_models.not_onnx, onnx_models.external_data, onnx_models.custom_operator):
        files[1].write_bytes((tmp_path / f"{function(tmp_path)}.onnx").read_bytes())
        assert refused(files, Ensemble.MEAN).message.startswith(f"{files[1].name}: ")


def test_a_model_above_the_limit_of_protobuf_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    with file.open("wb") as content:
        content.truncate(MAX_FILE_BYTES + 1)  # sparse: takes no space
    assert "2147483648 bytes" in refused([file]).message
