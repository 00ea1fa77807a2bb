"""Files of strangers, opened in one child process with small limits."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.support.processes import REPOSITORY

MEMORY_BYTES = 300 << 20
CPU_SECONDS = 40
"""For all files together."""

_PROGRAM = """
import json, sys
from pathlib import Path
from cxreval.child_limits import limit_this_process
from cxreval.errors import CxrevalError
{program}
limit_this_process(memory_bytes={memory}, cpu_seconds={seconds})
for file in map(Path, sys.argv[1:]):
    try:
        outcome = ["opened", opened(file)]
    except CxrevalError as error:
        outcome = [error.reason, error.message]
    print(json.dumps([file.name, *outcome]), flush=True)
"""


def outcomes(
    program: str, files: Mapping[str, Callable[[], bytes]], directory: Path
) -> dict[str, tuple[str, Any]]:
    """Returns, by name, the reason and message of each file's error, or `opened` and its result.

    Args:
        program: defines `opened`, a function of the file that returns what JSON can hold.
        files: functions that return the content of each file.
        directory: where the files are written.
    """
    for name, content in files.items():
        (directory / name).write_bytes(content())
    code = _PROGRAM.format(program=program, memory=MEMORY_BYTES, seconds=CPU_SECONDS)
    ended = subprocess.run(
        [sys.executable, "-c", code, *(str(directory / name) for name in files)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    lines = map(json.loads, ended.stdout.splitlines())
    found = {name: (reason, value) for name, reason, value in lines}
    # A file that exceeds a limit ends the child, so that it and the files after it are missing.
    missing = [name for name in files if name not in found]
    assert not missing, f"{missing[0]}: {ended.returncode}, {ended.stderr[-2000:]}"
    return found
