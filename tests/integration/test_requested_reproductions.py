"""A script is run over all images for the holder of the record and on request, within a quota.

Registry, scoring and the worker's driver are real; the runner gives the predictions of a script.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cxreval.cli.app import app
from cxreval.client import Evaluation, InferenceClient, Part, Purpose, Quota, ScoringClient
from cxreval.datasets.nih import FINDINGS
from cxreval.errors import QuotaExceeded
from cxreval.evaluation.driver import Abilities, EvaluationDriver
from cxreval.evaluation.scripts import ScriptResult
from cxreval.files import file_sha256
from tests.e2e.test_replays import RECORD
from tests.support.access import ClosedRegistry
from tests.support.scoring import describe, scoring_service, small_table
from tests.support.system import predictions

IMAGES = tuple(f"{patient:08d}_000.png" for patient in range(1, 521))
PRESENT = np.arange(len(IMAGES)) % 2 == 0
SAMPLED, ALL = 512, len(IMAGES)


def values(signal: float) -> np.ndarray:
    """Returns probabilities, shape (images, findings); the larger the signal, the better."""
    noise = np.random.default_rng(1).random((len(IMAGES), len(FINDINGS)))
    return ((noise + signal * PRESENT[:, np.newaxis]) / (1 + signal)).astype(np.float32)


class World(ClosedRegistry):
    """A registry with keys and without replays, scoring, and a worker that can run scripts."""

    def __enter__(self) -> World:
        super().__enter__()
        data = self.directory / "small"
        rows = zip(IMAGES, PRESENT, strict=True)
        labels = [(image, "|".join(FINDINGS) if sick else "No Finding") for image, sick in rows]
        spec = describe(data, "small", IMAGES, small_table(data, labels))
        (data / "images").mkdir()
        for image in IMAGES:
            (data / "images" / image).touch()  # the runner reads none
        self.operator.create_benchmark(spec)
        self.operator.record_image_list("small", IMAGES)
        scoring = self.enter_context(scoring_service(self.directory / "scoring.log", small=data))
        self.driver = EvaluationDriver(
            self.client("worker"),
            self.enter_context(InferenceClient("localhost:1")),
            self.enter_context(ScoringClient(scoring.address)),
            {"small": data},
            "worker",
            abilities=Abilities(runner=self.give),
        )
        self.acme, self.signals = self.client("acme/submitter"), {}
        return self

    def give(self, script, images, findings, running):
        signal = self.signals[script.commit]
        by_image = dict(zip(IMAGES, values(signal), strict=True))
        return ScriptResult(
            tuple(images), np.stack([by_image[image] for image in images]), findings, RECORD, {}
        )

    def submit(self, signal: float) -> str:
        """Submits a table with a script that gives the same one, and returns its name."""
        commit = f"{len(self.signals) + 1:040x}"
        self.signals[commit] = signal
        table, bundle = self.directory / "table.csv", self.directory / "source.bundle"
        lines = [",".join(["Image Index", *FINDINGS])]
        for image, row in zip(IMAGES, values(signal).tolist(), strict=True):
            lines.append(",".join([image, *map(repr, row)]))
        table.write_text("\n".join(lines))
        bundle.write_bytes(commit.encode())
        manifest = predictions(f"signal {signal}")
        given = replace(
            manifest.reproduction,
            commit=commit,
            entry_point="reproduce.py",
            bundle_sha256=file_sha256(bundle),
        )
        name = self.acme.submit("small", replace(manifest, reproduction=given), table).name
        self.acme.upload_part(name, Part.SOURCE_BUNDLE, bundle)
        return name

    def reproductions(self, name: str) -> list[Evaluation]:
        evaluations = self.acme.list_evaluations(name)
        return [item for item in evaluations if item.purpose is Purpose.REPRODUCE]

    def run_until_reproduced(self, name: str, images: int) -> None:
        """Runs evaluations until the row was reproduced on so many images."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            self.driver.run_next(lambda *_: None)
            found = self.acme.get_submission(name).reproduction
            if found and found.images == images:
                return
            time.sleep(0.05)
        raise AssertionError(f"{name} was not reproduced on {images} images in time")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory: Path = tmp_path_factory.mktemp("requested")
    with World(directory, "sqlite", "--replay-after-hours=-1") as running:
        yield running


def test_the_record_is_reproduced_on_all_images_by_itself_and_others_on_request(
    world: World,
) -> None:
    record = world.submit(2.0)
    world.run_until_reproduced(record, ALL)
    assert [item.agreement.images for item in world.reproductions(record)] == [SAMPLED, ALL]
    other = world.submit(0.5)
    world.run_until_reproduced(other, SAMPLED)
    environment = {"CXREVAL_CLIENT_KEY": world.keys["acme/submitter"]}
    arguments = ["reproduce", other, "--full", "--json", f"--registry={world.service.address}"]
    asked = CliRunner(env=environment).invoke(app, ["submission", *arguments])
    assert asked.exit_code == 0, asked.output
    assert json.loads(asked.output)["purpose"] == Purpose.REPRODUCE
    world.run_until_reproduced(other, ALL)
    assert len(world.reproductions(other)) == 2


def test_reproduction_on_request_uses_the_callers_daily_quota(world: World) -> None:
    name = world.submit(0.1)
    world.run_until_reproduced(name, SAMPLED)
    rival, used = world.client("rival/submitter"), len(world.reproductions(name))
    world.operator.update_organisation("rival", "Rival", Quota(submissions_per_day=1))
    first = rival.reproduce_submission(name)
    assert rival.reproduce_submission(name).name == first.name  # queued already: not counted again
    world.driver.run_next(lambda *_: None)
    with pytest.raises(QuotaExceeded) as caught:
        rival.reproduce_submission(name, full=True)
    assert caught.value.metadata["reset_time"]
    assert len(world.reproductions(name)) == used + 1
    world.acme.reproduce_submission(name, full=True)
    world.run_until_reproduced(name, ALL)
