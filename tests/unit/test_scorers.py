"""Scorers stand side by side by version; a benchmark and its digest depend on its own alone."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from cxreval.datasets.benchmark import SLICES, BenchmarkMetric, ranked_by, spec_problem
from cxreval.datasets.benchmark_file import load_spec, packaged_names, parse_spec, spec_from_fields
from cxreval.datasets.nih import FINDINGS
from cxreval.errors import DatasetInvalid
from cxreval.metrics.cohort import MAX_SLICES, Cohort, Slice
from cxreval.metrics.curves import Reliability, RocCurve
from cxreval.metrics.registry import METRICS, Direction, Metric
from cxreval.metrics.report import Evidence, Interval, MetricValue, Replicates, Report
from cxreval.metrics.scorers import SCORERS, Scorer
from cxreval.wire import reports
from cxreval.wire.limits import MAX_RECORD_BYTES
from tests.support.registry import small_spec

NIH_DIGEST = "58ed58b9137c8e1d4a7b9f0f14ab1922e764d5e7488421b0fc76c84a44b3d664"


@pytest.fixture
def version_3(monkeypatch):
    """A scorer with one metric more, as the next release might have it."""
    accuracy = Metric(
        "prevalence", "prev.", Direction.LOWER_IS_BETTER, "Share of positives.", "-", True,
        lambda _, positive: float(positive.mean()) if positive.size else None, resampled=False,
    )  # fmt: skip
    monkeypatch.setitem(METRICS, accuracy.name, accuracy)
    scorer = Scorer({**SCORERS["2"].metrics, accuracy.name: accuracy}, "auroc")
    monkeypatch.setitem(SCORERS, "3", scorer)


def test_the_packaged_specification_states_every_rule_and_keeps_its_digest(version_3):
    spec = load_spec("nih-chestxray14")
    assert (spec.findings, spec.metrics) == (FINDINGS, ranked_by("auroc"))
    assert (spec.ranking_metric, spec.scorer_version) == ("auroc", "2")
    assert (spec.replicates, spec.slices) == (2000, SLICES)
    assert spec.digest == NIH_DIGEST
    assert packaged_names() == ["nih-chestxray14"]


def test_what_earlier_versions_wrote_is_the_same_benchmark():
    spec = load_spec("nih-chestxray14")
    stored = json.loads(json.dumps(asdict(spec)))
    assert spec_from_fields(stored) == spec
    earlier = {
        key: value for key, value in stored.items() if key not in ("ranking_metric", "slices")
    }
    assert spec_from_fields({**earlier, "metrics": ["auroc"]}) == spec
    lines = [
        line
        for line in spec.to_toml().splitlines()
        if not line.startswith(("ranking_metric", "slices"))
    ]
    text = "\n".join(
        'metrics = ["auroc"]' if line.startswith("metrics") else line for line in lines
    )
    assert parse_spec(text, "benchmark.toml") == spec


def test_every_rule_is_in_the_digest():
    spec = small_spec("rules")
    changes = {
        "findings": FINDINGS[:3],
        "metrics": ranked_by("auroc", "brier"),
        "ranking_metric": "brier",
        "scorer_version": "3",
        "replicates": 101,
        "slices": ("sex",),
    }
    digests = {spec.digest}
    for field, value in changes.items():
        changed = replace(spec, **{field: value})
        if field == "ranking_metric":
            changed = replace(changed, metrics=ranked_by("auroc", "brier"))
        digests.add(changed.digest)
    worse = (BenchmarkMetric("auroc", Direction.LOWER_IS_BETTER),)
    digests.add(replace(spec, metrics=worse).digest)
    assert len(digests) == len(changes) + 2
    assert (
        replace(spec, title="Other", list_file="other", labels_file="other").digest == spec.digest
    )


def test_a_scorer_that_this_version_lacks_is_refused_by_name():
    text = replace(small_spec("later"), scorer_version="9").to_toml()
    with pytest.raises(
        DatasetInvalid, match="one of 2, the scorers of this version of cxreval"
    ) as caught:
        parse_spec(text, "benchmark.toml")
    assert caught.value.metadata["field"] == "scorer_version"


def test_a_metric_without_replicates_cannot_rank(version_3):
    spec = replace(small_spec("unresampled"), scorer_version="3")
    wrong = replace(spec, metrics=(BenchmarkMetric("prevalence", Direction.LOWER_IS_BETTER),))
    text = replace(wrong, ranking_metric="prevalence").to_toml()
    with pytest.raises(DatasetInvalid, match="distinct metrics among auroc"):
        parse_spec(text, "benchmark.toml")


def test_the_evidence_has_the_replicates_of_each_metric_that_is_recorded():
    draw = np.random.default_rng(0)
    labels = draw.random((60, 2)) < 0.5
    probabilities = draw.random((60, 2), dtype=np.float32)
    patients = np.arange(60) // 2
    part = Slice("sex", "F", np.arange(60) % 2 == 0)
    cohort = Cohort(("Mass", "Hernia"), labels, np.ones_like(labels), patients, 30, (part,))
    values, evidence = SCORERS["2"].score(cohort, probabilities, 1, 100, ("brier", "auroc"))
    names = ["Mass", "Hernia", ""]
    assert [(item.metric, item.finding) for item in evidence.replicates] == [
        (metric, name) for metric in ("brier", "auroc") for name in names
    ]
    for item in evidence.replicates:
        (value,) = (
            one
            for one in values
            if (one.metric, one.finding, one.slice) == (item.metric, item.finding, "")
        )
        low, high = np.percentile(item.values, (2.5, 97.5))
        assert (value.interval.low, value.interval.high) == (low, high)


def small_cohort(findings=("Mass", "Hernia"), slices=()):
    draw = np.random.default_rng(0)
    labels = draw.random((60, len(findings))) < 0.5
    patients = np.arange(60) // 2
    cohort = Cohort(findings, labels, np.ones_like(labels), patients, 30, slices)
    return cohort, draw.random((60, len(findings)), dtype=np.float32)


def test_a_metric_that_is_not_resampled_has_values_without_intervals(version_3):
    values, evidence = SCORERS["3"].score(*small_cohort(), 1, 100, ("auroc",))
    of_it = [value for value in values if value.metric == "prevalence"]
    assert [value.finding for value in of_it] == ["Mass", "Hernia", ""]
    assert all(value.value is not None and value.interval is None for value in of_it)
    assert {value.interval_undefined_reason for value in of_it} == {"NOT_RESAMPLED"}
    assert {item.metric for item in evidence.replicates} == {"auroc"}
    two, _ = SCORERS["2"].score(*small_cohort(), 1, 100, ("auroc",))
    assert [value for value in values if value.metric != "prevalence"] == list(two)


def test_a_scorer_computes_with_its_own_metrics():
    """A later definition under an old name leaves the old scorer's figures as they are."""
    changed = replace(METRICS["brier"], compute=lambda *_: 0.25)
    scorer = Scorer({**SCORERS["2"].metrics, "brier": changed}, "auroc")
    values, _ = scorer.score(*small_cohort(), 1, 100, ("auroc",))
    assert {value.value for value in values if value.metric == "brier"} == {0.25}
    old, _ = SCORERS["2"].score(*small_cohort(), 1, 100, ("auroc",))
    assert {value.value for value in old if value.metric == "brier"} != {0.25}


