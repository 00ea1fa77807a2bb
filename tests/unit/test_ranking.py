"""Ranks and state-of-the-art steps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxreval.errors import MalformedField
from cxreval.metrics.ranking import Entry, latest_day, rank

ENTRIES = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(0, 5).map(lambda k: k / 5)),
        st.dates().filter(lambda day: day.year >= 1000).map(str),
    ),
    max_size=12,
).map(lambda rows: [Entry(str(number), *row) for number, row in enumerate(rows)])


@given(ENTRIES)
def test_better_scores_come_first_and_the_undefined_last_without_a_rank(entries):
    score = {entry.id: entry.score for entry in entries}
    ranked = rank(entries)
    scores = [score[item.id] for item in ranked if item.rank is not None]
    assert scores == sorted(scores, reverse=True)
    assert [item.rank for item in ranked if item.rank] == list(range(1, len(scores) + 1))
    assert sorted(item.id for item in ranked) == sorted(score)
    assert all(score[item.id] is None for item in ranked[len(scores) :])


@given(ENTRIES)
def test_each_step_beats_every_earlier_entry_and_nothing_else_does(entries):
    steps = {item.id for item in rank(entries) if item.sota_step}
    for entry in entries:
        others = [
            other
            for other in entries
            if other.id != entry.id and other.score is not None and other.submitted_date <= entry.submitted_date
        ]
        earlier = [other for other in others if other.submitted_date < entry.submitted_date]
        same_day = [other for other in others if other.submitted_date == entry.submitted_date]
        beats_earlier = entry.score is not None and all(entry.score > other.score for other in earlier)
        best_of_day = entry.score is not None and all(entry.score >= other.score for other in same_day)
        if entry.id in steps:
            assert beats_earlier
            assert best_of_day
        elif beats_earlier and best_of_day:
            assert any(other.id in steps and other.score == entry.score for other in same_day)


def test_ties_are_broken_by_submission_date():
    ranked = rank([Entry("late", 0.8, "2025-12-19"), Entry("early", 0.8, "2025-12-01")])
    assert [(item.id, item.rank, item.sota_step) for item in ranked] == [("early", 1, True), ("late", 2, False)]


def test_a_date_to_the_month_counts_as_the_months_last_day():
    assert str(latest_day("2024-02")) == "2024-02-29"
    ranked = rank([Entry("month", 0.841, "2025-12"), Entry("day", 0.858, "2025-12-19")])
    assert [item.id for item in ranked if item.sota_step] == ["day"]


@pytest.mark.parametrize("wrong", ["", "2025", "2025-13", "2025-02-30", "December 2025", "2025-W01-1", "20251219"])
def test_a_malformed_date_is_named(wrong):
    with pytest.raises(MalformedField, match="submitted_date") as caught:
        latest_day(wrong)
    assert caught.value.metadata["expected"] == "YYYY-MM-DD or YYYY-MM"
