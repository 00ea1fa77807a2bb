"""Scoring streams that split, overlap, break and resume give the same report to the last bit."""

import asyncio
import contextlib
import socket
import struct
import threading
import time
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from cxreval.api.scoring.v1 import scoring_service_pb2, scoring_service_pb2_grpc
from cxreval.client import Predictions, ScoringClient
from cxreval.datasets.benchmark_file import load_spec
from cxreval.datasets.nih import FINDINGS
from cxreval.datasets.truth import Truth, load_truth
from cxreval.errors import (
    InvalidProbability,
    MalformedBatch,
    MalformedField,
    MissingImages,
    ServiceOverloaded,
    UnknownFinding,
)
from cxreval.metrics.predictions import PredictionTable
from cxreval.metrics.report import covered_findings
from cxreval.wire import reports
from cxreval.wire.status import from_rpc_error
from services.scoring.servicer import ScoringServicer
from services.scoring.streams import Streams
from tests.support.scoring import describe, scoring_service, serialised, small_table

REQUEST = scoring_service_pb2.ScorePredictionsRequest
SIZES = {"small": 48, "large": 9000}


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    """Two benchmarks with three images per patient and random labels."""
    found = {}
    for name, size in SIZES.items():
        found[name] = directory = tmp_path_factory.mktemp(name)
        draws = np.random.default_rng(7).random((size, 14)) < 0.3
        images = [f"{row // 3 + 1:08d}_{row % 3:03d}.png" for row in range(size)]
        named = ["|".join(np.array(FINDINGS)[row]) or "No Finding" for row in draws]
        describe(
            directory, name, images, small_table(directory, list(zip(images, named, strict=True)))
        )
    return found


@pytest.fixture(scope="module")
def running(directories, tmp_path_factory):
    with scoring_service(
        tmp_path_factory.mktemp("logs") / "scoring.log", "--max-streams=4", **directories
    ) as service:
        yield service


@pytest.fixture(scope="module")
def truths(directories):
    return {
        name: load_truth(load_spec(name, directory), directory)
        for name, directory in directories.items()
    }


@pytest.fixture(scope="module")
def small(running, truths):
    """Specification, images, probabilities, and the report when all are sent at once."""
    return whole(running, truths["small"])


@pytest.fixture(scope="module")
def large(running, truths):
    return whole(running, truths["large"])


def whole(running, truth):
    images = np.array(list(truth.rows))
    probabilities = np.random.default_rng(3).integers(0, 50, (images.size, 14)).astype("f4") / 49
    with ScoringClient(running.address) as client:
        report = client.score(truth.spec, batches(images, probabilities, 4096))
    return truth.spec, images, probabilities, serialised(report)


def batches(images, probabilities, size):
    parts = [slice(start, start + size) for start in range(0, len(images), size)]
    return [Predictions(tuple(images[part].tolist()), probabilities[part]) for part in parts]


def header(name, session="", **fields):
    content = scoring_service_pb2.ScorePredictionsHeader(
        benchmark=f"benchmarks/{name}", session=session, **fields
    )
    return REQUEST(header=content)


def request(batch):
    return REQUEST(batch=reports.batch_message(batch.images, batch.probabilities))


@contextlib.contextmanager
def bare_stub(address):
    with grpc.insecure_channel(address) as channel:
        yield scoring_service_pb2_grpc.ScoringServiceStub(channel)


def exchange(address, *messages):
    """Returns all responses to one stream. Raises the error that the service names."""
    with bare_stub(address) as stub:
        try:
            return list(stub.ScorePredictions(iter(messages), timeout=30))
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None


def resumed(address, *messages):
    """Like `exchange`, but retries until the service has noticed that the last stream broke."""
    for _ in range(100):
        try:
            return exchange(address, *messages)
        except ServiceOverloaded:
            time.sleep(0.05)
    raise TimeoutError("the broken stream stays open")


def rows_taken(service):
    """Returns the service's counter of accepted rows."""
    page = urllib.request.urlopen(f"http://{service.metrics_address}/metrics").read().decode()
    name = "cxreval_scoring_predictions_total"
    return next(float(line.split()[1]) for line in page.splitlines() if line.startswith(f"{name} "))


# --- splits ---------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(data=st.data())
def test_any_split_order_overlap_and_retry_gives_the_same_bytes(running, small, data):
    spec, images, probabilities, expected = small
    workers = data.draw(st.integers(1, 4))
    seed = data.draw(st.integers(0, 2**32 - 1))
    size = data.draw(st.integers(1, len(images)))
    generator = np.random.default_rng(seed)
    # Each image goes to at least one random worker; a worker may send a batch twice.
    chosen = generator.random((workers, len(images))) < 0.3
    chosen[generator.integers(0, workers, len(images)), np.arange(len(images))] = True
    parts = []
    for mine in chosen:
        order = generator.permutation(np.flatnonzero(mine))
        sent = batches(images[order], probabilities[order], size)
        parts.append([*sent, *generator.permutation(np.array(sent, dtype=object))[:1]])
    with ScoringClient(running.address) as client:
        states = [state for part in parts[1:] for state in client.export_partial_state(spec, part)]
        generator.shuffle(states)
        report = client.score(spec, parts[0], [*states, *states[:1]])
    assert serialised(report) == expected


