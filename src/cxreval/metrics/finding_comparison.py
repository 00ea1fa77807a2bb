"""The comparison of rows by each finding: paired over the replicates of the finding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from cxreval.metrics.ranking import Comparison, Entry, compare, holm
from cxreval.metrics.report import (
    NOT_COVERED,
    NOT_RECORDED,
    REPLICATES_UNDEFINED,
    UNDEFINED_SHARE,
    MetricValue,
)


@dataclass(frozen=True, slots=True)
class FindingComparison:
    """The comparison of two rows by one finding, or the reason why there is none.

    `comparison`: its adjusted p-value is after Holm's correction over all pairs and findings that
    are compared together.
    """

    finding: str
    first: str
    second: str
    comparison: Comparison | None
    undefined_reason: str = ""


def finding_entry(
    submission: str, figure: MetricValue | None, replicates: NDArray[np.float64] | None
) -> Entry | str:
    """Returns a row's score and replicates of a finding or the mean, or why it has none.

    `figure`: of the report; None if the report lacks it. `replicates`: shape
    (replicates,), None if they are not recorded.
    """
    if figure is None:
        return NOT_COVERED
    if figure.value is None:
        return figure.undefined_reason
    if replicates is None:
        return NOT_RECORDED
    if np.isnan(replicates).mean() > UNDEFINED_SHARE:
        return REPLICATES_UNDEFINED
    return Entry(submission, figure.value, replicates=replicates)


def compared_by_finding(
    submissions: Sequence[str], findings: Iterable[tuple[str, Mapping[str, Entry | str]]]
) -> tuple[FindingComparison, ...]:
    """Compares every pair of rows by each finding, in the order given.

    `findings`: each finding with the entry of each row, or the reason why the row has none. A pair
    has the reason of its first row, or else of its second.
    """
    pairs: list[FindingComparison] = []
    for finding, rows in findings:
        entries = [entry for entry in rows.values() if isinstance(entry, Entry)]
        compared = compare(entries) if entries else []
        by_pair = {(pair.first, pair.second): pair for pair in compared}
        for first, second in combinations(submissions, 2):
            reasons = [row for row in (rows[first], rows[second]) if isinstance(row, str)]
            pair = by_pair.get((first, second))
            pairs.append(FindingComparison(finding, first, second, pair, *reasons[:1]))
    raw = np.array([pair.comparison.p_value for pair in pairs if pair.comparison])
    adjusted = iter(holm(raw).tolist())
    return tuple(
        replace(pair, comparison=replace(pair.comparison, adjusted_p_value=next(adjusted)))
        if pair.comparison
        else pair
        for pair in pairs
    )
