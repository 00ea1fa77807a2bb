"""The scoring service refuses what cannot be scored, with reason and field, and the next stream works."""

import concurrent.futures
import json
import threading
import time
import urllib.request

import grpc
import numpy as np
import pytest

from cxreval.api.scoring.v1 import report_pb2, scoring_service_pb2, scoring_service_pb2_grpc
from cxreval.client import Predictions, ScoringClient
from cxreval.datasets.benchmark import FINDINGS
from cxreval.errors import CxrevalError, MalformedField
from cxreval.metrics.ranking import Entry, rank
from cxreval.wire.status import from_rpc_error
from tests.support.scoring import describe, scoring_service, small_table

IMAGES = [f"{patient:08d}_{number:03d}.png" for patient in (1, 2, 3) for number in (0, 1)]


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    directory = tmp_path_factory.mktemp("small")
    # Every finding but Hernia has both classes; Hernia has no positive.
    present = "|".join(finding for finding in FINDINGS if finding != "Hernia")
    labels = small_table(directory, [(image, present if i % 2 else "No Finding") for i, image in enumerate(IMAGES)])
    spec = describe(directory, "small", IMAGES, labels)
    with scoring_service(directory / "scoring.log", small=directory) as running:
        yield spec, running


def whole(value=0.5):
    return Predictions(tuple(IMAGES), np.full((len(IMAGES), 14), value, dtype=np.float32))


def changed(row, column, value):
    predictions = whole()
    predictions.probabilities[row, column] = value
    return predictions


@pytest.mark.parametrize(
    ("batches", "reason", "metadata"),
    [
        ([changed(2, 1, np.nan)], "INVALID_PROBABILITY", {"image": IMAGES[2], "finding": "Cardiomegaly"}),
        ([changed(0, 0, np.inf)], "INVALID_PROBABILITY", {"image": IMAGES[0]}),
        (
            [changed(1, 13, 1.0000001)],
            "INVALID_PROBABILITY",
            {"finding": "Hernia", "expected": "a number within [0, 1]"},
        ),
        ([changed(5, 0, -0.001)], "INVALID_PROBABILITY", {"image": IMAGES[5]}),
        ([Predictions(("99999999_000.png",), np.zeros((1, 14), "f4"))], "UNKNOWN_IMAGE", {"image": "99999999_000.png"}),
        ([whole(), Predictions((IMAGES[3],), np.zeros((1, 14), "f4"))], "DUPLICATE_IMAGE", {"image": IMAGES[3]}),
        ([Predictions((IMAGES[0],), np.zeros((1, 13), "f4"))], "MALFORMED_BATCH", {"found": "13", "expected": "14"}),
        (
            [Predictions(tuple(IMAGES[:4]), np.zeros((4, 14), "f4"))],
            "MISSING_IMAGES",
            {"count": "2", "image": IMAGES[4]},
        ),
        ([], "MISSING_IMAGES", {"count": "6"}),
    ],
)
def test_bad_predictions_are_named_and_the_next_stream_works(service, batches, reason, metadata):
    spec, running = service
    with ScoringClient(running.address) as client:
        with pytest.raises(CxrevalError) as caught:
            client.score(spec, batches)
        assert caught.value.reason == reason
        assert metadata.items() <= caught.value.metadata.items()
        assert caught.value.metadata["field"] in ("images", "probabilities")
        assert client.score(spec, [whole()]).image_count == len(IMAGES)


def test_the_same_row_twice_with_the_same_values_is_harmless(service):
    spec, running = service
    with ScoringClient(running.address) as client:
        assert client.score(spec, [whole(), whole()]) == client.score(spec, [whole()])


def test_an_undefined_metric_is_absent_with_its_reason(service):
    spec, running = service
    with ScoringClient(running.address) as client:
        *_, hernia, macro = client.score(spec, [whole()]).metrics
    assert (hernia.value, hernia.undefined_reason) == (None, "ONE_CLASS_ONLY")
    assert (hernia.positive_images, hernia.negative_images, hernia.positive_patients) == (0, 6, 0)
    assert (macro.value, macro.undefined_reason) == (None, "FINDING_UNDEFINED")


def raw(running, messages):
    with grpc.insecure_channel(running.address) as channel:
        stub = scoring_service_pb2_grpc.ScoringServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.ScorePredictions(iter(messages), timeout=10)
    return caught.value.code(), from_rpc_error(caught.value)


