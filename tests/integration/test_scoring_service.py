"""The scoring service refuses invalid input with reason and field, and the next stream works."""

import json
import threading
import urllib.request

import grpc
import numpy as np
import pytest

from cxreval.api.scoring.v1 import report_pb2, scoring_service_pb2, scoring_service_pb2_grpc
from cxreval.client import Predictions, ScoringClient
from cxreval.datasets.nih import FINDINGS
from cxreval.errors import CxrevalError
from cxreval.wire.status import from_rpc_error
from tests.support.scoring import describe, scoring_service, small_table

IMAGES = [f"{patient:08d}_{number:03d}.png" for patient in (1, 2, 3) for number in (0, 1)]


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    directory = tmp_path_factory.mktemp("small")
    # Every finding but Hernia has both classes; Hernia has no positive.
    present = "|".join(finding for finding in FINDINGS if finding != "Hernia")
    labels = small_table(
        directory, [(image, present if i % 2 else "No Finding") for i, image in enumerate(IMAGES)]
    )
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
        (
            [changed(2, 1, np.nan)],
            "INVALID_PROBABILITY",
            {"image": IMAGES[2], "finding": "Cardiomegaly", "count": "1"},
        ),
        ([changed(0, 0, np.inf)], "INVALID_PROBABILITY", {"image": IMAGES[0]}),
        (
            [changed(slice(1, 5), 3, np.nan)],
            "INVALID_PROBABILITY",
            {"image": IMAGES[1], "count": "4"},
        ),
        (
            [changed(1, 13, 1.0000001)],
            "INVALID_PROBABILITY",
            {"finding": "Hernia", "expected": "a number within [0, 1]"},
        ),
        ([changed(5, 0, -0.001)], "INVALID_PROBABILITY", {"image": IMAGES[5]}),
        (
            [Predictions(("99999999_000.png",), np.zeros((1, 14), "f4"))],
            "UNKNOWN_IMAGE",
            {"image": "99999999_000.png"},
        ),
        (
            [Predictions((IMAGES[0], "a.png", "b.png"), np.zeros((3, 14), "f4"))],
            "UNKNOWN_IMAGE",
            {"image": "a.png", "count": "2"},
        ),
        (
            [whole(), Predictions((IMAGES[3],), np.zeros((1, 14), "f4"))],
            "DUPLICATE_IMAGE",
            {"image": IMAGES[3], "count": "1"},
        ),
        (
            [Predictions((IMAGES[3], IMAGES[3]), np.array([[0] * 14, [1] * 14], "f4"))],
            "DUPLICATE_IMAGE",
            {"image": IMAGES[3], "count": "1"},
        ),
        (
            [Predictions((IMAGES[0],), np.zeros((1, 13), "f4"))],
            "MALFORMED_BATCH",
            {"found": "13", "expected": "14"},
        ),
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
        report = client.score(spec, [whole()])
        *_, hernia, macro = [
            value for value in report.metrics if value.metric == "auroc" and not value.slice
        ]
    assert (hernia.value, hernia.undefined_reason) == (None, "ONE_CLASS_ONLY")
    assert (hernia.positive_images, hernia.negative_images, hernia.positive_patients) == (0, 6, 0)
    assert (macro.value, macro.undefined_reason) == (None, "FINDING_UNDEFINED")
    assert (macro.defined_findings, macro.defined_mean) == (13, 0.5)


def raw(running, messages):
    with grpc.insecure_channel(running.address) as channel:
        stub = scoring_service_pb2_grpc.ScoringServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.ScorePredictions(iter(messages), timeout=10))
    return caught.value.code(), from_rpc_error(caught.value)


REQUEST = scoring_service_pb2.ScorePredictionsRequest


def header(**fields):
    """Returns a header for the service's benchmark."""
    fields = {"benchmark": "benchmarks/small"} | fields
    return REQUEST(header=scoring_service_pb2.ScorePredictionsHeader(**fields))


def batch(images=(), probabilities=b""):
    return REQUEST(batch=report_pb2.PredictionBatch(images=images, probabilities=probabilities))


def partial(spec, rows, probabilities, digest=None):
    state = report_pb2.PartialState(
        benchmark_digest=spec.digest if digest is None else digest,
        rows=rows,
        probabilities=probabilities,
    )
    return REQUEST(partial_state=state)


