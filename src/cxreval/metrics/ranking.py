"""Computes ranks, comparisons and state-of-the-art steps of a board's entries.

Entries that were scored by the system have bootstrap replicates. All replicates of a benchmark come
from the same resamples, so the difference of two replicate vectors is the paired difference of two
submissions. Two submissions that the paired test cannot separate share a rank.
"""

from __future__ import annotations

import calendar
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from cxreval.errors import MalformedField
from cxreval.fields import field_error
from cxreval.metrics.ranks import lowest_ranks, mean_ranks
from cxreval.metrics.registry import Direction
from cxreval.metrics.report import UNDEFINED_SHARE

ALPHA = 0.05
"""Significance level of every test: two-sided, over all pairs that are compared together."""

QUANTILE_975 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution: half the width of a 95 % interval."""

_ROUNDING = 1e-12
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_MONTH = re.compile(r"\d{4}-\d{2}", re.ASCII)


class Significance(StrEnum):
    """Whether a step of the state of the art is significant; `FIRST` is the first score of all."""

    FIRST = "first"
    SIGNIFICANT = "significant"
    WITHIN_NOISE = "within-noise"
    NOT_TESTED = "not-tested"


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A submission to rank.

    `score`: in the metric's own unit; None if it is undefined. `since`: orders entries of equal
    scores and decides the steps of the state of the art: the time of publication of a row with
    evidence, the day of a claim (`latest_day`); all entries that are ranked together have the same
    type. `replicates`: shape (replicates,), the score under each resample, NaN where it is
    undefined; None for a claim, which has no run. `finding_scores`: the score of each finding, for
    the rank by mean rank; empty if they are unknown. `counts`: whether the entry's step counts; one
    that does not raises no later entry's bar.
    """

    id: str
    score: float | None
    since: date = date.min
    replicates: NDArray[np.float64] | None = None
    finding_scores: tuple[float | None, ...] = ()
    counts: bool = True


@dataclass(frozen=True, slots=True)
class Ranked:
    """The rank of an entry.

    `rank`: 1 for the best, None without a score; shared by entries that the paired test cannot
    separate. `sota_step`: the entry exceeded the state of the art of its time; `significance`:
    whether the difference is significant. `not_counted`: the step does not count, because of the
    entry's `counts`; such an entry exceeded every entry of its time.

    `rank_low`, `rank_high`: range of the rank in 95 % of the resamples. `first_share`: share of the
    resamples in which the entry ranks first. These three are None without replicates, and where too
    many of the entry's replicates are undefined. `undefined_replicates`: number of resamples that
    are left out, because the score of every entry is undefined there.

    `mean_finding_rank`: mean of the entry's ranks by each finding; `finding_place`: rank by that
    mean. `places_disagree`: that rank differs from the rank by score, so the order depends on how
    the findings are combined.
    """

    id: str
    rank: int | None
    sota_step: bool = False
    significance: Significance | None = None
    rank_low: int | None = None
    rank_high: int | None = None
    first_share: float | None = None
    mean_finding_rank: float | None = None
    finding_place: int | None = None
    places_disagree: bool = False
    undefined_replicates: int = 0
    not_counted: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """The paired difference of two entries, `first` minus `second`, with its 95 % interval.

    `p_value`: two-sided; `adjusted_p_value`: after Holm's correction over all pairs compared
    together. `separable`: the adjusted value is below 5 %.
    """

    first: str
    second: str
    difference: float
    low: float
    high: float
    p_value: float
    adjusted_p_value: float

    @property
    def separable(self) -> bool:
        """Whether the test separates the two."""
        return self.adjusted_p_value < ALPHA


def latest_day(submitted_date: str) -> date:
    """Returns the date, or the last day of its month if it has no day.

    So a submission gains no precedence by leaving out the day.

    Raises:
        MalformedField: it is neither `YYYY-MM-DD` nor `YYYY-MM`.
    """
    try:
        if _DAY.fullmatch(submitted_date):
            return date.fromisoformat(submitted_date)
        if _MONTH.fullmatch(submitted_date):
            first = date.fromisoformat(f"{submitted_date}-01")
            return first.replace(day=calendar.monthrange(first.year, first.month)[1])
    except ValueError:
        pass
    raise field_error("submitted_date", submitted_date, "YYYY-MM-DD or YYYY-MM")


