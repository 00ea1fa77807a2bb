"""What a script finds in its sandbox: names, environment and command, the same on each machine."""

from __future__ import annotations

import base64
import json
import platform
import re
from importlib import resources
from pathlib import Path

from cxreval.errors import SandboxUnavailable
from cxreval.reproduction.isolation.contract import Run
from cxreval.system_calls import NUMBERS, program_filter

SOURCE, ENVIRONMENT, IMAGES, LIST, MODEL = "/src", "/env", "/images", "/list.txt", "/model"
SCRATCH, SHARED_MEMORY, OUTPUT = "/tmp", "/dev/shm", "/out"  # noqa: S108 -- inside the sandbox
_TABLE = f"{OUTPUT}/predictions.csv"
_THREADS = "2"  # the same on each machine, because a sum depends on how it is split
_SUFFIX = re.compile(r"(\.[A-Za-z0-9]{1,16}){1,2}")


def mounts(run: Run) -> list[tuple[Path, str]]:
    """Returns the files and directories that a run may read, with their names inside.

    Raises:
        SandboxUnavailable: one of them is not there.
    """
    pairs = [(run.source, SOURCE), (run.images, IMAGES), (run.list_file, LIST)]
    if run.environment:
        pairs.append((run.environment, ENVIRONMENT))
    if run.checkpoint:
        pairs.append((run.checkpoint, _checkpoint(run.checkpoint)))
    for path, name in pairs:
        if not path.exists():
            expected = "all that it reads to be there when it starts"
            message = f"no sandbox: {name} of the run is not there; expected {expected}"
            raise SandboxUnavailable(message, expected=expected, found=str(path))
    return [(path.resolve(), name) for path, name in pairs]


def supervised(run: Run, python: str, libraries: str = "", user: int | None = None) -> list[str]:
    """Returns the command of the sandbox's first process, the supervisor, which runs the script.

    Args:
        run: what to run.
        python: the interpreter, as it is named inside.
        libraries: directory of the interpreter's shared libraries; "" for the system's.
        user: the user as which the supervisor, which is root, runs itself and the script; None if
            it is another user already.

    Raises:
        SandboxUnavailable: this machine has no libseccomp.
    """
    limits = run.limits
    plan = {
        "user": user,
        "command": [
            *(python, "-s", "-B", f"{SOURCE}/{run.entry_point}", "--images", IMAGES),
            *("--list", LIST, "--out", _TABLE, "--seed", str(run.seed)),
        ],
        "environment": _variables(run, libraries),
        "directory": SOURCE,
        "output": _TABLE,
        "volumes": {"scratch": [SCRATCH, SHARED_MEMORY], "output": [OUTPUT]},
        "filter": base64.b64encode(program_filter()).decode(),
        "seccomp": NUMBERS[platform.machine()],
        "processes": limits.processes,
        "open_files": limits.open_files,
        # Above the size of each file system, whose error is the clearer one.
        "file_bytes": max(limits.scratch_bytes, limits.output_bytes) + (1 << 20),
        "output_bytes": limits.output_bytes,
        "log_bytes": limits.log_bytes,
    }
    program = resources.files(__package__).joinpath("supervisor.py").read_text(encoding="utf-8")
    return [python, "-I", "-S", "-c", program, json.dumps(plan)]


def _variables(run: Run, libraries: str) -> dict[str, str]:
    """Returns the whole environment of the script."""
    variables = {
        "CXREVAL_IMAGES": IMAGES,
        "CXREVAL_LIST": LIST,
        "CXREVAL_OUT": _TABLE,
        "CXREVAL_SEED": str(run.seed),
        "HOME": SCRATCH,
        "LANG": "C.UTF-8",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": ENVIRONMENT,
        "TMPDIR": SCRATCH,
        "TZ": "UTC",
        "USER": "script",  # PyTorch asks for the user's name, and there is no /etc/passwd
    }
    for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR"):
        variables[f"{name}_NUM_THREADS"] = _THREADS
    if libraries:
        variables["LD_LIBRARY_PATH"] = libraries
    if run.checkpoint:
        variables["CXREVAL_CHECKPOINT"] = _checkpoint(run.checkpoint)
    return variables


def _checkpoint(path: Path) -> str:
    """Returns the name of the checkpoint inside; programs go by its suffix."""
    suffix = "".join(path.suffixes[-2:])
    for candidate in (suffix, path.suffix):
        if _SUFFIX.fullmatch(candidate):
            return f"{MODEL}/checkpoint{candidate}"
    return f"{MODEL}/checkpoint"
