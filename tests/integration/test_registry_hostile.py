"""A hostile submitter: every attack of one organisation on another, by rpc and by text field."""

from __future__ import annotations

import base64
import hashlib
import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass
from sqlalchemy import func, select
from typer.testing import CliRunner

from cxreval.api.registry.v1 import (
    admin_service_pb2,
    artifact_service_pb2,
    audit_service_pb2,
    benchmark_service_pb2,
    evaluation_service_pb2,
    leaderboard_service_pb2,
    lifecycle_service_pb2,
    submission_pb2,
    submission_service_pb2,
)
from cxreval.audit import chain
from cxreval.audit.chain import Head
from cxreval.cli.app import app
from cxreval.client import Quota
from cxreval.client import Role as ClientRole
from cxreval.errors import ArtifactNotFound, DigestMismatch, InvalidPageToken, OwnerRequired
from cxreval.records import Role
from cxreval.wire.status import from_rpc_error
from services.chassis.interceptors.access import allowed_roles
from services.registry.domain.records import PRIVATE_CHANGES
from services.registry.store.database import Database
from services.registry.store.models import EventRow
from tests.support.access import ClosedRegistry
from tests.support.registry import (
    DATABASES,
    manifest_message,
    report_message,
    small_images,
    small_spec,
    upload_messages,
)

SPEC = small_spec("small")
BENCHMARK = f"benchmarks/{SPEC.name}"
NEVER = "0" * 32
MODULES = (
    admin_service_pb2, artifact_service_pb2, audit_service_pb2, benchmark_service_pb2,
    evaluation_service_pb2,
    leaderboard_service_pb2, lifecycle_service_pb2, submission_service_pb2,
)  # fmt: skip
METHODS = {
    method.name: method
    for module in MODULES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
BECAUSE = {"reason": "because"}

# For each rpc, its fields with a resource name, and other fields that it requires.
NAMES: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "GetSubmission": ({"name": "submission"}, {}),
    "WatchSubmission": ({"name": "submission"}, {}),
    "ListSubmissionEvents": ({"parent": "submission"}, {}),
    "ListEvaluations": ({"parent": "submission"}, {}),
    "GetReceipt": ({"name": "submission"}, {}),
    "ReproduceSubmission": ({"name": "submission"}, {}),
    "GetScriptOutput": ({"evaluation": "evaluation"}, {}),
    "CancelSubmission": ({"name": "submission"}, BECAUSE),
    "RetrySubmission": ({"name": "submission"}, BECAUSE),
    "WithdrawSubmission": ({"name": "submission"}, BECAUSE),
    "DisputeSubmission": ({"name": "submission"}, BECAUSE),
    "SupersedeSubmission": ({"name": "submission", "successor": "submission"}, BECAUSE),
    "ReinstateSubmission": ({"name": "submission"}, BECAUSE),
    "ResolveDispute": ({"name": "submission"}, BECAUSE),
    "CorrectSubmission": ({"name": "submission"}, {**BECAUSE, "correction": {"model": "Mine"}}),
    "CompareEntries": ({"submissions": "submission"}, {"parent": BENCHMARK}),
    "GetUpload": ({"submission": "submission"}, {}),
    "UploadArtifact": ({"header.submission": "submission"}, {"header": {"size_bytes": 1}}),
    "DownloadArtifact": ({"name": "artifact"}, {}),
    "GetEvaluation": ({"name": "evaluation"}, {}),
    "GetEvidence": ({"evaluation": "evaluation"}, {}),
    "RenewLease": ({"evaluation": "evaluation"}, {"token": NEVER}),
    "ReadPredictions": ({"evaluation": "evaluation"}, {"token": NEVER}),
    "AppendPredictions": (
        {"evaluation": "evaluation"},
        {"token": NEVER, "batch": {"images": ["a"]}},
    ),
    "ConfirmPredictions": ({"evaluation": "evaluation"}, {"token": NEVER}),
    "DropPredictions": ({"evaluation": "evaluation"}, {"token": NEVER}),
    "ReadReportPredictions": ({"evaluation": "evaluation"}, {}),
    "RecordRescore": ({"evaluation": "evaluation"}, {}),
    "CompleteEvaluation": ({"evaluation": "evaluation"}, {"token": NEVER}),
    "FailEvaluation": (
        {"evaluation": "evaluation"},
        {"token": NEVER, "failure": {"reason": "X", "fault": 1}},
    ),
    "LeaseEvaluation": ({"benchmarks": "benchmark"}, {"worker": "me"}),
    "GetQuota": ({"name": "organisation"}, {}),
    "CreateOrganisation": (
        {"organisation.name": "organisation"},
        {"organisation": {"display_name": "Mine"}},
    ),
    "UpdateOrganisation": (
        {"organisation.name": "organisation"},
        {"organisation": {"display_name": "Mine"}},
    ),
    "CreateApiKey": ({"parent": "organisation"}, {"role": 5}),
    "ListApiKeys": ({"parent": "organisation"}, {}),
    "RevokeApiKey": ({"name": "key"}, {}),
    "GetBenchmark": ({"name": "benchmark"}, {}),
    "CreateBenchmark": ({"benchmark.name": "benchmark"}, {}),
    "RecordImageList": ({"name": "benchmark"}, {}),
    "RetireBenchmark": ({"name": "benchmark"}, BECAUSE),
    "ReinstateBenchmark": ({"name": "benchmark"}, BECAUSE),
    "UpdateBenchmarkCard": ({"name": "benchmark"}, {}),
    "ListRescores": ({"parent": "benchmark"}, {}),
    "ListSubmissions": ({"parent": "benchmark"}, {}),
    "CreateSubmission": ({"parent": "benchmark"}, {}),
    "ListLeaderboardEntries": ({"parent": "benchmark"}, {}),
    "ListSotaSteps": ({"parent": "benchmark"}, {}),
    "ListLeaderboardChanges": ({"parent": "benchmark"}, {}),
}
NAMELESS = {
    "ListOrganisations", "ListAdminEvents", "ListBenchmarks", "GetAuditHead", "ReadAuditChain",
    "GetPublicKey",
}  # fmt: skip
PUBLIC_LISTS = (
    "ListSubmissions", "ListLeaderboardEntries", "ListSotaSteps", "ListLeaderboardChanges",
    "ListBenchmarks",
    "GetAuditHead", "ReadAuditChain", "GetPublicKey",
)  # fmt: skip


