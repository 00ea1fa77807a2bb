"""The stored submissions and the artifacts they refer to."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable
from datetime import datetime

from sqlalchemy import Row, Select, func, select
from sqlalchemy.orm import Session, aliased

from cxreval.audit.receipts import Signer
from cxreval.errors import ArtifactNotFound, RequestIdReused, SubmissionNotFound
from cxreval.errors import SubmissionState as WrongState
from cxreval.manifest.model import Kind, Manifest
from cxreval.records import Change, EvaluationState, SubmissionState, Tier
from cxreval.resource_names import ArtifactName, BenchmarkName, SubmissionName
from services.chassis.principal import Principal
from services.registry.domain.pages import Cursor, Page
from services.registry.domain.records import Submission
from services.registry.domain.seed import Claim
from services.registry.store import records
from services.registry.store.benchmarks import benchmark_row
from services.registry.store.database import Database, insert_missing
from services.registry.store.events import append
from services.registry.store.models import ArtifactRow, BenchmarkRow, EvaluationRow, SubmissionRow
from services.registry.store.pages import after
from services.registry.store.quotas import charge_artifact, charge_creation, charge_upload
from services.registry.store.receipts import sign_row
from services.registry.store.tenancy import visible_to

REGISTRY = "registry"
"""The actor of what the registry does by itself."""

_Rows = Row[SubmissionRow, BenchmarkRow, EvaluationRow | None]


def _with_latest() -> Select[SubmissionRow, BenchmarkRow, EvaluationRow | None]:
    """Submissions with their benchmark and their latest evaluation, if any."""
    other = aliased(EvaluationRow)
    latest = (
        select(func.max(other.number))
        .where(other.submission_number == SubmissionRow.number)
        .correlate(SubmissionRow)
        .scalar_subquery()
    )
    return (
        select(SubmissionRow, BenchmarkRow, EvaluationRow)
        .join(BenchmarkRow, BenchmarkRow.number == SubmissionRow.benchmark_number)
        .outerjoin(EvaluationRow, EvaluationRow.number == latest)
    )


def submission_rows(session: Session, name: SubmissionName) -> _Rows:
    """The rows of one submission. Raises `SubmissionNotFound`."""
    query = _with_latest().where(
        SubmissionRow.id == name.submission, BenchmarkRow.id == name.benchmark
    )
    found = session.execute(query).one_or_none()
    if found is None:
        raise SubmissionNotFound(f"{name} does not exist here", name=name)
    return found


class Submissions:
    """Creates, queues and finds submissions."""

    def __init__(self, database: Database, clock: Callable[[], datetime], signer: Signer) -> None:
        self._database = database
        self._clock = clock
        self._signer = signer

    def create(
        self,
        parent: BenchmarkName,
        manifest: Manifest,
        request_id: str,
        actor: str,
        owner: str = "",
        sealed_token: bytes | None = None,
    ) -> Submission:
        """Creates a submission. One that comes with a file awaits it; an endpoint is queued, a
        claim is on the board.

        Args:
            parent: the benchmark.
            manifest: checked.
            request_id: 32 hex characters, or empty. The same one with the same manifest gives the
                same submission.
            actor: who asks for it.
            owner: the organisation it will belong to; empty: nobody's. Each has request ids of its
                own.
            sealed_token: what an endpoint is sent, encrypted.

        Raises:
            BenchmarkNotFound: there is no such benchmark.
            RequestIdReused: the request id came before with another manifest.
            QuotaExceeded: the organisation has used up what it may.
        """
        with self._database.writing() as session:
            benchmark = benchmark_row(session, parent, lock=True)
            kept_id = kept_request_id(owner, request_id)
            earlier = _by_request_id(session, benchmark, kept_id)
            if earlier is not None:
                if records.manifest(earlier.manifest) != manifest:
                    message = (
                        f"request_id {request_id} was used for another manifest; expected a new one"
                    )
                    raise RequestIdReused(
                        message, field="request_id", value=request_id, expected="a new UUID"
                    )
                return records.submission(
                    *submission_rows(session, SubmissionName(parent.benchmark, earlier.id))
                )
            charge_creation(session, owner, self._clock())
            row = self._row(benchmark, uuid.uuid4().hex, manifest)
            row.request_id, row.organisation = kept_id or None, owner or None
            row.sealed_token = sealed_token
            session.add(row)
            append(session, row, Change.CREATED, actor, row.create_time)
            if manifest.kind is Kind.CLAIM:
                self._publish_claim(session, row, benchmark, actor)
            evaluation = (
                self._queue(session, row, actor) if manifest.kind is Kind.ENDPOINT else None
            )
            return records.submission(row, benchmark, evaluation)

    def sealed_token(self, name: SubmissionName) -> bytes | None:
        """What an endpoint is sent, encrypted; None if there is none. Raises
        `SubmissionNotFound`."""
        with self._database.reading() as session:
            return submission_rows(session, name)[0].sealed_token

    def publish_claims(self, parent: BenchmarkName, claims: Iterable[Claim]) -> None:
        """Puts claims on the board, those that are not there yet. Raises `BenchmarkNotFound`."""
        with self._database.writing() as session:
            benchmark = benchmark_row(session, parent, lock=True)
            for claim in claims:
                if (
                    session.scalar(select(SubmissionRow.number).where(SubmissionRow.id == claim.id))
                    is None
                ):
                    row = self._row(benchmark, claim.id, claim.manifest)
                    row.note = claim.note
                    session.add(row)
                    append(session, row, Change.CREATED, REGISTRY, row.create_time)
                    self._publish_claim(session, row, benchmark, REGISTRY)

    def artifact(self, name: SubmissionName) -> tuple[str, bool]:
        """Digest of the artifact of a submission, and whether it is completely stored.

        Raises:
            SubmissionNotFound: there is no such submission.
            SubmissionState: it neither has an artifact nor awaits one.
        """
        with self._database.reading() as session:
            row, _, _ = submission_rows(session, name)
            if row.artifact_sha256 is None:
                _check_awaits(row, name)
            return row.manifest["artifact_sha256"], row.artifact_sha256 is not None

    def begin_upload(self, name: SubmissionName, size_bytes: int) -> None:
        """Sets room aside for its artifact, before that comes; again is harmless.

        Raises:
            SubmissionNotFound: there is no such submission.
            SubmissionState: it does not await an artifact.
            QuotaExceeded: its organisation has no room for so many bytes.
        """
        with self._database.writing() as session:
            row, _, _ = submission_rows(session, name)
            session.refresh(row, with_for_update=True)
            _check_awaits(row, name)
            charge_upload(session, row, size_bytes, self._clock())

    def forget_upload(self, name: SubmissionName) -> None:
        """What had arrived of its artifact is removed: gives the room back. Raises
        `SubmissionNotFound`."""
        with self._database.writing() as session:
            row, _, _ = submission_rows(session, name)
            row.declared_bytes = None

    def queue(
        self, name: SubmissionName, size_bytes: int, keep: Callable[[], None], actor: str
    ) -> Submission:
        """Records the artifact and queues the submission, in one transaction.

        Args:
            name: a submission that awaits its artifact.
            size_bytes: the artifact's size.
            keep: puts the artifact's bytes in their place; called last, so that nothing is kept
                when a check fails,
                and after its row was inserted: see `store.garbage`.
            actor: who uploaded it.

        Raises:
            SubmissionNotFound: there is no such submission.
            SubmissionState: it does not await an artifact, for example because another upload was
                faster.
            QuotaExceeded: the artifact is more than its organisation may store.
        """
        now = self._clock()
        with self._database.writing() as session:
            row, benchmark, _ = submission_rows(session, name)
            session.refresh(row, with_for_update=True)
            _check_awaits(row, name)
            sha256 = row.manifest["artifact_sha256"]
            charge_artifact(session, row, size_bytes, now)
            record_artifact(session, sha256, size_bytes, now)
            row.artifact_sha256 = sha256
            append(session, row, Change.QUEUED, actor, now, details={"artifact_sha256": sha256})
            evaluation = queued_evaluation(row, now)
            session.add(evaluation)
            session.flush()
            keep()
            return records.submission(row, benchmark, evaluation)

    def get(self, name: SubmissionName) -> Submission:
        """Raises `SubmissionNotFound`."""
        with self._database.reading() as session:
            return records.submission(*submission_rows(session, name))

    def page(self, parent: BenchmarkName, cursor: Cursor, who: Principal) -> Page[Submission]:
        """Those that somebody sees, oldest first. Raises `BenchmarkNotFound`,
        `InvalidPageToken`."""
        with self._database.reading() as session:
            benchmark = benchmark_row(session, parent)
            query = _with_latest().where(SubmissionRow.benchmark_number == benchmark.number)
            query = query.where(visible_to(who))
            found = session.execute(after(session, query, SubmissionRow, cursor)).all()
            return cursor.page([records.submission(*rows) for rows in found], lambda item: item.id)

    def artifact_size(self, name: ArtifactName) -> int:
        """Size in bytes of a stored artifact. Raises `ArtifactNotFound`."""
        with self._database.reading() as session:
            row = session.get(ArtifactRow, name.sha256)
            if row is None:
                raise ArtifactNotFound(f"{name} is not stored here", name=name)
            return row.size_bytes

    def _publish_claim(
        self, session: Session, row: SubmissionRow, benchmark: BenchmarkRow, actor: str
    ) -> None:
        row.tier = Tier.CLAIMED
        event = append(session, row, Change.PUBLISHED, actor, row.create_time)
        sign_row(session, self._signer, row, benchmark, event)

    def _queue(self, session: Session, row: SubmissionRow, actor: str) -> EvaluationRow:
        """Queues a submission that needs no file."""
        append(session, row, Change.QUEUED, actor, row.create_time)
        session.flush()
        evaluation = queued_evaluation(row, row.create_time)
        session.add(evaluation)
        session.flush()
        return evaluation

    def _row(self, benchmark: BenchmarkRow, identifier: str, manifest: Manifest) -> SubmissionRow:
        now = self._clock()
        return SubmissionRow(
            id=identifier,
            benchmark_number=benchmark.number,
            kind=manifest.kind,
            manifest=records.to_json(manifest),
            note="",
            corrections={},
            superseded_by="",
            version=0,
            state=SubmissionState.AWAITING_ARTIFACT,
            create_time=now,
            update_time=now,
        )


def kept_request_id(owner: str, request_id: str) -> str:
    """A request id as it is kept: none is another organisation's, and nobody can ask which ones
    others have used."""
    if not owner or not request_id:
        return request_id
    return hashlib.sha256(f"{owner}/{request_id}".encode()).hexdigest()[:32]


def _by_request_id(
    session: Session, benchmark: BenchmarkRow, request_id: str
) -> SubmissionRow | None:
    if not request_id:
        return None
    query = select(SubmissionRow).where(
        SubmissionRow.benchmark_number == benchmark.number, SubmissionRow.request_id == request_id
    )
    return session.scalar(query)


def _check_awaits(row: SubmissionRow, name: SubmissionName) -> None:
    expected = SubmissionState.AWAITING_ARTIFACT
    if row.state != expected:
        message = f"{name} is {row.state}; an artifact is taken only while it is {expected}"
        raise WrongState(message, field="header.submission", state=row.state, expected=expected)


def record_artifact(session: Session, sha256: str, size_bytes: int, now: datetime) -> None:
    """Records an artifact, unless it is already."""
    insert_missing(
        session, ArtifactRow, [{"sha256": sha256, "size_bytes": size_bytes, "create_time": now}]
    )


def queued_evaluation(row: SubmissionRow, now: datetime) -> EvaluationRow:
    """A run of a submission that waits for a worker."""
    return EvaluationRow(
        id=uuid.uuid4().hex,
        submission_number=row.number,
        state=EvaluationState.QUEUED,
        attempt=0,
        stalled_attempts=0,
        worker="",
        images_before=0,
        images_done=0,
        provenance={},
        create_time=now,
        update_time=now,
    )
