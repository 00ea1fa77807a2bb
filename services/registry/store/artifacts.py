"""Where artifacts are kept: by the sha256 of their bytes, complete or not at all. What the stores
have in common.

An upload goes through four steps, so that a crash between any two of them loses nothing and doubles
nothing:

1. `write`: bytes gather beside their place. Whatever is there after a crash is where the upload
goes on.
2. `store`: all bytes are durable and have the declared digest.
3. `place`, in the transaction that records the artifact: its name leads to them.
4. `discard`, after the transaction: what was needed on the way is removed.
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
    """What an upload is known by: who needs it (the id of a submission or evaluation), and the
    digest it must have."""

    owner: str
    sha256: str
    declared_in: str = field(default="", compare=False)
    """The field that declares the digest."""

    def __str__(self) -> str:
        return f"{self.owner}-{self.sha256}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """None for what is no key."""
        found = _KEY.fullmatch(text)
        return cls(*found.groups()) if found else None


class Upload(Protocol):
    """An artifact that is being received, by one call at a time. Every method may take a while."""

    def begin(self, offset: int) -> None:
        """Goes on from what is there. Raises `UploadOffset` when that is not `offset` bytes."""

    def write(self, chunk: bytes) -> None:
        """Takes the next bytes."""

    def suspend(self) -> None:
        """Leaves what has arrived for the next call."""

    def discard(self) -> None:
        """Removes what has arrived."""

    def store(self) -> None:
        """Makes all bytes durable. Raises `DigestMismatch` unless they have the declared digest."""

    def place(self) -> None:
        """Puts the stored bytes where their digest finds them. Quick: a transaction waits for
        it."""


class Artifacts(Protocol):
    """A store of artifacts. What does not answer is `ServiceUnavailable`."""

    def receive(self, key: UploadKey) -> AbstractContextManager[Upload]:
        """Receives an artifact within the block. Raises `UploadBusy` while another call does."""

    def received(self, key: UploadKey) -> int:
        """Bytes of an upload that are durable."""

    def read(self, name: ArtifactName, chunk_bytes: int) -> Iterator[bytes]:
        """The bytes, the last chunk only after the digest of all of them was verified.

        Raises:
            ArtifactNotFound: it is not stored.
            ArtifactCorrupt: the stored bytes no longer have their digest.
        """

    def stale_uploads(self, before: datetime) -> list[UploadKey]:
        """Uploads that nothing was written to since."""

    def stale_artifacts(self, before: datetime) -> list[ArtifactName]:
        """Complete artifacts that were put in their place before."""

    def remove_upload(self, key: UploadKey) -> bool:
        """Removes what has arrived; whether it was there and no call was at it."""

    def remove(self, name: ArtifactName) -> None:
        """Removes an artifact."""


def check_digest(found: str, key: UploadKey) -> None:
    """Raises `DigestMismatch` unless the upload's bytes have the declared digest."""
    if found != key.sha256:
        message = f"the bytes have sha256 {found}; {key.declared_in} declares {key.sha256}"
        raise DigestMismatch(message, field=key.declared_in, found=found, expected=key.sha256)


def check_offset(offset: int, received: int) -> None:
    """Raises `UploadOffset` unless an upload goes on where it stopped."""
    if offset != received:
        message = (
            f"header.write_offset is {offset}; expected {received}, the first byte that is missing"
        )
        field = "header.write_offset"
        raise UploadOffset(
            message, field=field, found=offset, expected=str(received), received_bytes=received
        )


def busy(key: UploadKey) -> UploadBusy:
    """The error for a second call that uploads the same artifact."""
    return UploadBusy(
        f"another call uploads artifacts/{key.sha256} for {key.owner}; wait for its end",
        owner=key.owner,
    )


def verified(chunks: Iterable[bytes], name: ArtifactName) -> Iterator[bytes]:
    """The chunks as they come, the last one only when all of them have the digest. Raises
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
        raise ArtifactCorrupt(f"the stored bytes of {name} have another digest now", name=name)
    yield held_back
