"""Endpoints: a third-party server predicts every image, and its token is never revealed."""

import functools
import json
import math
import time
from dataclasses import replace

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2

from cxreval.client import EvaluationStatus, Fault, Kind, SubmissionStatus, Tier
from cxreval.datasets.benchmark_file import load_spec
from cxreval.datasets.nih import FINDINGS
from cxreval.errors import EndpointRefused, EndpointUnavailable, MalformedField, RequestIdReused
from cxreval.evaluation import driver as driver_module
from cxreval.evaluation import endpoints
from cxreval.evaluation.driver import EvaluationDriver, local_benchmarks
from cxreval.imaging.preprocess import PROFILES
from cxreval.manifest.template import template
from cxreval.model_interface import preset
from tests.support import onnx_models
from tests.support.certificates import make_certificates
from tests.support.endpoint import NaiveServer
from tests.support.inference import png
from tests.support.scoring import describe, small_table
from tests.support.system import System, claim, command, endpoint, json_of

IMAGES = [f"{patient:08d}_000.png" for patient in range(1, 9)]
TOKEN = "hf_a-secret-that-nobody-must-see-4711"


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    directory = tmp_path_factory.mktemp("endpoints")
    data = directory / "data"
    sick = [
        (image, "|".join(FINDINGS) if i % 2 else "No Finding") for i, image in enumerate(IMAGES)
    ]
    describe(data, "small", IMAGES, small_table(data, sick))
    (data / "images").mkdir()
    for number, image in enumerate(IMAGES):
        (data / "images" / image).write_bytes(png(256, 256, seed=number))
    with System(directory, {"small": data}, lease_seconds=10.0) as running:
        running.registry.create_benchmark(local_benchmarks(running.data)["small"])
        yield running


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    impatient_source = functools.partial(endpoints.EndpointSource, retry_seconds=3.0)
    monkeypatch.setattr(driver_module, "EndpointSource", impatient_source)


def run(system, allow_private=True):
    clients = (system.registry, system.inference, system.scoring)
    driver = EvaluationDriver(*clients, system.data, "test", 10.0, allow_private)
    ended = driver.run_next(lambda *_: None)
    assert ended
    return ended


def submit(system, declared, token=""):
    return system.registry.submit("small", declared, endpoint_token=token)


def test_an_endpoint_that_fails_now_and_then_is_on_the_board_with_its_kind(system):
    def mood(number):
        return {2: grpc.StatusCode.UNAVAILABLE, 5: grpc.StatusCode.RESOURCE_EXHAUSTED}.get(number)

    with NaiveServer(TOKEN, mood=mood) as server:
        submitted = submit(system, endpoint(server.address), TOKEN)
        assert (submitted.kind, submitted.status) == (Kind.ENDPOINT, SubmissionStatus.QUEUED)
        ended = run(system)
        assert len(server.times) == 2 * len(IMAGES) + 2  # each image is repeated
    assert ended.status is EvaluationStatus.SUCCEEDED, ended.failure
    assert (ended.provenance["endpoint_address"], ended.provenance["endpoint_platform"]) == (
        server.address,
        "naive",
    )
    assert (ended.provenance["kind"], ended.provenance["endpoint_versions"]) == ("endpoint", "3")
    (row,) = [
        row for row in system.registry.leaderboard("small") if row.submission == submitted.name
    ]
    assert (row.kind, row.tier, row.profile_digest) == (Kind.ENDPOINT, Tier.EXECUTED, "")
    assert row.score is not None


def test_an_endpoint_that_lacks_findings_is_evaluated_on_those_it_has(system):
    outputs = ("", "Hernia", *[""] * 11, "Mass")
    with NaiveServer() as server:
        declared = replace(endpoint(server.address), output_names=outputs)
        submitted = submit(system, declared)
        ended = run(system)
    assert ended.status is EvaluationStatus.SUCCEEDED, ended.failure
    (row,) = [
        row for row in system.registry.leaderboard("small") if row.submission == submitted.name
    ]
    assert (row.rank, row.covered_findings) == (None, ("Mass", "Hernia"))
    (row,) = [
        row
        for row in system.registry.leaderboard("small", findings=("Hernia", "Mass"))
        if row.submission == submitted.name
    ]
    assert row.rank is not None


