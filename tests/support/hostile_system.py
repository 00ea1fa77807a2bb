"""All of cxreval for models that attack it: small limits, and a white image among dark ones."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import imagecodecs
import numpy as np

from cxreval.client import Evaluation, Fault, RegistryClient
from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.evaluation.driver import local_benchmarks
from tests.support import onnx_models
from tests.support.access import ClosedRegistry
from tests.support.inference import InferenceService, png
from tests.support.processes import REPOSITORY
from tests.support.scoring import describe, scoring_service, small_table
from tests.support.system import System, manifest

BENCHMARK = "hostile"
IMAGES = [f"{patient:08d}_000.png" for patient in range(1, 41)]
WHITE = 33
"""Number of the image at which a model of `hostile_onnx.IMAGE` strikes."""

FLAGS = (
    "--threads", "1", "--model-memory-mib", "256", "--open-seconds", "10",
    "--warm-up-seconds", "20", "--run-seconds", "3",
)  # fmt: skip


def write_data(directory: Path) -> BenchmarkSpec:
    """Writes a data set whose image number `WHITE` is white."""
    rows = [(image, "Mass" if number % 3 else "No Finding") for number, image in enumerate(IMAGES)]
    describe(directory, BENCHMARK, IMAGES, small_table(directory, rows))
    (directory / "images").mkdir()
    white = bytes(imagecodecs.png_encode(np.full((64, 64), 255, np.uint8)))
    for number, image in enumerate(IMAGES):
        content = white if number == WHITE else png(seed=number)
        (directory / "images" / image).write_bytes(content)
    return local_benchmarks({BENCHMARK: directory})[BENCHMARK]


@dataclass
class Attacked:
    """A running system with one worker."""

    system: System
    good_models: int = field(default=0)

    def run(self, checkpoint: str) -> Evaluation:
        """Submits a model of the system's directory and returns its evaluation when it has
        ended."""
        file = self.system.directory / f"{checkpoint}.onnx"
        submitted = self.system.registry.submit(BENCHMARK, manifest(), file)
        ended = self.system.wait(submitted.name, seconds=90.0)
        assert ended.evaluation
        return self.system.registry.get_evaluation(ended.evaluation)

    def opened(self) -> int:
        """Returns how often inference has opened a model."""
        return sum(
            int(value)
            for name, value in self.system.inference_service.metrics().items()
            if name.startswith("cxreval_inference_model_load_seconds_count")
        )

    def check_failure(self, checkpoint: str, reason: str, message: str, *, opened: int = 2) -> None:
        """Checks that a submission fails in one attempt, in which its model was opened so many
        times, by its own fault, and that a good model is published after it."""
        before = self.opened()
        evaluation = self.run(checkpoint)
        assert evaluation.failure
        assert (evaluation.failure.reason, evaluation.failure.fault) == (reason, Fault.SUBMISSION)
        assert message in evaluation.failure.message
        assert evaluation.attempt == 1
        assert self.opened() - before == opened
        self.good_models += 1
        good = onnx_models.classifier(self.system.directory, seed=self.good_models)
        assert self.run(good).failure is None
        assert self.system.inference_service.process
        assert self.system.inference_service.process.poll() is None


@contextlib.contextmanager
def attacked(directory: Path) -> Iterator[Attacked]:
    """Runs a system with small limits and one worker."""
    spec = write_data(directory / "data")
    with System(directory, {BENCHMARK: directory / "data"}, inference_flags=FLAGS) as system:
        system.registry.create_benchmark(spec)
        system.start_worker()
        yield Attacked(system)


@dataclass
class TwoOrganisations:
    """A registry with keys, and clients of two organisations that submit to it."""

    directory: Path
    acme: RegistryClient
    rival: RegistryClient
    inference: InferenceService

    def submit(self, client: RegistryClient, checkpoint: str) -> str:
        """Submits a model of the directory and returns the submission's name."""
        file = self.directory / f"{checkpoint}.onnx"
        return client.submit(BENCHMARK, manifest(), file).name


@contextlib.contextmanager
def two_organisations(directory: Path, workers: int, *flags: str) -> Iterator[TwoOrganisations]:
    """Runs registry, inference and scoring, with workers; `flags` are those of inference."""
    data = directory / "data"
    spec = write_data(data)
    with ClosedRegistry(directory) as registry:
        inference = InferenceService(directory, "--registry", registry.service.address, *flags)
        inference.environment["CXREVAL_INFERENCE_REGISTRY_API_KEY"] = registry.keys["worker"]
        registry.enter_context(inference)
        scoring = registry.enter_context(
            scoring_service(directory / "scoring.log", **{BENCHMARK: data})
        )
        registry.operator.create_benchmark(spec)
        command = [
            sys.executable, "-m", "cxreval.cli.app", "worker", "--registry",
            registry.service.address, "--inference", inference.address, "--scoring",
            scoring.address, "--data", f"{BENCHMARK}={data}", "--poll-seconds", "0.1",
        ]  # fmt: skip
        for number in range(workers):
            with (directory / "workers.log").open("ab") as log:
                worker = subprocess.Popen(
                    [*command, "--name", f"worker-{number}"],
                    cwd=REPOSITORY,
                    env=os.environ | {"CXREVAL_CLIENT_KEY": registry.keys["worker"]},
                    stdout=log,
                    stderr=log,
                )
            registry.callback(worker.wait, 60)
            registry.callback(worker.kill)
        acme, rival = (registry.client(f"{of}/submitter") for of in ("acme", "rival"))
        yield TwoOrganisations(directory, acme, rival, inference)
