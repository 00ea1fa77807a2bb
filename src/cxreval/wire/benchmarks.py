"""Specifications of benchmarks as protobuf messages and back."""

from __future__ import annotations

from cxreval.api.registry.v1 import benchmark_service_pb2 as pb
from cxreval.datasets.benchmark import METRICS, BenchmarkSpec
from cxreval.resource_names import BenchmarkName
from cxreval.wire.codec import Decoder, Encoder

DIRECTIONS = {
    "higher": pb.Metric.DIRECTION_HIGHER_IS_BETTER,
    "lower": pb.Metric.DIRECTION_LOWER_IS_BETTER,
}

spec_message = Encoder(
    BenchmarkSpec,
    pb.Benchmark,
    computed={
        "name": lambda spec: str(BenchmarkName(spec.name)),
        "metrics": lambda spec: [
            pb.Metric(id=metric, direction=DIRECTIONS[METRICS[metric]]) for metric in spec.metrics
        ],
    },
    unset=("digest", "create_time"),
)
spec = Decoder(
    BenchmarkSpec,
    pb.Benchmark,
    computed={
        "name": lambda message: BenchmarkName.parse(message.name, "benchmark.name").benchmark,
        "metrics": lambda message: tuple(metric.id for metric in message.metrics),
    },
    unread=("digest", "create_time"),
)
