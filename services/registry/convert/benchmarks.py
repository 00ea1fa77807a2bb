"""Converts benchmarks."""

from __future__ import annotations

from operator import attrgetter

from cxreval.api.registry.v1 import benchmark_service_pb2 as pb
from cxreval.datasets.benchmark import BenchmarkSpec, field_text, spec_problem
from cxreval.fields import field_error, require
from cxreval.resource_names import BenchmarkName
from cxreval.wire import benchmarks
from services.registry.domain.records import Benchmark


def spec(message: pb.Benchmark) -> BenchmarkSpec:
    """Returns the specification of a benchmark to create.

    Raises:
        MissingField: the name or the direction of a metric is missing.
        MalformedField: a field is malformed.
    """
    require("benchmark.name", message.name, "benchmarks/{benchmark}")
    for index, metric in enumerate(message.metrics):
        _check_direction(f"benchmark.metrics[{index}].direction", metric.direction)
    requested = benchmarks.spec(message)
    problem = spec_problem(requested)
    if problem:
        field, expected = problem
        raise field_error(f"benchmark.{field}", field_text(attrgetter(field)(requested)), expected)
    return requested


def _check_direction(field: str, direction: int) -> None:
    """Raises unless the direction is stated and known."""
    expected = f"one of {', '.join(pb.Metric.Direction.keys()[1:])}"
    require(field, direction, expected)
    if direction not in pb.Metric.Direction.values():
        raise field_error(field, direction, expected)


def successor(text: str) -> BenchmarkName | None:
    """Returns the benchmark that supersedes another; None for none. Raises `MalformedField`."""
    return BenchmarkName.parse(text, "superseded_by") if text else None


def benchmark_message(benchmark: Benchmark) -> pb.Benchmark:
    """Returns a benchmark as a message."""
    message = benchmarks.spec_message(benchmark.spec)
    message.digest = benchmark.spec.digest
    message.create_time.FromDatetime(benchmark.create_time)
    if benchmark.retirement:
        message.retirement.CopyFrom(benchmarks.retirement_message(benchmark.retirement))
    return message
