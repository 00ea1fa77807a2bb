"""Files as people bring them to the board: what each is, and what its maker's own program answers.

`forty_onnx` and `forty_pytorch` make the files that are accepted, `forty_refused` those that are
not; weights are random with a fixed seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml
from sklearn.metrics import roc_auc_score

from cxreval.cli import app
from cxreval.client import SubmissionStatus
from cxreval.datasets.benchmark_file import load_spec
from cxreval.datasets.nih import FINDINGS
from cxreval.evaluation.driver import local_benchmarks
from cxreval.imaging.decode import decode
from cxreval.imaging.preprocess import profile_of
from cxreval.manifest.document import read_document
from cxreval.manifest.model import Kind
from cxreval.manifest.template import template
from tests.support.inference import png
from tests.support.scoring import describe, small_table
from tests.support.system import System

Array = npt.NDArray[Any]
Pixels = Sequence[Array]
"""What each image becomes by the declared preprocessing, (crops, *shape)."""

IMAGES = [f"{patient:08d}_000.png" for patient in range(1, 9)]
_SIZES = ((256, 256), (320, 256), (256, 384), (544, 528))
TOLERANCE = 2e-4
"""Largest difference between a recorded probability and the maker's.

1e-4 is allowed between PyTorch and the ONNX file that the worker makes of its file.
"""


@dataclass(frozen=True, slots=True)
class Brought:
    """A file that a person brings, and the fields of its manifest beyond the template's.

    `make` gets a directory and the pixels of each image; it writes the files and returns them with
    the probabilities that the maker's own program gives, (images, columns). `columns` are their
    names where the manifest has no `output_names`.
    """

    name: str
    fields: Mapping[str, Any]
    make: Callable[[Path, Pixels], tuple[list[Path], Array]]
    columns: tuple[str, ...] = ()


class Board(System):
    """All services and a worker, over a benchmark `small` of eight images of several sizes."""

    def __init__(self, directory: Path) -> None:
        data = directory / "data"
        self.labels = np.random.default_rng(2).random((len(IMAGES), len(FINDINGS))) < 0.4
        self.labels[0], self.labels[1] = True, False
        names = ["|".join(np.array(FINDINGS)[row]) or "No Finding" for row in self.labels]
        describe(data, "small", IMAGES, small_table(data, list(zip(IMAGES, names, strict=True))))
        (data / "images").mkdir()
        self.images = [
            png(*_SIZES[number % len(_SIZES)], seed=number) for number in range(len(IMAGES))
        ]
        for name, image in zip(IMAGES, self.images, strict=True):
            (data / "images" / name).write_bytes(image)
        super().__init__(directory, {"small": data}, lease_seconds=30.0)

    def __enter__(self) -> Board:
        super().__enter__()
        self.registry.create_benchmark(local_benchmarks(self.data)["small"])
        self.start_worker()
        return self


def written_manifest(directory: Path, fields: Mapping[str, Any]) -> Path:
    """Writes the template of a checkpoint with the given fields; None removes one."""
    document = yaml.safe_load(template(Kind.CHECKPOINT, load_spec("nih-chestxray14"))) | fields
    file = directory / "mine.yaml"
    file.write_text(yaml.safe_dump({key: value for key, value in document.items() if value}))
    return file


def submit(board: Board, manifest: Path, files: Sequence[Path], patch: pytest.MonkeyPatch) -> int:
    """Runs `cxreval submit --watch` in this process; returns its exit status."""
    where = ("--benchmark", "small", "--registry", board.registry_service.address, "--watch")
    patch.setattr("sys.argv", ["cxreval", "submit", str(manifest), *map(str, files), *where])
    with pytest.raises(SystemExit) as ended:
        app.main()
    return int(ended.value.code or 0)


def check_published(
    board: Board, brought: Brought, directory: Path, patch: pytest.MonkeyPatch
) -> None:
    """Submits a file and checks that its row has the probabilities and AUROCs of its maker."""
    manifest = written_manifest(directory, brought.fields)
    declared = read_document(manifest, datetime.now(UTC).date(), None).manifest
    assert declared.declared_preprocessing
    profile = profile_of(declared.declared_preprocessing)
    files, answers = brought.make(
        directory, [profile.apply(decode(image)) for image in board.images]
    )
    before = {found.name for found in board.registry.list_submissions("small")}
    status = submit(board, manifest, files, patch)
    (created,) = [
        found for found in board.registry.list_submissions("small") if found.name not in before
    ]
    (evaluation,) = board.registry.list_evaluations(created.name)
    assert (status, created.status) == (0, SubmissionStatus.PUBLISHED), evaluation.failure

    columns = brought.columns or declared.output_names
    covered = [finding for finding in FINDINGS if finding in columns]
    expected = answers[:, [columns.index(finding) for finding in covered]]
    assert np.ptp(expected, axis=0).min() > 100 * TOLERANCE, "the answers hardly differ"
    found = board.registry.predictions(created.name)
    assert list(found.findings) == covered
    recorded = found.probabilities[[found.images.index(image) for image in IMAGES]]
    np.testing.assert_allclose(recorded, expected, rtol=0, atol=TOLERANCE)

    (row,) = [row for row in board.registry.leaderboard("small") if row.submission == created.name]
    shown = {value.finding: value.value for value in row.metrics if value.metric == "auroc"}
    for column, finding in enumerate(covered):
        truth = board.labels[:, FINDINGS.index(finding)]
        assert shown[finding] == pytest.approx(roc_auc_score(truth, recorded[:, column]))
    assert row.covered_findings == tuple(covered)
    assert (row.rank is None) == (row.score is None) == (len(covered) < len(FINDINGS))
