"""`cxreval leaderboard` and `cxreval compare`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.text import Text

from cxreval.cli import board_output, comparison_output, options, output
from cxreval.client import Event
from cxreval.fields import field_error, read_time
from cxreval.resource_names import ANY_BENCHMARK, SubmissionName, SubmissionPrefix


def leaderboard(
    context: typer.Context,
    registry: options.Registry = options.REGISTRY,
    benchmark: options.Benchmark = "",
    as_of: Annotated[
        str,
        typer.Option(
            help="show the board of this time, as RFC 3339 writes it and other commands print it; "
            "a date means the end of that day in UTC"
        ),
    ] = "",
    changes: Annotated[
        bool, typer.Option("--changes", help="list the events that changed the board instead")
    ] = False,
    metric: Annotated[
        str, typer.Option(help="rank by this metric instead of the benchmark's ranking metric")
    ] = "",
    findings: Annotated[
        str,
        typer.Option(
            help="rank models that cover all of these findings by the mean over them alone; "
            "comma-separated"
        ),
    ] = "",
    json: options.Json = False,
) -> None:
    """Print the ranked board of a benchmark and the steps of its state of the art."""
    then = _past(as_of) if as_of else None
    chosen = tuple(finding.strip() for finding in findings.split(",")) if findings else ()
    with options.registry_client(context, registry) as client:
        benchmark = options.benchmark_name(client, benchmark)
        if changes:
            _changes(
                [
                    event
                    for event in client.leaderboard_changes(benchmark)
                    if not then or event.time <= then
                ],
                json,
            )
            return
        spec, retirement = client.get_benchmark(benchmark), client.retirement(benchmark)
        board = client.leaderboard(benchmark, then, metric, chosen)
        steps = list(client.sota_steps(benchmark, then, metric, chosen))
    metric = metric or spec.ranking_metric
    if json:
        output.print_json(
            {"benchmark": spec, "digest": spec.digest, "metric": metric, "findings": chosen}
            | output.fields(board)
            | {"sota_steps": steps, "retirement": retirement}
        )
    else:
        if retirement:
            output.console.print(Text(output.retired(retirement)))
        board_output.print_board(spec, board, steps, metric, chosen)


def _changes(events: list[Event], json: bool) -> None:
    if json:
        output.print_json(events)
    else:
        output.print_events(events, named=True)


def _past(as_of: str) -> datetime:
    """Returns the time of `--as-of`; says which it is for a date, whose day may not be over.

    Raises:
        MalformedField: it is no time, or lies in the future.
    """
    then, now = read_time("--as-of", as_of), datetime.now(UTC)
    is_date = len(as_of) == len("YYYY-MM-DD")
    if then.date() > now.date() or (then > now and not is_date):
        raise field_error("--as-of", as_of, "a past time, in UTC")
    then = min(then, now)
    if is_date:
        what = "now, because that day is not over" if then == now else "the end of that day"
        output.errors.print(f"--as-of {as_of} is {what}: {then.isoformat()}", soft_wrap=True)
    return then


def compare(
    context: typer.Context,
    submissions: Annotated[
        list[str],
        typer.Argument(
            help="2 to 50 submissions of one benchmark, each named as in `cxreval status`"
        ),
    ],
    registry: options.Registry = options.REGISTRY,
    per_finding: Annotated[
        bool,
        typer.Option(
            "--per-finding",
            help="compare 2 to 10 submissions by each finding too, also those that lack findings",
        ),
    ] = False,
    json: options.Json = False,
) -> None:
    """Compare rows of one board: paired differences, and how often each row has each rank."""
    with options.registry_client(context, registry) as client:
        benchmark = SubmissionPrefix.parse(submissions[0], "submissions[0]").benchmark
        if benchmark == ANY_BENCHMARK:
            benchmark = SubmissionName.parse(client.get_submission(submissions[0]).name).benchmark
        comparison = client.compare(benchmark, submissions, per_finding=per_finding)
        rows = [client.get_submission(submission) for submission in submissions]
        models = {row.name: row.manifest.model for row in rows}
        spec = client.get_benchmark(benchmark)
    if json:
        output.print_json({"models": models} | output.fields(comparison))
    else:
        comparison_output.print_comparison(spec, models, comparison)
