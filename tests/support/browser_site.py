"""The site that the browser tests visit: three boards, and the addresses of every kind of page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from cxreval.client import WorkerClient
from services.leaderboard.site import SiteData
from services.leaderboard.store import Store
from services.leaderboard.templates import (
    board_address,
    organisation_address,
    submission_address,
)
from tests.support import filled_registry, real_board
from tests.support.board_data import large_board, served
from tests.support.filled_registry import ACCENTS, ARABIC, MARKUP, Filled
from tests.support.registry import registry_service

CLAIMS = "nih-chestxray14"
"""The benchmark of a new registry, with four claims."""

DRAWN = {"large": 200, "four": 4, "two": 2}
"""Boards that no registry holds, with their number of rows."""


@contextmanager
def site(directory: Path, shared: Path) -> Iterator[tuple[str, SiteData, dict[str, str]]]:
    """Serves what a registry with the three boards holds.

    Returns the address of the site, what it shows, and the addresses of its pages by name.
    """
    with registry_service(directory) as service, WorkerClient(service.address) as client:
        real = real_board.fill(client, directory, shared)
        hostile = Filled(directory, service.address, client).names
        data = filled_registry.read(service.address, Store(directory / "page"))
    drawn = {name: large_board(name, rows) for name, rows in DRAWN.items()}
    data = replace(data, boards={**data.boards, **drawn})
    with served(data) as address:
        yield address, data, addresses(data, real, hostile)


def addresses(data: SiteData, real: dict[str, str], hostile: dict[str, str]) -> dict[str, str]:
    """Returns one address of every kind of page, by a name that a file can have."""
    compared = [_identifier(name) for name in (real["DenseNet-121"], real["ResNet-50"])]
    three = [_identifier(hostile[model]) for model in (MARKUP, ARABIC, ACCENTS)]
    claimed = data.boards[CLAIMS].claims[0]
    pages = {
        "home": "/",
        "method": "/method",
        "audit": "/audit",
        "unknown": "/nowhere",
        "wrong-parameter": board_address("whole", page="x"),
        "nih": board_address(CLAIMS),
        "nih-claim": submission_address(claimed.submission),
        "nih-findings": f"/b/{CLAIMS}/findings",
        "nih-compare": f"/b/{CLAIMS}/compare",
        "real": board_address(real_board.NAME),
        "real-model": submission_address(real["DenseNet-121"]),
        "real-table": submission_address(real["Mean of both"]),
        "real-queued": submission_address(real["queued"]),
        "real-findings": f"/b/{real_board.NAME}/findings",
        "real-compare": board_address(f"{real_board.NAME}") + f"/compare?s={'&s='.join(compared)}",
        "hostile": board_address("whole", column=["Effusion", "<b>Mass</b>"]),
        "hostile-declared": board_address("whole", dates="declared"),
        "hostile-findings": "/b/whole/findings?show=difference",
        "hostile-ranks": "/b/whole/findings?show=rank",
        "hostile-choose": "/b/whole/compare",
        "hostile-compare": f"/b/whole/compare?s={'&s='.join(three)}",
        "hostile-organisations": "/b/whole/o",
        "hostile-organisation": organisation_address("whole", MARKUP),
        "hostile-withdrawn": submission_address(hostile["gone"]),
        "hostile-undefined": submission_address(hostile["alone"]),
        "large": board_address("large", column=["Hernia", "brier"]),
        "four-rows": board_address("four"),
        "two-rows": board_address("two"),
        "one-row": board_address("undefined"),
        "no-rows": board_address("empty"),
    }
    for number, model in enumerate(filled_registry.SKILLS):
        pages[f"hostile-model-{number}"] = submission_address(hostile[model])
    return pages


def _identifier(name: str) -> str:
    return name.rpartition("/")[2]
