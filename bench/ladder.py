"""Simulation: how far an adaptive submitter overfits a board, with the ladder and without it.

    .venv/bin/python -m bench.ladder [--patients 2000] [--submissions 300] [--rounds 5]

The labels are random, so every table of predictions has a true AUROC of 0.5: all that a board
shows above 0.5 is overfitting. Two submitters learn the labels from the figures alone:

- boosting (Blum and Hardt 2015): random tables; at the end one table that sums those above 0.5 and
  subtracts those below it,
- climbing: the best table so far with random changes; kept if its figure is known to be better.

With the ladder, a submitter gets a figure only if it is released; else it learns that there is no
significant change.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cxreval.metrics.cohort import Cohort, Slice
from cxreval.metrics.ladder import FindingScore, Scores, released
from cxreval.metrics.registry import Direction
from cxreval.metrics.scorers import SCORERS

REPLICATES = 200
CHANGE = 0.3
"""Standard deviation of a climbing submitter's changes, beside tables with one of 1."""

Table = NDArray[np.float64]


class Board:
    """A board of one finding with random labels; it scores tables and has the ladder or not."""

    def __init__(self, seed: int, patients: int, *, ladder: bool) -> None:
        labels = np.random.default_rng([seed, 1]).random((patients, 1)) < 0.3
        rows = np.arange(patients, dtype=np.int64)
        self._cohort = Cohort(("finding",), labels, np.ones_like(labels), rows, patients)
        self._all = Slice("all", "images", np.ones(patients, np.bool_))
        self._ladder = ladder
        self._earlier: list[Scores] = []
        self.best = 0.0

    def submit(self, table: Table) -> float | None:
        """Returns the AUROC of a table, or None if it is withheld."""
        probabilities = (1 / (1 + np.exp(-table))).astype(np.float32)[:, np.newaxis]
        ((values, replicates),) = SCORERS["2"].score_parts(
            self._cohort, probabilities, 1, REPLICATES, ["auroc"], [self._all]
        )
        score = values[0].value
        assert score is not None
        scores = {"finding": FindingScore(score, replicates[0].values)}
        if self._ladder and not released(scores, self._earlier, Direction.HIGHER_IS_BETTER):
            return None
        self._earlier.append(scores)
        self.best = max(self.best, score)
        return score


def random_tables(seed: int, patients: int) -> Iterator[Table]:
    """Yields tables of independent random values, shape (patients,)."""
    generator = np.random.default_rng([seed, 2])
    while True:
        yield generator.normal(size=patients)


def boosting(board: Board, tables: Iterator[Table], submissions: int) -> None:
    """Submits random tables and then their sum, each with the sign of what was learned of it."""
    total = np.zeros_like(next(tables))
    for _ in range(submissions - 1):
        table = next(tables)
        score = board.submit(table)
        if score is not None:
            total += table * np.sign(score - 0.5)
    board.submit(total)


def climbing(board: Board, tables: Iterator[Table], submissions: int) -> None:
    """Submits changes of the best table, and keeps those that are known to be better."""
    best = next(tables)
    score = board.submit(best) or 0.0
    for _ in range(submissions - 1):
        changed = (best + CHANGE * next(tables)) / np.hypot(1, CHANGE)
        answer = board.submit(changed)
        if answer is not None and answer > score:
            best, score = changed, answer


def main() -> None:
    """Prints the AUROC that each submitter reaches, less its true 0.5."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=2000)
    parser.add_argument("--submissions", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for attack in (boosting, climbing):
        for ladder in (False, True):
            reached = []
            for seed in range(options.rounds):
                board = Board(seed, options.patients, ladder=ladder)
                attack(board, random_tables(seed, options.patients), options.submissions)
                reached.append(board.best - 0.5)
            print(
                f"{attack.__name__}, {'ladder' if ladder else 'every figure'}: overfits by "
                f"{np.mean(reached):.3f} ({min(reached):.3f} to {max(reached):.3f}) after "
                f"{options.submissions} submissions"
            )


if __name__ == "__main__":
    main()
