"""`cxreval leaderboard`."""

from __future__ import annotations

import typer

from cxreval.cli import options, output
from cxreval.client import RegistryClient


def leaderboard(
    context: typer.Context,
    registry: options.Registry = options.REGISTRY,
    benchmark: options.Benchmark = options.BENCHMARK,
    json: options.Json = False,
) -> None:
    """Print the ranked board of a benchmark and its steps of the state of the art."""
    with RegistryClient(registry, context.obj) as client:
        spec = client.get_benchmark(benchmark)
        entries, steps = list(client.leaderboard(benchmark)), list(client.sota_steps(benchmark))
    if json:
        output.print_json({"benchmark": spec, "digest": spec.digest, "entries": entries, "sota_steps": steps})
    else:
        output.print_board(spec, entries, steps)
