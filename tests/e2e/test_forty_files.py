"""Files as people bring them are on the board with their maker's figures, or refused with the cure.

These are the quick ones; tests/extended/test_forty_files.py has all.
"""

import pytest

from tests.support.forty_files import Board, check_published
from tests.support.forty_onnx import ONNX_FILES


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    with Board(tmp_path_factory.mktemp("forty")) as running:
        yield running


@pytest.mark.parametrize("brought", ONNX_FILES, ids=lambda brought: brought.name)
def test_a_file_gets_the_row_of_its_makers_answers(board, brought, tmp_path, monkeypatch):
    check_published(board, brought, tmp_path, monkeypatch)
