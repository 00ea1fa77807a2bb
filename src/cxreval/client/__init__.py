"""Typed clients of the services; they use dataclasses and raise the errors of `cxreval.errors`.

Example:

    with RegistryClient("localhost:50051") as registry:
        manifest = read_manifest("model.yaml")
        submission = registry.submit("phantom-cxr", manifest, "model.onnx")
        print(registry.wait(submission.name).status)
        print(registry.report(submission.name).auroc["Mass"])
"""

from cxreval.client._calls import ServiceClient
from cxreval.client._upload import UploadProgress
from cxreval.client.inference import InferenceClient
from cxreval.client.models import (
    Board,
    Capabilities,
    DescribedBenchmark,
    EntryComparison,
    Evaluation,
    Event,
    KeyInfo,
    LeaderboardEntry,
    Lease,
    Organisation,
    Predictions,
    ProfileInfo,
    QuotaUsage,
    RankSpread,
    Rescore,
    ScriptRecord,
    SotaStep,
    Submission,
    TruthInfo,
)
from cxreval.client.registry import AsyncRegistryClient, RegistryClient
from cxreval.client.scoring import ScoringClient
from cxreval.client.worker import WorkerClient
from cxreval.files import file_sha256
from cxreval.manifest.document import read_manifest
from cxreval.manifest.model import (
    CheckpointFormat,
    ClaimedMetric,
    Endpoint,
    Environment,
    Kind,
    Manifest,
    Reproduction,
    SourceKind,
)
from cxreval.metrics.finding_comparison import FindingComparison
from cxreval.metrics.predictions import PartialState
from cxreval.metrics.report import Report
from cxreval.records import (
    AdminEvent,
    Agreement,
    BenchmarkCard,
    Canaries,
    Change,
    Failure,
    Fault,
    Part,
    Purpose,
    Quota,
    Retirement,
    Role,
    Tier,
    Usage,
    Verdict,
)
from cxreval.records import EvaluationState as EvaluationStatus
from cxreval.records import SubmissionState as SubmissionStatus
from cxreval.wire.channel import ApiKey, TlsFiles

__all__ = [
    "AdminEvent",
    "Agreement",
    "ApiKey",
    "AsyncRegistryClient",
    "BenchmarkCard",
    "Board",
    "Canaries",
    "Capabilities",
    "Change",
    "CheckpointFormat",
    "ClaimedMetric",
    "DescribedBenchmark",
    "Endpoint",
    "EntryComparison",
    "Environment",
    "Evaluation",
    "EvaluationStatus",
    "Event",
    "Failure",
    "Fault",
    "FindingComparison",
    "InferenceClient",
    "KeyInfo",
    "Kind",
    "LeaderboardEntry",
    "Lease",
    "Manifest",
    "Organisation",
    "Part",
    "PartialState",
    "Predictions",
    "ProfileInfo",
    "Purpose",
    "Quota",
    "QuotaUsage",
    "RankSpread",
    "RegistryClient",
    "Report",
    "Reproduction",
    "Rescore",
    "Retirement",
    "Role",
    "ScoringClient",
    "ScriptRecord",
    "ServiceClient",
    "SotaStep",
    "SourceKind",
    "Submission",
    "SubmissionStatus",
    "Tier",
    "TlsFiles",
    "TruthInfo",
    "UploadProgress",
    "Usage",
    "Verdict",
    "WorkerClient",
    "file_sha256",
    "read_manifest",
]
