"""Keys, roles and certificates: who is admitted, who is refused, and with which errors."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from alembic import command
from click.testing import Result
from prometheus_client import CollectorRegistry
from sqlalchemy import select, update
from typer.testing import CliRunner

from cxreval.api.registry.v1 import (
    artifact_service_pb2,
    benchmark_service_pb2,
    benchmark_service_pb2_grpc,
    lifecycle_service_pb2,
    lifecycle_service_pb2_grpc,
    submission_pb2,
)
from cxreval.audit.receipts import Signer
from cxreval.cli.app import app
from cxreval.client import ApiKey, Quota, Role, WorkerClient
from cxreval.errors import (
    ApiKeyExists,
    ArtifactNotFound,
    CxrevalError,
    KeyMissing,
    KeyNeedsTls,
    KeyRevoked,
    KeyUnknown,
    KeyUnreadable,
    MalformedField,
    OrganisationExists,
    RoleRequired,
)
from cxreval.resource_names import ArtifactName, BenchmarkName, OrganisationName, SubmissionName
from cxreval.wire.channel import is_loopback
from cxreval.wire.status import from_rpc_error
from services.chassis import principal
from services.chassis.config import ConfigError
from services.registry import migrations
from services.registry.__main__ import migrate, now
from services.registry.config import RegistryConfig
from services.registry.convert.submissions import checked_manifest
from services.registry.domain import access
from services.registry.servicers.artifacts import ArtifactServicer
from services.registry.store.artifacts import UploadKey
from services.registry.store.benchmarks import Benchmarks
from services.registry.store.database import Database
from services.registry.store.evaluations import Evaluations
from services.registry.store.local_artifacts import LocalArtifacts
from services.registry.store.models import SubmissionRow
from services.registry.store.organisations import Organisations
from services.registry.store.parts import Parts
from services.registry.store.submissions import Submissions
from services.registry.uploads import Uploads
from tests.support.access import ClosedRegistry, operator_key
from tests.support.certificates import make_certificates, server_flags
from tests.support.processes import REPOSITORY
from tests.support.registry import (
    DATABASES,
    Registry,
    fresh_database,
    manifest_message,
    registry_service,
    small_spec,
    sqlite_url,
    upload_messages,
)  # fmt: skip

SPEC = small_spec("small")


@pytest.fixture(scope="module", params=DATABASES)
def closed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ClosedRegistry]:
    with ClosedRegistry(tmp_path_factory.mktemp("access"), request.param) as running:
        running.operator.create_benchmark(SPEC)
        yield running


def field_error(call: Callable[[], object]) -> tuple[grpc.StatusCode, CxrevalError]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert "Traceback" not in str(caught.value.details())
    return caught.value.code(), from_rpc_error(caught.value)


def ask(channel: grpc.Channel, *metadata: tuple[str, str]) -> object:
    stub = benchmark_service_pb2_grpc.BenchmarkServiceStub(channel)
    return stub.ListBenchmarks(
        benchmark_service_pb2.ListBenchmarksRequest(), metadata=metadata, timeout=20
    )


def test_keys_that_are_none_are_refused_by_one_and_the_same_answer(closed: ClosedRegistry) -> None:
    good = closed.keys["acme/submitter"]
    identifier, secret = good.split("_")[1:]
    other = "0" if secret[0] != "0" else "1"
    wrong = {
        "unknown identifier": f"cxr_{'0' * 16}_{secret}",
        "wrong secret": f"cxr_{identifier}_{other}{secret[1:]}",
        "no secret": f"cxr_{identifier}_",
        "cut": good[:-1],
        "longer": f"{good}0",
        "of another's identifier": f"cxr_{closed.keys['rival/submitter'].split('_')[1]}_{secret}",
        "injection": "cxr_' OR 1=1 --",
        "huge": "cxr_" + "a" * 5000,
    }
    answers = {}
    for name, text in wrong.items():
        code, error = field_error(
            lambda text=text: ask(closed.channel(), ("authorization", f"Bearer {text}"))
        )
        answers[name] = (code, error.reason, error.message, tuple(error.metadata.items()))
        assert secret not in str(answers[name])
    assert len(set(answers.values())) == 1, answers
    assert answers["cut"][:2] == (grpc.StatusCode.UNAUTHENTICATED, "KEY_UNKNOWN")


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ((), "KEY_MISSING"),
        ((("authorization", ""),), "KEY_UNKNOWN"),
        ((("authorization", "Basic Zm9vOmJhcg=="),), "KEY_UNKNOWN"),
        ((("authorization", "bearer x"),), "KEY_UNKNOWN"),
        ((("authorization", "Bearer x"), ("authorization", "Bearer y")), "KEY_UNKNOWN"),
    ],
)
def test_calls_without_a_key_are_refused_by_name(
    closed: ClosedRegistry, headers: tuple[tuple[str, str], ...], reason: str
) -> None:
    code, error = field_error(lambda: ask(closed.channel(), *headers))
    assert (code, error.reason) == (grpc.StatusCode.UNAUTHENTICATED, reason)


def test_a_role_too_little_is_named_with_those_that_would_do(closed: ClosedRegistry) -> None:
    for who in ("acme/viewer", "acme/submitter", "worker"):
        with pytest.raises(RoleRequired, match="expected one of the roles operator") as caught:
            closed.client(who).create_organisation("more", "More", Quota())
        assert caught.value.metadata["expected"] == "operator"
    with pytest.raises(RoleRequired, match="expected one of the roles worker"):
        closed.client("acme/submitter").lease_evaluation("me", [SPEC.name])
    with pytest.raises(RoleRequired):
        closed.client("operator").lease_evaluation("me", [SPEC.name])
    assert [item.organisation for item in closed.operator.list_organisations()] == [
        "operators",
        "acme",
        "rival",
    ]


def test_an_organisation_that_many_create_at_once_is_created_once(closed: ClosedRegistry) -> None:
    def create(number: int) -> str:
        try:
            return closed.operator.create_organisation(
                "many", f"Many {number % 2}", Quota()
            ).display_name
        except OrganisationExists as error:
            return error.reason

    for _ in range(2):  # again is harmless
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(create, range(16)))
        shown = next(
            item.display_name
            for item in closed.operator.list_organisations()
            if item.organisation == "many"
        )
        assert sorted(answers) == sorted([shown] * 8 + ["ORGANISATION_EXISTS"] * 8)
    assert [event.target for event in closed.operator.admin_events()].count(
        "organisations/many"
    ) == 1


def test_a_request_for_a_key_that_comes_again_makes_no_second_one(closed: ClosedRegistry) -> None:
    asked = str(uuid.uuid4())
    key, text = closed.operator.create_key("acme", Role.VIEWER, request_id=asked)
    before = list(closed.operator.list_keys("acme"))
    for role in (Role.VIEWER, Role.SUBMITTER):
        with pytest.raises(
            ApiKeyExists, match=f"{key.name} was created by this request before"
        ) as caught:
            closed.operator.create_key("acme", role, request_id=asked)
        assert text.split("_")[2] not in str(caught.value.metadata)
    assert list(closed.operator.list_keys("acme")) == before
    assert closed.operator.create_key("rival", Role.VIEWER, request_id=asked)[0].name != key.name
    with pytest.raises(MalformedField, match="request_id"):
        closed.operator.create_key("acme", Role.VIEWER, request_id="7")
    assert ask(closed.channel(text))


def test_an_expired_key_says_so_to_its_holder_only(closed: ClosedRegistry) -> None:
    key, text = closed.operator.create_key("acme", Role.VIEWER, timedelta(seconds=1))
    time.sleep(1.1)
    code, error = field_error(lambda: ask(closed.channel(text)))
    assert (code, error.reason) == (grpc.StatusCode.UNAUTHENTICATED, "KEY_EXPIRED")
    assert error.metadata["name"] == key.name
    guessed = text[:-1] + ("0" if text[-1] != "0" else "1")
    assert field_error(lambda: ask(closed.channel(guessed)))[1].reason == "KEY_UNKNOWN"


def test_a_revoked_key_opens_nothing_within_five_seconds_and_is_recorded(
    closed: ClosedRegistry,
) -> None:
    key, text = closed.operator.create_key("acme", Role.VIEWER)
    with WorkerClient(closed.service.address, key=ApiKey(text)) as client:
        assert list(client.list_benchmarks())
        closed.operator.revoke_key(key.name)
        revoked = time.monotonic()
        with pytest.raises(KeyRevoked):
            while_good(lambda: list(client.list_benchmarks()), revoked + 5)
    closed.operator.revoke_key(key.name)  # again is harmless
    shown = {item.name: item for item in closed.operator.list_keys("acme")}
    assert shown[key.name].revoke_time is not None
    assert [(event.action, event.target) for event in closed.operator.admin_events()][:2] == [
        ("key_revoked", key.name),
        ("key_created", f"{key.name} (viewer)"),
    ]
    assert closed.operator.admin_events()[0].actor.startswith("organisations/operators/keys/")


def test_a_stream_ends_when_its_key_is_revoked(closed: ClosedRegistry) -> None:
    key, text = closed.operator.create_key("acme", Role.SUBMITTER)
    with Registry(closed.service.address, ApiKey(text)) as call:
        name = call.create_submission(SPEC.name, b"watched").name
        stub = lifecycle_service_pb2_grpc.LifecycleServiceStub(call.channel)
        watching = stub.WatchSubmission(
            lifecycle_service_pb2.WatchSubmissionRequest(name=name), timeout=30
        )
        assert next(watching).name == name
        closed.operator.revoke_key(key.name)
        revoked = time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:
            next(watching)  # without an event to send
        assert from_rpc_error(caught.value).reason == "KEY_REVOKED"
        assert time.monotonic() - revoked < 5


def test_an_upload_ends_when_its_key_is_revoked_and_another_key_resumes_it(
    closed: ClosedRegistry,
) -> None:
    key, text = closed.operator.create_key("acme", Role.SUBMITTER)
    artifact, revoked, over = b"uploaded" * 100, threading.Event(), threading.Event()

    def messages(name: str) -> Iterator[artifact_service_pb2.UploadArtifactRequest]:
        yield from itertools.islice(upload_messages(name, artifact, chunk_bytes=400), 2)
        time.sleep(0.2)
        closed.operator.revoke_key(key.name)
        revoked.set()
        over.wait(20)  # keeps the stream open without sending

    with Registry(closed.service.address, ApiKey(text)) as call:
        name = call.create_submission(SPEC.name, artifact).name
        uploading = call.artifacts.UploadArtifact.future(messages(name), timeout=30)
        assert revoked.wait(10)
        began = time.monotonic()
        error = from_rpc_error(uploading.exception())
        over.set()
        assert error.reason == "KEY_REVOKED"
        assert time.monotonic() - began < 5
    mine = closed.stubs("acme/submitter")
    assert (
        mine.artifacts.GetUpload(
            artifact_service_pb2.GetUploadRequest(submission=name)
        ).received_bytes
        == 400
    )
    done = mine.artifacts.UploadArtifact(upload_messages(name, artifact, offset=400))
    assert done.submission.state == submission_pb2.Submission.STATE_QUEUED
    closed.operator.cancel(name, "clean")


@pytest.mark.parametrize("kind", DATABASES)
def test_a_key_that_is_revoked_while_an_artifact_is_stored_queues_nothing(
    kind: str, tmp_path: Path
) -> None:
    database, signer = (
        Database(fresh_database(kind, tmp_path)),
        Signer.from_file(tmp_path / "signing-key.pem"),
    )
    migrate(database, signer)
    Benchmarks(database, now).create(SPEC)
    Organisations(database, now).create(OrganisationName("acme"), "Acme", access.Quota(), "test")
    submissions, store = Submissions(database, now, signer), LocalArtifacts(tmp_path / "artifacts")
    evaluations = Evaluations(database, now, signer, lease_seconds=60, max_attempts=1)
    servicer = ArtifactServicer(
        submissions, Parts(database, now), evaluations, Uploads(store), CollectorRegistry()
    )
    manifest = checked_manifest(manifest_message(b"bytes"), SPEC, now().date())
    submitter = principal.Principal(
        "organisations/acme/keys/0", frozenset({Role.SUBMITTER}), "acme"
    )
    found = submissions.create(BenchmarkName(SPEC.name), manifest, "", submitter)
    name = SubmissionName(SPEC.name, found.id)

    async def revoked() -> None:
        raise KeyRevoked("revoked", name="organisations/acme/keys/0")

    async def messages() -> AsyncIterator[artifact_service_pb2.UploadArtifactRequest]:
        for message in upload_messages(str(name), b"bytes"):
            yield message

    async def upload() -> None:
        principal.enter(submitter)
        principal.enter_stream(revoked, "acme")
        await servicer.UploadArtifact(messages(), None)

    with pytest.raises(KeyRevoked):
        asyncio.run(upload())
    assert submissions.get(name, submitter).state == "awaiting_artifact"
    with pytest.raises(ArtifactNotFound):
        submissions.check_artifact(ArtifactName(manifest.artifact_sha256), principal.EVERYBODY)
    assert store.received(UploadKey(found.id, manifest.artifact_sha256)) == 5
    database.close()


@pytest.mark.parametrize("kind", DATABASES)
def test_the_way_back_forgets_organisations_and_loses_no_submission(
    kind: str, tmp_path: Path
) -> None:
    url = fresh_database(kind, tmp_path)
    operator_key(tmp_path, url)
    database = Database(url)
    Organisations(database, now).create(OrganisationName("acme"), "Acme", access.Quota(), "test")
    with database.writing() as session:
        session.execute(update(SubmissionRow).values(organisation="acme"))
    for revision in ("0004", "head"):
        config = migrations._config()
        with database.engine.begin() as connection:
            config.attributes["connection"] = connection
            (command.upgrade if revision == "head" else command.downgrade)(config, revision)
    assert database.submissions_by_state()["published"] == 4
    with database.reading() as session:
        assert set(session.scalars(select(SubmissionRow.organisation))) == {None}
    database.close()


def while_good(call: Callable[[], object], until: float) -> None:
    while time.monotonic() < until:
        call()
        time.sleep(0.05)


def test_no_secret_is_stored_or_logged(closed: ClosedRegistry) -> None:
    stored = b"".join(file.read_bytes() for file in closed.directory.iterdir() if file.is_file())
    for text in closed.keys.values():
        assert text.split("_")[2].encode() not in stored


def test_the_access_log_names_the_caller(closed: ClosedRegistry) -> None:
    list(closed.client("acme/viewer").list_benchmarks())
    identifier = closed.keys["acme/viewer"].split("_")[1]
    assert f'"principal": "organisations/acme/keys/{identifier}"' in closed.service.log.read_text()


def test_secrets_are_compared_in_constant_time_and_unknown_keys_cost_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, digest, text = access.new_key()
    secret = access.parts(text)[1]
    compared: list[tuple[str, str]] = []
    real = access.hmac.compare_digest
    monkeypatch.setattr(
        access.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or real(a, b)
    )
    assert access.matches(digest, secret)
    assert not access.matches(digest, "0" * 64)
    assert not access.matches(None, secret)
    # Each time one comparison of two digests of equal length, whether the key exists or not.
    assert [(len(stored), len(found)) for stored, found in compared] == [(64, 64)] * 3

    def seconds(stored: str | None, guess: str) -> float:
        return min(_timed(lambda: access.matches(stored, guess)) for _ in range(30))

    near, far, unknown = (
        seconds(digest, secret[:-1] + "x"),
        seconds(digest, "x" * 64),
        seconds(None, secret),
    )
    # A wide tolerance, because 200 comparisons take well under a millisecond.
    assert max(near, far, unknown) < 5 * min(near, far, unknown)


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    for _ in range(200):
        call()
    return time.perf_counter() - began


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:1", "[::]:1", "registry:1", "192.0.2.1:1", "localhost.example.org:1"]
)
def test_a_registry_with_open_access_listens_on_loopback_only(listen: str) -> None:
    with pytest.raises(ConfigError, match="access"):
        RegistryConfig(access="open", listen=listen)
    RegistryConfig(listen=listen)
    for loopback in ("127.0.0.1:1", "localhost:1", "[::1]:1", "127.8.9.1:1"):
        RegistryConfig(access="open", listen=loopback)


@pytest.mark.parametrize(
    ("target", "here"),
    [
        ("localhost:1", True), ("127.0.0.1:1", True), ("[::1]:1", True),
        ("dns:///localhost:1", True),
        ("unix:/run/registry", True), ("registry:1", False), ("dns:///registry:1", False),
        ("10.0.0.1:1", False),
        ("localhost.example.org:1", False), ("dns://8.8.8.8/localhost:1", False),
        ("ipv4:127.0.0.1:1,10.0.0.1:1", False),
    ],
)  # fmt: skip
def test_a_key_is_not_sent_in_plain_text_to_another_machine(target: str, here: bool) -> None:
    assert is_loopback(target) is here
    key = ApiKey("cxr_0_0")
    assert "cxr_" not in repr(key)
    if here:
        WorkerClient(target, key=key).close()
    else:
        with pytest.raises(KeyNeedsTls):
            WorkerClient(target, key=key)
        WorkerClient(target, key=ApiKey("cxr_0_0", trust_network=True)).close()


def test_a_key_in_plain_text_goes_through_no_proxy(
    closed: ClosedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.setblocking(False)
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.delenv("no_proxy", raising=False)
        port = closed.service.address.rpartition(":")[2]
        with WorkerClient(f"localhost:{port}", key=ApiKey(closed.keys["operator"])) as client:
            assert list(client.list_organisations())
        with pytest.raises(BlockingIOError):
            proxy.accept()


def test_a_listed_certificate_is_a_worker_and_another_is_anonymous(tmp_path: Path) -> None:
    known = make_certificates(tmp_path)
    for name, reason in (("client", None), ("somebody-else", KeyMissing)):
        flags = [*server_flags(tmp_path), "--access=keys", f"--worker-certificates={name}"]
        service = registry_service(tmp_path, *flags, tls=known)
        with service, WorkerClient(service.address, known) as client:
            if reason is None:
                assert client.lease_evaluation("me", ["nih-chestxray14"]) is None
                with pytest.raises(
                    RoleRequired, match="certificates/client may not call CreateBenchmark"
                ):
                    client.create_benchmark(SPEC)
            else:
                with pytest.raises(reason):
                    client.lease_evaluation("me", ["nih-chestxray14"])


def test_a_public_board_is_read_without_a_key_and_nothing_else_is(tmp_path: Path) -> None:
    with ClosedRegistry(tmp_path, "sqlite", "--public-board=true") as running:
        nobody = running.client()
        assert len(list(nobody.leaderboard("nih-chestxray14"))) == 4
        with pytest.raises(KeyMissing):
            nobody.create_benchmark(SPEC)
        with pytest.raises(KeyMissing):
            nobody.quota()
        with pytest.raises(KeyMissing):
            list(nobody.download_artifact("0" * 64))
        # A malformed key is not an anonymous call.
        with (
            pytest.raises(KeyUnknown),
            WorkerClient(running.service.address, key=ApiKey("cxr_0_0")) as client,
        ):
            list(client.leaderboard("nih-chestxray14"))


def test_the_first_operators_key_is_made_where_the_database_is(tmp_path: Path) -> None:
    flags = [f"--database-url={sqlite_url(tmp_path)}", f"--signing-key={tmp_path / 'key.pem'}"]
    flags.append(f"--token-key={tmp_path / 'token-key'}")
    command = [sys.executable, "-m", "services.registry", "create-operator-key", *flags]
    ended = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60
    )
    database = Database(sqlite_url(tmp_path))
    key = Organisations(database, now).key_of(ended.stdout.strip())
    database.close()
    assert (key.organisation, key.role) == ("operators", "operator")


def test_an_operator_manages_organisations_and_keys_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ClosedRegistry(tmp_path) as closed:
        file = tmp_path / "operator-key"
        file.write_text(f"{closed.keys['operator']}\n")
        monkeypatch.setenv("CXREVAL_CLIENT_REGISTRY", closed.service.address)
        monkeypatch.setenv("CXREVAL_CLIENT_KEY_FILE", str(file))
        monkeypatch.setenv("COLUMNS", "100")

        made = run(
            "admin",
            "organisation",
            "create",
            "lab",
            "--display-name",
            "[red]Lab",
            "--concurrent",
            "2",
        )
        assert "[red]Lab" in made.output
        run("admin", "organisation", "update", "lab", "--stored-bytes", "1000")
        listed = json.loads(run("admin", "organisation", "list", "--json").stdout)
        assert listed[-1]["quota"] == {
            "submissions_per_day": None,
            "concurrent": 2,
            "stored_bytes": 1000,
        }
        text = run(
            "admin", "key", "create", "lab", "--role", "viewer", "--lifetime", "90d"
        ).stdout.strip()
        assert json.loads(run("admin", "key", "create", "lab", "--json").stdout)["text"].startswith(
            "cxr_"
        )
        name = f"organisations/lab/keys/{text.split('_')[1]}"
        listed = run("admin", "key", "list", "lab", "--json").stdout
        assert (name in listed, text in listed, text.split("_")[2] in listed) == (
            True,
            False,
            False,
        )
        assert "key_created" in run("admin", "events").stdout
        for wrong in ("soon", "0d", "1y"):
            with pytest.raises(MalformedField, match="lifetime"):
                run("admin", "key", "create", "lab", "--lifetime", wrong)

        monkeypatch.delenv("CXREVAL_CLIENT_KEY_FILE")
        monkeypatch.setenv("CXREVAL_CLIENT_KEY", text)
        assert "1000" in run("quota").stdout
        with pytest.raises(RoleRequired):
            run("admin", "key", "revoke", name)
        monkeypatch.setenv("CXREVAL_CLIENT_KEY", "hunter2")
        with pytest.raises(
            KeyUnreadable, match="CXREVAL_CLIENT_KEY does not hold an API key"
        ) as caught:
            run("quota")
        assert "hunter2" not in str(caught.value)


def run(*arguments: str) -> Result:
    """Runs `cxreval` in this process, which is much faster than a process per command."""
    result = CliRunner().invoke(app, arguments)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result
