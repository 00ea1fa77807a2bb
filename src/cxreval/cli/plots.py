"""Plots of reports: ROC curves, intervals and reliability diagrams. Needs the extra `score`.

The colours are blue and vermilion of Okabe and Ito, which colour-blind readers can distinguish;
line styles and markers also differ in greyscale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cxreval.metrics.curves import Reliability, RocCurve
from cxreval.metrics.registry import Metric
from cxreval.metrics.report import Evidence, MetricValue, Report

FEW_IMAGES = 20
"""A bin with fewer images is drawn hollow, because its share of positives is imprecise."""

_COLUMNS = 5
_DPI = 150


@dataclass(frozen=True, slots=True)
class _Style:
    color: str
    line: Literal["-", "--"]
    marker: str


_STYLES = (_Style("#0072B2", "-", "o"), _Style("#D55E00", "--", "s"))


def draw(directory: Path, reports: Mapping[str, Report], ranking: Metric) -> list[Path]:
    """Writes `roc.png`, `intervals.png` and `reliability.png` of one or two reports.

    Returns the paths of the files. `reports` is keyed by the names in the legend; `ranking` is the
    metric of the intervals.
    """
    directory.mkdir(parents=True, exist_ok=True)
    figures = {
        "roc.png": _roc(reports),
        "intervals.png": _intervals(reports, ranking),
        "reliability.png": _reliability(reports),
    }
    for name, figure in figures.items():
        figure.savefig(directory / name, dpi=_DPI)
    return [directory / name for name in figures]


def _values(report: Report, metric: str) -> dict[str, MetricValue]:
    """Returns a metric of each finding over all images; the macro mean has an empty name."""
    return {
        value.finding: value
        for value in report.metrics
        if value.metric == metric and not value.slice
    }


def _findings(reports: Mapping[str, Report]) -> list[str]:
    return [finding for finding in _values(next(iter(reports.values())), "auroc") if finding]


def _roc(reports: Mapping[str, Report]) -> Figure:
    figure, panels = _small_multiples(
        reports, "ROC curves: AUROC and 95 % interval", "1 - specificity", "sensitivity"
    )
    for index, (report, style) in enumerate(zip(reports.values(), _STYLES, strict=False)):
        values = _values(report, "auroc")
        curves: dict[str, RocCurve] = {
            curve.finding: curve for curve in _evidence(report).roc_curves
        }
        for finding, axes in panels.items():
            if finding in curves:
                rates, sensitivities = (
                    curves[finding].false_positive_rates,
                    curves[finding].sensitivities,
                )
                axes.plot(rates, sensitivities, style.line, color=style.color, linewidth=1.4)
            height = 0.05 + 0.1 * (len(reports) - 1 - index)
            axes.text(
                0.97, height, _label(values[finding]), color=style.color, ha="right", fontsize=8.5
            )
    _legend(figure, reports, markers=False)
    return figure


def _reliability(reports: Mapping[str, Report]) -> Figure:
    figure, panels = _small_multiples(
        reports,
        f"Reliability: 15 bins of probability, hollow with fewer than {FEW_IMAGES} images",
        "mean probability",
        "share of positives",
    )
    for report, style in zip(reports.values(), _STYLES, strict=False):
        bins: dict[str, Reliability] = {
            item.finding: item for item in _evidence(report).reliabilities
        }
        for finding, axes in panels.items():
            if finding not in bins:  # the table does not cover it
                continue
            item = bins[finding]
            filled = [
                (mean, positives / images, images >= FEW_IMAGES)
                for mean, positives, images in zip(
                    item.mean_probabilities, item.positives, item.images, strict=True
                )
                if images
            ]
            solid = [(mean, share) for mean, share, many in filled if many]
            axes.plot(
                [mean for mean, _ in solid],
                [share for _, share in solid],
                style.line,
                color=style.color,
                lw=1,
            )
            for mean, share, many in filled:
                face = style.color if many else "white"
                axes.plot(
                    [mean],
                    [share],
                    style.marker,
                    color=style.color,
                    markerfacecolor=face,
                    markersize=4.5,
                )
    _legend(figure, reports)
    return figure


def _small_multiples(
    reports: Mapping[str, Report], title: str, x_label: str, y_label: str
) -> tuple[Figure, dict[str, Axes]]:
    """Returns a figure with one unit-square panel and diagonal per finding."""
    findings = _findings(reports)
    columns = min(_COLUMNS, len(findings))
    rows = ceil(len(findings) / columns)
    figure = Figure(figsize=(max(2.6 * columns, 6), 2.85 * rows + 1), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(findings) :]:
        axes.set_axis_off()
    panels = dict(zip(findings, grid.flat, strict=False))
    for index, (finding, axes) in enumerate(panels.items()):
        axes.plot([0, 1], [0, 1], ":", color="0.6", linewidth=1)
        axes.set(
            xlim=(-0.02, 1.02),
            ylim=(-0.02, 1.02),
            aspect="equal",
            xticks=[0, 0.5, 1],
            yticks=[0, 0.5, 1],
        )
        axes.set_title(_spelled(finding), fontsize=10)
        axes.tick_params(
            labelsize=8,
            labelleft=index % columns == 0,
            labelbottom=index + columns >= len(findings),
        )
        if index % columns == 0:
            axes.set_ylabel(y_label, fontsize=9)
        if index + columns >= len(findings):
            axes.set_xlabel(x_label, fontsize=9)
    figure.suptitle(title, fontsize=12)
    return figure, panels


def _intervals(reports: Mapping[str, Report], metric: Metric) -> Figure:
    names = [*_findings(reports), ""]
    figure = Figure(figsize=(9, 0.42 * len(names) + 2), layout="constrained")
    axes = figure.subplots()
    for index, (report, style) in enumerate(zip(reports.values(), _STYLES, strict=False)):
        values = _values(report, metric.name)
        for row, name in enumerate(names):
            _interval(axes, row + 0.26 * (index - (len(reports) - 1) / 2), values[name], style)
    values = _values(next(iter(reports.values())), metric.name)
    labels = [
        f"{_spelled(name)}  ({values[name].positive_images} images, "
        f"{values[name].positive_patients} patients)"
        if name
        else "Macro mean"
        for name in names
    ]
    axes.axhline(len(names) - 1.5, color="0.8", linewidth=0.8)
    axes.set_yticks(range(len(names)), labels, fontsize=9)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(
        f"{metric.label}, 95 % interval from resampled patients; in brackets: positives"
    )
    figure.suptitle(f"{metric.label} of each finding", fontsize=12)
    _legend(figure, reports, dashes=False)
    return figure


def _interval(axes: Axes, height: float, value: MetricValue, style: _Style) -> None:
    if value.interval:
        axes.plot(
            [value.interval.low, value.interval.high],
            [height, height],
            color=style.color,
            linewidth=1.6,
        )
    if value.value is None:
        # x is a share of the width, y is a row.
        transform = axes.get_yaxis_transform()
        axes.text(
            0.01,
            height,
            "undefined",
            transform=transform,
            color=style.color,
            va="center",
            fontsize=8.5,
        )
    else:
        axes.plot([value.value], [height], style.marker, color=style.color, markersize=5)


def _legend(
    figure: Figure, reports: Mapping[str, Report], *, dashes: bool = True, markers: bool = True
) -> None:
    """Draws the legend below the panels, with the styles of the reports."""
    lines = [
        Line2D(
            [],
            [],
            color=style.color,
            linestyle=style.line if dashes else "-",
            marker=style.marker if markers else "",
            markersize=5,
            label=name,
        )
        for name, style in zip(reports, _STYLES, strict=False)
    ]
    figure.legend(handles=lines, loc="outside lower center", fontsize=9, frameon=False)


def _evidence(report: Report) -> Evidence:
    return report.evidence or Evidence()


def _label(value: MetricValue) -> str:
    if value.value is None:
        return "undefined"
    interval = f" [{value.interval.low:.3f}, {value.interval.high:.3f}]" if value.interval else ""
    return f"{value.value:.3f}{interval}"


def _spelled(finding: str) -> str:
    return finding.replace("_", " ")
