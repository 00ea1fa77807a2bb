"""What a replay and a reproduction found, in the words that the command line and the page show."""

from __future__ import annotations

from cxreval.manifest.model import Kind
from cxreval.records import Agreement, Verdict


def agreements(kind: Kind, replay: Agreement | None, reproduction: Agreement | None) -> list[str]:
    """Returns a line for each of a row's latest replay and reproduction, the stronger first."""
    lines = [reproduced(reproduction)] if reproduction else []
    if replay is None:
        return lines
    return [*lines, asked_again(replay) if kind is Kind.ENDPOINT else replayed(replay)]


def asked_again(found: Agreement) -> str:
    """Returns the line of an endpoint, for example `changed since 2026-11-30: max |Δp| 0.12 for
    Mass, image 00000001_000.png; at most 0.002 agrees (64 of 25,596 images asked again
    2026-12-30)`."""
    asked = f"{found.images:,} of {found.images_total:,} images asked again {_day(found)}"
    since = f"{found.differed_since or found.time:%Y-%m-%d}"
    if found.verdict is Verdict.DIFFERS:
        return f"changed since {since}: {_difference(found)} ({asked})"
    again = f", as before its change of {since}" if found.differed_since else ""
    return f"{asked}: the same predictions{again}, {_largest(found)}"


def replayed(found: Agreement) -> str:
    """Returns the line of a replay, for example `replayed 2026-11-30, bit-identical`."""
    if found.verdict is Verdict.DIFFERS:
        return f"a replay on {_day(found)} gave other predictions: {_difference(found)}"
    figure = "bit-identical" if found.bit_identical else _largest(found)
    return f"replayed {_day(found)}, {figure}"


def reproduced(found: Agreement) -> str:
    """Returns the line of a reproduction, for example `reproduced on 512 of 25,596 images, max
    |Δp| 3e-06 (2026-11-30)`."""
    images = f"{found.images:,} of {found.images_total:,} images"
    if found.verdict is Verdict.DIFFERS:
        line = f"their script gave other numbers on {images}: {_difference(found)} ({_day(found)})"
    else:
        line = f"reproduced on {images}, {_largest(found)} ({_day(found)})"
    if found.score_difference is not None and found.max_difference:
        line += f"; score {100 * found.score_difference:+.3f}"
    if found.flagged:
        line += f"; flagged: {found.canaries_flagged} of {found.canaries} canaries moved too far"
    return line


def _largest(found: Agreement) -> str:
    return f"max |Δp| {found.max_difference:.2g}"


def _difference(found: Agreement) -> str:
    where = f"for {found.worst_finding}, image {found.worst_image}"
    return f"{_largest(found)} {where}; at most {found.tolerance:g} agrees"


def _day(found: Agreement) -> str:
    return f"{found.time:%Y-%m-%d}"
