"""The inference service with cancelled calls, under overload, and at shutdown."""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2

from cxreval.api.oip import grpc_predict_v2_pb2 as pb
from cxreval.wire.status import DETAILS_KEY, from_rpc_error
from tests.support import onnx_models
from tests.support.inference import (
    InferenceService,
    load_request,
    random_images,
    rows,
    stub,
    tensor_request,
)
from tests.support.waiting import wait_for

IMAGES = random_images(24, seed=4)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[InferenceService]:
    """A service with one model thread, batches of at most 4 images, and a queue of 40."""
    flags = ("--threads", "1", "--max-batch-size", "4", "--max-queued-images", "40")
    with InferenceService(tmp_path, *flags) as running:
        yield running


@pytest.fixture
def oip(service: InferenceService) -> Iterator[Any]:
    with service.connect() as channel:
        yield stub(channel)


@pytest.fixture
def slow(service: InferenceService, oip: Any) -> str:
    """A loaded model that takes about 40 ms per image."""
    digest = onnx_models.slow_classifier(service.models, layers=30)
    oip.RepositoryModelLoad(load_request(digest))
    return digest


def retry_seconds(error: Any) -> float:
    """The retry delay that the overloaded service returns."""
    (packed,) = (value for key, value in error.trailing_metadata() if key == DETAILS_KEY)
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in status_pb2.Status.FromString(packed).details)
    return retry.retry_delay.ToTimedelta().total_seconds()


def admitted(service: InferenceService) -> float:
    return service.metrics()["cxreval_inference_admitted_images"]


def occupy(service: InferenceService, oip: Any, model: str) -> Any:
    """Occupies the model with 16 images in four batches; returns the call once it is admitted."""
    call = oip.ModelInfer.future(tensor_request(model, IMAGES[:16]))
    wait_for(lambda: admitted(service) == 16)
    return call


def test_calls_given_up_while_they_wait_never_reach_the_model(
    service: InferenceService, oip: Any, slow: str
) -> None:
    busy = occupy(service, oip, slow)
    given_up = [oip.ModelInfer.future(tensor_request(slow, IMAGES[i : i + 1])) for i in range(20)]
    wait_for(lambda: admitted(service) == 36)
    for call in given_up:
        call.cancel()
    last = oip.ModelInfer.future(tensor_request(slow, IMAGES[:1]))

    assert rows(last.result(timeout=60)).shape == (1, 8)
    assert rows(busy.result(timeout=60)).shape == (16, 8)
    figures = service.metrics()
    assert figures["cxreval_inference_dropped_images_total"] == 20
    assert figures['cxreval_inference_images_total{outcome="cancelled"}'] == 20
    assert figures["cxreval_inference_batch_images_sum"] == 17


def test_deadlines_that_cannot_be_met_are_refused_at_once(
    service: InferenceService, oip: Any, slow: str
) -> None:
    busy = occupy(service, oip, slow)
    hasty = [oip.ModelInfer.future(tensor_request(slow, IMAGES[:1]), timeout=0.2) for _ in range(5)]
    refusals = [call.exception() for call in hasty]

    assert not busy.done()
    assert {refusal.code() for refusal in refusals} == {grpc.StatusCode.DEADLINE_EXCEEDED}
    assert all(
        "images ahead take the model about" in from_rpc_error(refusal).message
        for refusal in refusals
    )
    assert rows(busy.result(timeout=60)).shape == (16, 8)
    figures = service.metrics()
    assert figures['cxreval_inference_images_total{outcome="too_late"}'] == 5
    assert figures["cxreval_inference_batch_images_sum"] == 16
    assert rows(oip.ModelInfer(tensor_request(slow, IMAGES[:1]), timeout=20)).shape == (1, 8)


def test_overload_is_refused_at_once_by_its_name_and_the_rest_is_answered(
    service: InferenceService, oip: Any, slow: str
) -> None:
    busy = occupy(service, oip, slow)
    waiting = oip.ModelInfer.future(tensor_request(slow, IMAGES))
    wait_for(lambda: admitted(service) == 40)
    start = time.perf_counter()
    with pytest.raises(grpc.RpcError) as refusal:
        oip.ModelInfer(tensor_request(slow, IMAGES[:1]))
    seconds = time.perf_counter() - start

    assert refusal.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    error = from_rpc_error(refusal.value)
    assert 0 < retry_seconds(refusal.value) < 5
    assert (error.reason, error.metadata["limit"], error.metadata["unit"]) == (
        "SERVICE_OVERLOADED",
        "40",
        "images",
    )
    assert not busy.done(), f"refused after {seconds:.3f} s, while the model was busy"
    assert rows(busy.result(timeout=60)).shape == (16, 8)
    assert rows(waiting.result(timeout=60)).shape == (24, 8)
    assert rows(oip.ModelInfer(tensor_request(slow, IMAGES[:1]))).shape == (1, 8)


