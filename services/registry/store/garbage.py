"""Removes what nobody needs any more from the store of artifacts.

Two kinds of orphans: uploads whose submission or evaluation no longer waits for them, and artifacts
without a row,
which a crash between their placing and the commit leaves behind. No row is without a reference: it
is inserted in one transaction with the submission's or evaluation's, and neither is ever deleted.

Why nothing is lost that a running upload or a committed row needs:

- Only what is older than an hour is looked at. An upload that gets bytes, or an artifact just
  placed, is younger.
- To remove an artifact, its row is inserted and taken back. An upload inserts the same row before
  it places its bytes, so one waits for the end of the other's transaction: either the bytes are
  removed before the upload places its own, or the row is there, committed, and nothing is removed.
  (With SQLite, writing transactions exclude each other anyway.)
  An object store is too slow for a transaction: an upload to it looks there whether its object is
  still in its place. That one question and one removal are inside for the same reason; with SQLite
  whoever writes waits for them.
- An upload that a call is at is left alone. If its submission awaits it again just after it was
  found not to, its bytes
  are gone, but nobody was told wrongly: the next call is answered UPLOAD_OFFSET and begins again.
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
"""How old an orphan is before it is removed."""

_AT_ONCE = 500


class Garbage:
    """Finds and removes orphans."""

    def __init__(
        self, database: Database, artifacts: Artifacts, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._artifacts = artifacts
        self._clock = clock

    def collect(self) -> tuple[int, int]:
        """Removes orphans; how many uploads and how many artifacts."""
        before = self._clock() - GRACE
        uploads = self._artifacts.stale_uploads(before)
        removed = [self._artifacts.remove_upload(key) for key in self._not_awaited(uploads)]
        orphans = self._without_row(self._artifacts.stale_artifacts(before))
        return sum(removed), sum(map(self._remove, orphans))

    def _not_awaited(self, keys: Sequence[UploadKey]) -> list[UploadKey]:
        awaits = SubmissionRow.state == SubmissionState.AWAITING_ARTIFACT
        goes_on = EvaluationRow.state.in_([EvaluationState.QUEUED, EvaluationState.RUNNING])
        owners: set[str] = set()
        with self._database.reading() as session:
            for some in _batches([key.owner for key in keys]):
                owners.update(
                    session.scalars(
                        select(SubmissionRow.id).where(SubmissionRow.id.in_(some), awaits)
                    )
                )
                owners.update(
                    session.scalars(
                        select(EvaluationRow.id).where(EvaluationRow.id.in_(some), goes_on)
                    )
                )
        return [key for key in keys if key.owner not in owners]

    def _without_row(self, names: Sequence[ArtifactName]) -> list[ArtifactName]:
        known: set[str] = set()
        with self._database.reading() as session:
            for some in _batches([name.sha256 for name in names]):
                known.update(
                    session.scalars(select(ArtifactRow.sha256).where(ArtifactRow.sha256.in_(some)))
                )
        return [name for name in names if name.sha256 not in known]

    def _remove(self, name: ArtifactName) -> bool:
        with self._database.writing() as session:
            row = {"sha256": name.sha256, "size_bytes": 0, "create_time": self._clock()}
            if not insert_missing(session, ArtifactRow, [row]):
                return False  # somebody uploaded it meanwhile
            self._artifacts.remove(name)
            session.execute(delete(ArtifactRow).where(ArtifactRow.sha256 == name.sha256))
            return True


def _batches(items: Sequence[str]) -> list[Sequence[str]]:
    return [items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE)]
