"""Reads boards from the registry: what changed since the last time, and nothing else."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time

from cxreval.audit.chain import AuditEvent, Head, follow
from cxreval.client import AsyncRegistryClient, Evaluation, SotaStep, Submission
from cxreval.errors import ReceiptNotFound, SubmissionNotFound
from cxreval.resource_names import SubmissionName
from services.leaderboard.data import (
    BOARD_CHANGES,
    BoardData,
    BoardDay,
    Figure,
)
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
        """Creates a reader of the registry; `count` gets the name of each rpc that is called."""
        self._client = client
        self._store = store
        self._count = count
        self._slots = asyncio.Semaphore(_CONCURRENT)

    async def head(self) -> Head:
        """Returns the head of the audit chain."""
        self._count("GetAuditHead")
        return await self._client.audit_head()

    async def events(self, after: Head) -> dict[str, list[AuditEvent]]:
        """Returns the events after a head that anybody may read, by benchmark, oldest first.

        Raises:
            AuditMismatch: the head is not in the registry's chain, which was replaced.
        """
        found: defaultdict[str, list[AuditEvent]] = defaultdict(list)
        self._count("ReadAuditChain")
        async for event in self._client.audit_chain(after.place):
            if event.place == after.place + 1 and not event.is_sealed:
                next(follow([event], after))
            # The card of a benchmark is read with the list of benchmarks.
            if not event.is_sealed and "/submissions/" in event.submission:
                found[SubmissionName.parse(event.submission).benchmark].append(event)
        return dict(found)

    async def benchmarks(self) -> list[BoardData]:
        """Returns all benchmarks, oldest first, without their boards."""
        self._count("ListBenchmarks")
        return [
            BoardData(item.spec, item.retirement, item.card)
            async for item in self._client.describe_benchmarks()
        ]

    async def board(
        self, known: BoardData, events: Sequence[AuditEvent], *, every: bool = False
    ) -> BoardData:
        """Returns a board as it is now.

        `known`: the board as it was, with all events before `events`. `every`: reads everything,
        not only what the events touched.
        """
        touched = {event.submission for event in events}
        submissions = await self._submissions(known, touched, every=every)
        await self._store_reports(
            item.evaluation for item in submissions.values() if item.evaluation and item.tier
        )
        await self._store_receipts(touched)
        fresh = replace(
            known,
            submissions=submissions,
            events=_joined(known.events, events),
            read_time=datetime.now(UTC),
        )
        if every or any(event.change in BOARD_CHANGES for event in events):
            fresh = await self._ranked(fresh)
            await self._store_days(fresh)
        return fresh

    async def _ranked(self, known: BoardData) -> BoardData:
        """Returns a board with its rows and steps as they are now."""
        self._count("ListLeaderboardEntries")
        self._count("ListSotaSteps")
        board, steps = await asyncio.gather(
            self._client.leaderboard(known.name, metrics=False), self._steps(known.name)
        )
        # A row that was published since the events were read.
        new = {entry.submission for entry in board} - known.submissions.keys()
        submissions = await self._submissions(known, new, every=False)
        await self._store_reports(entry.evaluation for entry in board if entry.evaluation)
        found = dict[str, Mapping[str, Figure]]()
        for entry in board:
            of_it = known.figures.get(entry.submission, {})
            if not of_it:
                submission = submissions.get(entry.submission)
                of_it = await asyncio.to_thread(self._store.figures, entry, submission)
            found[entry.submission] = of_it
        return replace(
            known,
            entries=tuple(board),
            steps=steps,
            figures=found,
            submissions=submissions,
            head=board.audit_head,
        )

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

    async def _store_reports(self, evaluations: Iterable[str]) -> None:
        """Stores the reports of evaluations, with their evidence, that are not stored yet."""
        missing = [name for name in evaluations if not self._store.has_evaluation(name)]
        await asyncio.gather(*map(self._store_report, missing))

    async def _store_report(self, name: str) -> None:
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
                found = await self._day(board.name, day)
                await asyncio.to_thread(self._store.save_day, board.name, day, found)

    async def _day(self, benchmark: str, day: date) -> BoardDay:
        end = datetime.combine(day, time.max, UTC)
        self._count("ListLeaderboardEntries")
        board = await self._client.leaderboard(benchmark, as_of=end, metrics=False)
        self._count("ListSotaSteps")
        steps = [step async for step in self._client.sota_steps(benchmark, as_of=end)]
        return BoardDay(tuple(board), tuple(steps))


def _joined(
    known: Mapping[str, tuple[AuditEvent, ...]], events: Iterable[AuditEvent]
) -> dict[str, tuple[AuditEvent, ...]]:
    """Returns the events by submission, with those of `events` that are not known."""
    joined = dict(known)
    for event in events:
        earlier = joined.get(event.submission, ())
        # The board may be stored, and the head that it is for not: then events come again.
        if not earlier or earlier[-1].place < event.place:
            joined[event.submission] = (*earlier, event)
    return joined


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