class World(ClosedRegistry):
    """Acme has something in every state; the rival has one row on the board."""

    def __enter__(self) -> World:
        super().__enter__()
        self.operator.create_benchmark(SPEC)
        self.operator.record_image_list(SPEC.name, small_images())
        self.acme, self.rival = self.stubs("acme/submitter"), self.stubs("rival/submitter")
        self.worker = self.stubs("worker")
        self.mine = self.published(self.rival, b"the rival's", "mine@rival.example")
        self.public = self.published(
            self.acme, b"acme's public model", "secret@acme.example", fail_first=True
        )
        self.endpoint = self.published(
            self.acme, b"", "secret@acme.example", fail_first=True, **ENDPOINT
        )
        self.hidden = {"draft": self.acme.create_submission(SPEC.name, b"draft", **PRIVATE).name}
        self.hidden["failed"] = self.acme.submit(SPEC.name, b"acme's failing model", **PRIVATE).name
        self.fail(self.worker.lease(SPEC.name))
        self.hidden["cancelled"] = self.acme.submit(SPEC.name, b"cancelled", **PRIVATE).name
        self.call(
            self.acme.channel,
            "CancelSubmission",
            name=self.hidden["cancelled"],
            reason="SECRET-REASON",
        )
        self.hidden["running"] = self.acme.submit(SPEC.name, b"running", **PRIVATE).name
        self.token = self.worker.lease(SPEC.name).token
        self.hidden["queued"] = self.acme.submit(SPEC.name, b"queued", **PRIVATE).name
        self.secrets = [
            *(name.rpartition("/")[2] for name in self.hidden.values()),
            *(
                hashlib.sha256(data).hexdigest()
                for data in (b"draft", b"acme's failing model", b"running", b"queued")
            ),
            "secret@acme.example", "SECRET-FAILURE", "SECRET-REASON", "SECRET-MODEL", self.token,
            "gateway.acme.example", "acme-served", "SECRET-SERVER", "SECRET-NODE",
        ]  # fmt: skip
        return self

    def published(
        self, who: Any, data: bytes, contact: str, *, fail_first: bool = False, **manifest: Any
    ) -> str:
        hand_in = who.submit if data else who.create_submission
        name: str = hand_in(SPEC.name, data, contact=contact, **manifest).name
        node = "SECRET-NODE" if who is self.acme else "node"
        lease = self.worker.lease(SPEC.name, node)
        if fail_first:
            self.fail(lease)
            self.call(who.channel, "RetrySubmission", name=name, reason="again")
            lease = self.worker.lease(SPEC.name, node)
        provenance = {"attempt": "1", **({} if data else SERVED)}
        self.worker.complete(lease, report_message(SPEC), provenance)
        return name

    def fail(self, lease: evaluation_service_pb2.Lease) -> None:
        failure = submission_pb2.Failure(
            reason="MODEL_UNSUPPORTED",
            message="SECRET-FAILURE",
            fault=submission_pb2.Failure.FAULT_SUBMISSION,
        )
        request = {"evaluation": lease.evaluation.name, "token": lease.token, "failure": failure}
        self.call(self.worker.channel, "FailEvaluation", **request)

    def call(self, channel: grpc.Channel, method: str, **fields: Any) -> list[Any]:
        """Calls an rpc by name and returns its responses."""
        return invoke(
            channel, METHODS[method], GetMessageClass(METHODS[method].input_type)(**fields)
        )

    def evaluation(self, submission: str) -> str:
        (answer,) = self.call(self.acme.channel, "ListEvaluations", parent=submission)
        return str(answer.evaluations[-1].name)

    def targets(self, kind: str) -> list[str]:
        """Names of this kind that the rival may not know."""
        match kind:
            case "submission":
                return list(self.hidden.values())
            case "evaluation":
                return [
                    self.evaluation(self.hidden[state]) for state in ("failed", "running", "queued")
                ]
            case "artifact":
                return [
                    f"artifacts/{hashlib.sha256(data).hexdigest()}"
                    for data in (b"queued", b"acme's public model")
                ]
        return {
            "organisation": ["organisations/acme"],
            "key": ["organisations/acme/keys/" + "0" * 16],
        }[kind]

    def state(self) -> object:
        """Everything that acme has, and the number of events."""
        (page,) = self.call(self.acme.channel, "ListSubmissions", parent=BENCHMARK, page_size=500)
        files = sorted(
            str(file) for file in (self.directory / "artifacts").rglob("*") if file.is_file()
        )
        return page, self.happened(), files

    def happened(self) -> int:
        """Returns the number of events."""
        database = Database(self.database_url)
        with database.reading() as session:
            found = session.scalar(select(func.count()).select_from(EventRow)) or 0
        database.close()
        return found

    def chained(self) -> Head:
        """Returns the head of the chain once all events have joined it."""
        deadline = time.monotonic() + 10
        while (
            head := self.operator.audit_head()
        ).place < self.happened() and time.monotonic() < deadline:
            time.sleep(0.1)
        return head