def test_the_inference_service_as_an_endpoint_gives_the_checkpoints_scores(system, tmp_path):
    from tests.support.system import manifest

    checkpoint = tmp_path / f"{onnx_models.classifier(tmp_path)}.onnx"
    executed = system.registry.submit("small", manifest("Same"), checkpoint)
    assert run(system).status is EvaluationStatus.SUCCEEDED
    digest = executed.manifest.artifact_sha256
    system.inference.load(digest, preset("xrv-224"), len(FINDINGS))
    asked = submit(system, endpoint(system.inference_service.address, digest, "xrv-224"))
    assert run(system).status is EvaluationStatus.SUCCEEDED
    same = {
        system.registry.get_evaluation(
            system.registry.get_submission(name).evaluation
        ).report.predictions_sha256
        for name in (executed.name, asked.name)
    }
    assert len(same) == 1


def test_a_server_of_tensors_gets_those_of_the_declared_profile(system):
    with NaiveServer(datatype="FP32") as server:
        submit(system, endpoint(server.address, profile="xrv-224"))
        ended = run(system)
        assert (ended.status, ended.provenance["profile"]) == (
            EvaluationStatus.SUCCEEDED,
            "xrv-224",
        )
        submit(system, endpoint(server.address))
        failure = run(system).failure
    assert (failure.reason, failure.fault) == ("ENDPOINT_REFUSED", Fault.SUBMISSION)
    assert "expected a preprocessing_profile" in failure.message


@pytest.mark.parametrize(
    ("mood", "reason", "says"),
    [
        (
            lambda _: grpc.StatusCode.UNAVAILABLE,
            "ENDPOINT_UNAVAILABLE",
            "UNAVAILABLE: in a bad mood, but I know ***",
        ),
        (
            lambda _: grpc.StatusCode.INTERNAL,
            "ENDPOINT_REFUSED",
            "INTERNAL: in a bad mood, but I know ***",
        ),
        (
            lambda _: [0.5] * 13,
            "ENDPOINT_REFUSED",
            "the model returned shape (1, 13); expected (1, 14)",
        ),
        (
            lambda _: [math.nan] * 14,
            "INVALID_PROBABILITY",
            "probability of Atelectasis for image '00000001_000.png' is nan; expected a number",
        ),
        (lambda _: [1.5] * 14, "INVALID_PROBABILITY", "set outputs.activation: sigmoid"),
    ],
)
def test_an_endpoint_that_does_not_do_its_part_is_the_submitters_fault(system, mood, reason, says):
    with NaiveServer(TOKEN, mood=mood) as server:
        submitted = submit(system, endpoint(server.address), TOKEN)
        failure = run(system).failure
    assert (failure.reason, failure.fault) == (reason, Fault.SUBMISSION)
    assert says in failure.message
    # Without an upload, a retry is queued at once.
    assert system.registry.retry(submitted.name, "mended").status is SubmissionStatus.QUEUED
    system.registry.cancel(submitted.name, "not mended")


def second_time(spoiled):
    """Returns a mood that answers 0.5 the first time, and `spoiled` when images are repeated."""
    return lambda number: [0.5] * 14 if number <= len(IMAGES) else spoiled


@pytest.mark.parametrize(
    ("spoiled", "reason", "says"),
    [
        ([0.5] * 13 + [0.51], "NOT_DETERMINISTIC", "Hernia"),
        ([0.5] * 13 + [0.51], "NOT_DETERMINISTIC", "was 0.5, and 0.50999999 when"),
        ([0.5021] + [0.5] * 13, "NOT_DETERMINISTIC", "expected a difference of at most 0.002;"),
        ([0.25] * 14, "NOT_DETERMINISTIC", "the difference is 0.25,"),
        ([0.25] * 14, "NOT_DETERMINISTIC", "8 of 8 repeated images differ more"),
        ([math.nan] * 14, "INVALID_PROBABILITY", "a value that is not a finite number"),
        ([1.001] * 14, "INVALID_PROBABILITY", "this looks like rounding"),
        ([0.5] * 13, "ENDPOINT_REFUSED", "returned shape (1, 13); expected (1, 14)"),
        (grpc.StatusCode.INTERNAL, "ENDPOINT_REFUSED", "INTERNAL: in a bad mood"),
        (grpc.StatusCode.UNAVAILABLE, "ENDPOINT_UNAVAILABLE", "no response for 3 s"),
    ],
)
def test_an_endpoint_that_answers_otherwise_the_second_time_is_not_published(
    system, spoiled, reason, says
):
    with NaiveServer(mood=second_time(spoiled)) as server:
        submitted = submit(system, endpoint(server.address))
        ended = run(system)
    assert (ended.status, ended.attempt) == (EvaluationStatus.FAILED, 1)
    assert (ended.failure.reason, ended.failure.fault) == (reason, Fault.SUBMISSION)
    assert says in ended.failure.message
    assert system.registry.get_submission(submitted.name).status is SubmissionStatus.FAILED


