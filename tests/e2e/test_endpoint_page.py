"""The page on endpoints: its server answers a worker, and the submission is published."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from cxreval.client import SubmissionStatus
from cxreval.datasets.nih import FINDINGS
from cxreval.evaluation.driver import EvaluationDriver, local_benchmarks
from tests.conftest import REPOSITORY, require_module
from tests.support.inference import png
from tests.support.scoring import describe, small_table
from tests.support.system import System, endpoint

PAGE = REPOSITORY / "docs" / "endpoint.md"
IMAGES = [f"{patient:08d}_000.png" for patient in range(1, 7)]
START_SECONDS = 60.0


def server_of_the_page() -> str:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return str(code)


def save_classifier(file: Path) -> None:
    """Saves a network whose 14 outputs increase with the mean of the image."""
    torch = require_module("torch")
    network = torch.nn.Sequential(
        torch.nn.AvgPool2d(224), torch.nn.Flatten(), torch.nn.Linear(1, len(FINDINGS))
    )
    with torch.no_grad():
        network[2].weight.copy_(torch.linspace(1, 3, len(FINDINGS))[:, None])
    program = torch.export.export(network, (torch.zeros(1, 1, 224, 224),))
    torch.export.save(program, file)


def auroc_of_means(images: Path) -> float:
    """Returns the AUROC of the mean of each image; every second one is sick."""
    means = [
        np.asarray(Image.open(images / image).convert("L").resize((224, 224))).mean()
        for image in IMAGES
    ]
    return float(roc_auc_score([n % 2 for n in range(len(IMAGES))], means))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(process: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail(f"the server of the page does not start: {process.poll()}")


def test_the_server_is_at_most_thirty_lines_of_the_persons_own() -> None:
    code = server_of_the_page()
    lines = [
        line
        for line in code.splitlines()
        if line.strip() and not line.startswith(("import", "from"))
    ]
    assert len(lines) <= 30


def test_the_server_of_the_page_gets_a_published_row(tmp_path: Path) -> None:
    save_classifier(tmp_path / "classifier.pt2")
    (tmp_path / "serve.py").write_text(server_of_the_page(), encoding="utf-8")
    data = tmp_path / "data"
    labels = [
        (image, "|".join(FINDINGS) if i % 2 else "No Finding") for i, image in enumerate(IMAGES)
    ]
    describe(data, "small", IMAGES, small_table(data, labels))
    (data / "images").mkdir()
    for number, image in enumerate(IMAGES):
        (data / "images" / image).write_bytes(png(256, 256, seed=number))
    port = free_port()
    server = subprocess.Popen([sys.executable, "serve.py", f"127.0.0.1:{port}"], cwd=tmp_path)
    try:
        wait_for_port(server, port)
        with System(tmp_path, {"small": data}, lease_seconds=10.0) as system:
            system.registry.create_benchmark(local_benchmarks(system.data)["small"])
            submitted = system.registry.submit("small", endpoint(f"127.0.0.1:{port}"))
            clients = (system.registry, system.inference, system.scoring)
            EvaluationDriver(*clients, system.data, "test", 10.0, True).run_next(lambda *_: None)
            ended = system.registry.get_submission(submitted.name)
            assert ended.status is SubmissionStatus.PUBLISHED, ended.failure
            (row,) = system.registry.leaderboard("small")
            assert row.score == pytest.approx(auroc_of_means(data / "images"))
    finally:
        server.kill()
        server.wait(timeout=30)