ENDPOINT = {
    "kind": submission_pb2.Submission.KIND_ENDPOINT, "format": 0, "artifact_sha256": "",
    "preprocessing_profile": "",
    "source_kind": submission_pb2.SOURCE_KIND_ENDPOINT,
    "endpoint": submission_pb2.Endpoint(
        address="gateway.acme.example:8443", tls=True, model_name="acme-served",
        requests_per_second=20,
    ),
}  # fmt: skip
SERVED = {
    "endpoint_address": "gateway.acme.example:8443", "endpoint_model": "acme-served",
    "endpoint_platform": "SECRET-SERVER",
}  # fmt: skip
PRIVATE = {"contact": "secret@acme.example", "model": "SECRET-MODEL"}


def invoke(channel: grpc.Channel, method: Any, request: Any) -> list[Any]:
    path = f"/{method.containing_service.full_name}/{method.name}"
    request_kind, response_kind = (
        "stream" if streaming else "unary"
        for streaming in (method.client_streaming, method.server_streaming)
    )
    call = getattr(channel, f"{request_kind}_{response_kind}")(
        path,
        lambda message: message.SerializeToString(),
        GetMessageClass(method.output_type).FromString,
    )
    answer = call(iter([request]) if method.client_streaming else request, timeout=30)
    return list(answer) if method.server_streaming else [answer]


def filled(world: World, method: str, path: str, value: str) -> Any:
    """Returns a request of the rpc that is valid except for `value` at `path`."""
    places, more = NAMES[method]
    request = GetMessageClass(METHODS[method].input_type)(**more)
    for place in places:
        holder, _, field = place.rpartition(".")
        message = getattr(request, holder) if holder else request
        given = value if place == path else world.mine
        if type(message).DESCRIPTOR.fields_by_name[field].is_repeated:
            getattr(message, field).extend(
                [world.mine, given] if field == "submissions" else [given]
            )
        else:
            setattr(message, field, given)
    return request


def outcome(channel: grpc.Channel, method: str, request: Any) -> tuple[str, str, str]:
    """Returns code, reason and message of a refused call."""
    with pytest.raises(grpc.RpcError) as caught:
        invoke(channel, METHODS[method], request)
    error = from_rpc_error(caught.value)
    assert "Traceback" not in error.message
    assert error.reason != "INTERNAL", error.message
    return caught.value.code().name, error.reason, f"{error.message} {error.metadata}"


@pytest.fixture(scope="module", params=DATABASES)
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("hostile"), request.param) as running:
        yield running


def test_no_rpc_is_forgotten_here() -> None:
    assert NAMES.keys() | NAMELESS == METHODS.keys()
    for method, (places, _) in NAMES.items():
        request = GetMessageClass(METHODS[method].input_type)
        assert all(place.partition(".")[0] in request.DESCRIPTOR.fields_by_name for place in places)


def roles_of(method: str) -> frozenset[Role]:
    return allowed_roles(METHODS[method].containing_service.full_name, method) or frozenset()


