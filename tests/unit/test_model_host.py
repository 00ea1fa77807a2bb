"""A model host that was taken over can fail its own model by name, and do nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from cxreval.errors import CxrevalError, ModelCrashed
from cxreval.model_interface import preset
from services.inference.backends import child
from services.inference.backends.model_host import HostLimits, LoadRequirements, ModelHost
from services.inference.backends.session import Execution
from tests.support import lying_host

LIMITS = HostLimits(1 << 30, 60.0, 60.0, 60.0)


def error_of_lie(number: int, monkeypatch: pytest.MonkeyPatch, file: Path) -> CxrevalError | None:
    def command(module: str, fd: int, *_: object) -> tuple[list[str], str]:
        return [sys.executable, "-m", lying_host.__name__, str(fd), str(number)], "a test"

    monkeypatch.setattr(child, "_command", command)
    file.write_bytes(b"model")
    host = ModelHost(file, LIMITS, Execution("cpu"), 1)
    try:
        host.open(8, LoadRequirements(preset("xrv-224")))
        image = np.zeros((1, 1, 224, 224), np.float32)
        host.run([image], alone=True, doing="running a batch of 1", seconds=60.0)
    except CxrevalError as error:
        assert host.process.poll() is not None
        return error
    finally:
        host.close()
    return None


LIES = [*lying_host.OPENING, *lying_host.RUNNING]


@pytest.mark.parametrize("number", range(len(LIES)), ids=[str(lie[:60]) for lie in LIES])
def test_a_lie_ends_the_process_and_is_reported_as_a_crash(
    number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    error = error_of_lie(number, monkeypatch, tmp_path / "model.onnx")
    assert isinstance(error, ModelCrashed)
    assert "answered wrongly" in str(error)
