"""The figures and the evidence of one row, as the charts and tables of its page take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cxreval.client import Evaluation
from cxreval.metrics.curves import Reliability, RocCurve
from cxreval.metrics.registry import METRICS
from cxreval.metrics.report import Evidence, MetricValue
from services.leaderboard.charts.curves import Curve
from services.leaderboard.charts.findings import Finding
from services.leaderboard.charts.scales import Estimate
from services.leaderboard.charts.slices import Slice
from services.leaderboard.charts.svg import Table
from services.leaderboard.data import BoardData, figure_key, figure_parts
from services.leaderboard.figures import estimate_of, estimate_of_value, measure_of
from services.leaderboard.templates import why

_POINTS = 1000
"""Least number of points of a precision-recall curve before it is thinned."""


@dataclass(frozen=True, slots=True, eq=False)
class RowReport:
    """The values of a row by metric, finding and slice, and the evidence for them.

    The finding of a key is empty for the macro mean, the slice for all images.
    """

    values: Mapping[tuple[str, str, str], MetricValue]
    evidence: Evidence

    def estimate(self, metric: str, finding: str = "", part: str = "") -> Estimate:
        """Returns a value with its interval, or why it is absent."""
        return estimate_of_value(self.values.get((metric, finding, part)))

    @property
    def metrics(self) -> list[str]:
        """The metrics that have a value, in the order of the method page."""
        known = {metric for metric, _, _ in self.values}
        return [metric for metric in METRICS if metric in known]

    @property
    def sliced_metric(self) -> str:
        """The metric that the report also has for each slice; empty if it has no slices."""
        return next((metric for metric, _, part in self.values if part), "")


def row_report(
    board: BoardData, submission: str, evaluation: Evaluation | None, evidence: Evidence | None
) -> RowReport:
    """Returns the figures of a row's report; of a claim, which has none, those of the board."""
    if evaluation and evaluation.report:
        values = list(evaluation.report.metrics)
    else:
        values = []
        for key, figure in board.figures.get(submission, {}).items():
            metric, finding = figure_parts(key)
            values.append(MetricValue(metric, finding, figure.value))
    by_key = {(value.metric, value.finding, value.slice): value for value in values}
    return RowReport(by_key, evidence or Evidence())


def finding_rows(
    report: RowReport, board: BoardData, rival: str, findings: Sequence[str]
) -> list[Finding]:
    """Returns the findings of a row beside those of the submission `rival`, if it is not empty."""
    metric = board.spec.ranking_metric
    others = board.figures.get(rival, {})
    return [
        Finding(
            finding,
            report.estimate(metric, finding),
            estimate_of(others.get(figure_key(metric, finding))) if rival else None,
            *_positives(report.values.get((metric, finding, ""))),
        )
        for finding in findings
    ]


def _positives(value: MetricValue | None) -> tuple[int | None, int | None]:
    """Returns the positive images and patients behind a value; None for a claimed one."""
    if value is None or not value.positive_images + value.negative_images:
        return None, None
    return value.positive_images, value.positive_patients


def mean_table(report: RowReport) -> Table:
    """Returns the macro mean of every metric."""
    rows = []
    for metric in report.metrics:
        measure, value = measure_of(metric), report.values.get((metric, "", ""))
        estimate = estimate_of_value(value)
        interval = measure.interval(estimate)
        if value and value.interval is None:
            reason = why(value.undefined_reason or value.interval_undefined_reason)
            interval = f"none: {reason}" if reason else "none"
        better = "higher" if measure.higher_is_better else "lower"
        rows.append((measure.unit, measure.written(estimate.value), interval, better))
    return Table(("Metric", "Mean", "95 % interval", "Better"), tuple(rows))


def finding_table(report: RowReport, findings: Sequence[str]) -> Table:
    """Returns every metric of each finding, with its interval in brackets."""
    rows = []
    for finding in findings:
        cells = [finding]
        for metric in report.metrics:
            measure, estimate = measure_of(metric), report.estimate(metric, finding)
            interval = f" ({measure.interval(estimate)})" if estimate.low is not None else ""
            cells.append(f"{measure.written(estimate.value)}{interval}")
        rows.append(tuple(cells))
    return Table(("Finding", *(measure_of(metric).unit for metric in report.metrics)), tuple(rows))


