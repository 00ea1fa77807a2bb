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

import grpc
import pytest
import yaml
from typer.testing import CliRunner

from cxreval.api.registry.v1 import artifact_service_pb2
from cxreval.api.registry.v1.artifact_service_pb2_grpc import ArtifactServiceStub
from cxreval.bundle import described
from cxreval.cli.app import app
from cxreval.cli.submission import TOKEN_VARIABLE
from cxreval.client import SubmissionStatus, UploadProgress, WorkerClient
from cxreval.client._upload import with_files
from cxreval.datasets.benchmark_file import load_spec
from cxreval.errors import CxrevalError
from cxreval.files import MAX_ARTIFACT_BYTES, MAX_FILE_BYTES
from cxreval.manifest.model import Kind
from cxreval.manifest.template import template
from cxreval.wire.channel import connect
from cxreval.wire.status import from_rpc_error
from tests.support import bundles, onnx_models
from tests.support.processes import REPOSITORY, interruptible
from tests.support.registry import registry_service, small_spec
from tests.support.system import command, json_of
from tests.support.system import manifest as checkpoint_manifest

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
output_names: [mass, Lump]
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
    text = template(kind, load_spec("nih-chestxray14"))
    file.write_text(text.replace("preprocessing: imagenet-224", "preprocessing: xrv-224"))
    return str(file)


def test_submit_finds_all_the_mistakes_that_check_finds_and_leaves_nothing(
    address: str, client: WorkerClient, tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text(MISTAKES)
    (tmp_path / "model.onnx").write_bytes(b"model")
    checked = json.loads(
        command("submission", "check", str(tmp_path / "mine.yaml"), "--json").stdout
    )["problems"]
    assert len(checked) == 15
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
    found["preprocessing"] = "xrv-224"
    checkpoint = tmp_path / f"{onnx_models.classifier(tmp_path, columns=2)}.onnx"
    said = {}
    for names in (("Nodule", "Hernia"), ("Edema", "Hernia")):
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
        ("Nodule", "Hernia"): [],
        ("Edema", "Hernia"): ["OUTPUTS_INCOMPLETE"],
    }


def test_weights_beside_a_model_are_submitted_with_it_and_an_upload_resumes(
    address: str, client: WorkerClient, tmp_path: Path
) -> None:
    model, data = bundles.with_external_data(tmp_path)
    files = (manifest(tmp_path, Kind.CHECKPOINT), str(model))
    options = ("--benchmark", SPEC.name, "--registry", address)

    ended = command("submit", *files, *options)

    assert ended.returncode == 0, ended.stderr
    assert f"{data} is submitted too: it has weights" in ended.stderr
    created = list(client.list_submissions(SPEC.name))[-1]
    assert created.status is SubmissionStatus.QUEUED
    assert created.manifest.files == described([model, data], ())
    stored = b"".join(client.download_artifact(created.manifest.artifact_sha256))
    assert stored == bundles.archive([model, data])


def test_an_archive_is_made_again_to_resume_its_upload(
    address: str, client: WorkerClient, tmp_path: Path
) -> None:
    files = bundles.with_external_data(tmp_path, seed=3)
    declared = with_files(checkpoint_manifest(outputs=SPEC.findings), files)
    created = client.create_submission(SPEC.name, declared)
    sent = bundles.archive(files)[:20_000]

    header = artifact_service_pb2.UploadArtifactHeader(
        submission=created.name, size_bytes=len(bundles.archive(files))
    )
    messages = (
        artifact_service_pb2.UploadArtifactRequest(header=header),
        artifact_service_pb2.UploadArtifactRequest(chunk=sent),
    )
    with connect(address) as channel, pytest.raises(grpc.RpcError):
        ArtifactServiceStub(channel).UploadArtifact(iter(messages), timeout=20)

    offsets: list[int] = []
    progress = UploadProgress(lambda done, _: offsets.append(done))
    queued = client.upload_artifact(created.name, files[::-1], progress)

    assert queued.status is SubmissionStatus.QUEUED
    assert offsets[0] == len(sent)


def test_a_model_without_its_weights_is_refused_and_the_file_named(
    address: str, client: WorkerClient, tmp_path: Path
) -> None:
    model, data = bundles.with_external_data(tmp_path)
    data.unlink()
    before = list(client.list_submissions(SPEC.name))
    files = (manifest(tmp_path, Kind.CHECKPOINT), str(model))

    ended = command("submit", *files, "--benchmark", SPEC.name, "--registry", address)

    assert ended.returncode == 1
    assert "MODEL_EXTERNAL_DATA: tensor 'padded' has its data in another file" in ended.stderr
    assert "'weights.bin'" in ended.stderr
    assert list(client.list_submissions(SPEC.name)) == before


def test_only_an_archive_may_have_more_than_2_gib(
    address: str, client: WorkerClient, tmp_path: Path
) -> None:
    files = bundles.with_external_data(tmp_path, seed=4)
    found = {}
    for given in (files, files[:1]):
        declared = with_files(checkpoint_manifest(outputs=SPEC.findings), given)
        name = client.create_submission(SPEC.name, declared).name
        for size in (MAX_FILE_BYTES, MAX_FILE_BYTES + 1, MAX_ARTIFACT_BYTES + 1):
            header = artifact_service_pb2.UploadArtifactHeader(submission=name, size_bytes=size)
            messages = [artifact_service_pb2.UploadArtifactRequest(header=header)]
            with connect(address) as channel, pytest.raises(grpc.RpcError) as caught:
                ArtifactServiceStub(channel).UploadArtifact(iter(messages), timeout=20)
            found[len(given), size] = from_rpc_error(caught.value).reason
    assert found == {
        (2, MAX_FILE_BYTES): "ARTIFACT_INCOMPLETE",
        (2, MAX_FILE_BYTES + 1): "ARTIFACT_INCOMPLETE",
        (2, MAX_ARTIFACT_BYTES + 1): "ARTIFACT_TOO_LARGE",
        (1, MAX_FILE_BYTES): "ARTIFACT_INCOMPLETE",
        (1, MAX_FILE_BYTES + 1): "ARTIFACT_TOO_LARGE",
        (1, MAX_ARTIFACT_BYTES + 1): "ARTIFACT_TOO_LARGE",
    }
