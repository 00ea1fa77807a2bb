"""Scripts are run from their frozen commit, in isolation: measured, replayed, reproduced.

The scripts are small programs in the standard library, so that they need no packages; everything
else is real: git, the source bundle, the sandbox, the services.
"""

from __future__ import annotations

import json
import platform
import re
import time
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from cxreval.audit.chain import Head
from cxreval.cli.app import app
from cxreval.client import (
    EvaluationStatus,
    Kind,
    Part,
    Purpose,
    SourceKind,
    SubmissionStatus,
    Tier,
)
from cxreval.client.verification import Verification
from cxreval.datasets.nih import FINDINGS
from cxreval.errors import SandboxUnavailable
from cxreval.evaluation.driver import Abilities, EvaluationDriver, local_benchmarks
from cxreval.evaluation.script_runner import IsolatedRunner
from cxreval.files import file_sha256
from cxreval.imaging.decode import decode
from cxreval.reproduction.environments import Environments
from cxreval.reproduction.isolation.bubblewrap import Bubblewrap
from cxreval.reproduction.isolation.contract import Limits
from cxreval.reproduction.source_bundle import pack
from tests.conftest import missing
from tests.support.git_repositories import repository
from tests.support.system import System, alternating, predictions

IMAGES = [f"{patient:08d}_000.png" for patient in range(1, 41)]
SCRIPT = """
import argparse, csv, os, struct, zlib

parser = argparse.ArgumentParser()
for name in ("images", "list", "out", "seed"):
    parser.add_argument("--" + name)
given = parser.parse_args()
SCALE = 255

def mean(file):
    data, place, packed = open(file, "rb").read(), 8, b""
    while place < len(data):
        size, kind = struct.unpack(">I4s", data[place:place + 8])
        body = data[place + 8:place + 8 + size]
        if kind == b"IHDR":
            width, height, depth, color = struct.unpack(">IIBB", body[:10])
        packed += body if kind == b"IDAT" else b""
        place += 12 + size
    rows, total = zlib.decompress(packed), 0
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[color]
    line = 1 + width * channels
    for row in range(height):
        assert rows[row * line] == 0
        total += sum(rows[row * line + 1:(row + 1) * line])
    return total / (height * width * channels) / SCALE

print("seed", given.seed, "argument", os.environ["CXREVAL_SEED"])
with open(given.out, "w", newline="") as out:
    table = csv.writer(out)
    table.writerow(["Image Index", *FINDINGS])
    for name in open(given.list).read().split():
        value = mean(os.path.join(given.images, name))
        table.writerow([name, *(value / (1 + number) for number in range(len(FINDINGS)))])
"""
SCRIPT = SCRIPT.replace("SCALE = 255\n", f"SCALE = 255\nFINDINGS = {list(FINDINGS)!r}\n")


@pytest.fixture(scope="module")
def isolation():
    try:
        return Bubblewrap()
    except SandboxUnavailable as error:
        missing(f"scripts cannot be isolated here: {error.message}")


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    directory = tmp_path_factory.mktemp("scripts")
    data = alternating(directory / "data", IMAGES)
    flags = ["--replay-after-hours=0", "--replay-every-days=0"]
    with System(directory, {"small": data}, registry_flags=flags) as running:
        running.registry.create_benchmark(local_benchmarks(running.data)["small"])
        yield running


