"""The rules by which a benchmark reads its label table: columns, values, policies and readers.

`cxreval dataset describe` writes them into the table `[labels]` of `benchmark.toml`. They are part
of the benchmark's digest, because another rule gives other labels.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, cast

from cxreval.fields import is_printable

MAJORITY = "majority"
"""The value of `readers` that takes the vote of all readers of an image."""

MAX_COLUMN_CHARACTERS = 255
"""Maximum length of a column's name and of a value in the rules."""

_MAX_VALUES = 50
_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]{0,15})?")


class LabelPolicy(StrEnum):
    """How a label is read that says neither present nor absent."""

    REFUSE = "refuse"
    IGNORE = "ignore"
    POSITIVE = "positive"
    NEGATIVE = "negative"


@dataclass(frozen=True, slots=True)
class LabelRules:
    """How a label table is read.

    The labels are in one column for each finding, or, with `names`, in one column of findings'
    names. `image` and `patient` are columns too, as are `sex`, `age` and `view`, which may be
    empty. Values are compared without case and spaces around them, and as numbers where they are
    numbers: `1` is also `1.0`.

    Attributes:
        image: column of the image's path. It may leave out the extension or leading folders, and
            may have further leading folders, as long as one image of the list fits.
        patient: column of the patient's identifier, a text.
        patient_part: which part of that text between slashes is the identifier, counted from 1;
            0 for all of it.
        names: column of names; all findings that it does not name are absent.
        separator: what is between two names of a cell; if it is empty, a cell has one name, and an
            image has a row for each name.
        positive, negative: values of the findings' columns for present and absent.
        uncertain_values: values for a label that the reader left open.
        uncertain: how those are read.
        blank: how an empty cell is read, or `nan`.
        reader: column of the reader; each reader has rows of his or her own. Empty: one reader.
        readers: `majority`, or the reader whose labels count. More than half of an image's readers
            that labelled a finding decide about it; it has no label where they are divided.
        sex, age, view: columns of the slices.
    """

    image: str
    patient: str
    patient_part: int = 0
    names: str = ""
    separator: str = ""
    positive: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()
    uncertain_values: tuple[str, ...] = ()
    uncertain: LabelPolicy = LabelPolicy.REFUSE
    blank: LabelPolicy = LabelPolicy.REFUSE
    reader: str = ""
    readers: str = ""
    sex: str = ""
    age: str = ""
    view: str = ""

    def stated(self) -> dict[str, Any]:
        """Returns the fields that differ from their defaults, which the digest is over."""
        defaults = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in asdict(self).items() if value != defaults[name]}

    def to_toml(self) -> str:
        """Returns the rules as the table `[labels]`."""
        # A JSON string, number or array of strings is also TOML.
        lines = (f"{name} = {json.dumps(value, ensure_ascii=False)}\n"
                 for name, value in self.stated().items())  # fmt: skip
        return "\n[labels]\n" + "".join(lines)


def rules_from_fields(stored: Mapping[str, Any]) -> LabelRules:
    """Returns the rules of a TOML table or JSON object with known fields, their values unchecked.

    Raises:
        TypeError: a field is missing or unknown.
    """
    values = {key: tuple(item) if isinstance(item, list) else item for key, item in stored.items()}
    for field in ("uncertain", "blank"):
        if isinstance(value := values.get(field), str) and value in {*LabelPolicy}:
            values[field] = LabelPolicy(value)
    return LabelRules(**cast("Any", values))


def normalised(text: str) -> str:
    """Returns the form in which two values of a label are compared."""
    text = text.strip().casefold()
    return repr(float(text) + 0.0) if _NUMBER.fullmatch(text) else text


def rule_checks(rules: Any, slices: Sequence[str]) -> list[tuple[str, bool, str]]:
    """Returns each check of the rules: the field, the result and what is expected.

    `slices`: the dimensions that split the images. Malformed fields never raise.
    """
    if not isinstance(rules, LabelRules):
        return [("labels", False, "a table of rules, such as image and patient")]
    column = f"the name of a column, of 1 to {MAX_COLUMN_CHARACTERS} printable characters"
    values = f"a list of up to {_MAX_VALUES} distinct values"
    checks = [
        *(
            (f"labels.{name}", _is_text(getattr(rules, name), 1), column)
            for name in ("image", "patient")
        ),
        *(
            (f"labels.{name}", _is_text(getattr(rules, name), 0), f"{column}, or nothing")
            for name in ("names", "separator", "reader", "readers", "sex", "age", "view")
        ),
        (
            "labels.patient_part",
            type(rules.patient_part) is int and 0 <= rules.patient_part <= 100,
            "0 to 100",
        ),
        *((f"labels.{name}", _are_values(getattr(rules, name)), values)
          for name in ("positive", "negative", "uncertain_values")),
        *((f"labels.{name}", isinstance(getattr(rules, name), LabelPolicy),
           f"one of {', '.join(LabelPolicy)}") for name in ("uncertain", "blank")),
    ]  # fmt: skip
    return checks if not all(good for _, good, _ in checks) else _combinations(rules, slices)


def _combinations(rules: LabelRules, slices: Sequence[str]) -> list[tuple[str, bool, str]]:
    """Returns the checks of fields that depend on each other; each field by itself is good."""
    values = [*rules.positive, *rules.negative, *rules.uncertain_values]
    distinct = len({*map(normalised, values)}) == len(values)
    used = [rules.names, rules.reader, rules.sex, rules.age, rules.view]
    given = [name for name in used if name]
    checks = [
        ("labels.readers", bool(rules.readers) == bool(rules.reader),
         f"{MAJORITY} or the name of a reader, where labels.reader names a column"),
        ("labels.image", rules.image not in given and len({*given}) == len(given),
         "another column than those of names, reader, sex, age and view, which differ too"),
        *((f"labels.{name}", bool(getattr(rules, name)), f"a column, because slices has {name}")
          for name in slices if isinstance(name, str) and name in ("sex", "age", "view")),
    ]  # fmt: skip
    if rules.names:
        return [
            *checks,
            ("labels.positive", not values, "no values, because labels.names names the findings"),
            ("labels.uncertain", rules.uncertain is LabelPolicy.REFUSE,
             "nothing, because labels.names names the findings"),
            ("labels.blank", rules.blank is not LabelPolicy.POSITIVE,
             "refuse, ignore or negative, because an empty cell names no finding"),
        ]  # fmt: skip
    return [
        *checks,
        ("labels.separator", not rules.separator, "nothing without labels.names"),
        ("labels.positive", bool(rules.positive), "at least one value for present"),
        ("labels.negative", bool(rules.negative), "at least one value for absent"),
        ("labels.positive", distinct,
         "values that are neither in labels.negative nor in labels.uncertain_values"),
    ]  # fmt: skip


def _is_text(value: object, shortest: int) -> bool:
    return (
        isinstance(value, str)
        and shortest <= len(value) <= MAX_COLUMN_CHARACTERS
        and is_printable(value)
    )


def _are_values(value: object) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) <= _MAX_VALUES
        and all(_is_text(item, 1) and item.strip() and normalised(item) != "nan" for item in value)
        and len({normalised(item) for item in value}) == len(value)
    )