def test_hidden_resources_are_indistinguishable_from_absent_ones_and_nothing_changes(
    world: World,
) -> None:
    before, tried = world.state(), 0
    for method, (places, _) in NAMES.items():
        if not roles_of(method) & {Role.PUBLIC, Role.SUBMITTER}:
            continue
        for path, kind in places.items():
            for name in world.targets(kind) if kind != "benchmark" else ():
                last = name.rpartition("/")[2]
                never = name.removesuffix(last) + (
                    "never" if kind == "organisation" else "0" * len(last)
                )
                found = outcome(world.rival.channel, method, filled(world, method, path, name))
                expected = outcome(world.rival.channel, method, filled(world, method, path, never))
                assert (
                    tuple(text.replace(last, never.rpartition("/")[2]) for text in found)
                    == expected
                ), (method, name)
                assert found[0] == "NOT_FOUND", (method, found)
                tried += 1
    assert tried > 70
    assert world.state() == before


def test_a_submitter_may_not_call_the_rpcs_of_other_roles(world: World) -> None:
    before, tried = world.state(), 0
    for method in METHODS.keys() - {"CreateBenchmark"}:
        if roles_of(method) & {Role.PUBLIC, Role.SUBMITTER}:
            continue
        places = NAMES.get(method, ({}, {}))[0]
        path = next(iter(places), "")
        kind = places.get(path, "")
        value = BENCHMARK if kind in ("", "benchmark") else world.targets(kind)[0]
        request = (
            filled(world, method, path, value)
            if path
            else GetMessageClass(METHODS[method].input_type)()
        )
        for who in ("rival/submitter", "rival/viewer"):
            assert outcome(world.stubs(who).channel, method, request)[:2] == (
                "PERMISSION_DENIED",
                "ROLE_REQUIRED",
            )
        assert outcome(world.channel(), method, request)[:2] == ("UNAUTHENTICATED", "KEY_MISSING")
        tried += 1
    assert tried >= 15
    assert world.state() == before


def test_without_a_key_nothing_answers(world: World) -> None:
    for method in METHODS.values():
        request = GetMessageClass(method.input_type)()
        assert outcome(world.channel(), method.name, request)[:2] == (
            "UNAUTHENTICATED",
            "KEY_MISSING",
        ), method.name


@pytest.mark.parametrize("who", ["rival/submitter", "rival/viewer"])
def test_no_list_no_board_and_no_chain_tells_of_hidden_things(world: World, who: str) -> None:
    for method in PUBLIC_LISTS:
        request = filled(world, method, "parent", BENCHMARK) if method in NAMES else None
        answers = invoke(
            world.stubs(who).channel,
            METHODS[method],
            request or GetMessageClass(METHODS[method].input_type)(),
        )
        text = "".join(str(answer) for answer in answers)
        assert text, method
        assert [secret for secret in world.secrets if secret in text] == [], method
    for name in (world.public, world.endpoint):
        assert_nothing_private(world, world.stubs(who).channel, name)


def assert_nothing_private(world: World, channel: grpc.Channel, public: str) -> None:
    """Checks that no way to read a row of acme's returns private fields."""
    owner = world.call(world.acme.channel, "ListEvaluations", parent=public)[0].evaluations
    assert len(owner) == 2
    values = {"submission": public, "evaluation": owner[-1].name}
    for method in (
        "GetSubmission", "WatchSubmission", "ListSubmissionEvents", "ListEvaluations",
        "GetEvaluation", "GetEvidence",
        "GetReceipt", "CompareEntries",
    ):  # fmt: skip
        ((path, kind),) = NAMES[method][0].items()
        answers = invoke(channel, METHODS[method], filled(world, method, path, values[kind]))
        assert [secret for secret in world.secrets if secret in str(answers)] == [], method
    (page,) = world.call(channel, "ListEvaluations", parent=public)
    assert [item.name for item in page.evaluations] == [owner[-1].name]
    for method in ("GetEvaluation", "GetEvidence"):
        ((path, _),) = NAMES[method][0].items()
        failed, never = (
            filled(world, method, path, name)
            for name in (owner[0].name, f"{owner[0].name[:-32]}{NEVER}")
        )
        code, reason, text = outcome(channel, method, failed)
        assert (code, reason) == ("NOT_FOUND", "EVALUATION_NOT_FOUND")
        assert (
            text.replace(owner[0].name, f"{owner[0].name[:-32]}{NEVER}")
            == outcome(channel, method, never)[2]
        )


def test_an_anonymous_caller_gets_no_more_of_a_public_board_than_another_organisation(
    tmp_path: Path,
) -> None:
    with World(tmp_path, "sqlite", "--public-board=true") as world:
        for name in (world.public, world.endpoint):
            assert_nothing_private(world, world.channel(), name)
        answered = assert_redacted(world, world.channel())
        assert answered == READS_OF_RECORDS


# What an answer may not hold for callers outside the owning organisation, by message.
REDACTED = {
    "Manifest": ("contact", "endpoint"),
    "Submission": ("failure",),
    "Evaluation": ("failure", "worker"),
}
RECORDS = {*REDACTED, "SubmissionEvent"}
READS_OF_RECORDS = {
    "GetSubmission", "ListSubmissions", "WatchSubmission", "GetEvaluation", "ListEvaluations",
    "ListSubmissionEvents", "ListLeaderboardChanges", "ReadAuditChain",
}  # fmt: skip


