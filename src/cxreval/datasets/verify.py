"""Checks a data-set directory against the specification of its benchmark."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cxreval.datasets.benchmark import IMAGES_DIRECTORY, BenchmarkSpec, list_sha256, read_list
from cxreval.datasets.dataset_files import MAX_TABLE_BYTES, csv_rows, read_limited
from cxreval.errors import DatasetInvalid

TRAIN_LIST_FILE = "train_val_list.txt"
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"
_NAMED = 10  # names of missing or broken files in a message; the others are counted


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check; `problems` is empty if it passed."""

    name: str
    summary: str
    problems: tuple[str, ...] = ()


def verify(
    spec: BenchmarkSpec, directory: Path, progress: Callable[[int, int], None] | None = None
) -> tuple[Check, ...]:
    """Checks the image list, the label table, the split and the image files of a data set.

    `progress` is called with the number of checked images and their total. A missing label table is
    no problem, because a worker must not have it; the check says so.
    """
    images, listed = _check_list(spec, directory)
    checks = [listed, _check_labels(spec, directory, images), _check_split(directory, images)]
    return (*checks, _check_images(directory / IMAGES_DIRECTORY, images, progress))


def _check_list(spec: BenchmarkSpec, directory: Path) -> tuple[list[str], Check]:
    """Returns the images of the list, and the check of their number and digest."""
    try:
        images = read_list(directory / spec.list_file)
    except DatasetInvalid as error:
        return [], Check("list", f"{spec.list_file}: unreadable", (error.message,))
    problems = []
    if len(images) != spec.image_count:
        problems.append(f"{spec.list_file} lists {len(images)} images; expected {spec.image_count}")
    if (digest := list_sha256(images)) != spec.list_sha256:
        problems.append(f"{spec.list_file} has digest {digest}; expected {spec.list_sha256}")
    if len(set(images)) != len(images):
        problems.append(f"{spec.list_file} lists {len(images) - len(set(images))} images twice")
    return images, Check("list", f"{spec.list_file}: {len(images)} images", tuple(problems))


def _check_labels(spec: BenchmarkSpec, directory: Path, images: list[str]) -> Check:
    """Returns the check of the label table: its digest, and a row for each image."""
    file = directory / spec.labels_file
    if not file.is_file():
        return Check(
            "labels", f"{spec.labels_file}: absent, as it must be for a worker; scoring needs it"
        )
    unreadable = f"{spec.labels_file}: unreadable"
    try:
        content = read_limited(file, "label table", MAX_TABLE_BYTES)
    except DatasetInvalid as error:
        return Check("labels", unreadable, (error.message,))
    problems = []
    if (digest := hashlib.sha256(content).hexdigest()) != spec.labels_sha256:
        problems.append(f"{spec.labels_file} has digest {digest}; expected {spec.labels_sha256}")
    try:
        names = [cells[0] for cells in csv_rows(content)][1:]
    except (csv.Error, UnicodeDecodeError) as error:
        return Check("labels", unreadable, (*problems, f"{spec.labels_file}: {error}"))
    present = set(names)
    if absent := [image for image in images if image not in present]:
        problems.append(f"{spec.labels_file} has no row for {len(absent)} images: {_some(absent)}")
    return Check("labels", f"{spec.labels_file}: {len(names)} rows", tuple(problems))


def _check_split(directory: Path, images: list[str]) -> Check:
    """Returns the check that no patient is in both the training and the test list."""
    file = directory / TRAIN_LIST_FILE
    if not file.is_file():
        return Check("split", f"{TRAIN_LIST_FILE}: absent, so the split by patient is not checked")
    train = read_list(file)
    shared = sorted(
        {_patient(image) for image in images} & {_patient(image) for image in train} - {""}
    )
    summary = f"{TRAIN_LIST_FILE}: {len(train)} images"
    if set(images) <= set(train):
        return Check("split", f"{summary}; the list is part of them")
    problem = f"{len(shared)} patients are in both halves: {_some(shared)}"
    return Check("split", summary, (problem,) if shared else ())


def _check_images(
    directory: Path, images: list[str], progress: Callable[[int, int], None] | None
) -> Check:
    """Returns the check that each image file exists and is a complete PNG file."""
    missing, broken = [], []
    for number, image in enumerate(images, start=1):
        file = directory / image
        if not file.is_file():
            missing.append(image)
        elif not _is_complete_png(file):
            broken.append(image)
        if progress:
            progress(number, len(images))
    problems = []
    if missing:
        problems.append(f"{len(missing)} of {len(images)} images are missing: {_some(missing)}")
    if broken:
        problems.append(f"{len(broken)} images are not complete PNG files: {_some(broken)}")
    present = len(images) - len(missing)
    return Check(
        "images", f"{IMAGES_DIRECTORY}/: {present} of {len(images)} images", tuple(problems)
    )


def _is_complete_png(file: Path) -> bool:
    """Returns whether a file begins and ends as a PNG file; a partial download does not."""
    with file.open("rb") as stream:
        if stream.read(len(_PNG_SIGNATURE)) != _PNG_SIGNATURE:
            return False
        stream.seek(0, 2)
        stream.seek(max(0, stream.tell() - len(_PNG_END)))
        return stream.read() == _PNG_END


def _patient(image: str) -> str:
    """Returns the patient's number, with which NIH's file names begin."""
    return image.partition("_")[0]


def _some(names: list[str]) -> str:
    """Returns the first names as text, with the number of the others."""
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
