"""kill -9 of the worker or of any service during an evaluation does not change the report."""

import os
import shutil
import signal

import numpy as np
import pytest

from cxreval.client import EvaluationStatus, SubmissionStatus
from cxreval.datasets.nih import FINDINGS
from cxreval.evaluation.confirmation import SAMPLED_IMAGES
from cxreval.evaluation.repeats import SAMPLE_IMAGES
from tests.support import onnx_models
from tests.support.inference import png
from tests.support.scoring import describe, small_table
from tests.support.system import System, manifest

PATIENTS, PER_PATIENT, PICTURES = 150, 4, 24
IMAGES = PATIENTS * PER_PATIENT
# Some images are done between two polls of a test; this early enough are left for a crash.
EARLY = IMAGES // 6


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """600 images, so that a process can be killed in the middle.

    They are copies of few pictures, so that they are generated quickly.
    """
    directory = tmp_path_factory.mktemp("crashes")
    pictures = directory / "pictures"
    pictures.mkdir()
    for number in range(PICTURES):
        (pictures / f"{number}.png").write_bytes(png(1024, 1024, seed=number))
    (directory / "images").mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for number in range(IMAGES):
        image = f"{number // PER_PATIENT + 1:08d}_{number % PER_PATIENT:03d}.png"
        (directory / "images" / image).hardlink_to(pictures / f"{number % PICTURES}.png")
        present = [finding for finding in FINDINGS if rng.random() < 0.3]
        rows.append((image, "|".join(present) or "No Finding"))
    labels = small_table(directory, rows)
    return directory, describe(directory, "crashes", [image for image, _ in rows], labels)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    directory = tmp_path_factory.mktemp("checkpoint")
    return directory / f"{onnx_models.classifier(directory)}.onnx"


@pytest.fixture(scope="module")
def undisturbed(data, checkpoint, tmp_path_factory):
    """The report of an evaluation without crashes."""
    directory, spec = data
    with System(tmp_path_factory.mktemp("undisturbed"), {"crashes": directory}) as system:
        system.registry.create_benchmark(spec)
        submitted = system.registry.submit("crashes", manifest(), checkpoint)
        system.start_worker()
        ended = system.wait(submitted.name)
        assert ended.status is SubmissionStatus.PUBLISHED
        assert inferred(system) == IMAGES + SAMPLE_IMAGES
        return system.registry.get_evaluation(ended.evaluation).report


@pytest.fixture
def running(data, checkpoint, tmp_path):
    """A system with an evaluation that is running."""
    directory, spec = data
    with System(tmp_path, {"crashes": directory}) as system:
        system.registry.create_benchmark(spec)
        submitted = system.registry.submit("crashes", manifest(), checkpoint)
        worker = system.start_worker()
        begun = system.wait(submitted.name, images=EARLY)
        assert begun.status is SubmissionStatus.RUNNING
        yield system, worker, submitted.name


def inferred(system):
    return system.inference_service.metrics().get(
        'cxreval_inference_images_total{outcome="answered"}', 0
    )


def admitted(system):
    return system.inference_service.metrics()["cxreval_inference_admitted_images"]


def finished(system, name):
    ended = system.wait(name)
    assert (ended.status, ended.failure) == (SubmissionStatus.PUBLISHED, None)
    return system.registry.get_evaluation(ended.evaluation)


def test_the_worker_after_a_killed_one_requests_only_a_sample_and_missing_images(
    running, undisturbed
):
    system, worker, name = running
    worker.kill()
    worker.wait(timeout=60)
    recorded = system.registry.get_submission(name).images_done
    before = inferred(system)
    # Requests that were in flight complete without a client.
    while (now := inferred(system)) != before or admitted(system):
        before = now
    assert recorded < IMAGES
    system.start_worker("second")
    evaluation = finished(system, name)
    assert evaluation.report == undisturbed
    assert (evaluation.attempt, evaluation.worker) == (2, "second")
    sampled = min(recorded, SAMPLED_IMAGES)
    assert inferred(system) - before == IMAGES - recorded + sampled + SAMPLE_IMAGES
    assert evaluation.provenance["confirmed_sample_images"] == str(sampled)
    assert evaluation.provenance["dropped_images"] == "0"
    assert evaluation.provenance["resumed_images"] == str(recorded)


def test_a_worker_that_is_killed_during_the_repeat_sample_leaves_it_to_the_next_one(
    running, undisturbed
):
    system, worker, name = running
    system.wait(name, images=IMAGES)
    worker.kill()
    worker.wait(60)
    assert system.registry.get_submission(name).status is SubmissionStatus.RUNNING
    before = inferred(system)
    system.start_worker("second")
    evaluation = finished(system, name)
    assert evaluation.report == undisturbed
    assert (evaluation.attempt, evaluation.provenance["resumed_images"]) == (2, str(IMAGES))
    assert evaluation.provenance["repeat_images"] == str(SAMPLE_IMAGES)
    assert evaluation.provenance["repeat_largest_difference"] == "0"
    again = SAMPLED_IMAGES + SAMPLE_IMAGES  # confirmed first, then repeated
    assert 0 <= inferred(system) - before - again <= 1  # one was in flight


def test_a_killed_inference_service_is_waited_for_and_loads_the_model_again(running, undisturbed):
    system, _, name = running
    system.inference_service.kill()
    assert system.registry.get_submission(name).images_done < IMAGES
    shutil.rmtree(
        system.inference_service.models
    )  # a new pod has no cache: the model comes from the registry again
    system.inference_service.start()
    evaluation = finished(system, name)
    assert evaluation.report == undisturbed
    assert (evaluation.status, evaluation.attempt) == (EvaluationStatus.SUCCEEDED, 1)


def test_a_killed_registry_has_lost_nothing_when_it_is_back(running, undisturbed):
    system, _, name = running
    before = system.registry.get_submission(name).images_done
    system.registry_service.kill()
    system.registry_service.start()
    assert before <= system.registry.get_submission(name).images_done < IMAGES
    evaluation = finished(system, name)
    assert evaluation.report == undisturbed
    assert [entry.submission for entry in system.registry.leaderboard("crashes")] == [name]


def test_a_killed_scoring_service_is_waited_for(running, undisturbed):
    system, _, name = running
    system.scoring_service.kill()
    system.wait(name, images=IMAGES)
    assert system.registry.get_submission(name).status is SubmissionStatus.RUNNING
    system.scoring_service.start()
    assert finished(system, name).report == undisturbed


def test_a_killed_process_of_the_model_is_started_again(running, undisturbed):
    system, _, name = running
    (host,) = system.inference_service.hosts().values()
    os.kill(host, signal.SIGKILL)
    assert system.registry.get_submission(name).images_done < IMAGES
    evaluation = finished(system, name)
    assert evaluation.report == undisturbed
    assert (evaluation.status, evaluation.attempt) == (EvaluationStatus.SUCCEEDED, 1)
