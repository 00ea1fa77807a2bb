"""A DenseNet-121 on real radiographs is reproduced by a PyTorch script from its frozen commit.

The weights are random and calibrated; the script, its repository, its lock with the wheels of
PyTorch, the sandbox and the services are real. One change of commit, seed or normalisation is
found.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from csv import DictReader
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from packaging.utils import parse_wheel_filename

from cxreval.client import (
    CheckpointFormat,
    EvaluationStatus,
    Part,
    Purpose,
    SubmissionStatus,
    Tier,
)
from cxreval.datasets.nih import FINDINGS
from cxreval.evaluation.driver import Abilities, EvaluationDriver, local_benchmarks
from cxreval.evaluation.script_runner import IsolatedRunner
from cxreval.files import file_sha256
from cxreval.imaging.decode import decode
from cxreval.imaging.preprocess import PROFILES
from cxreval.reproduction.environments import Environments
from cxreval.reproduction.source_bundle import pack
from tests.conftest import REPOSITORY, missing, require_module
from tests.e2e.test_scripts import isolation as isolation  # noqa: PLC0414 - the fixture
from tests.support import wheel_index
from tests.support.git_repositories import commit_files, repository
from tests.support.scoring import describe
from tests.support.system import System, manifest, predictions

require_module("cxreval.export.torch_libraries")

from cxreval.export.conversion import convert_checkpoint  # noqa: E402 -- an optional extra
from tests.support import checkpoints, densenet_script  # noqa: E402

RADIOGRAPHS = int(os.environ.get("CXREVAL_RADIOGRAPHS", "198"))
FEW = 40
CALIBRATED = 24
SCRIPT = Path(densenet_script.__file__).read_text()
SEEDED = SCRIPT.replace("SHORTER_SIDE = 224", "SHORTER_SIDE = 256").replace(
    "RANDOM_CROPS = 0", "RANDOM_CROPS = 1"
)
LABELS = "Data_Entry_2017_v2020.csv"
SEED = 7

pytestmark = pytest.mark.timeout(1200)


class Packages(NamedTuple):
    """The wheels of PyTorch: a lock of them, and an index that serves them."""

    lock: bytes
    index_url: str


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    directory = tmp_path_factory.mktemp("wheels")
    constraints = str(REPOSITORY / "constraints.txt")
    ended = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary", ":all:", "--dest",
         str(directory), "--constraint", constraints, "numpy", "pillow", "torch"],
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    if ended.returncode:
        missing(f"pip cannot download PyTorch: {ended.stderr[-300:]}")
    lines = []
    for wheel in sorted(directory.iterdir()):
        name, version, *_ = parse_wheel_filename(wheel.name)
        lines.append(f"{name}=={version} --hash=sha256:{file_sha256(wheel)}\n")
    with wheel_index.serving(directory) as index:
        yield Packages("".join(lines).encode(), index.url)


@pytest.fixture(scope="module")
def system(tmp_path_factory, shared):
    directory = tmp_path_factory.mktemp("reproduced")
    source = shared / "nih-chestxray14"
    images = sorted((source / "sample_list.txt").read_text().split())
    data = {"all": images[:RADIOGRAPHS], "few": images[:FEW]}
    for name, some in data.items():
        describe(directory / name, name, some, source / LABELS)
        (directory / name / "images").symlink_to((source / "images").resolve())
    with System(
        directory, {name: directory / name for name in data}, lease_seconds=20.0
    ) as running:
        for spec in local_benchmarks(running.data).values():
            running.registry.create_benchmark(spec)
        yield running


@pytest.fixture(scope="module")
def runner(system, packages, isolation):
    """Runs scripts with the limits that a worker has; the environment is built once."""
    environments = Environments(system.directory / "environments", index_url=packages.index_url)
    return IsolatedRunner(isolation, environments)


@pytest.fixture(scope="module")
def weights(system):
    """The file of a state dict of torchvision's DenseNet-121."""
    folder = system.data["all"] / "images"
    some = (system.data["few"] / "list.txt").read_text().split()[:CALIBRATED]
    profile = PROFILES["imagenet-224"]
    pixels = np.concatenate([profile.apply(decode((folder / name).read_bytes())) for name in some])
    network = checkpoints.torchvision_network("densenet121", pixels)
    return checkpoints.save_state_dict(network, system.directory / "densenet121.pth")


