"""What the page keeps on disk: read back as it was, and ignored where it is damaged."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest

from cxreval.audit.chain import Head
from cxreval.client import Evaluation
from cxreval.metrics.curves import Reliability, RocCurve
from cxreval.metrics.report import Evidence, Replicates, Report
from services.leaderboard.data import BoardData, BoardDay
from services.leaderboard.store import Store
from tests.support.records import sample
from tests.support.registry import small_spec

NAME = "benchmarks/small/submissions/0123/evaluations/4567"
EVIDENCE = Evidence(
    (Replicates("auroc", "A|B", np.array([0.5, np.nan])), Replicates("auroc", "", np.zeros(2))),
    (RocCurve("A|B", (0.0, 1.0), (0.0, 1.0)),),
    (Reliability("A|B", (3, 0), (0.25, 0.0), (1, 0)),),
)


def test_a_board_is_read_as_it_was_stored(tmp_path: Path) -> None:
    board = sample(BoardData, spec=small_spec("small"))
    Store(tmp_path).save(Head(7, "ab"), [board], ["small"])
    assert Store(tmp_path).load() == (Head(7, "ab"), [board])


def test_a_day_is_read_as_it_was_stored(tmp_path: Path) -> None:
    when, board = date(2026, 1, 2), sample(BoardDay)
    Store(tmp_path).save_day("small", when, board)
    assert Store(tmp_path).day("small", when) == board


def test_an_evaluation_is_read_with_its_evidence(tmp_path: Path) -> None:
    store, evaluation = (
        Store(tmp_path),
        sample(Evaluation, name=NAME, report=sample(Report, evidence=None)),
    )
    store.save_evaluation(evaluation, EVIDENCE)
    assert store.evaluation(NAME) == evaluation
    found = store.evidence(NAME)
    assert found
    for stored, kept in zip(found.replicates, EVIDENCE.replicates, strict=True):
        assert (stored.metric, stored.finding) == (kept.metric, kept.finding)
        np.testing.assert_array_equal(stored.values, kept.values)
    assert found.roc_curves == EVIDENCE.roc_curves
    assert found.reliabilities == EVIDENCE.reliabilities


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"spec": 1}', b"\xff\xfe", b"PK\x03\x04"])
def test_a_damaged_file_is_read_from_the_registry_again(tmp_path: Path, content: bytes) -> None:
    store = Store(tmp_path)
    for file in ("index.json", "small/board.json", "small/0123/4567/evidence.npz"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(content)
    (tmp_path / "small/0123/4567/evaluation.json").write_bytes(content)
    assert store.load() == (Head(), [])
    assert store.evaluation(NAME) is None
    assert store.evidence(NAME) is None
    assert not store.has_evaluation(NAME)
