"""Benchmarks, the steps of their records and their changes, for programs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import date

from cxreval.audit.chain import AuditEvent
from cxreval.records import BenchmarkCard
from services.leaderboard.data import BoardData, BoardDay, event_time
from services.leaderboard.lookup import find_board
from services.leaderboard.parameters import Given, Parameters
from services.leaderboard.programs.answers import answer, api_address, following, utc
from services.leaderboard.programs.rows import change, direction, figures_of, row, step
from services.leaderboard.selection import board_at
from services.leaderboard.site import Content, SiteData
from services.leaderboard.templates import board_address

MAX_CHANGES = 500
MAX_PLACE = 999_999_999


def benchmarks(data: SiteData, _: dict[str, str], given: Given) -> Content:
    """Returns every benchmark in short."""
    as_of = Parameters(given, ("as_of",)).day("as_of")
    return answer(
        {
            "as_of": as_of,
            "read_time": utc(data.read_time),
            "benchmarks": [
                _short(data, board, board_at(data, board, as_of)) for board in data.boards.values()
            ],
        }
    )


def benchmark_facts(data: SiteData, path: dict[str, str], given: Given) -> Content:
    """Returns a benchmark with its rules, its card and the days on which its board changed."""
    board = find_board(data, path["benchmark"])
    as_of = Parameters(given, ("as_of",)).day("as_of")
    spec, retirement = board.spec, board.retirement
    return answer(
        {
            **_short(data, board, board_at(data, board, as_of)),
            "as_of": as_of,
            "read_time": utc(board.read_time),
            "audit_head": asdict(board.head),
            "digest": spec.digest,
            "list_sha256": spec.list_sha256,
            "labels_sha256": spec.labels_sha256,
            "scorer_version": spec.scorer_version,
            "replicates": spec.replicates,
            "slices": spec.slices,
            "step_rule": spec.steps,
            "ladder": spec.ladder,
            "metrics": [asdict(metric) for metric in spec.metrics],
            "card": _card(board.card) if board.card else None,
            "retirement": {
                "time": utc(retirement.time),
                "reason": retirement.reason,
                "superseded_by": retirement.superseded_by or None,
            }
            if retirement
            else None,
            "days": [day for day in board.days if as_of is None or day <= as_of],
        }
    )


def steps(data: SiteData, path: dict[str, str], given: Given) -> Content:
    """Returns the steps of the record, oldest first; those of claims have the tier `claimed`."""
    board = find_board(data, path["benchmark"])
    as_of = Parameters(given, ("as_of",)).day("as_of")
    return answer(
        {
            "benchmark": board.name,
            "as_of": as_of,
            "ranking_metric": board.spec.ranking_metric,
            "direction": direction(board.spec),
            "read_time": utc(board.read_time),
            "audit_head": asdict(board.head),
            "steps": [step(data, item) for item in board_at(data, board, as_of).steps],
        }
    )


def changes(data: SiteData, path: dict[str, str], given: Given) -> Content:
    """Returns the changes of a board, newest first."""
    board = find_board(data, path["benchmark"])
    return _changes(data, [board], f"{api_address(board.name)}/changes", given)


def all_changes(data: SiteData, _: dict[str, str], given: Given) -> Content:
    """Returns the changes of all boards, newest first."""
    return _changes(data, data.boards.values(), "/api/v1/changes", given)


def newest_changes(boards: Iterable[BoardData]) -> list[tuple[BoardData, AuditEvent]]:
    """Returns the changes of rows that anybody may read, each with its board, newest first."""
    found = [
        (board, event)
        for board in boards
        for event in board.changes
        if event.submission in board.submissions
    ]
    return sorted(found, key=lambda item: item[1].place, reverse=True)


def _changes(data: SiteData, boards: Iterable[BoardData], path: str, given: Given) -> Content:
    parameters = Parameters(given, ("as_of", "page_size", "page_token"))
    as_of = parameters.day("as_of")
    size = parameters.number("page_size", 100, MAX_CHANGES)
    # A token is the place of the last change: places never change, so it stays good.
    before = parameters.number("page_token", 0, MAX_PLACE)
    found = [
        (board, event)
        for board, event in newest_changes(boards)
        if _until(event, as_of) and (not before or event.place < before)
    ]
    token = str(found[size - 1][1].place) if len(found) > size else None
    return answer(
        {
            "as_of": as_of,
            "read_time": utc(data.read_time),
            "changes": [change(data, *item) for item in found[:size]],
            **following(data, path, given, token),
        }
    )


def _card(card: BenchmarkCard) -> dict[str, object]:
    """Returns a card; what it does not state is null."""
    return {name: value or None for name, value in asdict(card).items()}


def _until(event: AuditEvent, day: date | None) -> bool:
    return day is None or event_time(event).date() <= day


def _short(data: SiteData, board: BoardData, shown: BoardDay) -> dict[str, object]:
    spec = board.spec
    record = [shown.holder] if shown.holder else []
    records = [
        row(data, *item) for item in zip(record, figures_of(data, board, record), strict=True)
    ]
    return {
        "benchmark": spec.name,
        "title": spec.title,
        "page": data.public_url + board_address(spec.name),
        "synthetic": spec.synthetic,
        "image_count": spec.image_count,
        "patient_count": spec.patient_count,
        "findings": spec.findings,
        "ranking_metric": spec.ranking_metric,
        "direction": direction(spec),
        "retired": board.retirement is not None,
        "rows": len(shown.evidence_rows),
        "claims": len(shown.claims),
        "record": records[0] if records else None,
    }
