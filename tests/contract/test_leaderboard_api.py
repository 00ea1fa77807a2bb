"""Every answer of the API has the form that its OpenAPI document states."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import FormatChecker
from starlette.testclient import TestClient

from cxreval.client import LeaderboardEntry, SotaStep
from cxreval.metrics.report import Interval
from cxreval.records import Agreement
from services.leaderboard.data import Figure
from services.leaderboard.parameters import Parameters
from services.leaderboard.programs.answers import answer
from services.leaderboard.programs.rows import row, step
from services.leaderboard.routes import ROUTES
from services.leaderboard.site import SiteData
from services.leaderboard.store import Store
from tests.support import board_data
from tests.support.board_data import BEST, CLAIM, EARLIER, RUNNING, SECOND, UNDEFINED, WITHDRAWN
from tests.support.records import records

DOCUMENT = json.loads(
    (Path(__file__).parents[2] / "services/leaderboard/programs/openapi.json").read_text()
)
BOARDS = ("hostile", "empty", "claims")
TEMPLATES = {
    "benchmark": BOARDS,
    "submission": (BEST, SECOND, UNDEFINED, CLAIM, RUNNING),
}
SAMPLES = {
    "as_of": str(EARLIER), "tier": "executed", "open": "yes", "organisation": "tests",
    "since": "2026-01-01", "until": "2026-12-31", "sort": "brier", "page_size": "1",
    "page_token": "",
}  # fmt: skip


@pytest.fixture(scope="module")
def visitor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with board_data.visitor(board_data.site_data(tmp_path_factory.mktemp("page"))) as client:
        yield client


def check(value: object, schema: dict[str, Any]) -> None:
    """Checks a value against a schema of the document."""
    whole = schema | {"components": DOCUMENT["components"]}
    jsonschema.Draft202012Validator(whole, format_checker=FormatChecker()).validate(value)


def check_answer(answer: Any, path: str) -> None:
    stated = DOCUMENT["paths"][path]["get"]["responses"][str(answer.status_code)]["content"]
    kind = answer.headers["content-type"].partition(";")[0]
    assert kind in stated, f"{path} answers {kind}"
    assert answer.headers["access-control-allow-origin"] == "*"
    if kind.endswith("json"):
        check(answer.json(), stated[kind]["schema"])


def names(path: str) -> list[str]:
    """Returns the query parameters that the document states for a path."""
    found = [
        item["$ref"].rpartition("/")[2] for item in DOCUMENT["paths"][path]["get"]["parameters"]
    ]
    return [name for name in found if DOCUMENT["components"]["parameters"][name]["in"] == "query"]


def addresses(path: str) -> list[str]:
    """Returns the addresses of a path on the boards of the test."""
    if "{submission}" in path:
        return [
            path.format(benchmark="hostile", submission=each) for each in TEMPLATES["submission"]
        ]
    return [path.format(benchmark=each) for each in BOARDS] if "{" in path else [path]


def test_the_document_states_every_route_and_no_other() -> None:
    served = {path for path, _, _ in ROUTES if path.startswith("/api/v1/")}
    assert served == set(DOCUMENT["paths"])


@pytest.mark.parametrize("path", DOCUMENT["paths"])
def test_answers_have_the_stated_form(visitor: TestClient, path: str) -> None:
    for address in addresses(path):
        answer = visitor.get(address)
        assert answer.status_code == 200, answer.text
        check_answer(answer, path)


@pytest.mark.parametrize("path", DOCUMENT["paths"])
def test_every_stated_parameter_is_taken(visitor: TestClient, path: str) -> None:
    for name in names(path):
        answer = visitor.get(addresses(path)[0], params={name: SAMPLES[name]})
        assert answer.status_code == 200, answer.text
        check_answer(answer, path)


@pytest.mark.parametrize("path", DOCUMENT["paths"])
def test_no_other_parameter_is_taken(
    visitor: TestClient, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []
    known = Parameters.__init__

    def note(self: Parameters, given: Any, names: Any, repeated: Any = None) -> None:
        taken.extend(names)
        known(self, given, names, repeated)

    monkeypatch.setattr(Parameters, "__init__", note)
    answer = visitor.get(addresses(path)[0], params={"other": "1"})
    assert sorted(taken) == sorted(names(path))
    assert answer.status_code == 400
    check_answer(answer, path)
    assert answer.json()["parameter"] == "other"


@pytest.mark.parametrize(
    ("address", "path", "status", "reason"),
    [
        ("/benchmarks/hostil", "/benchmarks/{benchmark}", 404, "NOT_FOUND"),
        ("/benchmarks/%3Cb%3E/entries.csv", "/benchmarks/{benchmark}/entries.csv", 404,
         "NOT_FOUND"),
        ("/benchmarks/hostile/entries?page_size=501", "/benchmarks/{benchmark}/entries", 400,
         "BAD_PARAMETER"),
        ("/benchmarks/hostile/entries?page_token=1-0", "/benchmarks/{benchmark}/entries", 400,
         "BAD_PARAMETER"),
        ("/benchmarks/hostile/entries?page_token=%D9%A1-0", "/benchmarks/{benchmark}/entries", 400,
         "BAD_PARAMETER"),
        ("/benchmarks/hostile/entries?sort=%3D1", "/benchmarks/{benchmark}/entries", 400,
         "BAD_PARAMETER"),
        ("/benchmarks/hostile/steps?as_of=2026-02-30", "/benchmarks/{benchmark}/steps", 400,
         "BAD_PARAMETER"),
        ("/benchmarks/hostile/steps?as_of=2026-01-03", "/benchmarks/{benchmark}/steps", 503,
         "BEING_READ"),
        ("/changes?page_token=-1", "/changes", 400, "BAD_PARAMETER"),
        (f"/benchmarks/hostile/submissions/{WITHDRAWN}",
         "/benchmarks/{benchmark}/submissions/{submission}", 410, "REMOVED"),
        ("/benchmarks/hostile/submissions/ffff",
         "/benchmarks/{benchmark}/submissions/{submission}", 404, "NOT_FOUND"),
        (f"/benchmarks/hostile/submissions/{BEST}?as_of=2025-01-01",
         "/benchmarks/{benchmark}/submissions/{submission}", 404, "NOT_FOUND"),
    ],
)  # fmt: skip
def test_problems_have_the_stated_form(
    visitor: TestClient, address: str, path: str, status: int, reason: str
) -> None:
    answer = visitor.get(f"/api/v1{address}")
    assert (answer.status_code, answer.json()["reason"]) == (status, reason)
    check_answer(answer, f"/api/v1{path}")


def test_an_unknown_address_of_the_api_is_a_problem_document(visitor: TestClient) -> None:
    for address in ("/api/v1/nothing", "/api/v2/benchmarks", "/api/"):
        answer = visitor.get(address)
        assert answer.status_code == 404
        check(answer.json(), {"$ref": "#/components/schemas/Problem"})


def test_before_the_first_reading_a_board_is_being_read(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    nothing = SiteData(Store(tmp_path_factory.mktemp("page")))
    with board_data.visitor(nothing) as client:
        board = client.get("/api/v1/benchmarks/hostile")
        listed = client.get("/api/v1/benchmarks")
    assert (board.status_code, board.json()["reason"]) == (503, "BEING_READ")
    assert (listed.json()["read_time"], listed.json()["benchmarks"]) == (None, [])


FINITE = st.floats(allow_nan=False, allow_infinity=False)
INTERVALS = st.none() | st.builds(Interval, FINITE, FINITE, FINITE)
AGREEMENTS = st.none() | records(
    Agreement,
    **dict.fromkeys(("max_difference", "mean_difference", "tolerance"), FINITE),
    **dict.fromkeys(
        ("score_difference", "score_low", "score_high", "canary_difference"), st.none() | FINITE
    ),
)
NAMES = st.just(board_data.name_of(BEST))
SITE = SiteData(Store(Path()))


@given(
    records(
        LeaderboardEntry,
        submission=NAMES,
        interval=INTERVALS,
        metrics=st.just(()),
        replay=AGREEMENTS,
        reproduction=AGREEMENTS,
    )
)
def test_any_row_of_the_client_has_the_stated_form(entry: LeaderboardEntry) -> None:
    figures = {"auroc|": Figure(entry.score), "auroc|Hernia": Figure(None, None, entry.score)}
    stated = json.loads(answer(row(SITE, entry, figures)).body)
    check(stated, {"$ref": "#/components/schemas/Row"})


@given(records(SotaStep, submission=NAMES, score=FINITE, interval=INTERVALS))
def test_any_step_of_the_client_has_the_stated_form(item: SotaStep) -> None:
    check(json.loads(answer(step(SITE, item)).body), {"$ref": "#/components/schemas/Step"})
