"""Benchmarks."""

from __future__ import annotations

from cxreval.api.registry.v1 import benchmark_service_pb2 as pb
from cxreval.datasets.benchmark import METRICS, BenchmarkSpec, spec_problem
from cxreval.fields import field_error
from cxreval.wire import benchmarks
from services.registry.domain.records import Benchmark


def spec(message: pb.Benchmark) -> BenchmarkSpec:
    """The specification of a benchmark to create. Raises `MalformedField`."""
    for index, metric in enumerate(message.metrics):
        if metric.id in METRICS and metric.direction != benchmarks.DIRECTIONS[METRICS[metric.id]]:
            expected = f"the direction of {metric.id}: {METRICS[metric.id]} is better"
            raise field_error(f"benchmark.metrics[{index}].direction", metric.direction, expected)
    declared = benchmarks.spec(message)
    if len(set(declared.metrics)) != len(declared.metrics):
        raise field_error("benchmark.metrics", ", ".join(declared.metrics), "each metric once")
    problem = spec_problem(declared)
    if problem:
        field, expected = problem
        raise field_error(f"benchmark.{field}", getattr(declared, field), expected)
    return declared


def benchmark_message(benchmark: Benchmark) -> pb.Benchmark:
    """A benchmark as a message."""
    message = benchmarks.spec_message(benchmark.spec)
    message.digest = benchmark.spec.digest
    message.create_time.FromDatetime(benchmark.create_time)
    return message
