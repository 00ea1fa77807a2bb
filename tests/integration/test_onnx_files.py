"""The command line and the inference service give the same answer about an ONNX file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import grpc
import pytest
from typer.testing import CliRunner

from cxreval.cli.app import app
from cxreval.datasets.benchmark_file import load_spec
from cxreval.foreign_files import foreign_kind
from cxreval.manifest.document import read_document
from cxreval.manifest.model import Kind
from cxreval.manifest.template import template
from cxreval.wire.status import from_rpc_error
from tests.support import odd_onnx, onnx_models
from tests.support.inference import InferenceService, load_request, stub
from tests.support.processes import REPOSITORY

ODD = odd_onnx.files()
Answer = tuple[str, str, str] | None
DEMO = sorted((REPOSITORY / "demo/checkpoints").glob("*.onnx"))
XRV = ("xrv-224", 1)
MODELS = {
    "classifier": ("xrv-224", onnx_models.COLUMNS),
    "not_onnx": XRV,
    "empty": XRV,
    "invalid_graph": XRV,
    "two_inputs": XRV,
    "double_input": XRV,
    "two_outputs": XRV,
    "image_output": XRV,
    "external_data": XRV,
    "custom_operator": XRV,
    "memory_hungry": ("xrv-224", onnx_models.COLUMNS),
    "nan_output": XRV,
    "batch_dependent": XRV,
    "unknown_type": XRV,
    "any_channels": XRV,
    "wrong_opset": XRV,
    "uint8_classifier": ("xrv-224", onnx_models.COLUMNS),
}
"""Functions of `onnx_models` that take no arguments, with a profile and a number of columns."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InferenceService]:
    flags = ("--run-seconds", "2", "--threads", "1")
    with InferenceService(tmp_path_factory.mktemp("inference"), *flags) as running:
        yield running


@pytest.fixture(scope="module")
def oip(service: InferenceService) -> Iterator[Any]:
    with service.connect() as channel:
        yield stub(channel)


def by_inference(oip: Any, digest: str, profile: str, columns: int) -> Answer:
    """Why the service refuses a file: reason, field and message; None if it loads it."""
    try:
        oip.RepositoryModelLoad(load_request(digest, profile, columns))
    except grpc.RpcError as raised:
        error = from_rpc_error(raised)
        return error.reason, error.metadata["field"], error.message
    return None


def by_command_line(manifest: Path, file: Path, *, run: bool = False) -> Answer:
    """Why `submission check` refuses a file: reason, field and message; None if it does not.

    The file is not run unless `run` is set.
    """
    with nullcontext() if run else patch("cxreval.cli.trial.try_model", return_value=({}, [])):
        arguments = ["submission", "check", str(manifest), str(file), "--json"]
        result = CliRunner().invoke(app, arguments)
    problems = json.loads(result.stdout)["problems"]
    assert result.exit_code == bool(problems)
    about_model = [one for one in problems if one["reason"].startswith("MODEL_")]
    assert len(about_model) < 2
    return next(((one["reason"], one["field"], one["message"]) for one in about_model), None)


def manifest(directory: Path, profile: str, columns: int) -> Path:
    lines = template(Kind.CHECKPOINT, load_spec("nih-chestxray14")).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("output_names:"))
    end = next(i for i in range(start + 1, len(lines)) if not lines[i].startswith("  - "))
    lines[start:end] = [f"output_names: {json.dumps([f'column {i}' for i in range(columns)])}"]
    file = directory / "mine.yaml"
    file.write_text("\n".join(lines).replace("imagenet-224", profile))
    assert len(read_document(file, datetime.now(UTC).date(), None).manifest.output_names) == columns
    return file


def assert_same(said: Answer, answer: Answer, file: Path) -> None:
    """Compares two answers; of another framework's file, the command line says what it is."""
    if foreign_kind(file):
        assert said
        assert answer
        assert said[0] == answer[0]
    else:
        assert said == answer


@pytest.mark.parametrize("name", ODD)
def test_an_odd_file_gets_the_same_answer_from_both(
    service: InferenceService, oip: Any, tmp_path: Path, name: str
) -> None:
    digest = onnx_models.store(service.models, ODD[name])

    file = service.models / f"{digest}.onnx"
    said = by_command_line(manifest(tmp_path, *XRV), file)

    assert_same(said, by_inference(oip, digest, *XRV), file)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_the_tests_gets_the_same_answer_from_both(
    service: InferenceService, oip: Any, tmp_path: Path, name: str
) -> None:
    digest = getattr(onnx_models, name)(service.models)

    file = service.models / f"{digest}.onnx"
    said = by_command_line(manifest(tmp_path, *MODELS[name]), file)

    assert_same(said, by_inference(oip, digest, *MODELS[name]), file)


@pytest.mark.parametrize("file", DEMO, ids=[file.stem for file in DEMO])
def test_a_checkpoint_of_the_demo_passes_both(
    service: InferenceService, oip: Any, file: Path
) -> None:
    digest = onnx_models.store(service.models, file.read_bytes())
    document = read_document(file.with_suffix(".yaml"), datetime.now(UTC).date(), None)
    declared = document.manifest
    columns = len(declared.output_names)

    assert by_command_line(file.with_suffix(".yaml"), file) is None
    assert by_inference(oip, digest, declared.preprocessing_profile, columns) is None


@pytest.mark.parametrize("name", odd_onnx.only_a_run_shows())
def test_what_only_onnxruntime_can_show_is_found_by_a_run_of_both(
    service: InferenceService,
    oip: Any,
    tmp_path: Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    digest = onnx_models.store(service.models, odd_onnx.only_a_run_shows()[name])
    file, stated = service.models / f"{digest}.onnx", manifest(tmp_path, *XRV)
    endless = name == "loop without an end"
    if endless:
        monkeypatch.setattr("cxreval.cli.trial._SECONDS", 5.0)

    assert by_command_line(stated, file) is None
    said = by_command_line(stated, file, run=True)

    refused = by_inference(oip, digest, *XRV)
    assert refused
    assert said
    assert said[0] == refused[0]
    assert refused[0] == ("MODEL_TOO_SLOW" if endless else "MODEL_UNSUPPORTED")


def test_check_says_what_the_file_holds_and_what_was_expected(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(ODD["fixed batch of 2000"])

    result = CliRunner().invoke(
        app, ["submission", "check", str(manifest(tmp_path, *XRV)), str(file), "--json"]
    )

    said = json.loads(result.stdout)
    assert said["artifact"]["inputs"] == "'pixels' float (2000, 1, 224, 224)"
    assert said["artifact"]["outputs"] == "'probabilities' float (2000, 1)"
    (problem,) = [one for one in said["problems"] if one["reason"].startswith("MODEL_")]
    assert problem["field"] == "model.inputs"
    assert problem["message"].endswith("expected an input of at most 268435456 bytes")
