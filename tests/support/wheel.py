"""The wheel of this checkout, built as a release is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import REPOSITORY, missing

_UNREACHABLE = ("No matching distribution", "Could not find a version", "ConnectionError")


def build_wheel(directory: Path) -> Path:
    """Returns the wheel's file; skips the test where pip reaches no index for the build's tools."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", directory]
    built = subprocess.run(
        [*command, REPOSITORY], capture_output=True, text=True, timeout=100, check=False
    )
    if any(words in built.stderr for words in _UNREACHABLE):
        missing("pip reaches no index that has the tools to build a wheel")
    assert built.returncode == 0, built.stderr
    (wheel,) = directory.glob("cxreval-*.whl")
    return wheel
