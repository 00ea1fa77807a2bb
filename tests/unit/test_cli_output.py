"""The command line prints text as it is: without markup, and without control characters."""

import io
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from rich.table import Table

from cxreval.audit.chain import Head
from cxreval.cli import app, board_output, output
from cxreval.client import (
    Board,
    Change,
    Event,
    Failure,
    Fault,
    Kind,
    LeaderboardEntry,
    SotaStep,
    SourceKind,
    Submission,
    SubmissionStatus,
    Tier,
)
from cxreval.errors import CxrevalError
from cxreval.metrics.report import Interval
from tests.support.registry import small_spec
from tests.support.system import manifest

HOSTILE = "Model [/x] [bold]:x: \x1b]0;owned\x07\x1b[2J\u202e\u2066\x9b2J"
SHOWN = "Model [/x] [bold]:x:  ]0;owned"


@pytest.fixture
def terminal(monkeypatch):
    """Returns what is printed to a terminal on stdout and stderr."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    written = io.StringIO()
    for console in (output.console, output.errors):
        monkeypatch.setattr(console, "_file", written)
        monkeypatch.setattr(console, "_width", 200)
    return written


def submission():
    now = datetime.now(UTC)
    return Submission(
        name="benchmarks/small/submissions/1",
        kind=Kind.CHECKPOINT,
        manifest=replace(manifest(), model=HOSTILE),
        status=SubmissionStatus.FAILED,
        tier=None,
        create_time=now,
        update_time=now,
        evaluation="",
        images_done=0,
        images_total=4,
        failure=Failure("ENDPOINT_REFUSED", HOSTILE, Fault.SUBMISSION),
        note="",
        etag="1",
        seconds_left=None,
        superseded_by="",
    )


def event():
    return Event(
        HOSTILE,
        1,
        Change.DISPUTED,
        SubmissionStatus.DISPUTED,
        HOSTILE,
        HOSTILE,
        {},
        datetime.now(UTC),
    )


def board():
    """A board with an executed row and a claim, both with the same submitter's text."""
    row = LeaderboardEntry(
        submission="s", model=HOSTILE, organisation=HOSTILE, open_source=True,
        source_kind=SourceKind.CHECKPOINT, source_url="", submitted_date="2025-01-01",
        tier=Tier.EXECUTED, rank=1, score=0.8, sota=True, note=HOSTILE,
        profile_digest="", metrics=(), interval=Interval(0.7, 0.9, 0.1), disputed=True,
    )  # fmt: skip
    return Board((row, replace(row, tier=Tier.CLAIMED, interval=None)), Head(1, "0" * 64))


def step():
    return SotaStep("s", HOSTILE, HOSTILE, "2025-01-01", 0.8, Tier.EXECUTED, None)


def refuse():
    raise CxrevalError(HOSTILE)


def a_progress_bar():
    with output.progress_bars() as bars:
        bars.add_task(HOSTILE, total=3)


def test_a_board_with_claims_prints_how_equal_ones_are_ordered(terminal):
    executed, claim = board()
    for rows, told in (((executed,), False), ((executed, claim), True)):
        board_output.print_board(small_spec("small"), Board(rows, Head(1, "0" * 64)), [])
        assert (board_output.CLAIMS_RULE in terminal.getvalue()) is told


@pytest.mark.parametrize(
    "show",
    [
        lambda: output.print_submission(submission()),
        lambda: output.print_events(
            [
                Event(
                    "s",
                    1,
                    Change.FAILED,
                    SubmissionStatus.FAILED,
                    "worker",
                    HOSTILE,
                    {},
                    datetime.now(UTC),
                )
            ]
        ),
        lambda: output.print_events([event()], named=True),
        lambda: board_output.print_board(
            replace(small_spec("small"), title=HOSTILE), board(), [step()]
        ),
        lambda: output.console.print(Table(HOSTILE, title=HOSTILE)),
        lambda: output.errors.print(HOSTILE, style="red", soft_wrap=True),
        a_progress_bar,
    ],
    ids=[
        "a submission",
        "events",
        "changes of a board",
        "a board",
        "a table",
        "a line",
        "a progress bar",
    ],
)
def test_submitted_text_is_printed_without_markup_or_control_characters(terminal, show):
    show()
    assert SHOWN in terminal.getvalue()
    for control in ("\x1b]", "\x1b[2J", "\x07", "\x9b", "\u202e", "\u2066"):
        assert control not in terminal.getvalue()


def test_an_error_is_one_line_of_plain_text(terminal, monkeypatch):
    monkeypatch.setattr(app, "app", refuse)
    with pytest.raises(SystemExit):
        app.main()
    assert f"error: INTERNAL: {SHOWN}" in terminal.getvalue()
