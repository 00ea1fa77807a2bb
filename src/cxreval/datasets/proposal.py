"""Proposes the rules of a label table from its header and cells, where only one reading fits.

It recognises the columns of the public tables of chest radiographs: NIH ChestX-ray14, CheXpert,
VinDr-CXR, PadChest, MIMIC-CXR.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from cxreval.datasets.columns import RESERVED, folded
from cxreval.datasets.label_rules import MAJORITY, LabelRules, normalised
from cxreval.datasets.label_values import names_in
from cxreval.errors import DatasetInvalid
from cxreval.fields import shown

KNOWN_COLUMNS = {
    "image": ("Image Index", "Path", "image_id", "ImageID", "filename", "file_name", "image",
              "dicom_id"),
    "patient": ("Patient ID", "PatientID", "subject_id"),
    "names": ("Finding Labels", "Labels", "class_name"),
    "reader": ("rad_id", "reader", "reader_id"),
    "sex": ("Patient Gender", "Patient Sex", "PatientSex", "PatientSex_DICOM", "Sex", "Gender"),
    "age": ("Patient Age", "PatientAge", "Age"),
    "view": ("View Position", "ViewPosition", "AP/PA", "Projection", "View"),
}  # fmt: skip
"""Names of the columns, by the field of the rules; case and underscores do not matter."""

OPTIONS = {
    "image": "--column filename={}",
    "patient": "--patient {}",
    "names": "--labels-column {}",
    "reader": "--reader {}",
    "sex": "--column sex={}",
    "age": "--column age={}",
    "view": "--column view={}",
}
"""The option of `cxreval dataset describe` that names the column of each field."""

MAX_PROPOSED = 30
"""Maximum number of findings that are taken from a column of names without being asked for."""

_PAIRS = (("1", "0"), ("yes", "no"), ("y", "n"), ("true", "false"), ("positive", "negative"),
          ("present", "absent"))  # fmt: skip
_UNCERTAIN, _BLANK = "-1", ("", "nan")
_NO_FINDING = {*map(folded, ("No Finding", "normal", "healthy"))}
_PATIENT_FOLDER = re.compile(r"patient[_-]?[0-9]+", re.IGNORECASE)
_DISTINCT = 20  # a column with more values than that holds no labels


class Proposal:
    """Proposes what the options of `cxreval dataset describe` leave out.

    `rows`: returns the cells of each row; it is called several times, because a table may be large.
    `given`: fields of `LabelRules` from the options; an empty text is an answer too.
    """

    def __init__(
        self,
        header: Sequence[str],
        rows: Callable[[], Iterable[Sequence[str]]],
        findings: Sequence[str],
        given: Mapping[str, Any],
    ) -> None:
        self._header = [name.strip() for name in header]
        self._rows = rows
        self._fields = dict(given)
        self._findings = tuple(findings)

    def rules(self) -> tuple[LabelRules, tuple[str, ...]]:
        """Returns the rules and the findings.

        Raises:
            DatasetInvalid: several readings fit, or none; the message has the option to add.
        """
        if self._findings and {*self._findings} <= {*self._header}:
            self._fields.setdefault("names", "")
        for field in KNOWN_COLUMNS:
            if field not in self._fields:
                self._fields[field] = self._known_column(field)
        if not self._fields["image"]:
            raise self._undecided("image", "--column filename=COLUMN", "names the images")
        if not self._fields["patient"]:
            self._fields |= self._patient_folder()
        if self._fields["reader"]:
            self._fields.setdefault("readers", MAJORITY)
        if self._fields["names"]:
            return self._of_names()
        return self._of_columns()

    def _known_column(self, field: str) -> str:
        """Returns the column of a field by its name; empty if there is none."""
        known = {*map(folded, KNOWN_COLUMNS[field])}
        fitting = [name for name in self._header if folded(name) in known]
        if len(fitting) > 1:
            option = OPTIONS[field].format(f"'{fitting[0]}'")
            raise self._undecided(field, option, f"is meant: {' or '.join(map(repr, fitting))}")
        return fitting[0] if fitting else ""

    def _undecided(self, field: str, option: str, what: str) -> DatasetInvalid:
        columns = ", ".join(shown(name) for name in self._header[:_DISTINCT])
        message = f"which column {what}? Add {option}; the table has {columns}"
        return DatasetInvalid(message, field=field, expected=option)

    def _patient_folder(self) -> dict[str, Any]:
        """Returns the fields for a patient who is a folder in each image's path, as in CheXpert."""
        image = self._header.index(self._fields["image"])
        common: set[int] | None = None
        for row in self._rows():
            parts = row[image].split("/")
            folders = {
                number
                for number, part in enumerate(parts[:-1], start=1)
                if _PATIENT_FOLDER.fullmatch(part)
            }
            common = folders if common is None else common & folders
        if not common:
            own = f"--patient '{self._fields['image']}' if no patient has two images"
            raise self._undecided("patient", f"--patient COLUMN, or {own}", "names the patients")
        return {"patient": self._fields["image"], "patient_part": min(common)}

    def _of_names(self) -> tuple[LabelRules, tuple[str, ...]]:
        """Returns rules and findings of a table with a column of names."""
        column = self._fields["names"]
        if column not in self._header:
            raise self._undecided("names", "--labels-column COLUMN", "names the findings")
        cells = Counter(row[self._header.index(column)].strip() for row in self._rows())
        if "separator" not in self._fields:
            listed = any(cell.startswith("[") and cell.endswith("]") for cell in cells)
            several = any("|" in cell for cell in cells)
            self._fields["separator"] = "," if listed else "|" if several else ""
        rules = LabelRules(**self._fields)
        return rules, self._findings or self._named(cells, rules.separator)

    def _named(self, cells: Counter[str], separator: str) -> tuple[str, ...]:
        """Returns all findings that the cells name, the most frequent first."""
        counts: Counter[str] = Counter()
        for cell, count in cells.items():
            for name in names_in(cell, separator):
                if folded(name) not in _NO_FINDING:
                    counts[name] += count
        ordered = sorted(counts, key=lambda name: (-counts[name], name))
        if len(ordered) > MAX_PROPOSED or not ordered:
            first = ", ".join(f"{shown(name)} ({counts[name]})" for name in ordered[:_DISTINCT])
            message = (
                f"which findings? The table names {len(ordered)}: {first or 'none'}"
                f"{', ...' if len(ordered) > _DISTINCT else ''}; add --findings 'NAME,NAME,...'"
            )
            raise DatasetInvalid(message, field="findings", expected="--findings 'NAME,NAME,...'")
        return tuple(ordered)

    def _of_columns(self) -> tuple[LabelRules, tuple[str, ...]]:
        """Returns rules and findings of a table with a column for each finding."""
        values = self._values()
        pair = next((pair for pair in _PAIRS if self._labelled(values, pair)), _PAIRS[0])
        findings = self._findings or self._labelled(values, pair)
        if not findings:
            message = (
                "which columns are findings? None has only 1, 0, -1 and blanks, or yes and no; add "
                "--findings 'NAME,NAME,...', and --positive and --negative with their values"
            )
            raise DatasetInvalid(message, field="findings", expected="--findings 'NAME,NAME,...'")
        given = [*self._fields.get("positive", ()), *self._fields.get("negative", ())]
        implied: dict[str, Any] = {"positive": (pair[0],), "negative": (pair[1],)}
        uncertain = normalised(_UNCERTAIN)
        occurs = any(uncertain in values.get(finding, ()) for finding in findings)
        if "uncertain" in self._fields or (occurs and uncertain not in map(normalised, given)):
            implied["uncertain_values"] = (_UNCERTAIN,)
        return LabelRules(**{**implied, **self._fields}), findings

    def _values(self) -> dict[str, set[str]]:
        """Returns the distinct values of each column that may hold labels, normalised, without
        blanks."""
        used = {value for value in self._fields.values() if isinstance(value, str)}
        open_columns = {
            name: number
            for number, name in enumerate(self._header)
            if name and name not in used and folded(name) not in RESERVED
        }
        values: dict[str, set[str]] = {name: set() for name in open_columns}
        for row in self._rows():
            for name, number in [*open_columns.items()]:
                values[name].add(row[number])
                if len(values[name]) > _DISTINCT:
                    del values[name], open_columns[name]
        return {name: {*map(normalised, kept)} - {*_BLANK} for name, kept in values.items()}

    def _labelled(self, values: Mapping[str, set[str]], pair: tuple[str, str]) -> tuple[str, ...]:
        """Returns the columns, of the findings if they are given, with only such labels."""
        labels = {*map(normalised, (*pair, _UNCERTAIN))}
        names = self._findings or tuple(values)
        fitting = tuple(name for name in names if values.get(name) and values[name] <= labels)
        return fitting if not self._findings or len(fitting) == len(names) else ()