def test_an_endpoint_may_round_differently_and_its_largest_difference_is_recorded(system):
    with NaiveServer(mood=second_time([0.501] + [0.5] * 13)) as server:
        submit(system, endpoint(server.address))
        ended = run(system)
    assert ended.status is EvaluationStatus.SUCCEEDED, ended.failure
    keys = ("repeat_images", "repeat_largest_difference", "repeat_tolerance")
    assert [ended.provenance[key] for key in keys] == [str(len(IMAGES)), "0.001", "0.002"]


def test_an_endpoint_that_mixes_the_images_it_gets_at_once_is_not_published(system):
    running, most = [], []

    def mood(number):
        running.append(number)
        most.append(len(running))
        time.sleep(0.03)
        running.remove(number)
        return [0.05 * most[number - 1]] * 14

    with NaiveServer(mood=mood) as server:
        submit(system, endpoint(server.address))
        failure = run(system).failure
    assert (failure.reason, failure.fault) == ("NOT_DETERMINISTIC", Fault.SUBMISSION)
    assert max(most[: len(IMAGES)]) > 1
    assert most[len(IMAGES) :] == [1] * len(IMAGES)  # repeated images are sent one at a time


def test_a_wrong_token_is_refused_and_recorded_images_are_not_requested_again(system):
    with NaiveServer(TOKEN) as server:
        submit(system, endpoint(server.address), "wrong")
        failure = run(system).failure
        assert (failure.reason, "UNAUTHENTICATED" in failure.message) == ("ENDPOINT_REFUSED", True)


def test_a_worker_that_only_repeats_images_records_the_same_provenance(system):
    with NaiveServer(datatype="FP32") as server:
        submitted = submit(system, endpoint(server.address, profile="xrv-224"))
        lease = system.registry.lease_evaluation("dies", ["small"])
        images = system.data["small"] / "images"
        first, second = (
            endpoints.EndpointSource(lease, images, allow_private=True) for _ in range(2)
        )
        assert len(list(first.rows(IMAGES))) == len(server.times)
        list(second.rows(IMAGES[:1], one_by_one=True))
    said = {"endpoint_platform": "naive", "endpoint_versions": "3", "profile": "xrv-224"}
    said["profile_digest"] = PROFILES["xrv-224"].digest
    assert second.provenance() == first.provenance() == first.provenance() | said
    system.registry.cancel(submitted.name, "seen enough")


STEERS = "\x1b]0;owned\x07\x1b[2J\n\0\u202e"


def test_no_metadata_of_a_server_fails_the_run(system):
    with NaiveServer(TOKEN) as server:
        server.platform, server.versions = (
            f"{STEERS}{TOKEN}{'p' * 9000}",
            [f"{STEERS}{'v' * 1000}"] * 50,
        )
        submit(system, endpoint(server.address), TOKEN)
        ended = run(system)
    assert ended.status is EvaluationStatus.SUCCEEDED, ended.failure
    assert ended.provenance["endpoint_platform"].startswith(" ]0;owned  [2J   ***ppp")
    assert ended.provenance["endpoint_versions"].startswith(" ]0;owned  [2J   vvv")
    assert all(value.isprintable() for value in ended.provenance.values())


def test_failure_messages_have_no_control_characters_of_tensor_names(system):
    with NaiveServer(datatype=f"INT8{STEERS}") as server:
        submitted = submit(system, endpoint(server.address))
        failure = run(system).failure
        assert "the model takes pixels INT8 ]0;owned  [2J" in failure.message
    commands = (("status", submitted.name), ("submission", "history", submitted.name))
    lines = "".join(
        command(*words, "--registry", system.registry_service.address).stdout for words in commands
    )
    assert "ENDPOINT_REFUSED" in lines
    assert lines.replace("\n", "").isprintable()


