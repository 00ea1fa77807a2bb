"""Boards as the public page knows them, built by hand: a hostile one, an empty one, and claims."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import uvicorn
from prometheus_client import CollectorRegistry
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from cxreval.audit.chain import AuditEvent, Head
from cxreval.client import Evaluation, LeaderboardEntry, SotaStep, Submission
from cxreval.client.models import RankSpread
from cxreval.manifest.model import Endpoint, Kind, Manifest, SourceKind
from cxreval.metrics.ranking import Significance
from cxreval.metrics.report import ONE_CLASS_ONLY, Evidence, Interval, MetricValue, Report
from cxreval.records import (
    BenchmarkCard,
    Change,
    EvaluationState,
    Retirement,
    SubmissionState,
    Tier,
)
from services.leaderboard.app import create_app
from services.leaderboard.data import BoardData, BoardDay, figures
from services.leaderboard.files import static_files
from services.leaderboard.metrics import WebMetrics
from services.leaderboard.routes import problem_page
from services.leaderboard.site import Site, SiteData
from services.leaderboard.source import public_evaluation, public_submission
from services.leaderboard.store import Store
from services.leaderboard.watching import Watchers
from tests.support.registry import small_spec
from tests.support.system import claim, manifest

ADDRESS = "https://boards.example.org"
FINDINGS = ("Hernia", "low", '=1+1"', "<b>&amp;")
HOSTILE = '=cmd()|" \u202e</script><script>alert(1)</script>,;\t%_{}\\&'
READ = datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=UTC)
EARLIER = date(2026, 1, 6)
"""A day at whose end the row WITHDRAWN was still on the board."""

BEST, SECOND, UNDEFINED, CLAIM, WITHDRAWN, RUNNING = (f"{number:032x}" for number in range(6))


def name_of(identifier: str, board: str = "hostile") -> str:
    return f"benchmarks/{board}/submissions/{identifier}"


def values(score: float | None) -> tuple[MetricValue, ...]:
    """Returns figures of two metrics, with slices; without a score, undefined ones."""
    low = None if score is None else Interval(score - 0.01, score + 0.01, 0.005)
    why = "" if score is not None else ONE_CLASS_ONLY
    return tuple(
        MetricValue(metric, finding, score, why, 5, 7, 3, part, low)
        for metric in ("auroc", "brier")
        for finding in ("", *FINDINGS)
        for part in ("", "sex=F")
    )


def entry(
    identifier: str, score: float | None, rank: int | None, **changes: object
) -> LeaderboardEntry:
    fields: dict[str, object] = {
        "submission": name_of(identifier),
        "model": f"Model {identifier[-1]}",
        "organisation": "Tests",
        "open_source": True,
        "source_kind": SourceKind.CHECKPOINT,
        "source_url": "https://example.org/?a=1&b=2",
        "submitted_date": "2026-01",
        "tier": Tier.EXECUTED,
        "rank": rank,
        "score": score,
        "sota": rank == 1,
        "note": "",
        "profile_digest": "",
        "metrics": (),
        "interval": None if score is None else Interval(score - 0.01, score + 0.01, 0.005),
        "spread": RankSpread(1, 2, 0.75, 1.5, 1, False, 0),
        "publish_time": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        "evaluation": f"{name_of(identifier)}/evaluations/{identifier}",
    }
    return LeaderboardEntry(**fields | changes)  # type: ignore[arg-type]


def submission(of: LeaderboardEntry, state: SubmissionState, declared: Manifest) -> Submission:
    named = replace(declared, model=of.model, organisation=of.organisation)
    return Submission(
        of.submission, declared.kind, named,
        state, of.tier, READ, READ, of.evaluation, 0, 0, None, "", "", None, "",
    )  # fmt: skip


def event(place: int, of: str, change: Change, when: str, reason: str = "") -> AuditEvent:
    state = change if change in (Change.WITHDRAWN, Change.DISPUTED) else "published"
    return AuditEvent(
        place, of, place, change, state, "somebody", reason, {}, f"{when}+00:00", 0, "", "",
        f"{place:064x}",
    )  # fmt: skip


def evaluation(of: LeaderboardEntry) -> Evaluation:
    report = Report("hostile", "0" * 64, "2", 4, 4, values(of.score), "1" * 64, 100, 2**64 - 1)
    return Evaluation(
        of.evaluation, EvaluationState.SUCCEEDED, 1, "worker", 4, READ, READ, report,
        {"git_commit": HOSTILE, "endpoint_address": "secret:443"}, None,
    )  # fmt: skip


def hostile_board(store: Store) -> BoardData:
    """Returns a board with rows of every kind, and stores what is behind it."""
    spec = replace(small_spec("hostile"), findings=FINDINGS, title=f"Title {HOSTILE}")
    best = entry(BEST, 0.8, 1, model=HOSTILE, organisation=HOSTILE, note=HOSTILE, disputed=True)
    second = entry(SECOND, 0.7, 2, open_source=False, tier=Tier.REPRODUCED, claimed_score=0.75)
    undefined = entry(
        UNDEFINED, None, None, rank_undefined_reason=ONE_CLASS_ONLY, spread=None, model="No score"
    )
    claimed = entry(
        CLAIM, 0.9, 1, tier=Tier.CLAIMED, kind=Kind.CLAIM, interval=None, spread=None,
        evaluation="", sota=False, model="Claimed",
    )  # fmt: skip
    withdrawn = entry(WITHDRAWN, 0.85, 1, model="Withdrawn")
    running = entry(RUNNING, None, None, model="Running", evaluation="")
    rows = (best, second, undefined)
    for row in (*rows, withdrawn):
        store.save_evaluation(public_evaluation(evaluation(row)), Evidence())
    step = SotaStep(
        best.submission, best.model, best.organisation, "2026-01", 0.8, Tier.EXECUTED,
        Significance.FIRST, best.publish_time, best.interval,
    )  # fmt: skip
    store.save_day("hostile", EARLIER, BoardDay((withdrawn, replace(best, rank=2)), (step,)))
    public = Endpoint("secret:443", True, "secret", 1.0)
    submissions = [
        *(submission(row, SubmissionState.PUBLISHED, manifest()) for row in rows[1:]),
        submission(best, SubmissionState.DISPUTED, replace(manifest(), endpoint=public)),
        submission(claimed, SubmissionState.PUBLISHED, claim()),
        submission(withdrawn, SubmissionState.WITHDRAWN, manifest()),
        submission(running, SubmissionState.RUNNING, manifest()),
    ]
    published = [
        event(number, row.submission, Change.PUBLISHED, f"2026-01-0{number}T01:02:03.000004")
        for number, row in enumerate((claimed, best, second, undefined, withdrawn), 1)
    ]
    last = [
        event(6, best.submission, Change.DISPUTED, "2026-01-06T01:00:00.000000", HOSTILE),
        event(7, withdrawn.submission, Change.WITHDRAWN, "2026-02-01T01:00:00.000000", HOSTILE),
    ]
    events: dict[str, tuple[AuditEvent, ...]] = {}
    for one in (*published, *last):
        events[one.submission] = (*events.get(one.submission, ()), one)
    return BoardData(
        spec,
        Retirement(READ, HOSTILE, "benchmarks/claims"),
        BenchmarkCard(HOSTILE, year=2017, paper="https://example.org/paper"),
        (*rows, claimed),
        (step,),
        {row.submission: figures(values(row.score)) for row in (*rows, claimed)},
        {item.name: public_submission(item) for item in submissions},
        events,
        Head(7, f"{7:064x}"),
        READ,
    )


def large_board(name: str, rows: int) -> BoardData:
    """Returns a board of many rows, each of a model of its own, from 50 organisations."""
    entries = tuple(
        entry(
            f"{number:032x}", 0.9 - number / (5 * rows), number + 1,
            submission=f"benchmarks/{name}/submissions/{number:032x}",
            model=f"Model {number} with a name as long as many are",
            organisation=f"University Hospital {number % 50}",
            claimed_score=0.8,
        )
        for number in range(rows)
    )  # fmt: skip
    known = {row.submission: figures(values(row.score)) for row in entries}
    submissions = {
        row.submission: submission(row, SubmissionState.PUBLISHED, manifest()) for row in entries
    }
    return BoardData(
        small_spec(name),
        entries=entries,
        figures=known,
        submissions=submissions,
        read_time=READ,
    )


def site_data(directory: Path) -> SiteData:
    """Returns a site with the boards `hostile`, `empty` and `claims`."""
    store = Store(directory)
    row = replace(entry(CLAIM, 0.9, 1, tier=Tier.CLAIMED, kind=Kind.CLAIM), interval=None)
    row = replace(row, submission=name_of(CLAIM, "claims"), evaluation="", spread=None)
    boards = [
        hostile_board(store),
        BoardData(small_spec("empty"), read_time=READ),
        BoardData(
            small_spec("claims"),
            entries=(row,),
            submissions={row.submission: submission(row, SubmissionState.PUBLISHED, claim())},
            events={
                row.submission: (
                    event(8, row.submission, Change.PUBLISHED, "2026-01-01T00:00:00.000000"),
                )
            },
            read_time=READ,
        ),
    ]
    by_name = {board.name: board for board in boards}
    return SiteData(store, by_name, Head(8, f"{8:064x}"), READ, public_url=ADDRESS)


def application(data: SiteData) -> ASGIApp:
    """Returns an application that shows the data, and follows no submission."""
    watchers = Watchers(None)  # type: ignore[arg-type] -- nothing is followed
    metrics = WebMetrics(CollectorRegistry())
    return create_app(Site(data, problem_page), watchers, metrics, static_files(), https=True)


def visitor(data: SiteData) -> TestClient:
    """Returns a client of an application that shows the data."""
    return TestClient(application(data), base_url=ADDRESS)


@contextmanager
def served(data: SiteData, port: int = 0) -> Iterator[str]:
    """Serves the data on a port, 0 for a free one, and returns its address."""
    app = application(data)
    config = uvicorn.Config(app, port=port, log_config=None, timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        for _ in range(500):
            if server.started:
                break
            time.sleep(0.02)
        (socket,) = server.servers[0].sockets
        yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
