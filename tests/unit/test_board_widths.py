"""On any width, a board keeps rank, model and score, and says what it leaves out and lacks."""

from __future__ import annotations

import io
import itertools
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from cxreval.audit.chain import Head
from cxreval.cli import board_output, comparison_output, output, score_output
from cxreval.cli.columns import LEFT_TO_RIGHT_MARK, Column, as_name, fitting
from cxreval.client import (
    Board,
    EntryComparison,
    Kind,
    LeaderboardEntry,
    RankSpread,
    SourceKind,
    Tier,
)
from cxreval.fields import printable
from cxreval.metrics.finding_comparison import FindingComparison
from cxreval.metrics.ranking import Comparison
from cxreval.metrics.report import (
    FINDING_UNDEFINED,
    NOT_COVERED,
    REPLICATES_UNDEFINED,
    Interval,
    MetricValue,
    Report,
)
from cxreval.wire import reports
from tests.support.registry import report_message, small_spec

SPEC = small_spec("widths")
COVERED = tuple(MetricValue("auroc", finding, 0.8) for finding in SPEC.findings)
SPREAD = RankSpread(1, 12, 0.5, 1.5, 1, False, 0)
MODELS = {
    "plain": "DenseNet-121",
    "long": "A model with a name of many words, as long as a manifest allows it to be, or so",
    "one word": "X" * 120,
    "CJK": "胸部X線写真の異常所見を検出する深層学習モデル第二版",
    "right to left": "מודל לצילומי חזה",
    "control": "Evil\x1b[2J\x1b]0;owned\x07\u202e",
}


def row(model: str, **changes: Any) -> LeaderboardEntry:
    values: dict[str, Any] = {
        "submission": "benchmarks/widths/submissions/" + "0123abcd" * 4, "model": model,
        "organisation": "An organisation", "open_source": True,
        "source_kind": SourceKind.CHECKPOINT, "source_url": "", "submitted_date": "2025-12-19",
        "tier": Tier.EXECUTED, "rank": 17, "score": 0.8123, "sota": True, "note": "",
        "profile_digest": "", "metrics": COVERED, "interval": Interval(0.7, 0.9, 0.1),
        "spread": SPREAD,
    }  # fmt: skip
    return LeaderboardEntry(**{**values, **changes})


def printed(monkeypatch: pytest.MonkeyPatch, width: int, *rows: LeaderboardEntry) -> list[str]:
    written = io.StringIO()
    monkeypatch.setattr(output.console, "_file", written)
    monkeypatch.setattr(output.console, "_width", width)
    board_output.print_board(SPEC, Board(rows, Head(1, "0" * 64)), [])
    lines = written.getvalue().splitlines()
    assert lines[-2] == "Head of the audit chain:"
    return lines[:-1]


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_rank_model_and_score_are_on_the_board_at_any_width(
    monkeypatch: pytest.MonkeyPatch, width: int, model: str
) -> None:
    lines = printed(
        monkeypatch,
        width,
        row(model, kind=Kind.ENDPOINT),
        row("Other", rank=18, submission="benchmarks/widths/submissions/" + "0123abce" * 4),
    )
    assert max(map(cell_len, lines)) <= width
    (first,) = [number for number, line in enumerate(lines) if line.startswith(" 17  0123abcd")]
    assert "81.23" in lines[first]
    assert "70.00-90.00" in lines[first + 1]
    text = "".join(lines).replace(LEFT_TO_RIGHT_MARK, "")
    letters = [letter for letter in printable(model) if letter != " "]
    # The name may be broken into lines, between which there are other cells.
    rest = iter(text[text.index("0123abcd") :])
    assert all(letter in rest for letter in letters)
    assert "\x1b" not in text
    assert "…" not in text


@pytest.mark.parametrize(("width", "left_out"), [(60, "open, submitted"), (120, "")])
def test_what_a_narrow_board_leaves_out_is_named(
    monkeypatch: pytest.MonkeyPatch, width: int, left_out: str
) -> None:
    text = "\n".join(printed(monkeypatch, width, row("Model")))
    assert (f"Left out at this width: {left_out}." in text) is bool(left_out)
    assert ("2025-12-19" in text) is not bool(left_out)


def test_why_an_interval_or_a_rank_is_absent_stands_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [row("Few", interval=None, interval_undefined_reason=REPLICATES_UNDEFINED)]
    rows += [
        row(name, interval=None, score=None, rank=None, spread=None, rank_undefined_reason=reason)
        for name, reason in (("None", FINDING_UNDEFINED), ("Newer", "NOT_OF_TODAY"))
    ]
    lines = printed(monkeypatch, 80, *rows)
    text = "\n".join(lines)
    assert [line.split()[-2:] for line in lines if " Few " in line] == [["81.23", "1-12"]]
    assert "too few patients: no interval, more than 1 % of the resamples have no value." in text
    assert "a finding is undefined: undefined, a finding has no value." in text
    assert "not of today: undefined, not of today." in text
    assert "- as a rank: a finding has no value." in text
    claim = "\n".join(printed(monkeypatch, 80, row("Claim", tier=Tier.CLAIMED, interval=None)))
    assert ": no interval" not in claim


