"""What a replay and a reproduction found, in the words that the command line and the page show."""

from __future__ import annotations

from cxreval.records import Agreement, Verdict


def agreements(replay: Agreement | None, reproduction: Agreement | None) -> list[str]:
    """Returns a line for each of a row's latest replay and reproduction, the stronger first."""
    lines = [reproduced(reproduction)] if reproduction else []
    return [*lines, replayed(replay)] if replay else lines


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
