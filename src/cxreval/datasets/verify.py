"""Checks a data-set directory against the specification of its benchmark."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cxreval.cores import cores
from cxreval.datasets.benchmark import BenchmarkSpec, list_sha256, read_list
from cxreval.datasets.image_names import images_root, is_complete_image
from cxreval.datasets.labels import (
    FindingCounts,
    constant_findings,
    finding_counts,
    load_cohort,
)
from cxreval.errors import DatasetInvalid

TRAIN_LIST_FILE = "train_val_list.txt"
_AT_ONCE = 64  # images in the queue of the threads, so that an interruption ends soon
_NAMED = 10  # names of missing or broken files in a message; the others are counted


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check; `problems` is empty if it passed.

    `warnings`: what a host may want to change. `counts`: the labels of each finding.
    """

    name: str
    summary: str
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    counts: tuple[FindingCounts, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadImage:
    """What decoding an image found: why it cannot be scored, and whether it is of one gray."""

    problem: str = ""
    one_gray: bool = False


def verify(
    spec: BenchmarkSpec,
    directory: Path,
    progress: Callable[[int, int], None] | None = None,
    read: Callable[[Path], ReadImage] | None = None,
) -> tuple[Check, ...]:
    """Checks the image list, the label table, the split and the image files of a data set.

    `progress` is called with the number of checked images and their total. `read` decodes an image,
    in several threads at once; without it, only the beginning and the end of each file are checked.
    A missing label table is no problem, because a worker must not have it; the check says so.
    """
    images, listed = _check_list(spec, directory)
    checks = [
        listed,
        _check_labels(spec, directory, sorted(images)),
        _check_split(directory, images),
    ]
    return (*checks, _check_images(images_root(directory), images, progress, read))


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
    """Returns the check of the label table, with all that scoring checks when it starts."""
    if not (directory / spec.labels_file).exists():
        return Check(
            "labels", f"{spec.labels_file}: absent, as it must be for a worker; scoring needs it"
        )
    try:
        cohort = load_cohort(spec, directory, images)
    except DatasetInvalid as error:
        return Check("labels", f"{spec.labels_file}: scoring refuses it", _messages(error))
    counts = finding_counts(cohort)
    return Check(
        "labels",
        f"{spec.labels_file}: {len(images)} images of {cohort.patient_count} patients",
        warnings=tuple(constant_findings(counts)),
        counts=tuple(counts),
    )


def _messages(error: DatasetInvalid) -> tuple[str, ...]:
    """Returns the messages of an error and of those found with it."""
    return tuple(each.message for each in (error, *error.also))


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
    directory: Path,
    images: list[str],
    progress: Callable[[int, int], None] | None,
    read: Callable[[Path], ReadImage] | None,
) -> Check:
    """Returns the check that each image file exists and is a complete PNG, JPEG or DICOM file.

    Without any image file, predictions can be scored and nothing else, which is no problem.
    """
    missing: list[str] = []
    refused: list[str] = []
    one_gray: list[str] = []
    for number, (image, state) in enumerate(_states(directory, images, read), start=1):
        if state is None:
            missing.append(image)
        elif state.problem:
            refused.append(f"{image}: {state.problem}")
        elif state.one_gray:
            one_gray.append(image)
        if progress:
            progress(number, len(images))
    if images and len(missing) == len(images):
        return Check("images", "none are here: a worker takes tables of predictions only")
    problems = []
    if missing:
        problems.append(f"{len(missing)} of {len(images)} images are missing: {_some(missing)}")
    problems += refused[:_NAMED]
    if len(refused) > _NAMED:
        problems.append(f"{len(refused) - _NAMED} more images cannot be scored")
    summary = f"{directory.name}/: {len(images) - len(missing)} of {len(images)} images"
    if read is None:
        summary += "; not decoded, which needs pip install 'cxreval[images]'"
    warnings = (
        [f"{len(one_gray)} of {len(images)} images have one gray only: {_some(one_gray)}"]
        if one_gray
        else []
    )
    return Check("images", summary, tuple(problems), tuple(warnings))


def _states(
    directory: Path, images: list[str], read: Callable[[Path], ReadImage] | None
) -> Iterator[tuple[str, ReadImage | None]]:
    """Yields each image with what is known of its file, None if there is none."""

    def state(image: str) -> ReadImage | None:
        file = directory / image
        if not file.is_file():
            return None
        if read is not None:
            return read(file)
        return ReadImage("" if is_complete_image(file) else "no complete PNG, JPEG or DICOM")

    with ThreadPoolExecutor(cores()) as threads:
        for start in range(0, len(images), _AT_ONCE):
            some = images[start : start + _AT_ONCE]
            yield from zip(some, threads.map(state, some), strict=True)


def _patient(image: str) -> str:
    """Returns the patient's number, with which NIH's file names begin."""
    return image.partition("_")[0]


def _some(names: list[str]) -> str:
    """Returns the first names as text, with the number of the others."""
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
