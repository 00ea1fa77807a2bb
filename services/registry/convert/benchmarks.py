"""Converts benchmarks."""

from __future__ import annotations

from cxreval.api.registry.v1 import benchmark_service_pb2 as pb
from cxreval.datasets.benchmark import BenchmarkSpec, spec_problem
from cxreval.fields import field_error
from cxreval.wire import benchmarks
from services.registry.domain.records import Benchmark


def spec(message: pb.Benchmark) -> BenchmarkSpec:
    """Returns the specification of a benchmark to create. Raises `MalformedField`."""
    requested = benchmarks.requested_spec(message)
    problem = spec_problem(requested)
    if problem:
        field, expected = problem
        raise field_error(f"benchmark.{field}", getattr(requested, field), expected)
    return requested


def benchmark_message(benchmark: Benchmark) -> pb.Benchmark:
    """Returns a benchmark as a message."""
    message = benchmarks.spec_message(benchmark.spec)
    message.digest = benchmark.spec.digest
    message.create_time.FromDatetime(benchmark.create_time)
    return message
