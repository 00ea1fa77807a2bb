"""Ticks of a time axis, from minutes to millennia."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from services.leaderboard.charts.scales import Tick

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86400, 31_556_952


def seconds(moment: datetime) -> float:
    """Returns the seconds since 1970 in UTC, negative before; a moment without zone is UTC."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH).total_seconds()


def day(moment: datetime) -> str:
    """Returns the day of the moment, such as `3 Mar 2026`."""
    return f"{moment.day} {_MONTHS[moment.month - 1]} {moment.year}"


def minute(moment: datetime) -> str:
    """Returns day and time of the moment in UTC, such as `3 Mar 2026, 14:05 UTC`."""
    utc = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return f"{day(utc)}, {utc:%H:%M} UTC"


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_FIRST = seconds(datetime(1, 1, 1, tzinfo=UTC))
_LAST = seconds(datetime(9999, 12, 31, 23, 59, tzinfo=UTC))

# Steps with their length in seconds: the first one that gives few enough ticks is taken.
_FIXED = (
    *((n * _MINUTE, n * _MINUTE) for n in (1, 2, 5, 10, 15, 30)),
    *((n * _HOUR, n * _HOUR) for n in (1, 2, 3, 6, 12)),
    (_DAY, _DAY),
    (2 * _DAY, 2 * _DAY),
)


def date_ticks(low: float, high: float, most: int) -> list[Tick]:
    """Returns at most `most` ticks in [`low`, `high`], seconds since 1970, at round dates in UTC.

    The second line of a label is the larger unit, where it begins or changes: the day of an hour,
    the year of a month.
    """
    for moments, label, second in _candidates(low, high):
        found = [moment for moment in moments if low <= seconds(moment) <= high]
        if len(found) <= most:
            return _labelled(found, label, second)
    return []


def _labelled(
    moments: Sequence[datetime], label: Callable[[datetime], str], second: Callable[[datetime], str]
) -> list[Tick]:
    marks, before = [], ""
    for moment in moments:
        larger = second(moment)
        marks.append(Tick(seconds(moment), label(moment), larger if larger != before else ""))
        before = larger
    return marks


_Moments = tuple[Iterator[datetime], Callable[[datetime], str], Callable[[datetime], str]]


def _candidates(low: float, high: float) -> Iterator[_Moments]:
    """Yields the dates of each step, finest first, of which [`low`, `high`] holds few enough."""
    start = _moment(low)
    for length, step in _FIXED:
        if (high - low) / length < 40:
            if step < _DAY:
                yield _every(start, high, step), lambda m: f"{m:%H:%M}", day
            else:
                yield _every(start, high, step), _month_day, lambda m: str(m.year)
    for days in ((1, 8, 15, 22), (1, 15)):
        if high - low < _YEAR:
            yield _monthly(start, high, 1, days), _month_day, lambda m: str(m.year)
    for months in (1, 2, 3, 6):
        if high - low < 40 * months * _YEAR / 12:
            yield (
                _monthly(start, high, months, (1,)),
                lambda m: _MONTHS[m.month - 1],
                lambda m: str(m.year),
            )
    for years in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000):
        if high - low < 40 * years * _YEAR:
            yield _yearly(start, high, years), lambda m: str(m.year), lambda _: ""


def _month_day(moment: datetime) -> str:
    return f"{moment.day} {_MONTHS[moment.month - 1]}"


def _moment(since: float) -> datetime:
    """Returns the date of some seconds since 1970, at the calendar's ends if it is beyond them."""
    return _EPOCH + timedelta(seconds=min(max(since, _FIRST), _LAST))


def _every(start: datetime, high: float, step: int) -> Iterator[datetime]:
    midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
    moment = seconds(midnight)
    moment += (seconds(start) - moment) // step * step
    while moment <= min(high, _LAST):
        yield _moment(moment)
        moment += step


def _monthly(
    start: datetime, high: float, months: int, days: tuple[int, ...]
) -> Iterator[datetime]:
    year, month = start.year, (start.month - 1) // months * months + 1
    while year <= 9999 and seconds(datetime(year, month, 1, tzinfo=UTC)) <= high:
        yield from (datetime(year, month, number, tzinfo=UTC) for number in days)
        year, month = year + (month + months > 12), (month + months - 1) % 12 + 1


def _yearly(start: datetime, high: float, years: int) -> Iterator[datetime]:
    year = start.year // years * years
    while year <= 9999 and (year < 1 or seconds(datetime(year, 1, 1, tzinfo=UTC)) <= high):
        if year >= 1:
            yield datetime(year, 1, 1, tzinfo=UTC)
        year += years
