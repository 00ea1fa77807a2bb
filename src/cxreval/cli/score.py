"""`cxreval score`: scores a table of predictions on this machine, like the scoring service."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cxreval.cli import options, output, score_output
from cxreval.datasets.benchmark import load_spec
from cxreval.datasets.prediction_file import read_predictions
from cxreval.datasets.truth import Truth, load_truth
from cxreval.errors import CxrevalError
from cxreval.extras import require_extra
from cxreval.metrics.comparison import compare_reports
from cxreval.metrics.registry import METRICS, Metric
from cxreval.metrics.report import Report


def score(
    table: Annotated[
        Path, typer.Argument(help="predictions: CSV, plain or gzipped, or Parquet", dir_okay=False)
    ],
    benchmark: options.SpecName = "",
    labels: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False,
            help="label table in the directory of the image list;"
            " default: the benchmark's table in the current directory",
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="another table to compare with, image by image"),
    ] = None,
    json: options.Json = False,
    plot: Annotated[
        Path | None, typer.Option(file_okay=False, help="directory to write pictures to")
    ] = None,
) -> None:
    """Score a table of predictions without a server, with the report that the service would give.

    TABLE has a column `Image Index` or `image`, and one column per finding, such as `Mass` or
    `prob_Mass`, in any order.
    """
    if plot is not None:
        require_extra("score", "cxreval score --plot", "matplotlib")
    truth = read_truth(benchmark, labels)
    files = [table] if against is None else [table, against]
    reports = [_report(truth, file) for file in files]
    metric = truth.spec.ranking_metric
    differences = compare_reports(reports[0], reports[1], metric) if against else ()
    names = score_output.short_names(files)
    if plot is not None:
        _draw(plot, dict(zip(names, reports, strict=True)), METRICS[metric])
    if json:
        score_output.print_json(reports, differences)
        return
    for name, report in zip(names, reports, strict=True):
        score_output.print_report(name, truth.spec, report)
    if differences:
        score_output.print_comparison(names, METRICS[metric], differences)


def read_truth(benchmark: str, labels: Path | None) -> Truth:
    """Returns the truth of the benchmark.

    The labels are checked by their digest, so their file may have any name.
    """
    directory = labels.parent if labels else Path()
    spec = load_spec(benchmark, directory)
    return load_truth(replace(spec, labels_file=labels.name) if labels else spec, directory)


def _report(truth: Truth, file: Path) -> Report:
    images, probabilities, covered = read_predictions(file, truth.spec.findings)
    table = truth.table(covered)
    try:
        table.add(images, probabilities)
        return truth.report(table)
    except CxrevalError as error:  # which of the two tables it is about
        raise type(error)(
            f"{file}: {error.message}", **(error.metadata | {"file": str(file)})
        ) from None


def _draw(directory: Path, reports: dict[str, Report], ranking: Metric) -> None:
    from cxreval.cli import plots  # noqa: PLC0415 -- needs the extra

    for file in plots.draw(directory, reports, ranking):
        output.errors.print(f"wrote {file}", soft_wrap=True)
