"""`cxreval submission`: manifests, state changes and history of submissions."""

from __future__ import annotations

from typing import Annotated

import typer

from cxreval.cli import manifest, options, output, source
from cxreval.client import Submission

app = typer.Typer(
    help="Write and check manifests; change submissions and show their history.",
    no_args_is_help=True,
)
app.command("init")(manifest.init)
app.command("check")(manifest.check)
app.command("schema")(manifest.schema)
app.command("bundle")(source.bundle)

Reason = Annotated[str, typer.Option("--reason", help="reason of the change; public")]
Etag = Annotated[
    str,
    typer.Option(
        "--etag", help="fail if the submission changed since `cxreval status` showed this etag"
    ),
]


def _show(submission: Submission, json: bool) -> None:
    if json:
        output.print_json(submission)
    else:
        output.print_submission(submission, None)


def _command(name: str, sentence: str) -> None:
    """Adds a command that calls the client's method `name` with a submission, reason and etag."""

    def run(
        context: typer.Context,
        submission: options.Submission,
        reason: Reason,
        etag: Etag = "",
        registry: options.Registry = options.REGISTRY,
        json: options.Json = False,
    ) -> None:
        with options.registry_client(context, registry) as client:
            _show(getattr(client, name)(submission, reason, etag), json)

    app.command(name, help=sentence)(run)


_command("cancel", "Cancel a submission that is not yet published.")
_command("retry", "Run a failed or cancelled submission again.")
_command("withdraw", "Remove a row from the board.")
_command("reinstate", "Return a withdrawn or superseded row to the board.")
_command("dispute", "Mark a row as disputed; it stays on the board.")
_command("resolve", "Close a dispute: the row is no longer marked.")


@app.command()
def supersede(
    context: typer.Context,
    submission: options.Submission,
    successor: Annotated[str, typer.Argument(help="the submission that replaces it")],
    reason: Reason,
    etag: Etag = "",
    registry: options.Registry = options.REGISTRY,
    json: options.Json = False,
) -> None:
    """Replace a row of the board by the row of another submission."""
    with options.registry_client(context, registry) as client:
        _show(client.supersede(submission, successor, reason, etag), json)


@app.command()
def correct(
    context: typer.Context,
    submission: options.Submission,
    reason: Reason,
    model: Annotated[str | None, typer.Option(help="corrected name of the model")] = None,
    organisation: Annotated[str | None, typer.Option(help="corrected organisation")] = None,
    open_source: Annotated[
        bool | None, typer.Option(help="whether code and weights are open source")
    ] = None,
    source_url: Annotated[str | None, typer.Option(help="corrected URL of the source")] = None,
    etag: Etag = "",
    registry: options.Registry = options.REGISTRY,
    json: options.Json = False,
) -> None:
    """Correct the metadata of a row. Scores cannot be corrected: supersede the row instead."""
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
    submission: options.Submission,
    registry: options.Registry = options.REGISTRY,
    json: options.Json = False,
) -> None:
    """Show the events of a submission: time, change, actor and reason."""
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
    """List a benchmark's submissions, newest first: your organisation's, and those on the board."""
    with options.registry_client(context, registry) as client:
        benchmark = options.benchmark_name(client, benchmark)
        submissions = list(client.list_submissions(benchmark))[::-1]
    if json:
        output.print_json(submissions)
        return
    for submission in submissions:
        model = (
            f"{submission.kind} of {submission.manifest.model} ({submission.manifest.organisation})"
        )
        state = f"{submission.status}, created {output.moment(submission.create_time)}"
        output.print_item(submission.name, [state, model])
