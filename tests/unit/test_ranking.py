"""Ranks, the paired test behind them, and state-of-the-art steps."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate, combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from cxreval.errors import MalformedField
from cxreval.metrics import ranking
from cxreval.metrics.ranking import (
    ALPHA,
    Entry,
    Significance,
    compare,
    latest_day,
)
from cxreval.metrics.registry import Direction


def rank(entries, direction=Direction.HIGHER_IS_BETTER):
    return ranking.rank(entries, direction)


def rank_frequencies(entries, direction=Direction.HIGHER_IS_BETTER):
    return ranking.rank_frequencies(entries, direction)[0]


DAY = date(2025, 12, 1)
DAYS = st.dates()
ENTRIES = st.lists(
    st.tuples(st.one_of(st.none(), st.integers(0, 5).map(lambda k: k / 5)), DAYS),
    max_size=12,
).map(lambda rows: [Entry(str(number), *row) for number, row in enumerate(rows)])
SEEDS = st.integers(0, 2**32 - 1)


def field_of(seed, most=9, replicates=200):
    """Returns entries of similar merit, with a common error, own errors, and some exact copies."""
    generator = np.random.default_rng(seed)
    count = int(generator.integers(1, most))
    common = generator.normal(size=replicates)
    noise = generator.normal(size=(count, replicates)) * generator.choice([0.001, 0.01], (count, 1))
    scores = 0.8 + generator.integers(0, 12, count) / 100
    vectors = scores[:, np.newaxis] + 0.01 * common + noise
    copied = generator.random(count) < 0.2
    scores[copied], vectors[copied] = scores[0], vectors[0]
    days = [
        date(*map(int, (generator.integers(2010, 2030), generator.integers(1, 10), 15)))
        for _ in scores
    ]
    return [
        Entry(
            str(number),
            float(scores[number]),
            days[number],
            vectors[number],
            tuple(generator.random(3)),
        )
        for number in range(count)
    ]


def holm(p_values):
    """Returns p-values after Holm's correction, step by step as in his paper."""
    adjusted, worst = [0.0] * len(p_values), 0.0
    for step, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        worst = max(worst, (len(p_values) - step) * p_values[place])
        adjusted[place] = min(worst, 1.0)
    return adjusted


def paired_test(first, second):
    """Returns difference, standard error and two-sided p-value of two entries."""
    difference = first.score - second.score
    error = np.std(first.replicates - second.replicates, ddof=1)
    if difference == 0:
        return difference, error, 1.0
    return difference, error, float(2 * norm.sf(abs(difference) / error))


# --- by score alone -------------------------------------------------------------------------------


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
            if other.id != entry.id and other.score is not None and other.since <= entry.since
        ]
        earlier = [other for other in others if other.since < entry.since]
        same_day = [other for other in others if other.since == entry.since]
        beats_earlier = entry.score is not None and all(
            entry.score > other.score for other in earlier
        )
        best_of_day = entry.score is not None and all(
            entry.score >= other.score for other in same_day
        )
        if entry.id in steps:
            assert beats_earlier
            assert best_of_day
        elif beats_earlier and best_of_day:
            assert any(other.id in steps and other.score == entry.score for other in same_day)


@given(ENTRIES)
def test_steps_of_figures_without_replicates_are_the_first_and_the_untested(entries):
    day = {entry.id: entry.since for entry in entries}
    steps = sorted(
        (item for item in rank(entries) if item.sota_step), key=lambda item: day[item.id]
    )
    expected = [Significance.FIRST, *[Significance.NOT_TESTED] * len(steps)][: len(steps)]
    assert [item.significance for item in steps] == expected


@given(ENTRIES)
def test_figures_without_replicates_have_no_spread(entries):
    for item in rank(entries):
        assert (item.rank_low, item.rank_high, item.first_share, item.finding_place) == (
            None,
            None,
            None,
            None,
        )


def test_of_equal_scores_the_earliest_is_first():
    ranked = rank([Entry("late", 0.8, date(2025, 12, 19)), Entry("early", 0.8, DAY)])
    assert [(item.id, item.rank, item.sota_step) for item in ranked] == [
        ("early", 1, True),
        ("late", 2, False),
    ]


