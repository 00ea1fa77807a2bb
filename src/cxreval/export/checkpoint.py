"""Reads published checkpoints as plain tensors.

A checkpoint is a pickle, and loading a pickle can run any code, so it is loaded in a sandbox only.
"""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from cxreval import sandbox
from cxreval.errors import ArtifactTooLarge, CheckpointUnreadable, DigestMismatch
from cxreval.export import unpickle
from cxreval.fields import printable
from cxreval.files import MAX_FILE_BYTES, file_sha256

_EXPECTED = "a PyTorch checkpoint"
_MESSAGE_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint's tensors by name, with the sha256 of its file.

    `whole_pickle` is true if the file contained more than tensors, so that its code was run in the
    sandbox.
    """

    tensors: dict[str, torch.Tensor]
    sha256: str
    whole_pickle: bool


def read_checkpoint(path: Path, sha256: str = "") -> Checkpoint:
    """Reads a checkpoint in the sandbox: tensors only if its format allows, else the whole pickle.

    Accepts a state dict, a training script's dict with one under `state_dict` or `model`, or a
    whole module; in PyTorch's zip format or the older one, also if Python 2 wrote it.

    Args:
        path: the file.
        sha256: expected digest, if known.

    Raises:
        DigestMismatch: the digest differs; the file is not loaded.
        CheckpointUnreadable: the file does not exist, is damaged, is not a checkpoint, or fails or
            times out in the sandbox.
        ArtifactTooLarge: the file has more than `MAX_FILE_BYTES`.
        SandboxUnavailable: this machine has no sandbox.
    """
    path = path.resolve()
    if not path.is_file():
        raise _unreadable(path, "the file does not exist")
    if (size := path.stat().st_size) > MAX_FILE_BYTES:
        expected = f"at most {MAX_FILE_BYTES} bytes"
        raise ArtifactTooLarge(
            f"{path} has {size} bytes; expected {expected}", field="weights", expected=expected
        )
    digest = file_sha256(path)
    if sha256 not in ("", digest):
        message = f"{path} has sha256 {digest}; expected {sha256}"
        raise DigestMismatch(message, field="sha256", expected=sha256, found=digest)
    tensors = _open(path, "weights-only")
    if tensors is not None:
        return Checkpoint(tensors, digest, whole_pickle=False)
    return Checkpoint(_open(path, "whole") or {}, digest, whole_pickle=True)


def _open(path: Path, mode: str) -> dict[str, torch.Tensor] | None:
    """Returns the tensors, or None if `weights-only` cannot read the file."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        try:
            process = sandbox.run_module(unpickle.__name__, (mode,), path, stdout, stderr)
        except subprocess.TimeoutExpired:
            raise _unreadable(
                path, f"opening it took more than {sandbox.TIMEOUT_SECONDS:g} s"
            ) from None
        if process.returncode == unpickle.NEEDS_WHOLE and mode == "weights-only":
            return None
        if process.returncode != 0:
            raise _unreadable(
                path, f"opening it ended with status {process.returncode}: {_last_line(stderr)}"
            )
        stdout.seek(0)
        try:
            return load(stdout.read(unpickle.MAX_TENSOR_BYTES))
        except SafetensorError as error:
            raise _unreadable(path, f"opening it gave no tensors: {error}") from None


def _last_line(file: BinaryIO) -> str:
    file.seek(max(0, file.seek(0, 2) - 4096))
    lines = file.read().decode(errors="replace").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "no output")
    return printable(last[:_MESSAGE_CHARACTERS])


def _unreadable(path: Path, problem: str) -> CheckpointUnreadable:
    message = f"{path} cannot be read: {problem}; expected {_EXPECTED}"
    return CheckpointUnreadable(message, field="weights", expected=_EXPECTED, file=path)
