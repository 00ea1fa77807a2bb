"""Limits a query to one page of a list, oldest first."""

from __future__ import annotations

from typing import Any, TypeVar

from sqlalchemy import Select
from sqlalchemy.orm import Session

from services.registry.domain.pages import Cursor
from services.registry.store.models import (
    ApiKeyRow,
    BenchmarkRow,
    EvaluationRow,
    EventRow,
    OrganisationRow,
    RescoreRow,
    SubmissionRow,
)

S = TypeVar("S", bound=Select[*tuple[Any, ...]])


def after(
    session: Session,
    query: S,
    table: type[
        BenchmarkRow
        | SubmissionRow
        | EvaluationRow
        | EventRow
        | OrganisationRow
        | ApiKeyRow
        | RescoreRow
    ],
    cursor: Cursor,
    *,
    newest_first: bool = False,
) -> S:
    """`query` for the rows after the cursor's row, and one more than the page holds.

    Raises:
        InvalidPageToken: the cursor's row is not in this list.
    """
    if cursor.after:
        number = session.scalar(
            query.with_only_columns(table.number).where(table.id == cursor.after)
        )
        if number is None:
            raise cursor.invalid()
        query = query.where(table.number < number if newest_first else table.number > number)
    order = table.number.desc() if newest_first else table.number
    return query.order_by(order).limit(cursor.size + 1)
