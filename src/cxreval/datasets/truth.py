"""The ground truth of a benchmark: the findings and the patient of each image.

Only the scoring service and `cxreval score` may import this module.

A label table has one row for each image, with the image's name, its patient and, optionally, the
patient's sex and age and the view. It states the findings in one of two forms: NIH's column
`Finding Labels`, names joined by `|`; or a column for each finding, with 0, 1 or, for an unknown
label, an empty cell.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxreval.datasets.benchmark import BenchmarkSpec, image_list, list_sha256
from cxreval.datasets.columns import AGE, IMAGE, LABELS, PATIENT, SEX, UNREAD_COLUMNS, VIEW
from cxreval.datasets.dataset_files import MAX_TABLE_BYTES, csv_rows, read_limited
from cxreval.datasets.nih import FINDINGS, NO_FINDING
from cxreval.errors import DatasetInvalid
from cxreval.fields import shown
from cxreval.metrics.cohort import MAX_SLICE_CHARACTERS, MAX_SLICES, Cohort, Slice
from cxreval.metrics.predictions import PredictionTable, image_rows
from cxreval.metrics.report import Report
from cxreval.metrics.scorers import SCORERS
from cxreval.resource_names import BenchmarkName

AGE_BANDS = {
    "0-19": (0, 20),
    "20-39": (20, 40),
    "40-59": (40, 60),
    "60-79": (60, 80),
    "80-": (80, 121),
}
"""First year of age of each band, and the first year after it.

Ages above 120 are in no band: in NIH's table they are typing errors.
"""

_PATIENT_NUMBER = re.compile(r"[0-9]{1,18}")
_AGE = re.compile(r"[0-9]{1,3}")


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The labels of a benchmark's images.

    `rows`: row number by image name, in the order of the names. `cohort`: arrays with these rows.
    """

    spec: BenchmarkSpec
    rows: Mapping[str, int]
    cohort: Cohort

    def table(self) -> PredictionTable:
        """Returns an empty table of predictions for these images."""
        return PredictionTable(self.rows, self.spec.findings)

    def report(self, table: PredictionTable) -> Report:
        """Returns the report of a complete table, with its evidence. Raises `MissingImages`."""
        table.check_complete()
        spec = self.spec
        metrics, evidence = SCORERS[spec.scorer_version].score(
            self.cohort, table.probabilities, spec.seed, spec.replicates, spec.metric_names
        )
        return Report(
            benchmark=str(BenchmarkName(spec.name)),
            benchmark_digest=spec.digest,
            scorer_version=spec.scorer_version,
            image_count=spec.image_count,
            patient_count=spec.patient_count,
            metrics=metrics,
            predictions_sha256=table.sha256(),
            replicate_count=spec.replicates,
            seed=spec.seed,
            evidence=evidence,
        )


def load_truth(spec: BenchmarkSpec, directory: Path) -> Truth:
    """Reads the label table and the list of a data set in NIH's layout.

    Raises:
        DatasetInvalid: a file is missing or has another digest, a row is malformed, an image of the
            list is not in the table, or the counts are not the specification's.
    """
    truth = truth_of(spec, directory, image_list(spec, directory))
    counts = (truth.spec.image_count, truth.spec.patient_count)
    if counts != (spec.image_count, spec.patient_count):
        expected = f"{spec.image_count} of {spec.patient_count}"
        message = (
            f"{directory / spec.labels_file} has {counts[0]} images of {counts[1]} patients; "
            f"expected {expected}"
        )
        raise DatasetInvalid(message, file=directory / spec.labels_file, expected=expected)
    return truth


