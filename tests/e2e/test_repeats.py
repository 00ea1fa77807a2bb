"""A model whose answers do not repeat fails; a model whose answers do is published."""

import math
import time
from itertools import pairwise

import pytest

from cxreval.client import EvaluationStatus, Fault, InferenceClient, SubmissionStatus
from cxreval.datasets.nih import FINDINGS
from cxreval.evaluation.driver import EvaluationDriver, local_benchmarks
from tests.support import onnx_models
from tests.support.inference import png
from tests.support.scoring import describe, small_table
from tests.support.system import System, manifest, predictions

IMAGES = [f"{patient:08d}_000.png" for patient in range(1, 41)]


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    directory = tmp_path_factory.mktemp("repeats")
    data = directory / "data"
    sick = [(image, "|".join(FINDINGS) if i % 2 else "") for i, image in enumerate(IMAGES)]
    labels = [(image, findings or "No Finding") for image, findings in sick]
    describe(data, "small", IMAGES, small_table(data, labels))
    (data / "images").mkdir()
    for number, image in enumerate(IMAGES):
        (data / "images" / image).write_bytes(png(seed=number))
    with System(directory, {"small": data}) as running:
        running.registry.create_benchmark(local_benchmarks(running.data)["small"])
        yield running


def submit(system, make, model="Model"):
    directory = system.directory / "checkpoints"
    return system.registry.submit("small", manifest(model), directory / f"{make(directory)}.onnx")


def run(system):
    clients = (system.registry, system.inference, system.scoring)
    driver = EvaluationDriver(*clients, system.data, "test", retry_seconds=30.0)
    ended = driver.run_next(lambda *_: None)
    assert ended
    return ended


def repeats(evaluation):
    keys = ("repeat_images", "repeat_largest_difference", "repeat_tolerance")
    return tuple(evaluation.provenance[key] for key in keys)


def fixed_batch_mean(directory):
    return onnx_models.batch_mean(directory, 4)


def fixed_batch_position(directory):
    return onnx_models.batch_position(directory, 4)


NOT_DETERMINISTIC = [
    onnx_models.random_uniform,
    onnx_models.random_normal,
    onnx_models.bernoulli,
    onnx_models.multinomial,
    onnx_models.dropout_in_training,
    onnx_models.random_beyond_noise,
    fixed_batch_mean,
    fixed_batch_position,
]


@pytest.mark.parametrize("make", NOT_DETERMINISTIC, ids=lambda make: make.__name__)
def test_a_model_whose_answers_do_not_repeat_fails_once_and_the_next_model_is_published(
    system, make
):
    submitted = submit(system, make)
    ended = run(system)
    assert (ended.status, ended.attempt) == (EvaluationStatus.FAILED, 1)
    failed = system.registry.get_submission(submitted.name)
    assert failed.status is SubmissionStatus.FAILED
    assert (failed.failure.reason, failed.failure.fault) == ("NOT_DETERMINISTIC", Fault.SUBMISSION)
    message = failed.failure.message
    assert any(finding in message for finding in FINDINGS)
    assert any(image in message for image in IMAGES)
    assert "expected a difference of at most 0;" in message
    assert submitted.name not in {row.submission for row in system.registry.leaderboard("small")}
    good = submit(system, onnx_models.classifier, f"After {make.__name__}")
    ended = run(system)
    assert ended.status is EvaluationStatus.SUCCEEDED, ended.failure
    assert repeats(ended) == (str(len(IMAGES)), "0", "0")
    assert good.name in {row.submission for row in system.registry.leaderboard("small")}


@pytest.mark.parametrize(
    "make",
    [
        onnx_models.visible_batch_mean,
        onnx_models.slow_steady_classifier,
        onnx_models.batch_mean,
        onnx_models.batch_position,
        onnx_models.batch_size,
    ],
)
def test_an_image_is_run_alone_so_that_its_batch_cannot_change_its_answer(system, make):
    submit(system, make)
    ended = run(system)
    assert ended.status is EvaluationStatus.SUCCEEDED, ended.failure
    assert repeats(ended) == (str(len(IMAGES)), "0", "0")


def test_a_table_of_predictions_is_not_repeated(system, tmp_path):
    rows = [",".join(["0.5"] * len(FINDINGS))] * len(IMAGES)
    table = tmp_path / "table.csv"
    lines = [f"{image},{row}" for image, row in zip(IMAGES, rows, strict=True)]
    table.write_text("\n".join([f"image,{','.join(FINDINGS)}", *lines]))
    system.registry.submit("small", predictions(), table)
    ended = run(system)
    assert ended.status is EvaluationStatus.SUCCEEDED, ended.failure
    assert not [key for key in ended.provenance if key.startswith("repeat")]


def test_repeated_images_are_sent_one_at_a_time_and_in_another_order(system, monkeypatch):
    sent = []

    def predict(self, model, profile, image):
        sent.append((time.monotonic(), image))
        row = original(self, model, profile, image)
        sent[-1] += (time.monotonic(),)
        return row

    original = InferenceClient.predict
    monkeypatch.setattr(InferenceClient, "predict", predict)
    submit(system, onnx_models.classifier)
    assert run(system).status is EvaluationStatus.SUCCEEDED
    contents = [(system.data["small"] / "images" / image).read_bytes() for image in IMAGES]
    order = [contents.index(image) for _, image, _ in sent]
    assert sorted(order) == list(range(len(IMAGES)))
    assert order != sorted(order)
    assert all(before[2] <= after[0] for before, after in pairwise(sent))


def test_a_service_that_restarts_during_the_sample_loads_the_model_again(system, monkeypatch):
    sent = []

    def predict(self, model, profile, image):
        sent.append(image)
        if len(sent) == len(IMAGES) // 2:
            system.inference_service.kill()
            system.inference_service.start()
        return original(self, model, profile, image)

    original = InferenceClient.predict
    monkeypatch.setattr(InferenceClient, "predict", predict)
    submit(system, onnx_models.classifier)
    ended = run(system)
    assert (ended.status, ended.attempt) == (EvaluationStatus.SUCCEEDED, 1), ended.failure
    assert repeats(ended) == (str(len(IMAGES)), "0", "0")
    # Images that were repeated before the restart are not sent again.
    assert len(sent) <= len(IMAGES) + 3


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.5, 1.5])
def test_a_repeated_value_that_is_no_probability_is_named(system, monkeypatch, value):
    def predict(self, model, profile, image):
        row = original(self, model, profile, image).copy()
        row[3] = value
        return row

    original = InferenceClient.predict
    with monkeypatch.context() as patched:
        patched.setattr(InferenceClient, "predict", predict)
        submit(system, onnx_models.classifier)
        ended = run(system)
    failure = ended.failure
    assert (failure.reason, failure.fault) == ("INVALID_PROBABILITY", Fault.SUBMISSION)
    assert FINDINGS[3] in failure.message
