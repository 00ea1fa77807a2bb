"""The stored submissions and the artifacts they refer to."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Row, Select, func, select
from sqlalchemy.orm import Session, aliased

from cxreval.audit.receipts import Signer
from cxreval.errors import ArtifactNotFound, RequestIdReused, SubmissionNotFound
from cxreval.errors import SubmissionState as WrongState
from cxreval.manifest.model import Kind, Manifest, parts
from cxreval.records import Change, EvaluationState, Part, Purpose, SubmissionState, Tier
from cxreval.resource_names import ArtifactName, BenchmarkName, SubmissionName
from services.chassis.principal import Principal
from services.registry.domain.pages import Cursor, Page
from services.registry.domain.records import Submission
from services.registry.domain.redaction import redact_submission
from services.registry.domain.seed import Claim
from services.registry.store import records
from services.registry.store.benchmarks import benchmark_row, check_not_retired
from services.registry.store.database import Database, insert_missing
from services.registry.store.events import append
from services.registry.store.models import (
    ArtifactRow,
    BenchmarkRow,
    EvaluationRow,
    SubmissionPartRow,
    SubmissionRow,
    TrainingListRow,
)
from services.registry.store.pages import after
from services.registry.store.quotas import (
    charge_artifact,
    charge_creation,
    charge_training_list,
    charge_upload,
)
from services.registry.store.receipts import sign_row
from services.registry.store.tenancy import artifacts_visible_to, check_owner, visible_to

REGISTRY = "registry"
"""The actor of changes that the registry makes by itself."""


@dataclass(frozen=True, slots=True)
class SubmittedArtifact:
    """The artifact of a submission: `complete` if it is stored, `bundled` if it is an archive."""

    sha256: str
    complete: bool
    bundled: bool


_Rows = Row[SubmissionRow, BenchmarkRow, EvaluationRow | None]


def _with_latest() -> Select[SubmissionRow, BenchmarkRow, EvaluationRow | None]:
    """Submissions with their benchmark and the latest evaluation that measures them, if any."""
    other = aliased(EvaluationRow)
    latest = (
        select(func.max(other.number))
        .where(other.submission_number == SubmissionRow.number, other.purpose == Purpose.MEASURE)
        .correlate(SubmissionRow)
        .scalar_subquery()
    )
    return (
        select(SubmissionRow, BenchmarkRow, EvaluationRow)
        .join(BenchmarkRow, BenchmarkRow.number == SubmissionRow.benchmark_number)
        .outerjoin(EvaluationRow, EvaluationRow.number == latest)
    )


def submission_rows(session: Session, name: SubmissionName, caller: Principal) -> _Rows:
    """The rows of a submission that the caller may read. Raises `SubmissionNotFound`."""
    query = _with_latest().where(
        SubmissionRow.id == name.submission,
        BenchmarkRow.id == name.benchmark,
        visible_to(caller),
    )
    rows = session.execute(query).one_or_none()
    if rows is None:
        raise SubmissionNotFound(f"{name} does not exist here", name=name)
    return rows


def own_submission_rows(session: Session, name: SubmissionName, caller: Principal) -> _Rows:
    """The rows of a submission that the caller may change.

    Raises:
        SubmissionNotFound: there is none that the caller may read.
        OwnerRequired: it belongs to another organisation.
    """
    rows = submission_rows(session, name, caller)
    check_owner(rows[0], name, caller)
    return rows


class Submissions:
    """Creates, queues and reads submissions and records their artifacts."""

    def __init__(self, database: Database, clock: Callable[[], datetime], signer: Signer) -> None:
        self._database = database
        self._clock = clock
        self._signer = signer

    def create(
        self,
        parent: BenchmarkName,
        manifest: Manifest,
        request_id: str,
        caller: Principal,
        sealed_token: bytes | None = None,
        training_list: bytes = b"",
    ) -> Submission:
        """Creates a submission: one with an artifact awaits it, an endpoint is queued, a claim is
        published.

        Args:
            parent: the benchmark.
            manifest: checked.
            request_id: 32 hex characters, or empty. Repeating it with the same manifest returns
                the same submission.
            caller: who creates it. It belongs to the caller's organisation, if any; each
                organisation has request ids of its own.
            sealed_token: the encrypted token for an endpoint.
            training_list: the checked list that the manifest names, compressed; empty for none.

        Raises:
            BenchmarkNotFound: there is no such benchmark.
            BenchmarkRetired: it takes no submissions.
            RequestIdReused: the request id was used for another manifest.
            QuotaExceeded: the organisation has reached a limit.
        """
        actor, owner = caller.name, caller.organisation
        with self._database.writing() as session:
            benchmark = benchmark_row(session, parent, lock=True)
            kept_id = kept_request_id(owner, request_id)
            earlier = _by_request_id(session, benchmark, kept_id)
            if earlier is not None:
                _check_repeats(earlier, manifest, request_id)
                name = SubmissionName(parent.benchmark, earlier.id)
                return submission_for(submission_rows(session, name, caller), caller)
            check_not_retired(benchmark, "parent")
            charge_creation(session, owner, self._clock())
            if training_list:
                charge_training_list(session, owner, len(training_list), self._clock())
            row = self._row(benchmark, uuid.uuid4().hex, manifest)
            row.request_id, row.organisation = kept_id or None, owner or None
            row.sealed_token = sealed_token
            session.add(row)
            append(session, row, Change.CREATED, actor, row.create_time)
            if training_list:
                session.flush()
                session.add(TrainingListRow(submission_number=row.number, content=training_list))
            if manifest.kind is Kind.CLAIM:
                self._publish_claim(session, row, benchmark, actor)
            evaluation = (
                self._queue(session, row, actor) if manifest.kind is Kind.ENDPOINT else None
            )
            return submission_for((row, benchmark, evaluation), caller)

    def sealed_token(self, name: SubmissionName, caller: Principal) -> bytes | None:
        """The encrypted token for an endpoint; None if there is none that the caller may read.

        Raises:
            SubmissionNotFound: there is no such submission.
        """
        with self._database.reading() as session:
            row, _, _ = submission_rows(session, name, caller)
            return row.sealed_token if caller.knows(row.organisation or "") else None

    def training_list(self, name: SubmissionName, caller: Principal) -> bytes:
        """The training list that a submission's manifest names, compressed; empty if there is none
        that the caller may read. Raises `SubmissionNotFound`."""
        with self._database.reading() as session:
            row, _, _ = submission_rows(session, name, caller)
            stored = session.get(TrainingListRow, row.number)
            return stored.content if stored and caller.knows(row.organisation or "") else b""

    def publish_claims(self, parent: BenchmarkName, claims: Iterable[Claim]) -> None:
        """Creates and publishes the claims that do not exist yet. Raises `BenchmarkNotFound`."""
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

    def artifact(self, name: SubmissionName, caller: Principal) -> SubmittedArtifact:
        """Returns what is known of the artifact of the caller's submission.

        Raises:
            SubmissionNotFound, OwnerRequired: the caller has no such submission.
            SubmissionState: the submission neither has an artifact nor awaits one.
        """
        with self._database.reading() as session:
            row, _, _ = own_submission_rows(session, name, caller)
            if row.artifact_sha256 is None:
                _check_awaits(row, name)
            return SubmittedArtifact(
                row.manifest["artifact_sha256"],
                complete=row.artifact_sha256 is not None,
                bundled=bool(row.manifest.get("files")),
            )

    def begin_upload(self, name: SubmissionName, caller: Principal, size_bytes: int) -> None:
        """Reserves storage for the artifact of the caller's submission; may be repeated.

        Raises:
            SubmissionNotFound, OwnerRequired: the caller has no such submission.
            SubmissionState: the submission does not await an artifact.
            QuotaExceeded: the organisation may not store so many bytes.
        """
        with self._database.writing() as session:
            row, _, _ = own_submission_rows(session, name, caller)
            session.refresh(row, with_for_update=True)
            _check_awaits(row, name)
            charge_upload(session, row, size_bytes, self._clock())

    def forget_upload(self, name: SubmissionName, caller: Principal) -> None:
        """Releases the storage that `begin_upload` reserved, after the upload was discarded.

        Raises:
            SubmissionNotFound, OwnerRequired: the caller has no such submission.
        """
        with self._database.writing() as session:
            row, _, _ = own_submission_rows(session, name, caller)
            row.declared_bytes = None

    def queue(
        self, name: SubmissionName, caller: Principal, size_bytes: int, keep: Callable[[], None]
    ) -> Submission:
        """Records the artifact and queues the submission, in one transaction.

        Args:
            name: a submission that awaits its artifact.
            caller: who uploaded it.
            size_bytes: the artifact's size.
            keep: gives the artifact's bytes their final name. Called last, so that nothing is kept
                when a check fails, and after its row was inserted: see `store.garbage`.

        Raises:
            SubmissionNotFound, OwnerRequired: the caller has no such submission.
            SubmissionState: the submission does not await an artifact, for example because another
                upload was faster; or it is a script whose wheelhouse is not stored.
            QuotaExceeded: the organisation may not store so many bytes.
        """
        now = self._clock()
        with self._database.writing() as session:
            row, benchmark, _ = own_submission_rows(session, name, caller)
            session.refresh(row, with_for_update=True)
            _check_awaits(row, name)
            if row.kind == Kind.SCRIPT and (missing := missing_parts(session, row)):
                message = f"{name} needs its {', '.join(missing)} to run; upload that file first"
                raise WrongState(message, field="header.submission", expected="all other files")
            sha256 = row.manifest["artifact_sha256"]
            charge_artifact(session, row, size_bytes, now)
            record_artifact(session, sha256, size_bytes, now)
            row.artifact_sha256 = sha256
            details = {"artifact_sha256": sha256}
            append(session, row, Change.QUEUED, caller.name, now, details=details)
            evaluation = queued_evaluation(row, now)
            session.add(evaluation)
            session.flush()
            keep()
            return submission_for((row, benchmark, evaluation), caller)

    def get(self, name: SubmissionName, caller: Principal) -> Submission:
        """A submission, redacted for the caller. Raises `SubmissionNotFound`."""
        with self._database.reading() as session:
            return submission_for(submission_rows(session, name, caller), caller)

    def page(
        self, parent: BenchmarkName | None, cursor: Cursor, caller: Principal, id_prefix: str = ""
    ) -> Page[Submission]:
        """The submissions that the caller may read, redacted for it, oldest first.

        Args:
            parent: their benchmark; None for all.
            cursor: the page.
            caller: who reads.
            id_prefix: how their ids begin.

        Raises:
            BenchmarkNotFound: there is no such benchmark.
            InvalidPageToken: the cursor is of another list.
        """
        with self._database.reading() as session:
            query = _with_latest().where(visible_to(caller))
            if parent:
                number = benchmark_row(session, parent).number
                query = query.where(SubmissionRow.benchmark_number == number)
            if id_prefix:  # a range, which the index on the ids finds
                last = id_prefix.ljust(32, "f")
                query = query.where(SubmissionRow.id.between(id_prefix, last))
            rows = session.execute(after(session, query, SubmissionRow, cursor)).all()
            return cursor.page([submission_for(row, caller) for row in rows], lambda item: item.id)

    def check_artifact(self, name: ArtifactName, caller: Principal) -> None:
        """Raises `ArtifactNotFound` unless the caller may download the artifact."""
        query = select(ArtifactRow.sha256).where(ArtifactRow.sha256 == name.sha256)
        with self._database.reading() as session:
            if session.scalar(query.where(artifacts_visible_to(caller))) is None:
                raise ArtifactNotFound(f"{name} is not stored here", name=name)

    def _publish_claim(
        self, session: Session, row: SubmissionRow, benchmark: BenchmarkRow, actor: str
    ) -> None:
        row.tier = Tier.CLAIMED
        event = append(session, row, Change.PUBLISHED, actor, row.create_time)
        sign_row(session, self._signer, row, benchmark, event)

    def _queue(self, session: Session, row: SubmissionRow, actor: str) -> EvaluationRow:
        """Queues a submission that needs no artifact."""
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


def submission_for(
    rows: _Rows | tuple[SubmissionRow, BenchmarkRow, EvaluationRow | None], caller: Principal
) -> Submission:
    """Returns the submission of its rows, redacted for the caller."""
    return redact_submission(records.submission(*rows), caller)


def kept_request_id(owner: str, request_id: str) -> str:
    """The form in which a request id is stored: different for each organisation, so that none can
    collide with another's or find out which ones another has used."""
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


