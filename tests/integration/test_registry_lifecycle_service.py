"""The life cycle of submissions over gRPC and on the command line: watch, change, audit."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from cxreval.api.registry.v1 import (
    evaluation_service_pb2,
    lifecycle_service_pb2_grpc,
    submission_pb2,
)
from cxreval.api.registry.v1 import lifecycle_service_pb2 as pb
from cxreval.audit.chain import Head
from cxreval.client import Board, RegistryClient, SubmissionStatus, verification
from cxreval.client.verification import Verification
from cxreval.errors import AuditMismatch, UnknownRpc
from cxreval.wire.status import from_rpc_error
from tests.support.processes import REPOSITORY
from tests.support.registry import (
    DATABASES,
    Registry,
    migrated_database,
    registry_service,
    report_message,
    small_spec,
    upload_messages,
)
from tests.support.system import claim

SPEC = small_spec("small")
State = submission_pb2.Submission


class Running:
    """A registry of its own, its stubs, its client and the command line."""

    def __init__(self, directory: Path, kind: str = "sqlite") -> None:
        self.directory = directory
        self.service = registry_service(directory, database_url=migrated_database(kind, directory))
        self.service.start()
        self.call = Registry(self.service.address)
        self.lifecycle: Any = lifecycle_service_pb2_grpc.LifecycleServiceStub(self.call.channel)
        self.call.create_benchmark(SPEC)

    def close(self) -> None:
        self.call.channel.close()
        self.service.stop()

    def published(self, model: str = "Model") -> str:
        name = self.call.submit(SPEC.name, b"model", model=model).name
        self.complete(self.call.lease(SPEC.name))
        return name

    def complete(self, lease: evaluation_service_pb2.Lease) -> None:
        self.call.complete(lease, report_message(SPEC))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cxreval.cli.app", *arguments]
        environment = os.environ | {
            "COLUMNS": "80",
            "CXREVAL_CLIENT_REGISTRY": self.service.address,
        }
        return subprocess.run(
            command,
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def printed(self, *arguments: str) -> str:
        ended = self.run(*arguments)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout


@pytest.fixture(scope="module", params=DATABASES)
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    found = Running(tmp_path_factory.mktemp("lifecycle"), request.param)
    yield found
    found.close()


def field_error(call: Callable[[], object]) -> tuple[grpc.StatusCode, str, str | None]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error = from_rpc_error(caught.value)
    return caught.value.code(), error.reason, error.metadata.get("field")


def test_watcher_receives_every_state_as_it_happens(running: Running) -> None:
    name = running.call.create_submission(SPEC.name, b"watched").name
    seen: list[SubmissionStatus] = []
    ready = threading.Event()

    def watch() -> None:
        with RegistryClient(running.service.address) as client:
            for submission in client.watch(name):
                if submission.status not in seen:
                    seen.append(submission.status)
                    ready.set()

    def upload() -> None:
        running.call.artifacts.UploadArtifact(upload_messages(name, b"watched"))

    thread = threading.Thread(target=watch)
    thread.start()
    leases: list[evaluation_service_pb2.Lease] = []
    for step in (
        lambda: None,
        upload,
        lambda: leases.append(running.call.lease(SPEC.name)),
        lambda: running.complete(leases[0]),
    ):
        step()
        assert ready.wait(10), seen
        ready.clear()
    thread.join(10)
    assert seen == ["awaiting_artifact", "queued", "running", "published"]


def test_watching_an_unknown_submission_is_refused_and_an_ended_one_is_sent_once(
    running: Running,
) -> None:
    name = running.published()
    assert [
        item.state
        for item in running.lifecycle.WatchSubmission(pb.WatchSubmissionRequest(name=name))
    ] == [State.STATE_PUBLISHED]
    unknown = pb.WatchSubmissionRequest(name="benchmarks/small/submissions/" + "0" * 32)
    assert (
        field_error(lambda: list(running.lifecycle.WatchSubmission(unknown)))[1]
        == "SUBMISSION_NOT_FOUND"
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"reason": ""}, (grpc.StatusCode.INVALID_ARGUMENT, "MISSING_FIELD", "reason")),
        ({"reason": "x" * 1001}, (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_FIELD", "reason")),
        ({"reason": "a\0b"}, (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_FIELD", "reason")),
        ({"etag": "-1"}, (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_FIELD", "etag")),
        ({"etag": "999"}, (grpc.StatusCode.ABORTED, "STALE_ETAG", "etag")),
        ({"request_id": "x"}, (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_FIELD", "request_id")),
        (
            {"name": "benchmarks/small/submissions/../x"},
            (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_FIELD", "name"),
        ),
        (
            {"name": "benchmarks/small/submissions/" + "0" * 32},
            (grpc.StatusCode.NOT_FOUND, "SUBMISSION_NOT_FOUND", None),
        ),
        (
            {"name": "benchmarks/other/submissions/" + "0" * 32},
            (grpc.StatusCode.NOT_FOUND, "SUBMISSION_NOT_FOUND", None),
        ),
    ],
)
def test_malformed_change_is_refused_and_leaves_no_event(
    running: Running, changes: dict[str, str], expected: tuple[object, ...]
) -> None:
    name = running.published()
    history = running.lifecycle.ListSubmissionEvents(pb.ListSubmissionEventsRequest(parent=name))
    request = pb.WithdrawSubmissionRequest(**{"name": name, "reason": "because", **changes})
    assert field_error(lambda: running.lifecycle.WithdrawSubmission(request)) == expected
    assert (
        running.lifecycle.ListSubmissionEvents(pb.ListSubmissionEventsRequest(parent=name))
        == history
    )


def test_change_that_the_state_forbids_is_refused(running: Running) -> None:
    name = running.published()
    code = (grpc.StatusCode.FAILED_PRECONDITION, "SUBMISSION_STATE", "name")
    for method, request in (
        ("CancelSubmission", pb.CancelSubmissionRequest),
        ("RetrySubmission", pb.RetrySubmissionRequest),
        ("ReinstateSubmission", pb.ReinstateSubmissionRequest),
        ("ResolveDispute", pb.ResolveDisputeRequest),
    ):
        rpc = getattr(running.lifecycle, method)
        assert (
            field_error(lambda rpc=rpc, request=request: rpc(request(name=name, reason="because")))
            == code
        )


@pytest.mark.parametrize(
    ("correction", "reason", "field"),
    [
        ({}, "MISSING_FIELD", "correction"),
        ({"model": ""}, "MISSING_FIELD", "correction.model"),
        ({"model": "x" * 101}, "MALFORMED_FIELD", "correction.model"),
        ({"source_url": "javascript:alert(1)"}, "MALFORMED_FIELD", "correction.source_url"),
    ],
)
def test_malformed_correction_is_refused(
    running: Running, correction: dict[str, str], reason: str, field: str
) -> None:
    name = running.published()
    request = pb.CorrectSubmissionRequest(
        name=name, reason="typo", correction=pb.Correction(**correction)
    )
    code = grpc.StatusCode.INVALID_ARGUMENT
    assert field_error(lambda: running.lifecycle.CorrectSubmission(request)) == (
        code,
        reason,
        field,
    )


def test_successor_must_be_another_row_of_the_board(running: Running) -> None:
    name, draft = running.published(), running.call.create_submission(SPEC.name, b"draft").name
    for successor, reason in (
        (name, "MALFORMED_FIELD"),
        (draft, "SUBMISSION_STATE"),
        ("x", "MALFORMED_FIELD"),
    ):
        request = pb.SupersedeSubmissionRequest(name=name, reason="newer", successor=successor)
        found = field_error(lambda request=request: running.lifecycle.SupersedeSubmission(request))
        assert found[1:] == (reason, "successor")


def test_person_disputes_corrects_supersedes_and_reads_the_history(running: Running) -> None:
    first, second = running.published("First [bold]"), running.published("Second")

    running.printed("submission", "dispute", first, "--reason", "trained on the test split")
    assert "First [bold]: disputed" in running.printed("leaderboard", "--benchmark", SPEC.name)
    running.printed("submission", "resolve", first, "--reason", "it was not")
    running.printed(
        "submission", "correct", first, "--reason", "typo", "--model", "Right", "--no-open-source"
    )
    running.printed("submission", "supersede", first, second, "--reason", "a better one")

    found = json.loads(running.printed("submission", "history", first, "--json"))
    assert [event["change"] for event in found][-4:] == [
        "disputed",
        "resolved",
        "corrected",
        "superseded",
    ]
    assert found[-2]["details"]["model"] == "Right"
    shown = running.printed("submission", "history", first)
    assert "trained on the test split" in shown.replace("\n", " ") or "trained on" in shown
    status = json.loads(running.printed("status", first, "--json"))
    assert (status["status"], status["superseded_by"], status["manifest"]["model"]) == (
        "superseded",
        second,
        "Right",
    )
    assert running.run("submission", "cancel", first, "--reason", "x").returncode == 1


def test_audit_holds_offline_and_online_until_a_byte_is_changed(tmp_path: Path) -> None:
    running = Running(tmp_path)
    try:
        name = running.published()
        found = json.loads(running.printed("audit", "verify", "--json"))
        assert found["events"] == found["head"]["place"] > 4
        assert found["receipts"] == 5  # the four seeded claims, and this row
        kept = f"{found['head']['place']}:{found['head']['digest']}"
        receipt, key = tmp_path / "receipt.json", tmp_path / "public.pem"
        running.printed("audit", "receipt", name, str(receipt))
        key.write_text(running.printed("audit", "public-key"))
        assert (
            json.loads(
                running.printed("audit", "verify-receipt", str(receipt), "--public-key", str(key))
            )["submission"]
            == name
        )
        running.printed("submission", "withdraw", name, "--reason", "a mistake")
        running.printed("audit", "verify", "--since", kept, "--public-key", str(key))

        with sqlite3.connect(tmp_path / "registry.db") as database:
            database.execute(
                "UPDATE receipts SET payload = CAST(replace(payload, 'small', 'smell') AS BLOB)"
            )
        ended = running.run("audit", "verify")
        assert (ended.returncode, "RECEIPT_INVALID" in ended.stderr) == (1, True)
        with sqlite3.connect(tmp_path / "registry.db") as database:
            database.execute("UPDATE events SET reason = 'A mistake' WHERE reason = 'a mistake'")
        ended = running.run("audit", "verify")
        assert (ended.returncode, "AUDIT_MISMATCH" in ended.stderr) == (1, True)
    finally:
        running.close()


@contextmanager
def without(rpc: str, address: str) -> Iterator[str]:
    """Yields the address of a server that forwards each call but of one rpc, which it lacks."""

    class Forwarded(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
            if details.method.endswith(f"/{rpc}"):
                return None
            forward = channel.unary_stream(details.method)
            return grpc.unary_stream_rpc_method_handler(
                lambda request, _context: forward(request, timeout=30)
            )

    server = grpc.server(ThreadPoolExecutor(4), handlers=[Forwarded()])
    port = server.add_insecure_port("127.0.0.1:0")
    with grpc.insecure_channel(address) as channel:
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(grace=None).wait(timeout=10)


def test_a_registry_without_rescores_is_verified_with_none(tmp_path: Path) -> None:
    """A client that is newer than the registry verifies it as before."""
    running = Running(tmp_path)
    try:
        running.published()
        with (
            without("ListRescores", running.service.address) as address,
            RegistryClient(address) as client,
        ):
            checked = Verification(client, client.public_key(), Head())
            checked.run()
            assert checked.rows == checked.receipts == 5
            assert (checked.rescored, checked.rescores) == (0, ())
            printed = running.printed("audit", "verify", "--registry", address)
            assert "Rescored: 0 of 5 rows" in printed
            with pytest.raises(UnknownRpc, match="does not have the rpc"):
                list(client.list_rescores(SPEC.name))
    finally:
        running.close()


def test_a_board_that_changes_all_the_time_is_no_forgery(tmp_path: Path) -> None:
    running, done = Running(tmp_path), threading.Event()

    def keep_claiming() -> None:
        with RegistryClient(running.service.address) as client:
            while not done.is_set():
                client.create_submission(SPEC.name, claim())
                time.sleep(0.1)

    claiming = threading.Thread(target=keep_claiming)
    claiming.start()
    try:
        with RegistryClient(running.service.address) as client:
            Verification(client, client.public_key(), Head()).run()
    finally:
        done.set()
        claiming.join(timeout=60)
        running.close()


@pytest.mark.parametrize(
    ("forgery", "found"),
    [
        (
            "UPDATE submissions SET manifest = replace(manifest, 'First', 'Forged')",
            "the board says model 'Forged'",
        ),
        (
            "UPDATE submissions SET manifest = replace(manifest, '2025-12-19', '2024-12-19')",
            "says submitted_date",
        ),
        ("UPDATE reports SET report = replace(report, '0.8', '0.9')", "the board says interval"),
        (
            "UPDATE submissions SET state = 'disputed' WHERE state = 'published'",
            "the board says disputed True",
        ),
        (
            "UPDATE submissions SET state = 'withdrawn' WHERE state = 'published'",
            "is not on the board",
        ),
        (
            "UPDATE submissions SET state = 'published' WHERE state = 'withdrawn'",
            "the chain does not put it there",
        ),
    ],
)
def test_a_board_that_differs_from_its_receipts_is_detected(
    audited: tuple[Running, sqlite3.Connection],
    forgery: str,
    found: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running, honest = audited
    monkeypatch.setattr(verification, "_PAUSE_SECONDS", 0.0)  # no event is recent
    running.service.stop()
    with contextlib.closing(sqlite3.connect(running.directory / "registry.db")) as database:
        honest.backup(database)
        assert database.execute(forgery).rowcount > 0
        database.commit()
    running.service.start()
    with RegistryClient(running.service.address) as client, pytest.raises(AuditMismatch) as caught:
        Verification(client, client.public_key(), Head()).run()
    assert found in caught.value.message


def test_a_board_with_another_time_of_publication_is_detected(
    audited: tuple[Running, sqlite3.Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a registry would move steps; its database and its chain can be in order."""
    running, honest = audited
    monkeypatch.setattr(verification, "_PAUSE_SECONDS", 0.0)
    running.service.stop()
    with contextlib.closing(sqlite3.connect(running.directory / "registry.db")) as database:
        honest.backup(database)
    running.service.start()

    class Lied(RegistryClient):
        def leaderboard(self, *arguments: Any, **options: Any) -> Board:
            board = super().leaderboard(*arguments, **options)
            backdated = [
                replace(row, publish_time=row.publish_time and row.publish_time - timedelta(days=1))
                for row in board
            ]
            return replace(board, entries=tuple(backdated))

    with Lied(running.service.address) as client, pytest.raises(AuditMismatch) as caught:
        Verification(client, client.public_key(), Head()).run()
    assert "the board says published" in caught.value.message


@pytest.fixture(scope="module")
def audited(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Running, sqlite3.Connection]]:
    """A registry with a row and a withdrawn row, which verifies, and a copy of its database."""
    running = Running(tmp_path_factory.mktemp("audited"))
    running.published("First")
    withdrawn = running.published("Second")
    with RegistryClient(running.service.address) as client:
        client.withdraw(withdrawn, "a mistake")
        Verification(client, client.public_key(), Head()).run()
    running.service.stop()
    honest = sqlite3.connect(":memory:")
    with contextlib.closing(sqlite3.connect(running.directory / "registry.db")) as database:
        database.backup(honest)
    yield running, honest
    honest.close()
    running.close()
