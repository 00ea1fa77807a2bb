"""Failures of a worker: damaged data, a service that stays away, a lease that another one has."""

import time

import numpy as np
import pytest

from cxreval.client import (
    EvaluationStatus,
    Failure,
    Fault,
    InferenceClient,
    Predictions,
    SubmissionStatus,
)
from cxreval.datasets.nih import FINDINGS
from cxreval.errors import DatasetInvalid, LeaseLost
from cxreval.evaluation.driver import (
    PLATFORM_FAILED,
    EvaluationDriver,
    local_benchmarks,
    without_images,
)
from cxreval.evaluation.resume import LeaseKeeper, retry_policy
from tests.support import onnx_models
from tests.support.certificates import make_certificates
from tests.support.inference import png
from tests.support.scoring import describe, small_table
from tests.support.system import System, command, manifest, predictions

IMAGES = [f"{patient:08d}_000.png" for patient in range(1, 5)]
LEASE_SECONDS = 0.6


@pytest.fixture
def system(tmp_path):
    data = tmp_path / "data"
    describe(data, "small", IMAGES, small_table(data, [(image, "Mass") for image in IMAGES]))
    (data / "images").mkdir()
    for number, image in enumerate(IMAGES):
        (data / "images" / image).write_bytes(png(seed=number))
    with System(tmp_path, {"small": data}, LEASE_SECONDS) as running:
        running.registry.create_benchmark(local_benchmarks(running.data)["small"])
        checkpoint = tmp_path / f"{onnx_models.classifier(tmp_path)}.onnx"
        running.submitted = running.registry.submit("small", manifest(), checkpoint).name
        yield running


def driver(system, retry_seconds=30.0):
    clients = (system.registry, system.inference, system.scoring)
    return EvaluationDriver(*clients, system.data, "test", retry_seconds)


def ignore(*_):
    pass


def test_a_worker_with_damaged_data_gives_the_evaluation_back_and_stops(system):
    image = system.data["small"] / "images" / IMAGES[2]
    whole = image.read_bytes()
    image.unlink()
    with pytest.raises(DatasetInvalid, match=r"lacks 1 of 4 images, .*first.* 00000003_000.png"):
        local_benchmarks(system.data)  # `cxreval worker` calls it before its first lease
    with pytest.raises(DatasetInvalid, match=r"cannot read .*00000003_000.png"):
        driver(system).run_next(ignore)
    assert system.registry.get_submission(system.submitted).status is SubmissionStatus.QUEUED
    assert driver(system).run_next(ignore) is None  # not retried at once
    image.write_bytes(whole)
    time.sleep(LEASE_SECONDS)
    assert driver(system).run_next(ignore).status is EvaluationStatus.SUCCEEDED


def test_a_data_set_without_images_takes_tables_of_predictions_only(system, tmp_path):
    images = system.data["small"] / "images"
    images.rename(tmp_path / "images")
    assert without_images(system.data) == list(local_benchmarks(system.data)) == ["small"]
    assert driver(system).run_next(ignore) is None  # the queued checkpoint
    file = tmp_path / "predictions.csv"
    rows = [",".join([image, *["0.5"] * len(FINDINGS)]) for image in IMAGES]
    file.write_text("\n".join([",".join(["image", *FINDINGS]), *rows, ""]))
    table = system.registry.submit("small", predictions(), file)
    ended = driver(system).run_next(ignore)
    assert (ended.status, ended.name.startswith(table.name)) == (EvaluationStatus.SUCCEEDED, True)
    assert "images_per_second" not in ended.provenance
    (tmp_path / "images").rename(images)
    assert without_images(system.data) == []
    ended = driver(system).run_next(ignore)
    assert (ended.status, ended.provenance["kind"]) == (EvaluationStatus.SUCCEEDED, "checkpoint")
    stated = ended.provenance
    assert stated["cpu"]
    assert (int(stated["cpu_cores"]) > 0, int(stated["memory_bytes"]) > 2**20) == (True, True)
    assert (stated["device"], int(stated["threads"]) > 0) == ("cpu", True)
    assert (float(stated["images_per_second"]) > 0, float(stated["scoring_seconds"]) > 0) == (
        True,
        True,
    )


def test_a_service_that_stays_away_costs_no_prediction(system, caplog):
    def lose_scoring(_lease, done, total):
        if done == total:
            system.scoring_service.kill()

    given_back = driver(system, retry_seconds=0.2).run_next(lose_scoring)
    assert (given_back.status, given_back.images_done) == (EvaluationStatus.QUEUED, len(IMAGES))
    returned = list(system.registry.submission_events(system.submitted))[-1]
    # The address of the service is hidden from submitters.
    assert (returned.reason, returned.details["failure"]) == (
        PLATFORM_FAILED,
        "SERVICE_UNAVAILABLE",
    )
    assert system.scoring_service.address in caplog.text
    system.scoring_service.start()
    time.sleep(LEASE_SECONDS)
    evaluation = driver(system).run_next(ignore)
    assert evaluation.status is EvaluationStatus.SUCCEEDED
    assert evaluation.provenance["resumed_images"] == str(len(IMAGES))


