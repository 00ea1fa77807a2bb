"""A stranger's script gets what it may read, ends at its limits, and leaves nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from cxreval import cgroups, sandbox, system_calls
from cxreval.cgroups import ControlGroups
from cxreval.errors import (
    CxrevalError,
    PredictionsMissing,
    SandboxUnavailable,
    ScriptFailed,
    ScriptOutOfMemory,
    ScriptOverLimit,
    ScriptTimeout,
)
from cxreval.reproduction.isolation.bubblewrap import Bubblewrap
from cxreval.reproduction.isolation.contract import Ended, Outcome
from tests.conftest import missing
from tests.support import hostile_ends, isolated, killed_runner

SECONDS = 30.0
ABSTRACT = f"cxreval-test-{os.getpid()}"
SECRET = "a secret of the host"


@pytest.fixture(scope="module")
def isolation() -> Bubblewrap:
    try:
        return Bubblewrap()
    except SandboxUnavailable as error:
        missing(f"scripts cannot be isolated here: {error.message}")


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """What runs may read, in a directory that every user may read, beside services of the host."""
    path = Path(tempfile.mkdtemp(prefix="cxreval-"))
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(socket.AF_UNIX) as named,
    ):
        abstract.bind("\0" + ABSTRACT)
        abstract.listen()
        named.bind(str(path / "socket"))
        named.listen()
        (path / "secret").write_text(SECRET)
        host = {
            "abstract": ABSTRACT,
            "directory": str(path),
            "pid": os.getpid(),
            "port": listener.getsockname()[1],
            "secret": str(path / "secret"),
            "socket": str(path / "socket"),
            "value": SECRET,
        }
        isolated.prepare(path, host)
        yield path
    shutil.rmtree(path)


@pytest.fixture(autouse=True)
def nothing_is_left(directory: Path) -> Iterator[None]:
    """Checks that a test leaves no process, mount, control group or file."""
    before = left(directory)
    yield
    assert left(directory) == before


def left(directory: Path) -> dict[str, list[str]]:
    """Returns what the runs of this test could leave; others may run beside it."""
    groups, processes = [], []
    for parent in dict.fromkeys(cgroups._parents(Path("/")).values()):
        for path in parent.rglob("cxreval-run-*"):
            pid = path.name.split("-")[2]
            if pid == str(os.getpid()) or not cgroups._start_time(int(pid)):
                groups.append(str(path))
    seed = str(isolated.seed_of(directory)).encode()
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (path / "cmdline").read_bytes()
            if seed in command:
                processes.append(path.name)
    return {
        "groups": groups,
        "processes": processes,
        "mounts": Path("/proc/self/mountinfo").read_text().splitlines(),
        "files": sorted(map(str, directory.rglob("*"))),
    }


@pytest.fixture(scope="module", params=["root", "user"])
def outcomes(
    request: pytest.FixtureRequest, isolation: Bubblewrap, directory: Path
) -> dict[str, Outcome]:
    """What came of the script of all attempts and of the quick cases."""
    os.environ["CXREVAL_TEST_SECRET"] = SECRET
    names = [isolated.ATTEMPTS, *hostile_ends.QUICK]
    try:
        if os.geteuid() != 0:
            if request.param == "root":
                pytest.skip("this user is not root")
        elif request.param == "user":
            (directory / "python").mkdir(exist_ok=True)
            return isolated.outcomes_as_user(directory, names)
        return isolated.run_all(isolation, directory, names)
    finally:
        del os.environ["CXREVAL_TEST_SECRET"]


def test_every_attempt_to_leave_the_sandbox_is_refused(outcomes: dict[str, Outcome]) -> None:
    assert isolated.wrong_attempts(outcomes[isolated.ATTEMPTS]) == {}


def test_each_limit_and_each_strange_end_has_its_name(outcomes: dict[str, Outcome]) -> None:
    assert [
        problem for name in hostile_ends.QUICK for problem in isolated.wrong(name, outcomes[name])
    ] == []
    assert outcomes["ends well"].predictions() == hostile_ends.TABLE


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ends by a fault of memory", ScriptFailed),
        ("sleeps and ignores signals", ScriptTimeout),
        ("loops in children", ScriptTimeout),
        ("takes all memory", ScriptOutOfMemory),
        ("starts processes without end", ScriptOverLimit),
        ("fills its scratch", ScriptOverLimit),
        ("writes too large a table", ScriptOverLimit),
        ("writes a table that is a link", PredictionsMissing),
    ],
)
def test_an_end_without_predictions_is_an_error_with_what_was_seen(
    outcomes: dict[str, Outcome], name: str, kind: type[CxrevalError]
) -> None:
    outcome = outcomes[name]
    with pytest.raises(kind) as raised:
        outcome.predictions()
    assert raised.value.message == outcome.detail
    assert raised.value.metadata["rows"] == str(outcome.rows)


def test_a_killed_runner_leaves_nothing_after_the_next_start(directory: Path) -> None:
    runner = subprocess.Popen(
        [sys.executable, "-m", killed_runner.__name__, str(directory)], stdout=subprocess.PIPE
    )
    try:
        assert runner.stdout is not None
        with runner.stdout:
            assert runner.stdout.readline() == b"runs\n"
            assert left(directory)["processes"]
            runner.send_signal(signal.SIGKILL)
            runner.wait(timeout=SECONDS)
    finally:
        runner.kill()
        runner.wait(timeout=SECONDS)
    until = time.monotonic() + SECONDS
    while left(directory)["processes"] and time.monotonic() < until:
        time.sleep(0.02)
    assert left(directory)["groups"]
    ControlGroups()  # the next worker; `nothing_is_left` looks at what remains


def test_an_exception_of_the_caller_ends_the_run(isolation: Bubblewrap, directory: Path) -> None:
    def stop(rows: int) -> NoReturn:
        raise LookupError(rows)

    run = isolated.run_of(directory, "sleeps and ignores signals")
    with pytest.raises(LookupError, match="5"):
        isolation.run(replace(run, limits=hostile_ends.LIMITS), stop)


@pytest.mark.parametrize(
    "entry_point", ["absent.py", "../secret", "/etc/passwd", "link", "", ".", "a\0b", "link/x"]
)
def test_an_entry_point_that_is_no_file_of_the_tree_is_named_and_not_run(
    isolation: Bubblewrap, directory: Path, entry_point: str
) -> None:
    run = replace(isolated.run_of(directory, "ends well"), entry_point=entry_point)
    with pytest.raises(ScriptFailed, match="expected the path of a file in the source tree"):
        isolation.run(run)


def test_a_script_runs_with_the_operators_python(isolation: Bubblewrap) -> None:
    isolation.check(Path(sys.executable))


def test_an_interpreter_that_does_not_run_is_the_platforms_fault(
    isolation: Bubblewrap, directory: Path
) -> None:
    run = replace(isolated.run_of(directory, "ends well"), interpreter=Path("/usr/bin/absent"))
    with pytest.raises(SandboxUnavailable, match="did not start"):
        isolation.run(run)


def test_what_other_users_may_not_read_is_the_platforms_fault(
    isolation: Bubblewrap, directory: Path, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("this user runs scripts as itself")
    tmp_path.chmod(0o700)
    run = replace(isolated.run_of(directory, "ends well"), images=tmp_path)
    with pytest.raises(SandboxUnavailable, match="/images of the run is closed to other users"):
        isolation.run(run)


@pytest.mark.parametrize("part", ["images", "environment", "list_file", "checkpoint"])
def test_what_is_not_there_is_the_platforms_fault(
    isolation: Bubblewrap, directory: Path, part: str
) -> None:
    absent = {part: directory / "absent"}
    run = replace(isolated.run_of(directory, "ends well"), **absent)  # type: ignore[arg-type]
    with pytest.raises(SandboxUnavailable, match="of the run is not there"):
        isolation.run(run)


@pytest.mark.parametrize("binaries", [[], ["/bin/false"]], ids=["absent", "forbidden"])
def test_without_bubblewrap_nothing_runs(
    monkeypatch: pytest.MonkeyPatch, binaries: list[str]
) -> None:
    monkeypatch.setattr(sandbox, "_binaries", lambda: iter(binaries))
    sandbox._probed.cache_clear()
    try:
        with pytest.raises(SandboxUnavailable, match="no sandbox: "):
            Bubblewrap()
    finally:
        sandbox._probed.cache_clear()


def test_without_a_filter_of_system_calls_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> NoReturn:
        raise OSError("no libseccomp: not installed")

    monkeypatch.setattr(system_calls, "_library", absent)
    system_calls.program_filter.cache_clear()
    with pytest.raises(SandboxUnavailable, match="no libseccomp"):
        Bubblewrap()


def test_without_a_control_group_nothing_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (tmp_path / "proc/self/mountinfo").write_text("")
    monkeypatch.setattr(cgroups, "_ROOT", tmp_path)
    with pytest.raises(SandboxUnavailable, match="no control group: "):
        Bubblewrap()


def test_a_limit_that_cannot_be_set_leaves_no_group() -> None:
    with pytest.raises(SandboxUnavailable, match="no control group"):
        ControlGroups().create(memory_bytes=-2, processes=1)


def test_what_a_sandbox_was_killed_by_from_outside_is_the_platforms_fault(
    isolation: Bubblewrap, directory: Path
) -> None:
    def kill(rows: int) -> None:
        for pid in left(directory)["processes"]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)

    run = isolated.run_of(directory, "sleeps and ignores signals")
    with pytest.raises(SandboxUnavailable, match="was ended from outside"):
        isolation.run(replace(run, limits=hostile_ends.LIMITS), kill)


def test_two_runs_of_one_script_say_the_same(isolation: Bubblewrap, directory: Path) -> None:
    runs = (
        isolated.run_all(isolation, directory, ["ends well"]),
        isolated.run_all(isolation, directory, ["ends well"]),
    )
    assert {run["ends well"].output for run in runs} == {hostile_ends.TABLE}
    assert {run["ends well"].ended for run in runs} == {Ended.FINISHED}
