"""Compares the predictions of a script with those that were recorded from the same checkpoint.

The script's table is a stranger's file: it is read as `cxreval score` reads one, and each error
names the opaque file that the script was shown, never the image. `agree` needs no labels.
`score_difference` does, so that only scoring calls it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxreval.datasets.prediction_file import read_predictions
from cxreval.errors import (
    CxrevalError,
    ExtraMissing,
    MalformedField,
    PredictionsInvalid,
    PredictionsMissing,
)
from cxreval.fields import printable, shown
from cxreval.metrics.auroc import auroc
from cxreval.metrics.cohort import Cohort
from cxreval.metrics.ranking import Entry, compare
from cxreval.metrics.resampling import FindingResampler, patient_weights
from cxreval.records import FLAGGED_SHARE

CANARY_THRESHOLD = 0.1
"""A canary that moves by more is counted; docs/script-environments.md says how far models move."""

MAX_TOLERANCE = 0.05
"""Largest tolerance that a benchmark may state."""

_FEWEST_PATIENTS = 10  # of a class: one resample in 20,000 has none of them

FILE = "predictions.csv"
"""What messages call the script's table."""


class Verdict(StrEnum):
    """Whether a script's predictions are the recorded ones, within the tolerance."""

    AGREES = "agrees"
    DIFFERS = "differs"


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """The predictions of a script.

    `rows`: row number of each file name that was shown. `findings`: those of the columns, in the
    benchmark's order. `probabilities`: shape (shown files, findings), float32, within [0, 1].
    """

    rows: Mapping[str, int]
    findings: tuple[str, ...]
    probabilities: NDArray[np.float32]

    def of(self, names: Sequence[str]) -> NDArray[np.float32]:
        """Returns the probabilities of some file names, one row each."""
        return self.probabilities[[self.rows[name] for name in names]]


@dataclass(frozen=True, slots=True)
class Canaries:
    """How far predictions move when one gray level of noise is added to an image.

    `count`: number of canaries; `median`: median over them of the largest difference of a finding;
    `largest`: the largest of these. `over`: number above the threshold. A flag is a reason to look
    at the script, no proof.
    """

    count: int
    median: float
    largest: float
    over: int
    threshold: float

    @property
    def flagged(self) -> bool:
        """Whether more than a quarter of the canaries are above the threshold."""
        return self.over > FLAGGED_SHARE * self.count


@dataclass(frozen=True, slots=True)
class Agreement:
    """The comparison of a script's predictions with the recorded ones, without its canaries.

    `worst_name`, `worst_finding`: where the difference is largest; the name is that of the file
    which the script was shown. `bit_identical`: whether every float32 is equal.
    """

    images: int
    findings: int
    max_difference: float
    worst_name: str
    worst_finding: str
    mean_difference: float
    tolerance: float
    bit_identical: bool

    @property
    def verdict(self) -> Verdict:
        """Whether the largest difference is within the tolerance."""
        return Verdict.AGREES if self.max_difference <= self.tolerance else Verdict.DIFFERS


@dataclass(frozen=True, slots=True)
class ScoreDifference:
    """The macro AUROC of a script's predictions less that of the recorded ones.

    `findings`: those with enough patients of both classes; the mean is over them. `low`,
    `high`: the 95 % interval of the difference, paired by the resamples of patients; None where
    too many resamples lack a class.
    """

    recorded: float
    script: float
    findings: tuple[str, ...]
    low: float | None
    high: float | None

    @property
    def difference(self) -> float:
        """The script's score less the recorded one."""
        return self.script - self.recorded


