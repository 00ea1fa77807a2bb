"""Finds the images and patients of a benchmark in declared training data and in public lists.

Only the scoring service may import this module, because it reads the patients of a label table.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np

from cxreval.datasets.benchmark import BenchmarkSpec, read_list
from cxreval.datasets.dataset_files import MAX_TABLE_BYTES, read_limited
from cxreval.datasets.label_rows import LabelRows
from cxreval.datasets.labels import table_rows
from cxreval.datasets.training_list import TrainingData, TrainingUse, listed, read_training_list
from cxreval.errors import DatasetInvalid, TrainingListInvalid, TrainingListUnavailable
from cxreval.metrics.cohort import Cohort
from cxreval.metrics.contamination import Exposure, PublicList

PUBLIC_LISTS = "training_lists"
"""Folder of a data set with its public training lists, one image a line, as `NAME.txt`."""

MAX_PUBLIC_LISTS = 20
_LIST_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")

_NIH_FILES: Mapping[TrainingUse, tuple[str, ...]] = {
    TrainingUse.NIH_TRAIN_VAL: ("train_val_list.txt",),
    TrainingUse.NIH_TEST: ("test_list.txt",),
    TrainingUse.NIH_ALL: ("train_val_list.txt", "test_list.txt"),
}
_NIH_IMAGE = re.compile(r"[0-9]{8}_[0-9]{3}\.png")
_NUMBER = re.compile(r"[0-9]{1,18}")


class TrainingOverlap:
    """The images and patients of a benchmark by every name that training data may give them.

    `rows`: row number by image. `cohort`: the labels with these rows. The label table is read when
    it is first needed: it also has the other images of these patients.
    """

    def __init__(
        self, spec: BenchmarkSpec, directory: Path, rows: Mapping[str, int], cohort: Cohort
    ) -> None:
        self._spec = spec
        self._directory = directory
        self._rows = rows
        self._cohort = cohort

    def exposure(self, data: TrainingData, identifiers: frozenset[str]) -> Exposure:
        """Returns the images and patients that a declaration covers.

        `identifiers`: those of its list, or their hashes if it has a salt.

        Raises:
            TrainingListUnavailable: it names a list of NIH, whose file the data set lacks.
        """
        match data.uses:
            case TrainingUse.NONE:
                return self._exposed((), ())
            case TrainingUse.PATIENTS:
                found = self._exposed((), self._patient_numbers(identifiers, data.salt))
            case TrainingUse.IMAGES:
                found = self._of_images(_matching(self._images, identifiers, data.salt))
            case _:
                return self._of_images(self._nih(data.uses))
        unmatched = not (found.patients.any() or self._in_table(data, identifiers))
        return replace(found, unmatched=unmatched)

    def public_lists(self) -> tuple[PublicList, ...]:
        """Returns the public training lists of the data set, in the order of their names.

        Raises:
            DatasetInvalid: there are too many, a name is malformed, or a list is.
        """
        files = sorted((self._directory / PUBLIC_LISTS).glob("*.txt"))
        if len(files) > MAX_PUBLIC_LISTS:
            expected = f"at most {MAX_PUBLIC_LISTS}"
            message = f"{files[0].parent} has {len(files)} lists; expected {expected}"
            raise DatasetInvalid(message, file=files[0].parent, expected=expected)
        return tuple(map(self._public_list, files))

    def _public_list(self, file: Path) -> PublicList:
        if not _LIST_NAME.fullmatch(file.stem):
            expected = "1 to 63 of a-z, 0-9 and hyphens before .txt"
            raise DatasetInvalid(f"{file} has another name than {expected}", file=file)
        try:
            content = read_training_list(file)
            names = listed(content, hashed=False)
        except TrainingListInvalid as error:
            raise DatasetInvalid(f"{file}: {error.message}", file=file) from None
        members = np.fromiter((image in names for image in self._rows), np.bool_, len(self._rows))
        return PublicList(file.stem, hashlib.sha256(content).hexdigest(), members)

    def _nih(self, uses: TrainingUse) -> Iterable[str]:
        """Returns the images of NIH's lists; none for a benchmark without images of NIH."""
        if not any(_NIH_IMAGE.fullmatch(Path(image).name) for image in self._rows):
            return ()
        files = [self._directory / name for name in _NIH_FILES[uses]]
        missing = next((file for file in files if not file.is_file()), None)
        if missing is not None:
            message = f"training_data names {uses}, but {missing} does not exist; add NIH's list"
            raise TrainingListUnavailable(message, field="training_data.uses", file=missing)
        return chain.from_iterable(map(read_list, files))

    def _of_images(self, names: Iterable[str]) -> Exposure:
        found = [self._images[name] for name in names if name in self._images]
        rows = (row for row, _ in found if row is not None)
        return self._exposed(rows, (patient for _, patient in found))

    def _exposed(self, rows: Iterable[int], patients: Iterable[int]) -> Exposure:
        exposure = Exposure(
            np.zeros(len(self._rows), np.bool_), np.zeros(self._cohort.patient_count, np.bool_)
        )
        exposure.images[np.fromiter(rows, np.intp)] = True
        exposure.patients[np.fromiter(patients, np.intp)] = True
        return exposure

    def _in_table(self, data: TrainingData, identifiers: frozenset[str]) -> bool:
        """Returns whether the label table has an image or patient of a list."""
        if data.uses is TrainingUse.IMAGES:
            known = {name for name, _, _ in self._named()}
        else:
            known = {patient for _, _, patient in self._named()}
            if not data.salt:
                identifiers |= {*map(_plain, identifiers)}
        return any(_matching(known, identifiers, data.salt))

    def prepare(self) -> None:
        """Reads the label table, which the first declaration needs. Raises `DatasetInvalid`."""
        _ = self._index

    def _patient_numbers(self, identifiers: frozenset[str], salt: str) -> set[int]:
        """Returns the numbers of the benchmark's patients among the identifiers or hashes."""
        known = self._index[1]
        if not salt:
            forms = (form for name in identifiers for form in (name, _plain(name)))
            return {known[digest] for digest in map(_patient_digest, forms) if digest in known}
        # The index has digests only, so that scoring does not keep identifiers.
        patients = {patient for _, _, patient in self._named()}
        hashed = {
            patient
            for patient in patients
            if hashlib.sha256(f"{salt}{patient}".encode()).hexdigest() in identifiers
        }
        return {known[digest] for digest in map(_patient_digest, hashed) if digest in known}

    @property
    def _images(self) -> dict[str, tuple[int | None, int]]:
        """Row, or None outside the benchmark, and patient of each image of its patients."""
        return self._index[0]

    @cached_property
    def _index(self) -> tuple[dict[str, tuple[int | None, int]], dict[str, int]]:
        """The images of the benchmark's patients, and its patients' numbers by their digests."""
        named = [(name, image, _patient_digest(patient)) for name, image, patient in self._named()]
        numbers = self._cohort.patients
        patients = {
            patient: int(numbers[self._rows[image]]) for _, image, patient in named if image
        }
        images: dict[str, tuple[int | None, int]] = {}
        for name, image, patient in named:
            if patient in patients:
                images[name] = (self._rows[image] if image else None, patients[patient])
        images |= {image: (row, int(numbers[row])) for image, row in self._rows.items()}
        return images, patients

    def _named(self) -> Iterator[tuple[str, str | None, str]]:
        """Yields what each row of the label table names: image, listed image, patient."""
        spec, file = self._spec, self._directory / self._spec.labels_file
        rows = table_rows(read_limited(file, "label table", MAX_TABLE_BYTES), file)
        _, header = next(rows, (1, []))
        table = LabelRows(file, header, [*self._rows], spec.findings, spec.labels)
        return (found for _, cells in rows if (found := table.named(cells)))


def _patient_digest(patient: str) -> str:
    return hashlib.sha256(patient.encode()).hexdigest()


def _plain(patient: str) -> str:
    """Returns a patient's number without leading zeros; another identifier as it is."""
    return str(int(patient)) if _NUMBER.fullmatch(patient) else patient


def _matching(known: Iterable[str], identifiers: frozenset[str], salt: str) -> Iterable[str]:
    """Returns the known names that are among the identifiers, or whose salted hashes are."""
    if not salt:
        return (name for name in known if name in identifiers)
    return (
        name
        for name in known
        if hashlib.sha256(f"{salt}{name}".encode()).hexdigest() in identifiers
    )
