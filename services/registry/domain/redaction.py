"""Redacts what callers outside the organisation that owns a submission may not read."""

from __future__ import annotations

from dataclasses import replace

from cxreval.manifest.model import Manifest
from services.chassis.principal import Principal
from services.registry.domain.records import Evaluation, Submission

ENDPOINT_PROVENANCE = "endpoint_"
"""Prefix of the provenance keys for an endpoint's address and what its server reports."""


def redact_submission(submission: Submission, caller: Principal) -> Submission:
    """Redacts contact, failure and endpoint details for callers outside the owning organisation."""
    if caller.knows(submission.owner):
        return submission
    return replace(
        submission,
        failure=None,
        manifest=_redact_manifest(submission.manifest),
        original=_redact_manifest(submission.original),
    )


def redact_evaluation(evaluation: Evaluation, caller: Principal) -> Evaluation:
    """Redacts failure, worker and endpoint details for callers outside the owning organisation."""
    if caller.knows(evaluation.owner):
        return evaluation
    provenance = {
        key: value
        for key, value in evaluation.provenance.items()
        if not key.startswith(ENDPOINT_PROVENANCE)
    }
    return replace(evaluation, failure=None, worker="", provenance=provenance)


def _redact_manifest(manifest: Manifest) -> Manifest:
    return replace(manifest, contact="", endpoint=None)