def test_equal_scores_of_one_time_keep_the_order_given():
    ranked = rank([Entry(name, 0.8, DAY) for name in "cab"])
    assert [(item.id, item.sota_step) for item in ranked] == [
        ("c", True),
        ("a", False),
        ("b", False),
    ]


def test_nothing_to_rank_gives_nothing():
    assert rank([]) == []
    assert [item.rank for item in rank([Entry("a", None, DAY)])] == [None]


def test_a_date_to_the_month_counts_as_the_months_last_day():
    assert str(latest_day("2024-02")) == "2024-02-29"
    ranked = rank(
        [
            Entry(day, score, latest_day(day))
            for day, score in (("2025-12", 0.841), ("2025-12-19", 0.858))
        ]
    )
    assert [item.id for item in ranked if item.sota_step] == ["2025-12-19"]


@pytest.mark.parametrize(
    "wrong", ["", "2025", "2025-13", "2025-02-30", "December 2025", "2025-W01-1", "20251219"]
)
def test_a_malformed_date_is_named(wrong):
    with pytest.raises(MalformedField, match="submitted_date") as caught:
        latest_day(wrong)
    assert caught.value.metadata["expected"] == "YYYY-MM-DD or YYYY-MM"


# --- the paired test ------------------------------------------------------------------------------


@given(SEEDS)
def test_comparisons_are_paired_tests_with_holms_correction(seed):
    entries = field_of(seed)
    found = compare(entries)
    pairs = list(combinations(entries, 2))
    assert [(one.first, one.second) for one in found] == [(a.id, b.id) for a, b in pairs]
    expected = [paired_test(a, b) for a, b in pairs]
    for one, (difference, error, p_value) in zip(found, expected, strict=True):
        assert one.difference == difference
        assert (one.low, one.high) == pytest.approx(
            (difference - norm.ppf(0.975) * error, difference + norm.ppf(0.975) * error), abs=1e-9
        )
        assert one.p_value == pytest.approx(p_value, abs=1e-9)
    for one, p_value in zip(found, holm([one.p_value for one in found]), strict=True):
        assert one.adjusted_p_value == pytest.approx(p_value, abs=1e-12)
        assert one.separable == (one.adjusted_p_value < ALPHA)


@given(SEEDS)
def test_swapping_two_entries_mirrors_their_comparison(seed):
    entries = field_of(seed, most=3)
    for one, other in zip(compare(entries), compare(entries[::-1]), strict=True):
        assert (one.difference, one.low, one.high) == pytest.approx(
            (-other.difference, -other.high, -other.low)
        )
        assert one.p_value == pytest.approx(other.p_value)


def test_the_common_error_of_the_sample_does_not_hide_a_difference():
    """Each entry has a standard error of 0.05; their paired difference has a small one."""
    generator = np.random.default_rng(1)
    common = generator.normal(0, 0.05, 500)
    entries = [
        Entry(str(k), 0.8 + k / 100, DAY, 0.8 + k / 100 + common + e)
        for k, e in ((0, 0.0), (1, 1e-4))
    ]
    entries[1].replicates[:] += generator.normal(0, 0.001, 500)
    (found,) = compare(entries)
    assert found.separable
    assert [item.rank for item in rank(entries)] == [1, 2]


def test_one_entry_has_no_pair():
    assert compare([Entry("a", 0.8, DAY, np.linspace(0.7, 0.9, 100))]) == []


# --- shared ranks ---------------------------------------------------------------------------------


@given(SEEDS)
def test_a_rank_is_one_more_than_the_entries_found_better(seed):
    entries = field_of(seed)
    better = dict.fromkeys((entry.id for entry in entries), 0)
    for one in compare(entries):
        if one.separable:
            better[one.second if one.difference > 0 else one.first] += 1
    # Never a better rank than an entry with a higher score.
    expected, highest = {}, 0
    for item in rank(entries):
        highest = max(highest, 1 + better[item.id])
        expected[item.id] = highest
    assert {item.id: item.rank for item in rank(entries)} == expected


