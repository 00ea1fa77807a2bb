"""`cxreval audit`: verifies a registry's audit chain, receipts and boards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxreval.audit import chain, receipts
from cxreval.cli import options, output
from cxreval.client.verification import Verification
from cxreval.errors import MalformedField

app = typer.Typer(
    help="Verify the audit chain and the receipts of a registry.", no_args_is_help=True
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
            help="head that an earlier run printed, PLACE:DIGEST; the chain must contain it"
        ),
    ] = "",
    registry: options.Registry = options.REGISTRY,
    json: options.Json = False,
) -> None:
    """Verify the audit chain, the receipts of its events, and the boards against both.

    Without --public-key, receipts are verified with the key that the registry returns. Keep the
    printed head, and pass it to a later run as --since: that run fails if an event before the head
    was changed, also if the whole chain was written anew.
    """
    earlier = _head(since)
    with options.registry_client(context, registry) as client:
        key = public_key.read_text() if public_key else client.public_key()
        verification = Verification(client, key, earlier)
        verification.run()
    head = verification.head
    if json:
        counts = {
            "events": head.place,
            "sealed": verification.sealed,
            "receipts": verification.receipts,
            "rows": verification.rows,
        }
        output.print_json({**counts, "head": head})
    else:
        sealed = f" ({verification.sealed} sealed)" if verification.sealed else ""
        output.console.print(
            f"Verified {head.place} events{sealed}, {verification.receipts} receipts and "
            f"{verification.rows} rows of boards. Head {head.place}:{head.digest}"
        )


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
    """Print the public key that verifies the registry's receipts."""
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
    """Verify a receipt offline and print its content."""
    with file.open("rb") as stream:
        receipt = receipts.Receipt.from_file(stream.read(receipts.MAX_BYTES + 1))
    output.print_json(receipts.verify(receipt, public_key.read_text()))


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
