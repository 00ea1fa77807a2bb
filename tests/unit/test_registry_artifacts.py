"""The artifact store: complete or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from cxreval.errors import ArtifactCorrupt, ArtifactNotFound
from cxreval.resource_names import ArtifactName
from services.registry.store.artifacts import UploadKey
from services.registry.store.local_artifacts import LocalArtifacts

BYTES = bytes(range(256)) * 10
NAME = ArtifactName(hashlib.sha256(BYTES).hexdigest())
KEY = UploadKey("0" * 32, NAME.sha256, "manifest.artifact_sha256")


def files(directory: Path) -> list[str]:
    return [str(file.relative_to(directory)) for file in directory.rglob("*") if file.is_file()]


def store(artifacts: LocalArtifacts) -> None:
    with artifacts.receive(KEY) as upload:
        upload.begin(0)
        upload.write(BYTES[:100])
        upload.write(BYTES[100:])
        upload.store()
        upload.place()


def test_kept_artifact_lies_under_its_digest_and_reads_back(tmp_path: Path) -> None:
    artifacts = LocalArtifacts(tmp_path)
    store(artifacts)
    store(artifacts)
    assert files(tmp_path) == [f"{NAME.sha256[:2]}/{NAME.sha256}"]
    chunks = list(artifacts.read(NAME, 1000))
    assert b"".join(chunks) == BYTES
    assert [len(chunk) for chunk in chunks] == [1000, 1000, 560]


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
