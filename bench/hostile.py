"""Benchmark: what hostile models of one organisation cost the models of others.

    .venv/bin/python -m bench.hostile [CASE ...] [--rounds 3]

Cases; default: all.

- endless: time from the submission of a good model to its publication, alone and beside 8 models of
  another organisation that are opened without end, with 9 workers on one inference service.
- crash: a model's process is killed with 32 calls under way, and another model has 32 calls under
  way all the time: how long until each of the first model's calls has its error, and the p99 of the
  other's calls in the seconds before the crash, and at and after it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np

from cxreval.client import SubmissionStatus
from tests.support import hostile_onnx, onnx_models
from tests.support.hostile_system import TwoOrganisations, two_organisations
from tests.support.inference import (
    InferenceService,
    load_request,
    random_images,
    stub,
    tensor_request,
)

ENDLESS, CALLS = 8, 32
FLAGS = ("--open-seconds", "200", "--threads", "1")
WORKERS = ENDLESS + 1
SECONDS = 120.0
"""Limit of every wait."""
AROUND_SECONDS = 2.0
"""Time before and after a crash whose calls count."""


def main() -> None:
    """Runs the cases named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.2f}")
    for name in arguments.cases or CASES:
        print(f"\n{name}")
        with tempfile.TemporaryDirectory() as scratch:
            CASES[name](Path(scratch), arguments.rounds)


def case_endless(directory: Path, rounds: int) -> None:
    """A good model alone, and beside endless ones."""
    with two_organisations(directory, WORKERS, *FLAGS) as system:
        publish(system, seed=0)  # the workers have started
        alone = [publish(system, seed) for seed in range(1, rounds + 1)]
        for seed in range(ENDLESS):
            system.submit(system.acme, hostile_onnx.endless_open(directory, seed=seed))
        wait_for(lambda: len(system.inference.hosts()) >= ENDLESS)
        beside = [publish(system, rounds + seed) for seed in range(1, rounds + 1)]
    first, second = statistics.median(alone), statistics.median(beside)
    print(
        f"  submit to published: alone {first:.2f} s, beside {ENDLESS} endless {second:.2f} s: "
        f"{second / first:.2f}"
    )


def publish(system: TwoOrganisations, seed: int) -> float:
    """Returns the seconds from the submission of a good model until it is published."""
    checkpoint = onnx_models.classifier(system.directory, seed=seed)
    start = time.perf_counter()
    name = system.submit(system.rival, checkpoint)
    wait_for(lambda: system.rival.get_submission(name).status is SubmissionStatus.PUBLISHED)
    return time.perf_counter() - start


def wait_for(condition: Callable[[], bool]) -> None:
    """Waits until the condition is true."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.01)


def case_crash(directory: Path, rounds: int) -> None:
    """The process of a model is killed in the middle of its calls."""
    with InferenceService(directory, "--threads", "1") as service:
        results = asyncio.run(crashes(service, rounds))
    errors, before, after = zip(*results, strict=True)
    quiet, disturbed = statistics.median(before), statistics.median(after)
    print(f"  {CALLS} calls have their error within {max(errors) * 1e3:.0f} ms of the crash")
    print(
        f"  the other model's p99: {quiet * 1e3:.1f} ms in the {AROUND_SECONDS:g} s before the "
        f"crash, {disturbed * 1e3:.1f} ms at and after it: {disturbed / quiet:.2f}"
    )


async def crashes(service: InferenceService, rounds: int) -> list[tuple[float, float, float]]:
    """Returns for each round the seconds until all calls have failed, and both p99."""
    dying = onnx_models.slow_classifier(service.models, layers=30, seed=1)
    living = onnx_models.slow_classifier(service.models, layers=4, seed=2)
    async with grpc.aio.insecure_channel(service.address) as channel:
        oip = stub(channel)
        await oip.RepositoryModelLoad(load_request(living), timeout=SECONDS)
        return [await crash(service, oip, dying, living) for _ in range(rounds)]


async def crash(
    service: InferenceService, oip: Any, dying: str, living: str
) -> tuple[float, float, float]:
    """Runs one round of `crashes`."""
    await oip.RepositoryModelLoad(load_request(dying), timeout=SECONDS)
    calls: list[tuple[float, float]] = []  # start and duration
    over, half = asyncio.Event(), asyncio.Event()

    async def keep_calling() -> None:
        request = tensor_request(living, random_images(1))
        while not over.is_set():
            start = time.perf_counter()
            await oip.ModelInfer(request, timeout=SECONDS)
            calls.append((start, time.perf_counter() - start))

    async def ask(number: int) -> None:
        await oip.ModelInfer(tensor_request(dying, random_images(1)), timeout=SECONDS)
        if number == CALLS:  # as many are under way as have been answered
            half.set()

    clients = [asyncio.create_task(keep_calling()) for _ in range(CALLS)]
    asking = [asyncio.create_task(ask(number)) for number in range(1, 2 * CALLS + 1)]
    await asyncio.wait_for(half.wait(), SECONDS)
    os.kill(service.hosts()[dying], signal.SIGKILL)
    killed = time.perf_counter()
    ends = await asyncio.gather(*asking, return_exceptions=True)
    failed = time.perf_counter() - killed
    if not any(isinstance(end, grpc.aio.AioRpcError) for end in ends):
        raise RuntimeError("no call was under way")
    await asyncio.sleep(AROUND_SECONDS)
    over.set()
    await asyncio.gather(*clients)
    return failed, *percentiles(calls, killed)


def percentiles(calls: list[tuple[float, float]], killed: float) -> tuple[float, float]:
    """Returns the p99 of the calls that ended in the seconds before the crash, and of those that
    were under way at the crash or began in the seconds after it."""
    before = [took for start, took in calls if 0 < killed - start - took <= AROUND_SECONDS]
    after = [
        took
        for start, took in calls
        if start + took - killed > 0 and start - killed <= AROUND_SECONDS
    ]
    return float(np.percentile(before, 99)), float(np.percentile(after, 99))


CASES: dict[str, Callable[[Path, int], None]] = {"endless": case_endless, "crash": case_crash}

if __name__ == "__main__":
    main()
