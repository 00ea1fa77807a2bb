"""kill -9 of worker, sandbox and registry while a script runs: each ends in the same agreement."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cxreval import cgroups
from cxreval.client import EvaluationStatus, Part, Purpose, Tier, WorkerClient
from cxreval.files import file_sha256
from cxreval.reproduction.isolation.bubblewrap import Bubblewrap
from cxreval.reproduction.source_bundle import pack
from tests.conftest import REPOSITORY
from tests.e2e.test_scripts import SCRIPT, declared, table
from tests.e2e.test_scripts import isolation as isolation  # noqa: PLC0414 - the fixture
from tests.e2e.test_scripts import system as system  # noqa: PLC0414 - the fixture
from tests.support import killed_worker, wheel_index
from tests.support.git_repositories import repository
from tests.support.killed_worker import POINTS, ended, worker
from tests.support.processes import descendants

pytestmark = [pytest.mark.timeout(400), pytest.mark.usefixtures("isolation")]

SLOW = SCRIPT.replace("import argparse", "import small_package, time, argparse").replace(
    "        value = mean", "        time.sleep(0.04); out.flush()\n        value = mean"
)
"""Takes some seconds and needs a package."""


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    directory = tmp_path_factory.mktemp("wheels")
    wheel_index.make_wheel(directory, "small_package")
    with wheel_index.serving(directory) as index:
        yield index


@pytest.fixture
def environments(system, tmp_path):
    """A directory of its own, so that each test builds the environment."""
    directory = Path(tempfile.mkdtemp(prefix="environments-", dir=system.directory))
    directory.chmod(0o755)
    return directory


@pytest.fixture
def second(system, environments, index):
    """A worker that is not killed."""
    clients = (system.registry, system.inference, system.scoring)
    return worker(clients, system.data["small"], environments, index.url)


@pytest.fixture(scope="module")
def bundle(system, index):
    """The source bundle of the slow script, and its commit."""
    (wheel,) = index.files.iterdir()
    lock = f"small_package==1.0 --hash=sha256:{file_sha256(wheel)}\n"
    folder = system.directory / "slow"
    folder.mkdir()
    files = {"reproduce.py": SLOW.encode(), "requirements.lock": lock.encode()}
    commit = repository(folder, files)
    pack(folder, commit, system.directory / "slow.bundle")
    return system.directory / "slow.bundle", commit


@pytest.fixture
def submission(system, second, bundle):
    """A measured row with a script; its reproduction is queued."""
    file, commit = bundle
    manifest = declared(commit, bundle_sha256=file_sha256(file), lock="requirements.lock")
    submitted = system.registry.submit("small", manifest, table(system))
    second.run_next(lambda *_: None)
    system.registry.upload_part(submitted.name, Part.SOURCE_BUNDLE, file)
    return submitted.name


def reproduction(system, submission):
    (found,) = (
        evaluation
        for evaluation in system.registry.list_evaluations(submission)
        if evaluation.purpose is Purpose.REPRODUCE
    )
    return found


def check(system, submission):
    """Checks that a reproduction ended as one that nothing has interrupted."""
    evaluation = reproduction(system, submission)
    assert evaluation.status is EvaluationStatus.SUCCEEDED
    agreement = evaluation.agreement
    assert (agreement.images, agreement.images_total) == (40, 40)
    assert (agreement.canaries, agreement.canaries_flagged) == (32, 0)
    assert agreement.max_difference == pytest.approx(0.0, abs=1e-7)
    assert agreement.score_difference == pytest.approx(0.0, abs=1e-9)
    assert system.registry.get_submission(submission).tier is Tier.REPRODUCED
    changes = [event.change for event in system.registry.submission_events(submission)]
    assert changes.count("reproduced") == 1, changes
    return evaluation


@pytest.mark.parametrize("point", POINTS)
def test_worker_that_is_killed_leaves_the_script_to_the_next_one(
    system, environments, index, submission, point, tmp_path, monkeypatch
):
    services = (system.registry_service, system.inference_service, system.scoring_service)
    addresses = [service.address for service in services]
    process = subprocess.Popen(
        [sys.executable, "-m", killed_worker.__name__, point, *addresses,
         str(system.data["small"]), str(environments), index.url],
        cwd=REPOSITORY, env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    try:
        assert process.wait(timeout=180) == -signal.SIGKILL
    finally:
        process.kill()
        process.wait(timeout=10)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if point != "after completion":
        assert reproduction(system, submission).status is EvaluationStatus.RUNNING
        clients = (system.registry, system.inference, system.scoring)
        ended(worker(clients, system.data["small"], environments, index.url), Purpose.REPRODUCE)
    evaluation = check(system, submission)
    assert evaluation.attempt == (1 if point == "after completion" else 2)
    assert not left(process.pid)
    assert not list(tmp_path.iterdir())


def left(pid):
    """Returns the control groups of a process."""
    parents = dict.fromkeys(cgroups._parents(Path("/")).values())
    return [path for parent in parents for path in parent.rglob(f"cxreval-run-{pid}-*")]


def with_rows(monkeypatch, action):
    """Calls the action once, when a script has written rows; returns the list of all runs."""
    run, actions, runs = Bubblewrap.run, iter([action]), []

    def running(self, given, progress):
        runs.append(given)

        def and_act(rows):
            if rows:
                next(actions, lambda: None)()
            progress(rows)

        return run(self, given, and_act)

    monkeypatch.setattr(Bubblewrap, "run", running)
    return runs


@pytest.mark.parametrize(("place", "needed"), [(0, {1, 2}), (1, {2})])
def test_sandbox_that_is_killed_gives_the_same_agreement(
    system, second, submission, monkeypatch, place, needed
):
    """The first process is bubblewrap, the second one the supervisor inside.

    As another user than bubblewrap, the supervisor goes on when bubblewrap has ended.
    """
    killed = []

    def kill():
        processes = [
            pid for pid, command in descendants(os.getpid()).items() if "reproduce.py" in command
        ]
        os.kill(processes[place], signal.SIGKILL)
        killed.append(processes)

    runs = with_rows(monkeypatch, kill)
    ended(second, Purpose.REPRODUCE)
    assert len(killed) == 1
    assert len(runs) in needed
    check(system, submission)


def test_registry_that_is_killed_while_a_script_runs_gets_its_predictions(
    system, second, submission, monkeypatch
):
    def restart():
        system.registry_service.kill()
        system.registry_service.start()

    runs = with_rows(monkeypatch, restart)
    ended(second, Purpose.REPRODUCE)
    assert len(runs) <= 2  # a lease that ended meanwhile is taken again
    check(system, submission)


@pytest.mark.parametrize("method", ["append_predictions", "complete_evaluation"])
def test_registry_that_is_killed_before_it_answers_records_a_script_once(
    system, second, submission, monkeypatch, method
):
    original, kills = getattr(WorkerClient, method), iter([system.registry_service])

    def call(*arguments, **more):
        result = original(*arguments, **more)
        with contextlib.suppress(StopIteration):
            service = next(kills)
            service.kill()
            service.start()
            return original(*arguments, **more)  # as when the answer was lost
        return result

    monkeypatch.setattr(WorkerClient, method, call)
    ended(second, Purpose.REPRODUCE)
    check(system, submission)
