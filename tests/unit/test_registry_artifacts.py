"""The artifact store: complete or not at all."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from cxreval.errors import ArtifactCorrupt, ArtifactNotFound, DigestMismatch
from cxreval.resource_names import ArtifactName
from services.registry.store.artifacts import LocalArtifacts
from tests.support.processes import REPOSITORY

BYTES = bytes(range(256)) * 10
NAME = ArtifactName(hashlib.sha256(BYTES).hexdigest())


def files(directory: Path) -> list[str]:
    return [str(file.relative_to(directory)) for file in directory.rglob("*") if file.is_file()]


def store(artifacts: LocalArtifacts) -> None:
    with artifacts.receive(NAME) as incoming:
        incoming.write(BYTES[:100])
        incoming.write(BYTES[100:])
        incoming.verify()
        incoming.keep()


def test_kept_artifact_lies_under_its_digest_and_reads_back(tmp_path: Path) -> None:
    artifacts = LocalArtifacts(tmp_path)
    store(artifacts)
    store(artifacts)
    assert files(tmp_path) == [f"{NAME.sha256[:2]}/{NAME.sha256}"]
    chunks = list(artifacts.read(NAME, 1000))
    assert b"".join(chunks) == BYTES
    assert [len(chunk) for chunk in chunks] == [1000, 1000, 560]


def test_other_bytes_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    with LocalArtifacts(tmp_path).receive(NAME) as incoming:
        incoming.write(b"other bytes")
        with pytest.raises(DigestMismatch) as caught:
            incoming.verify()
    assert caught.value.metadata["found"] == hashlib.sha256(b"other bytes").hexdigest()
    assert files(tmp_path) == []


def test_error_while_receiving_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> None:
        with LocalArtifacts(tmp_path).receive(NAME) as incoming:
            incoming.write(BYTES)
            raise ConnectionError

    with pytest.raises(ConnectionError):
        broken()
    assert files(tmp_path) == []


def test_changed_byte_is_found_before_the_last_chunk_is_given_out(tmp_path: Path) -> None:
    artifacts = LocalArtifacts(tmp_path)
    store(artifacts)
    (tmp_path / NAME.sha256[:2] / NAME.sha256).write_bytes(BYTES[:-1] + b"\0")
    chunks = artifacts.read(NAME, 1000)
    assert [len(next(chunks)), len(next(chunks))] == [1000, 1000]
    with pytest.raises(ArtifactCorrupt):
        next(chunks)


@pytest.mark.parametrize("left", [b"", BYTES[:1000], BYTES[:-1]])
def test_truncated_artifact_is_corrupt(tmp_path: Path, left: bytes) -> None:
    artifacts = LocalArtifacts(tmp_path)
    store(artifacts)
    (tmp_path / NAME.sha256[:2] / NAME.sha256).write_bytes(left)
    with pytest.raises(ArtifactCorrupt):
        list(artifacts.read(NAME, 1000))


def test_unknown_artifact_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(ArtifactNotFound):
        next(LocalArtifacts(tmp_path).read(NAME, 1000))


def test_start_removes_what_a_killed_process_left_and_nothing_that_a_living_one_receives(tmp_path: Path) -> None:
    code = f"""
import os, pathlib
from services.registry.store.artifacts import *
with LocalArtifacts(pathlib.Path({str(tmp_path)!r})).receive(ArtifactName({NAME.sha256!r})) as incoming:
    incoming.write(b"half")
    os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code], check=False, cwd=REPOSITORY)
    assert len(files(tmp_path)) == 1
    with LocalArtifacts(tmp_path).receive(NAME) as incoming:
        incoming.write(BYTES)
        assert len(files(tmp_path)) == 1
        artifacts = LocalArtifacts(tmp_path)
        incoming.keep()
    assert b"".join(artifacts.read(NAME, 1000)) == BYTES
