"""The board of a benchmark: its published submissions, ranked.

An *entry* (`Entry`) is the input of the ranking: a submission's score and replicates. A *rank*
(`Ranked`) is its output for one entry. A *row* is one published submission on a board: `RankedRow`
is a row in the order of the board, and `Row` is the same row with everything that is shown.

Rows with evidence and claims are ranked separately, because claims have no replicates to test. A
board is ranked when it is read, so it is always up to date.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cxreval.errors import NotComparable
from cxreval.fields import field_error
from cxreval.manifest.model import Kind
from cxreval.metrics.ranking import Comparison, Entry, Ranked, compare, rank, rank_frequencies
from cxreval.metrics.registry import Direction
from cxreval.metrics.report import UNDEFINED_SHARE, MetricValue, macro
from cxreval.resource_names import SubmissionName
from services.registry.domain.records import Submission

PROFILE_DIGEST = "profile_digest"
"""Key of an evaluation's provenance: the digest of the preprocessing profile that was used."""

FEWEST_COMPARED, MOST_COMPARED = 2, 50


@dataclass(frozen=True, slots=True)
class RankedRow:
    """A row in the order of the board: a submission and its rank.

    `kind`: `CLAIM` for a claim, `CHECKPOINT` for every row with evidence. `score`: None if it is
    undefined. `sota`: the row is the state of the art. If several rows share rank 1, only the one
    with the best score is.
    """

    submission: str
    kind: Kind
    score: float | None
    ranked: Ranked
    sota: bool


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """The values of a report over all images, or those of a claim.

    Instances are compared by identity. A report never changes and its figures are cached, so an
    instance can be the key of a cache.
    """

    values: tuple[MetricValue, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the board with everything that is shown.

    `score`: the one of `figures` that ranks the board; None for a claim that does not state it.
    `profile_digest`: of the preprocessing profile that was used; empty for a claim.
    """

    ranked_row: RankedRow
    submission: Submission
    figures: Figures
    score: MetricValue | None
    profile_digest: str = ""


@dataclass(frozen=True, slots=True)
class Compared:
    """The comparison of every pair of some rows, and how often each row has each rank.

    `frequencies`: shares of the resamples by submission, rank 1 first. `undefined_replicates`:
    number of resamples that the shares leave out, because the score of every row is undefined
    there.
    """

    pairs: list[Comparison]
    frequencies: Mapping[str, tuple[float, ...]]
    undefined_replicates: int


def ranked_rows(
    evidence: Sequence[Entry], claims: Sequence[Entry], direction: Direction
) -> tuple[RankedRow, ...]:
    """Returns the rows of a board in order: rows with evidence by rank, then claims by rank.

    The id of an entry is its submission's.
    """
    return (
        *_ranked_rows(Kind.CHECKPOINT, evidence, direction),
        *_ranked_rows(Kind.CLAIM, claims, direction),
    )


def sota_steps(board: Sequence[RankedRow]) -> tuple[RankedRow, ...]:
    """Returns the steps of the state of the art, oldest first: evidence, then claims."""
    # Every step has a better score than the one before it, and the board has the best row first.
    steps = [row for row in reversed(board) if row.ranked.sota_step]
    return tuple(sorted(steps, key=lambda row: row.kind is Kind.CLAIM))


def board_row(
    ranked_row: RankedRow,
    submission: Submission,
    reported: Figures | None,
    metric: str,
    profile_digest: str,
) -> Row:
    """Returns a row of a board that is ranked by `metric`. `reported` is None for a claim."""
    figures = reported or Figures(claimed_metrics(submission))
    return Row(ranked_row, submission, figures, macro(figures.values, metric), profile_digest)


def claimed_metrics(submission: Submission) -> tuple[MetricValue, ...]:
    """Returns the figures that a submission claims, as values without interval."""
    claims = submission.manifest.claimed_metrics
    return tuple(MetricValue(claim.metric, claim.finding, claim.value) for claim in claims)


def check_compared(names: Sequence[SubmissionName], benchmark: str) -> None:
    """Raises `MalformedField` unless they are 2 to 50 different submissions of the benchmark."""
    if not FEWEST_COMPARED <= len(names) <= MOST_COMPARED or len(set(names)) < len(names):
        expected = f"{FEWEST_COMPARED} to {MOST_COMPARED} different submissions"
        raise field_error("submissions", f"a list of {len(names)}", expected)
    for index, name in enumerate(names):
        if name.benchmark != benchmark:
            raise field_error(
                f"submissions[{index}]", name, f"a submission of benchmarks/{benchmark}"
            )


def compared(entries: Sequence[Entry], direction: Direction) -> Compared:
    """Compares entries by their replicates; the result keeps their order.

    Raises:
        NotComparable: an entry is a claim or has no score, or its score is undefined in too many
            resamples.
    """
    for entry in entries:
        problem = _not_comparable(entry)
        if problem:
            raise NotComparable(
                f"submission {entry.id} cannot be compared: {problem}",
                field="submissions",
                value=entry.id,
            )
    frequencies, undefined = rank_frequencies(entries, direction)
    shares = {
        entry.id: tuple(row.tolist()) for entry, row in zip(entries, frequencies, strict=True)
    }
    return Compared(compare(entries), shares, undefined)


def _not_comparable(entry: Entry) -> str:
    """Returns why an entry cannot be compared; empty if it can."""
    if entry.score is None:
        return "it has no score"
    if entry.replicates is None:
        return "its score was not computed here"
    undefined = int(np.isnan(entry.replicates).sum())
    if undefined <= UNDEFINED_SHARE * entry.replicates.size:
        return ""
    return f"its score is undefined in {undefined} of {entry.replicates.size} resamples"


def _ranked_rows(kind: Kind, entries: Sequence[Entry], direction: Direction) -> list[RankedRow]:
    scores = {entry.id: entry.score for entry in entries}
    # Best first: the first row is the newest step of the state of the art, if it has a score.
    return [
        RankedRow(ranked.id, kind, scores[ranked.id], ranked, sota=index == 0 and ranked.sota_step)
        for index, ranked in enumerate(rank(entries, direction))
    ]