def rank(entries: Sequence[Entry], direction: Direction) -> list[Ranked]:
    """Returns the ranks of entries, best first; of equal scores, the earliest is first.

    Entries without a score come last. With replicates, the rank of an entry is one more than the
    number of entries that are better by the paired test, and never better than the rank of an entry
    with a better score. Without replicates it is the position by score, because a claim has no
    interval. An entry is a state-of-the-art step if its score is better than every score before
    it; of entries with the same `since`, only the best can be a step.

    Raises:
        MalformedField: some entries have replicates and others not, or their lengths differ.
    """
    entries = [_oriented(entry, direction) for entry in entries]
    scored = sorted(
        (entry for entry in entries if entry.score is not None),
        key=lambda entry: (-_score(entry), entry.since),
    )
    unscored = [Ranked(entry.id, None) for entry in entries if entry.score is None]
    pairs = (
        _Pairs(scored) if scored and any(entry.replicates is not None for entry in scored) else None
    )
    positions = np.arange(1, len(scored) + 1)
    ranks = (
        positions
        if pairs is None
        else np.maximum.accumulate(1 + np.tril(pairs.separable()).sum(axis=1))
    )
    ranked = [Ranked(entry.id, int(number)) for entry, number in zip(scored, ranks, strict=True)]
    if pairs is not None:
        ranked = _with_spread(ranked, scored)
    ranked = _with_finding_ranks(ranked, scored)
    return _with_steps(ranked, scored, pairs) + unscored


