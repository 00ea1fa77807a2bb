"""Atom feeds: steps of the record, new rows, corrections and withdrawals, newest first."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET  # only written, never read

from cxreval.audit.chain import AuditEvent
from cxreval.records import Change, Tier
from services.leaderboard.data import BoardData, event_time
from services.leaderboard.figures import estimate, measure_of
from services.leaderboard.lookup import find_board, row_of
from services.leaderboard.parameters import Given, Parameters
from services.leaderboard.programs.answers import rfc3339
from services.leaderboard.programs.benchmarks import newest_changes
from services.leaderboard.site import Content, SiteData
from services.leaderboard.templates import board_address, submission_address

MAX_ENTRIES = 100
_ATOM = "http://www.w3.org/2005/Atom"
_EPOCH = datetime.fromtimestamp(0, UTC)
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NOT_HOST = re.compile(r"[^A-Za-z0-9.-]")

_TITLES = {
    Change.PUBLISHED: "New row",
    Change.DISPUTED: "Disputed",
    Change.RESOLVED: "Dispute resolved",
    Change.CORRECTED: "Corrected",
    Change.SUPERSEDED: "Replaced by another row",
    Change.WITHDRAWN: "Withdrawn",
    Change.REINSTATED: "On the board again",
    Change.REPLAYED: "Replayed",
    Change.REPLAY_DIFFERED: "A second run gave other predictions",
    Change.REPRODUCED: "Reproduced",
    Change.NOT_REPRODUCED: "The submitter's script gave other predictions",
}


def feed(data: SiteData, _: dict[str, str], given: Given) -> Content:
    """Returns the feed of all boards."""
    Parameters(given, ())
    return _feed(data, data.boards.values(), "/feed.atom", "/", "cxreval: all boards")


def board_feed(data: SiteData, path: dict[str, str], given: Given) -> Content:
    """Returns the feed of one board."""
    board = find_board(data, path["benchmark"])
    Parameters(given, ())
    page = board_address(board.name)
    return _feed(data, [board], f"{page}/feed.atom", page, f"cxreval: {board.spec.title}")


def _feed(
    data: SiteData, boards: Iterable[BoardData], address: str, page: str, title: str
) -> Content:
    changes = newest_changes(boards)[:MAX_ENTRIES]
    latest = max((event_time(event) for _, event in changes), default=data.read_time or _EPOCH)
    root = ET.Element("feed", xmlns=_ATOM)
    _add(root, "id", _tag(data, address))
    _add(root, "title", title)
    _add(root, "updated", rfc3339(latest))
    _add(root, "link", rel="self", href=data.public_url + address, type="application/atom+xml")
    _add(root, "link", rel="alternate", href=data.public_url + page, type="text/html")
    _add(_add(root, "author"), "name", "cxreval")
    for board, event in changes:
        _entry(root, data, board, event)
    text = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return Content(text, "application/atom+xml; charset=utf-8")


def _entry(root: ET.Element, data: SiteData, board: BoardData, event: AuditEvent) -> None:
    manifest = board.submissions[event.submission].manifest
    kind, what = _described(board, event)
    time = rfc3339(event_time(event))
    entry = _add(root, "entry")
    _add(entry, "id", _tag(data, f"/{event.submission}/events/{event.version}"))
    _add(entry, "title", f"{kind}: {manifest.model} ({manifest.organisation})")
    _add(entry, "updated", time)
    _add(entry, "published", time)
    page = data.public_url + submission_address(event.submission)
    _add(entry, "link", rel="alternate", href=page, type="text/html")
    _add(entry, "category", term="step" if kind == "Step of the record" else event.change)
    _add(entry, "summary", what)


def _described(board: BoardData, event: AuditEvent) -> tuple[str, str]:
    """Returns the kind of a change, and a sentence about it."""
    kind, place = _TITLES[Change(event.change)], f"Board: {board.spec.title}."
    reason = f" Reason: {event.reason}." if event.reason else ""
    entry = row_of(board, event.submission)
    if event.change != Change.PUBLISHED or entry is None:
        return kind, place + reason
    measure = measure_of(board.spec.ranking_metric)
    score = f"{measure.unit} {measure.written(entry.score)}"
    if entry.interval:
        score += f" ({measure.interval(estimate(entry))})"
    if entry.tier is Tier.CLAIMED:
        return "New claim", f"{place} Claimed: {score}. Nothing was run here."
    if any(step.submission == event.submission and not step.not_counted for step in board.steps):
        kind = "Step of the record"
    return kind, f"{place} {score}, {entry.tier}."


def _add(parent: ET.Element, name: str, text: str = "", **attributes: str) -> ET.Element:
    """Adds an element; characters that XML cannot hold are left out of its text."""
    element = ET.SubElement(parent, name, {key: _plain(it) for key, it in attributes.items()})
    element.text = _plain(text) or None
    return element


def _plain(text: str) -> str:
    return _NOT_XML.sub("", text)


def _tag(data: SiteData, name: str) -> str:
    """Returns an identifier that stays when addresses change (RFC 4151)."""
    host = _NOT_HOST.sub("-", urlsplit(data.public_url).hostname or "localhost")
    return f"tag:{host},2026:{name}"
