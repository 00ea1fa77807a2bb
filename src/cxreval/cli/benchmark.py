"""`cxreval benchmark`: the benchmarks of a registry."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer
import yaml

from cxreval.cli import options, output
from cxreval.client import BenchmarkCard, Retirement
from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.errors import MalformedField
from cxreval.fields import field_error

app = typer.Typer(
    help="List the benchmarks of a registry; describe, retire and reinstate them.",
    no_args_is_help=True,
)

_CARD = {item.name: str if item.default == "" else int for item in fields(BenchmarkCard)}
"""The fields of a card, each with the type of its values."""

_MOST_BYTES = 1 << 16

Benchmark = Annotated[str, typer.Argument(help="name of the benchmark")]


@app.command("list")
def list_benchmarks(
    context: typer.Context,
    registry: options.Registry = options.REGISTRY,
    json: options.Json = False,
) -> None:
    """List the benchmarks of a registry, oldest first."""
    with options.registry_client(context, registry) as client:
        found = list(client.describe_benchmarks())
    if json:
        output.print_json([_fields(item.spec, item.retirement, item.card) for item in found])
        return
    for item in found:
        about = [item.spec.title, _size(item.spec), output.retired(item.retirement)]
        output.print_item(item.spec.name, filter(None, about))


@app.command()
def show(
    context: typer.Context,
    benchmark: Annotated[
        str, typer.Argument(help="its name; default: the registry's first one that is not retired")
    ] = "",
    registry: options.Registry = options.REGISTRY,
    json: options.Json = False,
) -> None:
    """Show the rules of a benchmark: findings, metrics, resamples, digest."""
    with options.registry_client(context, registry) as client:
        spec = client.get_benchmark(options.benchmark_name(client, benchmark))
        retirement, about = client.retirement(spec.name), client.card(spec.name)
    if json:
        output.print_json(_fields(spec, retirement, about))
        return
    metrics = ", ".join(f"{metric.id} ({metric.direction} is better)" for metric in spec.metrics)
    facts = [
        spec.title,
        "synthetic: generated phantoms, not radiographs of patients" * spec.synthetic,
        output.retired(retirement),
        _size(spec),
        f"findings: {', '.join(spec.findings)}",
        f"metrics: {metrics}",
        f"slices: {', '.join(spec.slices) or 'none'}",
        f"intervals: from {spec.replicates} resamples of the patients",
        f"steps of the state of the art: {output.step_rule(spec)}",
        output.LADDER * spec.ladder,
        f"scorer version: {spec.scorer_version}",
        f"digest: {spec.digest}",
        *_card_lines(about or BenchmarkCard()),
    ]
    output.print_item(spec.name, filter(None, facts))


@app.command()
def card(
    context: typer.Context,
    benchmark: Benchmark,
    file: Annotated[
        Path,
        typer.Option("--file", help=f"YAML with any of the fields {', '.join(_CARD)}"),
    ],
    reason: Annotated[str, typer.Option("--reason", help="reason; public")] = "",
    registry: options.Registry = options.REGISTRY,
    json: options.Json = False,
) -> None:
    """Replace the card of a benchmark: what visitors read about its data set.

    Fields that the file lacks become empty. The audit chain gets an event with the new card.
    """
    with options.registry_client(context, registry) as client:
        stored = client.update_card(benchmark, _card_in(file), reason)
    if json:
        output.print_json(stored)
    else:
        output.print_item(benchmark, _card_lines(stored))


@app.command()
def retire(
    context: typer.Context,
    benchmark: Benchmark,
    reason: Annotated[str, typer.Option("--reason", help="reason; public")],
    superseded_by: Annotated[
        str,
        typer.Option("--superseded-by", help="benchmark that takes the submissions instead"),
    ] = "",
    registry: options.Registry = options.REGISTRY,
    json: options.Json = False,
) -> None:
    """Retire a benchmark: it takes no submissions any more, and its board stays readable.

    Retire it again to change the reason or the benchmark that supersedes it.
    """
    with options.registry_client(context, registry) as client:
        retirement = client.retire_benchmark(benchmark, reason, superseded_by)
    if json:
        output.print_json(retirement)
    else:
        output.print_item(benchmark, [output.retired(retirement)])


@app.command()
def reinstate(
    context: typer.Context,
    benchmark: Benchmark,
    reason: Annotated[str, typer.Option("--reason", help="reason; for the admin events")],
    registry: options.Registry = options.REGISTRY,
) -> None:
    """Let a retired benchmark take submissions again."""
    with options.registry_client(context, registry) as client:
        client.reinstate_benchmark(benchmark, reason)
    output.print_item(benchmark, ["takes submissions"])


def _card_in(file: Path) -> BenchmarkCard:
    """Returns the card in a YAML file.

    Raises:
        MalformedField: the file is unreadable or too large, or is not a mapping of a card's fields
            to texts and numbers.
    """
    expected = f"a YAML file of at most {_MOST_BYTES} bytes with any of {', '.join(_CARD)}"
    try:
        with file.open("rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
        given = None if len(content) > _MOST_BYTES else yaml.safe_load(content)
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        text = f"cannot read the card {file}: {error}; expected {expected}"
        raise MalformedField(text, field="card", expected=expected) from None
    if not isinstance(given, dict) or given.keys() - _CARD.keys():
        raise field_error("card", f"the content of {file}", expected)
    for name, value in given.items():
        if type(value) is not _CARD[name]:
            kind = "a whole number" if _CARD[name] is int else "a text; quote it"
            raise field_error(f"card.{name}", value, kind)
    return BenchmarkCard(**given)


def _card_lines(about: BenchmarkCard) -> list[str]:
    """Returns the fields that a card states, a line each."""
    stated = {name.replace("_", " "): getattr(about, name) for name in _CARD}
    return [f"{name}: {value}" for name, value in stated.items() if value]


def _fields(
    spec: BenchmarkSpec, retirement: Retirement | None, about: BenchmarkCard | None
) -> dict[str, object]:
    return output.fields(spec) | {
        "digest": spec.digest,
        "retirement": retirement,
        "card": about,
    }


def _size(spec: BenchmarkSpec) -> str:
    return (
        f"{spec.image_count} images of {spec.patient_count} patients, {len(spec.findings)} "
        f"findings, ranked by {spec.ranking_metric}"
    )