def test_the_rate_that_the_manifest_allows_is_kept(system):
    with NaiveServer() as server:
        submit(system, endpoint(server.address, requests_per_second=10.0))
        assert run(system).status is EvaluationStatus.SUCCEEDED
        took = server.times[-1] - server.times[0]
    assert took > 0.9 * (len(IMAGES) - 1) / 10


def test_a_retry_waits_as_long_as_the_server_asks(system):
    later = error_details_pb2.RetryInfo(retry_delay=Duration(nanos=700_000_000))

    def mood(number):
        if number == 1:
            busy = status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message="later")
            busy.details.add().Pack(later)
            return busy
        return None

    with NaiveServer(mood=mood) as server:
        submit(system, endpoint(server.address))
        assert run(system).status is EvaluationStatus.SUCCEEDED
    assert len(server.times) == 2 * len(IMAGES) + 1  # each image is repeated
    assert max(server.times) - server.times[0] >= 0.7


def test_several_crops_are_one_request_that_the_server_must_let_in_and_their_answers_are_averaged(
    system,
):
    answer = np.linspace(0, 1, 140, dtype=np.float32).reshape(10, 14)
    ten_crops = "imagenet-224-tencrop"
    with NaiveServer(datatype="FP32") as server:
        submit(system, endpoint(server.address, profile=ten_crops))
        failure = run(system).failure
        assert (failure.reason, server.times) == ("ENDPOINT_REFUSED", [])
        assert "message larger than max" in failure.message
    with NaiveServer(datatype="FP32", mood=lambda _: answer, largest_bytes=8 << 20) as server:
        submitted = submit(system, endpoint(server.address, profile=ten_crops))
        lease = system.registry.lease_evaluation("looks", ["small"])
        rows = dict(
            endpoints.EndpointSource(
                lease, system.data["small"] / "images", allow_private=True
            ).rows(IMAGES)
        )
    assert server.shapes == [(10, 3, 224, 224)] * len(IMAGES)
    assert list(rows) == IMAGES
    np.testing.assert_allclose(rows[IMAGES[0]], answer.mean(axis=0), rtol=1e-6)
    system.registry.cancel(submitted.name, "seen enough")


def test_a_certificate_counts_only_if_an_authority_that_the_worker_trusts_signed_it(
    system, tmp_path, monkeypatch
):
    files = make_certificates(tmp_path)
    with NaiveServer(
        TOKEN, certificate=(tmp_path / "server.key", tmp_path / "server.pem")
    ) as server:
        address = server.address.replace("127.0.0.1", "localhost")
        submitted = submit(system, endpoint(address, tls=True), TOKEN)
        refused = run(system)
        assert (refused.failure.reason, server.times) == ("ENDPOINT_UNAVAILABLE", [])
        system.registry.retry(submitted.name, "the worker's authorities are complete now")
        monkeypatch.setenv(
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", str(files.ca)
        )  # gRPC reads it once per process
        worked = command(
            "worker", *system.addresses(), "--data", f"small={system.data['small']}",
            "--once", "--json", "--allow-private-endpoints",
        )  # fmt: skip
    found = json.loads(worked.stdout)
    assert (found["status"], found["provenance"]["endpoint_tls"]) == ("succeeded", "true"), (
        worked.stderr
    )


def test_a_worker_calls_no_private_address_unless_allowed(system):
    with NaiveServer() as server:
        submit(system, endpoint(server.address))
        failure = run(system, allow_private=False).failure
        assert server.times == []
    assert failure.reason == "ENDPOINT_REFUSED"
    assert "is not in the public network" in failure.message


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254",
     "100.64.0.1", "0.0.0.0", "224.0.0.1", "[::1]", "[fe80::1]", "[fc00::1]",
     "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[64:ff9b:1::7f00:1]",
     "[::7f00:1]", "[::ffff:0:7f00:1]", "[fec0::1]", "168.63.129.16", "0177.0.0.1", "2130706433"],
)  # fmt: skip
def test_no_spelling_of_a_private_address_is_public(host):
    with pytest.raises((EndpointRefused, EndpointUnavailable)):
        endpoints.resolve(f"{host}:443", allow_private=False)


