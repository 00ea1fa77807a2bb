"""Limits that proto comments and documents state are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cxreval.datasets.benchmark import FEWEST_REPLICATES, MOST_REPLICATES
from cxreval.datasets.table_limits import MAX_CELL_BYTES, MAX_ROWS
from cxreval.files import MAX_FILE_BYTES
from cxreval.manifest import document
from cxreval.manifest.model import FEWEST_REQUESTS, MAX_NAME_CHARACTERS, MOST_REQUESTS
from cxreval.wire.limits import (
    CHUNK_BYTES,
    DEFAULT_PAGE_SIZE,
    MAX_BATCH_IMAGES,
    MAX_FAILURE_CHARACTERS,
    MAX_PAGE_SIZE,
    MAX_PROVENANCE_CHARACTERS,
    MAX_PROVENANCE_ENTRIES,
    MAX_REASON_CHARACTERS,
    MAX_TOKEN_CHARACTERS,
    MIB,
)
from services.chassis.config import ServerConfig
from services.registry.config import RegistryConfig
from services.registry.convert.admin import MAX_DISPLAY_CHARACTERS
from services.registry.domain.board import FEWEST_COMPARED, MOST_COMPARED
from services.registry.servicers.artifacts import MAX_TRANSFERS
from services.registry.store.organisations import ADMIN_EVENTS

CONFIG = ServerConfig()
REPOSITORY = Path(__file__).parents[2]
PROTOS = REPOSITORY / "protos" / "cxreval" / "api"

FIELDS = [
    ("registry/v1/artifact_service", "chunk", [CHUNK_BYTES // MIB]),
    ("registry/v1/evaluation_service", "batch", [MAX_BATCH_IMAGES]),
    ("scoring/v1/scoring_service", "partial_state", [MAX_BATCH_IMAGES]),
    (
        "registry/v1/evaluation_service",
        "provenance",
        [MAX_PROVENANCE_ENTRIES, MAX_PROVENANCE_CHARACTERS],
    ),
    ("registry/v1/lifecycle_service", "reason", [MAX_REASON_CHARACTERS]),
    ("registry/v1/benchmark_service", "reason", [MAX_REASON_CHARACTERS]),
    ("registry/v1/submission", "message", [MAX_FAILURE_CHARACTERS]),
    ("registry/v1/submission", "model", [MAX_NAME_CHARACTERS]),
    ("registry/v1/submission", "organisation", [MAX_NAME_CHARACTERS]),
    ("registry/v1/submission", "requests_per_second", [FEWEST_REQUESTS, int(MOST_REQUESTS)]),
    ("registry/v1/submission_service", "endpoint_token", [MAX_TOKEN_CHARACTERS]),
    ("registry/v1/admin_service", "display_name", [MAX_DISPLAY_CHARACTERS]),
    ("registry/v1/admin_service", "ListAdminEvents", [ADMIN_EVENTS]),
    ("registry/v1/leaderboard_service", "submissions", [FEWEST_COMPARED, MOST_COMPARED]),
    ("registry/v1/benchmark_service", "replicates", [FEWEST_REPLICATES, MOST_REPLICATES]),
    *(
        (f"registry/v1/{name}_service", "page_size", [DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE])
        for name in ("admin", "benchmark", "evaluation", "leaderboard", "lifecycle", "submission")
    ),
]


def comments(proto: Path, name: str) -> list[str]:
    """Returns the comments of all fields and rpcs of a name, each as one line."""
    text = proto.read_text()
    pattern = rf"((?: *//[^\n]*\n)+) *(?:rpc {name}\(|(?:[\w.]+|map<[^>]*>)(?: [\w.]+)* {name} = )"
    return [" ".join(block.replace("//", "").split()) for block in re.findall(pattern, text)]


def numbers(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*(?:\.\d+)?", text)]


@pytest.mark.parametrize(("proto", "name", "limits"), FIELDS)
def test_comments_of_protos_state_the_limits_of_the_code(
    proto: str, name: str, limits: list[float]
) -> None:
    stated = [numbers(comment) for comment in comments(PROTOS / f"{proto}.proto", name)]
    with_numbers = [values for values in stated if values]
    assert with_numbers, f"no comment of {name} states a limit"
    for values in with_numbers:
        assert set(limits) <= set(values)


@pytest.mark.parametrize(
    ("file", "pattern", "limit"),
    [
        ("SECURITY.md", r"(\d+) KiB", document.MAX_BYTES // 1024),
        ("docs/metrics.md", r"(\d+) million rows", MAX_ROWS // 10**6),
        ("docs/deploy.md", r"uploads at once, [^|]*\| (\d+) \|", MAX_TRANSFERS),
        ("docs/deploy.md", r"first included, [^|]*\| (\d+) s \|", CONFIG.stream_idle_seconds),
        ("docs/deploy.md", r"open streams of one [^|]*\| (\d+) \|", CONFIG.max_streams_per_caller),
        ("SECURITY.md", r"at most (\d+) open streams", CONFIG.max_streams_per_caller),
        ("docs/deploy.md", r"fewer than (\d+) MiB", RegistryConfig().disk_reserve_mib),
        ("docs/metrics.md", r"more than (\d+) bytes is refused", MAX_CELL_BYTES),
    ],
)
def test_documents_state_the_limits_of_the_code(file: str, pattern: str, limit: int) -> None:
    text = " ".join((REPOSITORY / file).read_text().split())
    assert [int(number) for number in re.findall(pattern, text)] == [limit]


def test_maximum_size_of_a_model_file_is_that_of_protobuf() -> None:
    assert MAX_FILE_BYTES == 2**31 - 1