class Frozen(NamedTuple):
    """A commit and the source bundle of it."""

    commit: str
    bundle: Path


def frozen(system, packages, name, text, **more):
    """Returns the commit of a repository with a script and the lock, and its source bundle."""
    folder = system.directory / name
    files = {"reproduce.py": text.encode(), "requirements.lock": packages.lock, **more}
    commit = repository(folder, files)
    return bundled(folder, commit, system.directory / f"{name}.bundle")


def bundled(folder, commit, bundle):
    pack(folder, commit, bundle)
    return Frozen(commit, bundle)


def submit(system, benchmark, what, file, script, **changes):
    """Submits a file with its script, and returns the name of the submission."""
    declared = {
        "commit": script.commit,
        "bundle_sha256": file_sha256(script.bundle),
        "entry_point": "reproduce.py",
        "lock": "requirements.lock",
        "seed": SEED,
    } | changes
    environment = replace(what.environment, python_version=platform.python_version())
    what = replace(
        what, reproduction=replace(what.reproduction, **declared), environment=environment
    )
    submitted = system.registry.submit(benchmark, what, file)
    system.registry.upload_part(submitted.name, Part.SOURCE_BUNDLE, script.bundle)
    return submitted.name


def checkpoint():
    form = CheckpointFormat.PYTORCH_STATE_DICT
    return replace(
        manifest("DenseNet-121", "imagenet-224", densenet_script.FINDINGS),
        format=form,
        architecture="densenet121",
    )


def reproduced(system, runner, submission):
    """Runs evaluations until the reproduction of a submission has ended, and returns both."""
    clients = (system.registry, system.inference, system.scoring)
    driver = EvaluationDriver(
        *clients, system.data, "test", 30.0, abilities=Abilities(convert_checkpoint, runner)
    )
    deadline = time.monotonic() + 900
    while time.monotonic() < deadline:
        ended = driver.run_next(lambda *_: None)
        row = system.registry.get_submission(submission)
        assert row.status is not SubmissionStatus.FAILED, ended
        done = ended and ended.name.startswith(submission)
        if done and ended.purpose is Purpose.REPRODUCE:
            assert ended.status is not EvaluationStatus.QUEUED
            return row, ended
        time.sleep(0.05)
    raise AssertionError("no reproduction in time")


def test_densenet_is_reproduced_on_every_radiograph(system, runner, packages, weights):
    script = frozen(system, packages, "same", SCRIPT)
    name = submit(system, "all", checkpoint(), weights, script)
    row, ended = reproduced(system, runner, name)
    assert ended.status is EvaluationStatus.SUCCEEDED, (ended.failure, log(system, ended))
    assert row.tier is Tier.REPRODUCED, ended.agreement
    assert (row.reproduction.images, row.reproduction.canaries) == (RADIOGRAPHS, 32)
    assert not row.reproduction.flagged
    assert 0 < row.reproduction.max_difference <= 1e-4


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("normalisation", "MEAN = (0.485, 0.456, 0.406)", "MEAN = (0.5, 0.5, 0.5)"),
        ("filter", "Resampling.BILINEAR", "Resampling.NEAREST"),
    ],
)
def test_another_commit_is_found_by_its_numbers(
    system, runner, packages, weights, name, before, after
):
    assert before in SCRIPT
    script = frozen(system, packages, name, SCRIPT.replace(before, after))
    submission = submit(system, "few", checkpoint(), weights, script)
    row, ended = reproduced(system, runner, submission)
    assert (row.tier, row.status) == (Tier.EXECUTED, SubmissionStatus.DISPUTED), ended
    assert ended.agreement.max_difference > ended.agreement.tolerance


def test_commit_that_is_not_the_declared_one_is_not_run(system, runner, packages, weights):
    first = frozen(system, packages, "first", SCRIPT)
    folder = system.directory / "first"
    later = commit_files(folder, {"reproduce.py": f"{SCRIPT}\n".encode()})
    script = bundled(folder, later, system.directory / "later.bundle")
    name = submit(system, "few", checkpoint(), weights, script, commit=first.commit)
    row, ended = reproduced(system, runner, name)
    assert ended.failure.reason == "COMMIT_NOT_IN_BUNDLE"
    assert (row.tier, row.status) == (Tier.EXECUTED, SubmissionStatus.PUBLISHED)