def _check_repeats(earlier: SubmissionRow, manifest: Manifest, request_id: str) -> None:
    """Raises `RequestIdReused` if an earlier submission has another manifest."""
    if records.manifest(earlier.manifest) != manifest:
        message = f"request_id {request_id} was used for another manifest; use a new UUID"
        raise RequestIdReused(message, field="request_id", value=request_id, expected="a new UUID")


def _check_awaits(row: SubmissionRow, name: SubmissionName) -> None:
    expected = SubmissionState.AWAITING_ARTIFACT
    if row.state != expected:
        message = f"{name} is {row.state}; it takes an artifact only while it is {expected}"
        raise WrongState(message, field="header.submission", state=row.state, expected=expected)


def missing_parts(session: Session, row: SubmissionRow) -> list[Part]:
    """Returns the files that a manifest declares beside its artifact and that are not stored."""
    query = select(SubmissionPartRow.part).where(
        SubmissionPartRow.submission_number == row.number,
        SubmissionPartRow.artifact_sha256.is_not(None),
    )
    stored = set(session.scalars(query))
    return [part for part in parts(records.manifest(row.manifest)) if part not in stored]


def record_artifact(session: Session, sha256: str, size_bytes: int, now: datetime) -> None:
    """Records a stored artifact, unless it is recorded already."""
    insert_missing(
        session, ArtifactRow, [{"sha256": sha256, "size_bytes": size_bytes, "create_time": now}]
    )


def queued_evaluation(row: SubmissionRow, now: datetime) -> EvaluationRow:
    """A new, queued evaluation of a submission."""
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
        purpose=Purpose.MEASURE,
    )
