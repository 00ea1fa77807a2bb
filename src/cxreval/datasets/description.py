"""Describes a data set as a benchmark: its images, the rules of its label table, its counts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from cxreval.datasets.benchmark import (
    DEFAULT_REPLICATES,
    SLICES,
    BenchmarkSpec,
    list_sha256,
    ranked_by,
    read_list,
)
from cxreval.datasets.benchmark_file import SPEC_FILE, parse_spec, read_spec
from cxreval.datasets.dataset_files import MAX_TABLE_BYTES, read_limited
from cxreval.datasets.image_names import find_images, images_root
from cxreval.datasets.label_rules import LabelRules
from cxreval.datasets.labels import ParsedLabels, parse_labels, table_rows
from cxreval.datasets.proposal import Proposal
from cxreval.errors import DatasetInvalid
from cxreval.metrics.cohort import Cohort
from cxreval.metrics.scorers import LATEST_SCORER

LIST_FILE = "benchmark_images.txt"
"""The file with the names of the images, where no list is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What a host says about a data set; what it leaves out is taken from the files.

    `name`, `title`: of the benchmark. `labels`: the label table. `list_file`: a list of the images;
    else they are the files that `patterns` match. `subset`: leave out images without a row, and
    rows without an image. `rules`: fields of `LabelRules`.
    """

    name: str = ""
    title: str = ""
    synthetic: bool = False
    labels: str = ""
    list_file: str = ""
    patterns: tuple[str, ...] = ()
    subset: bool = False
    findings: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ("auroc",)
    rules: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Description:
    """A described benchmark: its specification, images, labels and what was read of the table."""

    spec: BenchmarkSpec
    images: Sequence[str]
    cohort: Cohort
    parsed: ParsedLabels


def describe(directory: Path, choices: Choices) -> Description:
    """Returns the benchmark of a data set, checked as scoring checks it. It writes nothing.

    Raises:
        DatasetInvalid: a choice is missing or malformed, or a file is; the message has the option
            that decides, or all mistakes of the label table.
    """
    file = _label_file(directory, choices.labels)
    content = read_limited(file, "label table", MAX_TABLE_BYTES)
    header = next((cells for _, cells in table_rows(content, file)), [])

    def rows() -> Iterator[Sequence[str]]:
        for _, cells in islice(table_rows(content, file), 1, None):
            if len(cells) == len(header):  # another length is a mistake, which the parser finds
                yield cells

    images = _images(directory, choices)
    rules, findings = Proposal(header, rows, choices.findings, choices.rules).rules()
    base = _spec(directory, choices, rules, findings)
    base = replace(base, labels_file=file.name, labels_sha256=hashlib.sha256(content).hexdigest())
    parse_spec(base.to_toml(), "the new specification")
    parsed = parse_labels(content, file, images, findings, rules)
    if choices.subset:
        images = [image for image in images if image in parsed.labels] or images
        parsed = parse_labels(content, file, images, findings, rules)
    elif not choices.list_file:
        _add_differences(parsed, images_root(directory))
    cohort = parsed.cohort(base.slices)
    spec = replace(
        base,
        list_sha256=list_sha256(images),
        image_count=len(images),
        patient_count=cohort.patient_count,
    )
    return Description(spec, images, cohort, parsed)


def write(description: Description, directory: Path) -> list[Path]:
    """Writes `benchmark.toml` and, without a list of the host's own, the list of images.

    Returns the written files. An earlier description of the same benchmark is written over.

    Raises:
        DatasetInvalid: the directory describes another benchmark.
    """
    spec, file = description.spec, directory / SPEC_FILE
    if file.is_file() and (other := read_spec(file).name) != spec.name:
        message = (
            f"{file} describes {other!r}; put {spec.name!r} into a directory of its own,"
            " with links to the images"
        )
        raise DatasetInvalid(message, file=file, found=other)
    files = [file]
    if spec.list_file == LIST_FILE:
        files.insert(0, directory / LIST_FILE)
        text = "".join(f"{image}\n" for image in description.images)
        files[0].write_text(text, encoding="utf-8")
    file.write_text(spec.to_toml(), encoding="utf-8")
    return files


def _label_file(directory: Path, given: str) -> Path:
    """Returns the label table: the given one, or the only CSV file of the directory."""
    if given:
        file = next((file for file in (directory / given, Path(given)) if file.is_file()), None)
        if file is None:
            raise DatasetInvalid(f"the label table {directory / given} does not exist", file=given)
        if file.parent.resolve() != directory.resolve():
            message = f"the label table {file} is not in {directory}; copy or link it there"
            raise DatasetInvalid(message, file=file, expected=f"a file in {directory}")
        return directory / file.name
    tables = sorted(file.name for file in directory.glob("*.csv"))
    if len(tables) != 1:
        options = " or ".join(f"--labels {name}" for name in tables[:10]) or "--labels FILE.csv"
        message = f"{directory} has {len(tables)} CSV files; add {options}"
        raise DatasetInvalid(message, file=directory, field="labels", expected=options)
    return directory / tables[0]


def _images(directory: Path, choices: Choices) -> list[str]:
    """Returns the names of the images, sorted: those of the list, or the files that are there."""
    if choices.list_file:
        if choices.patterns:
            expected = "one of --list and --images"
            raise DatasetInvalid(f"--list and --images are given; expected {expected}", file="")
        images = sorted(read_list(directory / choices.list_file))
        where = directory / choices.list_file
    else:
        where = images_root(directory)
        images = find_images(where, choices.patterns)
    if not images:
        pattern = f" that matches {' or '.join(choices.patterns)}" if choices.patterns else ""
        raise DatasetInvalid(f"{where} has no image{pattern}", file=where, field="images")
    twice = next((one for one, other in pairwise(images) if one == other), None)
    if twice is not None:
        raise DatasetInvalid(f"{where} lists {twice!r} twice; remove one", file=where, image=twice)
    return images


def _spec(
    directory: Path, choices: Choices, rules: LabelRules, findings: tuple[str, ...]
) -> BenchmarkSpec:
    """Returns the specification, with counts and digests still to be filled in."""
    folder = re.sub("[^a-z0-9]+", "-", directory.resolve().name.lower()).strip("-")
    name = choices.name or folder[:63].strip("-")
    return BenchmarkSpec(
        name=name,
        title=choices.title or name,
        synthetic=choices.synthetic,
        list_file=choices.list_file or LIST_FILE,
        list_sha256="0" * 64,
        labels_file="",
        labels_sha256="0" * 64,
        image_count=1,
        patient_count=1,
        findings=findings,
        metrics=ranked_by(*choices.metrics),
        ranking_metric=choices.metrics[0],
        scorer_version=LATEST_SCORER,
        replicates=DEFAULT_REPLICATES,
        slices=tuple(name for name in SLICES if getattr(rules, name)),
        labels=rules,
    )


def _add_differences(parsed: ParsedLabels, root: Path) -> None:
    """Adds a mistake for images without a row, and one for rows without an image."""
    if parsed.unlisted:
        line, name = parsed.first_unlisted
        parsed.mistakes.add(
            f"line {line}: {name!r} is not below {root}; of {parsed.unlisted} such rows it is the "
            "first; copy the images there, or add --subset to leave such rows out",
            line=line,
            count=parsed.unlisted,
        )
    if parsed.missing:
        parsed.mistakes.add(
            f"has no row for {len(parsed.missing)} of {len(parsed.images)} images, the first is "
            f"{parsed.missing[0]!r}; add rows, or add --subset to leave such images out",
            image=parsed.missing[0],
            count=len(parsed.missing),
        )
