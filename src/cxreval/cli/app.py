"""The `cxreval` command: registers every subcommand and prints errors."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from cxreval import version_line
from cxreval.cli import (
    admin,
    audit,
    benchmark,
    board,
    dataset,
    export,
    lifecycle,
    options,
    output,
    predict,
    results,
    score,
    submission,
    worker,
)
from cxreval.errors import CxrevalError, KeyMissing, KeyNeedsTls
from cxreval.extras import HAS_SERVICES, NO_SERVICES
from cxreval.fields import printable
from cxreval.files import DISK_FULL

_WHAT_TO_DO = {
    KeyMissing: (
        "give an API key: --key-file FILE before the command,"
        " or CXREVAL_CLIENT_KEY_FILE or CXREVAL_CLIENT_KEY"
    ),
    KeyNeedsTls: (
        "before the command, give --tls-ca FILE, or --trust-network"
        " if the network itself is encrypted"
    ),
}
"""Hint printed below an error of this class."""

app = typer.Typer(
    epilog=None if HAS_SERVICES else NO_SERVICES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(given: bool) -> None:
    if given:
        output.console.print(version_line(), soft_wrap=True)
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    tls_ca: options.TlsCa = None,
    tls_certificate: options.TlsCertificate = None,
    tls_key: options.TlsKey = None,
    key_file: options.KeyFile = None,
    trust_network: options.TrustNetwork = False,
    version: Annotated[  # noqa: ARG001 -- its callback prints
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="print the versions of cxreval and Python, and the platform",
        ),
    ] = False,
) -> None:
    """Run chest X-ray classifiers on a fixed benchmark and read the ranked board."""
    context.obj = options.Connection(tls_ca, tls_certificate, tls_key, key_file, trust_network)


app.command("submit")(submission.submit)
app.command("status")(submission.status)
app.command("leaderboard")(board.leaderboard)
app.command("compare")(board.compare)
app.command("report")(results.report)
app.command("predictions")(results.predictions)
app.command("predict")(predict.predict)
app.command("worker")(worker.worker)
app.command("score")(score.score)
lifecycle.app.command("upload")(submission.upload)
lifecycle.app.command("show")(submission.status)
lifecycle.app.command("reproduce")(submission.reproduce)
lifecycle.app.command("output")(submission.script_output)
app.add_typer(lifecycle.app, name="submission")
app.add_typer(benchmark.app, name="benchmark")
app.command("quota")(admin.quota)
app.add_typer(admin.app, name="admin")
app.add_typer(audit.app, name="audit")
app.add_typer(dataset.app, name="dataset")
app.add_typer(export.app, name="export")


def main() -> None:
    """Runs the command; prints a `CxrevalError`, or a full disk, and exits with status 1."""
    try:
        app()
    except CxrevalError as error:
        for each in (error, *error.also):
            message = printable(f"error: {each.reason}: {each.message}")
            output.errors.print(message, style="red", soft_wrap=True)
        for note in getattr(error, "__notes__", ()):
            output.errors.print(note, soft_wrap=True)
        if hint := _WHAT_TO_DO.get(type(error)):
            output.errors.print(hint, soft_wrap=True)
        sys.exit(1)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        where = f" for {error.filename}" if error.filename else ""
        message = printable(f"error: no space left on this machine's disk{where}; make room")
        output.errors.print(message, style="red", soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
