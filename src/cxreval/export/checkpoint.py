"""Published checkpoints as plain tensors. They are pickles, and a pickle is a program: this process
never opens one."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from cxreval.errors import ArtifactTooLarge, CheckpointUnreadable, DigestMismatch
from cxreval.export import sandbox, unpickle
from cxreval.fields import printable
from cxreval.files import MAX_ARTIFACT_BYTES, file_sha256

_EXPECTED = "a PyTorch checkpoint"
_MESSAGE_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint's tensors by name. `whole_pickle` tells that the file held code, which was run
    in the sandbox."""

    tensors: dict[str, torch.Tensor]
    sha256: str
    whole_pickle: bool


def read_checkpoint(path: Path, sha256: str = "", *, tensors_only: bool = False) -> Checkpoint:
    """Opens a checkpoint in a sandbox: as plain tensors if its format allows, else as the pickle it
    is.

    Takes a state dict, a dict of a training script with one under `state_dict` or `model`, or a
    whole module; in the zip format or the one before it, also from Python 2.

    Args:
        path: the file.
        sha256: the digest it must have, where one is known.
        tensors_only: whether a file that holds more, for example a whole module, is refused and not
            run.

    Raises:
        DigestMismatch: it has another digest; it is not opened.
        CheckpointUnreadable: the file is absent, damaged, no checkpoint, or fails or overstays its
            time in the sandbox; or it holds more than tensors.
        ArtifactTooLarge: the file has more than `MAX_ARTIFACT_BYTES`.
        SandboxUnavailable: this machine has no sandbox.
    """
    path = path.resolve()
    if not path.is_file():
        raise _unreadable(path, "there is no such file")
    if (size := path.stat().st_size) > MAX_ARTIFACT_BYTES:
        expected = f"at most {MAX_ARTIFACT_BYTES} bytes"
        raise ArtifactTooLarge(
            f"{path} has {size} bytes; expected {expected}", field="weights", expected=expected
        )
    found = file_sha256(path)
    if sha256 not in ("", found):
        message = f"{path} has sha256 {found}; expected {sha256}"
        raise DigestMismatch(message, field="sha256", expected=sha256, found=found)
    tensors = _open(path, "weights-only")
    if tensors is not None:
        return Checkpoint(tensors, found, whole_pickle=False)
    if tensors_only:
        raise _unreadable(path, "it holds more than tensors (save the model's state_dict() alone)")
    return Checkpoint(_open(path, "whole") or {}, found, whole_pickle=True)


def _open(path: Path, mode: str) -> dict[str, torch.Tensor] | None:
    """The tensors; None where `weights-only` is not enough."""
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as trouble:
        try:
            ended = sandbox.run_module(unpickle.__name__, (mode,), path, answer, trouble)
        except subprocess.TimeoutExpired:
            raise _unreadable(
                path, f"opening it took more than {sandbox.TIMEOUT_SECONDS:g} s"
            ) from None
        if ended.returncode == unpickle.NEEDS_WHOLE and mode == "weights-only":
            return None
        if ended.returncode != 0:
            raise _unreadable(
                path, f"opening it ended with status {ended.returncode}: {_last_line(trouble)}"
            )
        answer.seek(0)
        try:
            return load(answer.read(unpickle.MAX_TENSOR_BYTES))
        except SafetensorError as error:
            raise _unreadable(path, f"opening it gave no tensors: {error}") from None


def _last_line(file: BinaryIO) -> str:
    file.seek(max(0, file.seek(0, 2) - 4096))
    lines = file.read().decode(errors="replace").split("\n")
    said = next((line for line in reversed(lines) if line.strip()), "it said nothing")
    return printable(said[:_MESSAGE_CHARACTERS])


def _unreadable(path: Path, problem: str) -> CheckpointUnreadable:
    message = f"{path} cannot be read: {problem}; expected {_EXPECTED}"
    return CheckpointUnreadable(message, field="weights", expected=_EXPECTED, file=path)
