"""Triton's own load generator, unmodified, measures the service; no rpc is missing."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cxreval.api.oip import grpc_predict_v2_pb2 as pb
from tests.conftest import REPOSITORY, missing
from tests.support import onnx_models
from tests.support.inference import InferenceService, load_request, stub

ROOT = REPOSITORY / ".cache" / "perf_analyzer"

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def perf_analyzer() -> list[str]:
    """The command, in a small Debian with the C library that it needs."""
    if not ROOT.exists():
        if os.geteuid() or not shutil.which("apt-get"):
            missing(
                "perf_analyzer needs root on Debian: see tests/extended/install_perf_analyzer.sh"
            )
        script = str(REPOSITORY / "tests/extended/install_perf_analyzer.sh")
        subprocess.run(
            [script, str(ROOT)],
            check=True,
            env=os.environ | {"PYTHON": sys.executable},
            timeout=600,
        )
    return ["chroot", str(ROOT), "perf_analyzer"]


def test_perf_analyzer_measures_a_model(perf_analyzer: list[str], tmp_path: Path) -> None:
    with InferenceService(tmp_path, "--threads", "1") as service, service.connect() as channel:
        digest = onnx_models.classifier(service.models)
        stub(channel).RepositoryModelLoad(load_request(digest))
        report = ROOT / "tmp" / "report.csv"
        done = subprocess.run(
            [*perf_analyzer, "-m", digest, "-u", service.address, "-i", "grpc",
             "--concurrency-range", "2:4:2", "--measurement-interval", "1000",
             "--stability-percentage", "80", "-f", "/tmp/report.csv"],
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        statistics = (
            stub(channel).ModelStatistics(pb.ModelStatisticsRequest(name=digest)).model_stats[0]
        )

    assert done.returncode == 0, done.stdout + done.stderr
    rows = csv.DictReader(report.read_text().splitlines())
    measured = {int(row["Concurrency"]): float(row["Inferences/Second"]) for row in rows}
    assert set(measured) == {2, 4}
    assert min(measured.values()) > 0, done.stdout
    assert statistics.inference_stats.success.count > 100
    assert statistics.inference_stats.fail.count == 0
