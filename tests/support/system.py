"""All of cxreval: the three services as processes, and workers to start and kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from cxreval.client import (
    CheckpointFormat,
    ClaimedMetric,
    Endpoint,
    Environment,
    InferenceClient,
    Kind,
    Manifest,
    Reproduction,
    ScoringClient,
    SourceKind,
    Submission,
    SubmissionStatus,
    TlsFiles,
    WorkerClient,
)
from cxreval.datasets.nih import FINDINGS
from tests.support.certificates import server_flags
from tests.support.inference import InferenceService, png
from tests.support.processes import REPOSITORY
from tests.support.registry import registry_service
from tests.support.scoring import describe, scoring_service, small_table


def alternating(data: Path, images: Sequence[str]) -> Path:
    """Writes the data set `small`, every second image with all findings; returns its folder."""
    sick = [(image, "|".join(FINDINGS) if i % 2 else "") for i, image in enumerate(images)]
    labels = [(image, findings or "No Finding") for image, findings in sick]
    describe(data, "small", images, small_table(data, labels))
    (data / "images").mkdir()
    for number, image in enumerate(images):
        (data / "images" / image).write_bytes(png(seed=number))
    return data


class System(ExitStack):
    """Registry, inference and scoring over the given data sets; a context manager."""

    def __init__(
        self,
        directory: Path,
        data: Mapping[str, Path],
        lease_seconds: float = 2.0,
        tls: TlsFiles | None = None,
        inference_flags: Sequence[str] = (),
        registry_flags: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.tls = tls
        secure = server_flags(tls.ca.parent) if tls else []
        fetch = [f"--registry-{kind}={file}" for kind, file in _files(tls)]
        self.directory = directory
        self.data = data
        self.registry_service = registry_service(
            directory, f"--lease-seconds={lease_seconds}", *registry_flags, *secure, tls=tls
        )
        registry = f"--registry={self.registry_service.address}"
        self.inference_service = InferenceService(
            directory, registry, *fetch, *secure, *inference_flags, tls=tls
        )
        self.scoring_service = scoring_service(directory / "scoring.log", *secure, tls=tls, **data)

    def __enter__(self) -> System:
        super().__enter__()
        with ExitStack() as started:
            for service in (self.registry_service, self.inference_service, self.scoring_service):
                started.enter_context(service)
            self.push(started.pop_all())
        self.registry = self.enter_context(WorkerClient(self.registry_service.address, self.tls))
        self.inference = self.enter_context(
            InferenceClient(self.inference_service.address, self.tls)
        )
        self.scoring = self.enter_context(ScoringClient(self.scoring_service.address, self.tls))
        return self

    def addresses(self) -> list[str]:
        """Returns the services' addresses as options of the command line."""
        named = {
            "registry": self.registry_service,
            "inference": self.inference_service,
            "scoring": self.scoring_service,
        }
        return [
            option for name, service in named.items() for option in (f"--{name}", service.address)
        ]

    def start_worker(self, name: str = "worker", *flags: str) -> subprocess.Popen[bytes]:
        """Starts `cxreval worker` with further flags; it is killed when the context ends."""
        data = [
            option for pair in self.data.items() for option in ("--data", "=".join(map(str, pair)))
        ]
        tls = [f"--tls-{kind}={file}" for kind, file in _files(self.tls)]
        command = [
            *tls,
            "worker",
            *self.addresses(),
            *data,
            "--name",
            name,
            "--poll-seconds",
            "0.1",
            *flags,
        ]
        with (self.directory / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "cxreval.cli.app", *command],
                cwd=REPOSITORY,
                stdout=log,
                stderr=log,
            )
        self.callback(process.wait, 60)
        self.callback(process.kill)
        return process

    def wait(self, submission: str, seconds: float = 60.0, images: int | None = None) -> Submission:
        """Waits until the submission is published or failed.

        With `images`, it also returns once that many images are done.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            latest = self.registry.get_submission(submission)
            if latest.status in (SubmissionStatus.PUBLISHED, SubmissionStatus.FAILED):
                return latest
            if images is not None and latest.images_done >= images:
                return latest
            time.sleep(0.01)
        logs = {log.name: log.read_text()[-2000:] for log in self.directory.glob("*.log")}
        raise TimeoutError(f"{latest}: {logs}")


def _files(tls: TlsFiles | None) -> list[tuple[str, Path]]:
    files = {"ca": tls.ca, "certificate": tls.certificate, "key": tls.key} if tls else {}
    return [(kind, file) for kind, file in files.items() if file]


def manifest(
    model: str = "Model", profile: str = "xrv-224", outputs: tuple[str, ...] = FINDINGS
) -> Manifest:
    """Returns a valid manifest of a checkpoint."""
    return Manifest(
        kind=Kind.CHECKPOINT,
        format=CheckpointFormat.ONNX,
        model=model,
        organisation="Tests",
        open_source=True,
        source_kind=SourceKind.CHECKPOINT,
        contact="tests@example.org",
        reproduction=Reproduction(
            "https://example.org/repository", "0123456789abcdef0123456789abcdef01234567", 7
        ),
        environment=Environment("3.11.7", ("torch==2.13.0",)),
        preprocessing_profile=profile,
        output_names=outputs,
    )


def claim(model: str = "Claimed", value: float = 0.81) -> Manifest:
    """Returns a valid claim."""
    return Manifest(
        kind=Kind.CLAIM,
        model=model,
        organisation="Tests",
        open_source=False,
        source_kind=SourceKind.RESEARCH_PAPER,
        source_url="https://example.org/paper",
        contact="tests@example.org",
        claimed_metrics=(ClaimedMetric("auroc", value),),
    )


def predictions(model: str = "Table") -> Manifest:
    """Returns a valid manifest of a table of predictions."""
    return replace(
        manifest(model),
        kind=Kind.PREDICTIONS,
        source_kind=SourceKind.PREDICTIONS,
        format=None,
        preprocessing_profile="",
        output_names=(),
    )


def endpoint(
    address: str, model_name: str = "model", profile: str = "", **changes: Any
) -> Manifest:
    """Returns a valid manifest of an endpoint on this machine."""
    server = Endpoint(address, tls=False, model_name=model_name, requests_per_second=200.0)
    return replace(
        manifest("Endpoint"),
        kind=Kind.ENDPOINT,
        source_kind=SourceKind.ENDPOINT,
        format=None,
        preprocessing_profile=profile,
        endpoint=replace(server, **changes),
    )


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `cxreval` and returns the completed process."""
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("CXREVAL_CLIENT_")
    }
    return subprocess.run(
        [sys.executable, "-m", "cxreval.cli.app", *arguments],
        cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60,
        env=environment | {"COLUMNS": "150"},
    )  # fmt: skip


def json_of(*arguments: str) -> dict[str, object]:
    """Returns the JSON that `cxreval ... --json` prints."""
    ended = command(*arguments, "--json")
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)
