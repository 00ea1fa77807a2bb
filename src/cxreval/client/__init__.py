"""The typed client: dataclasses in and out, errors of `cxreval.errors`, no protobuf in any signature.

with RegistryClient("localhost:50051") as registry:
    submission = registry.submit("phantom-cxr", read_manifest(Path("model.toml")), Path("model.onnx"))
    print(registry.get_submission(submission.name).status)
"""

from cxreval.client._upload import UploadProgress
from cxreval.client.inference import InferenceClient
from cxreval.client.manifest import file_sha256, read_manifest
from cxreval.client.models import (
    Capabilities,
    Change,
    ClaimedMetric,
    EntryComparison,
    Environment,
    Evaluation,
    EvaluationStatus,
    Event,
    Failure,
    Fault,
    LeaderboardEntry,
    Lease,
    Manifest,
    Predictions,
    ProfileInfo,
    RankSpread,
    Reproduction,
    SotaStep,
    SourceKind,
    Submission,
    SubmissionKind,
    SubmissionStatus,
    Tier,
    TruthInfo,
)
from cxreval.client.registry import RegistryClient
from cxreval.client.scoring import ScoringClient
from cxreval.metrics.predictions import PartialState
from cxreval.wire.channel import TlsFiles

__all__ = [
    "Capabilities",
    "Change",
    "ClaimedMetric",
    "EntryComparison",
    "Environment",
    "Evaluation",
    "EvaluationStatus",
    "Event",
    "Failure",
    "Fault",
    "InferenceClient",
    "LeaderboardEntry",
    "Lease",
    "Manifest",
    "PartialState",
    "Predictions",
    "ProfileInfo",
    "RankSpread",
    "RegistryClient",
    "Reproduction",
    "ScoringClient",
    "SotaStep",
    "SourceKind",
    "Submission",
    "SubmissionKind",
    "SubmissionStatus",
    "Tier",
    "TlsFiles",
    "TruthInfo",
    "UploadProgress",
    "file_sha256",
    "read_manifest",
]
