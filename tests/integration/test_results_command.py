"""Results of a submission on the command line, in the client and in the asyncio client."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from click.testing import Result
from typer.testing import CliRunner

from cxreval.api.registry.v1 import evaluation_service_pb2, submission_pb2, submission_service_pb2
from cxreval.cli.app import app
from cxreval.client import (
    ApiKey,
    AsyncRegistryClient,
    Manifest,
    RegistryClient,
    SubmissionStatus,
    WorkerClient,
    file_sha256,
)
from cxreval.client.registry import RegistryMethods
from cxreval.datasets.prediction_file import read_predictions
from cxreval.errors import (
    AmbiguousName,
    CxrevalError,
    DeadlineExceeded,
    KeyUnknown,
    MalformedField,
    OwnerRequired,
    ReportNotFound,
    ServiceUnavailable,
    SubmissionNotFound,
)
from cxreval.metrics.predictions import PredictionTable, image_rows
from cxreval.wire import reports
from tests.support.access import ClosedRegistry
from tests.support.registry import (
    manifest_message,
    report_message,
    small_images,
    small_spec,
)
from tests.support.system import manifest

SPEC = small_spec("results")
VALUES = np.random.default_rng(7).random((4, len(SPEC.findings)), np.float32)


class Results(ClosedRegistry):
    """A registry with a published checkpoint, a published table, a draft and a queued one."""

    def __enter__(self) -> Results:
        super().__enter__()
        self.operator.create_benchmark(SPEC)
        self.operator.record_image_list(SPEC.name, small_images())
        self.stub, self.worker = self.stubs("acme/submitter"), self.client("worker")
        self.checkpoint = self._published(model="Checkpoint")
        self.table = self._published(
            kind=submission_pb2.Submission.KIND_PREDICTIONS, model="Table",
            format=submission_pb2.CHECKPOINT_FORMAT_UNSPECIFIED, preprocessing_profile="",
            source_kind=submission_pb2.SOURCE_KIND_PREDICTIONS, output_names=[],
        )  # fmt: skip
        self.draft = self.stub.create_submission(SPEC.name, b"draft", model="Draft").name
        self.queued = self.stub.submit(SPEC.name, b"queued", model="Queued").name
        self.acme, self.rival = self.client("acme/submitter"), self.client("rival/submitter")
        return self

    def _published(self, **changes: Any) -> str:
        name = self.stub.submit(SPEC.name, b"model", **changes).name
        self.complete(self.stubs("worker"))
        return name

    def complete(self, worker: Any) -> None:
        """Completes the oldest evaluation with other probabilities for each image."""
        lease = worker.lease(SPEC.name)
        token, name = lease.token, lease.evaluation.name
        order = [2, 0, 3, 1]
        images = [small_images()[row] for row in order]
        batch = reports.batch_message(images, VALUES[order])
        worker.evaluations.AppendPredictions(
            evaluation_service_pb2.AppendPredictionsRequest(
                evaluation=name, token=token, batch=batch
            )
        )
        report = report_message(SPEC, predictions_sha256=digest())
        worker.evaluations.CompleteEvaluation(
            evaluation_service_pb2.CompleteEvaluationRequest(
                evaluation=name, token=token, report=report
            )
        )

    def run(self, *arguments: str, who: str = "acme/submitter", code: int = 0) -> Result:
        environment = {
            "CXREVAL_CLIENT_REGISTRY": self.service.address,
            "CXREVAL_CLIENT_KEY": self.keys[who],
        }
        result = CliRunner().invoke(app, arguments, env=environment)
        if isinstance(result.exception, CxrevalError):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    @asynccontextmanager
    async def awaited(self, who: str = "acme/submitter") -> AsyncIterator[AsyncRegistryClient]:
        key = ApiKey(self.keys[who])
        async with asyncio.timeout(60), AsyncRegistryClient(self.service.address, key=key) as found:
            yield found


def digest() -> str:
    """Returns the digest of the predictions of `VALUES`."""
    table = PredictionTable(image_rows(sorted(small_images())), SPEC.findings)
    table.add(small_images(), VALUES)
    return table.sha256()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    with Results(tmp_path_factory.mktemp("results")) as found:
        yield found


def identifier(name: str) -> str:
    return name.rpartition("/")[2]


# --- reports --------------------------------------------------------------------------------------


def test_report_prints_what_score_prints(registry: Results) -> None:
    text = registry.run("report", identifier(registry.checkpoint)[:12]).stdout
    assert text.startswith(f"Checkpoint on {SPEC.title}\n")
    assert "0.8000  0.7800-0.8200" in text
    assert "Macro AUROC by slice" in text
    found = json.loads(registry.run("report", registry.checkpoint, "--json").stdout)
    assert found.keys() == {"report", "against", "comparison"}
    assert len(found["report"]["evidence"]["replicates"][0]["values"]) == SPEC.replicates


def test_a_report_that_does_not_exist_says_why(registry: Results) -> None:
    with pytest.raises(ReportNotFound, match="has no report, because it is awaiting_artifact"):
        registry.acme.report(registry.draft)
    claim = next(iter(registry.acme.leaderboard("nih-chestxray14"))).submission
    with pytest.raises(ReportNotFound, match="is a claim: nothing was run or scored"):
        registry.run("report", claim)
    with pytest.raises(ReportNotFound, match="queued"):
        registry.run("predictions", registry.queued, "-o", "never.csv")
    assert not Path("never.csv").exists()


def test_a_report_gives_figures_by_finding_and_a_frame(registry: Results) -> None:
    report = registry.acme.report(registry.checkpoint)
    assert (report.auroc["Mass"], report.macro) == (0.8, 0.8)
    assert report.values("brier")["Hernia"] == 0.8
    frame = report.to_frame()
    assert len(frame) == len(report.metrics)
    (mass,) = frame.query("metric == 'auroc' and finding == 'Mass' and slice == ''").to_dict(
        "records"
    )
    assert (mass["value"], mass["low"], mass["high"]) == pytest.approx((0.8, 0.78, 0.82))
    assert "interval" not in frame.columns


# --- predictions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mine.csv", "mine.PARQUET"])
def test_saved_predictions_are_bit_equal_and_have_no_labels(
    registry: Results, tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    registry.run("predictions", registry.table, "-o", str(file))
    images, values, _ = read_predictions(file, SPEC.findings)
    assert images == sorted(small_images())
    assert values.tobytes() == VALUES.tobytes()
    if name.endswith("csv"):
        columns = file.read_text().splitlines()[0].split(",")
    else:
        columns = pyarrow.parquet.read_table(file).column_names
    assert columns == ["Image Index", *SPEC.findings]


def test_a_table_is_given_to_its_organisation_and_operators_only(
    registry: Results, tmp_path: Path
) -> None:
    file = str(tmp_path / "theirs.csv")
    with pytest.raises(OwnerRequired):
        registry.run("predictions", registry.table, "-o", file, who="rival/submitter")
    assert not list(tmp_path.iterdir())
    registry.run("predictions", registry.table, "-o", file, who="operator")
    assert len((tmp_path / "theirs.csv").read_text().splitlines()) == 5


@pytest.mark.parametrize("file", ["mine.txt", "mine", "absent/mine.csv"])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_read(
    registry: Results, tmp_path: Path, file: str
) -> None:
    with pytest.raises(MalformedField) as caught:
        registry.run("predictions", registry.table, "-o", str(tmp_path / file))
    assert caught.value.metadata["field"] == "output"


# --- benchmarks -----------------------------------------------------------------------------------


def test_benchmarks_are_listed_and_shown(registry: Results) -> None:
    listed = registry.run("benchmark", "list").stdout.splitlines()
    assert {"nih-chestxray14", SPEC.name} <= set(listed)
    found = json.loads(registry.run("benchmark", "list", "--json").stdout)
    assert [item["name"] for item in found] == ["nih-chestxray14", SPEC.name]
    shown = " ".join(registry.run("benchmark", "show", f"benchmarks/{SPEC.name}").stdout.split())
    assert "metrics: auroc (higher is better)" in shown
    assert SPEC.digest in shown
    assert json.loads(registry.run("benchmark", "show", SPEC.name, "--json").stdout)[
        "digest"
    ] == SPEC.digest  # fmt: skip


# --- names ----------------------------------------------------------------------------------------


def test_every_form_of_a_name_is_the_same_submission(registry: Results) -> None:
    name = registry.checkpoint
    short = f"benchmarks/{SPEC.name}/submissions/{identifier(name)[:8]}"
    for given in (name, identifier(name), identifier(name)[:8], short):
        assert registry.acme.get_submission(given).name == name
    board = registry.run("leaderboard", "--benchmark", f"benchmarks/{SPEC.name}").stdout
    assert identifier(name)[:8] in board


def test_every_command_takes_an_id(registry: Results, tmp_path: Path) -> None:
    published, draft = identifier(registry.checkpoint), identifier(registry.draft)
    said = {
        ("status", draft): "awaiting_artifact",
        ("submission", "show", draft[:10]): "awaiting_artifact",
        ("submission", "history", draft): "created",
        ("compare", published, identifier(registry.table)): registry.checkpoint,
        ("submission", "dispute", published, "--reason", "why"): "disputed",
    }
    for arguments, expected in said.items():
        assert expected in registry.run(*arguments).stdout, arguments
    resolve = ("submission", "resolve", published, "--reason", "ok")
    assert "published" in registry.run(*resolve, who="operator").stdout
    registry.run("audit", "receipt", published, str(tmp_path / "receipt"))
    assert registry.checkpoint in (tmp_path / "receipt").read_text()
    (tmp_path / "model.onnx").write_bytes(b"draft")
    other = registry.stub.create_submission(SPEC.name, b"draft", model="Uploaded").name
    text = registry.run("submission", "upload", identifier(other), str(tmp_path / "model.onnx"))
    assert "queued" in text.stdout
    assert "cancelled" in registry.run(
        "submission", "cancel", identifier(other), "--reason", "a test"
    ).stdout  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["abc", "", "ABCDEF12", "0123456789" * 4, "benchmarks/b/submissions/x", "a\nbcd", "%%%%"],
)
def test_a_name_of_another_form_is_refused_without_a_call(name: str) -> None:
    with RegistryClient("127.0.0.1:1") as client, pytest.raises(MalformedField) as caught:
        client.get_submission(name)
    assert caught.value.metadata["field"] == "submission"


def test_an_id_that_the_caller_may_not_read_is_answered_like_one_that_does_not_exist(
    registry: Results,
) -> None:
    with pytest.raises(SubmissionNotFound, match="no submission that you may read"):
        registry.rival.get_submission(identifier(registry.draft)[:8])
    with pytest.raises(SubmissionNotFound):
        registry.rival.get_submission(identifier(registry.draft))
    with pytest.raises(SubmissionNotFound, match="of nih-chestxray14"):
        registry.acme.get_submission(
            f"benchmarks/nih-chestxray14/submissions/{identifier(registry.draft)[:8]}"
        )


def test_the_registry_refuses_a_malformed_prefix_and_all_benchmarks_without_one(
    registry: Results,
) -> None:
    for parent, prefix in (
        ("benchmarks/-", ""),
        ("benchmarks/-", "abc"),
        ("benchmarks/-", "%" * 8),
    ):
        with pytest.raises(Exception, match=r"parent|id_prefix"):
            registry.stub.submissions.ListSubmissions(
                submission_service_pb2.ListSubmissionsRequest(parent=parent, id_prefix=prefix)
            )


def test_a_beginning_of_several_ids_lists_them(
    registry: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (
        submission_pb2.Submission(
            name=f"benchmarks/b/submissions/abcd{digit * 28}", manifest=manifest_message(b"")
        )
        for digit in "12"
    )
    answer = submission_service_pb2.ListSubmissionsResponse(submissions=[first, second])
    monkeypatch.setattr(registry.acme, "_submissions", Answering(answer))
    with pytest.raises(AmbiguousName) as caught:
        registry.acme.get_submission("abcd")
    assert first.name in caught.value.message
    assert f"{second.name} (Model)" in caught.value.message


class Answering:
    def __init__(self, answer: Any) -> None:
        self.ListSubmissions = lambda request, timeout, metadata: answer


# --- waiting --------------------------------------------------------------------------------------


def test_wait_returns_the_ended_submission_and_gives_up_after_its_timeout(
    registry: Results,
) -> None:
    seen: list[str] = []
    ended = registry.acme.wait(
        registry.table, timeout=30, on_progress=lambda latest: seen.append(latest.status)
    )
    assert ended.status is SubmissionStatus.PUBLISHED
    assert seen == ["published"]
    with pytest.raises(DeadlineExceeded, match=r"is over, and it is queued; wait again"):
        registry.acme.wait(registry.queued, timeout=0.5)
    with pytest.raises(DeadlineExceeded):
        registry.acme.wait(registry.queued, timeout=0)


def test_a_board_is_a_sequence_of_its_rows(registry: Results) -> None:
    board = registry.acme.leaderboard(SPEC.name)
    assert len(board) == 2
    assert board[0] is board.entries[0]
    assert board[-1] is board[1]
    assert board[:1] == (board[0],)
    assert [row.rank for row in board] == [1, 1]


# --- the asyncio client ---------------------------------------------------------------------------


def test_both_clients_have_the_same_methods_and_a_worker_more() -> None:
    def methods(kind: type) -> set[str]:
        members = inspect.getmembers(kind, inspect.isfunction)
        return {name for name, _ in members if not name.startswith("_")}

    assert methods(RegistryClient) == methods(AsyncRegistryClient)
    assert methods(WorkerClient) - methods(RegistryClient) == {
        "append_predictions", "complete_evaluation", "confirm_predictions", "drop_predictions",
        "fail_evaluation", "lease_evaluation", "read_predictions", "renew_lease",
        "upload_derived_artifact",
    }  # fmt: skip
    for name in methods(RegistryMethods):
        blocking = inspect.signature(getattr(RegistryClient, name))
        awaited = inspect.signature(getattr(AsyncRegistryClient, name))
        assert blocking.parameters == awaited.parameters
        assert "AsyncIterator" not in str(blocking.return_annotation)


def test_the_asyncio_client_submits_waits_and_reads_results(
    registry: Results, tmp_path: Path
) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"x" * (3 << 20))
    declared: Manifest = manifest("Awaited")

    async def run() -> None:
        async with registry.awaited() as client:
            submission = await client.submit(SPEC.name, declared, str(file))
            assert submission.manifest.artifact_sha256 == file_sha256(file)
            with pytest.raises(DeadlineExceeded):
                await client.wait(identifier(submission.name)[:10], timeout=0.2)
            names = [item.name async for item in client.list_submissions(SPEC.name)]
            assert submission.name in names
            await client.cancel(submission.name, "a test")
            assert (
                await client.wait(submission.name, timeout=30)
            ).status is SubmissionStatus.CANCELLED
            report, predictions, board = await asyncio.gather(
                client.report(registry.table, evidence=True),
                client.predictions(registry.table),
                client.leaderboard(SPEC.name),
            )
            assert report.evidence
            assert predictions.probabilities.tobytes() == VALUES.tobytes()
            assert len(board) == 2
            with pytest.raises(ReportNotFound):
                await client.report(registry.draft)

    asyncio.run(run())


def test_a_cancelled_task_ends_its_call_at_once(registry: Results) -> None:
    async def run() -> list[str]:
        states = []
        async with registry.awaited() as client:

            async def follow() -> None:
                async for latest in client.watch(registry.queued):
                    states.append(latest.status)
                    watched.set_result(None)

            watched = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(follow())
            await asyncio.wait_for(watched, timeout=30)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(task, timeout=5)
        return states

    assert asyncio.run(run()) == ["queued"]


def test_the_asyncio_client_raises_the_same_errors(registry: Results) -> None:
    async def run() -> None:
        async with AsyncRegistryClient("127.0.0.1:1") as client:
            with pytest.raises(ServiceUnavailable, match=r"registry at 127\.0\.0\.1:1 without TLS"):
                await client.leaderboard(SPEC.name)
        wrong = ApiKey("cxr_0123456789abcdef_" + "0" * 64)
        async with AsyncRegistryClient(registry.service.address, key=wrong) as client:
            with pytest.raises(KeyUnknown):
                await client.quota()

    asyncio.run(run())


def test_the_blocking_client_works_where_an_event_loop_runs(registry: Results) -> None:
    async def run() -> int:
        return len(list(registry.acme.list_submissions(SPEC.name)))

    assert asyncio.run(run()) >= 4