def truth_of(spec: BenchmarkSpec, directory: Path, images: Sequence[str]) -> Truth:
    """Reads the labels of some images, sorted, from the label table of a benchmark.

    The truth's specification has the list and the counts of these images: if they are not those
    of the benchmark, its digest is another one.

    Raises:
        DatasetInvalid: as `load_truth`.
    """
    file = directory / spec.labels_file
    content = read_limited(file, "label table", MAX_TABLE_BYTES)
    digest = hashlib.sha256(content).hexdigest()
    if digest != spec.labels_sha256:
        message = f"the label table {file} has digest {digest}; expected {spec.labels_sha256}"
        raise DatasetInvalid(message, file=file, found=digest, expected=spec.labels_sha256)
    try:
        vocabulary = tuple(dict.fromkeys((*FINDINGS, *spec.findings)))
        rows = _rows(content, file, set(images), vocabulary)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetInvalid(f"cannot read the label table {file}: {error}", file=file) from None
    absent = [image for image in images if image not in rows]
    if absent:
        message = f"{file} has no row for {len(absent)} images, the first is {absent[0]!r}"
        raise DatasetInvalid(message, file=file, image=absent[0], count=len(absent))
    cohort = _cohort(spec, [rows[image] for image in images])
    _check_slices(cohort, file)
    own = replace(
        spec,
        list_sha256=list_sha256(list(images)),
        image_count=len(images),
        patient_count=cohort.patient_count,
    )
    return Truth(own, image_rows(images), cohort)


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of the label table; the label of a finding is None if it is unknown."""

    patient: int
    labels: Mapping[str, bool | None]
    sex: str
    view: str
    age: int | None


def _rows(
    content: bytes, file: Path, wanted: set[str], vocabulary: Sequence[str]
) -> dict[str, _Row]:
    """Returns the rows of the wanted images, by name.

    `vocabulary`: the findings that the table may name.

    Raises:
        DatasetInvalid: a row is malformed, or an image has two rows.
    """
    table = csv_rows(content)
    names = next(table, [])
    columns = _checked_columns(names, file, vocabulary)
    rows: dict[str, _Row] = {}
    for line, cells in enumerate(table, start=2):
        row = dict(zip_longest(names, cells[: len(names)]))
        image = row[IMAGE]
        if image not in wanted:
            continue
        if image in rows:
            raise DatasetInvalid(
                f"{file} line {line}: image {image!r} has a second row; remove one",
                file=file,
                line=line,
                image=image,
            )
        try:
            rows[image] = _row(row, columns, vocabulary)
        except ValueError as problem:
            raise DatasetInvalid(
                f"{file} line {line}: {problem}", file=file, line=line, image=image
            ) from None
    return rows


def _checked_columns(names: Sequence[str], file: Path, vocabulary: Sequence[str]) -> Sequence[str]:
    """Returns the findings that have a column each; none in NIH's form.

    Raises:
        DatasetInvalid: a column is missing, unknown or repeated.
    """
    findings = [name for name in names if name in vocabulary]
    missing = [
        name for name in (IMAGE, PATIENT, *(() if findings else (LABELS,))) if name not in names
    ]
    if missing:
        raise DatasetInvalid(f"{file} has no column {missing[0]!r}", file=file, field=missing[0])
    known = {IMAGE, PATIENT, AGE, SEX, VIEW, *UNREAD_COLUMNS, *(findings or (LABELS,))}
    unknown = [name for name in names if name not in known]
    if unknown or len(set(names)) < len(names):
        problem = (
            f"{len(unknown)} unknown columns, the first is {unknown[0]!r}"
            if unknown
            else "a column twice"
        )
        raise DatasetInvalid(
            f"{file} has {problem}",
            file=file,
            field=unknown[0] if unknown else "",
            count=len(unknown),
        )
    return findings


def _row(row: Mapping[str, str | None], columns: Sequence[str], vocabulary: Sequence[str]) -> _Row:
    """Returns a row of the label table. Raises `ValueError`, which says what is malformed."""
    patient = row[PATIENT] or ""
    if not _PATIENT_NUMBER.fullmatch(patient):
        raise ValueError(f"patient is {row[PATIENT]!r}; expected a number")
    age = row.get(AGE) or ""
    return _Row(
        patient=int(patient),
        labels={name: _label(name, row[name]) for name in columns}
        if columns
        else _named(row[LABELS] or "", vocabulary),
        sex=row.get(SEX) or "",
        view=row.get(VIEW) or "",
        age=int(age) if _AGE.fullmatch(age) else None,
    )


def _named(names: str, vocabulary: Sequence[str]) -> dict[str, bool | None]:
    """Returns the labels in NIH's form: named findings are present, all others are absent."""
    present = {name.strip() for name in names.split("|")} - {NO_FINDING}
    unknown = sorted(present.difference(vocabulary))
    if unknown:
        raise ValueError(f"unknown finding {unknown[0]!r}")
    return {finding: finding in present for finding in vocabulary}


def _label(finding: str, value: str | None) -> bool | None:
    """Returns the label in a cell, None for an empty one. Raises `ValueError`."""
    if value not in ("0", "1", ""):
        raise ValueError(f"{finding} is {value!r}; expected 0, 1 or nothing")
    return None if value == "" else value == "1"


def _cohort(spec: BenchmarkSpec, rows: Sequence[_Row]) -> Cohort:
    """Returns the rows as arrays, with patients numbered from 0."""
    labels = [[row.labels.get(finding) for finding in spec.findings] for row in rows]
    _, patients = np.unique(np.array([row.patient for row in rows], np.int64), return_inverse=True)
    values = {
        "sex": [row.sex for row in rows],
        "age": [_age_band(row.age) for row in rows],
        "view": [row.view for row in rows],
    }
    slices = [part for dimension in spec.slices for part in _slices(dimension, values[dimension])]
    return Cohort(
        findings=spec.findings,
        labels=np.array([[label is True for label in row] for row in labels], np.bool_),
        known=np.array([[label is not None for label in row] for row in labels], np.bool_),
        patients=patients.astype(np.int64),
        patient_count=int(patients.max()) + 1,
        slices=tuple(slices),
    )


def _check_slices(cohort: Cohort, file: Path) -> None:
    """Raises `DatasetInvalid` if the registry would refuse the slices of a report."""
    names = [part.name for part in cohort.slices]
    if len(names) > MAX_SLICES:
        message = (
            f"{file} splits the images into {len(names)} slices; expected at most {MAX_SLICES} "
            "different values of sex, age and view"
        )
        raise DatasetInvalid(message, file=file, count=len(names), expected=f"at most {MAX_SLICES}")
    for name in names:
        if len(name) > MAX_SLICE_CHARACTERS or not name.isprintable():
            expected = f"at most {MAX_SLICE_CHARACTERS} printable characters"
            message = f"{file} has a slice {shown(name)!r}; expected {expected}"
            raise DatasetInvalid(message, file=file, expected=expected)


def _age_band(age: int | None) -> str:
    """Returns the band of an age, or an empty string."""
    return next(
        (band for band, (low, high) in AGE_BANDS.items() if age is not None and low <= age < high),
        "",
    )


def _slices(dimension: str, values: Sequence[str]) -> list[Slice]:
    """Returns a slice for each value, sorted; images without a value are in no slice."""
    column: NDArray[np.str_] = np.array(values)
    return [Slice(dimension, value, column == value) for value in sorted(set(values)) if value]