def test_a_public_address_is_connected_to_as_it_was_resolved():
    assert endpoints.resolve("8.8.8.8:443", allow_private=False) == ("ipv4:8.8.8.8:443", False)
    assert endpoints.resolve("[2606:4700::1]:443", allow_private=False) == (
        "ipv6:[2606:4700::1]:443",
        False,
    )


def test_a_token_stays_out_of_everything_but_the_lease(system):
    with NaiveServer(TOKEN) as server:
        submitted = submit(system, endpoint(server.address), TOKEN)
        lease = system.registry.lease_evaluation("curious", ["small"])
        assert lease.endpoint_token == TOKEN
        assert TOKEN not in repr(lease)
        events = list(system.registry.submission_events(submitted.name))
        evaluations = list(system.registry.list_evaluations(submitted.name))
        assert TOKEN not in repr(
            (submitted, events, evaluations, list(system.registry.audit_chain()))
        )
    system.registry.cancel(submitted.name, "seen enough")
    written = [
        file
        for file in system.directory.rglob("*")
        if file.is_file() and "images" not in file.parts
    ]
    assert {"registry.db", "registry.log"} <= {file.name for file in written}
    assert [file for file in written if TOKEN.encode() in file.read_bytes()] == []
    assert (system.directory / "token-key").stat().st_mode & 0o777 == 0o600


def test_a_token_is_not_sent_in_plain_text_through_the_public_network(system, monkeypatch):
    monkeypatch.setattr(endpoints, "resolve", lambda *_, **__: ("ipv4:192.0.2.1:443", False))
    submit(system, endpoint("models.example.org:443"), TOKEN)
    failure = run(system).failure
    assert (failure.reason, failure.fault) == ("ENDPOINT_REFUSED", Fault.SUBMISSION)
    assert failure.message == "the token is not sent in plain text; set endpoint.tls to true"


def test_an_endpoint_is_not_run_on_one_image(system, tmp_path):
    submitted = submit(system, endpoint("models.example.org:443"))
    (tmp_path / "image.png").write_bytes(png(32, 32, seed=0))
    ended = command("predict", submitted.name, str(tmp_path / "image.png"), *system.addresses()[:4])
    assert (
        ended.returncode,
        "is of kind endpoint; expected an ONNX checkpoint" in ended.stderr,
    ) == (1, True)
    system.registry.cancel(submitted.name, "done")


def test_a_token_that_does_not_belong_is_refused_without_being_repeated(system):
    for declared, token in ((claim(), TOKEN), (endpoint("host.example.org:1"), f"{TOKEN} {TOKEN}")):
        with pytest.raises(MalformedField) as caught:
            submit(system, declared, token)
        assert caught.value.metadata["field"] == "endpoint_token"
        assert TOKEN not in caught.value.message
    before = system.registry.create_submission(
        "small", endpoint("host.example.org:1"), "123e4567-e89b-12d3-a456-426614174000", TOKEN
    )
    again = ("small", endpoint("host.example.org:1"), "123e4567-e89b-12d3-a456-426614174000")
    assert system.registry.create_submission(*again, TOKEN).name == before.name
    with pytest.raises(RequestIdReused):
        system.registry.create_submission(*again, "another")
    system.registry.cancel(before.name, "done")


def test_from_the_command_line_the_token_comes_from_a_file(system, tmp_path):
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    with NaiveServer(TOKEN) as server:
        text = (
            template(Kind.ENDPOINT, load_spec("nih-chestxray14"))
            .replace("models.example.org:443", server.address)
            .replace("tls: true", "tls: false")
        )
        (tmp_path / "manifest.yaml").write_text(text)
        registry = ("--registry", system.registry_service.address)
        submitted = json_of(
            "submit", str(tmp_path / "manifest.yaml"), "--benchmark", "small", *registry,
            "--token-file", str(tmp_path / "token"),
        )  # fmt: skip
        worked = command(
            "worker", *system.addresses(), "--data", f"small={system.data['small']}",
            "--once", "--json", "--allow-private-endpoints",
        )  # fmt: skip
    assert json.loads(worked.stdout)["status"] == "succeeded", worked.stderr
    assert system.registry.get_submission(submitted["name"]).status is SubmissionStatus.PUBLISHED
    assert TOKEN not in worked.stdout + worked.stderr
