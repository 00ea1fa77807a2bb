"""`cxreval score`: scores a table of predictions on this machine, like the scoring service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from cxreval.cli import options, output, score_output
from cxreval.datasets.benchmark import BenchmarkSpec, image_list, list_sha256, read_list
from cxreval.datasets.benchmark_file import load_spec
from cxreval.datasets.prediction_file import read_predictions
from cxreval.datasets.truth import Truth, load_truth, truth_of
from cxreval.errors import CxrevalError, MissingImages, UnknownImage
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
            help="label table, beside the benchmark.toml or image list of its benchmark;"
            " default: the benchmark's table in the current directory",
        ),
    ] = None,
    list_file: Annotated[
        Path | None,
        typer.Option(
            "--list",
            dir_okay=False,
            help="file with the names of the images to score;"
            " default: those of the benchmark that the table has",
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
    `prob_Mass`, in any order. Of a table that lacks images, those that it has are scored, and the
    report says so.
    """
    if plot is not None:
        require_extra("score", "cxreval score --plot", "matplotlib")
    spec, directory = _specification(benchmark, labels)
    files = [table] if against is None else [table, against]
    tables = [_Table(file, *read_predictions(file, spec.findings)) for file in files]
    images = _images(spec, directory, list_file, tables)
    whole = len(images) == spec.image_count and list_sha256(images) == spec.list_sha256
    truth = load_truth(spec, directory) if whole else truth_of(spec, directory, images)
    about = ""
    if not whole:
        about = (
            f"Scored on {len(images)} images, not on the list of {spec.name}, which has "
            f"{spec.image_count}: other images, so another digest and other resamples."
        )
    reports = [_report(truth, one) for one in tables]
    metric = truth.spec.ranking_metric
    differences = compare_reports(reports[0], reports[1], metric) if against else ()
    names = score_output.short_names(files)
    if plot is not None:
        _draw(plot, dict(zip(names, reports, strict=True)), METRICS[metric])
    if json:
        if about:
            output.errors.print(about, soft_wrap=True)
        score_output.print_json(reports, differences)
        return
    for name, report in zip(names, reports, strict=True):
        score_output.print_report(name, truth.spec, report, about)
    if differences:
        score_output.print_comparison(names, METRICS[metric], differences)


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """A table of predictions: its images, and probabilities of shape (images, covered)."""

    file: Path
    images: list[str]
    probabilities: NDArray[np.float32]
    covered: Sequence[str]


def read_truth(benchmark: str, labels: Path) -> Truth:
    """Returns the truth of the benchmark.

    The labels are checked by their digest, so their file may have any name.
    """
    return load_truth(*_specification(benchmark, labels))


def _specification(benchmark: str, labels: Path | None) -> tuple[BenchmarkSpec, Path]:
    """Returns the specification beside the labels, and the directory that it is of."""
    directory = labels.parent if labels else Path()
    spec = load_spec(benchmark, directory)
    return (replace(spec, labels_file=labels.name) if labels else spec), directory


def _images(
    spec: BenchmarkSpec, directory: Path, list_file: Path | None, tables: Sequence[_Table]
) -> list[str]:
    """Returns the images to score, sorted: those of the list that each table has.

    A list that the user names must be complete in each table.

    Raises:
        MissingImages: a table has none of the images, or lacks one of the list that was named.
        UnknownImage: without such a list, a table has an image that is not in the benchmark.
    """
    listed = sorted({*read_list(list_file)}) if list_file else image_list(spec, directory)
    wanted = set(listed)
    for table in tables:
        unknown = [] if list_file else [image for image in table.images if image not in wanted]
        if unknown:
            message = (
                f"{table.file}: {len(unknown)} images are not in the benchmark, the first is "
                f"{unknown[0]!r}; to score other images of the label table, list them: --list FILE"
            )
            raise UnknownImage(message, field="images", image=unknown[0], count=len(unknown))
        missing = sorted(wanted.difference(table.images)) if list_file else []
        if missing:
            message = (
                f"{table.file} has no prediction of {len(missing)} of the {len(listed)} images of "
                f"{list_file}, the first is {missing[0]!r}"
            )
            raise MissingImages(message, field="images", image=missing[0], count=len(missing))
    common = wanted.intersection(*(table.images for table in tables))
    if not common:
        raise MissingImages("the tables have no image in common", count=len(listed))
    return [image for image in listed if image in common]


def _report(truth: Truth, given: _Table) -> Report:
    """Returns the report of the rows of a table that are in the truth."""
    kept = [row for row, image in enumerate(given.images) if image in truth.rows]
    table = truth.table(given.covered)
    try:
        table.add([given.images[row] for row in kept], given.probabilities[kept])
        return truth.report(table)
    except CxrevalError as error:  # which of the two tables it is about
        raise type(error)(
            f"{given.file}: {error.message}", **(error.metadata | {"file": str(given.file)})
        ) from None


def _draw(directory: Path, reports: dict[str, Report], ranking: Metric) -> None:
    from cxreval.cli import plots  # noqa: PLC0415 -- needs the extra

    for file in plots.draw(directory, reports, ranking):
        output.errors.print(f"wrote {file}", soft_wrap=True)