@given(SEEDS)
def test_no_entry_ranks_better_than_one_with_a_higher_score(seed):
    entries = field_of(seed)
    score = {entry.id: entry.score for entry in entries}
    ranked = rank(entries)
    assert ranked[0].rank == 1
    for above, below in pairwise(ranked):
        assert score[above.id] >= score[below.id]
        assert above.rank <= below.rank


def test_an_entry_of_small_error_does_not_overtake_one_of_higher_score():
    """Only the second entry, with a small error, is separated from the first; the third is not."""
    generator = np.random.default_rng(3)
    errors = {"a": (0.84, 1e-4), "b": (0.83, 1e-4), "c": (0.82, 0.1)}
    entries = [
        Entry(name, s, DAY, s + generator.normal(0, e, 300)) for name, (s, e) in errors.items()
    ]
    assert [one.separable for one in compare(entries)] == [True, False, False]
    assert [(item.id, item.rank) for item in rank(entries)] == [("a", 1), ("b", 2), ("c", 2)]


def test_identical_entries_share_a_rank():
    replicates = np.random.default_rng(1).normal(0.8, 0.01, 200)
    ranked = rank(
        [
            Entry(str(number), 0.8, date(2025, 12, number), replicates.copy())
            for number in range(1, 8)
        ]
    )
    assert [item.rank for item in ranked] == [1] * 7
    assert [item.first_share for item in ranked] == [1.0] * 7
    assert {(item.rank_low, item.rank_high) for item in ranked} == {(1, 1)}


def test_clearly_separated_entries_do_not_share_a_rank():
    generator = np.random.default_rng(2)
    entries = [
        Entry(str(k), k / 10, DAY, k / 10 + generator.normal(0, 0.001, 200)) for k in range(1, 8)
    ]
    ranked = rank(entries)
    assert [(item.id, item.rank) for item in ranked] == [
        (str(8 - place), place) for place in range(1, 8)
    ]
    assert [(item.rank_low, item.rank_high) for item in ranked] == [
        (place, place) for place in range(1, 8)
    ]
    assert [item.first_share for item in ranked] == [1.0] + [0.0] * 6


def test_chance_alone_separates_any_of_forty_entries_about_once_in_twenty_boards():
    """Holm's correction keeps the probability of any false separation at 5 %."""
    generator = np.random.default_rng(4)
    separated = 0
    for _ in range(200):
        scores = generator.normal(0.8, 0.01, 40)
        vectors = scores[:, np.newaxis] + generator.normal(0, 0.01, (40, 400))
        entries = [Entry(str(i), float(scores[i]), DAY, vectors[i]) for i in range(40)]
        separated += any(item.rank > 1 for item in rank(entries))
    assert separated / 200 <= 0.1


@given(SEEDS, st.randoms())
def test_order_of_input_does_not_matter(seed, random):
    # Exact copies of one day have no other difference.
    entries = list({(entry.score, entry.since): entry for entry in field_of(seed)}.values())
    shuffled = random.sample(entries, len(entries))
    expected, found = rank(entries), rank(shuffled)
    for one, other in zip(expected, found, strict=True):
        assert (one.id, one.rank, one.sota_step, one.significance) == (
            other.id,
            other.rank,
            other.sota_step,
            other.significance,
        )
        assert (one.rank_low, one.rank_high, one.first_share) == (
            other.rank_low,
            other.rank_high,
            other.first_share,
        )
        assert (one.mean_finding_rank, one.places_disagree) == (
            other.mean_finding_rank,
            other.places_disagree,
        )


def test_a_resample_that_is_undefined_for_everyone_does_not_stop_the_test():
    generator = np.random.default_rng(5)
    entries = [
        Entry(str(k), k / 10, DAY, k / 10 + generator.normal(0, 1e-3, 200)) for k in (1, 5, 9)
    ]
    for entry in entries:
        entry.replicates[7] = np.nan
    assert all(pair.separable and np.isfinite(pair.low) for pair in compare(entries))
    assert [item.rank for item in rank(entries)] == [1, 2, 3]


