"""A hostile model fails once, by name and by its own fault; the next good one is published.

The slower members of each kind are in tests/extended.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import hostile_onnx
from tests.support.hostile_onnx import IMAGE, LOAD, WARM_UP
from tests.support.hostile_system import Attacked, attacked


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    with attacked(tmp_path_factory.mktemp("attacked")) as system:
        yield system


@pytest.mark.parametrize("place", [LOAD, WARM_UP, IMAGE])
def test_a_model_that_crashes_fails_with_the_signal(running: Attacked, place: str) -> None:
    checkpoint = hostile_onnx.crash(running.system.directory, place)
    running.check_failure(checkpoint, "MODEL_CRASHED", "SIGFPE")


def test_a_model_that_takes_all_memory_fails_with_the_limit(running: Attacked) -> None:
    checkpoint = hostile_onnx.doubling(running.system.directory, WARM_UP)
    running.check_failure(checkpoint, "MODEL_TOO_LARGE", "256 and 3 times its file")


def test_a_model_that_never_ends_at_one_image_fails_with_the_limit(running: Attacked) -> None:
    checkpoint = hostile_onnx.endless(running.system.directory, IMAGE)
    running.check_failure(checkpoint, "MODEL_TOO_SLOW", "took more than 3 s")