def test_every_answer_that_holds_a_record_is_redacted_for_strangers(world: World) -> None:
    world.operator.create_organisation("stranger", "Stranger", Quota())
    key = world.operator.create_key("stranger", ClientRole.SUBMITTER)[1]
    answered = assert_redacted(world, world.channel(key))
    assert answered == READS_OF_RECORDS | {"DisputeSubmission"}


def assert_redacted(world: World, channel: grpc.Channel) -> set[str]:
    """Calls every rpc whose answer can hold a submission, an evaluation or an event with the names
    of acme's rows; the names of the rpcs that answered. Rpcs for workers alone are left out."""
    answered: set[str] = set()
    refusals: set[tuple[str, str]] = set()
    for method in (name for name in METHODS if may_hold(METHODS[name].output_type, RECORDS)):
        if not roles_of(method) & {Role.PUBLIC, Role.SUBMITTER}:
            continue
        for submission in (world.public, world.endpoint):
            try:
                answers = invoke(channel, METHODS[method], about(world, method, submission))
            except grpc.RpcError as error:
                refusals.add((method, from_rpc_error(error).reason))
                continue
            answered.add(method)
            records = [record for answer in answers for record in messages_in(answer)]
            assert {type(record).DESCRIPTOR.name for record in records} & RECORDS, method
            for record in records:
                assert_no_private_field(record, method)
            if method == "DisputeSubmission":
                world.operator.resolve(submission, "because")
    # A stranger changes nothing of others, and what it creates or uploads is its own. It may ask
    # for the script of a row to be run again; these rows have none (SUBMISSION_STATE).
    expected = {"OWNER_REQUIRED", "MISSING_FIELD", "KEY_MISSING", "SUBMISSION_STATE"}
    assert {reason for _, reason in refusals} <= expected, refusals
    return answered


def about(world: World, method: str, submission: str) -> Any:
    """A request of the rpc in which every name is of the submission."""
    names, more = NAMES.get(method, ({}, {}))
    values = {
        "submission": submission,
        "evaluation": world.evaluation(submission),
        "benchmark": BENCHMARK,
    }
    request = GetMessageClass(METHODS[method].input_type)(**more)
    for path, kind in names.items():
        holder, _, field = path.rpartition(".")
        setattr(getattr(request, holder) if holder else request, field, values[kind])
    return request


def may_hold(kind: Any, names: set[str], seen: frozenset[str] = frozenset()) -> bool:
    """Whether a message of this descriptor, or one inside it, has one of the names."""
    if kind.name in names:
        return True
    inside = (field.message_type for field in kind.fields if field.message_type)
    seen |= {kind.full_name}
    return any(may_hold(item, names, seen) for item in inside if item.full_name not in seen)


def messages_in(message: Any) -> Iterator[Any]:
    """The message and all messages inside it, those in maps excepted."""
    yield message
    for field, value in message.ListFields():
        if field.message_type and not field.message_type.GetOptions().map_entry:
            for item in value if field.is_repeated else [value]:
                yield from messages_in(item)


def assert_no_private_field(record: Any, method: str) -> None:
    name = type(record).DESCRIPTOR.name
    present = {field.name for field, _ in record.ListFields()}
    assert present.isdisjoint(REDACTED.get(name, ())), (method, record)
    if name == "Evaluation":
        assert not [key for key in record.provenance if key.startswith("endpoint_")], method
    if name == "SubmissionEvent":
        change = submission_pb2.SubmissionEvent.Change.Name(record.change)
        assert change.removeprefix("CHANGE_").lower() not in PRIVATE_CHANGES, (method, record)


def test_worker_and_failures_of_a_row_are_hidden_from_other_organisations(world: World) -> None:
    own, seen = (
        list(world.client(who).submission_events(world.public))
        for who in ("acme/viewer", "rival/viewer")
    )
    inside = {"leased", "failed", "retried"}
    assert [event for event in own if event.change not in inside] == seen
    assert [event.actor for event in own if event.change == "leased"] == [
        f"worker SECRET-NODE, organisations/operators/keys/{world.keys['worker'].split('_')[1]}"
    ] * 2
    assert [event.actor for event in seen if event.change == "published"] == ["worker"]


