"""Uploads that go on after any broken connection, from the byte where they stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxreval.api.registry.v1 import artifact_service_pb2
from cxreval.client._calls import PASSING, PATIENCE_SECONDS, STREAM_SECONDS, Patience, call
from cxreval.errors import CxrevalError, DigestMismatch, SubmissionState, UploadBusy, UploadOffset
from cxreval.wire.limits import CHUNK_BYTES

UPLOAD_PASSING = (*PASSING, UploadBusy, UploadOffset)
"""What ends an upload that can go on later."""

_LEAST_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class UploadProgress:
    """What to show of an upload: `on_progress` hears the bytes sent and their total, `on_failure`
    why it stopped for a while."""

    on_progress: Callable[[int, int], None] = lambda _sent, _total: None
    on_failure: Callable[[CxrevalError], None] = lambda _error: None


def upload(
    stub: Any,
    artifact: dict[str, Any],
    file: Path,
    progress: UploadProgress,
    patience_seconds: float = PATIENCE_SECONDS,
) -> artifact_service_pb2.UploadArtifactResponse | None:
    """Uploads a file; the answer, or None when the registry had all of it already.

    Args:
        stub: of ArtifactService.
        artifact: the `artifact` of the messages, `submission` or `derived`.
        file: what is uploaded.
        progress: hears how far it is.
        patience_seconds: how long nothing may get on before the last error is raised.
    """
    total, patience = file.stat().st_size, _Patience(patience_seconds, progress.on_failure)
    while True:
        offset = 0
        try:
            found = call(stub.GetUpload, artifact_service_pb2.GetUploadRequest(**artifact))
            if found.complete:
                return None
            patience.got_to(found.received_bytes)
            offset = min(found.received_bytes, total)
            messages = _messages(artifact, file, total, offset, patience.chunk_bytes, progress)
            answer: artifact_service_pb2.UploadArtifactResponse = call(
                stub.UploadArtifact, messages, STREAM_SECONDS
            )
        except SubmissionState:
            # gRPC itself repeats a short call whose answer was lost: the first one had done it.
            if call(stub.GetUpload, artifact_service_pb2.GetUploadRequest(**artifact)).complete:
                return None
            raise
        except DigestMismatch as error:
            # The bytes before the offset were not this file's, and the registry has discarded them.
            patience.begin_again(offset, error)
            progress.on_failure(error)
        except UPLOAD_PASSING as error:
            patience.wait(error)
        else:
            return answer


class _Patience(Patience):
    """With an upload that breaks off again and again."""

    def __init__(self, seconds: float, on_failure: Callable[[CxrevalError], None]) -> None:
        super().__init__(seconds, on_failure)
        self._restarted, self._furthest = False, -1
        self.chunk_bytes = CHUNK_BYTES

    def got_to(self, received_bytes: int) -> None:
        """It is so far; if that is further than ever, patience begins anew."""
        if received_bytes > self._furthest:
            self.begin()
            self._furthest = received_bytes

    def begin_again(self, offset: int, error: CxrevalError) -> None:
        """Raises the error when nothing came before the offset, or the second time."""
        if self._restarted or offset == 0:
            raise error
        self._restarted, self._furthest = True, -1
        self.begin()

    def wait(self, error: CxrevalError) -> None:
        """Pauses. Raises the error when patience is at its end."""
        super().wait(error)
        # On a line so slow that one chunk takes longer than the registry waits, smaller ones get
        # on.
        self.chunk_bytes = max(self.chunk_bytes // 2, _LEAST_CHUNK_BYTES)


def _messages(
    artifact: dict[str, Any],
    file: Path,
    total: int,
    offset: int,
    chunk_bytes: int,
    progress: UploadProgress,
) -> Iterator[artifact_service_pb2.UploadArtifactRequest]:
    header = artifact_service_pb2.UploadArtifactHeader(
        **artifact, size_bytes=total, write_offset=offset
    )
    yield artifact_service_pb2.UploadArtifactRequest(header=header)
    progress.on_progress(offset, total)
    with file.open("rb") as opened:
        opened.seek(offset)
        while chunk := opened.read(chunk_bytes):
            yield artifact_service_pb2.UploadArtifactRequest(chunk=chunk)
            offset += len(chunk)
            progress.on_progress(offset, total)
