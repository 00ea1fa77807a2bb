"""Files as people bring them are on the board with their maker's figures, or refused with the cure.

These are the quick ones; tests/extended/test_forty_files.py has all.
"""

import pytest

from tests.support.forty_files import Board, check_published
from tests.support.forty_onnx import ONNX_FILES
from tests.support.forty_refused import REFUSED, check_refused

QUICK = (
    "NHWC of Keras and tf2onnx",
    "uint8, raw, with preprocessing inside",
    "320 pixels and the names of CheXpert",
    "two columns a finding, (N, 14, 2)",
    "fixed batch of 8",
    "ensemble of three",
    "CLAHE",
)


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    with Board(tmp_path_factory.mktemp("forty")) as running:
        yield running


@pytest.mark.parametrize("name", QUICK)
def test_a_file_gets_the_row_of_its_makers_answers(board, name, tmp_path, monkeypatch):
    (brought,) = [brought for brought in ONNX_FILES if brought.name == name]
    check_published(board, brought, tmp_path, monkeypatch)


@pytest.mark.parametrize("refused", REFUSED, ids=lambda refused: refused.name)
def test_a_foreign_file_is_refused_with_the_cure(board, refused, tmp_path, monkeypatch, capsys):
    check_refused(board, refused, tmp_path, monkeypatch, capsys)
