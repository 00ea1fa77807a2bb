"""`cxreval benchmark retire` and `reinstate`, and what the other commands say afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from cxreval.client import Retirement, SubmissionStatus
from cxreval.errors import BenchmarkRetired, MalformedField, MissingField, RoleRequired
from tests.integration.test_results_command import SPEC, Results
from tests.support.system import manifest

LATE = replace(manifest("Late", outputs=SPEC.findings), artifact_sha256="a" * 64)
WRONG = "Nodules were read as Mass"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    with Results(tmp_path_factory.mktemp("retirement")) as found:
        found.operator.create_benchmark(replace(SPEC, name="results-2"))
        yield found


def operator(registry: Results, *arguments: str) -> str:
    (who,) = (name for name in registry.keys if name.endswith("operator"))
    return registry.run("benchmark", *arguments, who=who).stdout


@pytest.fixture
def retired(registry: Results) -> Iterator[str]:
    """What the command printed that retired the benchmark."""
    command = ("retire", SPEC.name, "--reason", WRONG, "--superseded-by", "results-2")
    yield operator(registry, *command)
    operator(registry, "reinstate", SPEC.name, "--reason", "end of the test")


def test_every_command_on_a_retired_benchmark_names_date_successor_and_reason(
    registry: Results, retired: str
) -> None:
    line = f", superseded by benchmarks/results-2: {WRONG}"
    for printed in (
        retired,
        registry.run("benchmark", "list").stdout,
        registry.run("benchmark", "show", SPEC.name).stdout,
        registry.run("leaderboard", "--benchmark", SPEC.name).stdout,
    ):
        text = " ".join(printed.split())
        assert "Retired on 20" in text
        assert line in text
    board = registry.run("leaderboard", "--benchmark", SPEC.name, "--json").stdout
    assert json.loads(board)["retirement"]["reason"] == WRONG
    assert "Checkpoint" in registry.run("leaderboard", "--benchmark", SPEC.name).stdout
    assert registry.run("report", registry.checkpoint).stdout


def test_submissions_are_refused_before_an_upload(registry: Results, retired: str) -> None:
    del retired
    with pytest.raises(BenchmarkRetired, match=rf"use benchmarks/results-2\. Reason: {WRONG}"):
        registry.acme.create_submission(SPEC.name, LATE)


def test_a_queued_submission_is_still_evaluated_and_its_row_is_published(
    registry: Results, retired: str
) -> None:
    del retired
    registry.complete(registry.stubs("worker"))
    assert registry.acme.get_submission(registry.queued).status is SubmissionStatus.PUBLISHED
    board = registry.run("leaderboard", "--benchmark", SPEC.name).stdout
    assert all(model in board for model in ("Checkpoint", "Table", "Queued"))


def test_commands_take_the_first_benchmark_that_is_not_retired(registry: Results) -> None:
    def default() -> str:
        return str(json.loads(registry.run("benchmark", "show", "--json").stdout)["name"])

    names = [spec.name for spec in registry.operator.list_benchmarks()]
    assert default() == names[0]
    for name, following in zip(names, [*names[1:], names[0]], strict=True):
        registry.operator.retire_benchmark(name, WRONG)
        assert default() == following
    for name in names:
        registry.operator.reinstate_benchmark(name, "end of the test")


def test_only_operators_retire_and_a_reason_is_required(registry: Results) -> None:
    for who in ("acme/submitter", "worker"):
        with pytest.raises(RoleRequired, match="RetireBenchmark"):
            registry.client(who).retire_benchmark(SPEC.name, WRONG)
        with pytest.raises(RoleRequired, match="ReinstateBenchmark"):
            registry.client(who).reinstate_benchmark(SPEC.name, WRONG)
    for reason in ("", " ", "x" * 1001, "two\nlines"):
        with pytest.raises((MalformedField, MissingField), match="reason"):
            registry.operator.retire_benchmark(SPEC.name, reason)
    for successor in ("NO NAME", "x/submissions/y", SPEC.name):
        with pytest.raises(MalformedField, match="superseded_by"):
            registry.operator.retire_benchmark(SPEC.name, WRONG, successor)
    assert registry.operator.retirements() == {}


def test_a_reinstated_benchmark_takes_submissions_and_the_admin_events_say_who_and_why(
    registry: Results,
) -> None:
    first = registry.operator.retire_benchmark(SPEC.name, WRONG)
    assert registry.operator.retirements() == {SPEC.name: first}
    assert registry.operator.retirement(SPEC.name) == first == Retirement(first.time, WRONG)
    operator(registry, "reinstate", f"benchmarks/{SPEC.name}", "--reason", "the labels were right")
    assert registry.operator.retirement(SPEC.name) is None
    assert registry.stub.create_submission(SPEC.name, b"again", model="Again").name
    last, before = registry.operator.admin_events()[:2]
    assert (last.action, last.target) == (
        "benchmark_reinstated",
        f"benchmarks/{SPEC.name} (the labels were right)",
    )
    assert (before.action, before.target) == (
        "benchmark_retired",
        f"benchmarks/{SPEC.name} ({WRONG})",
    )
    assert last.actor.startswith("organisations/")
