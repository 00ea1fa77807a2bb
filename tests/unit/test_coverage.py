"""Predictions that lack findings: the figures of those that they have, and no macro mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.datasets.truth import Truth
from cxreval.errors import MalformedField, NotComparable, ReportMismatch, UnknownFinding
from cxreval.metrics.cohort import Cohort, Slice
from cxreval.metrics.comparison import compare_reports
from cxreval.metrics.predictions import PredictionTable, image_rows
from cxreval.metrics.report import MetricValue, Report, covered_findings, macro
from services.registry.domain.report import check_report
from tests.support.registry import small_images, small_spec

IMAGES = 80
NAMES = small_images(IMAGES)
SPEC = replace(small_spec("coverage", IMAGES), patient_count=IMAGES // 4)
FINDINGS = SPEC.findings
DRAW = np.random.default_rng(3)
LABELS = DRAW.random((IMAGES, len(FINDINGS))) < 0.3
PROBABILITIES = np.clip(0.3 * LABELS + 0.7 * DRAW.random(LABELS.shape), 0, 1).astype(np.float32)
SUBSETS = st.sets(st.sampled_from(FINDINGS), min_size=1).map(SPEC.covered_by)
PARTIAL = SUBSETS.filter(lambda covered: covered != FINDINGS)


def truth(spec: BenchmarkSpec = SPEC) -> Truth:
    columns = [FINDINGS.index(finding) for finding in spec.findings]
    half = np.arange(IMAGES) < IMAGES // 2
    patients = np.arange(IMAGES) // 4
    labels = LABELS[:, columns]
    slices = (Slice("sex", "F", half), Slice("sex", "M", ~half))
    known = np.ones_like(labels)
    cohort = Cohort(spec.findings, labels, known, patients, IMAGES // 4, slices)
    return Truth(spec, image_rows(NAMES), cohort)


def columns(covered: Sequence[str]) -> NDArray[np.float32]:
    return PROBABILITIES[:, [FINDINGS.index(finding) for finding in covered]]


@cache
def report(covered: tuple[str, ...] = FINDINGS) -> Report:
    table = truth().table(covered)
    table.add(NAMES, columns(covered))
    return truth().report(table)


def value_of(values: Sequence[MetricValue], metric: str, finding: str, part: str) -> MetricValue:
    (found,) = (
        value
        for value in values
        if (value.metric, value.finding, value.slice) == (metric, finding, part)
    )
    return found


@given(PARTIAL)
@settings(max_examples=10)
def test_covered_findings_have_the_figures_that_a_complete_model_has(
    covered: tuple[str, ...],
) -> None:
    partial, whole = report(covered), report()
    assert covered_findings(partial.metrics) == covered
    for ours, theirs in zip(partial.metrics, whole.metrics, strict=True):
        if ours.finding in covered:
            assert ours == theirs
        else:
            assert (ours.value, ours.interval, ours.undefined_reason) == (None, None, "NOT_COVERED")
            assert ours.positive_images == theirs.positive_images  # a fact of the labels
    mean = macro(partial.metrics, "auroc")
    assert mean is not None
    assert (mean.defined_findings, mean.analytic_standard_error) == (len(covered), None)
    assert partial.evidence is not None
    assert whole.evidence is not None
    vectors = {
        (item.metric, item.finding): item.values.tobytes() for item in whole.evidence.replicates
    }
    for item in partial.evidence.replicates:
        assert item.values.tobytes() == vectors[item.metric, item.finding]
    assert [item.finding for item in partial.evidence.replicates] == list(covered)
    assert [item.finding for item in partial.evidence.reliabilities] == list(covered)


@given(SUBSETS)
@settings(max_examples=10)
def test_the_registry_accepts_the_report_of_any_coverage_that_the_manifest_names(
    covered: tuple[str, ...],
) -> None:
    check_report(report(covered), SPEC, covered)
    check_report(report(covered), SPEC)  # a table: the manifest names no finding


def changed(source: Report, index: int, **fields: object) -> Report:
    metrics = list(source.metrics)
    metrics[index] = replace(metrics[index], **fields)  # type: ignore[arg-type]
    return replace(source, metrics=tuple(metrics), evidence=source.evidence)


SOME = FINDINGS[:2]
MACRO = len(FINDINGS)
LIES = {
    "another finding than the manifest": (report(SOME), FINDINGS[1:3]),
    "fewer findings than the manifest": (report(SOME), FINDINGS),
    "more findings than the manifest": (report(), SOME),
    "a macro mean over two findings": (
        changed(report(SOME), MACRO, value=0.99, undefined_reason=""),
        SOME,
    ),
    "another reason for the macro mean": (
        changed(report(SOME), MACRO, undefined_reason="FINDING_UNDEFINED"),
        SOME,
    ),
    "a finding that one metric covers": (
        changed(report(SOME), MACRO + 3, value=0.5, undefined_reason=""),
        (),
    ),
    "a finding that is left out in one slice": (
        changed(
            report(SOME),
            6 * (MACRO + 1),
            value=None,
            interval=None,
            interval_undefined_reason="",
            undefined_reason="NOT_COVERED",
        ),
        SOME,
    ),
    "replicates of a finding that is not covered": (
        replace(report(SOME), evidence=report(FINDINGS[:3]).evidence),
        SOME,
    ),
    "the evidence of a complete model": (replace(report(SOME), evidence=report().evidence), SOME),
    "no finding": (
        replace(
            report(SOME),
            metrics=tuple(
                MetricValue(value.metric, value.finding, None, "NOT_COVERED", slice=value.slice)
                for value in report().metrics
            ),
        ),
        (),
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_report_of_another_coverage_than_it_should_have_is_refused(lie: str) -> None:
    wrong, named = LIES[lie]
    with pytest.raises(ReportMismatch):
        check_report(wrong, SPEC, named)


@given(PARTIAL, PARTIAL)
def test_tables_of_different_findings_have_different_digests(
    one: tuple[str, ...], other: tuple[str, ...]
) -> None:
    def digest(covered: tuple[str, ...]) -> str:
        table = PredictionTable(image_rows(NAMES), FINDINGS, covered)
        table.add(NAMES, np.full((IMAGES, len(covered)), 0.5, np.float32))
        return table.sha256()

    assert (digest(one) == digest(other)) == (one == other)


def test_a_complete_table_has_the_digest_that_it_always_had() -> None:
    tables = [PredictionTable(image_rows(NAMES), FINDINGS, covered) for covered in ((), FINDINGS)]
    for table in tables:
        table.add(NAMES, PROBABILITIES)
    assert tables[0].sha256() == tables[1].sha256()


def test_reports_are_compared_by_the_findings_that_both_cover() -> None:
    pairs = compare_reports(report(FINDINGS[:3]), report(FINDINGS[2:5]), "auroc")
    assert [pair.finding for pair in pairs] == [FINDINGS[2]]
    assert pairs[0].difference == 0
    with pytest.raises(NotComparable, match="no finding in common"):
        compare_reports(report(FINDINGS[:2]), report(FINDINGS[2:5]), "auroc")


@given(st.permutations(FINDINGS), st.integers(0, len(FINDINGS)))
def test_chosen_findings_are_in_the_order_of_the_benchmark(names: list[str], count: int) -> None:
    assert SPEC.chosen(names[:count], "findings") == SPEC.covered_by(names[:count])


@pytest.mark.parametrize(
    ("names", "error", "field"),
    [
        (("Mass", "Mass"), MalformedField, "findings"),
        (("Mass", "mass"), UnknownFinding, "findings[1]"),
        (("",), UnknownFinding, "findings[0]"),  # the stored name of the macro mean
        (("Mass",) * 100_000, MalformedField, "findings"),
    ],
)
def test_a_wrong_choice_of_findings_is_refused_with_its_place(
    names: tuple[str, ...], error: type[Exception], field: str
) -> None:
    with pytest.raises(error) as caught:
        SPEC.chosen(names, "findings")
    assert caught.value.metadata["field"] == field  # type: ignore[attr-defined]
