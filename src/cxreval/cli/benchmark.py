"""`cxreval benchmark`: the benchmarks of a registry."""

from __future__ import annotations

from typing import Annotated

import typer

from cxreval.cli import options, output
from cxreval.client import Retirement
from cxreval.datasets.benchmark import BenchmarkSpec

app = typer.Typer(
    help="List the benchmarks of a registry; retire and reinstate them.", no_args_is_help=True
)

Benchmark = Annotated[str, typer.Argument(help="name of the benchmark")]


@app.command("list")
def list_benchmarks(
    context: typer.Context,
    registry: options.Registry = options.REGISTRY,
    json: options.Json = False,
) -> None:
    """List the benchmarks of a registry, oldest first."""
    with options.registry_client(context, registry) as client:
        specs, retirements = list(client.list_benchmarks()), client.retirements()
    if json:
        output.print_json([_fields(spec, retirements.get(spec.name)) for spec in specs])
        return
    for spec in specs:
        about = [spec.title, _size(spec), output.retired(retirements.get(spec.name))]
        output.print_item(spec.name, filter(None, about))


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
        retirement = client.retirement(spec.name)
    if json:
        output.print_json(_fields(spec, retirement))
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
        f"scorer version: {spec.scorer_version}",
        f"digest: {spec.digest}",
    ]
    output.print_item(spec.name, filter(None, facts))


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


def _fields(spec: BenchmarkSpec, retirement: Retirement | None) -> dict[str, object]:
    return output.fields(spec) | {"digest": spec.digest, "retirement": retirement}


def _size(spec: BenchmarkSpec) -> str:
    return (
        f"{spec.image_count} images of {spec.patient_count} patients, {len(spec.findings)} "
        f"findings, ranked by {spec.ranking_metric}"
    )