def test_a_worker_survives_an_unexpected_exception(system, monkeypatch, caplog):
    with monkeypatch.context() as broken:
        broken.setattr(InferenceClient, "load", lambda *_: 1 / 0)
        evaluation = driver(system).run_next(ignore)
    assert evaluation.status is EvaluationStatus.QUEUED
    returned = list(system.registry.submission_events(system.submitted))[-1]
    assert (returned.details["failure"], returned.details["fault"]) == (
        "WORKER_ERROR",
        Fault.SYSTEM,
    )
    assert returned.reason == PLATFORM_FAILED
    assert "ZeroDivisionError: division by zero" in caplog.text
    assert evaluation.name in caplog.text
    time.sleep(LEASE_SECONDS)
    assert driver(system).run_next(ignore).status is EvaluationStatus.SUCCEEDED


def test_a_worker_that_lost_its_lease_stops_the_evaluation(system, monkeypatch):
    # With a retry deadline of 30 s, no lease is renewed.
    monkeypatch.setattr("cxreval.evaluation.driver.STALL_SECONDS", -30.0)
    taken = []

    def take_over(lease, done, total):
        if not taken:
            time.sleep(2 * LEASE_SECONDS)  # as if this worker had hung
            taken.append(system.registry.lease_evaluation("other", ["small"]))

    evaluation = driver(system).run_next(take_over)
    assert taken[0] is not None
    assert evaluation.worker == "other"
    # The other worker never renews its lease: on a slow machine it has expired again.
    assert evaluation.status in (EvaluationStatus.RUNNING, EvaluationStatus.QUEUED)


def test_a_lease_is_renewed_only_while_there_is_progress(system):
    lease = system.registry.lease_evaluation("hangs", ["small"])
    with LeaseKeeper(system.registry, lease, retry_policy(1.0), stall_seconds=0.0) as keeper:
        time.sleep(2 * LEASE_SECONDS)
        assert system.registry.lease_evaluation("other", ["small"]) is not None
        keeper.check()  # does not raise: only the next call to the registry reveals the loss
    with pytest.raises(LeaseLost, match="another token"):
        system.registry.renew_lease(lease)


def test_everything_walks_over_mutual_tls(tmp_path):
    data = tmp_path / "data"
    spec = describe(data, "small", IMAGES, small_table(data, [(image, "Mass") for image in IMAGES]))
    (data / "images").mkdir()
    for number, image in enumerate(IMAGES):
        (data / "images" / image).write_bytes(png(seed=number))
    with System(tmp_path, {"small": data}, tls=make_certificates(tmp_path)) as system:
        system.registry.create_benchmark(spec)
        submitted = system.registry.submit(
            "small", manifest(), tmp_path / f"{onnx_models.classifier(tmp_path)}.onnx"
        )
        system.start_worker()
        assert system.wait(submitted.name).status is SubmissionStatus.PUBLISHED
        refused = command("leaderboard", *system.addresses()[:2])  # without a certificate
        assert refused.returncode == 1
        assert "SERVICE_UNAVAILABLE" in refused.stderr


def test_a_kept_lease_outlives_its_length(system):
    lease = system.registry.lease_evaluation("keeps", ["small"])
    with LeaseKeeper(system.registry, lease, retry_policy(1.0), stall_seconds=60.0):
        time.sleep(3 * LEASE_SECONDS)
        assert system.registry.lease_evaluation("other", ["small"]) is None


def test_the_client_lists_everything_page_by_page_and_unloads_a_model(system):
    assert driver(system).run_next(ignore).status is EvaluationStatus.SUCCEEDED
    assert [spec.name for spec in system.registry.list_benchmarks()] == ["nih-chestxray14", "small"]
    (submission,) = system.registry.list_submissions("small")
    assert (submission.name, submission.images_done) == (system.submitted, len(IMAGES))
    (evaluation,) = system.registry.list_evaluations(submission.name)
    assert evaluation == system.registry.get_evaluation(submission.evaluation)
    model = submission.manifest.artifact_sha256
    assert system.inference.ready(model)
    system.inference.unload(model)
    assert not system.inference.ready(model)


def test_rows_that_the_model_does_not_give_are_dropped_and_not_in_the_report(system, caplog):
    undisturbed = driver(system).run_next(ignore)
    checkpoint = next(iter(system.directory.glob("*.onnx")))
    name = system.registry.submit("small", manifest("Again"), checkpoint).name
    lease = system.registry.lease_evaluation("liar", ["small"])
    invented = np.full((2, len(FINDINGS)), 0.5, np.float32)
    system.registry.append_predictions(lease, Predictions(tuple(IMAGES[:2]), invented))
    failure = Failure("WORKER_ERROR", "gives up", Fault.SYSTEM)
    system.registry.fail_evaluation(lease, failure)
    time.sleep(LEASE_SECONDS)
    evaluation = driver(system).run_next(ignore)
    assert evaluation.name.startswith(name)
    assert (evaluation.status, evaluation.attempt) == (EvaluationStatus.SUCCEEDED, 2)
    assert evaluation.report == undisturbed.report
    assert evaluation.provenance["dropped_images"] == "2"
    assert evaluation.provenance["resumed_images"] == "0"
    assert "dropped 2 predictions of attempt 1; 2 of 2 asked again differ" in caplog.text
