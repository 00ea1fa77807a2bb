"""Scorers stand side by side by version; a benchmark and its digest depend on its own alone."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from cxreval.datasets.benchmark import (
    SLICES,
    BenchmarkMetric,
    load_spec,
    packaged_names,
    parse_spec,
    ranked_by,
    spec_from_fields,
)
from cxreval.datasets.nih import FINDINGS
from cxreval.errors import DatasetInvalid
from cxreval.metrics.cohort import Cohort, Slice
from cxreval.metrics.registry import METRICS, Direction, Metric
from cxreval.metrics.scorers import SCORERS, Scorer
from tests.support.registry import small_spec

NIH_DIGEST = "58ed58b9137c8e1d4a7b9f0f14ab1922e764d5e7488421b0fc76c84a44b3d664"


@pytest.fixture
def version_3(monkeypatch):
    """A scorer with one metric more, as the next release might have it."""
    accuracy = Metric(
        "prevalence", "prevalence", Direction.LOWER_IS_BETTER, "Share of positives.", "-", True,
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
