"""Keeps on disk what was read from the registry, so that pages are served without it.

The directory is a cache: what cannot be read is ignored and read from the registry again. A report
and its evidence never change; they are stored once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import msgspec
import numpy as np

from cxreval.audit.chain import Head
from cxreval.client import Evaluation, LeaderboardEntry, Submission
from cxreval.files import durable_file
from cxreval.metrics.curves import Reliability, RocCurve
from cxreval.metrics.report import Evidence, Replicates
from cxreval.records import Tier
from services.leaderboard.data import (
    GENESIS_HEAD,
    BoardData,
    BoardDay,
    Figure,
    figure_key,
    figures,
)

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Index:
    """The benchmarks that are stored, in the registry's order, and the head that they are for."""

    benchmarks: tuple[str, ...] = ()
    head: Head = GENESIS_HEAD


class Store:
    """The directory in which boards, days, reports and evidence are kept."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self) -> tuple[Head, list[BoardData]]:
        """Returns the stored boards and their head; nothing if one of them cannot be read."""
        index = self._read("index.json", Index)
        if index is None:
            return GENESIS_HEAD, []
        boards = [self._read(f"{name}/board.json", BoardData) for name in index.benchmarks]
        complete = [board for board in boards if board is not None]
        return (index.head, complete) if len(complete) == len(boards) else (GENESIS_HEAD, [])

    def save(self, head: Head, boards: Iterable[BoardData], changed: Iterable[str]) -> None:
        """Stores the changed boards, then the head that all are for."""
        by_name = {board.name: board for board in boards}
        for name in changed:
            self._write(f"{name}/board.json", by_name[name])
        self._write("index.json", Index(tuple(by_name), head))

    def day(self, benchmark: str, day: date) -> BoardDay | None:
        """Returns the board of a benchmark at the end of a day, None if it is not stored."""
        return self._read(f"{benchmark}/days/{day}.json", BoardDay)

    def save_day(self, benchmark: str, day: date, board: BoardDay) -> None:
        """Stores the board of a benchmark at the end of a day."""
        self._write(f"{benchmark}/days/{day}.json", board)

    def has_day(self, benchmark: str, day: date) -> bool:
        """Returns whether the board of a day is stored."""
        return (self._directory / f"{benchmark}/days/{day}.json").is_file()

    def evaluation(self, name: str) -> Evaluation | None:
        """Returns the evaluation behind a report, None if it is not stored."""
        return self._read(f"{_path(name)}/evaluation.json", Evaluation)

    def figures(
        self, entry: LeaderboardEntry, submission: Submission | None
    ) -> Mapping[str, Figure]:
        """Returns the figures of a row by `figure_key`: its report's, or those that a claim states.

        A row has none if its report is not stored.
        """
        if entry.tier is Tier.CLAIMED:
            claims = submission.manifest.claimed_metrics if submission else ()
            return {figure_key(item.metric, item.finding): Figure(item.value) for item in claims}
        evaluation = self.evaluation(entry.evaluation) if entry.evaluation else None
        return figures(evaluation.report.metrics) if evaluation and evaluation.report else {}

    def has_evaluation(self, name: str) -> bool:
        """Returns whether the evaluation behind a report is stored, with its evidence."""
        directory = self._directory / _path(name)
        return all((directory / file).is_file() for file in ("evaluation.json", "evidence.npz"))

    def save_evaluation(self, evaluation: Evaluation, evidence: Evidence) -> None:
        """Stores an evaluation that has a report, and the evidence for the report."""
        path = _path(evaluation.name)
        self._save_evidence(self._directory / path / "evidence.npz", evidence)
        self._write(f"{path}/evaluation.json", evaluation)

    def evidence(self, name: str) -> Evidence | None:
        """Returns the evidence for the report of an evaluation, None if it is not stored.

        A damaged file is removed, and read from the registry when the board is read again.
        """
        file = self._directory / _path(name) / "evidence.npz"
        try:
            # np.load leaves a damaged file open.
            with file.open("rb") as content, np.load(content) as arrays:
                return _evidence(dict(arrays))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError, BadZipFile) as error:
            _log.warning("stored file ignored", extra={"file": str(file), "problem": str(error)})
            file.unlink(missing_ok=True)
            return None

    def receipt(self, submission: str) -> bytes | None:
        """Returns the latest receipt of a submission as a JSON document, None if there is none."""
        try:
            return (self._directory / _path(submission) / "receipt.json").read_bytes()
        except OSError:
            return None

    def save_receipt(self, submission: str, document: bytes) -> None:
        """Stores the latest receipt of a submission."""
        self._write_bytes(f"{_path(submission)}/receipt.json", document)

    def _save_evidence(self, file: Path, evidence: Evidence) -> None:
        arrays: dict[str, Any] = {
            f"replicates|{item.metric}|{item.finding}": item.values for item in evidence.replicates
        }
        for curve in evidence.roc_curves:
            arrays[f"roc|{curve.finding}"] = np.array(
                [curve.false_positive_rates, curve.sensitivities]
            )
        for item in evidence.reliabilities:
            arrays[f"reliability|{item.finding}"] = np.array(
                [item.images, item.mean_probabilities, item.positives], np.float64
            )
        file.parent.mkdir(parents=True, exist_ok=True)
        with durable_file(file) as out:
            np.savez(out, **arrays)

    def _read(self, path: str, kind: type[T]) -> T | None:
        file = self._directory / path
        try:
            return msgspec.json.decode(file.read_bytes(), type=kind)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            _log.warning("stored file ignored", extra={"file": str(file), "problem": str(error)})
            return None

    def _write(self, path: str, value: object) -> None:
        self._write_bytes(path, msgspec.json.encode(value))

    def _write_bytes(self, path: str, content: bytes) -> None:
        file = self._directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with durable_file(file) as out:
            out.write(content)


def _path(name: str) -> str:
    """Returns the directory of a resource: `NAME/ID` for `benchmarks/NAME/submissions/ID`."""
    return "/".join(name.split("/")[1::2])


def _evidence(arrays: dict[str, Any]) -> Evidence:
    replicates, curves, reliabilities = [], [], []
    for key, values in arrays.items():
        kind, _, rest = key.partition("|")
        if kind == "replicates":
            metric, _, finding = rest.partition("|")
            replicates.append(Replicates(metric, finding, values))
        elif kind == "roc":
            curves.append(RocCurve(rest, *(tuple(row.tolist()) for row in values)))
        else:
            images, means, positives = values
            reliabilities.append(
                Reliability(
                    rest,
                    tuple(images.astype(int).tolist()),
                    tuple(means.tolist()),
                    tuple(positives.astype(int).tolist()),
                )
            )
    return Evidence(tuple(replicates), tuple(curves), tuple(reliabilities))
