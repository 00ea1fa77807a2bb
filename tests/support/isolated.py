"""Runs scripts of strangers in a sandbox, in a process of its own, which another user may be.

    python -m tests.support.isolated DIRECTORY NAME...

DIRECTORY has been filled by `prepare`. It prints what came of each named script, as JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cxreval.cgroups import _parents
from cxreval.reproduction.isolation.bubblewrap import Bubblewrap
from cxreval.reproduction.isolation.contract import Ended, Isolation, Limits, Outcome, Run, Usage
from tests.support import hostile_ends, hostile_script

ATTEMPTS = "attempts"
"""The name of the script of all attempts."""
ATTEMPT_LIMITS = Limits(
    memory_bytes=256 << 20,
    cpu_seconds=60.0,
    wall_seconds=60.0,
    processes=16,
    open_files=256,
    scratch_bytes=8 << 20,
)
CONTAINER_SHOWS = (
    "read of the system /etc/passwd",
    "read of the kernel and the host ",
    "read through a link among the sources",
    "a link out of the scratch",
    "the root of the host by chdir",
    "write to /proc/attempt",
    "device /dev/mqueue",
)
"""Attempts that see a container's own `/proc`, `/sys`, `/dev` and `/etc`."""
CONTAINER_REFUSES = (
    "read of the kernel and the host /proc/1/environ",
    "read of the kernel and the host /proc/1/fd/1",
    "read of the kernel and the host /proc/1/root/etc/passwd",
    "read of the kernel and the host /proc/kcore",
    "read of the kernel and the host /proc/sysrq-trigger",
)
"""Of these, what belongs to the supervisor or the machine."""
USER = 12345
SECONDS = 120.0


def without_a_group() -> list[str]:
    """Returns the scripts whose ends do not need the counters of a control group."""
    counted = (Ended.CPU_TIME, Ended.PROCESSES)
    return [name for name, case in cases().items() if case.ended not in counted]


def cases() -> dict[str, hostile_ends.Case]:
    """Returns all scripts that end at a limit or in a strange way."""
    return hostile_ends.QUICK | hostile_ends.SLOW


def prepare(directory: Path, host: Mapping[str, object]) -> None:
    """Writes the scripts, and the images and packages that they may read.

    Args:
        directory: gets them.
        host: what the script of all attempts should know of the host.
    """
    directory.chmod(0o755)
    for name in ("source", "images", "packages"):
        (directory / name).mkdir()
    source = directory / "source"
    shutil.copy(hostile_script.__file__, source / "hostile_script.py")
    (source / "link").symlink_to("/etc/passwd")
    for number, case in enumerate(cases().values()):
        (source / f"case_{number}.py").write_text(case.text())
    for number in (1, 2):
        (directory / f"images/00000{number}.png").write_bytes(b"image")
    (directory / "list.txt").write_text(json.dumps(dict(host)))
    (directory / "checkpoint.onnx").write_bytes(b"model")


def seed_of(directory: Path) -> int:
    """Returns the seed of the runs that read a directory, by which their processes are found."""
    return 1_000_000_000 + zlib.crc32(str(directory).encode())


def run_of(directory: Path, name: str) -> Run:
    """Returns the run of a script that `prepare` has written."""
    entry_point, limits = "hostile_script.py", ATTEMPT_LIMITS
    if name != ATTEMPTS:
        entry_point = f"case_{list(cases()).index(name)}.py"
        limits = cases()[name].run_limits()
    return Run(
        source=directory / "source",
        entry_point=entry_point,
        environment=directory / "packages",
        interpreter=Path(sys.executable),
        images=directory / "images",
        list_file=directory / "list.txt",
        seed=seed_of(directory),
        checkpoint=directory / "checkpoint.onnx",
        limits=limits,
    )


def run_all(isolation: Isolation, directory: Path, names: Sequence[str]) -> dict[str, Outcome]:
    """Returns what came of each script; three run at a time."""
    with ThreadPoolExecutor(3) as pool:
        outcomes = pool.map(lambda name: isolation.run(run_of(directory, name)), names)
        return dict(zip(names, outcomes, strict=True))


