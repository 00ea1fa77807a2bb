"""The board: published submissions, ranked whenever they are read, so that it can never be stale.

Rows with evidence and rows that are only claimed are ranked apart, never together: claims have no
replicates to test.
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
from cxreval.metrics.report import UNDEFINED_SHARE, MetricValue
from cxreval.resource_names import SubmissionName
from services.registry.domain.records import Submission

PROFILE_DIGEST = "profile_digest"
"""Key of an evaluation's provenance: the digest of the preprocessing profile that was used."""

FEWEST_COMPARED, MOST_COMPARED = 2, 50


@dataclass(frozen=True, slots=True)
class RankedRow:
    """Where a published submission stands among its kind of rows. `score` is None when it is
    undefined.

    `sota`: it holds the record. Of rows that share the first rank only the one with the highest
    score does.
    """

    submission: str
    kind: Kind
    score: float | None
    place: Ranked
    sota: bool


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """The figures of a report over all images.

    A report never changes, so the cache returns the same object for it. Objects compare by identity
    and can be the keys of what is derived from them.
    """

    values: tuple[MetricValue, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the board.

    `figures`: what the report says, or what is claimed. `score`: the one of them that is ranked by;
    None for a claim
    that does not state it. `profile_digest`: of the preprocessing profile that was used; empty for
    a claim.
    """

    standing: RankedRow
    submission: Submission
    figures: Figures
    score: MetricValue | None
    profile_digest: str = ""


@dataclass(frozen=True, slots=True)
class Compared:
    """Every two of some rows, and how often each row has which rank.

    `frequencies`: shares by submission, rank 1 first. `undefined_replicates`: resamples that they
    leave out, because the score of every row is undefined there.
    """

    pairs: list[Comparison]
    frequencies: Mapping[str, tuple[float, ...]]
    undefined_replicates: int


def ranked_rows(
    evidence: Sequence[Entry], claims: Sequence[Entry], direction: Direction
) -> tuple[RankedRow, ...]:
    """Returns the order of the board: rows with evidence by rank, then claims by rank.

    The id of an entry is its submission's.
    """
    return (
        *_ranked_rows(Kind.CHECKPOINT, evidence, direction),
        *_ranked_rows(Kind.CLAIM, claims, direction),
    )


def sota_steps(board: Sequence[RankedRow]) -> tuple[RankedRow, ...]:
    """Returns the rows that broke the record, oldest first: evidence, then claims."""
    # Every step has a better score than the one before it, and the board has the best row first.
    steps = [row for row in reversed(board) if row.place.sota_step]
    return tuple(sorted(steps, key=lambda row: row.kind is Kind.CLAIM))


def board_row(
    standing: RankedRow,
    submission: Submission,
    reported: Figures | None,
    metric: str,
    profile_digest: str,
) -> Row:
    """A row of a board ranked by `metric`. `reported`: None for a claim."""
    figures = reported or Figures(claimed_metrics(submission))
    return Row(standing, submission, figures, macro(figures.values, metric), profile_digest)


def claimed_metrics(submission: Submission) -> tuple[MetricValue, ...]:
    """What a submission claims, as values without interval."""
    claims = submission.manifest.claimed_metrics
    return tuple(MetricValue(claim.metric, claim.finding, claim.value) for claim in claims)


def macro(values: Sequence[MetricValue], metric: str) -> MetricValue | None:
    """The macro mean of `metric` over all images; None when it is not among the values."""
    return next(
        (
            value
            for value in values
            if (value.metric, value.finding, value.slice) == (metric, "", "")
        ),
        None,
    )


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
    """Compares rows from their replicates, in the order given.

    Raises:
        NotComparable: an entry is a claim or has no score, or its score is undefined in some
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
    # Best first: the first row is the one that broke the record last, if it has a score at all.
    return [
        RankedRow(place.id, kind, scores[place.id], place, sota=index == 0 and place.sota_step)
        for index, place in enumerate(rank(entries, direction))
    ]