def test_a_stream_of_some_findings_may_be_split_like_any_other(running, small):
    spec, images, probabilities, _ = small
    covered, others = FINDINGS[2:5], FINDINGS[1:4]
    values = np.ascontiguousarray(probabilities[:, 2:5])
    sent, half = batches(images, values, 20), len(images) // 2
    with ScoringClient(running.address) as client:
        expected = client.score(spec, sent, findings=covered)
        assert covered_findings(expected.metrics) == covered
        states = client.export_partial_state(
            spec, batches(images[half:], values[half:], 20), findings=covered
        )
        assert {state.findings for state in states} == {covered}
        first = batches(images[:half], values[:half], 20)
        merged = client.score(spec, first, states, findings=covered)
        assert serialised(merged) == serialised(expected)
        for findings in (others, ()):  # as many others, and all
            with pytest.raises(MalformedBatch, match=r"partial_state\.findings is 'Effusion"):
                client.score(spec, [], states, findings=findings)
        with pytest.raises(MalformedBatch, match="expected 28"):
            client.score(spec, batches(images[:2], values[:2], 2))


@pytest.mark.parametrize(
    ("findings", "error"),
    [
        (("Mass", "Fracture"), UnknownFinding),
        (("Mass", "Mass"), MalformedField),
        (("",), UnknownFinding),
    ],
)
def test_findings_that_are_none_of_the_benchmark_end_the_stream(running, small, findings, error):
    spec, images, probabilities, _ = small
    with ScoringClient(running.address) as client, pytest.raises(error, match=r"header\.findings"):
        client.score(spec, batches(images, probabilities, 20), findings=findings)


def test_zeros_of_either_sign_are_equal_in_any_order(running, small):
    spec, images, probabilities, expected = small
    negative = np.where(probabilities == 0, np.float32(-0.0), probabilities)
    assert np.signbit(negative).any()
    one, other = (batches(images, values, 20) for values in (probabilities, negative))
    with ScoringClient(running.address) as client:
        assert serialised(client.score(spec, [*one, *other])) == expected
        assert serialised(client.score(spec, [*other, *one])) == expected
        assert serialised(client.score(spec, other)) == expected


def test_a_partial_state_comes_in_pieces_of_4096_rising_rows(running, large):
    spec, images, probabilities, expected = large
    shuffled = np.random.default_rng(0).permutation(len(images))
    with ScoringClient(running.address) as client:
        states = client.export_partial_state(
            spec, batches(images[shuffled], probabilities[shuffled], 500)
        )
        assert [state.rows.size for state in states] == [4096, 4096, 808]
        assert np.array_equal(
            np.concatenate([state.rows for state in states]), np.arange(len(images))
        )
        assert np.array_equal(
            np.concatenate([state.probabilities for state in states]), probabilities
        )
        assert serialised(client.score(spec, [], states)) == expected
        assert client.export_partial_state(spec, []) == []


def test_the_running_count_says_how_many_images_have_come(running, large):
    spec, images, probabilities, _ = large
    heard = []
    with ScoringClient(running.address) as client:
        client.score(spec, batches(images, probabilities, 1000), progress=heard.append)
    assert heard == [0, 5000, 9000]


# --- what ends a stream early ---------------------------------------------------------------------


def test_a_stream_that_ended_too_soon_is_completed_by_the_next(running, small):
    spec, images, probabilities, expected = small
    first, *rest = map(request, batches(images, probabilities, 10))
    session = uuid.uuid4().hex
    with pytest.raises(MissingImages) as caught:
        exchange(running.address, header(spec.name, session), first)
    assert caught.value.metadata["count"] == str(len(images) - 10)
    begin, *_, last = exchange(running.address, header(spec.name, session), *rest)
    assert (begin.progress.message_count, begin.progress.image_count) == (1, 10)
    assert last.report.SerializeToString(deterministic=True) == expected


def test_a_refused_message_leaves_the_good_ones_before_it(running, small):
    spec, images, probabilities, expected = small
    first, second, *rest = batches(images, probabilities, 10)
    wrong = Predictions(
        second.images, np.where(np.arange(14) == 3, np.float32("nan"), second.probabilities)
    )
    session = uuid.uuid4().hex
    with pytest.raises(InvalidProbability) as caught:
        exchange(running.address, header(spec.name, session), request(first), request(wrong))
    assert (caught.value.metadata["image"], caught.value.metadata["count"]) == (
        second.images[0],
        "10",
    )
    begin, *_, last = exchange(
        running.address, header(spec.name, session), *map(request, [second, *rest])
    )
    assert (begin.progress.message_count, begin.progress.image_count) == (1, 10)
    assert last.report.SerializeToString(deterministic=True) == expected