@pytest.mark.parametrize(
    ("messages", "code", "reason"),
    [
        ([], "INVALID_ARGUMENT", "EMPTY_STREAM"),
        ([batch()], "INVALID_ARGUMENT", "MALFORMED_STREAM"),
        ([REQUEST()], "INVALID_ARGUMENT", "MALFORMED_STREAM"),
        ([header(), header()], "INVALID_ARGUMENT", "MALFORMED_STREAM"),
        ([header(), REQUEST()], "INVALID_ARGUMENT", "MALFORMED_STREAM"),
        ([header()], "INVALID_ARGUMENT", "MISSING_IMAGES"),
        ([header(), batch()], "INVALID_ARGUMENT", "MISSING_IMAGES"),
        ([header(benchmark="benchmarks/other")], "NOT_FOUND", "TRUTH_NOT_FOUND"),
        ([header(benchmark="small")], "INVALID_ARGUMENT", "MALFORMED_FIELD"),
        ([header(benchmark_digest="0" * 64)], "FAILED_PRECONDITION", "BENCHMARK_DIGEST_MISMATCH"),
        ([header(session="g" * 32)], "INVALID_ARGUMENT", "MALFORMED_FIELD"),
        ([header(session="0" * 31)], "INVALID_ARGUMENT", "MALFORMED_FIELD"),
        ([header(), batch([IMAGES[0]], bytes(57))], "INVALID_ARGUMENT", "MALFORMED_BATCH"),
        (
            [header(), batch([IMAGES[0]] * 4097, bytes(4097 * 56))],
            "INVALID_ARGUMENT",
            "MALFORMED_BATCH",
        ),
    ],
)
def test_streams_of_the_wrong_form_are_refused_with_their_field(service, messages, code, reason):
    _, running = service
    found, error = raw(running, messages)
    assert (found.name, error.reason) == (code, reason)
    assert error.metadata["field"]


@pytest.mark.parametrize(
    ("rows", "probabilities", "digest", "reason", "metadata"),
    [
        ([0], bytes(56), "0" * 64, "BENCHMARK_DIGEST_MISMATCH", {"found": "0" * 64}),
        ([0], bytes(56), "", "BENCHMARK_DIGEST_MISMATCH", {}),
        ([5, 6], bytes(112), None, "UNKNOWN_IMAGE", {"row": "6", "count": "1"}),
        ([2, 1, 3, 3], bytes(224), None, "MALFORMED_BATCH", {"row": "1", "count": "2"}),
        (b"12345", bytes(56), None, "MALFORMED_BATCH", {"field": "rows"}),
        ([0], bytes(55), None, "MALFORMED_BATCH", {"field": "probabilities"}),
        ([0], bytes(52), None, "MALFORMED_BATCH", {"found": "13", "expected": "14"}),
        (
            [1],
            b"\0\0\xc0\x7f" * 14,
            None,
            "INVALID_PROBABILITY",
            {"image": IMAGES[1], "count": "1"},
        ),
        (range(4097), bytes(4097 * 56), None, "MALFORMED_BATCH", {"expected": "at most 4096"}),
    ],
)
def test_partial_states_of_the_wrong_form_are_refused(
    service, rows, probabilities, digest, reason, metadata
):
    spec, running = service
    packed = rows if isinstance(rows, bytes) else np.array(rows, "<u4").tobytes()
    _, error = raw(running, [header(), partial(spec, packed, probabilities, digest)])
    assert error.reason == reason
    assert metadata.items() <= error.metadata.items()
    with ScoringClient(running.address) as client:
        assert client.score(spec, [whole()]).image_count == len(IMAGES)


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


def test_stalled_streams_do_not_block_others(service):
    spec, running = service
    release = threading.Event()

    def stalled():
        yield header()
        release.wait(30)

    with (
        grpc.insecure_channel(running.address) as channel,
        ScoringClient(running.address) as client,
    ):
        stub = scoring_service_pb2_grpc.ScoringServiceStub(channel)
        calls = [stub.ScorePredictions(stalled(), timeout=30) for _ in range(8)]
        for call in calls:
            assert next(call).progress.image_count == 0
        report = client.score(spec, [whole()])
        release.set()
        assert report.image_count == len(IMAGES)
        for call in calls:
            with pytest.raises(grpc.RpcError):
                list(call)
        assert {call.code() for call in calls} == {grpc.StatusCode.INVALID_ARGUMENT}