@pytest.mark.parametrize(
    ("findings", "metrics", "replicates"),
    [(200, ("auroc",), 2600), (25, ("auroc", "brier"), 10_000), (86, tuple(METRICS), 1000)],
)
def test_the_largest_accepted_benchmark_has_a_report_that_the_registry_takes(
    findings, metrics, replicates
):
    spec = replace(
        small_spec("largest"),
        findings=tuple(f"Finding {number}" for number in range(findings)),
        metrics=ranked_by(*metrics),
        ranking_metric=metrics[-1],
        replicates=replicates,
    )
    assert spec_problem(spec) is None
    more = replace(spec, replicates=replicates + replicates // 10)
    assert spec_problem(more)[0] == "replicates"
    names = (*spec.findings, "")
    rows = [(metric, name, "") for metric in METRICS for name in names]
    rows += [("auroc", name, f"view={k}") for k in range(MAX_SLICES) for name in names]
    values = tuple(
        MetricValue(metric, name, 0.5, "", 99, 9999, 99, part, Interval(0.4, 0.6, 0.05))
        for metric, name, part in rows
    )
    points = tuple(np.linspace(0, 1, 500).tolist())
    evidence = Evidence(
        tuple(
            Replicates(metric, name, np.full(replicates, 0.5))
            for metric in metrics
            for name in names
        ),
        tuple(RocCurve(name, points, points) for name in spec.findings),
        tuple(Reliability(name, (9,) * 15, (0.5,) * 15, (3,) * 15) for name in spec.findings),
    )
    report = Report(
        "benchmarks/largest", spec.digest, "2", 4, 4, values, "a" * 64, replicates, 1, evidence
    )
    message = reports.report_message(report)
    assert message.ByteSize() < MAX_RECORD_BYTES
    assert len(reports.report(message).metrics) == len(rows)