def read_table(
    file: Path, names: Sequence[str], findings: Sequence[str], covered: Sequence[str] = ()
) -> Table:
    """Returns the predictions in the table that a script wrote.

    Args:
        file: the table, in any form that `cxreval.datasets.prediction_file` reads.
        names: the file names that the script was shown.
        findings: those of the benchmark.
        covered: the findings that the recorded predictions cover, all of which the table must
            have; none to take those that it has.

    Raises:
        PredictionsMissing: there is no such file, or it is empty.
        PredictionsInvalid: it is not a table; it has rows for other images, an image twice, a
            cell that is not a number within [0, 1]; or an image or a finding is missing.
        ExtraMissing: it is a Parquet file, and the extra `parquet` is not installed.
    """
    if file.is_symlink() or not file.is_file() or not file.stat().st_size:
        expected = "a table of predictions in the file that --out names"
        message = f"the script ended without predictions; expected {expected}"
        raise PredictionsMissing(message, field=FILE, expected=expected)
    try:
        images, values, columns = read_predictions(file, findings, 2 * len(names))
    except ExtraMissing:
        raise
    except CxrevalError as error:
        raise _invalid_as(file, error) from None
    rows = {name: row for row, name in enumerate(names)}
    _check_rows(images, rows)
    lacking = [finding for finding in covered if finding not in columns]
    if lacking:
        problem = f"lacks the column {lacking[0]!r}"
        raise _invalid(problem, f"the {len(covered)} findings of the recorded predictions",
                       field=lacking[0], count=len(lacking))  # fmt: skip
    kept = [number for number, finding in enumerate(columns) if not covered or finding in covered]
    probabilities = np.empty((len(names), len(kept)), np.float32)
    probabilities[[rows[image] for image in images]] = values[:, kept] + np.float32(0)
    return Table(rows, tuple(columns[number] for number in kept), probabilities)


def agree(
    table: Table,
    names: Sequence[str],
    recorded: NDArray[np.float32],
    tolerance: float,
) -> Agreement:
    """Returns how a script's predictions differ from the recorded ones; no labels are needed.

    Args:
        table: the script's predictions.
        names: the file names to compare, without canaries.
        recorded: shape (names, the table's findings), float32, the recorded predictions.
        tolerance: the largest difference of a probability that agrees, 0 to `MAX_TOLERANCE`.

    Raises:
        MalformedField: the tolerance is out of range, there are no names, or the shapes differ.
    """
    if not 0 <= tolerance <= MAX_TOLERANCE:
        expected = f"a number from 0 to {MAX_TOLERANCE:g}"
        message = f"tolerance is {tolerance}; expected {expected}"
        raise MalformedField(message, field="tolerance", expected=expected)
    theirs = table.of(names)
    if not names or theirs.shape != recorded.shape:
        expected = f"one row for each of {len(names)} images, a column for each finding"
        message = f"recorded predictions have shape {recorded.shape}; expected {expected}"
        raise MalformedField(message, field="recorded", expected=expected)
    differences = np.abs(theirs.astype(np.float64) - recorded)
    row, column = map(int, np.unravel_index(differences.argmax(), differences.shape))
    return Agreement(
        images=len(names),
        findings=len(table.findings),
        max_difference=float(differences[row, column]),
        worst_name=names[row],
        worst_finding=table.findings[column],
        mean_difference=float(differences.mean()),
        tolerance=tolerance,
        bit_identical=bool((theirs == recorded).all()),
    )


def canaries_of(
    table: Table, canaries: Mapping[str, str], threshold: float = CANARY_THRESHOLD
) -> Canaries | None:
    """Returns how far the canaries moved; None if there are none.

    `canaries`: the file name of the same image without noise, by the file name of the canary.
    """
    if not canaries:
        return None
    shifted, plain = table.of([*canaries]), table.of([*canaries.values()])
    moved = np.abs(shifted.astype(np.float64) - plain).max(axis=1)
    return Canaries(
        count=len(canaries),
        median=float(np.median(moved)),
        largest=float(moved.max()),
        over=int((moved > threshold).sum()),
        threshold=threshold,
    )


