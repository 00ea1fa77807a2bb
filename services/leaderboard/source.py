"""Reads boards from the registry: what changed since the last time, and nothing else."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time

from cxreval.audit.chain import AuditEvent, Head
from cxreval.client import AsyncRegistryClient, Evaluation, LeaderboardEntry, SotaStep, Submission
from cxreval.errors import ReceiptNotFound, SubmissionNotFound
from cxreval.resource_names import SubmissionName
from services.leaderboard.data import BoardData, BoardDay, figures
from services.leaderboard.store import Store

_CONCURRENT = 8
"""Calls of the registry that are open at once."""

_ENDPOINT_PROVENANCE = "endpoint_"
"""Beginning of the keys by which a provenance describes a submitter's server."""


class Source:
    """The registry, as the pages read it."""

    def __init__(
        self, client: AsyncRegistryClient, store: Store, count: Callable[[str], None]
    ) -> None:
        """Reads through a client; `count` is called with the name of each rpc that is called."""
        self._client = client
        self._store = store
        self._count = count
        self._slots = asyncio.Semaphore(_CONCURRENT)

    async def head(self) -> Head:
        """Returns the head of the audit chain."""
        self._count("GetAuditHead")
        return await self._client.audit_head()

    async def events(self, after: Head) -> dict[str, list[AuditEvent]]:
        """Returns the events after a head that anybody may read, by benchmark, oldest first."""
        found: defaultdict[str, list[AuditEvent]] = defaultdict(list)
        self._count("ReadAuditChain")
        async for event in self._client.audit_chain(after.place):
            # The card of a benchmark is read with the list of benchmarks.
            if not event.is_sealed and "/submissions/" in event.submission:
                found[SubmissionName.parse(event.submission).benchmark].append(event)
        return dict(found)

    async def benchmarks(self) -> list[BoardData]:
        """Returns all benchmarks, oldest first, without their boards."""
        self._count("ListBenchmarks")
        retirements = await self._client.retirements()
        self._count("ListBenchmarks")
        cards = await self._client.cards()
        self._count("ListBenchmarks")
        return [
            BoardData(spec, retirements.get(spec.name), cards.get(spec.name))
            async for spec in self._client.list_benchmarks()
        ]

    async def board(
        self, known: BoardData, events: Sequence[AuditEvent], *, every: bool = False
    ) -> BoardData:
        """Returns a board as it is now.

        `known`: the board as it was, with all events before `events`. `every`: reads all
        submissions again, not only those with events.
        """
        self._count("ListLeaderboardEntries")
        self._count("ListSotaSteps")
        board, steps, submissions = await asyncio.gather(
            self._client.leaderboard(known.name),
            self._steps(known.name),
            self._submissions(known, {event.submission for event in events}, every=every),
        )
        by_submission: dict[str, tuple[AuditEvent, ...]] = dict(known.events)
        for event in events:
            by_submission[event.submission] = (*by_submission.get(event.submission, ()), event)
        fresh = replace(
            known,
            entries=tuple(replace(entry, metrics=()) for entry in board),
            steps=steps,
            figures={entry.submission: figures(entry.metrics) for entry in board},
            submissions=submissions,
            events=by_submission,
            head=board.audit_head,
            read_time=datetime.now(UTC),
        )
        await self._store_evidence(submissions.values())
        await self._store_receipts({event.submission for event in events} or {*submissions})
        await self._store_days(fresh)
        return fresh

    async def _steps(self, benchmark: str) -> tuple[SotaStep, ...]:
        return tuple([step async for step in self._client.sota_steps(benchmark)])

    async def _submissions(
        self, known: BoardData, changed: Iterable[str], *, every: bool
    ) -> Mapping[str, Submission]:
        """Returns the submissions of a board that anybody may read, by name."""
        if every:
            self._count("ListSubmissions")
            return {
                item.name: public_submission(item)
                async for item in self._client.list_submissions(known.name)
            }
        fresh = dict(known.submissions)
        for found in await asyncio.gather(*map(self._submission, changed)):
            if found:
                fresh[found.name] = found
        return fresh

    async def _submission(self, name: str) -> Submission | None:
        async with self._slots:
            self._count("GetSubmission")
            try:
                return public_submission(await self._client.get_submission(name))
            except SubmissionNotFound:  # hidden again, or removed
                return None

    async def _store_evidence(self, submissions: Iterable[Submission]) -> None:
        """Stores the reports behind the rows that are not stored yet."""
        await asyncio.gather(
            *(
                self._store_one(item.evaluation)
                for item in submissions
                if item.evaluation and item.tier and not self._store.has_evaluation(item.evaluation)
            )
        )

    async def _store_one(self, name: str) -> None:
        async with self._slots:
            self._count("GetEvaluation")
            evaluation = await self._client.get_evaluation(name)
            if evaluation.report is None:
                return
            self._count("GetEvidence")
            evidence = await self._client.get_evidence(name)
            await asyncio.to_thread(
                self._store.save_evaluation, public_evaluation(evaluation), evidence
            )

    async def _store_receipts(self, submissions: Iterable[str]) -> None:
        await asyncio.gather(*map(self._store_receipt, submissions))

    async def _store_receipt(self, submission: str) -> None:
        async with self._slots:
            self._count("GetReceipt")
            try:
                receipt = await self._client.receipt(submission)
            except (ReceiptNotFound, SubmissionNotFound):
                return
            await asyncio.to_thread(self._store.save_receipt, submission, receipt.to_file())

    async def _store_days(self, board: BoardData) -> None:
        """Stores the board at the end of each earlier day on which it changed."""
        today = datetime.now(UTC).date()
        for day in board.days:
            if day < today and not self._store.has_day(board.name, day):
                self._store.save_day(board.name, day, await self._day(board.name, day))

    async def _day(self, benchmark: str, day: date) -> BoardDay:
        end = datetime.combine(day, time.max, UTC)
        self._count("ListLeaderboardEntries")
        board = await self._client.leaderboard(benchmark, as_of=end)
        self._count("ListSotaSteps")
        steps = [step async for step in self._client.sota_steps(benchmark, as_of=end)]
        entries: tuple[LeaderboardEntry, ...] = tuple(replace(row, metrics=()) for row in board)
        return BoardDay(entries, tuple(steps))


def public_submission(item: Submission) -> Submission:
    """Returns a submission without what only its owner reads, which this site's key may allow."""
    return replace(item, failure=None, manifest=replace(item.manifest, contact="", endpoint=None))


def public_evaluation(item: Evaluation) -> Evaluation:
    """Returns an evaluation without what only the owner of the submission reads."""
    provenance = {
        key: value
        for key, value in item.provenance.items()
        if not key.startswith(_ENDPOINT_PROVENANCE)
    }
    return replace(item, failure=None, worker="", provenance=provenance)
