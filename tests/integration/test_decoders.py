"""The inference service outlives its decoders, and they do not outlive it. All signals are real."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from cxreval.errors import ServiceUnavailable
from cxreval.imaging.decode import decode
from cxreval.imaging.preprocess import PROFILES
from cxreval.wire.status import from_rpc_error
from tests.integration.test_hostile_models import serving, wait_for
from tests.support import onnx_models
from tests.support.inference import image_request, load_request, png, rows, stub
from tests.support.processes import descendants, is_running

PROFILE = "xrv-224"
CALL_SECONDS = 60.0
FILES = [png(64 + 8 * (index % 9), 80, seed=index) for index in range(64)]
EXPECTED = onnx_models.expected(
    np.concatenate([PROFILES[PROFILE].apply(decode(file)) for file in FILES])
)


@pytest.fixture(scope="module", params=[True, False], ids=["sandbox", "no sandbox"])
def running(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    directory = tmp_path_factory.mktemp("decoders")
    with (
        serving(directory, "--decode-threads", "3", sandbox=request.param) as (service, _),
        service.connect() as channel,
    ):
        yield service, Caller(service, channel)


class Caller:
    """Calls a service with a model of its own."""

    def __init__(self, service: Any, channel: grpc.Channel) -> None:
        self._stub = stub(channel)
        self._model = onnx_models.classifier(service.models)
        self._stub.RepositoryModelLoad(load_request(self._model, PROFILE), timeout=CALL_SECONDS)

    def run(self, *files: bytes) -> Any:
        """Returns the rows, or the error."""
        try:
            request = image_request(self._model, files)
            return rows(self._stub.ModelInfer(request, timeout=CALL_SECONDS))
        except grpc.RpcError as error:
            return from_rpc_error(error)


def is_right(answer: Any) -> bool:
    assert not isinstance(answer, Exception), answer
    return np.allclose(answer, EXPECTED[: len(answer)], rtol=0, atol=onnx_models.TOLERANCE)


def test_decoders_start_with_the_first_image_one_a_thread_and_are_restarted(running: Any) -> None:
    service, caller = running
    assert service.decoders() == []
    assert is_right(caller.run(*FILES))
    first = service.decoders()
    assert 1 <= len(first) <= 3
    for pid in first:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not any(map(is_running, first)))
    assert is_right(caller.run(*FILES))
    assert not {*first} & {*service.decoders()}
    problem = "images are decoded without full protection"
    has_sandbox = "bwrap" in "".join(descendants(service.process.pid).values())
    assert (problem in service.log.read_text()) is not has_sandbox


def test_no_call_sees_decoders_that_are_killed_while_they_decode(running: Any) -> None:
    service, caller = running
    over = threading.Event()
    answers: list[Any] = []

    def keep_asking(count: int) -> None:
        while not over.is_set():
            answers.append(caller.run(*FILES[:count]))

    def kill_one() -> None:
        enough = len(answers) + 4
        wait_for(lambda: len(answers) >= enough)
        pid = min(service.decoders())  # the oldest has started
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.1)  # an image is waiting for it now
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not is_running(pid))

    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(keep_asking, count) for count in (1, 64)]
        try:
            for _ in range(4):
                kill_one()
        finally:
            over.set()
        for call in asking:
            call.result(timeout=60)
    assert all(is_right(answer) for answer in answers)


def test_a_faulty_image_is_named_by_its_place_and_decoders_go_on(running: Any) -> None:
    service, caller = running
    assert is_right(caller.run(*FILES))
    before = service.decoders()
    error = caller.run(*FILES[:40], FILES[0][:-40], b"no image", *FILES[:20])
    assert (error.reason, error.metadata["field"]) == ("IMAGE_UNREADABLE", "inputs[0].contents[40]")
    assert is_right(caller.run(*FILES))
    assert service.decoders() == before


@pytest.mark.parametrize("sandbox", [True, False], ids=["sandbox", "no sandbox"])
def test_sigterm_ends_the_service_in_time_while_decoders_hang(
    tmp_path: Path, sandbox: bool
) -> None:
    flags = ("--decode-threads", "2", "--drain-seconds", "1")
    with (
        serving(tmp_path, *flags, sandbox=sandbox) as (service, _),
        service.connect() as channel,
        ThreadPoolExecutor(1) as pool,
    ):
        caller = Caller(service, channel)
        assert is_right(caller.run(*FILES))
        children = descendants(service.process.pid)
        for pid in service.decoders():
            os.kill(pid, signal.SIGSTOP)
        call = pool.submit(caller.run, *FILES)
        time.sleep(0.2)
        start = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - start < 15.0
        assert type(call.result(timeout=60)) is ServiceUnavailable
        wait_for(lambda: not any(map(is_running, children)))


@pytest.mark.parametrize("sandbox", [True, False], ids=["sandbox", "no sandbox"])
def test_kill_9_of_the_service_ends_its_decoders(tmp_path: Path, sandbox: bool) -> None:
    with serving(tmp_path, sandbox=sandbox) as (service, _), service.connect() as channel:
        assert is_right(Caller(service, channel).run(*FILES))
        decoders = service.decoders()
        assert decoders
        service.kill()
        wait_for(lambda: not any(map(is_running, decoders)))