def test_a_report_lost_on_its_way_is_had_without_sending_anything_again(small, truths):
    spec, images, probabilities, expected = small
    begun, release = threading.Event(), threading.Event()

    class HeldTruth(Truth):
        def report(self, table, exposure=None):
            begun.set()
            release.wait(30)
            return super().report(table, exposure)

    truth = HeldTruth(spec, truths["small"].rows, truths["small"].cohort)
    sent = [request(batch) for batch in batches(images, probabilities, 10)]
    session = uuid.uuid4().hex
    with in_process(ScoringServicer({spec.name: truth}, 1, 1, CollectorRegistry())) as address:
        with bare_stub(address) as stub:
            call = stub.ScorePredictions(iter([header(spec.name, session), *sent]), timeout=30)
            assert begun.wait(10)
            call.cancel()
        release.set()
        begin, *_, last = resumed(address, header(spec.name, session))
    assert begin.progress.message_count == len(sent)
    assert last.report.SerializeToString(deterministic=True) == expected


def test_a_finished_session_leaves_nothing_behind(running, small):
    spec, images, probabilities, _ = small
    session, sent = (
        uuid.uuid4().hex,
        [request(batch) for batch in batches(images, probabilities, 10)],
    )
    exchange(running.address, header(spec.name, session), *sent)
    begin, *_ = exchange(running.address, header(spec.name, session, export_partial_state=True))
    assert begin.progress.message_count == 0


def test_a_session_belongs_to_its_benchmark_and_streams_without_one_are_forgotten(running, small):
    spec, images, probabilities, _ = small
    first, session = request(batches(images, probabilities, 10)[0]), uuid.uuid4().hex
    for name in (session, ""):
        with pytest.raises(MissingImages):
            exchange(running.address, header(spec.name, name), first)
    for benchmark, name in (("large", session), (spec.name, "")):
        begin, *_ = exchange(running.address, header(benchmark, name, export_partial_state=True))
        assert begin.progress.image_count == 0


# --- broken connections ---------------------------------------------------------------------------


class Hooked(list):
    """Batches that call `hook` once before the batch at index `place` is sent."""

    def __init__(self, items, place, hook):
        super().__init__(items)
        self.place = place
        self.hook = hook

    def __iter__(self):
        for place, item in enumerate(list.__iter__(self)):
            if place == self.place and self.hook:
                hook, self.hook = self.hook, None
                hook()
            yield item


class Proxy:
    """A TCP proxy whose connections can be reset."""

    def __init__(self, target):
        host, _, port = target.partition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                self._sockets += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source, sink):
        with contextlib.suppress(OSError):
            while content := source.recv(4096):
                sink.sendall(content)

    def cut(self):
        """Resets every connection; new ones are accepted."""
        broken, self._sockets = self._sockets, []
        for one in broken:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()
        self.cut()


def test_a_cut_connection_is_resumed_without_resending_accepted_batches(running, large):
    spec, images, probabilities, expected = large
    before = rows_taken(running)
    with Proxy(running.address) as proxy, ScoringClient(proxy.address) as client:
        sent = Hooked(batches(images, probabilities, 100), 60, proxy.cut)
        report = client.score(spec, sent)
    assert sent.hook is None
    assert serialised(report) == expected
    assert rows_taken(running) - before == len(images)


def test_a_service_that_was_killed_gets_everything_again(directories, large, tmp_path):
    spec, images, probabilities, expected = large
    with scoring_service(tmp_path / "scoring.log", **directories) as service:

        def restart():
            service.kill()
            service.start()

        with ScoringClient(service.address) as client:
            sent = Hooked(batches(images, probabilities, 100), 60, restart)
            assert serialised(client.score(spec, sent)) == expected
        assert sent.hook is None
        assert rows_taken(service) == len(images)


# --- bounds ---------------------------------------------------------------------------------------


def opened(stub, name, session=""):
    """A stream that has its first response and stays open until the event is set."""
    release = threading.Event()

    def messages():
        yield header(name, session)
        release.wait(30)

    call = stub.ScorePredictions(messages(), timeout=30)
    return next(call).progress.message_count, call, release


