"""Decides whether a further submission of an organisation may learn its figures.

The rule is the parameter-free Ladder of Blum and Hardt (ICML 2015): a figure is released only if
it is better than the best one released before by more than the noise of their paired difference.
Here that noise is the one of the board: the difference must be significant in the paired test.
Without the rule, an organisation could fit the test labels through the figures of many submissions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxreval.metrics.ranking import ALPHA, Entry, compare
from cxreval.metrics.registry import Direction
from cxreval.metrics.report import UNDEFINED_SHARE


@dataclass(frozen=True, slots=True, eq=False)
class FindingScore:
    """A metric of one finding with its replicates, shape (replicates,)."""

    score: float
    replicates: NDArray[np.float64]

    @property
    def comparable(self) -> bool:
        """Whether the metric is defined in enough resamples."""
        return bool(np.isnan(self.replicates).mean() <= UNDEFINED_SHARE)


Scores = Mapping[str, FindingScore]
"""The scores of the findings that a submission covers and that are defined."""


def released(scores: Scores, earlier: Iterable[Scores], direction: Direction) -> bool:
    """Returns whether a submission is significantly better than every earlier one.

    Two are compared by the mean over the findings that both cover, so that submissions of few
    findings each do not reveal the scores of the same findings again. One with no finding in common
    does not count. Where nothing is comparable, the submission is not better.
    """
    return all(_better(scores, other, direction) for other in earlier if scores.keys() & other)


def _better(scores: Scores, other: Scores, direction: Direction) -> bool:
    common = [
        finding
        for finding in sorted(scores.keys() & other)
        if scores[finding].comparable and other[finding].comparable
    ]
    if not common:
        return False
    (pair,) = compare([_entry(scores, common), _entry(other, common)])
    sign = 1 if direction is Direction.HIGHER_IS_BETTER else -1
    return sign * pair.difference > 0 and pair.p_value < ALPHA


def _entry(scores: Scores, findings: list[str]) -> Entry:
    return Entry(
        "",
        float(np.mean([scores[finding].score for finding in findings])),
        replicates=np.mean([scores[finding].replicates for finding in findings], axis=0),
    )
