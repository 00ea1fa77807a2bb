"""Converts ranks and comparisons to protobuf messages and back."""

from __future__ import annotations

from cxreval.api.registry.v1 import leaderboard_service_pb2 as pb
from cxreval.metrics.ranking import Comparison, Ranked
from cxreval.wire.codec import Decoder, Encoder

spread_message = Encoder(
    Ranked, pb.RankSpread, unsent=("id", "rank", "sota_step", "significance", "not_counted")
)
comparison_message = Encoder(Comparison, pb.PairwiseComparison)
comparison = Decoder(Comparison, pb.PairwiseComparison)
