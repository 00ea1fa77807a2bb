"""Removes orphans from the artifact store.

Orphans are uploads that no submission or evaluation awaits any more, and artifacts without a row,
which a crash between `place` and the commit leaves behind. Every row has a reference: it is
inserted in one transaction with the submission's or evaluation's change, and neither is ever
deleted.

Nothing that a running upload or a committed row needs is removed:

- Only orphans older than an hour are removed. An upload in progress and an artifact that was just
  placed are younger.
- To remove an artifact, its row is inserted and deleted again. An upload inserts the same row
  before it places its bytes, so one of the two waits for the other's transaction: either the bytes
  are removed before the upload places its own, or the row is committed and nothing is removed. (On
  SQLite, writing transactions exclude each other anyway.) An upload to an object store writes its
  object before the transaction, because that is slow, and checks inside it that the object still
  exists. The check and the removal are inside for the same reason; on SQLite all other writers wait
  for them.
- An upload that a call holds is not removed. If a submission awaits its upload again just after the
  upload was listed as an orphan, the bytes are lost, but no client was told otherwise: the next
  call gets UPLOAD_OFFSET and starts again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, select

from cxreval.records import EvaluationState, SubmissionState
from cxreval.resource_names import ArtifactName
from services.registry.store.artifacts import Artifacts, UploadKey
from services.registry.store.database import Database, insert_missing
from services.registry.store.models import ArtifactRow, EvaluationRow, SubmissionRow

GRACE = timedelta(hours=1)
"""How old an orphan must be to be removed."""

_BATCH = 500


class Garbage:
    """Finds and removes orphans."""

    def __init__(
        self, database: Database, artifacts: Artifacts, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._artifacts = artifacts
        self._clock = clock

    def collect(self) -> tuple[int, int]:
        """Removes orphans; returns the number of uploads and the number of artifacts removed."""
        before = self._clock() - GRACE
        uploads = self._artifacts.stale_uploads(before)
        removed = [self._artifacts.remove_upload(key) for key in self._not_awaited(uploads)]
        orphans = self._without_row(self._artifacts.stale_artifacts(before))
        return sum(removed), sum(map(self._remove, orphans))

    def _not_awaited(self, keys: Sequence[UploadKey]) -> list[UploadKey]:
        awaits = SubmissionRow.state == SubmissionState.AWAITING_ARTIFACT
        active = EvaluationRow.state.in_([EvaluationState.QUEUED, EvaluationState.RUNNING])
        owners: set[str] = set()
        with self._database.reading() as session:
            for batch in _batches([key.owner for key in keys]):
                owners.update(
                    session.scalars(
                        select(SubmissionRow.id).where(SubmissionRow.id.in_(batch), awaits)
                    )
                )
                owners.update(
                    session.scalars(
                        select(EvaluationRow.id).where(EvaluationRow.id.in_(batch), active)
                    )
                )
        return [key for key in keys if key.owner not in owners]

    def _without_row(self, names: Sequence[ArtifactName]) -> list[ArtifactName]:
        known: set[str] = set()
        with self._database.reading() as session:
            for batch in _batches([name.sha256 for name in names]):
                known.update(
                    session.scalars(select(ArtifactRow.sha256).where(ArtifactRow.sha256.in_(batch)))
                )
        return [name for name in names if name.sha256 not in known]

    def _remove(self, name: ArtifactName) -> bool:
        with self._database.writing() as session:
            row = {"sha256": name.sha256, "size_bytes": 0, "create_time": self._clock()}
            if not insert_missing(session, ArtifactRow, [row]):
                return False  # an upload has recorded it meanwhile
            self._artifacts.remove(name)
            session.execute(delete(ArtifactRow).where(ArtifactRow.sha256 == name.sha256))
            return True


def _batches(items: Sequence[str]) -> list[Sequence[str]]:
    return [items[start : start + _BATCH] for start in range(0, len(items), _BATCH)]