def test_the_owner_the_worker_and_the_operator_see_it_all(world: World) -> None:
    for who in ("acme/submitter", "acme/viewer", "operator"):
        client = world.client(who)
        assert client.get_submission(world.public).manifest.contact == "secret@acme.example"
        assert client.get_submission(world.hidden["failed"]).failure
        assert "SECRET-FAILURE" in [
            event.reason for event in client.submission_events(world.public)
        ]
        endpoint = client.get_submission(world.endpoint)
        assert endpoint.manifest.endpoint.address == SERVED["endpoint_address"]
        evaluation = client.get_evaluation(endpoint.evaluation)
        assert evaluation.worker.startswith("SECRET-NODE")
        assert dict(evaluation.provenance) == {"attempt": "1", **SERVED}
    assert len(list(world.client("acme/submitter").list_submissions(SPEC.name))) == 8
    assert len(list(world.client("rival/submitter").list_submissions(SPEC.name))) == 3


def test_the_chain_verifies_for_callers_with_sealed_links(world: World) -> None:
    head = world.chained()
    whole = list(world.operator.audit_chain())
    partly = list(world.client("rival/viewer").audit_chain())
    assert chain.verify(whole) == chain.verify(partly) == head
    assert not any(event.is_sealed for event in whole)
    for seen, real in zip(partly, whole, strict=True):
        assert seen == (real.sealed() if seen.is_sealed else real)
        inside = real.change in ("leased", "failed", "retried") and real.submission != world.mine
        private = real.submission in world.hidden.values() or inside
        assert seen.is_sealed is private


def test_a_public_row_can_be_disputed_by_all_and_changed_by_its_owner_only(world: World) -> None:
    client = world.client("rival/submitter")
    for change in (client.cancel, client.retry, client.withdraw):
        with pytest.raises(OwnerRequired):
            change(world.public, "because")
    with pytest.raises(OwnerRequired):
        client.supersede(world.public, world.mine, "mine is better")
    with pytest.raises(OwnerRequired):
        client.supersede(world.mine, world.public, "theirs is better")
    assert client.dispute(world.public, "trained on the test split").status == "disputed"
    assert world.operator.resolve(world.public, "it was not").status == "published"
    rival = f"organisations/rival/keys/{world.keys['rival/submitter'].split('_')[1]}"
    assert rival in [event.actor for event in client.submission_events(world.public)]


def test_an_artifact_of_another_organisation_is_neither_revealed_nor_reused(
    world: World,
) -> None:
    sha256 = hashlib.sha256(b"acme's public model").hexdigest()
    name = world.rival.create_submission(SPEC.name, b"acme's public model").name
    client = world.client("rival/submitter")
    (upload,) = world.call(world.rival.channel, "GetUpload", submission=name)
    assert (upload.received_bytes, upload.complete) == (0, False)
    with pytest.raises(grpc.RpcError) as caught:
        world.rival.artifacts.UploadArtifact(upload_messages(name, b"A different model  "))
    assert isinstance(from_rpc_error(caught.value), DigestMismatch)
    with pytest.raises(ArtifactNotFound):
        list(client.download_artifact(sha256))
    assert (
        b"".join(world.client("acme/submitter").download_artifact(sha256)) == b"acme's public model"
    )
    assert b"".join(world.client("worker").download_artifact(sha256)) == b"acme's public model"
    world.operator.cancel(name, "clean")


def test_a_request_id_of_another_organisation_is_as_good_as_new(world: World) -> None:
    used = str(uuid.uuid4())
    request = submission_service_pb2.CreateSubmissionRequest(
        parent=BENCHMARK, request_id=used, manifest=manifest_message(b"x", **PRIVATE)
    )
    first = world.acme.submissions.CreateSubmission(request)
    again = world.acme.submissions.CreateSubmission(request)
    replayed = world.rival.submissions.CreateSubmission(request)
    assert (first.name == again.name, first.name == replayed.name) == (True, False)
    request.manifest.model = "Another"
    with pytest.raises(grpc.RpcError) as caught:
        world.acme.submissions.CreateSubmission(request)
    assert from_rpc_error(caught.value).reason == "REQUEST_ID_REUSED"
    for name in (first.name, replayed.name):
        world.operator.cancel(name, "clean")


def test_a_request_id_of_a_change_is_each_organisations_own_and_not_shown(world: World) -> None:
    used = str(uuid.uuid4())
    fields = {"name": world.public, "reason": "doubtful", "request_id": used}
    world.call(world.acme.channel, "DisputeSubmission", **fields)
    world.call(world.acme.channel, "DisputeSubmission", **fields)  # idempotent
    world.operator.resolve(world.public, "clean")
    world.chained()
    shown = [
        event.request_id
        for event in world.client("rival/viewer").audit_chain()
        if event.reason == "doubtful"
    ]
    assert len(shown) == 1
    assert used.replace("-", "") not in shown
    for replayed in (used, str(uuid.UUID(shown[0]))):
        fields = {"name": world.public, "reason": "another reason", "request_id": replayed}
        (answer,) = world.call(world.rival.channel, "DisputeSubmission", **fields)
        assert answer.state == submission_pb2.Submission.STATE_DISPUTED
        world.operator.resolve(world.public, "clean")
    fields["request_id"] = used
    with pytest.raises(grpc.RpcError) as caught:
        world.call(world.acme.channel, "DisputeSubmission", **fields)
    assert from_rpc_error(caught.value).reason == "REQUEST_ID_REUSED"


