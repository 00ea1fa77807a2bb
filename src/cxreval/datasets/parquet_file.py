"""Reads predictions from Parquet files, in a child process with limits. Needs the extra `parquet`.

A Parquet file states its sizes itself, and pyarrow allocates what it states. The child writes the
table as CSV to a temporary file, which is then read like any other CSV file.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cxreval import sandbox
from cxreval.errors import TableInvalid
from cxreval.extras import require_extra

MEMORY_BYTES = 1 << 30
"""Memory that the child may take for one file."""

REFUSED = 3
"""Exit status of the child for a file that it refuses; standard error has the reason as JSON."""

FACTS = ("message", "field", "expected")
"""The facts of an error that the child may answer with."""

ANSWER_BYTES = 1 << 18
"""Maximum size of such an answer; a message may contain the longest path."""

_SECONDS = 30
_ROWS_PER_SECOND = 50_000
_WALL_CLOCK_FACTOR = 4  # a busy machine gives the child a part of a core
# Other allocators reserve address space that they do not use, which the memory limit counts.
_ALLOCATOR = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}


@contextmanager
def as_csv(file: Path, most_rows: int) -> Iterator[IO[bytes]]:
    """Yields the table in a Parquet file as CSV.

    Raises:
        TableInvalid: the file cannot be read, holds other columns than text and numbers, or needs
            more memory, time or bytes than allowed; or the reader crashed.
        ExtraMissing: the extra `parquet` is not installed.
    """
    require_extra("parquet", f"reading the Parquet file {file}", "pyarrow")
    seconds = _SECONDS + most_rows // _ROWS_PER_SECOND
    with tempfile.TemporaryFile() as table, tempfile.TemporaryFile() as problem:
        try:
            status = subprocess.run(  # noqa: S603 -- this interpreter
                [
                    sys.executable, "-P", "-m", "cxreval.datasets.parquet_child", str(file),
                    str(most_rows), str(seconds),
                ],
                env=sandbox.interpreter_environment() | _ALLOCATOR,
                stdin=subprocess.DEVNULL,
                stdout=table,
                stderr=problem,
                timeout=_WALL_CLOCK_FACTOR * seconds,
                check=False,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            raise _stopped(file, f"at most {_WALL_CLOCK_FACTOR * seconds} seconds") from None
        problem.seek(0)
        _check(file, status, problem.read(ANSWER_BYTES), seconds)
        table.seek(0)
        yield table


def _check(file: Path, status: int, problem: bytes, seconds: int) -> None:
    """Raises `TableInvalid` if the child refused the file, met a limit or crashed."""
    if status == 0:
        return
    if status == REFUSED:
        raise _refusal(file, problem)
    if status == -signal.SIGXCPU:
        raise _stopped(file, f"at most {seconds} seconds of processor time")
    if status < 0:
        name = signal.Signals(-status).name
        message = f"cannot read {file} as a table: the Parquet reader crashed with {name}"
        raise TableInvalid(message, file=file, signal=name)
    raise RuntimeError(f"the Parquet reader did not start: {problem.decode(errors='replace')}")


def _refusal(file: Path, problem: bytes) -> TableInvalid:
    """Returns the error that the child answered with."""
    try:
        answer = json.loads(problem)
        facts = {key: str(answer[key]) for key in FACTS if key in answer}
        return TableInvalid(**facts, file=file)
    except (ValueError, TypeError, RecursionError):
        message = f"cannot read {file} as a table: the Parquet reader stopped without a reason"
        return TableInvalid(message, file=file)


def _stopped(file: Path, expected: str) -> TableInvalid:
    """Returns the error for a file that takes too long."""
    message = f"{file} takes too long to read; expected {expected}"
    return TableInvalid(message, file=file, expected=expected)
