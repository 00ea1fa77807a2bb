"""Converts benchmarks."""

from __future__ import annotations

from operator import attrgetter

from cxreval.api.registry.v1 import benchmark_service_pb2 as pb
from cxreval.datasets.benchmark import BenchmarkSpec, spec_problem
from cxreval.datasets.benchmark_file import field_text
from cxreval.fields import check_https_url, check_text, field_error, require
from cxreval.records import BenchmarkCard
from cxreval.resource_names import BenchmarkName
from cxreval.wire import benchmarks
from services.registry.domain.records import Benchmark

_LONGEST = {"description": 2000, "task": 100, "modality": 100, "language": 100, "licence": 200}
_MOST = 2**31 - 1
_RANGES = (("year", 1895, 2100), ("image_count", 1, _MOST), ("patient_count", 1, _MOST))


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


def card(message: pb.BenchmarkCard) -> BenchmarkCard:
    """Returns the card of a request. Raises `MalformedField`."""
    stated = benchmarks.card(message)
    for name, longest in _LONGEST.items():
        check_text(f"card.{name}", getattr(stated, name), longest, required=False)
    for name in ("paper", "download", "licence_url"):
        check_https_url(f"card.{name}", getattr(stated, name), required=False)
    for name, least, most in _RANGES:
        value = getattr(stated, name)
        if value is not None and not least <= value <= most:
            raise field_error(f"card.{name}", value, f"{least} to {most}, or no value")
    return stated


def benchmark_message(benchmark: Benchmark) -> pb.Benchmark:
    """Returns a benchmark as a message."""
    message = benchmarks.spec_message(benchmark.spec)
    message.digest = benchmark.spec.digest
    message.create_time.FromDatetime(benchmark.create_time)
    if benchmark.retirement:
        message.retirement.CopyFrom(benchmarks.retirement_message(benchmark.retirement))
    if benchmark.card:
        message.card.CopyFrom(benchmarks.card_message(benchmark.card))
    return message
