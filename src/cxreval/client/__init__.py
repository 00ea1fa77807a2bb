"""The typed client: dataclasses in and out, errors of `cxreval.errors`, no protobuf in any signature.

with RegistryClient("localhost:50051") as registry:
    submission = registry.submit("phantom-cxr", read_manifest(Path("model.toml")), Path("model.onnx"))
    print(registry.get_submission(submission.name).status)
"""

from cxreval.client._upload import UploadProgress
from cxreval.client.inference import InferenceClient
from cxreval.client.manifest import file_sha256, read_manifest
from cxreval.client.models import (
    AdminEvent,
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
    KeyInfo,
    LeaderboardEntry,
    Lease,
    Manifest,
    Organisation,
    Predictions,
    ProfileInfo,
    Quota,
    QuotaUsage,
    RankSpread,
    Reproduction,
    Role,
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
from cxreval.wire.channel import ApiKey, TlsFiles

__all__ = [
    "AdminEvent",
    "ApiKey",
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
    "KeyInfo",
    "LeaderboardEntry",
    "Lease",
    "Manifest",
    "Organisation",
    "PartialState",
    "Predictions",
    "ProfileInfo",
    "Quota",
    "QuotaUsage",
    "RankSpread",
    "RegistryClient",
    "Reproduction",
    "Role",
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