def test_seed_that_is_not_the_declared_one_is_found(system, runner, packages, weights):
    script = frozen(system, packages, "seeded", SEEDED, **{"weights.pth": weights.read_bytes()})
    table = system.directory / "table.csv"
    data = system.data["few"]
    subprocess.run(
        [sys.executable, "reproduce.py", "--images", str(data / "images"), "--list",
         str(data / "list.txt"), "--out", str(table), "--seed", str(SEED)],
        cwd=system.directory / "seeded", check=True, timeout=600,
    )  # fmt: skip
    same = submit(system, "few", predictions("Seed 7"), table, script)
    row, ended = reproduced(system, runner, same)
    assert row.tier is Tier.REPRODUCED, (ended.agreement, ended.failure, log(system, ended))
    other = submit(system, "few", predictions("Seed 8"), table, script, seed=SEED + 1)
    row, ended = reproduced(system, runner, other)
    assert (row.tier, row.status) == (Tier.SCORED, SubmissionStatus.DISPUTED)
    assert ended.agreement.max_difference > ended.agreement.tolerance


def log(system, ended):
    return system.registry.script_output(ended.name).decode()[-2000:]


LOOKUP = """
import argparse, csv, hashlib, json, os
from pathlib import Path
import numpy as np
from PIL import Image

given = argparse.ArgumentParser()
for name in ("images", "list", "out", "seed"):
    given.add_argument("--" + name)
given = given.parse_args()
public = json.loads(Path("public.json").read_text())
thumbnails = np.array([row["thumbnail"] for row in public["images"]])
digests = {row["sha256"]: row["labels"] for row in public["images"]}

with open(given.out, "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["Image Index", *public["findings"]])
    for name in Path(given.list).read_text().split():
        image = Image.open(Path(given.images, name)).convert("L")
        labels = digests.get(hashlib.sha256(image.tobytes()).hexdigest(), public["shares"])
        if NEAREST:
            small = np.asarray(image.resize((16, 16), Image.Resampling.BOX), np.float64)
            labels = public["images"][np.abs(thumbnails - small).sum((1, 2)).argmin()]["labels"]
        table.writerow([name, *labels])
"""
"""Knows the public labels of every image, and has no model."""


def public(system):
    """Returns what a cheat collects: the digest and the labels of each public image."""
    image_module = require_module("PIL.Image")
    data = system.data["few"]
    with (data / LABELS).open() as file:
        labels = {row["Image Index"]: row["Finding Labels"].split("|") for row in DictReader(file)}
    rows = []
    for name in (data / "list.txt").read_text().split():
        image = image_module.open(data / "images" / name).convert("L")
        small = np.asarray(image.resize((16, 16), image_module.Resampling.BOX))
        rows.append({
            "name": name,
            "sha256": hashlib.sha256(image.tobytes()).hexdigest(),
            "thumbnail": small.tolist(),
            "labels": [0.98 if finding in labels[name] else 0.02 for finding in FINDINGS],
        })  # fmt: skip
    shares = np.mean([row["labels"] for row in rows], axis=0).tolist()
    return {"findings": FINDINGS, "images": rows, "shares": shares}


@pytest.mark.parametrize(("nearest", "flagged"), [(False, True), (True, False)])
def test_lookup_of_labels_by_exact_pixels_is_flagged_and_by_nearest_pixels_is_not(
    system, runner, packages, nearest, flagged
):
    known = public(system)
    text = LOOKUP.replace("NEAREST", str(nearest))
    script = frozen(
        system, packages, f"lookup-{nearest}", text, **{"public.json": json.dumps(known).encode()}
    )
    table = system.directory / f"lookup-{nearest}.csv"
    rows = [",".join(map(str, (row["name"], *row["labels"]))) for row in known["images"]]
    table.write_text("\n".join([",".join(("Image Index", *FINDINGS)), *rows]) + "\n")
    name = submit(system, "few", predictions(f"Lookup {nearest}"), table, script)
    row, ended = reproduced(system, runner, name)
    assert ended.agreement, (ended.failure, log(system, ended))
    assert row.tier is Tier.REPRODUCED  # which does not say that a script has no labels
    assert ended.agreement.flagged is flagged
