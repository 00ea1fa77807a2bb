"""Converts specifications of benchmarks, their cards and retirement to messages and back."""

from __future__ import annotations

from cxreval.api.registry.v1 import benchmark_service_pb2 as pb
from cxreval.datasets.benchmark import REPRODUCTION_TOLERANCE, SLICES, BenchmarkSpec, StepRule
from cxreval.records import BenchmarkCard, Retirement
from cxreval.resource_names import BenchmarkName
from cxreval.wire.codec import Decoder, Encoder, newer_peer


def _ranking_metric(message: pb.Benchmark) -> str:
    """Returns the ranking metric; that of an older peer, which sends none, is its first metric."""
    return message.ranking_metric or (message.metrics[0].id if message.metrics else "")


def _slices(message: pb.Benchmark) -> tuple[str, ...]:
    """Returns the slices; an older peer, which sends no ranking metric and no slices, has all."""
    return tuple(message.slices) if message.ranking_metric or message.slices else SLICES


def _tolerance(message: pb.Benchmark) -> float:
    """Returns the tolerance of reproductions; that of an older peer, which sends none, is the
    default."""
    if not message.HasField("reproduction_tolerance"):
        return REPRODUCTION_TOLERANCE
    return message.reproduction_tolerance


def _steps(message: pb.Benchmark) -> StepRule:
    """Returns which rows can be steps: any row if the message, of an older peer, states no rule.

    Raises `UnknownValue`.
    """
    rules = {
        pb.Benchmark.STEP_RULE_UNSPECIFIED: StepRule.ANY,
        pb.Benchmark.STEP_RULE_ANY: StepRule.ANY,
        pb.Benchmark.STEP_RULE_CLEAN: StepRule.CLEAN,
    }
    if message.steps not in rules:
        raise newer_peer("benchmark.steps", message.steps, f"one of {', '.join(StepRule)}")
    return rules[message.steps]


spec_message = Encoder(
    BenchmarkSpec,
    pb.Benchmark,
    computed={
        "name": lambda spec: str(BenchmarkName(spec.name)),
        "reproduction_tolerance": lambda spec: spec.reproduction_tolerance,
    },
    unset=("digest", "create_time", "retirement", "card"),
)
spec = Decoder(
    BenchmarkSpec,
    pb.Benchmark,
    computed={
        "name": lambda message: BenchmarkName.parse(message.name, "benchmark.name").benchmark,
        "ranking_metric": _ranking_metric,
        "slices": _slices,
        "reproduction_tolerance": _tolerance,
        "steps": _steps,
    },
    unread=("digest", "create_time", "retirement", "card"),
)
card_message = Encoder(BenchmarkCard, pb.BenchmarkCard)
card = Decoder(BenchmarkCard, pb.BenchmarkCard)
retirement_message = Encoder(Retirement, pb.Retirement)
_retirement = Decoder(Retirement, pb.Retirement)


def retirement(message: pb.Benchmark) -> Retirement:
    """Returns when and why a benchmark was retired, and which one supersedes it."""
    return _retirement(message.retirement)
