"""The provenance of an evaluation: what ran, with which versions, where and when."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import UTC, datetime

import cxreval
from cxreval.client import Lease


def provenance(lease: Lease, source: Mapping[str, str], started: datetime) -> dict[str, str]:
    """Returns the provenance of an evaluation; `source` is that of its predictions."""
    manifest = lease.submission.manifest
    artifact = {"artifact_sha256": manifest.artifact_sha256} if manifest.artifact_sha256 else {}
    return {
        **artifact,
        "attempt": str(lease.attempt),
        "benchmark_digest": lease.benchmark.digest,
        "cxreval_version": cxreval.__version__,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "kind": manifest.kind,
        "started": started.isoformat(timespec="seconds"),
        "worker_platform": platform.platform(),
        **source,
    }