def test_too_many_undefined_replicates_separate_no_entries():
    generator = np.random.default_rng(5)
    entries = [
        Entry(str(k), k / 10, DAY, k / 10 + generator.normal(0, 1e-3, 200)) for k in (1, 5, 9)
    ]
    entries[1].replicates[7:12] = np.nan
    found = {(one.first, one.second): one for one in compare(entries)}
    assert [one.p_value for pair, one in found.items() if "5" in pair] == [1.0, 1.0]
    assert found["1", "9"].separable
    assert [(item.id, item.rank) for item in rank(entries)] == [("9", 1), ("5", 1), ("1", 2)]


def test_an_undefined_score_beside_replicates_has_no_rank():
    replicates = np.random.default_rng(6).normal(0.8, 0.01, 200)
    entries = [
        Entry("none", None, DAY, np.full(200, np.nan)),
        Entry("a", 0.8, date(2025, 12, 2), replicates),
    ]
    assert [(item.id, item.rank) for item in rank(entries)] == [("a", 1), ("none", None)]


# --- frequencies ----------------------------------------------------------------------------------


@given(SEEDS)
def test_frequencies_count_the_ranks_over_the_replicates(seed):
    entries = field_of(seed, replicates=50)
    found = rank_frequencies(entries)
    assert found.shape == (len(entries), len(entries))
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)
    expected = np.zeros_like(found)
    for replicate in range(50):
        values = [entry.replicates[replicate] for entry in entries]
        for row, value in enumerate(values):
            expected[row, sum(other > value for other in values)] += 1 / 50
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_an_entry_that_is_undefined_in_a_replicate_comes_last_there():
    vectors = {"a": [0.5, np.nan, 0.5], "b": [0.4, 0.4, 0.6], "c": [0.3, 0.3, np.nan]}
    entries = [Entry(name, 0.5, DAY, np.array(vector)) for name, vector in vectors.items()]
    expected = np.array([[1, 1, 1], [2, 1, 0], [0, 1, 2]]) / 3
    np.testing.assert_allclose(rank_frequencies(entries), expected)


@given(SEEDS)
def test_the_range_of_ranks_holds_95_percent_of_the_replicates(seed):
    entries = field_of(seed, replicates=200)
    frequencies = {
        entry.id: row
        for entry, row in zip(entries, (rank_frequencies(entries) * 200).round(), strict=True)
    }
    for item in rank(entries):
        counts = frequencies[item.id]
        assert counts[: item.rank_low - 1].sum() < 5 <= counts[: item.rank_low].sum()
        assert counts[: item.rank_high - 1].sum() < 195 <= counts[: item.rank_high].sum()
        assert item.first_share == counts[0] / 200


@pytest.mark.parametrize("first", [0, 1, 9, 29, 50, 71, 91, 100])
def test_the_range_of_ranks_counts_replicates_without_a_rounding_error(first):
    """100 of 4,000 replicates are exactly 2.5 %, for every split over the first two ranks."""
    other = np.where(np.arange(4000) < first, -1.0, 1.0)
    another = np.where(np.arange(4000) < 100, -1.0, 1.0)
    entries = [
        Entry(str(k), 0.5, DAY, vector) for k, vector in enumerate((np.zeros(4000), other, another))
    ]
    ranked = {item.id: item for item in rank(entries)}
    assert (ranked["0"].rank_low, ranked["0"].rank_high) == ((1, 3) if first == 100 else (2, 3))


# --- direction and undefined resamples ------------------------------------------------------------


def turned(entry):
    """The entry in a metric whose lower values are better."""
    scores = tuple(-score for score in entry.finding_scores)
    replicates = None if entry.replicates is None else -entry.replicates
    return replace(entry, score=-entry.score, replicates=replicates, finding_scores=scores)


@given(SEEDS)
def test_lower_is_better_is_the_mirror_of_higher_is_better(seed):
    entries = field_of(seed)
    lower = rank([turned(entry) for entry in entries], Direction.LOWER_IS_BETTER)
    assert lower == rank(entries)
    claims = [replace(entry, replicates=None) for entry in entries]
    assert rank([turned(entry) for entry in claims], Direction.LOWER_IS_BETTER) == rank(claims)


def undefined_everywhere(entries, columns):
    for entry in entries:
        entry.replicates[columns] = np.nan
    return entries