def roc(report: RowReport, findings: Sequence[str]) -> list[Curve]:
    """Returns the ROC curve of each finding."""
    curves = {curve.finding: curve for curve in report.evidence.roc_curves}
    return [_curve(report, "auroc", finding, _roc(curves.get(finding))) for finding in findings]


def precision_recall(report: RowReport, findings: Sequence[str]) -> list[Curve]:
    """Returns the precision-recall curve of each finding, from its ROC curve and its counts."""
    curves = {curve.finding: curve for curve in report.evidence.roc_curves}
    found = []
    for finding in findings:
        value = report.values.get(("average_precision", finding, ""))
        curve = curves.get(finding)
        points = (
            precision_points(curve, value.positive_images, value.negative_images)
            if curve and value and value.positive_images
            else ()
        )
        found.append(_curve(report, "average_precision", finding, points))
    return found


def calibration(report: RowReport, findings: Sequence[str]) -> list[Curve]:
    """Returns the reliability diagram of each finding; bins without images are left out."""
    diagrams = {item.finding: item for item in report.evidence.reliabilities}
    return [
        _curve(report, "calibration_error", finding, *_bins(diagrams.get(finding)))
        for finding in findings
    ]


def _curve(
    report: RowReport,
    metric: str,
    finding: str,
    points: Sequence[tuple[float, float]],
    images: Sequence[int] = (),
) -> Curve:
    value = report.values.get((metric, finding, ""))
    total = value.positive_images + value.negative_images if value else 0
    return Curve(
        finding,
        points,
        value.value if value else None,
        value.positive_images / total if value and total else None,
        images,
        why(value.undefined_reason if value else "") or "its curve is not recorded",
    )


def _roc(curve: RocCurve | None) -> Sequence[tuple[float, float]]:
    if curve is None:
        return ()
    return list(zip(curve.false_positive_rates, curve.sensitivities, strict=True))


def _bins(
    diagram: Reliability | None,
) -> tuple[Sequence[tuple[float, float]], Sequence[int]]:
    """Returns mean probability and share of positives of each bin, and its number of images."""
    if diagram is None:
        return (), ()
    bins = [
        (mean, positives / images, images)
        for mean, positives, images in zip(
            diagram.mean_probabilities, diagram.positives, diagram.images, strict=True
        )
        if images
    ]
    return [(mean, share) for mean, share, _ in bins], [images for _, _, images in bins]


def precision_points(curve: RocCurve, positives: int, negatives: int) -> list[tuple[float, float]]:
    """Returns recall and precision along a ROC curve of so many images of each class.

    A straight stretch of a ROC curve is no straight one here (Davis and Goadrich, ICML 2006), so
    points are set between its ends. At a recall of 0 the precision is that of the first threshold.
    """
    x, y = np.array(curve.false_positive_rates), np.array(curve.sensitivities)
    shares = np.linspace(0, 1, 1 + max(1, _POINTS // x.size))[1:]
    alarms, hits = (
        number * (values[:-1, np.newaxis] + np.diff(values)[:, np.newaxis] * shares).ravel()
        for number, values in ((negatives, x), (positives, y))
    )
    chosen = alarms + hits > 0
    recall = np.concatenate(([0.0], hits[chosen] / positives))
    precision = hits[chosen] / (hits[chosen] + alarms[chosen])
    return list(zip(recall.tolist(), [precision[0].item(), *precision.tolist()], strict=True))


def slice_rows(report: RowReport) -> list[Slice]:
    """Returns the macro mean of each slice that the report has, in its order."""
    metric = report.sliced_metric
    images: dict[str, int] = {}  # the most that have a label of a finding
    for value in report.values.values():
        labelled = value.positive_images + value.negative_images if value.finding else 0
        images[value.slice] = max(images.get(value.slice, 0), labelled)
    slices = []
    for part, number in images.items():
        by, _, name = part.partition("=")
        if part:
            slices.append(Slice(by, name, report.estimate(metric, "", part), number or None))
    return slices


def slice_table(report: RowReport, findings: Sequence[str]) -> Table:
    """Returns the value of each finding on each slice."""
    measure = measure_of(report.sliced_metric)
    parts = [f"{part.by}={part.name}" for part in slice_rows(report)]
    rows = []
    for finding in findings:
        found = (report.estimate(report.sliced_metric, finding, part) for part in parts)
        rows.append((finding, *(measure.written(estimate.value) for estimate in found)))
    return Table(("Finding", *parts), tuple(rows))
