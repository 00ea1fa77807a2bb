"""`cxreval audit`: is the board what the registry said all along?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxreval.audit import chain, receipts
from cxreval.cli import options, output
from cxreval.client.verification import Verification
from cxreval.errors import MalformedField

app = typer.Typer(
    help="Check the audit chain and the receipts of a registry.", no_args_is_help=True
)

PublicKey = Annotated[
    Path | None,
    typer.Option(
        "--public-key", help="the operator's key, a PEM file", exists=True, dir_okay=False
    ),
]


@app.command()
def verify(
    context: typer.Context,
    public_key: PublicKey = None,
    since: Annotated[
        str,
        typer.Option(
            help="a head that was seen before, PLACE:DIGEST; the chain must still lead through it"
        ),
    ] = "",
    registry: options.Registry = options.REGISTRY,
    json: options.Json = False,
) -> None:
    """Follow the whole chain of events, check every receipt that it vouches for, and hold the
    boards against both.

    Without --public-key receipts are checked with the key that the registry gives out. Keep the
    head that is printed: with --since a later run proves that nothing before it was changed, not
    even everything at once.
    """
    seen = _head(since)
    with options.registry_client(context, registry) as client:
        key = public_key.read_text() if public_key else client.public_key()
        found = Verification(client, key, seen)
        found.run()
    if json:
        counts = {
            "events": found.head.place,
            "sealed": found.sealed,
            "receipts": found.receipts,
            "rows": found.rows,
        }
        output.print_json({**counts, "head": found.head})
    else:
        closed = f", {found.sealed} of them not yours to read," if found.sealed else ""
        held = f"{found.head.place} events{closed}, {found.receipts} receipts and {found.rows} rows of boards hold."
        output.console.print(f"{held} Head {found.head.place}:{found.head.digest}")


@app.command()
def receipt(
    context: typer.Context,
    submission: Annotated[
        str, typer.Argument(help="benchmarks/{benchmark}/submissions/{submission}")
    ],
    file: Annotated[Path, typer.Argument(help="file to write", dir_okay=False)],
    registry: options.Registry = options.REGISTRY,
) -> None:
    """Save the signed receipt of a published row."""
    with options.registry_client(context, registry) as client:
        file.write_bytes(client.receipt(submission).to_file())


@app.command("public-key")
def print_public_key(context: typer.Context, registry: options.Registry = options.REGISTRY) -> None:
    """Print the key that the registry signs receipts with."""
    with options.registry_client(context, registry) as client:
        typer.echo(client.public_key(), nl=False)


@app.command("verify-receipt")
def verify_receipt(
    file: Annotated[Path, typer.Argument(help="receipt, a JSON file", exists=True, dir_okay=False)],
    public_key: Annotated[
        Path,
        typer.Option(
            "--public-key", help="the operator's key, a PEM file", exists=True, dir_okay=False
        ),
    ],
) -> None:
    """Check a receipt without a network, and print what it says."""
    output.print_json(
        receipts.verify(receipts.Receipt.from_file(file.read_bytes()), public_key.read_text())
    )


def _head(text: str) -> chain.Head:
    if not text:
        return chain.Head()
    place, _, digest = text.partition(":")
    if not place.isdecimal() or len(digest) != len(chain.GENESIS):
        expected = "PLACE:DIGEST as `cxreval audit verify` prints it"
        raise MalformedField(
            f"--since is {text!r}; expected {expected}", field="since", expected=expected
        )
    return chain.Head(int(place), digest)
