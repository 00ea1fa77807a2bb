"""ArtifactService: uploads and downloads of artifacts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter

from cxreval.api.registry.v1 import artifact_service_pb2 as pb
from cxreval.api.registry.v1 import artifact_service_pb2_grpc, submission_pb2
from cxreval.errors import (
    ArtifactTooLarge,
    MalformedStream,
    RoleRequired,
    SubmissionState,
)
from cxreval.fields import check_sha256, field_error
from cxreval.files import MAX_ARTIFACT_BYTES, MAX_FILE_BYTES
from cxreval.records import Part, Role
from cxreval.resource_names import ArtifactName, EvaluationName, SubmissionName
from cxreval.wire.limits import CHUNK_BYTES
from services.chassis.fair_slots import FairSlots, Slot
from services.chassis.principal import caller, stream_caller
from services.registry.convert import submissions
from services.registry.store.artifacts import UploadKey
from services.registry.store.evaluations import Evaluations
from services.registry.store.parts import Parts
from services.registry.store.submissions import Submissions
from services.registry.uploads import ExpectedArtifact, Uploads

MAX_TRANSFERS = 32
"""Maximum number of uploads, and of downloads, at once; callers share them fairly. An upload takes
up to 17 MiB of memory while the disk is slow."""

MAX_PART_BYTES = {Part.SOURCE_BUNDLE: 512 << 20, Part.WHEELHOUSE: MAX_FILE_BYTES}
"""Maximum size of each file beside the artifact of a submission."""

_log = logging.getLogger(__name__)

_Messages = AsyncIterator[pb.UploadArtifactRequest]


class ArtifactServicer(artifact_service_pb2_grpc.ArtifactServiceServicer):
    """Takes artifacts of submissions and evaluations, and sends stored artifacts."""

    def __init__(
        self,
        submissions: Submissions,
        parts: Parts,
        evaluations: Evaluations,
        uploads: Uploads,
        metrics: CollectorRegistry,
    ) -> None:
        self._submissions = submissions
        self._parts = parts
        self._evaluations = evaluations
        self._uploads = uploads
        self._receiving = FairSlots(MAX_TRANSFERS, "uploads")
        self._sending = FairSlots(MAX_TRANSFERS, "downloads")
        moved = Counter(
            "cxreval_registry_artifact_bytes_total",
            "Bytes of artifacts moved.",
            ("direction",),
            registry=metrics,
        )
        self._received_bytes, self._sent_bytes = moved.labels("received"), moved.labels("sent")

    async def GetUpload(self, request: pb.GetUploadRequest, context: Any) -> pb.GetUploadResponse:
        """Returns the upload offset, or that the artifact is complete."""
        expected = await asyncio.to_thread(self._expected, request, "")
        if expected.complete:
            return pb.GetUploadResponse(complete=True)
        return pb.GetUploadResponse(received_bytes=await self._uploads.offset(expected.key))

    async def UploadArtifact(
        self, request_iterator: _Messages, context: Any
    ) -> pb.UploadArtifactResponse:
        """Receives an artifact, whole or the rest of it; only a complete one is recorded."""
        messages = aiter(request_iterator)
        header = await _header(messages)
        expected = await asyncio.to_thread(self._expected, header, "header.")
        _check_size(header, expected.max_bytes)
        if expected.complete:
            raise _complete_already(header, expected.key)
        with self._receiving.hold(stream_caller()) as slot:
            chunks = self._counted(_chunks(messages), slot)
            submission = await self._uploads.receive(
                expected, header.size_bytes, header.write_offset, chunks
            )
        _log.info(
            "artifact stored", extra={"owner": expected.key.owner, "size_bytes": header.size_bytes}
        )
        return pb.UploadArtifactResponse(
            artifact=str(ArtifactName(expected.key.sha256)),
            submission=submissions.submission_message(submission) if submission else None,
        )

    async def DownloadArtifact(
        self, request: pb.DownloadArtifactRequest, context: Any
    ) -> AsyncIterator[pb.DownloadArtifactResponse]:
        """Sends the bytes; the last chunk only after the digest of all of them was verified."""
        name = ArtifactName.parse(request.name)
        await asyncio.to_thread(self._submissions.check_artifact, name, caller())
        with self._sending.hold(stream_caller()) as slot:
            async with aclosing(self._uploads.read(name, CHUNK_BYTES)) as chunks:
                async for chunk in chunks:
                    self._sent_bytes.inc(len(chunk))
                    slot.touch()
                    yield pb.DownloadArtifactResponse(chunk=chunk)

    def _expected(
        self, request: pb.GetUploadRequest | pb.UploadArtifactHeader, path: str
    ) -> ExpectedArtifact:
        """The artifact that a request names; `path` leads to its fields in error messages."""
        if request.WhichOneof("artifact") == "derived":
            _check_role(f"{path}derived", Role.WORKER)
            return self._derived(request.derived, f"{path}derived")
        if request.WhichOneof("artifact") == "file":
            _check_role(f"{path}file", Role.SUBMITTER, Role.OPERATOR)
            return self._part(request.file, f"{path}file")
        _check_role(f"{path}submission", Role.SUBMITTER, Role.OPERATOR)
        name, who = SubmissionName.parse(request.submission, f"{path}submission"), caller()
        artifact = self._submissions.artifact(name, who)
        return ExpectedArtifact(
            UploadKey(name.submission, artifact.sha256, "manifest.artifact_sha256"),
            artifact.complete,
            max_bytes=MAX_ARTIFACT_BYTES if artifact.bundled else MAX_FILE_BYTES,
            record=partial(self._submissions.queue, name, who),
            reserve=partial(self._submissions.begin_upload, name, who),
            release=partial(self._submissions.forget_upload, name, who),
        )

    def _part(self, file: submission_pb2.SubmissionFile, path: str) -> ExpectedArtifact:
        name = SubmissionName.parse(file.submission, f"{path}.submission")
        part, who = submissions.part(file.part, f"{path}.part"), caller()
        sha256, complete = self._parts.expected(name, part, who)
        return ExpectedArtifact(
            UploadKey(name.submission, sha256, f"manifest.reproduction, {part}"),
            complete,
            max_bytes=MAX_PART_BYTES[part],
            record=partial(self._parts.record, name, part, who),
            reserve=partial(self._parts.begin_upload, name, part, who),
            release=partial(self._parts.forget_upload, name, part, who),
        )

    def _derived(self, artifact: pb.DerivedArtifact, path: str) -> ExpectedArtifact:
        name = EvaluationName.parse(artifact.evaluation, f"{path}.evaluation")
        check_sha256(f"{path}.sha256", artifact.sha256)
        lease = name, artifact.token, artifact.sha256
        return ExpectedArtifact(
            UploadKey(name.evaluation, artifact.sha256, f"{path}.sha256"),
            complete=self._evaluations.has_artifact(*lease, caller()),
            max_bytes=MAX_FILE_BYTES,
            record=partial(self._evaluations.add_artifact, *lease, caller=caller()),
        )

    async def _counted(self, chunks: AsyncIterator[bytes], slot: Slot) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            slot.touch()
            self._received_bytes.inc(len(chunk))
            yield chunk


def _check_role(field: str, *roles: Role) -> None:
    """The rpcs take submitters and workers; each may upload only its own kind of artifact. Raises
    `RoleRequired`."""
    if caller().roles.isdisjoint(roles):
        expected = ", ".join(sorted(roles))
        message = f"{caller().name} may not upload {field}; expected one of the roles {expected}"
        raise RoleRequired(message, field=field, expected=expected)


async def _header(messages: _Messages) -> pb.UploadArtifactHeader:
    first = await anext(messages, None)
    if first is None or not first.HasField("header"):
        text = "the first message is not a header; expected a header, then chunks"
        raise MalformedStream(text, field="header", expected="a header first")
    return first.header


def _check_size(header: pb.UploadArtifactHeader, max_bytes: int) -> None:
    field = "header.size_bytes"
    if header.size_bytes < 1:
        raise field_error(field, header.size_bytes, "1 or more")
    if header.size_bytes > max_bytes:
        raise field_error(field, header.size_bytes, f"at most {max_bytes}", ArtifactTooLarge)
    if not 0 <= header.write_offset <= header.size_bytes:
        raise field_error("header.write_offset", header.write_offset, "0 to header.size_bytes")


def _complete_already(header: pb.UploadArtifactHeader, key: UploadKey) -> SubmissionState:
    text = f"artifacts/{key.sha256} is complete already; there is nothing to upload"
    return SubmissionState(
        text, field=f"header.{header.WhichOneof('artifact')}", expected="one that is not complete"
    )


async def _chunks(messages: _Messages) -> AsyncIterator[bytes]:
    async for message in messages:
        yield _chunk(message)


def _chunk(message: pb.UploadArtifactRequest) -> bytes:
    if not message.HasField("chunk"):
        text = "a message after the header has no chunk; expected only chunks"
        raise MalformedStream(text, field="chunk", expected="only chunks after the header")
    chunk = message.chunk  # each access copies the bytes
    if not 0 < len(chunk) <= CHUNK_BYTES:
        expected = f"1 to {CHUNK_BYTES} bytes"
        text = f"a chunk has {len(chunk)} bytes; expected {expected}"
        raise MalformedStream(text, field="chunk", expected=expected)
    return chunk
