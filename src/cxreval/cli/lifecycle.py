"""`cxreval submission`: what can be done to a submission before and after it is handed in."""

from __future__ import annotations

from typing import Annotated

import typer

from cxreval.cli import manifest, options, output
from cxreval.client import Submission

app = typer.Typer(
    help="Write and check a manifest; change a submission, and read what happened to it.",
    no_args_is_help=True,
)
app.command("init")(manifest.init)
app.command("check")(manifest.check)
app.command("schema")(manifest.schema)

Name = Annotated[str, typer.Argument(help="benchmarks/{benchmark}/submissions/{submission}")]
Reason = Annotated[str, typer.Option("--reason", help="why; everybody can read it")]
Etag = Annotated[
    str,
    typer.Option(
        "--etag", help="refuse when it has changed since `cxreval status` showed this etag"
    ),
]


def _show(submission: Submission, json: bool) -> None:
    if json:
        output.print_json(submission)
    else:
        output.print_submission(submission, None)


def _command(name: str, sentence: str) -> None:
    """A command that needs no more than a reason."""

    def run(
        context: typer.Context,
        submission: Name,
        reason: Reason,
        etag: Etag = "",
        registry: options.Registry = options.REGISTRY,
        json: options.Json = False,
    ) -> None:
        with options.registry_client(context, registry) as client:
            _show(getattr(client, name)(submission, reason, etag), json)

    app.command(name, help=sentence)(run)


_command("cancel", "Call off a submission that is not on the board yet.")
_command("retry", "Run a submission again that failed or was cancelled.")
_command("withdraw", "Take a row off the board.")
_command("reinstate", "Put a withdrawn or superseded row back on the board.")
_command("dispute", "Mark a row as doubted; it stays on the board.")
_command("resolve", "Settle a dispute: the row stands.")


@app.command()
def supersede(
    context: typer.Context,
    submission: Name,
    successor: Annotated[str, typer.Argument(help="the submission that takes its place")],
    reason: Reason,
    etag: Etag = "",
    registry: options.Registry = options.REGISTRY,
    json: options.Json = False,
) -> None:
    """Put another submission in the place of a row."""
    with options.registry_client(context, registry) as client:
        _show(client.supersede(submission, successor, reason, etag), json)


@app.command()
def correct(
    context: typer.Context,
    submission: Name,
    reason: Reason,
    model: Annotated[str | None, typer.Option(help="the right name of the model")] = None,
    organisation: Annotated[str | None, typer.Option(help="the right organisation")] = None,
    open_source: Annotated[
        bool | None, typer.Option(help="whether code and weights are open source")
    ] = None,
    source_url: Annotated[str | None, typer.Option(help="the right address of the source")] = None,
    etag: Etag = "",
    registry: options.Registry = options.REGISTRY,
    json: options.Json = False,
) -> None:
    """Correct what a row shows. Figures cannot be corrected: supersede the row instead."""
    given = {
        "model": model,
        "organisation": organisation,
        "open_source": open_source,
        "source_url": source_url,
    }
    values = {field: value for field, value in given.items() if value is not None}
    with options.registry_client(context, registry) as client:
        _show(client.correct(submission, reason, etag, **values), json)


@app.command()
def history(
    context: typer.Context,
    submission: Name,
    registry: options.Registry = options.REGISTRY,
    json: options.Json = False,
) -> None:
    """Show what happened to a submission, when, by whom and why."""
    with options.registry_client(context, registry) as client:
        events = list(client.submission_events(submission))
    if json:
        output.print_json(events)
    else:
        output.print_events(events)


@app.command("list")
def list_submissions(
    context: typer.Context,
    registry: options.Registry = options.REGISTRY,
    benchmark: options.Benchmark = "",
    json: options.Json = False,
) -> None:
    """List the submissions to a benchmark that you may see, the newest first: your organisation's,
    and the board's."""
    with options.registry_client(context, registry) as client:
        benchmark = options.benchmark_name(client, benchmark)
        found = list(client.list_submissions(benchmark))[::-1]
    if json:
        output.print_json(found)
        return
    for submission in found:
        what = (
            f"{submission.kind} of {submission.manifest.model} ({submission.manifest.organisation})"
        )
        stands = f"{submission.status}, handed in {output.moment(submission.create_time)}"
        output.print_item(submission.name, [stands, what])
