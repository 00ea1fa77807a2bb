"""The provenance of an evaluation: what ran, with which versions, where, when and how fast.

All of it is the worker's word: the registry stores it and cannot check it.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import cxreval
from cxreval.client import Kind, Lease
from cxreval.cores import cores

_CPUINFO = Path("/proc/cpuinfo")


@dataclass
class Timing:
    """How long the parts of an evaluation took in this attempt.

    `predicted`: number of images that were predicted and recorded, in `predicting_seconds`, which
    include the loading of the model. `scoring_seconds`: of the request that returned the report.
    """

    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    predicted: int = 0
    predicting_seconds: float = 0.0
    scoring_seconds: float = 0.0

    @contextmanager
    def scoring(self) -> Iterator[None]:
        """Measures the scoring; of several attempts, the last."""
        since = time.monotonic()
        yield
        self.scoring_seconds = time.monotonic() - since


def provenance(lease: Lease, source: Mapping[str, str], timing: Timing) -> dict[str, str]:
    """Returns the provenance of an evaluation; `source` is that of its predictions.

    `cpu`, `cpu_cores` and `memory_bytes` are those of the worker's machine. `images_per_second` is
    absent for a table, and where this attempt predicted no image.
    """
    manifest = lease.submission.manifest
    artifact = {"artifact_sha256": manifest.artifact_sha256} if manifest.artifact_sha256 else {}
    return {
        **artifact,
        "attempt": str(lease.attempt),
        "benchmark_digest": lease.benchmark.digest,
        "cpu": _cpu(),
        "cpu_cores": str(cores()),
        "cxreval_version": cxreval.__version__,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "kind": manifest.kind,
        "memory_bytes": str(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")),
        "scoring_seconds": f"{timing.scoring_seconds:.3f}",
        "started": timing.started.isoformat(timespec="seconds"),
        "worker_platform": platform.platform(),
        **_speed(manifest.kind, timing),
        **source,
    }


def _speed(kind: Kind, timing: Timing) -> dict[str, str]:
    if kind is Kind.PREDICTIONS or not timing.predicted:
        return {}
    # Like all that is said of an endpoint, its speed is for its owner only.
    key = "endpoint_images_per_second" if kind is Kind.ENDPOINT else "images_per_second"
    return {key: f"{timing.predicted / max(timing.predicting_seconds, 1e-6):.4g}"}


def _cpu() -> str:
    """Returns the name of the processor; its architecture where Linux does not say its name."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(filter(None, names), platform.machine())
