"""The `cxreval` command: registers every subcommand and prints errors."""

from __future__ import annotations

import sys

import typer

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
from cxreval.fields import printable

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
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def common(
    context: typer.Context,
    tls_ca: options.TlsCa = None,
    tls_certificate: options.TlsCertificate = None,
    tls_key: options.TlsKey = None,
    key_file: options.KeyFile = None,
    trust_network: options.TrustNetwork = False,
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
    """Runs the command; prints a `CxrevalError` on standard error and exits with status 1."""
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


if __name__ == "__main__":
    main()
