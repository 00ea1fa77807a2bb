"""Control groups are looked for below the group of this process, in both versions."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cxreval.cgroups import ControlGroup, ControlGroups, _parents
from cxreval.errors import SandboxUnavailable
from tests.conftest import missing

SECONDS = 20.0


def mount(root: str, point: str, kind: str, options: str = "rw") -> str:
    return f"30 24 0:26 {root} {point} rw,nosuid shared:4 - {kind} none rw,{options}\n"


@pytest.fixture
def machine(tmp_path: Path) -> Callable[[str, str, dict[str, str]], Path]:
    """Returns a function that writes what the kernel shows of groups and mounts."""

    def write(own: str, mounts: str, files: dict[str, str]) -> Path:
        for name, text in {"proc/self/cgroup": own, "proc/self/mountinfo": mounts, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


Machine = Callable[[str, str, dict[str, str]], Path]
V2 = mount("/", "/sys/fs/cgroup", "cgroup2")


def test_version_2_uses_the_group_whose_controllers_are_passed_on(machine: Machine) -> None:
    directory = "sys/fs/cgroup/worker.service"
    root = machine(
        "0::/worker.service\n",
        V2,
        {
            f"{directory}/cgroup.controllers": "cpu memory pids\n",
            f"{directory}/cgroup.subtree_control": "memory pids\n",
        },
    )
    assert _parents(root) == dict.fromkeys(("memory", "pids", "cpu"), root / directory)


def test_version_2_moves_a_lone_process_to_a_group_below(machine: Machine) -> None:
    directory = "sys/fs/cgroup/worker.service"
    root = machine(
        "0::/worker.service\n",
        V2,
        {
            f"{directory}/cgroup.controllers": "cpu memory pids\n",
            f"{directory}/cgroup.subtree_control": "\n",
            f"{directory}/cgroup.procs": f"{os.getpid()}\n",
        },
    )
    assert _parents(root)["memory"] == root / directory
    own = root / directory / "cxreval-worker"
    assert (own / "cgroup.procs").read_text() == str(os.getpid())
    assert (root / directory / "cgroup.subtree_control").read_text() == "+memory +pids"
    (root / "proc/self/cgroup").write_text("0::/worker.service/cxreval-worker\n")
    (root / directory / "cgroup.subtree_control").write_text("memory pids")
    assert _parents(root)["memory"] == root / directory


def test_version_2_with_other_processes_in_the_group_has_no_limits(machine: Machine) -> None:
    directory = "sys/fs/cgroup/user.slice"
    root = machine(
        "0::/user.slice\n",
        V2,
        {
            f"{directory}/cgroup.controllers": "memory pids\n",
            f"{directory}/cgroup.subtree_control": "\n",
            f"{directory}/cgroup.procs": f"1\n{os.getpid()}\n",
        },
    )
    with pytest.raises(SandboxUnavailable, match="has other processes"):
        _parents(root)


def test_version_1_has_a_directory_for_each_controller(machine: Machine) -> None:
    root = machine(
        "9:memory:/a/b\n8:pids:/\n2:cpu,cpuacct:/c\n1:name=systemd:/\n0::/\n",
        mount("/", "/sys/fs/cgroup/memory", "cgroup", "memory")
        + mount("/", "/sys/fs/cgroup/pids", "cgroup", "pids")
        + mount("/c", "/sys/fs/cgroup/cpu,cpuacct", "cgroup", "cpu,cpuacct")
        + mount("/", "/sys/fs/cgroup/unified", "cgroup2"),
        {"sys/fs/cgroup/unified/cgroup.controllers": "hugetlb\n"},
    )
    top = root / "sys/fs/cgroup"
    assert _parents(root) == {
        "memory": top / "memory/a/b",
        "pids": top / "pids",
        "cpu": top / "cpu,cpuacct",
    }


def test_a_controller_that_is_not_mounted_is_named(machine: Machine) -> None:
    root = machine(
        "9:memory:/\n0::/\n", mount("/", "/sys/fs/cgroup/memory", "cgroup", "memory"), {}
    )
    with pytest.raises(SandboxUnavailable, match="the controller pids is not mounted"):
        _parents(root)


def test_version_2_writes_its_limits_and_reads_its_counters(tmp_path: Path) -> None:
    for name, text in {
        "memory.max": "max",
        "memory.oom.group": "0",
        "memory.swap.max": "max",
        "pids.max": "max",
        "cpu.stat": "usage_usec 1500000\nuser_usec 1\n",
        "memory.peak": "4096\n",
        "memory.events": "low 0\noom 2\noom_kill 3\n",
        "pids.events": "max 4\n",
        "cgroup.kill": "",
    }.items():
        (tmp_path / name).write_text(text)
    directories = dict.fromkeys(("memory", "pids", "cpu"), tmp_path)
    group = ControlGroup(directories, memory_bytes=1 << 20, processes=7)
    written = ("memory.max", "memory.oom.group", "memory.swap.max", "pids.max")
    assert [(tmp_path / name).read_text() for name in written] == ["1048576", "1", "0", "7"]
    assert group.cpu_seconds() == 1.5
    assert group.peak_memory_bytes() == 4096
    assert group.killed_for_memory() == 3
    assert group.refused_processes() == 4
    group.add(5)
    group.kill()
    assert (tmp_path / "cgroup.procs").read_text() == "5"
    assert (tmp_path / "cgroup.kill").read_text() == "1"


@pytest.fixture
def groups() -> ControlGroups:
    try:
        return ControlGroups()
    except SandboxUnavailable as error:
        missing(error.message)


def test_a_group_ends_its_processes_and_is_removed(groups: ControlGroups) -> None:
    group = groups.create(memory_bytes=64 << 20, processes=8)
    command = [sys.executable, "-c", "import os, time; os.fork(); time.sleep(600)"]
    process = subprocess.Popen(command)
    group.add(process.pid)
    directories = group._directories()
    group.remove()
    assert process.wait(timeout=SECONDS) == -9
    assert not any(directory.exists() for directory in directories)


def test_a_group_of_a_running_process_is_not_swept(groups: ControlGroups) -> None:
    group = groups.create(memory_bytes=64 << 20, processes=8)
    try:
        ControlGroups()
        assert all(directory.exists() for directory in group._directories())
    finally:
        group.remove()


def test_groups_of_ended_processes_and_of_reused_numbers_are_swept(groups: ControlGroups) -> None:
    parent = groups._parents["memory"]
    ended = subprocess.Popen(["true"])
    ended.wait(timeout=SECONDS)
    left = [parent / f"cxreval-run-{ended.pid}-1-0", parent / f"cxreval-run-{os.getpid()}-1-0"]
    other = parent / "cxreval-run-of-another-program"
    for directory in (*left, other):
        directory.mkdir()
    try:
        groups.sweep()
        assert [directory.exists() for directory in (*left, other)] == [False, False, True]
    finally:
        other.rmdir()
