"""Reports that the registry records, and reports that it refuses by naming the field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from cxreval.api.scoring.v1 import report_pb2
from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.datasets.nih import FINDINGS
from cxreval.errors import ReportMismatch
from cxreval.metrics.cohort import Cohort, Slice
from cxreval.metrics.report import MetricValue, Report
from cxreval.metrics.scorers import SCORERS
from cxreval.wire import reports
from services.registry.domain.report import MAX_CURVE_POINTS, check_report
from tests.support.registry import report_message, small_spec

score = partial(SCORERS["2"].score, recorded=("auroc",))

SPEC = small_spec("small")
MACRO = len(FINDINGS)
SLICES = 6 * (MACRO + 1)
"""Index of the first value of the first slice."""

Change = Callable[[report_pb2.Report], object]


@pytest.mark.parametrize("value", [0.0, 0.75, 1.0, None])
def test_report_survives_the_wire_and_is_accepted(value: float | None) -> None:
    report = reports.report(report_message(SPEC, value))
    check_report(report, SPEC)
    assert reports.report(reports.report_message(report)) == report


def test_undefined_metric_travels_as_absent() -> None:
    report = reports.report(report_message(SPEC, None))
    assert report.metrics[0] == MetricValue("auroc", FINDINGS[0], None, "ONE_CLASS_ONLY")


def scored(
    labels: NDArray[np.bool_], probabilities: NDArray[np.float32]
) -> tuple[BenchmarkSpec, Report]:
    """Returns scoring's report of images, four per patient; the last finding has no labels."""
    images = len(labels)
    spec = replace(SPEC, image_count=images, patient_count=images // 4)
    known = np.ones_like(labels)
    known[:, -1] = False
    half = np.arange(images) < images // 2
    slices = (Slice("sex", "F", half), Slice("sex", "M", ~half), Slice("view", "AP supine", half))
    cohort = Cohort(FINDINGS, labels, known, np.arange(images) // 4, images // 4, slices)
    metrics, evidence = score(cohort, probabilities, spec.seed, spec.replicates)
    message = report_message(
        spec, metrics=[reports.metric_value_message(value) for value in metrics]
    )
    message.evidence.CopyFrom(reports.evidence_message(evidence))
    return spec, reports.report(message)


@pytest.mark.parametrize("predictor", ["right", "wrong", "constant", "random", "rounded"])
def test_every_report_of_scoring_is_accepted(predictor: str) -> None:
    random = np.random.default_rng(1)
    labels = random.random((80, len(FINDINGS))) < 0.2
    labels[:, 0] = False  # one class only
    probabilities = {
        "right": labels,
        "wrong": ~labels,
        "constant": np.full(labels.shape, 0.1),
        "random": random.random(labels.shape),
        "rounded": random.random(labels.shape).round(1),
    }[predictor]
    spec, report = scored(labels, probabilities.astype(np.float32))
    check_report(report, spec)
    assert report.metrics[0].value is None
    assert report.metrics[1].value is not None


def values(*numbers: float) -> bytes:
    return np.array(numbers, "<f8").tobytes()


def set_(path: str, value: object) -> Change:
    """Sets one field, given as a path such as `metrics[0].interval.low`."""

    def change(report: report_pb2.Report) -> None:
        holder: object = report
        *steps, last = path.replace("[", ".").replace("]", "").split(".")
        for step in steps:
            holder = holder[int(step)] if step.isdigit() else getattr(holder, step)  # type: ignore[index]
        setattr(holder, last, value)

    return change


def swap(report: report_pb2.Report) -> None:
    first, second = report.evidence.replicates[0], report.evidence.replicates[1]
    first.finding, second.finding = second.finding, first.finding


def name_slices(*names: str) -> Change:
    """Adds the report's slice once for each name."""

    def change(report: report_pb2.Report) -> None:
        part = list(report.metrics[SLICES:])
        del report.metrics[SLICES:]
        for name in names:
            for value in part:
                value.slice = name
            report.metrics.extend(part)

    return change


def curve(rates: list[float], sensitivities: list[float]) -> Change:
    def change(report: report_pb2.Report) -> None:
        found = report.evidence.roc_curves[2]
        del found.false_positive_rates[:], found.sensitivities[:]
        found.false_positive_rates.extend(rates)
        found.sensitivities.extend(sensitivities)

    return change


LONG = [0.0] * MAX_CURVE_POINTS + [1.0]
NAN = float("nan")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (set_("benchmark", "benchmarks/other"), "benchmark"),
        (set_("benchmark_digest", "b" * 64), "benchmark_digest"),
        (set_("scorer_version", "0"), "scorer_version"),
        (set_("image_count", 3), "image_count"),
        (set_("patient_count", 3), "patient_count"),
        (set_("replicate_count", 99), "replicate_count"),
        (set_("seed", 1), "seed"),
        (set_("predictions_sha256", ""), "predictions_sha256"),
        (lambda report: report.metrics.__delitem__(slice(None)), "metrics"),
        (lambda report: report.metrics.pop(), "metrics"),
        (lambda report: report.metrics.pop(MACRO), "metrics"),
        (lambda report: report.metrics.append(report.metrics[0]), "metrics"),
        (set_("metrics[0].metric", "brier"), "metrics"),
        (set_(f"metrics[{SLICES}].slice", ""), "metrics"),
        (set_(f"metrics[{SLICES}].metric", "brier"), "metrics"),
        (name_slices("sex=F", "sex=M", "sex=F"), "metrics.slice"),
        (name_slices("sex"), "metrics.slice"),
        (name_slices("=F"), "metrics.slice"),
        (name_slices("sex=F\n"), "metrics.slice"),
        (name_slices("sex=" + "F" * 97), "metrics.slice"),
        (lambda report: report.metrics.extend([report_pb2.MetricValue()] * 1001), "metrics"),
        (lambda report: report.metrics[0].ClearField("value"), "metrics[0].undefined_reason"),
        (set_("metrics[3].undefined_reason", "ONE_CLASS_ONLY"), "metrics[3].undefined_reason"),
        (set_("metrics[0].value", NAN), "metrics[0].value"),
        (set_("metrics[89].value", 1.5), "metrics[89].value"),
        (set_("metrics[0].positive_images", -1), "metrics[0]"),
        (set_("metrics[0].interval.low", 0.9), "metrics[0].interval"),
        (set_("metrics[0].interval.low", -0.1), "metrics[0].interval"),
        (set_("metrics[0].interval.high", NAN), "metrics[0].interval"),
        (set_("metrics[0].interval.high", float("inf")), "metrics[0].interval"),
        (set_("metrics[0].interval.standard_error", -0.1), "metrics[0].interval"),
        (
            lambda report: report.metrics[0].ClearField("interval"),
            "metrics[0].interval_undefined_reason",
        ),
        (
            set_("metrics[0].interval_undefined_reason", "BOTH"),
            "metrics[0].interval_undefined_reason",
        ),
        (set_("metrics[0].analytic_standard_error", -0.1), "metrics[0].analytic_standard_error"),
        (set_("metrics[0].analytic_standard_error", NAN), "metrics[0].analytic_standard_error"),
        (
            set_(f"metrics[{MACRO}].defined_findings", MACRO + 1),
            f"metrics[{MACRO}].defined_findings",
        ),
        (set_(f"metrics[{MACRO}].defined_findings", 0), f"metrics[{MACRO}].defined_mean"),
        (set_(f"metrics[{MACRO}].defined_mean", NAN), f"metrics[{MACRO}].defined_mean"),
        (lambda report: report.ClearField("evidence"), "evidence"),
        (lambda report: report.evidence.replicates.pop(), "evidence.replicates"),
        (swap, "evidence.replicates"),
        (set_("evidence.replicates[3].metric", "brier"), "evidence.replicates"),
        (set_("evidence.replicates[3].values", values(0.5)), "evidence.replicates[3].values"),
        (set_("evidence.replicates[3].values", b"torn"), "evidence.replicates"),
        (
            set_("evidence.replicates[14].values", values(*[0.5] * 99, 1.5)),
            "evidence.replicates[14].values",
        ),
        (
            set_("evidence.replicates[14].values", values(*[0.5] * 99, float("inf"))),
            "evidence.replicates[14].values",
        ),
        (lambda report: report.evidence.roc_curves.pop(), "evidence.roc_curves"),
        (set_("evidence.roc_curves[2].finding", "Mass"), "evidence.roc_curves"),
        (curve([0, 1], [0, 0.5, 1]), "evidence.roc_curves[2]"),
        (curve([], []), "evidence.roc_curves[2]"),
        (curve(LONG, LONG), "evidence.roc_curves[2]"),
        (curve([0, 0.5, 0.4, 1], [0, 0.1, 0.2, 1]), "evidence.roc_curves[2]"),
        (curve([0, NAN, 1], [0, 0.5, 1]), "evidence.roc_curves[2]"),
        (curve([0, 1], [0.1, 1]), "evidence.roc_curves[2]"),
        (curve([0, 0.5], [0, 1]), "evidence.roc_curves[2]"),
        (lambda report: report.evidence.reliabilities.pop(0), "evidence.reliabilities"),
        (lambda report: report.evidence.reliabilities[5].images.pop(), "evidence.reliabilities[5]"),
        (
            lambda report: report.evidence.reliabilities[5].positives.__setitem__(0, 5),
            "evidence.reliabilities[5]",
        ),
        (
            lambda report: report.evidence.reliabilities[5].mean_probabilities.__setitem__(0, NAN),
            "evidence.reliabilities[5]",
        ),
    ],
)
def test_report_that_is_not_complete_and_possible_is_refused_by_its_field(
    change: Change, field: str
) -> None:
    message = report_message(SPEC)
    change(message)
    with pytest.raises(ReportMismatch) as caught:
        check_report(reports.report(message), SPEC)
    assert caught.value.metadata["field"] == f"report.{field}"


def test_curve_of_a_finding_without_both_classes_is_refused() -> None:
    message = report_message(SPEC, None)
    message.evidence.roc_curves.append(report_message(SPEC).evidence.roc_curves[0])
    with pytest.raises(ReportMismatch, match="expected none"):
        check_report(reports.report(message), SPEC)
