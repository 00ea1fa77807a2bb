"""Ranks and state-of-the-art steps, as a pure function of entries.

Entries that were scored here have bootstrap replicates. All replicates of a benchmark come from the
same resamples, so the difference of two replicate vectors is the paired difference of two
submissions. Two submissions that the paired test cannot separate share a rank.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from itertools import combinations

import numpy as np
import scipy  # its parts are loaded when they are first used: half a second that no command waits for in vain
from numpy.typing import NDArray

from cxreval.errors import MalformedField
from cxreval.metrics.registry import Direction
from cxreval.metrics.report import UNDEFINED_SHARE

ALPHA = 0.05
"""Level of every test: two-sided, over all pairs that are looked at together."""

_ROUNDING = 1e-12
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_MONTH = re.compile(r"\d{4}-\d{2}", re.ASCII)


class Significance(StrEnum):
    """Whether a step of the state of the art is more than chance; `FIRST` had no record to beat."""

    FIRST = "first"
    SIGNIFICANT = "significant"
    WITHIN_NOISE = "within-noise"
    NOT_TESTED = "not-tested"


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A submission to rank.

    `score`: in the metric's own unit; None where it is undefined. `submitted_date`: `YYYY-MM-DD` or
    `YYYY-MM`. `replicates`: shape (replicates,), the score under each resample, NaN where it is
    undefined; None for a claim, which was not computed here. `finding_scores`: the score of each
    finding, for the rank by mean rank; empty when they are not known.
    """

    id: str
    score: float | None
    submitted_date: str
    replicates: NDArray[np.float64] | None = None
    finding_scores: tuple[float | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Ranked:
    """The rank of an entry.

    `rank`: 1 for the best, None without a score; shared by entries that the paired test cannot
    separate. `sota_step`: the entry broke the record; `significance`: whether by more than chance.
    `rank_low`, `rank_high`: range of the rank in 95 % of the resamples. `first_share`: share of the
    resamples in which the entry ranks first. These three are None without replicates, and where too
    many of the entry's are undefined. `undefined_replicates`: number of resamples that they leave
    out, because the score of every entry is undefined there. `mean_finding_rank`: mean over the
    findings of the rank by each; `finding_place`: rank by that mean. `places_disagree`: that rank
    differs from the rank by score, so the order depends on how the findings are combined.
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
    """Returns the last day that a date can mean, so that leaving out the day gains no precedence.

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
    expected = "YYYY-MM-DD or YYYY-MM"
    message = f"submitted_date is {submitted_date!r}; expected {expected}"
    raise MalformedField(message, field="submitted_date", value=submitted_date, expected=expected)


def rank(entries: Sequence[Entry], direction: Direction) -> list[Ranked]:
    """Ranks entries best first, equal scores by submission date and then by the order given.

    Entries without a score come last. With replicates, the rank of an entry is one more than the
    number of entries that the paired test finds better, and never better than that of an entry with
    a better score. Without replicates it is the position by score: a claim has no interval. An
    entry is a state-of-the-art step when its score is better than every score submitted before it.
    Of the entries of one day only the best can be one.

    Raises:
        MalformedField: a date is malformed, some entries have replicates and others not, or their
            lengths differ.
    """
    days = {entry.id: latest_day(entry.submitted_date) for entry in entries}
    entries = [_oriented(entry, direction) for entry in entries]
    scored = sorted(
        (one for one in entries if one.score is not None),
        key=lambda one: (-_score(one), days[one.id]),
    )
    unscored = [Ranked(entry.id, None) for entry in entries if entry.score is None]
    pairs = (
        _Pairs(scored) if scored and any(entry.replicates is not None for entry in scored) else None
    )
    places = np.arange(1, len(scored) + 1)
    ranks = (
        places
        if pairs is None
        else np.maximum.accumulate(1 + np.tril(pairs.separable()).sum(axis=1))
    )
    ranked = [Ranked(entry.id, int(place)) for entry, place in zip(scored, ranks, strict=True)]
    if pairs is not None:
        ranked = _with_spread(ranked, scored)
    ranked = _with_finding_ranks(ranked, scored)
    return _with_steps(ranked, scored, [days[entry.id] for entry in scored], pairs) + unscored


def compare(entries: Sequence[Entry]) -> list[Comparison]:
    """Returns the paired difference of every two entries, in the order given.

    The p-values are corrected over all of these pairs. The difference of two scores is taken as
    normal, with the standard deviation of the paired replicates' difference.

    Raises:
        MalformedField: an entry has no score or no replicates, or their lengths differ.
    """
    pairs = _Pairs(entries)
    adjusted, reach = pairs.adjusted_p_values(), scipy.special.ndtri(1 - ALPHA / 2) * pairs.errors
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
    """Holm's correction (Scandinavian Journal of Statistics 6, 1979) over all of these p-values, in
    their order."""
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
    1, 2, ...; its rows sum to 1. Entries that are equal in a resample share the better rank, and
    one that is undefined there comes last. A resample in which every entry is undefined says
    nothing about their order and is left out; the shares are NaN where that leaves none.

    Raises:
        MalformedField: as `compare`.
    """
    vectors = _vectors([_oriented(entry, direction) for entry in entries])
    kept = vectors[:, ~np.isnan(vectors).all(axis=0)]
    left_out = vectors.shape[1] - kept.shape[1]
    if not kept.size:
        return np.full((len(entries), len(entries)), np.nan), left_out
    kept = np.nan_to_num(kept, nan=-np.inf)
    ranks = scipy.stats.rankdata(-kept, method="min", axis=0).astype(np.intp)
    # Row by row, a histogram of the ranks: one more dimension would take entries x entries x
    # replicates.
    counts = np.stack([np.bincount(row - 1, minlength=len(entries)) for row in ranks])
    shares: NDArray[np.float64] = counts / kept.shape[1]
    return shares, left_out


def _oriented(entry: Entry, direction: Direction) -> Entry:
    """The entry with its figures turned so that higher is better."""
    if direction is Direction.HIGHER_IS_BETTER:
        return entry
    return replace(
        entry,
        score=None if entry.score is None else -entry.score,
        replicates=None if entry.replicates is None else -entry.replicates,
        finding_scores=tuple(None if score is None else -score for score in entry.finding_scores),
    )


class _Pairs:
    """Every pair of entries as square matrices: differences, their standard errors, p-values.

    A p-value is two-sided, and 1 where too many replicates are undefined.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        scores = np.array([_score(entry) for entry in entries])
        covariance = np.atleast_2d(np.cov(_defined(_vectors(entries))))
        variance = np.diag(covariance)
        self.differences = scores[:, np.newaxis] - scores
        # Rounding must not make the variance of the difference from a copy negative.
        self.errors = np.sqrt(np.maximum(variance[:, np.newaxis] + variance - 2 * covariance, 0))
        with np.errstate(divide="ignore", invalid="ignore"):
            self.p_values = np.nan_to_num(
                2 * scipy.special.ndtr(-np.abs(self.differences) / self.errors), nan=1.0
            )

    def adjusted_p_values(self) -> NDArray[np.float64]:
        """After Holm's correction over all pairs."""
        pairs = np.triu_indices(len(self.p_values), 1)
        adjusted = np.ones(self.p_values.shape)
        adjusted[pairs] = adjusted.T[pairs] = holm(self.p_values[pairs])
        return adjusted

    def separable(self) -> NDArray[np.bool_]:
        """Which pairs the corrected test tells apart."""
        return self.adjusted_p_values() < ALPHA


def _unreliable(vectors: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The entries that are undefined in too many resamples to say anything about them."""
    unreliable: NDArray[np.bool_] = np.isnan(vectors).mean(axis=1) > UNDEFINED_SHARE
    return unreliable


def _defined(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """The resamples in which every other entry is defined, NaN for the unreliable entries.

    A resample that draws no positive of a rare finding makes the macro of every entry undefined.
    """
    unreliable = _unreliable(vectors)
    kept = ~np.isnan(vectors[~unreliable]).any(axis=0)
    return np.where(unreliable[:, np.newaxis], np.nan, vectors)[:, kept]


def _vectors(entries: Sequence[Entry]) -> NDArray[np.float64]:
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
    return float("nan") if entry.score is None else entry.score


def _with_spread(ranked: Sequence[Ranked], entries: Sequence[Entry]) -> list[Ranked]:
    """Adds the range of each entry's rank over the resamples."""
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
    """Adds the rank by mean rank over the findings, among the entries that have a score for each of
    them."""
    known = [
        i
        for i, entry in enumerate(entries)
        if entry.finding_scores and None not in entry.finding_scores
    ]
    if not known or len({len(entries[i].finding_scores) for i in known}) > 1:
        return list(ranked)
    scores = np.array([entries[i].finding_scores for i in known], dtype=np.float64)
    means = scipy.stats.rankdata(-scores, axis=0).mean(axis=1)
    places = scipy.stats.rankdata(means, method="min").astype(int)
    # Places are compared among the same entries: those before it here are those with a better
    # score.
    by_score = scipy.stats.rankdata([-_score(entries[i]) for i in known], method="min").astype(int)
    result = list(ranked)
    for row, i in enumerate(known):
        result[i] = replace(
            result[i],
            mean_finding_rank=float(means[row]),
            finding_place=int(places[row]),
            places_disagree=bool(places[row] != by_score[row]),
        )
    return result


def _with_steps(
    ranked: Sequence[Ranked], entries: Sequence[Entry], days: Sequence[date], pairs: _Pairs | None
) -> list[Ranked]:
    """Marks the entries that broke the record of their day, and tests each against the record it
    broke."""
    result = list(ranked)
    holder: int | None = None
    # Entries come best first, so the first of a day is that day's best.
    for i in sorted(range(len(entries)), key=lambda i: days[i]):
        if holder is not None and _score(entries[i]) <= _score(entries[holder]):
            continue
        if holder is None:
            significance = Significance.FIRST
        elif pairs is None:
            significance = Significance.NOT_TESTED
        else:
            significant = pairs.p_values[i, holder] < ALPHA
            significance = Significance.SIGNIFICANT if significant else Significance.WITHIN_NOISE
        result[i] = replace(result[i], sota_step=True, significance=significance)
        holder = i
    return result
