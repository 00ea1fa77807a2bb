"""docs/your-own-model.md, as a newcomer follows it: a row is published for timm and for a table.

The other libraries are in tests/extended/test_your_own_model.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require_module
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


def test_an_efficientnet_of_timm_gets_a_row_with_its_own_probabilities(
    newcomer: Newcomer,
) -> None:
    require_module("cxreval.export.torch_libraries")  # imports torchvision beside a CPU's PyTorch
    torch: Any = require_module("torch")
    torch.manual_seed(0)
    model = newcomer.python("timm")["model"]

    def network(tensor: own_model.Array) -> own_model.Array:
        with torch.inference_mode():
            answer: own_model.Array = model(torch.from_numpy(tensor)).sigmoid().numpy()
        return answer

    own_model.follow(newcomer, network, "timm")


def test_a_table_of_predictions_gets_a_row(newcomer: Newcomer) -> None:
    Path("images").symlink_to(newcomer.system.data[own_model.BENCHMARK] / "images")
    newcomer.python(
        "predictions", probabilities=lambda image: [len(image.read_bytes()) % 97 / 97, 0.5]
    )
    init, submit = commands()[4:]
    newcomer.command(init)
    newcomer.command(submit)
    newcomer.published("My classifier")
