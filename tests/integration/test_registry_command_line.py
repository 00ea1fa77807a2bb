"""Output of `cxreval leaderboard`, `compare` and `status` for a board with shared ranks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.processes import REPOSITORY
from tests.support.registry import Registry, registry_service, report_message, small_spec

SPEC = small_spec("noisy")
MODELS = {"DenseNet-121 (Chest X-ray)": 0.800, "ResNet-50 [bold]": 0.801, "Worse": 0.600}
COLUMNS = 80


@dataclass(frozen=True)
class Board:
    """A registry with three rows.

    `submissions`: by model, in the order of creation.
    """

    address: str
    submissions: dict[str, str]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs `cxreval` on a terminal of 80 columns."""
        command = [sys.executable, "-m", "cxreval.cli.app", *arguments, "--registry", self.address]
        environment = os.environ | {"COLUMNS": str(COLUMNS)}
        return subprocess.run(
            command,
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def printed(self, *arguments: str) -> str:
        ended = self.run(*arguments)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def json(self, *arguments: str) -> dict[str, Any]:
        return json.loads(self.printed(*arguments, "--json"))


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    with (
        registry_service(tmp_path_factory.mktemp("board")) as service,
        Registry(service.address) as call,
    ):
        call.create_benchmark(SPEC)
        submissions = {}
        for day, (model, score) in enumerate(MODELS.items(), 1):
            submissions[model] = call.submit(
                SPEC.name, b"model", model=model, submitted_date=f"2025-01-0{day}"
            ).name
            report = report_message(SPEC, score, own_noise=day)
            if day == 1:
                # Better in each finding than its mean says.
                for value in report.metrics[:14]:
                    value.value = 0.81
            lease = call.lease(SPEC.name)
            call.complete(lease, report)
        yield Board(service.address, submissions)


def test_board_fits_80_columns_and_marks_shared_ranks_intervals_and_steps(board: Board) -> None:
    text = board.printed("leaderboard", "--benchmark", SPEC.name)
    lines = text.splitlines()
    assert all(len(line) <= COLUMNS for line in lines)
    places = [line.split()[0] for line in lines if "2025-01-0" in line][:3]
    assert places == ["=1", "=1", "3"]
    assert "78.10-82.10" in text
    assert "ResNet-50 [bold]" in text  # a name is text, not markup
    assert "by its mean rank over the findings, 1.00, it would be in place 1" in " ".join(
        text.split()
    )
    assert "within noise" in text
    assert "…" not in text


def test_board_as_json_has_every_interval_rank_range_and_significance(board: Board) -> None:
    found = board.json("leaderboard", "--benchmark", SPEC.name)
    assert [entry["rank"] for entry in found["entries"]] == [1, 1, 3]
    assert found["entries"][0]["interval"]["low"] == pytest.approx(0.781)
    spread = found["entries"][2]["spread"]
    assert (spread["rank_low"], spread["rank_high"], spread["first_share"]) == (3, 3, 0)
    assert [entry["spread"]["places_disagree"] for entry in found["entries"]] == [True, True, False]
    assert [step["significance"] for step in found["sota_steps"]] == ["first", "within-noise"]


def test_comparison_shows_each_pair_and_how_often_each_leads(board: Board) -> None:
    names = list(board.submissions.values())
    text = board.printed("compare", *names)
    words = " ".join(text.split())
    assert f"3 Worse: {names[2]}" in words
    assert "-0.10" in words
    assert "<0.001 yes" in words
    assert "3: 100.0%" in words
    # Names of submissions are longer than a line and must not be wrapped.
    assert all(len(line) <= COLUMNS for line in text.splitlines() if "submissions/" not in line)
    found = board.json("compare", *names)
    assert found["models"] == {name: model for model, name in board.submissions.items()}
    assert [(pair["first"], pair["second"]) for pair in found["pairs"]] == [
        (names[0], names[1]), (names[0], names[2]), (names[1], names[2]),
    ]  # fmt: skip
    assert sum(found["rank_frequencies"][names[0]]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["row", "row"], "MALFORMED_FIELD: submissions[0] is 'row'"),
        (
            ["benchmarks/noisy/submissions/" + "0" * 32],
            "MALFORMED_FIELD: submissions is 'a list of 1'",
        ),
        ([f"benchmarks/noisy/submissions/{digit * 32}" for digit in "01"], "SUBMISSION_NOT_FOUND"),
    ],
)
def test_rows_that_cannot_be_compared_are_one_line_with_the_reason(
    board: Board, arguments: list[str], said: str
) -> None:
    ended = board.run("compare", *arguments)
    assert (ended.returncode, "Traceback" in ended.stderr) == (1, False)
    assert said in ended.stderr


def test_status_of_a_published_submission_shows_its_score_with_the_interval(board: Board) -> None:
    name = board.submissions["Worse"]
    assert "AUROC     60.00 (95 %: 58.00-62.00)" in board.printed("status", name)
    found = board.json("status", name)
    assert (found["status"], found["score"]["value"], found["score"]["slice"]) == (
        "published",
        0.6,
        "",
    )


def test_status_of_a_claim_has_no_measured_score(board: Board) -> None:
    claim = board.json("leaderboard", "--benchmark", "nih-chestxray14")["entries"][0]["submission"]
    assert board.json("status", claim)["score"] is None
    assert "auroc" not in board.printed("status", claim)