def test_a_worker_uploads_its_artifacts_but_not_those_that_a_submission_awaits(
    world: World,
) -> None:
    key = world.operator.create_key("acme", ClientRole.WORKER)[1]
    before = world.state()
    for method in ("GetUpload", "UploadArtifact"):
        ((path, _),) = NAMES[method][0].items()
        found = outcome(
            world.channel(key), method, filled(world, method, path, world.hidden["draft"])
        )
        assert found[:2] == ("PERMISSION_DENIED", "ROLE_REQUIRED")
        assert f"may not upload {path}; expected one of the roles operator, submitter" in found[2]
    assert world.state() == before


def test_a_forged_page_token_finds_out_nothing(world: World) -> None:
    def answer(kind: str, parent: str, after: str, method: str) -> str:
        token = base64.urlsafe_b64encode(json.dumps([kind, parent, after]).encode()).decode()
        with pytest.raises(grpc.RpcError) as caught:
            world.call(world.rival.channel, method, parent=parent, page_token=token)
        error = from_rpc_error(caught.value)
        assert isinstance(error, InvalidPageToken)
        return error.message.replace(after, "ID")

    hidden = world.hidden["draft"].rpartition("/")[2]
    assert answer("submissions", BENCHMARK, hidden, "ListSubmissions") == answer(
        "submissions", BENCHMARK, NEVER, "ListSubmissions"
    )
    (page,) = world.call(world.acme.channel, "ListEvaluations", parent=world.hidden["failed"])
    evaluation = page.evaluations[0].name.rpartition("/")[2]
    assert answer("evaluations", world.mine, evaluation, "ListEvaluations") == answer(
        "evaluations", world.mine, NEVER, "ListEvaluations"
    )


TRICKS = (
    "", "/", "..", "../../etc/passwd", "benchmarks/small/submissions/../../x",
    "benchmarks/small/submissions/%2e%2e",
    "benchmarks/..%2fsmall", f"{BENCHMARK}/submissions/{NEVER}/",
    f"{BENCHMARK}/submissions/{NEVER}\n",
    f"{BENCHMARK}/submissions/{NEVER}\0", f"{BENCHMARK}//submissions/{NEVER}",
    f"{BENCHMARK}/submissions/{'A' * 32}",
    f"{BENCHMARK}/submissions/{chr(0xFF10) * 32}", f"benchmarks/sm\u00e4ll/submissions/{NEVER}",
    "artifacts/../x",
    f"artifacts/{'a' * 63}\u202e", "organisations/..", "organisations/acme/keys/%2e",
    "organisations/' OR 1=1 --",
    "benchmarks/" + "a" * 100_000, "/" * 100_000, "\u202e\u0000\ufeff",
)  # fmt: skip


def test_a_malformed_name_is_refused_with_its_field_for_every_role(world: World) -> None:
    before = world.state()
    for method, (places, _) in NAMES.items():
        roles = roles_of(method)
        who = (
            world.worker
            if Role.WORKER in roles and Role.OPERATOR not in roles
            else world.stubs("operator")
        )
        for path in places:
            for trick in TRICKS:
                if (method, trick) == ("GetQuota", ""):
                    continue  # means the caller's own quota
                code, reason, text = outcome(
                    who.channel, method, filled(world, method, path, trick)
                )
                assert code == "INVALID_ARGUMENT", (method, path, trick[:50], code, text)
                assert reason in ("MALFORMED_FIELD", "MISSING_FIELD"), (
                    method,
                    path,
                    trick[:50],
                    reason,
                )
                assert path.rpartition(".")[2] in text, (method, text)
    assert world.state() == before


INJECTIONS = {
    "sql": "'; DROP TABLE submissions; --",
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "markup": "[red]x[/red][link=file:///etc/passwd]y[/link]",
    "template": "{{7*7}} ${7*7} %s %(x)s {0}",
    "formula": '=HYPERLINK("http://evil.example","x")',
    "shell": "$(touch /tmp/x) `id` | cat",
    "escape": "a\x1b[31mred\x1b]0;title\x07",
    "bidi": "a\u202egpj.exe",
    "line": 'a\n{"level": "info", "message": "forged"}',
    "nul": "a\0b",
    "zero": "a\u200bb",
    "huge": "x" * 50_000,
}
SEEN_AS_IT_IS = ("sql", "html", "markup", "template", "formula", "shell")

MANIFEST_TEXTS = (
    "model", "organisation", "source_url", "contact", "preprocessing_profile", "artifact_sha256",
    "submitted_date",
    "architecture", "output_names", "reproduction.repository", "reproduction.commit",
    "reproduction.script",
    "environment.python_version", "environment.dependencies", "claimed_metrics.metric",
    "claimed_metrics.finding",
    "endpoint.address", "endpoint.model_name", "outputs.tensor", "files.name",
)  # fmt: skip