def wrong(name: str, outcome: Outcome) -> list[str]:
    """Returns what is not as the case of a script says."""
    case, limits = cases()[name], cases()[name].run_limits()
    problems = []
    if (outcome.ended, outcome.status) != (case.ended, case.status):
        problems.append(f"{name}: {outcome.ended} {outcome.status} {outcome.log[-500:]}")
    if bool(outcome.output) != (outcome.ended.name == "FINISHED"):
        problems.append(f"{name}: {len(outcome.output)} bytes of output")
    if case.log is not None and case.log not in outcome.log:
        problems.append(f"{name}: log {outcome.log[-500:]}")
    if len(outcome.log) > limits.log_bytes + 100:
        problems.append(f"{name}: a log of {len(outcome.log)} characters")
    if outcome.rows < case.rows:
        problems.append(f"{name}: {outcome.rows} rows")
    if (outcome.usage.peak_memory_bytes or 0) > 1.05 * limits.memory_bytes:
        problems.append(f"{name}: {outcome.usage}")
    return problems


def wrong_attempts(outcome: Outcome, *, container: bool = False) -> dict[str, object]:
    """Returns each attempt that ended otherwise than it must, with its end.

    Args:
        outcome: of the script of all attempts.
        container: whether it ran in one, which has some files of its own.
    """
    results: dict[str, str] = json.loads(outcome.predictions())
    problems: dict[str, object] = {}
    for name, (_, expected) in hostile_script.ATTEMPTS.items():
        allowed = expected if isinstance(expected, tuple) else (expected,)
        if container and name in CONTAINER_REFUSES:
            allowed = ("EACCES", "EPERM", "ENOENT", "EROFS")
        elif container and name.startswith(CONTAINER_SHOWS):
            continue
        if results.get(name) not in allowed:
            problems[name] = (results.get(name), expected)
    return problems


@contextmanager
def user_command(directory: Path, module: str, *arguments: str) -> Iterator[list[str]]:
    """Yields the command that runs a module as an ordinary user with a control group of its own.

    The interpreter may be where that user may not go, so the process has mounts of its own in
    which the directory that is closed shows the interpreter only.
    """
    parents = dict.fromkeys(_parents(Path("/")).values())
    groups = [parent / f"cxreval-test-{os.getpid()}" for parent in parents]
    python = Path(sys.base_prefix)
    (directory / "python").mkdir(exist_ok=True)
    closed = next(
        (path for path in reversed(python.parents) if not path.stat().st_mode & 0o001), None
    )
    mounts = (
        f"mount --bind {python} {directory}/python && mount -t tmpfs -o mode=755 none {closed}"
        f" && mkdir -p {python} && mount --bind {directory}/python {python} && "
        if closed
        else ""
    )
    moves = "".join(f"echo $$ > {group}/cgroup.procs && " for group in groups)
    switch = f"exec setpriv --reuid {USER} --regid {USER} --clear-groups --inh-caps=-all"
    for group in groups:
        group.mkdir()
        for path in (group, group / "cgroup.procs", group / "tasks"):
            if path.exists():
                os.chown(path, USER, USER)
    try:
        script = f'{mounts}{moves}{switch} "$@"'
        words = [sys.executable, "-m", module, str(directory), *arguments]
        yield ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *words]
    finally:
        for group in groups:
            group.rmdir()


def outcomes_as_user(directory: Path, names: Sequence[str]) -> dict[str, Outcome]:
    """Returns what came of each script, run by an ordinary user."""
    with user_command(directory, __name__, *names) as command:
        ended = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=SECONDS,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-4000:]
    return {name: _outcome(value) for name, value in json.loads(ended.stdout).items()}


def _outcome(value: dict[str, Any]) -> Outcome:
    value["ended"], value["usage"] = Ended(value["ended"]), Usage(**value["usage"])
    value["output"] = bytes.fromhex(value["output"])
    return Outcome(**value)


def main() -> None:
    directory, names = Path(sys.argv[1]), sys.argv[2:]
    assert os.geteuid() != 0
    shown = {}
    for name, outcome in run_all(Bubblewrap(), directory, names).items():
        shown[name] = vars(outcome) | {
            "usage": vars(outcome.usage),
            "output": outcome.output.hex(),
        }
    sys.stdout.write(json.dumps(shown))


if __name__ == "__main__":
    main()