@pytest.mark.parametrize("rows", [2, 3])
def test_a_comparison_by_finding_keeps_finding_difference_and_verdict_on_80_columns(
    monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    names = {f"benchmarks/widths/submissions/{number}": MODELS["long"] for number in range(rows)}
    different = Comparison(*list(names)[:2], 0.125, 0.1, 0.15, 0.0001, 0.0002)
    findings = [
        FindingComparison(finding, first, second, replace(different, first=first, second=second))
        for finding in ("Pleural_Thickening", "A finding with a long name of words")
        for first, second in itertools.combinations(names, 2)
    ]
    findings[-1] = replace(findings[-1], comparison=None, undefined_reason=NOT_COVERED)
    written = io.StringIO()
    monkeypatch.setattr(output.console, "_file", written)
    monkeypatch.setattr(output.console, "_width", 80)
    comparison = EntryComparison((), {}, 0, tuple(findings))  # of rows without a mean
    comparison_output.print_comparison(SPEC, names, comparison)
    lines = written.getvalue().splitlines()[rows:]  # after the names, which are never wrapped
    assert max(map(cell_len, lines)) <= 80
    shown = [line.split() for line in lines if line.split()[-1:] in (["yes"], ["-"])]
    assert len(shown) == len(findings)
    pair = ["1", "-", "2"] if rows > 2 else []
    assert shown[0] == [
        "Pleural_Thickening", *pair, "+12.50", "+10.00", "to", "+15.00", "<0.001", "yes",
    ]  # fmt: skip
    assert "not covered: no comparison, not covered by the model." in "\n".join(lines)


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_report_keeps_finding_and_figure_at_any_width(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    report: Report = reports.report(report_message(SPEC))
    score_output.print_report("model", SPEC, report)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    shown = {line.split()[0]: line.split()[1] for line in lines if " 0.8000 " in f"{line} "}
    assert shown.keys() >= {"Mass", "Hernia", "macro"}
    assert set(shown.values()) == {"0.8000"}
    assert any(line.startswith("Left out at this width: ") for line in lines) is (width < 100)


@pytest.mark.parametrize("variable", ["", "NO_COLOR"])
def test_no_colour_is_written_to_a_pipe_or_with_no_color(variable: str) -> None:
    program = (
        "from cxreval.cli import output; output.errors.print('x', style='red');"
        "output.console.print('x', style='red')"
    )
    environment = {"PYTHONPATH": ":".join(sys.path), "TERM": "xterm-256color"}
    ended = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        timeout=60,
        env=environment | ({"FORCE_COLOR": "1", variable: "1"} if variable else {}),
    )
    assert (ended.stdout, ended.stderr) == (b"x\n", b"x\n")


def test_short_ids_are_as_long_as_it_takes_to_tell_the_rows_apart() -> None:
    names = ["b/submissions/0123456789aa", "b/submissions/0123456789ab", "b/submissions/ff"]
    assert board_output.short_ids(names) == ["0123456789aa", "0123456789ab", "ff"]
    assert board_output.short_ids(names[1:]) == ["01234567", "ff"]


@given(
    st.lists(
        st.tuples(st.text(max_size=30), st.integers(0, 5), st.integers(0, 20)),
        min_size=1,
        max_size=8,
    ),
    st.integers(20, 200),
)
def test_only_spare_columns_are_left_out_and_never_more_than_needed(
    given_columns: list[tuple[str, int, int]], width: int
) -> None:
    columns = [
        Column(head, [printable(head)], wraps_to, spare) for head, spare, wraps_to in given_columns
    ]
    shown, left_out = fitting(columns, width)
    assert len(shown) + len(left_out) == len(columns)
    assert [column for column in columns if not column.spare] == [
        column for column in shown if not column.spare
    ]
    used = sum(column.least + 2 for column in shown) + 1
    assert used <= width or not any(column.spare for column in shown)


def test_a_name_from_right_to_left_ends_with_a_mark_that_a_terminal_gets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert as_name("Model") == "Model"
    assert as_name(MODELS["right to left"]).endswith(LEFT_TO_RIGHT_MARK)
    lines = printed(monkeypatch, 120, row(MODELS["right to left"]))
    assert any(LEFT_TO_RIGHT_MARK in line for line in lines)
