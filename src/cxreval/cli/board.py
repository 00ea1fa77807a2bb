"""`cxreval leaderboard` and `cxreval compare`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from cxreval.cli import options, output
from cxreval.resource_names import SubmissionName


def leaderboard(
    context: typer.Context,
    registry: options.Registry = options.REGISTRY,
    benchmark: options.Benchmark = options.BENCHMARK,
    as_of: Annotated[
        datetime | None,
        typer.Option(help="the board as it was then, in UTC", formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]),
    ] = None,
    json: options.Json = False,
) -> None:
    """Print the ranked board of a benchmark and its steps of the state of the art."""
    with options.registry_client(context, registry) as client:
        spec = client.get_benchmark(benchmark)
        entries, steps = list(client.leaderboard(benchmark, as_of)), list(client.sota_steps(benchmark, as_of))
    if json:
        output.print_json({"benchmark": spec, "digest": spec.digest, "entries": entries, "sota_steps": steps})
    else:
        output.print_board(spec, entries, steps)


def compare(
    context: typer.Context,
    submissions: Annotated[
        list[str], typer.Argument(help="2 to 50 of benchmarks/{benchmark}/submissions/{submission}, of one benchmark")
    ],
    registry: options.Registry = options.REGISTRY,
    json: options.Json = False,
) -> None:
    """Compare rows of a board with each other: is one really better, and how often does each lead?"""
    benchmark = SubmissionName.parse(submissions[0], "submissions[0]").benchmark
    with options.registry_client(context, registry) as client:
        comparison = client.compare(benchmark, submissions)
        models = {name: client.get_submission(name).manifest.model for name in submissions}
    if json:
        output.print_json({"models": models} | output.fields(comparison))
    else:
        output.print_comparison(models, comparison)
