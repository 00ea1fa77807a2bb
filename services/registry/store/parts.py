"""The files of a submission beside its artifact: source bundle and wheelhouse of its script."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy.orm import Session

from cxreval.errors import SubmissionState as WrongState
from cxreval.manifest.model import parts
from cxreval.records import Part, SubmissionState
from cxreval.resource_names import SubmissionName
from services.chassis.principal import Principal
from services.registry.domain.records import ON_BOARD, Submission
from services.registry.store import records
from services.registry.store.database import Database
from services.registry.store.models import SubmissionPartRow, SubmissionRow
from services.registry.store.quotas import charge_part
from services.registry.store.submissions import (
    own_submission_rows,
    record_artifact,
    submission_for,
)

_TAKES = (
    SubmissionState.AWAITING_ARTIFACT,
    SubmissionState.QUEUED,
    SubmissionState.RUNNING,
    *ON_BOARD,
)
"""States in which a submission takes further files."""


class Parts:
    """Records the further files of submissions."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def expected(self, name: SubmissionName, part: Part, caller: Principal) -> tuple[str, bool]:
        """Returns the digest of a file that the caller's submission declares, and whether it is
        stored.

        Raises:
            SubmissionNotFound, OwnerRequired: the caller has no such submission.
            SubmissionState: it does not declare the file, or takes none any more.
        """
        with self._database.reading() as session:
            row, _, _ = own_submission_rows(session, name, caller)
            sha256 = _declared(row, name, part)
            stored = session.get(SubmissionPartRow, (row.number, part))
            complete = stored is not None and stored.artifact_sha256 is not None
            if not complete:
                _check_takes(row, name)
            return sha256, complete

    def begin_upload(
        self, name: SubmissionName, part: Part, caller: Principal, size_bytes: int
    ) -> None:
        """Reserves storage for a file; may be repeated. Raises as `expected`, and
        `QuotaExceeded`."""
        with self._database.writing() as session:
            row, _, _ = own_submission_rows(session, name, caller)
            session.refresh(row, with_for_update=True)
            _check_takes(row, name)
            stored = _reserved(session, row, part)
            earlier, stored.declared_bytes = stored.declared_bytes, 0
            session.flush()
            size_bytes = max(size_bytes, earlier)
            charge_part(session, row, _declared(row, name, part), size_bytes, self._clock())
            stored.declared_bytes, stored.update_time = size_bytes, self._clock()

    def forget_upload(self, name: SubmissionName, part: Part, caller: Principal) -> None:
        """Releases the storage that `begin_upload` reserved, after the upload was discarded."""
        with self._database.writing() as session:
            row, _, _ = own_submission_rows(session, name, caller)
            stored = session.get(SubmissionPartRow, (row.number, part))
            if stored and stored.artifact_sha256 is None:
                session.delete(stored)

    def record(
        self,
        name: SubmissionName,
        part: Part,
        caller: Principal,
        size_bytes: int,
        keep: Callable[[], None],
    ) -> Submission:
        """Records a stored file and returns the submission. `keep`: as in `Submissions.queue`.
        Raises as `begin_upload`."""
        now = self._clock()
        with self._database.writing() as session:
            row, benchmark, latest = own_submission_rows(session, name, caller)
            session.refresh(row, with_for_update=True)
            _check_takes(row, name)
            sha256, stored = _declared(row, name, part), _reserved(session, row, part)
            stored.declared_bytes = 0
            session.flush()
            charge_part(session, row, sha256, size_bytes, now)
            record_artifact(session, sha256, size_bytes, now)
            stored.artifact_sha256, stored.update_time = sha256, now
            session.flush()
            keep()
            return submission_for((row, benchmark, latest), caller)


def _declared(row: SubmissionRow, name: SubmissionName, part: Part) -> str:
    sha256 = parts(records.manifest(row.manifest)).get(part)
    if sha256 is None:
        field = "reproduction.wheelhouse_sha256"
        if part is Part.SOURCE_BUNDLE:
            field = "reproduction.bundle_sha256"
        message = f"the manifest of {name} has no {field}; submit it again with that field"
        raise WrongState(message, field="file.part", expected=f"manifest.{field}")
    return sha256


def _check_takes(row: SubmissionRow, name: SubmissionName) -> None:
    if row.state not in _TAKES:
        expected = ", ".join(_TAKES)
        message = f"{name} is {row.state}; it takes further files while it is {expected}"
        raise WrongState(message, field="file.submission", state=row.state, expected=expected)


def _reserved(session: Session, row: SubmissionRow, part: Part) -> SubmissionPartRow:
    """Returns the row of a file; a new one if there is none."""
    stored = session.get(SubmissionPartRow, (row.number, part))
    if stored is None:
        stored = SubmissionPartRow(
            submission_number=row.number,
            part=part,
            declared_bytes=0,
            update_time=row.update_time,
        )
        session.add(stored)
    return stored