FREE_TEXTS = ("model", "organisation", "output_names", "reproduction.script", "outputs.tensor")


def with_text(path: str, text: str) -> submission_pb2.Manifest:
    manifest = manifest_message(b"injected")
    manifest.outputs.activation = submission_pb2.Outputs.ACTIVATION_NONE
    holder, _, field = path.rpartition(".")
    if holder == "files":
        manifest.files.add(name=text, sha256="0" * 64)
    elif holder == "claimed_metrics":
        setattr(manifest.claimed_metrics[0], field, text)
    elif path in ("output_names", "environment.dependencies"):
        values = (
            manifest.output_names if path == "output_names" else manifest.environment.dependencies
        )
        values[0] = text
    else:
        setattr(getattr(manifest, holder) if holder else manifest, field, text)
    return manifest


def value_at(message: Any, path: str) -> Any:
    for part in path.split("."):
        message = getattr(message, part)
    return message


def test_every_text_of_a_manifest_is_refused_by_name_or_kept_as_it_is(world: World) -> None:
    for path in MANIFEST_TEXTS:
        for name, text in INJECTIONS.items():
            request = submission_service_pb2.CreateSubmissionRequest(
                parent=BENCHMARK, manifest=with_text(path, text)
            )
            if path in FREE_TEXTS and name in SEEN_AS_IT_IS:
                created = world.acme.submissions.CreateSubmission(request)
                kept = value_at(created.manifest, path)
                assert text == (kept[0] if path == "output_names" else kept)
                world.operator.cancel(created.name, "clean")
                continue
            code, _, message = outcome(world.acme.channel, "CreateSubmission", request)
            assert code == "INVALID_ARGUMENT", (path, name, message)
            assert f"'field': 'manifest.{path.partition('.')[0]}" in message, (path, name, message)


def test_every_other_text_is_refused_by_name_or_kept_as_it_is(world: World) -> None:
    for name, text in INJECTIONS.items():
        requests = {
            "reason": ("DisputeSubmission", {"name": world.mine, "reason": text}),
            "correction.model": (
                "CorrectSubmission",
                {"name": world.mine, **BECAUSE, "correction": {"model": text}},
            ),
            "correction.organisation": (
                "CorrectSubmission",
                {"name": world.mine, **BECAUSE, "correction": {"organisation": text}},
            ),
            "worker": ("LeaseEvaluation", {"worker": text, "benchmarks": ["benchmarks/never"]}),
            "organisation.display_name": (
                "UpdateOrganisation",
                {"organisation": {"name": "organisations/rival", "display_name": text}},
            ),
        }  # fmt: skip
        for field, (method, fields) in requests.items():
            who = world.worker if field == "worker" else world.stubs("operator")
            request = GetMessageClass(METHODS[method].input_type)(**fields)
            if name in SEEN_AS_IT_IS:
                assert (
                    text in str(invoke(who.channel, METHODS[method], request))
                    or field in ("reason", "worker")
                    or (
                        name == "formula"  # protobuf's own text form escapes its quotes
                    )
                )
            else:
                code, reason, message = outcome(who.channel, method, request)
                assert (code, reason, field in message) == (
                    "INVALID_ARGUMENT",
                    "MALFORMED_FIELD",
                    True,
                ), (
                    name,
                    message,
                )
            if field == "reason" and name in SEEN_AS_IT_IS:
                assert list(world.operator.submission_events(world.mine))[-1].reason == text
                world.operator.resolve(world.mine, "clean")
    world.operator.correct(world.mine, "clean", model="Model", organisation="Organisation")


def test_injected_texts_are_harmless_on_the_terminal_and_in_the_log(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in {
        "CXREVAL_CLIENT_REGISTRY": world.service.address,
        "CXREVAL_CLIENT_KEY": world.keys["acme/submitter"],
        "COLUMNS": "250",
    }.items():  # fmt: skip
        monkeypatch.setenv(variable, value)
    for name in SEEN_AS_IT_IS:
        text = INJECTIONS[name]
        shown = world.acme.create_submission(
            SPEC.name, b"shown", model=text, organisation=text
        ).name
        for command in (("status", shown), ("submission", "history", shown)):
            result = CliRunner().invoke(app, command, catch_exceptions=False)
            assert result.exit_code == 0
            assert "\x1b" not in result.output
            assert command[0] != "status" or result.output.count(text) == 2, (name, result.output)
        printed = json.loads(
            CliRunner().invoke(app, ("status", shown, "--json"), catch_exceptions=False).stdout
        )
        assert printed["manifest"]["model"] == text
        world.operator.cancel(shown, text)
    lines = [json.loads(line) for line in world.service.log.read_text().splitlines()]
    assert len(lines) > 100
    assert not [line for line in lines if line["message"] == "forged" or line["level"] == "error"]