def test_an_open_session_refuses_a_second_stream_and_continues(running, small):
    spec, images, probabilities, expected = small
    session, together = uuid.uuid4().hex, threading.Event()

    def messages():
        yield header(spec.name, session)
        together.wait(30)
        yield from map(request, batches(images, probabilities, 10))

    with bare_stub(running.address) as stub:
        call = stub.ScorePredictions(messages(), timeout=30)
        next(call)
        with pytest.raises(ServiceOverloaded, match="session is still open"):
            exchange(running.address, header(spec.name, session))
        together.set()
        *_, last = call
    assert last.report.SerializeToString(deterministic=True) == expected


def test_open_streams_are_bounded_and_parked_ones_give_way_oldest_first(running, small):
    spec, images, probabilities, expected = small
    sent = [request(batch) for batch in batches(images, probabilities, 10)]
    sessions = [uuid.uuid4().hex for _ in range(4)]
    for session in sessions:
        with pytest.raises(MissingImages):
            exchange(running.address, header(spec.name, session), sent[0])
    with bare_stub(running.address) as stub:
        # Four sessions are parked, the limit: two new streams evict the two oldest.
        _, *one = opened(stub, spec.name)
        _, *two = opened(stub, spec.name)
        held, *three = opened(stub, spec.name, sessions[2])
        assert held == 1
        held, *four = opened(stub, spec.name, sessions[3])
        assert held == 1
        start = time.monotonic()
        with pytest.raises(ServiceOverloaded, match="too many open streams"):
            exchange(running.address, header(spec.name))
        assert time.monotonic() - start < 1
        for call, release in (one, two, three, four):
            release.set()
            with pytest.raises(grpc.RpcError, match="have no prediction"):
                list(call)
    begin, *_ = exchange(running.address, header(spec.name, sessions[0], export_partial_state=True))
    assert begin.progress.message_count == 0
    begin, *_, last = exchange(running.address, header(spec.name, sessions[3]), *sent[1:])
    assert begin.progress.message_count == 1
    assert last.report.SerializeToString(deterministic=True) == expected


def test_a_parked_stream_expires(truths):
    async def held_after(seconds):
        streams = Streams(2, CollectorRegistry(), parked_seconds=0.1)
        with streams.open(truths["small"], "session") as (stream, _):
            stream.message_count = 5
        await asyncio.sleep(seconds)
        with streams.open(truths["small"], "session") as (stream, _):
            return stream.message_count

    assert asyncio.run(held_after(0)) == 5
    assert asyncio.run(held_after(0.2)) == 0


def test_streams_and_rows_are_on_the_metrics_page(running, small):
    spec, *_ = small
    with bare_stub(running.address) as stub:
        _, call, release = opened(stub, spec.name)
        page = urllib.request.urlopen(f"http://{running.metrics_address}/metrics").read().decode()
        release.set()
        with pytest.raises(grpc.RpcError):
            list(call)
    assert 'cxreval_scoring_streams{state="open"} 1.0' in page
    assert 'cxreval_scoring_streams{state="parked"}' in page
    assert "cxreval_scoring_report_seconds_count" in page


def test_a_sender_that_outruns_the_service_waits(truths):
    """The handler blocks in the first batch; flow control limits what the client can send then."""
    truth, release = truths["large"], threading.Event()
    images = list(truth.rows)[:4096]
    message = request(Predictions(tuple(images), np.full((4096, 14), 0.5, "f4")))
    pulled, count = 0, 150

    class Held(PredictionTable):
        def add(self, images, values):
            release.wait(30)
            super().add(images, values)

    class HeldTruth(Truth):
        def table(self, covered=()):
            return Held(self.rows, self.spec.findings)

    def messages():
        nonlocal pulled
        yield header(truth.spec.name, export_partial_state=True)
        for _ in range(count):
            pulled += 1
            yield message

    held = HeldTruth(truth.spec, truth.rows, truth.cohort)
    servicer = ScoringServicer({truth.spec.name: held}, 1, 1, CollectorRegistry())
    with (
        in_process(servicer) as address,
        bare_stub(address) as stub,
        ThreadPoolExecutor(1) as threads,
    ):
        answers = threads.submit(lambda: list(stub.ScorePredictions(messages(), timeout=60)))
        seen = -1
        while seen != pulled:
            seen = pulled
            time.sleep(0.3)
        waiting = pulled
        release.set()
        last_progress = [
            answer.progress for answer in answers.result(timeout=60) if answer.HasField("progress")
        ][-1]
    # Of 45 MB. gRPC adapts its window to the machine; 4 to 27 MB have been measured.
    assert 0 < waiting < count
    assert last_progress.message_count == count


@contextlib.contextmanager
def in_process(servicer):
    """A server in a thread of this process."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start():
        server = grpc.aio.server()
        scoring_service_pb2_grpc.add_ScoringServiceServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, port

    server, port = asyncio.run_coroutine_threadsafe(start(), loop).result(timeout=60)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(0), loop).result(timeout=60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=60)
        loop.close()
