"""A complete evaluation with API keys: submitter, worker and inference, from manifest to row."""

import os
import subprocess
import sys

from cxreval.client import InferenceClient, RegistryClient, SubmissionStatus
from cxreval.evaluation.driver import local_benchmarks
from tests.support import onnx_models
from tests.support.access import ClosedRegistry
from tests.support.inference import InferenceService, png
from tests.support.processes import REPOSITORY
from tests.support.scoring import describe, scoring_service, small_table
from tests.support.system import manifest

IMAGES = [f"{patient:08d}_000.png" for patient in range(1, 5)]


def test_an_evaluation_runs_with_a_key_for_each_caller(tmp_path):
    data = tmp_path / "data"
    describe(data, "small", IMAGES, small_table(data, [(image, "Mass") for image in IMAGES]))
    (data / "images").mkdir()
    for number, image in enumerate(IMAGES):
        (data / "images" / image).write_bytes(png(seed=number))
    with ClosedRegistry(tmp_path) as registry:
        settings = tmp_path / "inference.toml"
        settings.write_text(
            f'registry = "{registry.service.address}"\n'
            f'registry_api_key = "{registry.keys["worker"]}"\n'
        )
        inference = registry.enter_context(InferenceService(tmp_path, "--config", str(settings)))
        scoring = registry.enter_context(scoring_service(tmp_path / "scoring.log", small=data))
        registry.operator.create_benchmark(local_benchmarks({"small": data})["small"])
        client: RegistryClient = registry.client("acme/submitter")
        checkpoint = tmp_path / f"{onnx_models.classifier(tmp_path)}.onnx"
        submitted = client.submit("small", manifest(), checkpoint).name

        services = ["--registry", registry.service.address, "--inference", inference.address]
        worker = [
            sys.executable,
            "-m",
            "cxreval.cli.app",
            "worker",
            *services,
            "--scoring",
            scoring.address,
        ]
        environment = os.environ | {"CXREVAL_CLIENT_KEY": registry.keys["worker"]}
        subprocess.run(
            [*worker, "--data", f"small={data}", "--once"],
            cwd=REPOSITORY, env=environment, check=True, capture_output=True, timeout=100,
        )  # fmt: skip
        assert client.get_submission(submitted).status is SubmissionStatus.PUBLISHED
        actors = [event.actor for event in client.submission_events(submitted)]
        own, workers = (f"organisations/{of}/keys/" for of in ("acme", "operators"))
        assert [own in actor for actor in actors] == [True, True, False, False]
        assert [workers in actor for actor in actors] == [False, False, True, False]
        assert actors[3] == "worker"  # publications are visible to all
        with InferenceClient(inference.address) as models:
            assert models.capabilities().runtime
