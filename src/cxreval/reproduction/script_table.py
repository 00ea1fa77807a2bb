"""Reads the table that a script wrote, and says how far its canaries moved.

The table is a stranger's file: it is read as `cxreval score` reads one, and each error names the
opaque file that the script was shown, never the image.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxreval.datasets.prediction_file import read_predictions
from cxreval.errors import (
    CxrevalError,
    ExtraMissing,
    PredictionsInvalid,
    PredictionsMissing,
)
from cxreval.fields import printable, shown
from cxreval.records import FLAGGED_SHARE

CANARY_THRESHOLD = 0.1
"""A canary that moves by more is counted; docs/script-environments.md says how far models move."""

FILE = "predictions.csv"
"""What messages call the script's table."""


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
