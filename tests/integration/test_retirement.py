"""A benchmark is retired, superseded and reinstated; what was submitted before it is finished."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cxreval.audit import chain
from cxreval.bundle import SubmittedFile
from cxreval.datasets.label_rules import LabelRules
from cxreval.errors import BenchmarkNotFound, BenchmarkRetired, MalformedField
from cxreval.manifest.model import CheckpointFormat
from cxreval.records import Change, Retirement, SubmissionState
from cxreval.resource_names import BenchmarkName
from services.chassis.principal import EVERYBODY
from services.registry import migrations
from services.registry.convert import benchmarks as convert
from services.registry.domain.records import Benchmark
from services.registry.store.benchmarks import Benchmarks
from services.registry.store.organisations import Organisations
from tests.integration.test_registry_lifecycle import CLAIM, MANIFEST, PARENT, SPEC, Registry
from tests.integration.test_registry_lifecycle import registry as registry  # noqa: PLC0414 - the fixture
from tests.integration.test_registry_migrations import go_to

SUCCESSOR, THIRD = BenchmarkName("small-2"), BenchmarkName("small-3")
WRONG = "Laterality was read as Mass"


@pytest.fixture
def benchmarks(registry: Registry) -> Benchmarks:
    """The benchmarks `small`, `small-2` and `small-3`."""
    found = Benchmarks(registry.database, registry.now)
    for name in (SUCCESSOR, THIRD):
        found.create(replace(SPEC, name=name.benchmark))
    return found


def events(registry: Registry) -> list[tuple[str, str, str]]:
    """Returns actor, action and target of the admin events, oldest first."""
    latest = Organisations(registry.database, registry.now).admin_events()
    return [(event.actor, event.action, event.target) for event in reversed(latest)]


def test_a_retired_benchmark_refuses_every_kind_and_names_reason_and_successor(
    registry: Registry, benchmarks: Benchmarks
) -> None:
    retired = benchmarks.retire(PARENT, WRONG, SUCCESSOR, "operator")
    assert retired.retirement == Retirement(registry.time, WRONG, "benchmarks/small-2")
    assert benchmarks.get(PARENT) == retired
    for manifest in (MANIFEST, CLAIM):
        with pytest.raises(BenchmarkRetired, match=f"use benchmarks/small-2.*{WRONG}") as refused:
            registry.create(manifest)
        assert refused.value.metadata == {
            "field": "parent",
            "name": "benchmarks/small",
            "superseded_by": "benchmarks/small-2",
            "expected": "benchmarks/small-2",
        }
    assert registry.submissions.create(SUCCESSOR, MANIFEST, "", EVERYBODY).benchmark == "small-2"


def test_what_was_submitted_before_retirement_is_published_and_other_changes_stay_possible(
    registry: Registry, benchmarks: Benchmarks
) -> None:
    awaiting, queued, withdrawn = registry.create(), registry.create(), registry.published(0.7)
    cancelled = registry.create()
    registry.queue(queued)
    registry.change(cancelled, Change.CANCELLED)
    # A lease before retirement, so that the registry has read the benchmark's row.
    board = registry.on_board()
    benchmarks.retire(PARENT, WRONG, None, "operator")
    assert registry.on_board() == board
    with pytest.raises(BenchmarkRetired, match="no benchmark supersedes it"):
        registry.change(cancelled, Change.RETRIED)
    assert registry.submissions.get(cancelled, EVERYBODY).state is SubmissionState.CANCELLED
    registry.complete(0.8)
    registry.queue(awaiting)
    registry.complete(0.9)
    assert registry.on_board() == [awaiting.submission, queued.submission, withdrawn.submission]
    registry.change(withdrawn, Change.WITHDRAWN)
    registry.change(withdrawn, Change.REINSTATED)
    registry.events.chain()
    links = registry.links()
    assert chain.verify(iter(links)).place == len(links) > 0


def test_a_repeated_request_returns_the_submission_of_before_retirement(
    registry: Registry, benchmarks: Benchmarks
) -> None:
    request = "0" * 32
    created = registry.submissions.create(PARENT, MANIFEST, request, EVERYBODY)
    benchmarks.retire(PARENT, WRONG, None, "operator")
    again = registry.submissions.create(PARENT, MANIFEST, request, EVERYBODY)
    assert again.id == created.id


def test_a_lease_does_not_state_a_retirement_that_has_ended(
    registry: Registry, benchmarks: Benchmarks
) -> None:
    for _ in range(2):
        registry.queue(registry.create())
    benchmarks.retire(PARENT, WRONG, None, "operator")
    assert registry.evaluations.lease("worker", [PARENT], EVERYBODY)
    benchmarks.reinstate(PARENT, "the labels were right", "operator")
    lease = registry.evaluations.lease("worker", [PARENT], EVERYBODY)
    assert lease
    assert lease.benchmark == benchmarks.get(PARENT)


def test_retiring_again_changes_reason_and_successor_but_not_the_time_and_is_recorded_once(
    registry: Registry, benchmarks: Benchmarks
) -> None:
    first = benchmarks.retire(PARENT, WRONG, None, "operator")
    assert first == benchmarks.retire(PARENT, WRONG, None, "another")
    second = benchmarks.retire(PARENT, "Labels of 2019", SUCCESSOR, "operator")
    assert first.retirement
    assert second.retirement == Retirement(
        first.retirement.time, "Labels of 2019", "benchmarks/small-2"
    )
    for _ in range(2):
        assert benchmarks.reinstate(PARENT, "all is well", "operator").retirement is None
    registry.create()
    assert events(registry) == [
        ("operator", "benchmark_retired", f"benchmarks/small ({WRONG})"),
        (
            "operator",
            "benchmark_retired",
            "benchmarks/small (Labels of 2019; superseded by benchmarks/small-2)",
        ),
        ("operator", "benchmark_reinstated", "benchmarks/small (all is well)"),
    ]


def test_successors_exist_take_submissions_and_never_form_a_circle(
    registry: Registry, benchmarks: Benchmarks
) -> None:
    with pytest.raises(MalformedField, match=r"superseded_by .*another benchmark"):
        benchmarks.retire(PARENT, WRONG, PARENT, "operator")
    for name, successor in ((BenchmarkName("none"), None), (PARENT, BenchmarkName("none"))):
        with pytest.raises(BenchmarkNotFound, match="benchmarks/none"):
            benchmarks.retire(name, WRONG, successor, "operator")
    assert benchmarks.get(PARENT).retirement is None
    assert events(registry) == []
    benchmarks.retire(PARENT, WRONG, SUCCESSOR, "operator")
    benchmarks.retire(SUCCESSOR, WRONG, THIRD, "operator")
    with pytest.raises(BenchmarkRetired, match="small is retired; use benchmarks/small-2") as error:
        benchmarks.retire(THIRD, WRONG, PARENT, "operator")
    assert error.value.metadata["field"] == "superseded_by"


def test_creating_a_retired_benchmark_again_returns_its_retirement(benchmarks: Benchmarks) -> None:
    retired = benchmarks.retire(PARENT, WRONG, SUCCESSOR, "operator")
    assert benchmarks.create(SPEC) == retired
    message = convert.benchmark_message(retired)
    assert message.retirement.superseded_by == "benchmarks/small-2"
    # Output only: a request cannot create a benchmark that is retired.
    assert convert.spec(message) == SPEC


def test_way_back_forgets_retirement_and_forth_takes_submissions_again(
    registry: Registry, benchmarks: Benchmarks
) -> None:
    registry.published()
    before: Benchmark = benchmarks.get(PARENT)
    benchmarks.retire(PARENT, WRONG, SUCCESSOR, "operator")
    go_to(registry, "0011")
    go_to(registry, "head")
    assert benchmarks.get(PARENT) == before
    assert registry.create()
    actions = [action for _, action, _ in events(registry)]
    assert actions == ["benchmark_retired", "steps_by_publication"]


RULES = LabelRules(image="Path", patient="subject")
FILES = (SubmittedFile("model.onnx", "a" * 64), SubmittedFile("weights", "b" * 64))


def test_way_back_refuses_a_benchmark_with_rules_for_its_table(
    registry: Registry, benchmarks: Benchmarks
) -> None:
    hosted = benchmarks.create(replace(SPEC, name="hosted", labels=RULES))
    with pytest.raises(ValueError, match="benchmark hosted has rules for its label table, which"):
        go_to(registry, "0011")
    assert migrations.at_head(registry.database.engine)
    assert benchmarks.get(BenchmarkName("hosted")) == hosted


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"files": FILES, "ensemble": "mean"}, "ensemble, files"),
        ({"format": CheckpointFormat.TORCHSCRIPT}, "format torchscript"),
    ],
)
def test_way_back_refuses_a_manifest_that_earlier_versions_cannot_read(
    registry: Registry, changed: dict[str, Any], expected: str
) -> None:
    name = registry.create(replace(MANIFEST, **changed))
    message = rf"submission {name.submission} has {expected} in its manifest, .*before revision"
    with pytest.raises(ValueError, match=message):
        go_to(registry, "0011")
    assert migrations.at_head(registry.database.engine)
    assert registry.submissions.get(name, EVERYBODY).manifest == replace(MANIFEST, **changed)
