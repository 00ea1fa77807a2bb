"""Who may see and change which submission: everybody what is or was on a board, an organisation all
of its own.

What somebody may not see does not exist for them: they get the very error that they would get for a
name nobody ever used. Ownership never changes and nothing that was public becomes hidden, so it is
enough to look once, before the call.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Row, exists, or_, select, true
from sqlalchemy.orm import Session

from cxreval.errors import (
    ArtifactNotFound,
    CxrevalError,
    EvaluationNotFound,
    OwnerRequired,
    SubmissionNotFound,
)
from cxreval.records import EvaluationState, Role
from cxreval.resource_names import ArtifactName, EvaluationName, SubmissionName
from services.chassis.principal import Principal
from services.registry.domain.records import WAS_ON_BOARD
from services.registry.store.database import Database
from services.registry.store.models import BenchmarkRow, EvaluationRow, SubmissionRow


def visible_to(who: Principal) -> ColumnElement[bool]:
    """The submissions that somebody sees."""
    if who.sees_everything:
        return true()
    public = SubmissionRow.state.in_(WAS_ON_BOARD)
    return (
        or_(public, SubmissionRow.organisation == who.organisation) if who.organisation else public
    )


class Tenancy:
    """Keeps what is one organisation's from the others."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def check_visible(self, who: Principal, *names: SubmissionName | EvaluationName) -> None:
        """Raises `SubmissionNotFound` or `EvaluationNotFound` for the first of `names` that `who`
        may not see."""
        if who.sees_everything:
            return
        with self._database.reading() as session:
            for name in names:
                if _seen(session, name, who) is None:
                    raise _not_found(name)

    def check_own(self, who: Principal, *names: SubmissionName) -> None:
        """Raises `SubmissionNotFound` for what they may not see, `OwnerRequired` for what is not
        theirs to change."""
        if Role.OPERATOR in who.roles:
            return
        with self._database.reading() as session:
            for name in names:
                found = _seen(session, name, who)
                if found is None:
                    raise _not_found(name)
                if not who.organisation or found.organisation != who.organisation:
                    message = f"{name} belongs to another organisation; expected one of your own"
                    raise OwnerRequired(message, name=name, expected="a submission of your own")

    def check_artifact(self, who: Principal, name: ArtifactName) -> None:
        """Raises `ArtifactNotFound` unless it is stored for a submission of theirs, or they run
        submissions."""
        if who.sees_everything:
            return
        own = (SubmissionRow.organisation == who.organisation) & (
            SubmissionRow.artifact_sha256 == name.sha256
        )
        with self._database.reading() as session:
            if not who.organisation or not session.scalar(select(exists().where(own))):
                raise ArtifactNotFound(f"{name} is not stored here", name=name)


def _seen(
    session: Session, name: SubmissionName | EvaluationName, who: Principal
) -> Row[str | None] | None:
    query = select(SubmissionRow.organisation).join(
        BenchmarkRow, BenchmarkRow.number == SubmissionRow.benchmark_number
    )
    of_it = (SubmissionRow.id == name.submission) & (BenchmarkRow.id == name.benchmark)
    found = session.execute(query.where(of_it, visible_to(who))).one_or_none()
    if found is None or isinstance(name, SubmissionName) or who.knows(found.organisation or ""):
        return found
    # Of a public row's runs, strangers know the one behind it.
    run = (EvaluationRow.id == name.evaluation) & (EvaluationRow.state == EvaluationState.SUCCEEDED)
    return found if session.scalar(select(exists().where(run))) else None


def _not_found(name: SubmissionName | EvaluationName) -> CxrevalError:
    kind = EvaluationNotFound if isinstance(name, EvaluationName) else SubmissionNotFound
    return kind(f"{name} does not exist here", name=name)
