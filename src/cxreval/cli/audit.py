"""`cxreval audit`: verifies a registry's audit chain, receipts, boards and reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cxreval.audit import chain, receipts
from cxreval.cli import options, output
from cxreval.cli.explanation import explained
from cxreval.cli.score import read_truth
from cxreval.client import Evaluation, RegistryClient
from cxreval.client.verification import Verification
from cxreval.errors import (
    AuditMismatch,
    BenchmarkDigestMismatch,
    KeyMissing,
    MalformedField,
    ReportNotFound,
    RoleRequired,
)
from cxreval.metrics.comparison import first_difference
from cxreval.metrics.report import Report, covered_findings
from cxreval.resource_names import EvaluationName, SubmissionName

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
            "rescored": verification.rescored,
            "rescores": verification.rescores,
        }
        output.print_json({**counts, "head": head})
    else:
        _print_verified(verification)


def _print_verified(verification: Verification) -> None:
    head = verification.head
    sealed = f" ({verification.sealed} sealed)" if verification.sealed else ""
    counts = f"{verification.receipts} receipts and {verification.rows} rows of boards"
    lines = [f"Verified {head.place} events{sealed}, {counts}. Head {head.place}:{head.digest}"]
    same = sorted({rescore.actor for rescore in verification.rescores if not rescore.difference})
    by = f", by {', '.join(same)}" if same else ""
    lines.append(f"Rescored: {verification.rescored} of {verification.rows} rows{by}")
    lines += [
        f"DIFFERENT: {rescore.evaluation}: {rescore.difference}, by {rescore.actor}"
        for rescore in verification.rescores
        if rescore.difference
    ]
    for line in lines:
        output.console.print(line, soft_wrap=True)


@app.command()
def rescore(
    context: typer.Context,
    submission: options.Submission,
    labels: Annotated[
        Path,
        typer.Option(
            exists=True, dir_okay=False, help="label table in the directory of the image list"
        ),
    ],
    registry: options.Registry = options.REGISTRY,
    json: options.Json = False,
) -> None:
    """Compute a published report again from the recorded predictions, and compare it bit for bit.

    The registry records the result, if the key is a submitter's or an operator's, and `cxreval
    audit verify` shows it. Exits with status 1 if the reports differ.
    """
    with options.registry_client(context, registry) as client:
        evaluation, published = _published(client, submission)
        computed = _computed(client, evaluation, covered_findings(published.metrics), labels)
        try:
            actor = client.record_rescore(evaluation.name, computed).actor
        except (KeyMissing, RoleRequired):
            actor = ""
    name = evaluation.name.partition("/evaluations/")[0]
    if difference := first_difference(published, computed):
        message = f"{name}: {difference} is not what the recorded predictions give"
        raise AuditMismatch(message, name=name, difference=difference)
    facts = {"evaluation": evaluation.name, "images": computed.image_count, "recorded_by": actor}
    if json:
        output.print_json(facts)
    else:
        recorded = f"recorded by {actor}" if actor else "not recorded: this key may not"
        output.console.print(
            f"The {computed.image_count} recorded predictions give the published report of "
            f"{name}, bit for bit; {recorded}",
            soft_wrap=True,
        )


def _published(client: RegistryClient, submission: str) -> tuple[Evaluation, Report]:
    """Returns the evaluation behind a row, and its report with the evidence."""
    for evaluation in client.list_evaluations(submission):
        if evaluation.report:
            evidence = client.get_evidence(evaluation.name)
            return evaluation, replace(evaluation.report, evidence=evidence)
    raise ReportNotFound(f"{submission} has no report", name=submission)


def _computed(
    client: RegistryClient, evaluation: Evaluation, covered: Sequence[str], labels: Path
) -> Report:
    """Returns the report of an evaluation's recorded predictions with these labels."""
    benchmark = EvaluationName.parse(evaluation.name).benchmark
    truth, digest = read_truth(benchmark, labels), client.get_benchmark(benchmark).digest
    if truth.spec.digest != digest:
        message = (
            f"{benchmark} of {labels.parent} has digest {truth.spec.digest}; expected {digest}"
        )
        raise BenchmarkDigestMismatch(message, field="labels", expected=digest)
    table = truth.table(covered)
    for batch in client.report_predictions(evaluation.name):
        table.add(batch.images, batch.probabilities)
    return truth.report(table)


@app.command()
def receipt(
    context: typer.Context,
    submission: options.Submission,
    file: Annotated[Path, typer.Argument(help="file to write", dir_okay=False)],
    registry: options.Registry = options.REGISTRY,
) -> None:
    """Save the signed receipt of a published row."""
    with options.registry_client(context, registry) as client:
        file.write_bytes(client.receipt(submission).to_file())


@app.command()
def explain(
    context: typer.Context,
    submission: options.Submission,
    registry: options.Registry = options.REGISTRY,
    json: options.Json = False,
) -> None:
    """Print the evidence for a row in sentences, each with the digest that supports it.

    The receipt and the digests of the row's events are verified first.
    """
    with options.registry_client(context, registry) as client:
        found = client.get_submission(submission)
        receipt = client.receipt(found.name)
        receipts.verify(receipt, client.public_key())
        links = chain.follow(client.audit_chain(0), chain.Head())
        events = [event for event in links if event.submission == found.name]
        evaluations = list(client.list_evaluations(found.name))
        benchmark = client.get_benchmark(SubmissionName.parse(found.name).benchmark)
    sentences = explained(found, benchmark, evaluations, events, receipt)
    if json:
        output.print_json(sentences)
    else:
        for sentence in sentences:
            output.console.print(sentence.text)
            output.console.print(f"  {sentence.digest}", soft_wrap=True)


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
