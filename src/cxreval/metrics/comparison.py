"""Compares two reports of one benchmark by a metric, for each finding and for the macro mean."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from cxreval.errors import NotComparable
from cxreval.metrics.ranking import ALPHA, Entry, compare, holm
from cxreval.metrics.report import Evidence, MetricValue, Report

_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """The difference of a metric of one finding in two reports, `first` minus `second`.

    `finding`: empty for the macro mean. `low`, `high`: the 95 % interval of the difference; None
    where too many replicates are undefined, and `p_value` is 1 there. `adjusted_p_value`: after
    Holm's correction over the findings; for the macro mean, which is one test, the `p_value`.
    """

    finding: str
    first: float
    second: float
    difference: float
    low: float | None
    high: float | None
    p_value: float
    adjusted_p_value: float

    @property
    def separable(self) -> bool:
        """Whether the test separates the two reports."""
        return self.adjusted_p_value < ALPHA


def compare_reports(first: Report, second: Report, metric: str) -> tuple[PairedDifference, ...]:
    """Returns the differences of two reports by a metric: of each finding, then of the macro mean.

    Findings for which the metric is undefined in one of them are left out.

    Raises:
        NotComparable: the reports are of different benchmarks, a report has no replicates, or the
            metric is defined for no finding in both.
    """
    if first.benchmark_digest != second.benchmark_digest:
        digests = f"{first.benchmark_digest} and {second.benchmark_digest}"
        message = f"the reports are of different benchmarks, {digests}; compare reports of one"
        raise NotComparable(message, field="benchmark_digest", expected=first.benchmark_digest)
    scores, others = _scores(first, metric), _scores(second, metric)
    both = [finding for finding in scores if finding in others]
    if not both:
        message = f"the reports have no finding in common that has a value of {metric}"
        raise NotComparable(message, field="findings", expected="a finding in common")
    pairs = [_difference(finding, scores[finding], others[finding]) for finding in both]
    findings = [pair for pair in pairs if pair.finding]
    adjusted = holm(np.array([pair.p_value for pair in findings]))
    corrected = [
        replace(pair, adjusted_p_value=float(value))
        for pair, value in zip(findings, adjusted, strict=True)
    ]
    return (*corrected, *(pair for pair in pairs if not pair.finding))


def _scores(report: Report, metric: str) -> dict[str, tuple[float, NDArray[np.float64]]]:
    """Returns the defined values and their replicates by finding; the macro mean is last, as ""."""
    if report.evidence is None:
        raise NotComparable(
            "a report has no replicates; read it with its evidence", field="evidence"
        )
    vectors = {
        item.finding: item.values for item in report.evidence.replicates if item.metric == metric
    }
    return {
        value.finding: (value.value, vectors[value.finding])
        for value in report.metrics
        if value.metric == metric and not value.slice and value.value is not None
    }


def _difference(
    finding: str,
    first: tuple[float, NDArray[np.float64]],
    second: tuple[float, NDArray[np.float64]],
) -> PairedDifference:
    """Returns the difference of two values, each with its replicates."""
    entries = [
        Entry(finding, score, replicates=replicates) for score, replicates in (first, second)
    ]
    (pair,) = compare(entries)
    return PairedDifference(
        finding=finding,
        first=first[0],
        second=second[0],
        difference=pair.difference,
        low=None if math.isnan(pair.low) else pair.low,
        high=None if math.isnan(pair.high) else pair.high,
        p_value=pair.p_value,
        adjusted_p_value=pair.p_value,
    )


def first_difference(report: Report, other: Report) -> str:
    """Returns the first part in which two reports differ; empty if they are equal.

    All parts are compared bit for bit, except analytic standard errors: earlier versions added
    their terms in an order that depended on the processor, so they may differ by a relative 1e-12.
    NaN equals NaN in the evidence, which both reports must have to be equal. What depends on
    training lists, which a caller who scores again may lack, is compared only if both have it.
    """
    for field in fields(Report):
        ours, theirs = getattr(report, field.name), getattr(other, field.name)
        if field.name == "metrics" and ours != theirs:
            pairs = zip(ours, theirs, strict=False)
            different = [one for one, another in pairs if not _equal(one, another)]
            if different or len(ours) != len(theirs):
                return _named(different[0]) if different else "number of metrics"
            continue
        if field.name in ("contamination", "membership") and not (ours and theirs):
            continue
        if field.name != "evidence" and ours != theirs:
            return field.name
    if report.evidence is None or other.evidence is None:
        return "evidence"
    return _evidence_difference(report.evidence, other.evidence)


def _equal(value: MetricValue, other: MetricValue) -> bool:
    ours, theirs = value.analytic_standard_error, other.analytic_standard_error
    if ours is not None and theirs is not None and math.isclose(ours, theirs, rel_tol=_ROUNDING):
        other = replace(other, analytic_standard_error=ours)
    return value == other


def _evidence_difference(evidence: Evidence, other: Evidence) -> str:
    if len(evidence.replicates) != len(other.replicates):
        return "number of replicates"
    for ours, theirs in zip(evidence.replicates, other.replicates, strict=True):
        same_name = (ours.metric, ours.finding) == (theirs.metric, theirs.finding)
        if not same_name or ours.values.tobytes() != theirs.values.tobytes():
            return f"replicates of {_name(ours.metric, ours.finding)}"
    for field in ("roc_curves", "reliabilities"):
        if getattr(evidence, field) != getattr(other, field):
            return field
    return ""


def _named(value: MetricValue) -> str:
    return f"{_name(value.metric, value.finding)}{f' in {value.slice}' if value.slice else ''}"


def _name(metric: str, finding: str) -> str:
    return f"{metric} of {finding or 'the macro mean'}"
