"""Fixtures that every test may use.

A test whose real part (a server, data, an extra) is missing is skipped; with `REQUIRE_PARTS=1`, as
in CI, it fails.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pytest
from hypothesis import settings

# No deadline: shared machines are slow at times.
settings.register_profile("cxreval", deadline=None)
settings.load_profile("cxreval")

REPOSITORY = Path(__file__).parents[1]


def missing(what: str) -> NoReturn:
    """Skips the test or module with the message `what`; fails it if REQUIRE_PARTS is 1."""
    if os.environ.get("REQUIRE_PARTS") == "1":
        pytest.fail(f"REQUIRE_PARTS=1, but {what}")
    pytest.skip(what, allow_module_level=True)


def require_module(name: str) -> ModuleType:
    """Imports a module of an optional extra; skips the test if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        missing(f"{name} is not installed (an optional extra)")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The directory with real radiographs, NIH's tables and real predictions."""
    directory = Path(os.environ.get("CXREVAL_SHARED", REPOSITORY.parent / "shared"))
    if not (directory / "nih-chestxray14").is_dir():
        missing(
            "there is no shared data:"
            " set CXREVAL_SHARED to a directory with nih-chestxray14/ and predictions/"
        )
    return directory


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real S3-compatible server."""
    from tests.support.seaweedfs import SeaweedFs

    with SeaweedFs(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server
