"""The ground truth: which image shows which findings, and which patient it is of.

Only the scoring service may import this module.
"""

from __future__ import annotations

import csv
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxreval.datasets.benchmark import FINDINGS, BenchmarkSpec, image_list
from cxreval.errors import DatasetInvalid

NO_FINDING = "No Finding"
_PATIENT_NUMBER = re.compile(r"[0-9]{1,18}")
_IMAGE, _LABELS, _PATIENT = "Image Index", "Finding Labels", "Patient ID"


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Labels of a benchmark's images.

    `images`: n names, sorted. `labels`: shape (n, findings), bool, columns in the benchmark's order of findings.
    `patients`: shape (n,), int64.
    """

    spec: BenchmarkSpec
    images: tuple[str, ...]
    labels: NDArray[np.bool_]
    patients: NDArray[np.int64]


def load_truth(spec: BenchmarkSpec, directory: Path) -> Truth:
    """Reads the label table and the list of a data set in NIH's layout.

    Raises:
        DatasetInvalid: a file is missing or has another digest, a row is malformed, an image of the list is not in the
            table, or the counts are not the specification's.
    """
    images = image_list(spec, directory)
    file = directory / spec.labels_file
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DatasetInvalid(f"cannot read the label table {file}: {error}", file=file) from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != spec.labels_sha256:
        message = f"the label table {file} has digest {digest}; expected {spec.labels_sha256}"
        raise DatasetInvalid(message, file=file, found=digest, expected=spec.labels_sha256)
    try:
        rows = _rows(content.decode("utf-8-sig"), file, set(images))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetInvalid(f"cannot read the label table {file}: {error}", file=file) from None
    absent = next((image for image in images if image not in rows), None)
    if absent is not None:
        raise DatasetInvalid(f"{file} has no row for image {absent!r}", file=file, image=absent)
    columns = {finding: column for column, finding in enumerate(spec.findings)}
    labels = np.zeros((len(images), len(columns)), dtype=np.bool_)
    patients = np.zeros(len(images), dtype=np.int64)
    for row, image in enumerate(images):
        patients[row], findings = rows[image]
        for finding in findings:
            if finding in columns:
                labels[row, columns[finding]] = True
    found = (len(images), int(np.unique(patients).size))
    if found != (spec.image_count, spec.patient_count):
        expected = f"{spec.image_count} of {spec.patient_count}"
        raise DatasetInvalid(
            f"{file} has {found[0]} images of {found[1]} patients; expected {expected}", expected=expected
        )
    return Truth(spec, tuple(images), labels, patients)


def _rows(text: str, file: Path, wanted: set[str]) -> dict[str, tuple[int, list[str]]]:
    """Patient and findings of each wanted image."""
    reader = csv.DictReader(text.splitlines())
    missing = [column for column in (_IMAGE, _LABELS, _PATIENT) if column not in (reader.fieldnames or ())]
    if missing:
        raise DatasetInvalid(f"{file} has no column {missing[0]!r}", file=file, field=missing[0])
    rows: dict[str, tuple[int, list[str]]] = {}
    for line, row in enumerate(reader, start=2):
        image = row[_IMAGE]
        if image not in wanted:
            continue
        findings = [finding.strip() for finding in (row[_LABELS] or "").split("|")]
        unknown = next((finding for finding in findings if finding not in FINDINGS and finding != NO_FINDING), None)
        if unknown is not None or image in rows or not _PATIENT_NUMBER.fullmatch(row[_PATIENT] or ""):
            problem = f"unknown finding {unknown!r}" if unknown is not None else "repeated image or malformed patient"
            raise DatasetInvalid(f"{file} line {line}: {problem}", file=file, line=line, image=image)
        rows[image] = (int(row[_PATIENT]), [finding for finding in findings if finding != NO_FINDING])
    return rows
