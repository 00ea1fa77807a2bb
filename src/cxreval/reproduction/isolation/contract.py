"""What a run gets, what it may take, and what came of it: the same for every way to isolate it."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Protocol

from cxreval.errors import (
    CxrevalError,
    PredictionsMissing,
    ScriptFailed,
    ScriptOutOfMemory,
    ScriptOverLimit,
    ScriptTimeout,
)

Progress = Callable[[int], None]
"""Is called with the number of rows that the script has written, about once a second. An
exception from it ends the run."""


@dataclass(frozen=True)
class Limits:
    """What a run may take, over all its processes together."""

    memory_bytes: int = 4 << 30
    """With its files in memory and the kernel's buffers; there is no swap."""
    cpu_seconds: float = 7200.0
    wall_seconds: float = 3600.0
    processes: int = 256
    """Processes and threads."""
    open_files: int = 1024
    """Of one process."""
    scratch_bytes: int = 1 << 30
    """Of `/tmp`, and as many of `/dev/shm`; both are memory."""
    output_bytes: int = 64 << 20
    """Of the table of predictions."""
    log_bytes: int = 1 << 20
    """Of standard output and standard error, which are kept; what is beyond is dropped."""


@dataclass(frozen=True)
class Usage:
    """What a run took."""

    wall_seconds: float
    cpu_seconds: float | None
    """None where the kernel's counter cannot be read."""
    peak_memory_bytes: int | None
    """None where the kernel's counter cannot be read."""
    output_bytes: int


@dataclass(frozen=True)
class Run:
    """One execution of a script.

    Everything that is named here is shown to the script under a fixed name and cannot be written
    by it. All users must be allowed to read it, because a worker that is root runs the script as
    another user.
    """

    source: Path
    """Directory of the source tree."""
    entry_point: str
    """Path of the script in the source tree."""
    environment: Path | None
    """Directory of the installed packages; None for none."""
    interpreter: Path
    """The Python of this machine that runs the script. A container has one of its own."""
    images: Path
    """Directory of the images, under opaque names."""
    list_file: Path
    """One file name of an image a line."""
    seed: int
    checkpoint: Path | None = None
    limits: Limits = Limits()

    def check(self) -> None:
        """Raises `ScriptFailed` if the entry point is not a file of the source tree."""
        path = PurePosixPath(self.entry_point)
        problem = ""
        if path.is_absolute() or ".." in path.parts or "\0" in self.entry_point or not path.parts:
            problem = "is not a path inside of it"
        else:
            current = self.source
            for part in path.parts:
                current /= part
                try:
                    mode = current.lstat().st_mode
                except OSError:
                    problem = "is not there"
                    break
                if stat.S_ISLNK(mode):
                    problem = "is a link"
                    break
            else:
                problem = "" if stat.S_ISREG(mode) else "is not a file"
        if problem:
            raise ScriptFailed(
                f"entry_point {self.entry_point!r} {problem}; expected the path of a file in the"
                " source tree",
                field="entry_point",
                expected="the path of a file in the source tree",
            )


class Ended(StrEnum):
    """How a run ended."""

    FINISHED = "finished"
    """It ended with status 0 and left a file of predictions."""
    FAILED = "failed"
    """It ended with another status, or by a signal of its own."""
    WALL_TIME = "wall time"
    CPU_TIME = "processor time"
    MEMORY = "memory"
    PROCESSES = "processes"
    SCRATCH = "scratch"
    OUTPUT = "output"
    NO_OUTPUT = "no output"
    """It ended with status 0, and what it should have written is missing, empty or no file."""


_ERRORS: dict[Ended, type[CxrevalError]] = {
    Ended.FAILED: ScriptFailed,
    Ended.WALL_TIME: ScriptTimeout,
    Ended.CPU_TIME: ScriptTimeout,
    Ended.MEMORY: ScriptOutOfMemory,
    Ended.PROCESSES: ScriptOverLimit,
    Ended.SCRATCH: ScriptOverLimit,
    Ended.OUTPUT: ScriptOverLimit,
    Ended.NO_OUTPUT: PredictionsMissing,
}


@dataclass(frozen=True)
class Outcome:
    """What came of a run."""

    ended: Ended
    status: int | None
    """Exit status of the script, or minus the number of the signal that ended it; None if it was
    ended at a limit."""
    usage: Usage
    rows: int
    """Rows of predictions that were seen while it ran."""
    output: bytes
    """The table of predictions; empty unless the run finished."""
    log: str
    """Standard output and standard error, for its submitter alone: cut, without control
    characters."""
    detail: str
    """How it ended, as one sentence."""

    def predictions(self) -> bytes:
        """Returns the table of predictions.

        Raises:
            ScriptFailed, ScriptTimeout, ScriptOutOfMemory, ScriptOverLimit, PredictionsMissing:
                by how the run ended. The metadata have the rows that were seen, and not the log,
                which only the submitter may read.
        """
        if self.ended is Ended.FINISHED:
            return self.output
        raise _ERRORS[self.ended](self.detail, ended=self.ended, rows=self.rows)


class Isolation(Protocol):
    """A way to run a stranger's script."""

    @property
    def name(self) -> str:
        """What it is, as the provenance of a row states it."""
        ...

    def run(self, run: Run, progress: Progress | None = None) -> Outcome:
        """Runs a script to its end or to its first limit. Nothing of it is left afterwards.

        Raises:
            ScriptFailed: the entry point is not there.
            SandboxUnavailable: the script could not be isolated, so it was not run, or the
                sandbox was ended from outside.
        """
        ...
