"""Reads all answers of a registry to a caller over gRPC and returns them as JSON.

It uses the gRPC stubs and no other code of the library, so that the version that made the golden
files and every later version get the same calls.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grpc
from google.protobuf import json_format, timestamp_pb2
from google.rpc import error_details_pb2, status_pb2

from cxreval.api.registry.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    audit_service_pb2,
    audit_service_pb2_grpc,
    benchmark_service_pb2,
    benchmark_service_pb2_grpc,
    evaluation_service_pb2,
    evaluation_service_pb2_grpc,
    leaderboard_service_pb2,
    leaderboard_service_pb2_grpc,
    lifecycle_service_pb2,
    lifecycle_service_pb2_grpc,
    submission_service_pb2,
    submission_service_pb2_grpc,
)

Json = dict[str, Any]

NOW = "now"
"""The key of a board that is read without `as_of`."""

SPREAD = ("rank_low", "rank_high", "first_share")
"""The fields of a row's spread that count resamples."""


class Observer:
    """Calls a registry as one caller. `key` is the text of the caller's API key, or empty."""

    def __init__(self, address: str, key: str = "") -> None:
        self._metadata = [("authorization", f"Bearer {key}")] if key else []
        options = [("grpc.max_receive_message_length", 64 << 20)]
        self._channel = grpc.insecure_channel(address, options=options)
        self._admin: Any = admin_service_pb2_grpc.AdminServiceStub(self._channel)
        self._audit: Any = audit_service_pb2_grpc.AuditServiceStub(self._channel)
        self._benchmarks: Any = benchmark_service_pb2_grpc.BenchmarkServiceStub(self._channel)
        self._evaluations: Any = evaluation_service_pb2_grpc.EvaluationServiceStub(self._channel)
        self._boards: Any = leaderboard_service_pb2_grpc.LeaderboardServiceStub(self._channel)
        self._lifecycle: Any = lifecycle_service_pb2_grpc.LifecycleServiceStub(self._channel)
        self._submissions: Any = submission_service_pb2_grpc.SubmissionServiceStub(self._channel)

    def __enter__(self) -> Observer:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def audit(self) -> Json:
        """Returns the public key, the head of the chain and every link."""
        request = audit_service_pb2.ReadAuditChainRequest()
        answers = self._audit.ReadAuditChain(request, timeout=30, metadata=self._metadata)
        return {
            "public_key": self._call(
                self._audit.GetPublicKey, audit_service_pb2.GetPublicKeyRequest()
            )["pem"],
            "head": self._call(self._audit.GetAuditHead, audit_service_pb2.GetAuditHeadRequest()),
            "links": [_json(link) for answer in answers for link in answer.links],
        }

    def benchmarks(self) -> dict[str, Json]:
        """Returns every benchmark by its resource name."""
        request = benchmark_service_pb2.ListBenchmarksRequest()
        return {item["name"]: item for item in self._list(self._benchmarks.ListBenchmarks, request)}

    def changes(self, benchmark: str) -> list[Json]:
        """Returns the events that changed a board, oldest first."""
        request = leaderboard_service_pb2.ListLeaderboardChangesRequest(parent=benchmark)
        return list(self._list(self._boards.ListLeaderboardChanges, request))

    def board(self, benchmark: str, moment: str = NOW) -> Json:
        """Returns a board as of a time in RFC 3339, with its steps and a comparison of its rows.

        Only the current board has the rows' metrics and the comparison.
        """
        as_of = timestamp_pb2.Timestamp()
        if moment != NOW:
            as_of.FromJsonString(moment)
        fields: Json = {"parent": benchmark} | ({} if moment == NOW else {"as_of": as_of})
        entries = leaderboard_service_pb2.ListLeaderboardEntriesRequest(**fields)
        rows = list(self._list(self._boards.ListLeaderboardEntries, entries))
        board: Json = {
            "entries": rows,
            "steps": list(
                self._list(
                    self._boards.ListSotaSteps,
                    leaderboard_service_pb2.ListSotaStepsRequest(**fields),
                )
            ),
        }
        if moment != NOW:
            for row in rows:
                row.pop("metrics", None)
            return board
        scored = [row["submission"] for row in rows if row["kind"] != "KIND_CLAIM"]
        if len(scored) > 1:
            compare = leaderboard_service_pb2.CompareEntriesRequest(
                parent=benchmark, submissions=scored
            )
            board["comparison"] = self._call(self._boards.CompareEntries, compare)
        return board

    def submissions(self, benchmark: str) -> list[Json]:
        """Returns the submissions to a benchmark, oldest first."""
        request = submission_service_pb2.ListSubmissionsRequest(parent=benchmark)
        return list(self._list(self._submissions.ListSubmissions, request))

    def submission(self, name: str) -> Json:
        """Returns a submission by its name: the message, its events and its evaluations."""
        request = submission_service_pb2.GetSubmissionRequest(name=name)
        events = lifecycle_service_pb2.ListSubmissionEventsRequest(parent=name)
        evaluations = evaluation_service_pb2.ListEvaluationsRequest(parent=name)
        return {
            "submission": self._call(self._submissions.GetSubmission, request),
            "events": list(self._list(self._lifecycle.ListSubmissionEvents, events)),
            "evaluations": list(self._list(self._evaluations.ListEvaluations, evaluations)),
        }

    def refusal(self, name: str) -> Json:
        """Returns the error of reading a submission that the caller may not read."""
        answer = self._call(
            self._submissions.GetSubmission, submission_service_pb2.GetSubmissionRequest(name=name)
        )
        assert "error" in answer
        return answer

    def receipts(self, events: Sequence[Json]) -> dict[str, Json]:
        """Returns every receipt that the events of a submission name, by version."""
        return {
            str(event["version"]): self._call(
                self._audit.GetReceipt,
                audit_service_pb2.GetReceiptRequest(
                    name=event["submission"], version=event["version"]
                ),
            )
            for event in events
            if "receipt_sha256" in event.get("details", {})
        }

    def evidence_sha256(self, evaluation: str) -> str:
        """Returns the sha256 of the serialised evidence behind a report."""
        request = evaluation_service_pb2.GetEvidenceRequest(evaluation=evaluation)
        answer = self._evaluations.GetEvidence(request, timeout=30, metadata=self._metadata)
        content = answer.evidence.SerializeToString(deterministic=True)
        return hashlib.sha256(content).hexdigest()

    def organisations(self) -> Json:
        """Returns organisations with their keys and quotas, and the operators' admin events.

        The time at which the daily quota is reset is left out, because it depends on today's date.
        """
        request = admin_service_pb2.ListOrganisationsRequest()
        organisations: Json = {}
        for item in self._list(self._admin.ListOrganisations, request):
            keys = admin_service_pb2.ListApiKeysRequest(parent=item["name"])
            usage = admin_service_pb2.GetQuotaRequest(name=item["name"])
            organisations[item["name"]] = {
                "organisation": item,
                "keys": list(self._list(self._admin.ListApiKeys, keys)),
                "usage": _without(self._call(self._admin.GetQuota, usage), "reset_time"),
            }
        listing = admin_service_pb2.ListAdminEventsRequest()
        events = self._call(self._admin.ListAdminEvents, listing)["events"]
        return {"organisations": organisations, "admin_events": events}

    def _call(self, method: Any, request: Any) -> Json:
        """Returns the answer, or the status code and reason of the error."""
        try:
            return _json(method(request, timeout=30, metadata=self._metadata))
        except grpc.RpcError as error:
            return {"error": [error.code().name, _reason(error)]}

    def _list(self, method: Any, request: Any) -> Iterator[Json]:
        """Yields the items of every page of a list."""
        while True:
            answer = method(request, timeout=30, metadata=self._metadata)
            items = next(field for field in answer.DESCRIPTOR.fields if field.is_repeated)
            yield from map(_json, getattr(answer, items.name))
            request.page_token = answer.next_page_token
            if not request.page_token:
                return