def test_streams_out_of_order_and_strangers_are_refused(service):
    _, running = service
    request = scoring_service_pb2.ScorePredictionsRequest
    header = request(header=scoring_service_pb2.ScorePredictionsHeader(benchmark="benchmarks/small"))
    batch = request(batch=report_pb2.PredictionBatch())
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    other = request(header=scoring_service_pb2.ScorePredictionsHeader(benchmark="benchmarks/other"))
    stale = scoring_service_pb2.ScorePredictionsHeader(benchmark="benchmarks/small", benchmark_digest="0" * 64)
    malformed = request(header=scoring_service_pb2.ScorePredictionsHeader(benchmark="small"))
    for messages, code, reason in [
        ([], invalid, "EMPTY_STREAM"),
        ([batch], invalid, "MALFORMED_STREAM"),
        ([header, header], invalid, "MALFORMED_STREAM"),
        ([other], grpc.StatusCode.NOT_FOUND, "TRUTH_NOT_FOUND"),
        ([request(header=stale)], grpc.StatusCode.FAILED_PRECONDITION, "BENCHMARK_DIGEST_MISMATCH"),
        ([malformed], invalid, "MALFORMED_FIELD"),
    ]:
        found, error = raw(running, messages)
        assert (found, error.reason) == (code, reason)
        assert error.metadata["field"]


def test_ranks_are_those_of_the_library_and_bad_entries_are_named(service):
    _, running = service
    entries = [Entry("a", 0.8, "2025-12"), Entry("b", None, "2025-12-01"), Entry("c", 0.9, "2026-01-02")]
    with ScoringClient(running.address) as client:
        assert client.rank(entries) == rank(entries)
        for wrong in ([Entry("a", 0.8, "yesterday")], [entries[0], entries[0]], [Entry("a", float("nan"), "2025-12")]):
            with pytest.raises(MalformedField):
                client.rank(wrong)


def test_every_rpc_is_counted_timed_and_logged_with_its_request_id(service):
    from cxreval.wire import request_id

    _, running = service
    token = request_id.current.set("request-42")
    with ScoringClient(running.address) as client:
        client.list_truths()
    request_id.current.reset(token)
    page = urllib.request.urlopen(f"http://{running.metrics_address}/metrics").read().decode()
    labels = 'grpc_method="ListTruths",grpc_service="cxreval.api.scoring.v1.ScoringService"'
    assert f"grpc_server_handling_seconds_count{{{labels}}}" in page
    assert 'grpc_code="OK",grpc_method="ListTruths"' in page
    lines = [json.loads(line) for line in running.log.read_text().splitlines()]
    logged = next(line for line in lines if line.get("request_id") == "request-42")
    assert logged["message"].endswith("ListTruths OK")
    assert logged["seconds"] >= 0


def test_wrong_data_sets_stop_the_service_before_it_serves(tmp_path):
    labels = small_table(tmp_path, [(image, "Mass") for image in IMAGES])
    describe(tmp_path, "small", IMAGES, labels)
    labels.write_text(labels.read_text().replace("Mass", "Hernia", 1))
    with pytest.raises(RuntimeError, match=r"label table .* has digest"):
        scoring_service(tmp_path / "scoring.log", small=tmp_path).start()


def test_streams_that_stop_half_way_keep_nobody_from_being_scored(service):
    spec, running = service
    release = threading.Event()

    def stalled():
        header = scoring_service_pb2.ScorePredictionsHeader(benchmark="benchmarks/small")
        yield scoring_service_pb2.ScorePredictionsRequest(header=header)
        release.wait(30)

    with grpc.insecure_channel(running.address) as channel, ScoringClient(running.address) as client:
        stub = scoring_service_pb2_grpc.ScoringServiceStub(channel)
        calls = [stub.ScorePredictions.future(stalled(), timeout=30) for _ in range(8)]
        time.sleep(0.3)
        with concurrent.futures.ThreadPoolExecutor(1) as threads:
            report = threads.submit(client.score, spec, [whole()]).result(timeout=10)
        release.set()
        assert report.image_count == len(IMAGES)
        assert {call.code() for call in calls} == {grpc.StatusCode.INVALID_ARGUMENT}


def test_a_message_without_a_batch_is_refused(service):
    spec, running = service
    header = scoring_service_pb2.ScorePredictionsHeader(benchmark=f"benchmarks/{spec.name}")
    request = scoring_service_pb2.ScorePredictionsRequest
    code, error = raw(running, [request(header=header), request()])
    assert (code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_STREAM")
