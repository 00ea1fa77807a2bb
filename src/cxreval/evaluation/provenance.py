"""The evidence of a run: what ran, with which versions, where and when."""

from __future__ import annotations

import platform
from datetime import UTC, datetime

import cxreval
from cxreval.client import InferenceClient, Lease
from cxreval.errors import UnknownProfile


def provenance(lease: Lease, inference: InferenceClient, started: datetime) -> dict[str, str]:
    """Collects the evidence; the lease says how many images earlier attempts had predicted.

    Raises:
        UnknownProfile: the inference service does not have the submission's preprocessing profile.
    """
    manifest = lease.submission.manifest
    capabilities = inference.capabilities()
    profiles = {profile.name: profile for profile in capabilities.profiles}
    profile = profiles.get(manifest.preprocessing_profile)
    if profile is None:
        known = ", ".join(profiles)
        message = f"the inference service has no profile {manifest.preprocessing_profile!r}; it has {known}"
        raise UnknownProfile(message, field="preprocessing_profile", expected=known)
    return {
        "artifact_sha256": manifest.artifact_sha256,
        "attempt": str(lease.attempt),
        "benchmark_digest": lease.benchmark.digest,
        "cxreval_version": cxreval.__version__,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "inference_runtime": capabilities.runtime,
        "profile": profile.name,
        "profile_digest": profile.digest,
        "resumed_images": str(lease.images_done),
        "started": started.isoformat(timespec="seconds"),
        "worker_platform": platform.platform(),
    }