def everything(observer: Observer, moments: Sequence[str]) -> Json:
    """Returns everything that an operator may read, with the boards as of each of `moments`."""
    benchmarks = observer.benchmarks()
    view: Json = {"audit": observer.audit(), "organisations": observer.organisations()}
    view["benchmarks"] = {
        name: {
            "benchmark": message,
            "changes": observer.changes(name),
            "boards": {moment: observer.board(name, moment) for moment in (NOW, *moments)},
        }
        for name, message in benchmarks.items()
    }
    view["submissions"] = {}
    for name in benchmarks:
        for item in observer.submissions(name):
            submission = observer.submission(item["name"])
            assert submission["submission"] == item
            submission["receipts"] = observer.receipts(submission["events"])
            submission["evidence_sha256"] = {
                evaluation["name"]: observer.evidence_sha256(evaluation["name"])
                for evaluation in submission["evaluations"]
                if "report" in evaluation
            }
            view["submissions"][item["name"]] = submission
    return view


SAME = "as for an operator"
"""What `restricted` returns for a submission that a caller may read completely."""


def restricted(observer: Observer, full: Mapping[str, Json]) -> Json:
    """Returns what another caller can read of each submission in `full`, an operator's view.

    Reports are left out, because a caller who may read an evaluation may read its report.
    """
    listed = {
        item["name"]: item for name in observer.benchmarks() for item in observer.submissions(name)
    }
    submissions: Json = {}
    for name, complete in full.items():
        answer = observer.submission(name) if name in listed else observer.refusal(name)
        if name in listed:
            assert answer["submission"] == listed[name]
            answer["evaluations"] = [_without(item, "report") for item in answer["evaluations"]]
        unredacted = {
            "submission": complete["submission"],
            "events": complete["events"],
            "evaluations": [_without(item, "report") for item in complete["evaluations"]],
        }
        submissions[name] = SAME if answer == unredacted else answer
    sealed = [link["place"] for link in observer.audit()["links"] if "event" not in link]
    return {"submissions": submissions, "sealed_links": sealed}