def run(system, isolation, purpose):
    """Runs evaluations until one of this purpose has ended, and returns that."""
    limits = Limits(memory_bytes=512 << 20, wall_seconds=60, scratch_bytes=64 << 20)
    runner = IsolatedRunner(isolation, Environments(system.directory / "environments"), limits)
    clients = (system.registry, system.inference, system.scoring)
    driver = EvaluationDriver(
        *clients, system.data, "test", 30.0, abilities=Abilities(runner=runner)
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        ended = driver.run_next(lambda *_: None)
        if ended and ended.purpose is purpose:
            return ended
        time.sleep(0.05)
    raise AssertionError(f"no evaluation to {purpose} in time")


def bundled(system, text, name):
    """Returns the source bundle of a repository with one script, and its commit."""
    folder = system.directory / name
    folder.mkdir()
    frozen = repository(folder, {"reproduce.py": text.encode()})
    bundle = system.directory / f"{name}.bundle"
    pack(folder, frozen, bundle)
    return bundle, frozen


def declared(commit, **more):
    """Returns the manifest of a table of predictions with a script."""
    manifest = predictions()
    assert manifest.reproduction
    given = replace(manifest.reproduction, commit=commit, entry_point="reproduce.py", **more)
    assert manifest.environment
    environment = replace(
        manifest.environment, python_version=platform.python_version(), dependencies=()
    )
    return replace(manifest, reproduction=given, environment=environment)


def table(system):
    """Writes the table that the script gives, computed without it, and returns its file."""
    file = system.directory / "table.csv"
    lines = [",".join(["Image Index", *FINDINGS])]
    for image in IMAGES:
        value = decode((system.data["small"] / "images" / image).read_bytes()).mean() / 255
        cells = [f"{value / (1 + number):.9f}" for number in range(len(FINDINGS))]
        lines.append(",".join([image, *cells]))
    file.write_text("\n".join(lines) + "\n")
    return file


def submit_table(system, text, name):
    bundle, commit = bundled(system, text, name)
    manifest = declared(commit, bundle_sha256=file_sha256(bundle))
    submitted = system.registry.submit("small", manifest, table(system))
    system.registry.upload_part(submitted.name, Part.SOURCE_BUNDLE, bundle)
    return submitted.name


def explain(system, name, *options):
    """Returns what `cxreval audit explain` prints on a terminal of 80 columns."""
    arguments = ["audit", "explain", name, f"--registry={system.registry_service.address}"]
    ran = CliRunner(env={"COLUMNS": "80"}).invoke(app, [*arguments, *options])
    assert ran.exit_code == 0, ran.output
    return ran.output


def test_script_without_a_checkpoint_is_executed_and_replayed(system, isolation):
    bundle, commit = bundled(system, SCRIPT, "whole")
    manifest = replace(declared(commit), kind=Kind.SCRIPT, source_kind=SourceKind.SCRIPT)
    name = system.registry.submit("small", manifest, bundle).name
    ended = run(system, isolation, Purpose.MEASURE)
    assert ended.status is EvaluationStatus.SUCCEEDED, ended.failure
    assert ended.provenance["source_commit"] == commit
    assert ended.limits.wall == 60
    assert 0 < ended.usage.peak_memory_bytes < ended.limits.peak_memory_bytes
    assert system.registry.get_submission(name).tier is Tier.EXECUTED
    assert system.registry.script_output(ended.name) == b"seed 7 argument 7\n"
    again = run(system, isolation, Purpose.REPLAY)
    assert again.agreement.bit_identical
    assert system.registry.get_submission(name).tier is Tier.REPLAYED


def test_table_is_reproduced_by_its_script_and_the_evidence_is_told(system, isolation):
    name = submit_table(system, SCRIPT, "honest")
    run(system, isolation, Purpose.MEASURE)
    ended = run(system, isolation, Purpose.REPRODUCE)
    assert ended.status is EvaluationStatus.SUCCEEDED, ended.failure
    row = system.registry.get_submission(name)
    assert row.tier is Tier.REPRODUCED
    assert row.reproduction.max_difference < 1e-6
    assert (row.reproduction.images, row.reproduction.canaries) == (len(IMAGES), 32)
    assert row.reproduction.canaries_flagged == 0
    client = system.registry
    printed = explain(system, name)
    told = " ".join(printed.split())
    assert all(len(line) <= 80 for line in printed.splitlines())
    given = row.manifest.reproduction
    assert f"commit {given.commit}" in told
    assert f"bundle {given.bundle_sha256}" in told
    assert f"reproduced on {len(IMAGES)} of {len(IMAGES)} images" in told
    assert "does not declare what the model was trained on" in told
    # The receipt has the sha256 of all files of the commit, and the command states the same.
    signed = json.loads(client.receipt(name).payload)
    tree = pack(system.directory / "honest", given.commit, system.directory / "again").digest
    assert signed["run"]["reproduce"]["provenance"]["source_tree_sha256"] == tree
    assert f"tree {tree}" in told
    for sentence in json.loads(explain(system, name, "--json")):
        assert re.fullmatch(r"[a-z]+ (\d+:)?[0-9a-f]{40,64}", sentence["digest"]), sentence
    Verification(client, client.public_key(), Head()).run()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("normalisation", SCRIPT.replace("SCALE = 255", "SCALE = 256")),
        ("seed", SCRIPT.replace("/ SCALE", "/ (SCALE + int(given.seed))")),
    ],
)  # fmt: skip
def test_other_numbers_are_found_and_dispute_the_row(system, isolation, name, text):
    submission = submit_table(system, text, name)
    run(system, isolation, Purpose.MEASURE)
    ended = run(system, isolation, Purpose.REPRODUCE)
    row = system.registry.get_submission(submission)
    assert (row.tier, row.status) == (Tier.SCORED, SubmissionStatus.DISPUTED)
    assert ended.agreement.max_difference > ended.agreement.tolerance


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("raises", "raise SystemExit('no weights')", "SCRIPT_FAILED"),
        ("silent", "pass", "PREDICTIONS_MISSING"),
        ("half", SCRIPT.replace(".split():", ".split()[1:]:"), "PREDICTIONS_INVALID"),
        ("nan", SCRIPT.replace("[name, *(", "[name, *(float('nan') * "), "PREDICTIONS_INVALID"),
        ("hungry", "x = bytearray(2 << 30)", "SCRIPT_OUT_OF_MEMORY"),
    ],
)
def test_script_that_gives_no_table_leaves_the_row_and_names_the_reason(
    system, isolation, name, text, reason
):
    submission = submit_table(system, text, name)
    run(system, isolation, Purpose.MEASURE)
    ended = run(system, isolation, Purpose.REPRODUCE)
    assert (ended.status, ended.failure.reason) == (EvaluationStatus.FAILED, reason)
    row = system.registry.get_submission(submission)
    assert (row.tier, row.status, row.reproduction) == (
        Tier.SCORED,
        SubmissionStatus.PUBLISHED,
        None,
    )


def test_commit_that_the_bundle_does_not_hold_is_refused(system, isolation):
    bundle, _ = bundled(system, SCRIPT, "changed")
    manifest = declared("1" * 40, bundle_sha256=file_sha256(bundle))
    submission = system.registry.submit("small", manifest, table(system)).name
    system.registry.upload_part(submission, Part.SOURCE_BUNDLE, bundle)
    run(system, isolation, Purpose.MEASURE)
    ended = run(system, isolation, Purpose.REPRODUCE)
    assert ended.failure.reason == "COMMIT_NOT_IN_BUNDLE"
