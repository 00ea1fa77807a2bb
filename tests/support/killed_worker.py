"""A worker that kills itself (SIGKILL) at a point that the test selects, while it runs a script.

    python -m tests.support.killed_worker POINT REGISTRY INFERENCE SCORING DATA DIRECTORY INDEX

DATA is the directory of the benchmark `small`, DIRECTORY that of the environments, and INDEX the
address of the index of wheels.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cxreval.client import InferenceClient, Purpose, ScoringClient, WorkerClient
from cxreval.evaluation import driver, script_runner
from cxreval.imaging.decode import decode
from cxreval.reproduction import wheels
from cxreval.reproduction.environments import Environments
from cxreval.reproduction.isolation.bubblewrap import Bubblewrap
from cxreval.reproduction.isolation.contract import Limits
from tests.support.processes import descendants

SECONDS = 180.0
LIMITS = Limits(memory_bytes=512 << 20, wall_seconds=60, scratch_bytes=64 << 20)


def die(*_: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def while_a_child_runs(original: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that dies when the original has started a process."""

    def watch() -> None:
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            if descendants(os.getpid()):
                die()

    @functools.wraps(original)
    def call(*arguments: Any, **more: Any) -> Any:
        threading.Thread(target=watch, daemon=True).start()
        original(*arguments, **more)
        raise AssertionError("it started no process that could be seen")

    return call


def then_die(original: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that dies when the original has returned."""
    return lambda *arguments, **more: die(original(*arguments, **more))


def with_rows(original: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a way to run a script that dies when the script has written rows."""
    return lambda self, run, _progress: original(self, run, lambda rows: rows and die())


def at_image(number: int) -> Callable[[bytes], Any]:
    """Returns a decoder that dies at its n-th image."""
    left = iter(range(number))
    return lambda encoded: decode(encoded) if next(left, None) is not None else die()


POINTS: dict[str, tuple[Any, str, Callable[[Any], Any]]] = {
    "unpacking the source bundle": (script_runner, "unpack", while_a_child_runs),
    "downloading wheels": (wheels, "download", while_a_child_runs),
    "unpacking wheels": (wheels, "unpack", while_a_child_runs),
    "writing images": (
        script_runner,
        "prepare",
        lambda original: functools.partial(original, decoder=at_image(20)),
    ),
    "the script runs": (Bubblewrap, "run", with_rows),
    "sending predictions": (WorkerClient, "append_predictions", then_die),
    "before completion": (WorkerClient, "complete_evaluation", lambda _: die),
    "after completion": (WorkerClient, "complete_evaluation", then_die),
}
"""What is replaced to die at each point: the owner, its attribute, and by what."""


def worker(
    clients: tuple[WorkerClient, InferenceClient, ScoringClient],
    data: Path,
    directory: Path,
    index_url: str,
) -> driver.EvaluationDriver:
    """Returns a worker that runs scripts."""
    environments = Environments(directory, index_url=index_url)
    runner = script_runner.IsolatedRunner(Bubblewrap(), environments, LIMITS)
    abilities = driver.Abilities(runner=runner)
    return driver.EvaluationDriver(*clients, {"small": data}, "worker", 30.0, abilities=abilities)


def ended(worker: driver.EvaluationDriver, purpose: Purpose) -> Any:
    """Runs evaluations until one of this purpose has ended, and returns that."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        evaluation = worker.run_next(lambda *_: None)
        if evaluation and evaluation.purpose is purpose and evaluation.agreement:
            return evaluation
        time.sleep(0.05)
    raise TimeoutError(f"no evaluation to {purpose} in time")


def main() -> None:
    point, registry, inference, scoring, data, directory, index_url = sys.argv[1:]
    owner, name, replaced = POINTS[point]
    setattr(owner, name, replaced(getattr(owner, name)))
    driver.RECORD_IMAGES = 16
    clients = (WorkerClient(registry), InferenceClient(inference), ScoringClient(scoring))
    ended(worker(clients, Path(data), Path(directory), index_url), Purpose.REPRODUCE)


if __name__ == "__main__":
    main()