def test_sigterm_answers_every_call_in_flight_says_so_and_exits_0(
    service: InferenceService, oip: Any, slow: str
) -> None:
    alone = np.concatenate(
        [rows(oip.ModelInfer(tensor_request(slow, IMAGES[i : i + 1]))) for i in range(24)]
    )
    busy = occupy(service, oip, slow)
    calls = [oip.ModelInfer.future(tensor_request(slow, IMAGES[i : i + 1])) for i in range(24)]
    wait_for(lambda: admitted(service) == 40)
    assert service.process is not None
    service.process.send_signal(signal.SIGTERM)
    wait_for(lambda: not oip.ServerReady(pb.ServerReadyRequest()).ready)
    assert not oip.ModelReady(pb.ModelReadyRequest(name=slow)).ready
    with pytest.raises(grpc.RpcError) as refusal:
        oip.ModelInfer(tensor_request(slow, IMAGES[:1]))

    assert refusal.value.code() == grpc.StatusCode.UNAVAILABLE
    np.testing.assert_allclose(
        np.concatenate([rows(call.result(timeout=60)) for call in calls]), alone, atol=1e-5
    )
    np.testing.assert_allclose(rows(busy.result(timeout=60)), alone[:16], atol=1e-5)
    assert service.process.wait(timeout=30) == 0


def test_sigterm_ends_a_stream_after_what_it_has_read(
    service: InferenceService, oip: Any, slow: str
) -> None:
    requests: queue.SimpleQueue[pb.ModelInferRequest | None] = queue.SimpleQueue()
    for index in range(10):
        requests.put(tensor_request(slow, IMAGES[index : index + 1]))
    answers = oip.ModelStreamInfer(iter(requests.get, None))
    wait_for(lambda: admitted(service) >= 8)
    assert service.process is not None
    service.process.send_signal(signal.SIGTERM)

    received = [next(answers) for _ in range(10)]
    with pytest.raises(grpc.RpcError) as ended:
        next(answers)
    requests.put(None)

    assert [rows(answer.infer_response).shape for answer in received] == [(1, 8)] * 10
    assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
    assert service.process.wait(timeout=30) == 0


def test_stream_reads_ahead_only_as_far_as_its_window(
    service: InferenceService, oip: Any, slow: str
) -> None:
    """A fast sender on a stream is slowed down by flow control, neither refused nor queued."""
    answers = oip.ModelStreamInfer(
        tensor_request(slow, IMAGES[i % 24 : i % 24 + 1]) for i in range(60)
    )

    assert all(not answer.error_message for answer in answers)
    assert service.metrics()['cxreval_inference_images_total{outcome="answered"}'] == 60


def test_streams_given_up_half_way_are_dropped_and_leave_no_trace(
    service: InferenceService, oip: Any, slow: str
) -> None:
    """Some are cancelled while a response is being written, where gRPC itself leaves errors."""
    for round_ in range(8):
        stop = threading.Event()
        answers = oip.ModelStreamInfer(_endless(slow, stop))
        for _ in range(round_ % 3):
            next(answers)
        answers.cancel()
        stop.set()
    wait_for(lambda: admitted(service) == 0)

    assert service.metrics()["cxreval_inference_dropped_images_total"] > 0
    assert rows(oip.ModelInfer(tensor_request(slow, IMAGES[:1]))).shape == (1, 8)
    assert '"exception"' not in service.log.read_text()


def _endless(model: str, stop: threading.Event) -> Iterator[pb.ModelInferRequest]:
    """Sixteen requests, then no more, with the stream left open."""
    for index in range(16):
        yield tensor_request(model, IMAGES[index : index + 1])
    stop.wait(20)


def test_killed_service_serves_the_same_models_after_a_restart(
    service: InferenceService, oip: Any, slow: str
) -> None:
    before = rows(oip.ModelInfer(tensor_request(slow, IMAGES[:2])))
    lost = oip.ModelInfer.future(tensor_request(slow, IMAGES))
    service.kill()
    assert lost.exception().code() == grpc.StatusCode.UNAVAILABLE
    service.start()

    assert not oip.ModelReady(pb.ModelReadyRequest(name=slow), wait_for_ready=True).ready
    oip.RepositoryModelLoad(load_request(slow))
    np.testing.assert_allclose(
        rows(oip.ModelInfer(tensor_request(slow, IMAGES[:2]))), before, atol=1e-5
    )
