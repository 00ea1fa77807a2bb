"""Checks what a report says about training data: the declared overlap and the public lists."""

from __future__ import annotations

from collections.abc import Callable

from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.errors import CxrevalError, ReportMismatch
from cxreval.fields import SHA256, SHA256_FORM, field_error
from cxreval.metrics.registry import Metric
from cxreval.metrics.report import (
    CLEAN_SLICE,
    Contamination,
    MembershipSignal,
    MetricValue,
    Report,
    TrainingVerdict,
)
from cxreval.metrics.scorers import SCORERS

MAX_LIST_CHARACTERS = 63
MAX_REASON_CHARACTERS = 100
MAX_SIGNALS = 20

CheckValue = Callable[[str, MetricValue, Metric, int], None]


def check_training(
    report: Report, spec: BenchmarkSpec, check_value: CheckValue, *, declares: bool
) -> None:
    """Raises `ReportMismatch` if the training data in a report contradicts its other fields.

    `check_value` checks one figure. `declares`: whether the manifest declares training data.
    """
    if declares != (report.contamination is not None):
        expected = "a verdict" if declares else "none, because no training data is declared"
        found = "a verdict" if report.contamination else "absent"
        raise _mismatch("contamination", found, expected)
    if report.contamination:
        _check_contamination(report.contamination, report, spec, check_value)
    names = [signal.list for signal in report.membership]
    if names != sorted(set(names)) or len(names) > MAX_SIGNALS:
        expected = f"at most {MAX_SIGNALS} different lists, in the order of their names"
        raise _mismatch("membership", f"a list of {len(names)}", expected)
    for index, signal in enumerate(report.membership):
        _check_signal(f"membership[{index}]", signal, spec)


def _mismatch(field: str, value: object, expected: str) -> CxrevalError:
    return field_error(f"report.{field}", value, expected, ReportMismatch)


def _check_contamination(
    found: Contamination, report: Report, spec: BenchmarkSpec, check_value: CheckValue
) -> None:
    overlaps = found.verdict is TrainingVerdict.OVERLAP
    if overlaps != (found.patients > 0) or found.verdict is TrainingVerdict.UNDECLARED:
        expected = "overlap exactly if a patient was trained on, else clean"
        raise _mismatch("contamination.verdict", found.verdict, expected)
    if found.unmatched and overlaps:
        raise _mismatch("contamination.unmatched", found.unmatched, "false with an overlap")
    counts = (found.images, found.patients, found.clean_images, found.clean_patients)
    patients = found.patients + found.clean_patients
    images = found.images + found.clean_images
    if min(counts) < 0 or patients != spec.patient_count or images > spec.image_count:
        expected = f"counts of {spec.image_count} images and {spec.patient_count} patients"
        raise _mismatch("contamination", counts, expected)
    scorer, findings = SCORERS[spec.scorer_version], (*spec.findings, "")
    wanted = [(metric, finding) for metric in spec.metric_names for finding in findings]
    values = found.clean_metrics
    if [(value.metric, value.finding) for value in values] != wanted * overlaps:
        expected = f"{', '.join(spec.metric_names)} of each finding, macro last" if overlaps else ""
        raise _mismatch("contamination.clean_metrics", len(values), expected or "none")
    not_covered = {
        (value.metric, value.finding): value.undefined_reason
        for value in report.metrics
        if not value.slice
    }
    for index, value in enumerate(values):
        field = f"contamination.clean_metrics[{index}]"
        if value.slice != CLEAN_SLICE:
            raise _mismatch(f"{field}.slice", value.slice, CLEAN_SLICE)
        if not_covered[value.metric, value.finding] and value.value is not None:
            raise _mismatch(f"{field}.value", value.value, "none, as over all images")
        check_value(field, value, scorer.metrics[value.metric], len(spec.findings))


def _check_signal(field: str, signal: MembershipSignal, spec: BenchmarkSpec) -> None:
    if not 0 < len(signal.list) <= MAX_LIST_CHARACTERS or not signal.list.isprintable():
        expected = f"1 to {MAX_LIST_CHARACTERS} printable characters"
        raise _mismatch(f"{field}.list", signal.list, expected)
    if not SHA256.fullmatch(signal.list_sha256):
        raise _mismatch(f"{field}.list_sha256", signal.list_sha256, SHA256_FORM)
    numbers = (
        signal.member_images,
        signal.member_patients,
        signal.other_images,
        signal.other_patients,
    )
    images = signal.member_images + signal.other_images
    patients = signal.member_patients + signal.other_patients
    if min(numbers) < 0 or images > spec.image_count or patients != spec.patient_count:
        expected = f"counts of {spec.image_count} images and {spec.patient_count} patients"
        raise _mismatch(field, numbers, expected)
    figures = (signal.member_score, signal.other_score, signal.difference)
    undefined = [figure is None for figure in figures]
    if any(undefined) != all(undefined) or all(undefined) != bool(signal.undefined_reason):
        raise _mismatch(f"{field}.difference", figures, "three figures, or none and a reason")
    if len(signal.undefined_reason) > MAX_REASON_CHARACTERS:
        expected = f"a reason of at most {MAX_REASON_CHARACTERS} characters"
        raise _mismatch(f"{field}.undefined_reason", signal.undefined_reason, expected)
    _check_figures(field, signal, spec)


def _check_figures(field: str, signal: MembershipSignal, spec: BenchmarkSpec) -> None:
    if signal.findings != spec.covered_by(signal.findings):
        raise _mismatch(f"{field}.findings", signal.findings, "findings in the benchmark's order")
    member, other, difference = signal.member_score, signal.other_score, signal.difference
    if member is None or other is None or difference is None:
        if signal.interval or signal.findings:
            raise _mismatch(f"{field}.interval", "given", "none without a difference")
        return
    if not (0 <= member <= 1 and 0 <= other <= 1 and difference == member - other):
        raise _mismatch(f"{field}.difference", difference, "the difference of two values in [0, 1]")
    bounds = signal.interval
    if bounds and not (-1 <= bounds.low <= bounds.high <= 1 and 0 <= bounds.standard_error <= 2):
        raise _mismatch(f"{field}.interval", bounds, "-1 <= low <= high <= 1")
