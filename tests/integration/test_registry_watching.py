"""WatchSubmission over gRPC: progress during a run, and across a restart of the registry."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import grpc
import numpy as np
import pytest

from cxreval.api.registry.v1 import lifecycle_service_pb2_grpc
from cxreval.client import Lease, Predictions, Submission, SubmissionStatus, WorkerClient
from cxreval.datasets.nih import FINDINGS
from cxreval.errors import CxrevalError, DeadlineExceeded, ServiceUnavailable
from tests.support.processes import Service
from tests.support.registry import Registry, registry_service, small_spec

SPEC = small_spec("watched")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with registry_service(tmp_path) as running:
        yield running


@pytest.fixture
def client(service: Service) -> Iterator[WorkerClient]:
    with WorkerClient(service.address) as found:
        yield found


def leased(service: Service, client: WorkerClient) -> Lease:
    with Registry(service.address) as call:
        call.create_benchmark(SPEC)
        call.submit(SPEC.name, b"model")
    lease = client.lease_evaluation("worker", [SPEC.name])
    assert lease
    return lease


def append(client: WorkerClient, lease: Lease, *images: str) -> None:
    client.append_predictions(
        lease, Predictions(images, np.full((len(images), len(FINDINGS)), 0.5, np.float32))
    )


def test_watcher_of_a_running_submission_gets_progress_and_time_left(
    service: Service, client: WorkerClient
) -> None:
    lease = leased(service, client)
    watched = client.watch(lease.submission.name)

    def seen() -> tuple[SubmissionStatus, int, bool]:
        latest: Submission = next(watched)
        return latest.status, latest.images_done, latest.seconds_left is not None

    assert seen() == (SubmissionStatus.RUNNING, 0, False)
    append(client, lease, "1.png")
    assert seen() == (SubmissionStatus.RUNNING, 1, True)
    append(client, lease, "2.png", "3.png")
    assert seen() == (SubmissionStatus.RUNNING, 3, True)
    client.cancel(lease.submission.name, "enough")
    assert seen()[0] is SubmissionStatus.CANCELLED
    assert next(watched, None) is None


def test_watcher_resumes_when_the_registry_restarts(service: Service, client: WorkerClient) -> None:
    lease, reasons = leased(service, client), []

    def broken(error: CxrevalError) -> None:
        reasons.append(error.reason)
        if len(reasons) == 1:
            service.start()

    watched = client.watch(lease.submission.name, broken)
    assert next(watched).images_done == 0
    service.kill()
    assert next(watched).status is SubmissionStatus.RUNNING
    assert set(reasons) == {"SERVICE_UNAVAILABLE"}
    append(client, lease, "1.png")
    assert next(watched).images_done == 1


def test_a_registry_that_stops_lets_its_watchers_go_at_once(
    service: Service, client: WorkerClient
) -> None:
    watched = client.watch(leased(service, client).submission.name, retry_seconds=0.1)
    next(watched)
    assert service.stop() == 0
    with pytest.raises(
        ServiceUnavailable, match="the registry is stopping"
    ):  # not cut off when the drain time is over
        next(watched)


def test_watcher_gives_up_when_the_registry_stays_away(
    service: Service, client: WorkerClient
) -> None:
    watched = client.watch(leased(service, client).submission.name, retry_seconds=0.1)
    next(watched)
    service.kill()
    with pytest.raises(ServiceUnavailable):
        next(watched)


def test_a_registry_that_ends_every_call_at_once_is_not_called_without_a_pause() -> None:
    calls = []

    class Hasty(lifecycle_service_pb2_grpc.LifecycleServiceServicer):
        def WatchSubmission(self, request: Any, context: grpc.ServicerContext) -> NoReturn:
            calls.append(request.name)
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline has passed")

    server = grpc.server(ThreadPoolExecutor(1))
    lifecycle_service_pb2_grpc.add_LifecycleServiceServicer_to_server(Hasty(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with WorkerClient(f"127.0.0.1:{port}") as client, pytest.raises(DeadlineExceeded):
            next(
                client.watch(
                    "benchmarks/b/submissions/00000000000000000000000000000000", retry_seconds=1.0
                )
            )
    finally:
        server.stop(None)
    assert 2 <= len(calls) <= 4  # pauses of 0.2 and 0.4 s, and the next would pass the deadline
