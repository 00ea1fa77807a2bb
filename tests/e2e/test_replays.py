"""A row is replayed by a worker on a real model, and a script by a runner that stands for one."""

from __future__ import annotations

import functools
import time
from dataclasses import replace

import grpc
import numpy as np
import pytest

from cxreval.client import (
    Canaries,
    EvaluationStatus,
    Part,
    Purpose,
    ScriptRecord,
    SubmissionStatus,
    Tier,
    Usage,
)
from cxreval.errors import ScriptFailed, ServiceUnavailable
from cxreval.evaluation import driver as driver_module
from cxreval.evaluation import endpoints
from cxreval.evaluation.driver import Abilities, EvaluationDriver, local_benchmarks
from cxreval.evaluation.scripts import ScriptResult
from cxreval.files import file_sha256
from tests.support import onnx_models
from tests.support.endpoint import NaiveServer
from tests.support.system import System, alternating, command, endpoint, manifest

IMAGES = [f"{patient:08d}_000.png" for patient in range(1, 71)]
RECORD = ScriptRecord(Usage(1.0, 2.0, 3, 4), Usage(60.0, 60.0, 5, 6), Canaries(32, 0, 0.01), b"log")


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    directory = tmp_path_factory.mktemp("replays")
    data = alternating(directory / "data", IMAGES)
    flags = ["--replay-after-hours=0", "--replay-every-days=0.00001"]
    with System(directory, {"small": data}, registry_flags=flags) as running:
        running.registry.create_benchmark(local_benchmarks(running.data)["small"])
        yield running


@pytest.fixture(autouse=True)
def alone(system):
    """Each test has the only row, because rows are replayed all the time."""
    yield
    for row in system.registry.leaderboard("small"):
        system.registry.withdraw(row.submission, "the test is over")


class Runner:
    """Gives predictions, or an error, in place of a script."""

    def __init__(self, rows=None, error=None):
        self.rows, self.error, self.scripts, self.shown = rows, error, [], []

    def __call__(self, script, images, findings, running):
        assert script.bundle.read_bytes() == b"bundle"
        assert script.checkpoint.is_file()
        assert all(file.is_file() for file in images.values())
        self.scripts.append(script)
        self.shown.append(tuple(images))
        running(len(images))
        if self.error:
            return ScriptResult(error=self.error, record=RECORD)
        values = np.stack([self.rows[image] for image in images])
        ran = {"interpreter": "3.13.1", "isolation": "test", "lock_sha256": "1" * 64}
        return ScriptResult(tuple(images), values, findings, RECORD, ran)


