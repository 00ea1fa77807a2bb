"""The content of a receipt: the signed statement about a published row."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from cxreval.audit.canonical import canonical_json
from cxreval.audit.rows import metrics_sha256
from cxreval.manifest.model import Kind, Manifest
from cxreval.metrics.report import MetricValue, macro
from cxreval.resource_names import BenchmarkName, SubmissionName
from services.registry.domain.agreements import as_json
from services.registry.domain.board import PROFILE_DIGEST, claimed_metrics
from services.registry.domain.records import Benchmark, Evaluation, Submission

KIND = "cxreval receipt, version 2"


def script_content(manifest: Manifest) -> dict[str, str]:
    """Returns what a receipt states of the script that a manifest declares; empty for none."""
    given = manifest.reproduction
    if given is None or not given.entry_point:
        return {}
    is_script = manifest.kind is Kind.SCRIPT
    return {
        "repository": given.repository,
        "commit": given.commit,
        "entry_point": given.entry_point,
        "seed": str(given.seed),
        "lock": given.lock,
        "bundle_sha256": manifest.artifact_sha256 if is_script else given.bundle_sha256,
        "wheelhouse_sha256": given.wheelhouse_sha256,
    }


def receipt_content(
    submission: Submission,
    benchmark: Benchmark,
    evaluation: Evaluation | None,
    report: Mapping[str, Any] | None,
    metrics: tuple[MetricValue, ...],
    runs: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns the content of a receipt as JSON.

    Args:
        submission: the published submission.
        benchmark: the benchmark of the board.
        evaluation: the evaluation behind the row; None for a claim.
        report: the evaluation's report as JSON; the receipt has the sha256 of its canonical form.
        metrics: the report's values over all images.
        runs: by purpose, what is recorded of the latest run of the submitter's script: provenance,
            use and limits; empty if none ran.

    Keys about a replay, a reproduction or a script are there only if the row has one, so that other
    receipts are as they were before there were any.
    """
    spec = benchmark.spec
    values = metrics or claimed_metrics(submission)
    score = macro(values, spec.ranking_metric)
    interval = score.interval if score else None
    latest = {"replay": submission.replay, "reproduction": submission.reproduction}
    agreements = {name: as_json(found) for name, found in latest.items() if found}
    script = script_content(submission.manifest)
    return {
        **agreements,
        **({"script": script} if script else {}),
        **({"run": dict(runs)} if runs else {}),
        "type": KIND,
        "submission": str(SubmissionName(spec.name, submission.id)),
        "version": submission.version,
        "time": submission.update_time.isoformat(timespec="microseconds"),
        "kind": submission.kind,
        "tier": submission.tier or "",
        "model": submission.manifest.model,
        "organisation": submission.manifest.organisation,
        "open_source": submission.manifest.open_source,
        "source_kind": submission.manifest.source_kind,
        "source_url": submission.manifest.source_url,
        "submitted_date": submission.submitted_date,
        "note": submission.note,
        "artifact_sha256": submission.manifest.artifact_sha256,
        "benchmark": str(BenchmarkName(spec.name)),
        "benchmark_digest": spec.digest,
        "scorer_version": spec.scorer_version,
        "evaluation": evaluation.id if evaluation else "",
        "profile_digest": evaluation.provenance.get(PROFILE_DIGEST, "") if evaluation else "",
        "report_sha256": hashlib.sha256(canonical_json(report)).hexdigest() if report else "",
        "predictions_sha256": report["predictions_sha256"] if report else "",
        "metric": spec.ranking_metric,
        "score": score.value if score else None,
        "interval": [interval.low, interval.high] if interval else None,
        "metrics_sha256": metrics_sha256(values),
    }