def score_difference(
    cohort: Cohort,
    recorded: NDArray[np.float32],
    script: NDArray[np.float32],
    seed: int,
    replicates: int,
) -> ScoreDifference | None:
    """Returns the difference of the macro AUROC of two tables; None if no finding can be compared.

    A sample of a benchmark may have few images with a finding. One with fewer than 10 patients
    with it, or without, is left out: resamples would often have one class only.

    Args:
        cohort: the labels of the compared images; its findings are those of the columns.
        recorded: shape (images, findings), the recorded predictions.
        script: those of the script, of the same shape.
        seed: seed of the resamples, as in a report of the benchmark.
        replicates: number of resamples, at least 2.
    """
    scores: dict[str, tuple[float, float]] = {}
    resamplers: dict[str, list[FindingResampler]] = {"recorded": [], "script": []}
    for column, finding in enumerate(cohort.findings):
        known = cohort.known[:, column]
        positive, patients = cohort.labels[known, column], cohort.patients[known]
        tables = {"recorded": recorded[known, column], "script": script[known, column]}
        first, second = (auroc(values, positive) for values in tables.values())
        fewest = min(np.unique(patients[rows]).size for rows in (positive, ~positive))
        if first is None or second is None or fewest < _FEWEST_PATIENTS:
            continue
        scores[finding] = first, second
        for name, values in tables.items():
            resampler = FindingResampler(values, positive, patients, cohort.patient_count)
            resamplers[name].append(resampler)
    if not scores:
        return None
    drawn = (seed, cohort.patient_count, replicates)
    means = np.mean([*scores.values()], axis=0)
    entries = [
        Entry(name, float(mean), replicates=_macro(resamplers[name], patient_weights(*drawn)))
        for name, mean in zip(resamplers, means, strict=True)
    ]
    (pair,) = compare(entries[::-1])
    defined = not np.isnan((pair.low, pair.high)).any()
    return ScoreDifference(
        recorded=float(means[0]),
        script=float(means[1]),
        findings=tuple(scores),
        low=pair.low if defined else None,
        high=pair.high if defined else None,
    )


def _macro(
    resamplers: Sequence[FindingResampler], weights: Iterable[NDArray[np.float32]]
) -> NDArray[np.float64]:
    """Returns the replicates of the macro AUROC, shape (replicates,)."""
    chunks = []
    for drawn in weights:
        values = [one.replicates(drawn, auroc_only=True)["auroc"] for one in resamplers]
        chunks.append(np.mean(values, axis=0))
    return np.concatenate(chunks)


def _check_rows(images: Sequence[str], rows: Mapping[str, int]) -> None:
    """Raises `PredictionsInvalid` unless each row is an image that was shown, and each is there."""
    unknown = [image for image in images if image not in rows]
    if unknown:
        problem = f"has a row for {shown(printable(unknown[0]))!r}, which was not shown"
        raise _invalid(problem, "the names in the file that --list names, without folders",
                       image=shown(printable(unknown[0])), count=len(unknown))  # fmt: skip
    there = set(images)
    if len(there) < len(images):
        twice = next(image for image, count in Counter(images).items() if count > 1)
        problem = f"has {twice!r} twice"
        raise _invalid(
            problem, "one row for each image", image=twice, count=len(images) - len(there)
        )
    missing = [name for name in rows if name not in there]
    if missing:
        problem = f"lacks {len(missing)} of {len(rows)} images, the first is {missing[0]!r}"
        raise _invalid(problem, "one row for each image", image=missing[0], count=len(missing))


def _invalid(problem: str, expected: str, **metadata: object) -> PredictionsInvalid:
    """Returns the error of a table that breaks a rule of the comparison."""
    message = f"{FILE} {problem}; expected {expected}"
    return PredictionsInvalid(message, expected=expected, **metadata)  # type: ignore[arg-type]


def _invalid_as(file: Path, error: CxrevalError) -> PredictionsInvalid:
    """Returns an error of the reader of tables as one that does not tell where the file lies."""
    message = printable(error.message.replace(str(file), FILE))
    kept = {key: value for key, value in error.metadata.items() if key != "file"}
    invalid = PredictionsInvalid(message)
    invalid.metadata |= kept | {"file": FILE}
    return invalid