def run(system, purpose, runner=None):
    """Runs evaluations until one of this purpose has ended, and returns that."""
    clients = (system.registry, system.inference, system.scoring)
    driver = EvaluationDriver(
        *clients, system.data, "test", 30.0, allow_private_endpoints=True,
        abilities=Abilities(runner=runner),
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        ended = driver.run_next(lambda *_: None)
        if ended and ended.purpose is purpose:
            return ended
        time.sleep(0.05)
    raise AssertionError(f"no evaluation to {purpose} in time")


def submit(system, *, script=False):
    directory = system.directory / "checkpoints"
    file = directory / f"{onnx_models.classifier(directory)}.onnx"
    declared, bundle = manifest("Model"), system.directory / "source.bundle"
    if script:
        bundle.write_bytes(b"bundle")
        given = replace(
            declared.reproduction,
            commit="a" * 40,
            entry_point="reproduce.py",
            bundle_sha256=file_sha256(bundle),
        )
        declared = replace(declared, reproduction=given)
    submitted = system.registry.submit("small", declared, file)
    if script:
        system.registry.upload_part(submitted.name, Part.SOURCE_BUNDLE, bundle)
    return submitted.name


def recorded(system, name):
    """The predictions behind a row, by image."""
    evaluation = system.registry.get_submission(name).evaluation
    return {
        image: row
        for batch in system.registry.report_predictions(evaluation)
        for image, row in zip(batch.images, batch.probabilities, strict=True)
    }


def test_real_model_is_replayed_to_the_last_bit_and_its_script_reproduced(system):
    name = submit(system, script=True)
    assert run(system, Purpose.MEASURE).status is EvaluationStatus.SUCCEEDED
    replay = run(system, Purpose.REPLAY)
    assert replay.agreement.bit_identical
    assert replay.agreement.tolerance == 0
    assert replay.agreement.score_difference == 0
    assert replay.provenance["order_seed"]
    assert system.registry.get_submission(name).tier is Tier.REPLAYED
    runner = Runner(recorded(system, name))
    reproduced = run(system, Purpose.REPRODUCE, runner)
    row = system.registry.get_submission(name)
    assert (row.tier, row.status) == (Tier.REPRODUCED, SubmissionStatus.PUBLISHED)
    assert row.reproduction == reproduced.agreement
    assert (reproduced.usage, reproduced.limits) == (RECORD.usage, RECORD.limits)
    assert runner.scripts[0].entry_point == "reproduce.py"
    assert system.registry.script_output(reproduced.name) == b"log"
    (entry,) = [row for row in system.registry.leaderboard("small") if row.submission == name]
    assert (entry.tier, entry.reproduction) == (Tier.REPRODUCED, reproduced.agreement)


def test_script_with_another_normalisation_is_found_and_disputes_the_row(system):
    name = submit(system, script=True)
    run(system, Purpose.MEASURE)
    rows = {image: 0.9 * row for image, row in recorded(system, name).items()}
    ended = run(system, Purpose.REPRODUCE, Runner(rows))
    row = system.registry.get_submission(name)
    assert (row.tier, row.status) == (Tier.EXECUTED, SubmissionStatus.DISPUTED)
    assert ended.agreement.max_difference > ended.agreement.tolerance


def test_failed_script_is_the_submissions_fault_and_a_missing_service_is_not(system):
    name = submit(system, script=True)
    run(system, Purpose.MEASURE)

    ours = run(system, Purpose.REPRODUCE, Runner(error=ServiceUnavailable("no index")))
    assert ours.status is EvaluationStatus.QUEUED
    ended = None
    while ended is None or ended.name != ours.name:
        ended = run(system, Purpose.REPRODUCE, Runner(error=ScriptFailed("it exited with 1")))
    assert (ended.failure.reason, ended.failure.fault) == ("SCRIPT_FAILED", "submission")
    assert system.registry.script_output(ended.name) == b"log"
    row = system.registry.get_submission(name)
    assert row.status is SubmissionStatus.PUBLISHED


def test_endpoint_is_asked_again_and_its_change_is_on_the_row_until_it_answers_as_before(
    system, monkeypatch
):
    impatient = functools.partial(endpoints.EndpointSource, retry_seconds=2.0)
    monkeypatch.setattr(driver_module, "EndpointSource", impatient)
    answers = [None]

    def asked_again():
        """The next evaluation that asks the endpoint again, and the number of images it sent."""
        before, ended = len(server.times), None
        while ended is None or not ended.name.startswith(name):
            ended = run(system, Purpose.REPLAY)
        return ended, len(server.times) - before

    def shown():
        """The board as the command line prints it."""
        at = ("--registry", system.registry_service.address, "--benchmark", "small")
        printed = command("leaderboard", *at)
        assert printed.returncode == 0, printed.stderr
        return " ".join(printed.stdout.split())

    def entry():
        (found,) = [row for row in system.registry.leaderboard("small") if row.submission == name]
        return found

    with NaiveServer(mood=lambda _: answers[0]) as server:
        name = system.registry.submit("small", endpoint(server.address)).name
        assert run(system, Purpose.MEASURE).status is EvaluationStatus.SUCCEEDED
        score = entry().score
        same, images = asked_again()
        assert (images, same.agreement.images, same.agreement.bit_identical) == (64, 64, True)
        answers[0] = np.full(14, 0.99)
        other, _ = asked_again()
        answers[0] = grpc.StatusCode.UNAVAILABLE
        silent, _ = asked_again()
        assert (silent.failure.reason, silent.agreement) == ("ENDPOINT_UNAVAILABLE", None)
        assert f"changed since {other.agreement.time:%Y-%m-%d}" in shown()
        answers[0] = None
        again, _ = asked_again()
        assert "as before its change of" in shown()
        row = entry()
        assert (row.tier, row.score, row.replay) == (Tier.EXECUTED, score, again.agreement)
