"""docs/your-own-model.md, as a newcomer follows it: a row is published for a table of predictions.

The models of each library are in tests/extended/test_your_own_model.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import own_model
from tests.support.own_model import Newcomer, block, commands
from tests.support.system import System

pytestmark = pytest.mark.timeout(500)  # PyTorch is slow to start on a busy machine


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with own_model.platform(tmp_path_factory.mktemp("own")) as running:
        yield running


@pytest.fixture
def newcomer(system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Newcomer:
    monkeypatch.chdir(tmp_path)
    return Newcomer(system, tmp_path)


def lines(text: str) -> int:
    return sum(bool(line.strip()) for line in text.splitlines())


def test_a_person_writes_at_most_twelve_lines() -> None:
    assert lines(block("python timm")) + lines(block("yaml timm")) <= 12


def test_a_table_of_predictions_gets_a_row(newcomer: Newcomer) -> None:
    Path("images").symlink_to(newcomer.system.data[own_model.BENCHMARK] / "images")
    newcomer.python(
        "predictions", probabilities=lambda image: [len(image.read_bytes()) % 97 / 97, 0.5]
    )
    init, submit = commands()[4:]
    newcomer.command(init)
    newcomer.command(submit)
    newcomer.published("My classifier")
