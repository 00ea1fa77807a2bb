"""Reads label tables: the one parser of scoring and of the host's commands.

Scoring starts with each data set for which `load_cohort` returns. A worker has no label table: only
scoring and the commands that describe, verify and register a data set import this module.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.datasets.dataset_files import MAX_TABLE_BYTES, csv_rows, read_limited
from cxreval.datasets.label_rows import About, LabelRows
from cxreval.datasets.label_rules import LabelRules
from cxreval.datasets.label_values import PRESENT, UNKNOWN, Labels
from cxreval.datasets.mistakes import Mistakes
from cxreval.errors import DatasetInvalid
from cxreval.fields import is_printable, shown
from cxreval.metrics.cohort import MAX_SLICE_CHARACTERS, MAX_SLICES, Cohort, Slice

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


@dataclass(frozen=True, slots=True)
class ParsedLabels:
    """What a label table says about a list of images, read by `rules`.

    `labels` and `about` are by image, for those that have labels; `missing` are the others.
    `unlisted`: number of rows about images outside the list, and `first_unlisted` line and name of
    one of them. `ties`: number of labels about which readers are divided.
    """

    file: Path
    rules: LabelRules
    images: Sequence[str]
    findings: tuple[str, ...]
    labels: dict[str, Labels]
    about: dict[str, About]
    missing: Sequence[str]
    unlisted: int
    first_unlisted: tuple[int, str]
    ties: int
    mistakes: Mistakes

    def cohort(self, slices: Sequence[str]) -> Cohort:
        """Returns the labels as arrays, rows in the order of the images, split by `slices`.

        Raises:
            DatasetInvalid: the table has mistakes or lacks images, or there are too many slices.
        """
        self.mistakes.check()
        if self.missing:
            first, count = self.missing[0], len(self.missing)
            message = f"{self.file} has no row for {count} images, the first is {first!r}"
            raise DatasetInvalid(message, file=self.file, image=first, count=count)
        about = [self.about[image] for image in self.images]
        labels = np.array([self.labels[image] for image in self.images], np.int8)
        # The bootstrap draws patients by number, so the numbers must be the same at each start:
        # they are in the order of NIH's numbers, or of the digests of other identifiers.
        _, patients = np.unique([row.patient for row in about], return_inverse=True)
        values = {
            "sex": [row.sex for row in about],
            "age": [_age_band(row.age) for row in about],
            "view": [row.view for row in about],
        }
        parts = [part for dimension in slices for part in _slices(dimension, values[dimension])]
        _check_slices(parts, self.file)
        return Cohort(
            findings=self.findings,
            labels=labels == PRESENT,
            known=labels != UNKNOWN,
            patients=patients.astype(np.int64),
            patient_count=int(patients.max()) + 1,
            slices=tuple(parts),
        )


def load_cohort(spec: BenchmarkSpec, directory: Path, images: Sequence[str]) -> Cohort:
    """Returns the labels of a benchmark's images, after all checks of its label table.

    Raises:
        DatasetInvalid: the table is missing or has another digest, it has mistakes, or the counts
            are not the specification's.
    """
    cohort = read_cohort(spec, directory, images)
    if (len(images), cohort.patient_count) != (spec.image_count, spec.patient_count):
        file, expected = directory / spec.labels_file, f"{spec.image_count} of {spec.patient_count}"
        message = (
            f"{file} has {len(images)} images of {cohort.patient_count} patients; "
            f"expected {expected}"
        )
        raise DatasetInvalid(message, file=file, expected=expected)
    return cohort


def read_cohort(spec: BenchmarkSpec, directory: Path, images: Sequence[str]) -> Cohort:
    """Returns the labels of any images, in the label table of a benchmark.

    Raises:
        DatasetInvalid: the table is missing or has another digest, or it has mistakes.
    """
    file = directory / spec.labels_file
    content = read_limited(file, "label table", MAX_TABLE_BYTES)
    digest = hashlib.sha256(content).hexdigest()
    if digest != spec.labels_sha256:
        message = f"the label table {file} has digest {digest}; expected {spec.labels_sha256}"
        raise DatasetInvalid(message, file=file, found=digest, expected=spec.labels_sha256)
    return parse_labels(content, file, images, spec.findings, spec.labels).cohort(spec.slices)


def parse_labels(
    content: bytes,
    file: Path,
    images: Sequence[str],
    findings: Sequence[str],
    rules: LabelRules | None,
) -> ParsedLabels:
    """Reads all rows of a label table and collects every mistake. `rules`: None for NIH's layout.

    Raises:
        DatasetInvalid: it is not a table, or its columns are not those of the rules.
    """
    rows = table_rows(content, file)
    _, header = next(rows, (1, []))
    table = LabelRows(file, header, images, findings, rules)
    for line, cells in rows:
        table.add(line, cells)
    decided = {image: table.decided(image) for image in images}
    labels = {image: labelled[0] for image, labelled in decided.items() if labelled}
    return ParsedLabels(
        file=file,
        rules=table.rules,
        images=images,
        findings=tuple(findings),
        labels=labels,
        about={image: table.rows[image].about for image in labels},
        missing=[image for image in images if image not in labels],
        unlisted=table.unlisted,
        first_unlisted=table.first_unlisted,
        ties=sum(labelled[1] for labelled in decided.values() if labelled),
        mistakes=table.mistakes,
    )


def table_rows(content: bytes, file: Path) -> Iterator[tuple[int, list[str]]]:
    """Yields the line and the cells of each row of a label table. Raises `DatasetInvalid`."""
    try:
        yield from csv_rows(content)
    except csv.Error as error:
        raise DatasetInvalid(f"cannot read the label table {file}: {error}", file=file) from None


@dataclass(frozen=True, slots=True)
class FindingCounts:
    """The numbers of images and patients with a finding and without, and of unlabelled images."""

    finding: str
    positive_images: int
    positive_patients: int
    negative_images: int
    negative_patients: int
    unknown_images: int


def finding_counts(cohort: Cohort) -> list[FindingCounts]:
    """Returns the counts of each finding, in order."""
    counts = []
    for column, finding in enumerate(cohort.findings):
        known = cohort.known[:, column]
        positive = known & cohort.labels[:, column]
        negative = known & ~positive
        counts.append(
            FindingCounts(
                finding,
                int(positive.sum()),
                _patients(cohort, positive),
                int(negative.sum()),
                _patients(cohort, negative),
                int((~known).sum()),
            )
        )
    return counts


def constant_findings(counts: Sequence[FindingCounts]) -> list[str]:
    """Returns a warning for each finding that has no positive or no negative image."""
    return [
        f"{row.finding} has no {'positive' if not row.positive_images else 'negative'} image, so "
        "its AUROC is undefined, and so is the mean over the findings"
        for row in counts
        if not (row.positive_images and row.negative_images)
    ]


def _patients(cohort: Cohort, rows: NDArray[np.bool_]) -> int:
    return int(np.unique(cohort.patients[rows]).size)


def _check_slices(parts: Sequence[Slice], file: Path) -> None:
    """Raises `DatasetInvalid` if the registry would refuse the slices of a report."""
    names = [part.name for part in parts]
    if len(names) > MAX_SLICES:
        message = (
            f"{file} splits the images into {len(names)} slices; expected at most {MAX_SLICES} "
            "different values of sex, age and view"
        )
        raise DatasetInvalid(message, file=file, count=len(names), expected=f"at most {MAX_SLICES}")
    for name in names:
        if len(name) > MAX_SLICE_CHARACTERS or not is_printable(name):
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
