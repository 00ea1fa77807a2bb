"""A registry with published rows under hostile names, and what the public page reads from it.

No model runs: the rows are scored in this process from random predictions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cxreval.audit.chain import Head
from cxreval.client import (
    AsyncRegistryClient,
    ClaimedMetric,
    Manifest,
    Predictions,
    WorkerClient,
)
from cxreval.datasets.benchmark import BenchmarkSpec, ranked_by
from cxreval.datasets.truth import Truth
from cxreval.metrics.cohort import Cohort, Slice
from cxreval.metrics.predictions import image_rows
from cxreval.records import Change
from services.leaderboard.data import BoardData
from services.leaderboard.site import SiteData
from services.leaderboard.source import Source
from services.leaderboard.store import Store
from tests.support.registry import small_images, small_spec
from tests.support.system import claim, manifest, predictions

IMAGES = 120
NAMES = tuple(sorted(small_images(IMAGES)))
FINDINGS = ("Effusion", "Hernia", "<b>Mass</b>", "כתם")
MARKUP = '<script>alert("1")</script>&<b>'
ARABIC = "نموذج الأشعة"
ACCENTS = "a\N{COMBINING ACUTE ACCENT}" * 40
DRAW = np.random.default_rng(7)
LABELS = DRAW.random((IMAGES, len(FINDINGS))) < 0.4
SKILLS = {"strong": 0.9, MARKUP: 0.6, ARABIC: 0.5, "=cmd()|calc": 0.3, ACCENTS: 0.2, "x" * 100: 0.2}
"""Share of the label in the probabilities of each model that covers all findings."""


def _spec(name: str) -> BenchmarkSpec:
    changes = {"findings": FINDINGS, "patient_count": IMAGES // 2, "slices": ("sex",)}
    return replace(small_spec(name, IMAGES, 200), metrics=ranked_by("auroc"), **changes)


BOARD, UNDEFINED, CLAIMS, EMPTY = map(_spec, ("whole", "undefined", "claims", "empty"))


class Filled:
    """A registry with four boards, and what the page reads from it."""

    def __init__(self, directory: Path, address: str, client: WorkerClient) -> None:
        self.address = address
        self.client = client
        self.directory = directory
        self.names: dict[str, str] = {}
        for spec in (BOARD, UNDEFINED, CLAIMS, EMPTY):
            client.create_benchmark(spec)
            client.record_image_list(spec.name, NAMES)
        for model, skill in SKILLS.items():
            self.publish(BOARD, model, skill, FINDINGS)
        self.publish(BOARD, "no hernia", 0.7, (FINDINGS[0], *FINDINGS[2:]))
        self.publish(UNDEFINED, "alone", 0.5, FINDINGS)
        parts = ClaimedMetric("auroc", 0.9), ClaimedMetric("auroc", 0.8, "Hernia")
        for spec in (BOARD, CLAIMS):
            claimed = replace(claim(MARKUP), organisation=MARKUP, claimed_metrics=parts)
            self.names[f"claim on {spec.name}"] = client.submit(spec.name, claimed).name
        client.dispute(self.names["strong"], f"a dispute {MARKUP}")
        client.correct(self.names[ARABIC], f"a correction {MARKUP}", model=f"{ARABIC} 2")
        # The last event, for which `read` waits.
        client.withdraw(self.publish(BOARD, "gone", 0.4, FINDINGS), "withdrawn by its authors")

    def publish(self, spec: BenchmarkSpec, model: str, skill: float, covered: Sequence[str]) -> str:
        """Publishes a model that predicts some findings, and returns its submission."""
        file = self.directory / "model.csv"
        file.write_text(f"{len(self.names)}\n")
        truth = _truth(spec)
        values = skill * truth.cohort.labels + (1 - skill) * DRAW.random(LABELS.shape)
        kept = [FINDINGS.index(finding) for finding in covered]
        chosen = np.ascontiguousarray(values[:, kept].astype(np.float32))
        table = truth.table(covered)
        table.add(NAMES, chosen)
        declared = _declared(model, covered)
        name = self.client.submit(spec.name, declared, file).name
        lease = self.client.lease_evaluation("worker", [spec.name])
        assert lease
        self.client.append_predictions(lease, Predictions(NAMES, chosen))
        facts = {"cpu": MARKUP, "images_per_second": "250", "started": "not a date"}
        self.client.complete_evaluation(lease, truth.report(table), facts)
        self.names[model] = name
        return name


def _declared(model: str, covered: Sequence[str]) -> Manifest:
    if model == "strong":  # a checkpoint: its preprocessing is shown
        declared = manifest(model, outputs=tuple(covered))
        dependencies = tuple(f"package-{number}=={'1' * 150}" for number in range(400))
        environment = replace(declared.environment, dependencies=dependencies)  # type: ignore[type-var]
        return replace(declared, organisation="Group", environment=environment)
    return replace(predictions(model), organisation=MARKUP if model == MARKUP else "Group")


def _truth(spec: BenchmarkSpec) -> Truth:
    labels = LABELS.copy()
    if spec is UNDEFINED:
        labels[:, 1] = False
    women = np.arange(IMAGES) % 4 < 2
    slices = (Slice("sex", "F", women), Slice("sex", "M", ~women))
    patients = np.arange(IMAGES) // 2
    cohort = Cohort(FINDINGS, labels, np.ones_like(labels), patients, IMAGES // 2, slices)
    return Truth(spec, image_rows(NAMES), cohort)


def read(address: str, store: Store) -> SiteData:
    """Returns what the page knows after it has read a registry that `Filled` filled."""

    async def boards() -> dict[str, BoardData]:
        async with AsyncRegistryClient(address) as client:
            source = Source(client, store, lambda _: None)
            events = await source.events(Head())
            while not any(event.change == Change.WITHDRAWN for event in events.get("whole", [])):
                await asyncio.sleep(0.1)  # events join the chain after their transaction
                events = await source.events(Head())
            boards = [
                await source.board(board, events.get(board.name, []), every=True)
                for board in await source.benchmarks()
            ]
            return {board.name: board for board in boards}

    public = "https://page.example.org"
    return SiteData(store, asyncio.run(asyncio.wait_for(boards(), 60)), public_url=public)