def take_spreads(view: Json, benchmarks: Sequence[str]) -> Json:
    """Removes the fields that count resamples from the boards of some benchmarks; returns them."""
    spreads: Json = {}
    for name in benchmarks:
        for moment, board in view["benchmarks"][name]["boards"].items():
            rows = {
                row["submission"]: {
                    field: row["spread"].pop(field) for field in SPREAD if field in row["spread"]
                }
                for row in board["entries"]
                if "spread" in row
            }
            shares = board.get("comparison", {}).pop("rank_frequencies", [])
            spreads.setdefault(name, {})[moment] = {"rows": rows, "rank_frequencies": shares}
    return spreads


def differences(expected: Any, actual: Any, path: str = "") -> Iterator[str]:
    """Yields each value of `expected` that `actual` lacks; `actual` may have more fields."""
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        for key, value in expected.items():
            if key in actual:
                yield from differences(value, actual[key], f"{path}.{key}")
            else:
                yield f"{path}.{key} is absent; expected {json.dumps(value)[:200]}"
    elif isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        for index, pair in enumerate(zip(expected, actual, strict=True)):
            yield from differences(*pair, f"{path}[{index}]")
    elif path.endswith("p_value") and math.isclose(expected, actual, rel_tol=1e-12):
        return  # p-values are never stored, and their last bits depend on the library
    elif expected != actual:
        yield f"{path} is {json.dumps(actual)[:200]}; expected {json.dumps(expected)[:200]}"


def _json(message: Any) -> Json:
    text = json_format.MessageToJson(message, preserving_proto_field_name=True, sort_keys=True)
    fields: Json = json.loads(text)
    return fields


def _without(message: Json, field: str) -> Json:
    return {key: value for key, value in message.items() if key != field}


def _reason(error: grpc.RpcError) -> str:
    metadata: Json = {item[0]: item[1] for item in error.trailing_metadata() or ()}
    status = status_pb2.Status.FromString(metadata.get("grpc-status-details-bin", b""))
    info = error_details_pb2.ErrorInfo()
    return next((info.reason for detail in status.details if detail.Unpack(info)), "")
