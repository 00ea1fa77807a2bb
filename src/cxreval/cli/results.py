"""`cxreval report` and `cxreval predictions`: what came of a submission."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxreval.cli import options, output, score_output
from cxreval.cli.prediction_table import write_predictions
from cxreval.resource_names import BenchmarkName


def report(
    context: typer.Context,
    submission: options.Submission,
    registry: options.Registry = options.REGISTRY,
    json: options.Json = False,
) -> None:
    """Print the report of a submission, as `cxreval score` prints that of a table."""
    with options.registry_client(context, registry) as client:
        latest = client.get_submission(submission)
        found = client.report(latest.name, evidence=json)
        spec = client.get_benchmark(BenchmarkName.parse(found.benchmark).benchmark)
    if json:
        score_output.print_json([found], ())
    else:
        score_output.print_report(latest.manifest.model, spec, found)


def predictions(
    context: typer.Context,
    submission: options.Submission,
    file: Annotated[
        Path, typer.Option("--output", "-o", help="file to write: .csv or .parquet", dir_okay=False)
    ],
    registry: options.Registry = options.REGISTRY,
) -> None:
    """Save the predictions behind a report as a table that `cxreval score` reads.

    It has a row for each image, a column for each finding that the model covers, and no labels. A
    submitted table is given only to its organisation, workers and operators.
    """
    with options.registry_client(context, registry) as client:
        write_predictions(file, lambda: client.predictions(submission))
    output.errors.print(f"wrote {file}", soft_wrap=True)
