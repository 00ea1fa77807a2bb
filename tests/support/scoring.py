"""A scoring service, and data sets for it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from cxreval.datasets.benchmark import SLICES, BenchmarkSpec, list_sha256, ranked_by
from cxreval.datasets.benchmark_file import SPEC_FILE
from cxreval.datasets.nih import FINDINGS
from cxreval.metrics.report import Report
from cxreval.wire import reports
from cxreval.wire.channel import TlsFiles
from tests.support.processes import Service

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"
)


def describe(
    directory: Path,
    name: str,
    images: Sequence[str],
    labels: Path,
    replicates: int = 100,
    ranking_metric: str = "auroc",
) -> BenchmarkSpec:
    """Writes the specification of a benchmark over `images`, and a link to the label table."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "list.txt").write_text("".join(f"{image}\n" for image in images))
    if labels.parent != directory:
        (directory / labels.name).symlink_to(labels.resolve())
    spec = BenchmarkSpec(
        name=name,
        title=name,
        synthetic=False,
        list_file="list.txt",
        list_sha256=list_sha256(list(images)),
        labels_file=labels.name,
        labels_sha256=hashlib.sha256(labels.read_bytes()).hexdigest(),
        image_count=len(images),
        patient_count=len({image.partition("_")[0] for image in images}),
        findings=FINDINGS,
        metrics=ranked_by(ranking_metric),
        ranking_metric=ranking_metric,
        scorer_version="2",
        replicates=replicates,
        slices=SLICES,
    )
    (directory / SPEC_FILE).write_text(spec.to_toml())
    return spec


def small_table(directory: Path, rows: Sequence[tuple[str, str]]) -> Path:
    """Writes a label table in NIH's form with rows of (image, findings)."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = [f"{image},{findings},0,{int(image[:8])},50,F,PA" for image, findings in rows]
    file = directory / "labels.csv"
    file.write_text("\n".join([HEADER, *lines, ""]))
    return file


def scoring_service(log: Path, *flags: str, tls: TlsFiles | None = None, **data: Path) -> Service:
    """Returns a scoring service with the truths of the given benchmarks."""
    pairs = [f"--data={name}={directory}" for name, directory in data.items()]
    return Service("scoring", [*pairs, *flags], log, tls)


def serialised(report: Report) -> bytes:
    """Returns every byte of a report, including its evidence."""
    return reports.report_message(report).SerializeToString(deterministic=True)