@given(SEEDS)
def test_a_resample_without_any_score_changes_no_share_and_no_range(seed):
    """The same board with and without 2 of 202 resamples in which every score is undefined."""
    entries = field_of(seed, replicates=200)
    padded = [replace(one, replicates=np.append(one.replicates, [0, 0])) for one in entries]
    undefined_everywhere(padded, [200, 201])
    shares, left_out = ranking.rank_frequencies(padded, Direction.HIGHER_IS_BETTER)
    np.testing.assert_array_equal(shares, rank_frequencies(entries))
    assert left_out == 2
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    for one, other in zip(rank(padded), rank(entries), strict=True):
        assert one.undefined_replicates == 2
        assert replace(one, undefined_replicates=0) == other


def test_a_row_18_points_behind_leads_in_no_resample():
    """As 4 of 2,000 resamples without a positive of one finding made it, in 0.2 %."""
    noise = np.random.default_rng(0).normal(0, 0.001, (2, 2000))
    entries = [
        Entry("a", 0.86, DAY, 0.86 + noise[0]),
        Entry("b", 0.68, DAY, 0.68 + noise[1]),
    ]
    undefined_everywhere(entries, slice(4))
    ahead, behind = rank(entries)
    assert (ahead.first_share, behind.first_share) == (1.0, 0.0)
    assert (behind.rank_low, behind.rank_high, behind.undefined_replicates) == (2, 2, 4)


@pytest.mark.parametrize("undefined", [50, 2000])
def test_where_too_many_resamples_have_no_score_there_is_no_range(undefined):
    """Above 1 % there is no interval either; from 2.5 % every range would have begun at 1."""
    noise = np.random.default_rng(0).normal(0, 0.001, (2, 2000))
    entries = [
        Entry("a", 0.86, DAY, 0.86 + noise[0]),
        Entry("b", 0.68, DAY, 0.68 + noise[1]),
    ]
    undefined_everywhere(entries, slice(undefined))
    for row in rank(entries):
        assert (row.rank, row.rank_low, row.rank_high, row.first_share) == (1, None, None, None)
        assert row.undefined_replicates == undefined


def test_an_entry_that_alone_is_undefined_comes_last_in_that_resample():
    vectors = {"a": [0.5, np.nan, 0.5, np.nan], "b": [0.4, 0.4, 0.6, np.nan]}
    entries = [Entry(k, float(np.nanmean(v)), DAY, np.array(v)) for k, v in vectors.items()]
    shares, left_out = ranking.rank_frequencies(entries, Direction.HIGHER_IS_BETTER)
    assert left_out == 1
    np.testing.assert_allclose(shares, [[1 / 3, 2 / 3], [2 / 3, 1 / 3]])


# --- by findings ----------------------------------------------------------------------------------


def test_the_mean_rank_over_findings_may_tell_another_order():
    # The first is far ahead in one finding and last in two.
    scores = {"a": (0.99, 0.70, 0.70), "b": (0.70, 0.80, 0.75), "c": (0.60, 0.75, 0.80)}
    entries = [Entry(name, float(np.mean(row)), DAY, None, row) for name, row in scores.items()]
    found = {item.id: item for item in rank(entries)}
    assert [found[name].rank for name in "abc"] == [1, 2, 3]
    assert [found[name].mean_finding_rank for name in "abc"] == pytest.approx([7 / 3, 5 / 3, 2])
    assert [found[name].finding_place for name in "abc"] == [3, 1, 2]
    assert [found[name].places_disagree for name in "abc"] == [True, True, True]


def test_ties_within_a_finding_share_the_mean_of_their_places():
    rows = {"a": (0.9, 0.8), "b": (0.9, 0.7), "c": (0.5, 0.5)}
    entries = [Entry(name, float(np.mean(row)), DAY, None, row) for name, row in rows.items()]
    found = rank(entries)
    assert [item.mean_finding_rank for item in found] == [1.25, 1.75, 3.0]
    assert [item.places_disagree for item in found] == [False] * 3


