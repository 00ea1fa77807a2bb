"""The interface of artifact stores, and what they share.

Artifacts are addressed by the sha256 of their bytes and are stored completely or not at all. An
upload goes through four steps, so that a crash between any two of them neither loses nor duplicates
anything:

1. `write`: bytes are collected under a temporary name. After a crash the upload resumes at their
   end.
2. `store`: all bytes are durable and have the declared digest.
3. `place`, in the transaction that records the artifact: the bytes get their final name.
4. `discard`, after the transaction: temporary data is removed.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, Self

from cxreval.errors import ArtifactCorrupt, DigestMismatch, UploadBusy, UploadOffset
from cxreval.fields import SHA256
from cxreval.resource_names import OPAQUE_ID, ArtifactName

_log = logging.getLogger(__name__)
_KEY = re.compile(rf"({OPAQUE_ID.pattern})-({SHA256.pattern})")


@dataclass(frozen=True, slots=True)
class UploadKey:
    """Identifies an upload: the id of the submission or evaluation that needs it, and the digest
    that it must have."""

    owner: str
    sha256: str
    declared_in: str = field(default="", compare=False)
    """The field that declares the digest."""

    def __str__(self) -> str:
        return f"{self.owner}-{self.sha256}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The key that `str` gave this text; None for any other text."""
        match = _KEY.fullmatch(text)
        return cls(*match.groups()) if match else None


class Upload(Protocol):
    """An artifact that is being received, by one call at a time. Every method may block."""

    def begin(self, offset: int, missing_bytes: int = 0) -> None:
        """Resumes the upload, which needs so many bytes more.

        Raises:
            UploadOffset: not `offset` bytes are stored.
            StorageFull: there is no space for the missing bytes.
        """

    def write(self, chunk: bytes) -> None:
        """Appends bytes. Raises `StorageFull` if there is no space for them."""

    def suspend(self) -> None:
        """Keeps the received bytes for the next call."""

    def discard(self) -> None:
        """Removes the received bytes."""

    def store(self) -> None:
        """Makes all bytes durable. Raises `DigestMismatch` unless they have the declared digest."""

    def place(self) -> None:
        """Gives the stored bytes their final name. Fast, because a transaction waits for it."""


class Artifacts(Protocol):
    """A store of artifacts. Every method raises `ServiceUnavailable` if the store is down."""

    def receive(self, key: UploadKey) -> AbstractContextManager[Upload]:
        """Holds an upload within the block. Raises `UploadBusy` while another call holds it."""

    def received(self, key: UploadKey) -> int:
        """The upload offset: how many bytes of it are durable."""

    def read(self, name: ArtifactName, chunk_bytes: int) -> Iterator[bytes]:
        """Yields the bytes, the last chunk only after the digest of all of them was verified.

        Raises:
            ArtifactNotFound: it is not stored.
            ArtifactCorrupt: the stored bytes no longer have their digest.
        """

    def stale_uploads(self, before: datetime) -> list[UploadKey]:
        """Uploads whose last write was before a time."""

    def stale_artifacts(self, before: datetime) -> list[ArtifactName]:
        """Complete artifacts that got their final name before a time."""

    def remove_upload(self, key: UploadKey) -> bool:
        """Removes an upload and returns True; False if there is none or a call holds it."""

    def remove(self, name: ArtifactName) -> None:
        """Removes an artifact."""


def check_digest(sha256: str, key: UploadKey) -> None:
    """Raises `DigestMismatch` unless `sha256`, of the uploaded bytes, is the declared digest."""
    if sha256 != key.sha256:
        message = f"the bytes have sha256 {sha256}; {key.declared_in} declares {key.sha256}"
        raise DigestMismatch(message, field=key.declared_in, found=sha256, expected=key.sha256)


def check_offset(offset: int, received: int) -> None:
    """Raises `UploadOffset` unless `offset` is the upload offset, `received`."""
    if offset != received:
        message = (
            f"header.write_offset is {offset}; expected {received}, the first byte that is missing"
        )
        field = "header.write_offset"
        raise UploadOffset(
            message, field=field, found=offset, expected=str(received), received_bytes=received
        )


def busy(key: UploadKey) -> UploadBusy:
    """The error for a call that uploads an artifact which another call is uploading."""
    return UploadBusy(
        f"another call uploads artifacts/{key.sha256} for {key.owner}; retry when it has ended",
        owner=key.owner,
    )


def verified(chunks: Iterable[bytes], name: ArtifactName) -> Iterator[bytes]:
    """Yields the chunks, the last one only after the digest of all of them was verified. Raises
    `ArtifactCorrupt`."""
    digest = hashlib.sha256()
    held_back = b""
    for chunk in chunks:
        digest.update(chunk)
        if held_back:
            yield held_back
        held_back = chunk
    if digest.hexdigest() != name.sha256:
        _log.error(
            "artifact is corrupt", extra={"artifact": name.sha256, "found": digest.hexdigest()}
        )
        raise ArtifactCorrupt(f"the stored bytes of {name} no longer have its digest", name=name)
    yield held_back
