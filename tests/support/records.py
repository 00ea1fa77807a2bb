"""Records of any dataclass for tests, made by its type hints."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import NoneType
from typing import Any

import numpy as np
from hypothesis import strategies as st

_TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
NOON = datetime(2026, 1, 2, 12, 30, 45, 678901, tzinfo=UTC)
MOMENTS = st.datetimes(timezones=st.just(UTC))
_SECONDS = st.integers(-(2**40), 2**40).map(lambda number: number / 2**6)
"""Seconds that microseconds and binary fractions both hold."""

_SIMPLE: dict[Any, st.SearchStrategy[Any]] = {
    str: _TEXT,
    bytes: st.binary(max_size=20),
    bool: st.booleans(),
    int: st.integers(0, 2**31 - 1),
    float: st.floats(allow_nan=False),
    datetime: MOMENTS,
    timedelta: st.timedeltas(timedelta(days=-9999), timedelta(days=9999)),
}


def records(kind: type, /, **fixed: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Records of a dataclass; `fixed`: the values of some fields."""
    hints = typing.get_type_hints(kind)
    values = {
        field.name: _values(field.name, hints[field.name])
        for field in dataclasses.fields(kind)
        if field.name not in fixed
    }
    return st.builds(kind, **values, **fixed)


def _values(name: str, hint: Any) -> st.SearchStrategy[Any]:  # noqa: PLR0911 - one a type
    arguments = typing.get_args(hint)
    if NoneType in arguments:
        (other,) = (one for one in arguments if one is not NoneType)
        return st.none() | _values(name, other)
    if typing.get_origin(hint) is tuple:
        return st.lists(_values(name, arguments[0]), max_size=3).map(tuple)
    if typing.get_origin(hint) is Mapping:
        return st.dictionaries(*(_values(name, one) for one in arguments), max_size=3)
    if typing.get_origin(hint) is np.ndarray:
        return st.lists(st.floats(), max_size=5).map(lambda values: np.array(values, np.float64))
    if dataclasses.is_dataclass(hint):
        return records(hint)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return st.sampled_from(hint)
    # A duration that is a float has the microseconds of its message.
    seconds = hint is float and ("seconds" in name or name in {"wall", "cpu"})
    return _SECONDS if seconds else _SIMPLE[hint]


def sample(kind: type, /, **fixed: Any) -> Any:
    """A record without a default or empty value in any field; `fixed`: the values of some."""
    hints = typing.get_type_hints(kind)
    return kind(
        **{
            field.name: fixed[field.name]
            if field.name in fixed
            else _sample(field.name, hints[field.name])
            for field in dataclasses.fields(kind)
        }
    )


def _sample(name: str, hint: Any) -> Any:  # noqa: PLR0911 - one a type
    arguments = typing.get_args(hint)
    if NoneType in arguments:
        return _sample(name, arguments[0])
    if typing.get_origin(hint) is tuple:
        return (_sample(name, arguments[0]),) * 2
    if typing.get_origin(hint) is Mapping:
        return {name: _sample(name, arguments[1])}
    if typing.get_origin(hint) is np.ndarray:
        return np.array([0.25, 0.5])
    if dataclasses.is_dataclass(hint):
        return sample(hint)
    if issubclass(hint, StrEnum):
        return list(hint)[-1]
    return {str: name, bytes: name.encode(), bool: True, int: 7, float: 0.125, datetime: NOON}[hint]
