"""Every hostile script ends as it must, as root, as an ordinary user, and in podman."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cxreval.errors import SandboxUnavailable
from cxreval.reproduction.isolation.bubblewrap import Bubblewrap
from cxreval.reproduction.isolation.podman import Podman
from tests.conftest import missing
from tests.support import isolated

IMAGE, PYTHON = "CXREVAL_PODMAN_IMAGE", "CXREVAL_PODMAN_PYTHON"


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="cxreval-"))
    isolated.prepare(path, {})
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("user", ["root", "user"])
def test_every_hostile_script_ends_as_it_must(directory: Path, user: str) -> None:
    names = list(isolated.cases())
    try:
        isolation = Bubblewrap()
    except SandboxUnavailable as error:
        missing(f"scripts cannot be isolated here: {error.message}")
    if os.geteuid() != 0 and user == "root":
        pytest.skip("this user is not root")
    if os.geteuid() == 0 and user == "user":
        outcomes = isolated.outcomes_as_user(directory, names)
    else:
        outcomes = isolated.run_all(isolation, directory, names)
    assert [problem for name in names for problem in isolated.wrong(name, outcomes[name])] == []


@pytest.mark.timeout(900)
def test_every_hostile_script_ends_as_it_must_in_podman(directory: Path) -> None:
    host = {"abstract": "cxreval-absent", "directory": str(directory), "pid": os.getpid()}
    host |= {"port": 9, "secret": "/root/secret", "socket": "/root/socket", "value": "a secret"}
    (directory / "list.txt").write_text(json.dumps(host))
    if not shutil.which("podman") or IMAGE not in os.environ:
        pytest.skip(f"podman, and {IMAGE} with the name of an image that has Python, are not here")
    podman = Podman(os.environ[IMAGE], os.environ.get(PYTHON, "/usr/local/bin/python3"))
    names = isolated.without_a_group()
    outcomes = isolated.run_all(podman, directory, [*names, isolated.ATTEMPTS])
    assert isolated.wrong_attempts(outcomes[isolated.ATTEMPTS], container=True) == {}
    assert [problem for name in names for problem in isolated.wrong(name, outcomes[name])] == []
