"""The order of the board, its steps, and which rows may be compared, without a database."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxreval.errors import MalformedField, NotComparable
from cxreval.metrics.ranking import Entry, rank
from cxreval.metrics.registry import Direction
from cxreval.resource_names import SubmissionName
from services.registry.domain.board import (
    Candidate,
    RankedRow,
    Selection,
    check_compared,
    compared,
    ranked_rows,
    sota_steps,
)
from services.registry.domain.records import Kind

HIGHER = Direction.HIGHER_IS_BETTER

DAY, NOW = date(2026, 1, 1), datetime(2026, 11, 30, tzinfo=UTC)
MOST_ROWS = 8
COMMON, *OWN = np.random.default_rng(0).normal(0, 1, (1 + MOST_ROWS, 100))


def entry(number: int, score: float | None, day: date, noise: float, *, run: bool) -> Entry:
    """Returns an entry whose replicates vary with those of all others, plus its own `noise`."""
    replicates = (np.nan if score is None else score) + 0.01 * COMMON + noise * OWN[number]
    return Entry(f"{'run' if run else 'claim'}-{number}", score, day, replicates if run else None)


def entries(*, run: bool) -> st.SearchStrategy[list[Entry]]:
    score = st.one_of(st.none(), st.integers(0, 20).map(lambda k: 0.5 + k / 100))
    fields = st.tuples(
        score,
        st.dates(),
        st.sampled_from([0.0, 0.02]),
    )
    return st.lists(fields, max_size=MOST_ROWS).map(
        lambda lists: [entry(number, *values, run=run) for number, values in enumerate(lists)]
    )


def board_of(run: list[Entry], claims: list[Entry]) -> tuple[RankedRow, ...]:
    """Returns the board of entries, given in an order in which both kinds are mixed."""
    candidates = [Candidate(Kind.PREDICTIONS, item, NOW) for item in run]
    for number, item in enumerate(claims):
        candidates.insert(2 * number, Candidate(Kind.CLAIM, item, NOW))
    return ranked_rows(candidates, Selection("auroc", HIGHER, (), recorded=True))


def ranks(board: tuple[RankedRow, ...], kind: Kind) -> list[object]:
    return [row.ranked for row in board if row.kind is kind]


@given(entries(run=True), entries(run=False))
def test_claims_are_never_ranked_together_with_rows_that_were_run(
    run: list[Entry], claims: list[Entry]
) -> None:
    board = board_of(run, claims)
    assert ranks(board, Kind.CHECKPOINT) == rank(run, HIGHER)
    assert ranks(board, Kind.CLAIM) == rank(claims, HIGHER)
    assert [row.kind for row in board] == [Kind.CHECKPOINT] * len(run) + [Kind.CLAIM] * len(claims)
    assert all(row.ranked.rank_low is None for row in board if row.kind is Kind.CLAIM)


@given(entries(run=True), entries(run=False))
def test_each_kind_has_one_record_holder_and_it_has_the_highest_score(
    run: list[Entry], claims: list[Entry]
) -> None:
    board = board_of(run, claims)
    for kind, ranked_together in ((Kind.CHECKPOINT, run), (Kind.CLAIM, claims)):
        scores = (entry.score for entry in ranked_together if entry.score is not None)
        best = max(scores, default=None)
        assert [row.score for row in board if row.sota and row.kind is kind] == (
            [] if best is None else [best]
        )


@given(entries(run=True), entries(run=False))
def test_steps_rise_and_end_with_the_record_holder(run: list[Entry], claims: list[Entry]) -> None:
    board = board_of(run, claims)
    steps = sota_steps(board)
    for kind in (Kind.CHECKPOINT, Kind.CLAIM):
        scores = [step.score for step in steps if step.kind is kind]
        assert scores == sorted(set(scores))
        assert [step for step in steps if step.kind is kind][-1:] == [
            row for row in board if row.sota and row.kind is kind
        ]
    assert [step.kind for step in steps] == sorted(
        (step.kind for step in steps), key=lambda kind: kind is Kind.CLAIM
    )


def test_inseparable_rows_share_a_rank_and_only_the_highest_score_holds_the_record() -> None:
    near = [entry(n, score, DAY, 0.02, run=True) for n, score in enumerate((0.80, 0.801, 0.60))]
    assert [(row.submission, row.ranked.rank, row.sota) for row in board_of(near, [])] == [
        ("run-1", 1, True),
        ("run-0", 1, False),
        ("run-2", 3, False),
    ]


def names(count: int, benchmark: str = "b") -> list[SubmissionName]:
    return [SubmissionName(benchmark, f"{number:032x}") for number in range(count)]


def test_2_to_50_different_submissions_of_one_benchmark_are_compared() -> None:
    check_compared(names(2), "b")
    check_compared(names(50), "b")


@pytest.mark.parametrize(
    ("submissions", "field"),
    [
        ([], "submissions"),
        (names(1), "submissions"),
        (names(51), "submissions"),
        ([*names(3), *names(1)], "submissions"),
        ([*names(1), *names(2, "c")[1:]], "submissions[1]"),
    ],
)
def test_other_lists_are_not_compared(submissions: list[SubmissionName], field: str) -> None:
    with pytest.raises(MalformedField) as caught:
        check_compared(submissions, "b")
    assert caught.value.metadata["field"] == field


def test_comparison_has_every_pair_and_frequencies_in_the_order_given() -> None:
    runs = [entry(n, score, DAY, 0.005, run=True) for n, score in enumerate((0.7, 0.9, 0.8))]
    comparison = compared(runs, HIGHER)
    assert [(pair.first, pair.second) for pair in comparison.pairs] == [
        ("run-0", "run-1"),
        ("run-0", "run-2"),
        ("run-1", "run-2"),
    ]
    assert [pair.difference for pair in comparison.pairs] == pytest.approx([-0.2, -0.1, 0.1])
    assert all(
        pair.low < pair.difference < pair.high and pair.separable for pair in comparison.pairs
    )
    assert dict(comparison.frequencies) == {
        "run-0": (0, 0, 1),
        "run-1": (1, 0, 0),
        "run-2": (0, 1, 0),
    }


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        (Entry("claim", 0.9, DAY), "was not computed here"),
        (Entry("unscored", None), "has no score"),
        (
            Entry("torn", 0.9, DAY, np.where(np.arange(100) < 3, np.nan, 0.9)),
            "undefined in 3 of 100 resamples",
        ),
    ],
)
def test_rows_without_replicates_are_not_comparable(other: Entry, problem: str) -> None:
    with pytest.raises(NotComparable, match=problem) as caught:
        compared([entry(0, 0.8, DAY, 0.0, run=True), other], HIGHER)
    assert caught.value.metadata["value"] == other.id
