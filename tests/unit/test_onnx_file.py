"""The tables of what onnxruntime supports, and how a file is read."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state

from cxreval.errors import ModelExternalData, ModelNotOnnx
from cxreval.onnx_file import reading
from cxreval.onnx_file.operators import MAX_IR_VERSION, OPERATORS, OPSETS, STANDARD
from cxreval.onnx_file.reading import every, read
from tests.support import odd_onnx, onnx_models


def opens(model: onnx.ModelProto) -> bool:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001 - onnxruntime has no class of its own
        return False
    return True


def test_operators_are_those_of_the_installed_onnxruntime() -> None:
    schemas = onnxruntime_pybind11_state.get_all_operator_schema()
    installed: dict[str, set[str]] = {}
    for schema in schemas:
        if schema.domain not in STANDARD:
            installed.setdefault(schema.domain, set()).add(schema.name)

    assert installed == OPERATORS


@pytest.mark.parametrize("domain", OPSETS)
def test_versions_of_operator_sets_are_those_of_the_installed_onnxruntime(domain: str) -> None:
    def importing(version: int) -> onnx.ModelProto:
        if not domain:
            return odd_onnx.text(opsets=f'"" : {version}')
        return odd_onnx.text(opsets=f'"" : 17, "{domain}" : {version}')

    assert opens(importing(OPSETS[domain]))
    assert not opens(importing(OPSETS[domain] + 1))


def test_the_ir_version_is_that_of_the_installed_onnxruntime() -> None:
    assert opens(odd_onnx.text(ir_version=MAX_IR_VERSION))
    assert not opens(odd_onnx.text(ir_version=MAX_IR_VERSION + 1))


def test_a_file_over_the_limit_is_not_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / f"{onnx_models.classifier(tmp_path)}.onnx"
    monkeypatch.setattr(reading, "MAX_FILE_BYTES", 100)
    monkeypatch.setattr(onnx, "load_model", None)

    with pytest.raises(ModelNotOnnx, match=r"it has \d+ bytes; expected at most 100"):
        read(file)


def test_no_tensor_hides_from_the_search_for_external_data(tmp_path: Path) -> None:
    found = []
    for index, (name, content) in enumerate(odd_onnx.files().items()):
        if name.startswith(("external ", "location of")):
            file = tmp_path / f"{index}.onnx"
            file.write_bytes(content)
            with pytest.raises(ModelExternalData) as refusal:
                read(file)
            found.append(refusal.value.metadata["tensor"])
    assert found == ["factor"] * 10


def test_parts_are_found_however_deep() -> None:
    model = odd_onnx.text(odd_onnx.branch(f"chosen = {odd_onnx.CONSTANT}"), weights=odd_onnx.YES)

    assert [node.op_type for node in every(onnx.NodeProto, model)].count("Constant") == 2
    assert [graph.name for graph in every(onnx.GraphProto, model)] == ["odd", "b", "b"]
