"""`cxreval submit` on a registry: all mistakes at once, the name printed early, a secret token."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from cxreval.cli.app import app
from cxreval.cli.submission import TOKEN_VARIABLE
from cxreval.client import WorkerClient
from cxreval.datasets.benchmark import load_spec
from cxreval.errors import CxrevalError
from cxreval.manifest.model import Kind
from cxreval.manifest.template import template
from tests.support import onnx_models
from tests.support.processes import REPOSITORY, interruptible
from tests.support.registry import registry_service, small_spec
from tests.support.system import command, json_of

SPEC = small_spec("submit")
FEW = small_spec("few")
MISTAKES = """\
kind: checkpoint
format: onnx
modle: My classifier
organisation: ""
open_source: yes
source_kind: checkpoint
contact: nobody
preprocessing_profile: xrv-999
output_names: [Mass, Lump]
reproduction: {repository: "http://example.org", commit: main, seed: seven}
environment: {python_version: latest, dependencies: [torch]}
claimed_metrics:
  - {metric: f1, value: 3}
submitted_date: 2999-01-01
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with (
        registry_service(tmp_path_factory.mktemp("registry")) as service,
        WorkerClient(service.address) as client,
    ):
        client.create_benchmark(SPEC)
        yield service.address


@pytest.fixture
def client(address: str) -> Iterator[WorkerClient]:
    with WorkerClient(address) as found:
        yield found


def manifest(directory: Path, kind: Kind) -> str:
    file = directory / "mine.yaml"
    file.write_text(template(kind, load_spec("nih-chestxray14")))
    return str(file)