def compare(entries: Sequence[Entry]) -> list[Comparison]:
    """Returns the paired difference of every two entries, in the order given.

    The p-values are corrected over all of these pairs. The difference of two scores is taken as
    normal, with the standard deviation of the differences of their replicates.

    Raises:
        MalformedField: an entry has no score or no replicates, or their lengths differ.
    """
    pairs = _Pairs(entries)
    adjusted, reach = pairs.adjusted_p_values(), QUANTILE_975 * pairs.errors
    return [
        Comparison(
            first=entries[i].id,
            second=entries[j].id,
            difference=float(pairs.differences[i, j]),
            low=float(pairs.differences[i, j] - reach[i, j]),
            high=float(pairs.differences[i, j] + reach[i, j]),
            p_value=float(pairs.p_values[i, j]),
            adjusted_p_value=float(adjusted[i, j]),
        )
        for i, j in combinations(range(len(entries)), 2)
    ]


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns p-values after Holm's correction over all of them, in the same order.

    Holm, Scandinavian Journal of Statistics 6, 1979.
    """
    order = np.argsort(p_values)
    adjusted = np.empty(order.size)
    adjusted[order] = np.minimum(
        np.maximum.accumulate(p_values[order] * np.arange(order.size, 0, -1)), 1
    )
    return adjusted


def rank_frequencies(
    entries: Sequence[Entry], direction: Direction
) -> tuple[NDArray[np.float64], int]:
    """Returns how often each entry has each rank, and the number of resamples that are left out.

    The first has shape (entries, entries): the share of the resamples in which an entry has rank
    1, 2, ...; its rows sum to 1. Entries that are equal in a resample share the better rank, and an
    entry that is undefined there ranks last. Resamples in which every entry is undefined are left
    out; if no other is left, the shares are NaN.

    Raises:
        MalformedField: as `compare`.
    """
    vectors = _vectors([_oriented(entry, direction) for entry in entries])
    kept = vectors[:, ~np.isnan(vectors).all(axis=0)]
    left_out = vectors.shape[1] - kept.shape[1]
    if not kept.size:
        return np.full((len(entries), len(entries)), np.nan), left_out
    kept = np.nan_to_num(kept, nan=-np.inf)
    ranks = lowest_ranks(-kept)
    # One histogram for each entry: all at once would take memory for entries x entries x
    # replicates.
    counts = np.stack([np.bincount(row - 1, minlength=len(entries)) for row in ranks])
    shares: NDArray[np.float64] = counts / kept.shape[1]
    return shares, left_out


def _oriented(entry: Entry, direction: Direction) -> Entry:
    """Returns the entry with its figures negated if lower is better."""
    if direction is Direction.HIGHER_IS_BETTER:
        return entry
    return replace(
        entry,
        score=None if entry.score is None else -entry.score,
        replicates=None if entry.replicates is None else -entry.replicates,
        finding_scores=tuple(None if score is None else -score for score in entry.finding_scores),
    )


class _Pairs:
    """Differences, standard errors and p-values of all pairs of entries, as square matrices.

    A p-value is two-sided; it is 1 where too many replicates are undefined.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        scores = np.array([_score(entry) for entry in entries])
        covariance = np.atleast_2d(np.cov(_defined(_vectors(entries))))
        variance = np.diag(covariance)
        self.differences = scores[:, np.newaxis] - scores
        # For equal entries, rounding may make the variance of the difference negative.
        self.errors = np.sqrt(np.maximum(variance[:, np.newaxis] + variance - 2 * covariance, 0))
        pairs = np.triu_indices(len(scores), 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            deviations = np.abs(self.differences[pairs]) / self.errors[pairs]
        # The probability of both tails of a normal distribution is erfc(z / sqrt(2)).
        tails = np.fromiter(map(math.erfc, deviations * math.sqrt(0.5)), np.float64)
        self.p_values = np.ones(covariance.shape)
        self.p_values[pairs] = self.p_values.T[pairs] = np.nan_to_num(tails, nan=1.0)

    def adjusted_p_values(self) -> NDArray[np.float64]:
        """Returns the p-values after Holm's correction over all pairs."""
        pairs = np.triu_indices(len(self.p_values), 1)
        adjusted = np.ones(self.p_values.shape)
        adjusted[pairs] = adjusted.T[pairs] = holm(self.p_values[pairs])
        return adjusted

    def separable(self) -> NDArray[np.bool_]:
        """Returns which pairs the corrected test separates."""
        return self.adjusted_p_values() < ALPHA


def _unreliable(vectors: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Returns which entries are undefined in too many resamples for a statement about them."""
    unreliable: NDArray[np.bool_] = np.isnan(vectors).mean(axis=1) > UNDEFINED_SHARE
    return unreliable


def _defined(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the resamples in which every reliable entry is defined; unreliable entries are NaN.

    In a resample without a positive of a rare finding, the macro mean of every entry is undefined.
    """
    unreliable = _unreliable(vectors)
    kept = ~np.isnan(vectors[~unreliable]).any(axis=0)
    return np.where(unreliable[:, np.newaxis], np.nan, vectors)[:, kept]


def _vectors(entries: Sequence[Entry]) -> NDArray[np.float64]:
    """Returns the replicates, shape (entries, replicates).

    Raises:
        MalformedField: an entry has no score or no replicates, or their lengths differ.
    """
    vectors = [
        entry.replicates
        for entry in entries
        if entry.score is not None and entry.replicates is not None
    ]
    if len(vectors) < len(entries) or len({vector.size for vector in vectors}) > 1:
        expected = "a score and equally many replicates for each entry"
        raise MalformedField(
            f"entries differ in their replicates; expected {expected}",
            field="entries.replicates",
            expected=expected,
        )
    return np.stack(vectors)


def _score(entry: Entry) -> float:
    """Returns the score, NaN if there is none."""
    return float("nan") if entry.score is None else entry.score


def _with_spread(ranked: Sequence[Ranked], entries: Sequence[Entry]) -> list[Ranked]:
    """Returns the entries with the range of their ranks over the resamples."""
    frequencies, left_out = rank_frequencies(entries, Direction.HIGHER_IS_BETTER)
    unreliable = _unreliable(_vectors(entries))
    reached = np.cumsum(frequencies, axis=1)
    low = 1 + np.argmax(reached >= ALPHA / 2 - _ROUNDING, axis=1)
    high = 1 + np.argmax(reached >= 1 - ALPHA / 2 - _ROUNDING, axis=1)
    return [
        replace(
            entry,
            rank_low=None if unreliable[i] else int(low[i]),
            rank_high=None if unreliable[i] else int(high[i]),
            first_share=None if unreliable[i] else float(frequencies[i, 0]),
            undefined_replicates=left_out,
        )
        for i, entry in enumerate(ranked)
    ]


def _with_finding_ranks(ranked: Sequence[Ranked], entries: Sequence[Entry]) -> list[Ranked]:
    """Returns the entries with their rank by mean rank over the findings.

    It is a rank among the entries that have a score for each finding; the others have none.
    """
    known = [
        i
        for i, entry in enumerate(entries)
        if entry.finding_scores and None not in entry.finding_scores
    ]
    if not known or len({len(entries[i].finding_scores) for i in known}) > 1:
        return list(ranked)
    scores = np.array([entries[i].finding_scores for i in known], dtype=np.float64)
    means = mean_ranks(-scores).mean(axis=1)
    by_mean = lowest_ranks(means)
    # Both ranks must be among the same entries to be compared.
    by_score = lowest_ranks(np.array([-_score(entries[i]) for i in known]))
    result = list(ranked)
    for row, i in enumerate(known):
        result[i] = replace(
            result[i],
            mean_finding_rank=float(means[row]),
            finding_place=int(by_mean[row]),
            places_disagree=bool(by_mean[row] != by_score[row]),
        )
    return result


def _with_steps(
    ranked: Sequence[Ranked], entries: Sequence[Entry], pairs: _Pairs | None
) -> list[Ranked]:
    """Returns the entries with the state-of-the-art steps marked and tested.

    Each step is tested against the best entry before it: a step that counts against the best of the
    entries that count, any other against the best of all.
    """
    result = list(ranked)
    best: int | None = None
    best_of_all: int | None = None
    # The sort is stable and entries come best first, so the first of a time is its best.
    for i in sorted(range(len(entries)), key=lambda i: entries[i].since):
        counts, score = entries[i].counts, _score(entries[i])
        bar = best if counts else best_of_all
        if bar is None or score > _score(entries[bar]):
            result[i] = replace(
                result[i],
                sota_step=True,
                significance=_significance(i, bar, pairs),
                not_counted=not counts,
            )
            best = i if counts else best
        if best_of_all is None or score > _score(entries[best_of_all]):
            best_of_all = i
    return result


def _significance(entry: int, bar: int | None, pairs: _Pairs | None) -> Significance:
    """Returns whether an entry is significantly better than the best one before it."""
    if bar is None:
        return Significance.FIRST
    if pairs is None:
        return Significance.NOT_TESTED
    significant = pairs.p_values[entry, bar] < ALPHA
    return Significance.SIGNIFICANT if significant else Significance.WITHIN_NOISE
