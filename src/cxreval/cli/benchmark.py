"""`cxreval benchmark`: the benchmarks of a registry."""

from __future__ import annotations

from typing import Annotated

import typer

from cxreval.cli import options, output
from cxreval.datasets.benchmark import BenchmarkSpec

app = typer.Typer(help="List the benchmarks of a registry.", no_args_is_help=True)


@app.command("list")
def list_benchmarks(
    context: typer.Context,
    registry: options.Registry = options.REGISTRY,
    json: options.Json = False,
) -> None:
    """List the benchmarks of a registry, oldest first."""
    with options.registry_client(context, registry) as client:
        specs = list(client.list_benchmarks())
    if json:
        output.print_json([_fields(spec) for spec in specs])
        return
    for spec in specs:
        output.print_item(spec.name, [spec.title, _size(spec)])


@app.command()
def show(
    context: typer.Context,
    benchmark: Annotated[
        str, typer.Argument(help="its name; default: the registry's first one")
    ] = "",
    registry: options.Registry = options.REGISTRY,
    json: options.Json = False,
) -> None:
    """Show the rules of a benchmark: findings, metrics, resamples, digest."""
    with options.registry_client(context, registry) as client:
        spec = client.get_benchmark(options.benchmark_name(client, benchmark))
    if json:
        output.print_json(_fields(spec))
        return
    metrics = ", ".join(f"{metric.id} ({metric.direction} is better)" for metric in spec.metrics)
    facts = [
        spec.title,
        "synthetic: generated phantoms, not radiographs of patients" * spec.synthetic,
        _size(spec),
        f"findings: {', '.join(spec.findings)}",
        f"metrics: {metrics}",
        f"slices: {', '.join(spec.slices) or 'none'}",
        f"intervals: from {spec.replicates} resamples of the patients",
        f"scorer version: {spec.scorer_version}",
        f"digest: {spec.digest}",
    ]
    output.print_item(spec.name, filter(None, facts))


def _fields(spec: BenchmarkSpec) -> dict[str, object]:
    return output.fields(spec) | {"digest": spec.digest}


def _size(spec: BenchmarkSpec) -> str:
    return (
        f"{spec.image_count} images of {spec.patient_count} patients, {len(spec.findings)} "
        f"findings, ranked by {spec.ranking_metric}"
    )