def test_submit_finds_all_the_mistakes_that_check_finds_and_leaves_nothing(
    address: str, client: WorkerClient, tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text(MISTAKES)
    (tmp_path / "model.onnx").write_bytes(b"model")
    checked = json.loads(
        command("submission", "check", str(tmp_path / "mine.yaml"), "--json").stdout
    )["problems"]
    assert len(checked) == 16
    files = (str(tmp_path / "mine.yaml"), str(tmp_path / "model.onnx"))
    refused = command("submit", *files, "--benchmark", SPEC.name, "--registry", address)
    assert refused.returncode == 1
    named = [f"error: {wrong['reason']}: {wrong['message']}" for wrong in checked]
    assert refused.stderr.splitlines() == named
    # Without the benchmark's findings and metrics, submit finds what the file alone shows.
    judged = (
        "manifest.output_names",
        "manifest.claimed_metrics[0].metric",
        "manifest.claimed_metrics[0].finding",
    )
    alone = [
        f"error: {wrong['reason']}: {wrong['message']}"
        for wrong in checked
        if not wrong["field"].startswith(judged)
    ]
    assert 0 < len(alone) < len(named)
    for away in (("--benchmark", "unknown", "--registry", address), ("--registry", "localhost:1")):
        assert command("submit", *files, *away).stderr.splitlines() == alone
    assert list(client.list_submissions(SPEC.name)) == []


def test_an_empty_file_is_refused_before_a_submission_waits_for_it(
    address: str, client: WorkerClient, tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").touch()
    before = list(client.list_submissions(SPEC.name))
    files = (manifest(tmp_path, Kind.CHECKPOINT), str(tmp_path / "model.onnx"))
    ended = command("submit", *files, "--benchmark", SPEC.name, "--registry", address)
    assert (
        f"error: MALFORMED_FIELD: {files[1]} is empty; expected at least one byte" in ended.stderr
    )
    assert list(client.list_submissions(SPEC.name)) == before


def test_a_checkpoint_that_inference_would_refuse_is_refused_before_a_submission_is_created(
    address: str, client: WorkerClient, tmp_path: Path
) -> None:
    checkpoint = tmp_path / f"{onnx_models.external_data(tmp_path, in_subgraph=True)}.onnx"
    before = list(client.list_submissions(SPEC.name))
    files = (manifest(tmp_path, Kind.CHECKPOINT), str(checkpoint))

    ended = command("submit", *files, "--benchmark", SPEC.name, "--registry", address)

    assert ended.returncode == 1
    assert "error: MODEL_EXTERNAL_DATA: tensor 'secrets' has its data" in ended.stderr
    assert list(client.list_submissions(SPEC.name)) == before


@pytest.mark.parametrize("json_too", [(), ("--json",)])
def test_a_submission_is_named_before_anything_can_go_wrong_with_it(
    address: str, client: WorkerClient, tmp_path: Path, json_too: tuple[str, ...]
) -> None:
    checkpoint = tmp_path / f"{onnx_models.classifier(tmp_path, seed=len(json_too))}.onnx"
    arguments = (
        "submit",
        manifest(tmp_path, Kind.CHECKPOINT),
        str(checkpoint),
        "--watch",
        *json_too,
    )
    with interruptible():
        process = subprocess.Popen(
            [sys.executable, "-m", "cxreval.cli.app", *arguments,
             "--benchmark", SPEC.name, "--registry", address],
            cwd=REPOSITORY, env=os.environ | {"COLUMNS": "80"}, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    try:
        assert process.stderr
        name = process.stderr.readline().removeprefix("submission ").strip()
        assert client.get_submission(name).name == name  # while the command still runs
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=60)
        assert printed == ""
    finally:
        process.kill()
        process.communicate(timeout=60)
    listed = json_of("submission", "list", "--benchmark", SPEC.name, "--registry", address)
    assert listed[0]["name"] == name  # type: ignore[index]


@pytest.mark.parametrize("source", ["--token-file", "--ask-token", TOKEN_VARIABLE])
def test_the_token_of_an_endpoint_reaches_its_worker_and_is_never_printed(
    address: str, client: WorkerClient, tmp_path: Path, source: str
) -> None:
    token, options, environment = f"secret{source}", [source], {"CXREVAL_CLIENT_REGISTRY": address}
    if source == "--token-file":
        (tmp_path / "token").write_text(f"{token}\n")
        options.append(str(tmp_path / "token"))
    elif source == TOKEN_VARIABLE:
        options, environment = [], environment | {TOKEN_VARIABLE: token}
    for waiting in client.list_submissions(SPEC.name):
        if waiting.status == "queued":
            client.cancel(waiting.name, "only one waits")
    arguments = ["submit", manifest(tmp_path, Kind.ENDPOINT), "--benchmark", SPEC.name, *options]
    result = CliRunner().invoke(
        app, arguments, env=environment, input=f"{token}\n", catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    assert token not in result.output
    lease = client.lease_evaluation("worker", [SPEC.name])
    assert lease
    assert lease.endpoint_token == token


def test_findings_are_those_of_the_benchmark_that_is_submitted_to(
    address: str, client: WorkerClient, tmp_path: Path
) -> None:
    client.create_benchmark(replace(FEW, findings=("Mass", "Nodule")))
    found = yaml.safe_load(template(Kind.CHECKPOINT, load_spec("nih-chestxray14")))
    checkpoint = tmp_path / f"{onnx_models.classifier(tmp_path, columns=2)}.onnx"
    said = {}
    for names in (("Nodule", "Mass"), ("Nodule", "Hernia")):
        (tmp_path / "mine.yaml").write_text(json.dumps(found | {"output_names": names}))
        files = [str(tmp_path / "mine.yaml"), str(checkpoint)]
        result = CliRunner().invoke(
            app, ["submit", *files, "--benchmark", FEW.name, "--registry", address]
        )
        also = (
            (result.exception, *result.exception.also)
            if isinstance(result.exception, CxrevalError)
            else ()
        )
        said[names] = [error.reason for error in also]
    assert said == {
        ("Nodule", "Mass"): [],
        ("Nodule", "Hernia"): ["UNKNOWN_FINDING", "OUTPUTS_INCOMPLETE"],
    }
