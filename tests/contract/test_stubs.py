"""The checked-in stubs equal those generated from the protos."""

import filecmp
import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import REPOSITORY, require_module


def generated(directory: Path) -> set[Path]:
    """Returns the paths of the stubs in a directory, relative to it."""
    return {
        file.relative_to(directory)
        for file in directory.rglob("*")
        if file.suffix in (".py", ".pyi")
    }


def test_checked_in_stubs_equal_the_generated_ones(tmp_path):
    require_module("grpc_tools")
    environment = os.environ | {"PYTHON": sys.executable}
    subprocess.run(
        [REPOSITORY / "protos" / "generate.sh", tmp_path],
        check=True,
        capture_output=True,
        env=environment,
        timeout=120,
    )
    fresh, checked_in = tmp_path / "cxreval" / "api", REPOSITORY / "src" / "cxreval" / "api"
    assert generated(fresh) == generated(checked_in)
    differing = [
        str(file)
        for file in generated(fresh)
        if not filecmp.cmp(fresh / file, checked_in / file, shallow=False)
    ]
    assert not differing, f"run `make protos`: {differing}"
