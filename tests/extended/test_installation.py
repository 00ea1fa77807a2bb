"""`pip install cxreval` from a built wheel, in an empty environment of each installed Python."""

from __future__ import annotations

import csv
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cxreval.datasets.nih import FINDINGS
from tests.conftest import REPOSITORY, missing
from tests.support.scoring import describe, small_table
from tests.support.wheel import build_wheel

pytestmark = pytest.mark.timeout(400)

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MOST_BYTES = 120_000_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def interpreter(version: str) -> str:
    """Returns a Python of this version, which may be one that pyenv keeps."""
    kept = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python3"))
    for program in (shutil.which(f"python{version}"), *map(str, kept)):
        if not program:
            continue
        answer = subprocess.run(
            [program, "--version"], capture_output=True, check=False, timeout=120
        )
        if answer.returncode == 0:  # pyenv's own command fails where its version is not selected
            return program
    pytest.skip(f"there is no Python {version} on this machine")


@pytest.fixture(scope="module", params=PYTHONS)
def environment(
    request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An environment that has the wheel and what it always requires, without pip itself."""
    directory = tmp_path_factory.mktemp("environment")
    python = interpreter(request.param)
    subprocess.run([python, "-m", "venv", "--without-pip", directory], check=True, timeout=60)
    pip = [shutil.which("python3") or python, "-m", "pip", "--python", directory / "bin" / "python"]
    install = [*pip, "install", "--quiet", "-c", REPOSITORY / "constraints.txt", wheel]
    done = subprocess.run(install, capture_output=True, text=True, timeout=300, check=False)
    if "No matching distribution" in done.stderr:
        missing(f"pip finds no packages for Python {request.param}: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr
    return directory


def run(environment: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [environment / "bin" / "cxreval", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=environment,
        env={"COLUMNS": "400"},
    )


def test_the_packages_take_less_than_120_megabytes(environment: Path) -> None:
    """What the wheels hold; the bytecode that Python compiles from it comes on top."""
    (packages,) = environment.glob("lib/python3*/site-packages")
    files = [file for file in packages.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files if file.suffix != ".pyc")
    assert size < MOST_BYTES, f"{size / 1e6:.0f} MB"


def test_client_and_command_line_work(environment: Path, tmp_path: Path) -> None:
    program = "import cxreval.client; cxreval.client.RegistryClient('localhost:1').close()"
    subprocess.run([environment / "bin" / "python", "-c", program], check=True, timeout=60)
    manifest = tmp_path / "mine.yaml"
    assert run(environment, "submission", "init", manifest).returncode == 0
    assert "no mistake found" in run(environment, "submission", "check", manifest).stdout
    asked = run(environment, "leaderboard", "--registry", "localhost:1")
    assert (asked.returncode, "SERVICE_UNAVAILABLE" in asked.stderr) == (1, True), asked.stderr


def test_the_wheel_says_that_it_has_no_services_and_what_it_is(environment: Path) -> None:
    asked = run(environment, "leaderboard", "--registry", "localhost:1")
    for text in (run(environment, "--help").stdout, asked.stderr):
        assert "This installation has no services" in " ".join(text.split())
    python = environment / "bin" / "python"
    version = subprocess.run([python, "-V"], capture_output=True, text=True, timeout=60, check=True)
    assert f", {version.stdout.strip()}, Linux" in run(environment, "--version").stdout


def test_score_works(environment: Path, tmp_path: Path) -> None:
    draw = np.random.default_rng(3)
    images = [f"{patient:08d}_000.png" for patient in range(1, 41)]
    present = draw.random((len(images), len(FINDINGS))) < 0.4
    names = ["|".join(np.array(FINDINGS)[row]) or "No Finding" for row in present]
    labels = small_table(tmp_path, list(zip(images, names, strict=True)))
    describe(tmp_path, "small", images, labels)
    with (tmp_path / "mine.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", *FINDINGS])
        table.writerows([image, *draw.random(len(FINDINGS))] for image in images)
    options = ("--benchmark", "small", "--labels", tmp_path / "labels.csv")
    scored = run(environment, "score", tmp_path / "mine.csv", *options)
    assert scored.returncode == 0, scored.stderr
    assert "Cardiomegaly" in scored.stdout


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("worker", "--data", "small=."), "worker"),
        (("export", "chexnet", "out.onnx"), "export"),
        (("score", "table.parquet", "--plot", "pictures"), "score"),
    ],
)
def test_a_command_that_needs_an_extra_says_which(
    environment: Path, arguments: tuple[str, ...], extra: str
) -> None:
    ended = run(environment, *arguments)
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert f"pip install 'cxreval[{extra}]'" in ended.stderr
