"""Every file of tests/support/forty_*.py is on the board with its maker's figures, or refused with
the cure."""

import pytest

from tests.conftest import require_module

require_module("safetensors")
require_module("cxreval.export.torch_libraries")

from tests.support.forty_files import Board, check_published  # noqa: E402
from tests.support.forty_onnx import ONNX_FILES  # noqa: E402
from tests.support.forty_pytorch import PYTORCH_FILES  # noqa: E402

pytestmark = pytest.mark.timeout(500)


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    with Board(tmp_path_factory.mktemp("forty")) as running:
        yield running


@pytest.mark.parametrize("brought", [*ONNX_FILES, *PYTORCH_FILES], ids=lambda brought: brought.name)
def test_a_file_gets_the_row_of_its_makers_answers(board, brought, tmp_path, monkeypatch):
    check_published(board, brought, tmp_path, monkeypatch)