def test_entries_with_an_undefined_finding_stay_out_of_the_rank_by_findings():
    entries = [
        Entry("a", 0.9, DAY, None, (0.9, None)),
        Entry("b", 0.8, DAY, None, (0.8, 0.8)),
        Entry("c", 0.7, DAY),
        Entry("d", 0.6, DAY, None, (0.6, 0.6)),
    ]
    found = {
        item.id: (item.mean_finding_rank, item.finding_place, item.places_disagree)
        for item in rank(entries)
    }
    assert found == {
        "a": (None, None, False),
        "b": (1, 1, False),
        "c": (None, None, False),
        "d": (2, 2, False),
    }


# --- steps ----------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), max_size=8),
    st.lists(st.timedeltas(timedelta(microseconds=1), timedelta(days=999)), min_size=9, max_size=9),
)
def test_steps_are_a_function_of_the_order_of_publication_only(rows, gaps):
    """Other times in the same order give the same steps, whatever lies between them."""
    start = datetime(2000, 1, 1, tzinfo=UTC)
    times = list(accumulate(gaps, initial=start))

    def ranked(time):
        return rank([Entry(str(k), score / 10, time(t)) for k, (score, t) in enumerate(rows)])

    found = ranked(times.__getitem__)
    assert found == ranked(lambda number: start + timedelta(seconds=number))
    best, expected = -1, set()
    for number in range(len(times)):
        together = [(-score, k) for k, (score, t) in enumerate(rows) if t == number]
        if together and -min(together)[0] > best:
            best = -min(together)[0]
            expected.add(str(min(together)[1]))
    assert {item.id for item in found if item.sota_step} == expected


# --- steps with replicates ------------------------------------------------------------------------


@given(SEEDS)
def test_a_step_is_significant_when_the_paired_test_against_the_broken_record_says_so(seed):
    entries = field_of(seed)
    by_id = {entry.id: entry for entry in entries}
    steps = sorted(
        (item for item in rank(entries) if item.sota_step), key=lambda item: by_id[item.id].score
    )
    assert steps[0].significance is Significance.FIRST
    for record, step in pairwise(steps):
        *_, p_value = paired_test(by_id[step.id], by_id[record.id])
        expected = Significance.SIGNIFICANT if p_value < ALPHA else Significance.WITHIN_NOISE
        assert step.significance is expected
    assert all(item.significance is None for item in rank(entries) if not item.sota_step)


def test_a_small_step_is_within_noise_and_a_large_one_is_not():
    generator = np.random.default_rng(7)
    rows = [("first", 0.80, 2023), ("small", 0.801, 2024), ("large", 0.85, 2025)]
    entries = [
        Entry(name, s, date(year, 6, 1), s + generator.normal(0, 0.005, 300))
        for name, s, year in rows
    ]
    found = {item.id: (item.rank, item.significance) for item in rank(entries)}
    assert found == {
        "large": (1, Significance.SIGNIFICANT),
        "small": (2, Significance.WITHIN_NOISE),
        "first": (2, Significance.FIRST),
    }


# --- refusals and size ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "replicates",
    [(np.ones(100), None), (np.ones(100), np.ones(101)), (None, np.ones(100))],
    ids=str,
)
@pytest.mark.parametrize("call", [rank, compare, rank_frequencies])
def test_entries_with_and_without_replicates_or_of_other_lengths_are_refused(replicates, call):
    entries = [Entry(str(k), 0.8, DAY, vector) for k, vector in enumerate(replicates)]
    with pytest.raises(MalformedField, match="entries differ in their replicates") as caught:
        call(entries)
    assert caught.value.metadata["field"] == "entries.replicates"


@pytest.mark.parametrize("call", [compare, rank_frequencies])
def test_an_entry_without_a_score_cannot_be_compared(call):
    with pytest.raises(MalformedField, match="a score"):
        call(
            [
                Entry("a", None, DAY, np.ones(100)),
                Entry("b", 0.8, DAY, np.ones(100)),
            ]
        )


def test_a_thousand_entries_are_ranked():
    generator = np.random.default_rng(8)
    vectors = generator.normal(0.8, 0.01, (1000, 1)) + generator.normal(0, 0.005, (1000, 2000))
    entries = [Entry(str(k), float(v.mean()), DAY, v, tuple(v[:14])) for k, v in enumerate(vectors)]
    ranked = rank(entries)
    assert ranked[0].rank == 1
    assert sorted(int(item.id) for item in ranked) == list(range(1000))
