"""The slower hostile models end to end, and eight endless ones of another organisation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cxreval.client import SubmissionStatus
from tests.support import hostile_onnx, onnx_models
from tests.support.hostile_onnx import IMAGE, LOAD, WARM_UP
from tests.support.hostile_system import Attacked, attacked, two_organisations

pytestmark = pytest.mark.timeout(600)

ENDLESS = 8
TOO_SLOW, TOO_LARGE, CRASHED = "MODEL_TOO_SLOW", "MODEL_TOO_LARGE", "MODEL_CRASHED"
OPENING, WARMING_UP = "opening the file took more than 10 s", "warming up took more than 3 s"
LIMIT = "256 and 3 times its file"

MODELS: dict[str, tuple[Callable[[Path], str], str, str]] = {
    "endless at load": (hostile_onnx.endless_open, TOO_SLOW, OPENING),
    "endless at warm-up": (
        lambda directory: hostile_onnx.endless(directory, WARM_UP), TOO_SLOW, WARMING_UP,
    ),
    "endless loop": (hostile_onnx.endless_loop, TOO_SLOW, WARMING_UP),
    "10**10 nodes": (hostile_onnx.functions, TOO_SLOW, OPENING),
    "memory at load": (hostile_onnx.memory_open, TOO_LARGE, LIMIT),
    "memory at inspection": (hostile_onnx.memory_inspection, TOO_LARGE, LIMIT),
    "memory at warm-up": (
        lambda directory: hostile_onnx.memory(directory, WARM_UP), TOO_LARGE, LIMIT,
    ),
    "sequence": (hostile_onnx.sequence, TOO_LARGE, LIMIT),
    "SIGSEGV at load": (
        lambda directory: hostile_onnx.normalise_nothing(directory, LOAD), CRASHED, "SIGSEGV",
    ),
    "SIGSEGV at one image": (
        lambda directory: hostile_onnx.align_nothing(directory, IMAGE), CRASHED, "SIGSEGV",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    with attacked(tmp_path_factory.mktemp("attacked")) as system:
        yield system


@pytest.mark.parametrize("name", MODELS)
def test_a_hostile_model_fails_once_and_a_good_one_is_published(
    running: Attacked, name: str
) -> None:
    build, reason, message = MODELS[name]
    running.check_failure(build(running.system.directory), reason, message)


def test_a_model_that_takes_all_memory_at_one_image_fails_and_need_not_be_opened_again(
    running: Attacked,
) -> None:
    checkpoint = hostile_onnx.doubling(running.system.directory, IMAGE)
    running.check_failure(checkpoint, TOO_LARGE, LIMIT, opened=1)


def test_a_good_model_is_published_beside_endless_ones_of_another_organisation(
    tmp_path: Path,
) -> None:
    times = ("--open-seconds", "600", "--threads", "1", "--model-memory-mib", "256")
    with two_organisations(tmp_path, ENDLESS + 1, *times) as system:
        endless = [
            system.submit(system.acme, hostile_onnx.endless_open(tmp_path, seed=seed))
            for seed in range(ENDLESS)
        ]
        deadline = time.monotonic() + 120.0
        while len(system.inference.hosts()) < ENDLESS:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        good = system.submit(system.rival, onnx_models.classifier(tmp_path, seed=1))
        while (ended := system.rival.get_submission(good)).status is not SubmissionStatus.PUBLISHED:
            assert ended.failure is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        states = {system.acme.get_submission(name).status for name in endless}
        assert states == {SubmissionStatus.RUNNING}
