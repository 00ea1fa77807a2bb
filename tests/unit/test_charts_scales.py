"""Scales, ticks and number formats of the charts."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.leaderboard.charts.dates import date_ticks, seconds
from services.leaderboard.charts.scales import (
    Estimate,
    Measure,
    Scale,
    domain,
    drawn,
    fixed,
    ticks,
)

AUROC = Measure()
SIGNED = st.floats(-1e12, 1e12)
ANY = st.none() | st.floats()


@given(low=SIGNED, share=st.floats(1e-6, 1), most=st.integers(5, 20))
def test_ticks_are_few_in_order_within_the_axis_and_differ_as_text(
    low: float, share: float, most: int
) -> None:
    high = low + max(abs(low), 1e-6) * share
    marks = ticks(low, high, AUROC, most)
    values = [tick.value for tick in marks]
    assert 2 <= len(values) <= most
    assert values == sorted(values)
    assert low <= values[0] < values[-1] <= high
    assert len({tick.label for tick in marks}) == len(marks)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.78, 0.9, ["78", "80", "82", "84", "86", "88", "90"]),
        (0, 1, ["0", "20", "40", "60", "80", "100"]),
        (0.8384, 0.83871, ["83.840", "83.845", "83.850", "83.855", "83.860", "83.865", "83.870"]),
        (-0.011, 0.02, ["−1.0", "−0.5", "0.0", "0.5", "1.0", "1.5", "2.0"]),
    ],
)
def test_ticks_are_at_round_values(low: float, high: float, labels: list[str]) -> None:
    assert [tick.label for tick in ticks(low, high, AUROC, 8)] == labels


def test_only_positive_differences_have_a_plus() -> None:
    labels = [tick.label for tick in ticks(-0.02, 0.02, AUROC, 5, signed=True)]
    assert labels == ["−2", "−1", "0", "+1", "+2"]


@given(
    st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)),
    st.floats(900, 9998 * 31_556_952.0),
    st.integers(4, 12),
)
def test_date_ticks_are_few_in_order_and_within_the_axis(
    start: datetime, span: float, most: int
) -> None:
    low = seconds(start)
    high = min(low + span, seconds(datetime(9999, 12, 31, tzinfo=UTC)))
    marks = date_ticks(low, high, most)
    values = [tick.value for tick in marks]
    assert len(values) <= most
    assert values == sorted(set(values))
    assert all(low <= value <= high for value in values)
    if high - low >= 900:
        assert values or high - low > 200 * 31_556_952


@pytest.mark.parametrize(
    ("start", "span", "labels"),
    [
        ("2026-03-03T13:50", timedelta(hours=1), ["14:00", "14:15", "14:30", "14:45"]),
        ("2026-03-03T13:50", timedelta(days=1), ["18:00", "00:00", "06:00", "12:00"]),
        ("2026-03-03T13:50", timedelta(days=7), ["5 Mar", "7 Mar", "9 Mar"]),
        ("2026-03-03T13:50", timedelta(days=100), ["Apr", "May", "Jun"]),
        ("2026-03-03T13:50", timedelta(days=900), ["Jul", "Jan", "Jul", "Jan", "Jul"]),
        ("2006-03-03T13:50", timedelta(days=7300), ["2010", "2015", "2020", "2025"]),
        ("1899-06-01T00:00", timedelta(days=5 * 365), ["1900", "1901", "1902", "1903", "1904"]),
        ("0001-01-02T00:00", timedelta(days=3_000_000), ["2000", "4000", "6000", "8000"]),
    ],
)
def test_date_ticks_suit_spans_from_an_hour_to_millennia(
    start: str, span: timedelta, labels: list[str]
) -> None:
    low = seconds(datetime.fromisoformat(start))
    assert [tick.label for tick in date_ticks(low, low + span.total_seconds(), 5)] == labels


def test_the_larger_unit_stands_where_it_begins() -> None:
    low = seconds(datetime(2025, 10, 20, tzinfo=UTC))
    marks = date_ticks(low, low + 130 * 86400, 5)
    assert [(tick.label, tick.second) for tick in marks] == [
        ("Nov", "2025"),
        ("Dec", ""),
        ("Jan", "2026"),
        ("Feb", ""),
    ]


@given(st.lists(st.builds(Estimate, ANY, ANY, ANY)), st.none() | st.just(0.0))
def test_an_axis_holds_every_figure(estimates: list[Estimate], around: float | None) -> None:
    low, high = domain(estimates, AUROC, around=around)
    assert low < high
    for point in filter(None, map(drawn, estimates)):
        assert all(low <= value <= high for value in (point.value, *(point.interval or ())))
    assert around is None or low < around < high


def test_the_margin_of_an_axis_ends_at_the_bounds_of_the_metric() -> None:
    assert domain([Estimate(0.99), Estimate(0.4)], AUROC)[1] == 1
    assert domain([Estimate(0.01), Estimate(0.4)], AUROC)[0] == 0


@given(ANY, ANY, ANY)
def test_what_is_not_finite_is_not_drawn(
    value: float | None, low: float | None, high: float | None
) -> None:
    point = drawn(Estimate(value, low, high))
    scale = Scale(0, 1, 10, 90)
    if point:
        places = [scale(v) for v in (point.value, *(point.interval or ()))]
        assert all(10 <= place <= 90 for place in places)
        assert point.interval is None or point.interval[0] <= point.interval[1]


def test_zero_has_no_sign() -> None:
    assert fixed(-0.0001, 2) == "0.00"
    assert AUROC.signed(-0.00001) == "0.00"
    assert AUROC.signed(0.00001) == "0.00"
    assert AUROC.signed(0.0123) == "+1.23"
    assert AUROC.signed(-0.0123) == "−1.23"
    assert AUROC.signed(None) == AUROC.written(float("nan")) == "–"
