"""What the public page sends to a browser is small."""

import gzip
import re
from pathlib import Path

import pytest

from services.leaderboard.files import static_files
from services.leaderboard.pages.benchmark import benchmark
from services.leaderboard.site import SiteData
from services.leaderboard.store import Store
from tests.support.board_data import READ, large_board


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> SiteData:
    """A site with a board of 1,000 rows."""
    boards = {"large": large_board("large", 1000)}
    return SiteData(Store(tmp_path_factory.mktemp("store")), boards, read_time=READ)


@pytest.mark.parametrize("number", [1, 5, 10])
def test_a_page_of_a_board_of_1000_rows_is_small(data: SiteData, number: int) -> None:
    text = benchmark(data, {"benchmark": "large"}, (("page", str(number)),)).body
    assert isinstance(text, str)
    assert text.count('<td class="rank">') == 100
    assert len(text.encode()) <= 160_000
    assert len(gzip.compress(text.encode(), 6)) <= 30_000
    assert len(re.findall(r"<[a-zA-Z]", text)) <= 3000


def test_style_sheet_and_script_are_small() -> None:
    files: dict[str, bytes] = {name: page.body for name, page in static_files().items()}
    assert len(files["/static/page.css"]) <= 12_000
    scripts = [body for name, body in files.items() if Path(name).suffix == ".js"]
    assert sum(map(len, scripts)) <= 10_000
