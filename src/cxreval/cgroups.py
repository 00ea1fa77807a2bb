"""Control groups: limits and counters of all processes of a run together, by the kernel.

A control group is one directory in version 2, and one for each controller in version 1. It is made
below the group of this process, where the limits of the service hold for it, too.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path

from cxreval.errors import SandboxUnavailable

EXPECTED = "a control group below this process's own that it may write, with memory and pids"
_NAME = re.compile(r"cxreval-run-(\d+)-(\d+)-\d+")
_OWN_NAME = "cxreval-worker"
_REMOVE_SECONDS = 10.0
_NUMBERS = count()
_ROOT = Path("/")


class ControlGroup:
    """A control group of its own; `remove` ends its processes.

    Args:
        directories: its directory by controller, `memory`, `pids` and `cpu`, all the same in
            version 2.
        memory_bytes: most memory, with files in memory, buffers of the kernel, and no swap.
        processes: most processes and threads.
    """

    def __init__(
        self, directories: Mapping[str, Path], *, memory_bytes: int, processes: int
    ) -> None:
        self._memory, self._pids = directories["memory"], directories["pids"]
        self._cpu = directories["cpu"]
        self._version_2 = (self._memory / "memory.max").exists()
        if self._version_2:
            _write(self._memory / "memory.max", memory_bytes)
            _write(self._memory / "memory.oom.group", 1)
            _write_if_there(self._memory / "memory.swap.max", 0)
        else:
            _write(self._memory / "memory.limit_in_bytes", memory_bytes)
            _write_if_there(self._memory / "memory.swappiness", 0)
            _write_if_there(self._memory / "memory.memsw.limit_in_bytes", memory_bytes)
        _write(self._pids / "pids.max", processes)

    def add(self, pid: int) -> None:
        """Moves a process, with all its threads, into the group."""
        for directory in self._directories():
            _write(directory / "cgroup.procs", pid)

    def cpu_seconds(self) -> float:
        """Returns the processor time of all processes that are or were in the group."""
        if (file := self._cpu / "cpuacct.usage").exists():
            return int(file.read_text()) / 1e9
        return _counter(self._cpu / "cpu.stat", "usage_usec") / 1e6

    def peak_memory_bytes(self) -> int:
        """Returns the most memory that the group had at a time; 0 if this kernel does not say."""
        name = "memory.peak" if self._version_2 else "memory.max_usage_in_bytes"
        try:
            return int((self._memory / name).read_text())
        except FileNotFoundError:  # memory.peak is of Linux 5.19
            return 0

    def killed_for_memory(self) -> int:
        """Returns how many processes the kernel killed because the group was at its limit."""
        name = "memory.events" if self._version_2 else "memory.oom_control"
        return _counter(self._memory / name, "oom_kill")

    def refused_processes(self) -> int:
        """Returns how often a process or thread was not started because of the limit."""
        return _counter(self._pids / "pids.events", "max")

    def kill(self) -> None:
        """Sends SIGKILL to every process of the group."""
        with contextlib.suppress(FileNotFoundError):
            if self._version_2 and (kill := self._memory / "cgroup.kill").exists():
                _write(kill, 1)
                return
        for directory in self._directories():
            for pid in _members(directory):
                _kill_member(pid, directory)

    def remove(self) -> None:
        """Ends the processes of the group and removes its directories."""
        until = time.monotonic() + _REMOVE_SECONDS
        left = list(self._directories())
        while left:
            self.kill()
            for directory in list(left):
                with contextlib.suppress(OSError):
                    _remove(directory)
                    left.remove(directory)
            if left and time.monotonic() > until:
                return  # a process that the kernel cannot end yet; `sweep` tries again
            if left:
                time.sleep(0.01)

    def _directories(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys((self._memory, self._pids, self._cpu)))


class ControlGroups:
    """Makes control groups below the group of this process.

    Raises:
        SandboxUnavailable: this process may not make one with limits on memory and processes.
    """

    def __init__(self) -> None:
        try:
            self._parents = _parents(_ROOT)
        except OSError as error:
            raise unavailable(f"{error.filename}: {error.strerror}") from None
        self.sweep()

    def create(self, *, memory_bytes: int, processes: int) -> ControlGroup:
        """Returns a new group, as `ControlGroup` describes. Its name is that of this process, so
        that `sweep` removes it if this process is killed."""
        pid = os.getpid()
        name = f"cxreval-run-{pid}-{_start_time(pid)}-{next(_NUMBERS)}"
        directories = {key: parent / name for key, parent in self._parents.items()}
        made = []
        try:
            for directory in dict.fromkeys(directories.values()):
                directory.mkdir()
                made.append(directory)
            return ControlGroup(directories, memory_bytes=memory_bytes, processes=processes)
        except OSError as error:
            for directory in made:
                directory.rmdir()
            raise unavailable(f"{error.filename or name}: {error.strerror}") from None

    def sweep(self) -> None:
        """Ends and removes the groups of processes that no longer run."""
        for parent in dict.fromkeys(self._parents.values()):
            for directory in parent.glob("cxreval-run-*"):
                name = _NAME.fullmatch(directory.name)
                if not name or _start_time(int(name[1])) == name[2]:
                    continue
                for pid in _members(directory):
                    _kill_member(pid, directory)
                until = time.monotonic() + _REMOVE_SECONDS
                while directory.exists() and time.monotonic() < until:
                    with contextlib.suppress(OSError):
                        _remove(directory)
                        break
                    time.sleep(0.01)


def unavailable(problem: str) -> SandboxUnavailable:
    """Returns the error of a machine on which no control group can be made."""
    message = f"no sandbox: no control group: {problem}; expected {EXPECTED}"
    return SandboxUnavailable(message, expected=EXPECTED, found=problem)


def _parents(root: Path) -> dict[str, Path]:
    """Returns the directory of this process's group for `memory`, `pids` and `cpu`.

    Args:
        root: the directory in which `proc` lies; another than `/` in tests.
    """
    own: dict[str, str] = {}
    for line in (root / "proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        own |= dict.fromkeys(controllers.split(","), path)  # "" for version 2
    mounts = dict(_mounts(root))
    if "" in own and "" in mounts:
        directory = _below(*mounts[""], own[""])
        if directory.name == _OWN_NAME:
            directory = directory.parent
        if {"memory", "pids"} <= set((directory / "cgroup.controllers").read_text().split()):
            return dict.fromkeys(("memory", "pids", "cpu"), _delegated(directory))
    parents = {}
    for key, controller in (("memory", "memory"), ("pids", "pids"), ("cpu", "cpuacct")):
        if controller not in own or controller not in mounts:
            raise unavailable(f"the controller {controller} is not mounted")
        parents[key] = _below(*mounts[controller], own[controller])
    return parents


def _mounts(root: Path) -> Iterator[tuple[str, tuple[str, Path]]]:
    """Yields each mounted controller, "" for version 2, with the group at the root of its mount
    and its directory."""
    for line in (root / "proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        fields, (kind, _, options) = before.split(), after.split()[:3]
        mounted = (fields[3], root / fields[4].lstrip("/"))
        if kind == "cgroup2":
            yield "", mounted
        elif kind == "cgroup":
            yield from ((option, mounted) for option in options.split(","))


def _below(top: str, directory: Path, group: str) -> Path:
    """Returns the directory of a group; `top` is the group that is mounted at `directory`."""
    if top in ("/", group) or group.startswith(top + "/"):
        return directory / group.removeprefix(top).lstrip("/")
    return directory  # a container that sees only its own group


def _delegated(directory: Path) -> Path:
    """Returns a group of version 2 below which groups with limits can be made.

    Only a group without processes passes its controllers on, so this process moves to a group
    of its own first. A group that has other processes, too, is not ours to empty.
    """
    if {"memory", "pids"} <= set((directory / "cgroup.subtree_control").read_text().split()):
        return directory
    if set(_members(directory)) - {os.getpid()}:
        raise unavailable(f"{directory} has other processes, so that its groups have no limits")
    worker = directory / _OWN_NAME
    worker.mkdir(exist_ok=True)
    _write(worker / "cgroup.procs", os.getpid())
    (directory / "cgroup.subtree_control").write_text("+memory +pids")
    return directory


def _start_time(pid: int) -> str:
    """Returns when a process started, in clock ticks since the start of the machine; "" if there
    is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return text.rpartition(")")[2].split()[19]


def _members(directory: Path) -> list[int]:
    try:
        return [int(pid) for pid in (directory / "cgroup.procs").read_text().split()]
    except OSError:  # it was removed
        return []


def _kill_member(pid: int, directory: Path) -> None:
    """Kills a process if it is still in the group when its number cannot change any more."""
    with contextlib.suppress(OSError):  # it has ended
        descriptor = os.pidfd_open(pid)
        try:
            if pid in _members(directory):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)


def _remove(directory: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        directory.rmdir()


def _counter(file: Path, name: str) -> int:
    """Returns the number behind a name in a file of lines "name number"; 0 if it is not there."""
    for line in file.read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


def _write(file: Path, value: int) -> None:
    file.write_text(str(value))


def _write_if_there(file: Path, value: int) -> None:
    """Writes a limit on swap, which a kernel without accounting of swap does not have."""
    if file.exists():
        _write(file, value)
