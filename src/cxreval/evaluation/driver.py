"""The evaluation driver: walks a leased submission from what was handed in to its published report.

It holds the only copy of nothing. Predictions are recorded in the registry as they come, so a
worker that dies loses at most the batch in its hands and the images on their way, and the next one
asks only for what is not recorded yet.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxreval.client import (
    CheckpointFormat,
    Evaluation,
    Failure,
    Fault,
    InferenceClient,
    Kind,
    Lease,
    Predictions,
    RegistryClient,
    ScoringClient,
)
from cxreval.datasets.benchmark import (
    IMAGES_DIRECTORY,
    BenchmarkSpec,
    image_list,
    load_spec,
)
from cxreval.errors import (
    BenchmarkDigestMismatch,
    CxrevalError,
    DatasetInvalid,
    LeaseLost,
    SubmissionFault,
    WorkerError,
)
from cxreval.evaluation.conversion import COMPARED_IMAGES, Converter, convert
from cxreval.evaluation.endpoints import EndpointSource
from cxreval.evaluation.provenance import provenance
from cxreval.evaluation.resume import LeaseKeeper, Patience
from cxreval.evaluation.sources import Checkpoint, Rows, Source, Table
from cxreval.metrics.predictions import PredictionTable, image_rows
from cxreval.metrics.report import Report
from cxreval.wire import request_id

_log = logging.getLogger(__name__)

RECORD_IMAGES = 64
"""Most images predicted between two records."""

RECORD_SECONDS = 10.0
"""Longest time between two records; an endpoint may be slow."""

STALL_SECONDS = 300.0
"""Longest wait for the next thing to happen beyond the patience with services; then the lease is
let go."""

SCORE_IMAGES = 1024
"""Images in one message to scoring."""

FAILURE_CHARACTERS = 4000
"""Most of a failure's message that is sent, which is as much as the registry keeps."""

PLATFORM_FAILED = "the platform failed, not the submission; the worker's log says how"
"""All that a submitter reads of a fault of the platform beside its reason."""

Progress = Callable[[Lease, int, int], None]


class EvaluationDriver:
    """Runs evaluations on the data sets in `data`: benchmark to directory with its list and images,
    without labels.

    `patience_seconds`: how long a service may be away before the evaluation is given back to the
    queue.
    `allow_private_endpoints`: whether endpoints in this worker's own network are asked.
    `converter`: makes ONNX of PyTorch state dicts, where this worker can.
    """

    def __init__(
        self,
        registry: RegistryClient,
        inference: InferenceClient,
        scoring: ScoringClient,
        data: Mapping[str, Path],
        worker: str,
        patience_seconds: float = 300.0,
        allow_private_endpoints: bool = False,
        converter: Converter | None = None,
    ) -> None:
        self._registry = registry
        self._inference = inference
        self._scoring = scoring
        self._data = data
        self._worker = worker
        self._patience_seconds = patience_seconds
        self._allow_private_endpoints = allow_private_endpoints
        self._converter = converter

    def run_next(self, progress: Progress) -> Evaluation | None:
        """Runs the next evaluation to its end; `progress` hears images done and total. None when
        nothing waits.

        A failed evaluation is a result like any other: it is recorded with its reason and returned,
        whatever failed. An evaluation whose lease went to another worker is returned as the
        registry has it.

        Raises:
            DatasetInvalid: this worker's data set is damaged; the evaluation is queued again, for a
                better one.
            CxrevalError: the registry cannot be asked for work.
        """
        converts = self._converter is not None
        lease = self._registry.lease_evaluation(self._worker, list(self._data), converts=converts)
        if lease is None:
            return None
        token = request_id.current.set(lease.evaluation.rpartition("/")[2])
        try:
            with LeaseKeeper(
                self._registry, lease, self._patience_seconds + STALL_SECONDS
            ) as keeper:
                return self._settle(lease, keeper, progress)
        finally:
            request_id.current.reset(token)

    def _settle(self, lease: Lease, keeper: LeaseKeeper, progress: Progress) -> Evaluation:
        patience = Patience(self._patience_seconds, keeper)
        try:
            return self._evaluate(lease, patience, progress)
        except LeaseLost:
            return self._lease_lost(lease)
        except DatasetInvalid as error:
            self._fail(lease, error, patience)
            raise  # every other evaluation would fail here too
        except CxrevalError as error:
            return self._fail(lease, error, patience)
        except Exception:  # noqa: BLE001 -- whatever a file brings about, the next evaluation is not to suffer for it
            _log.exception("%s failed for a reason without a name", lease.evaluation)
            unnamed = WorkerError(
                "the worker failed in a way that it has no name for; the cause is in its log"
            )
            return self._fail(lease, unnamed, patience)

    def _fail(self, lease: Lease, error: CxrevalError, patience: Patience) -> Evaluation:
        if isinstance(error, SubmissionFault):
            failure = Failure(error.reason, error.message[:FAILURE_CHARACTERS], Fault.SUBMISSION)
        else:
            # Addresses and paths of this installation are its operator's to read, not a
            # submitter's.
            _log.warning("%s failed: %s: %s", lease.evaluation, error.reason, error)
            failure = Failure(error.reason, PLATFORM_FAILED, Fault.SYSTEM)
        try:
            return patience.call(lambda: self._registry.fail_evaluation(lease, failure))
        except LeaseLost:
            return self._lease_lost(lease)

    def _lease_lost(self, lease: Lease) -> Evaluation:
        _log.warning("%s went to another worker", lease.evaluation)
        return self._registry.get_evaluation(lease.evaluation)

    def _evaluate(self, lease: Lease, patience: Patience, progress: Progress) -> Evaluation:
        started = datetime.now(UTC)
        benchmark = lease.benchmark
        # Before the model runs on every image: without labels all of that would be in vain.
        patience.call(lambda: self._scoring.check_truth(benchmark))
        images = image_list(benchmark, self._data[benchmark.name])
        source = patience.call(lambda: self._source(lease, images))
        table = patience.call(lambda: self._predict(lease, source, images, patience, progress))
        report = patience.call(lambda: self._scoring.score(benchmark, _batches(images, table)))
        _check_report(report, benchmark, table)
        evidence = provenance(lease, patience.call(source.provenance), started)
        return patience.call(lambda: self._registry.complete_evaluation(lease, report, evidence))

    def _source(self, lease: Lease, images: list[str]) -> Source:
        manifest = lease.submission.manifest
        if manifest.kind is Kind.PREDICTIONS:
            return Table(self._registry, lease, images)
        directory = self._data[lease.benchmark.name] / IMAGES_DIRECTORY
        if manifest.kind is Kind.ENDPOINT:
            return EndpointSource(lease, directory, allow_private=self._allow_private_endpoints)
        if manifest.format is CheckpointFormat.PYTORCH_STATE_DICT:
            compared = [directory / image for image in images[:COMPARED_IMAGES]]
            made = convert(self._registry, lease, self._converter, compared)
            return Checkpoint(
                self._inference, lease, directory, made.sha256, made.outputs, made.evidence
            )
        return Checkpoint(
            self._inference, lease, directory, manifest.artifact_sha256, manifest.output_names
        )

    def _predict(
        self,
        lease: Lease,
        source: Source,
        images: list[str],
        patience: Patience,
        progress: Progress,
    ) -> PredictionTable:
        """Predicts what the registry has no record of. Starts from the record each time, so
        repeating it is safe."""
        table = PredictionTable(image_rows(images), lease.benchmark.findings)
        for recorded in self._registry.read_predictions(lease):
            table.add(recorded.images, recorded.probabilities)
        missing = table.missing()
        done = len(images) - len(missing)
        progress(lease, done, len(images))
        if not missing:
            return table
        for batch in _recorded_together(source.rows(missing)):
            names = tuple(name for name, _ in batch)
            probabilities = np.stack([row for _, row in batch])
            self._registry.append_predictions(lease, Predictions(names, probabilities))
            table.add(names, probabilities)
            patience.progressed()
            done += len(batch)
            progress(lease, done, len(images))
        return table


def local_benchmarks(data: Mapping[str, Path]) -> dict[str, BenchmarkSpec]:
    """The specifications of a worker's data sets. Raises `DatasetInvalid` for another list or a
    missing image."""
    specs = {name: load_spec(name, directory) for name, directory in data.items()}
    for name, spec in specs.items():
        images, directory = image_list(spec, data[name]), data[name] / IMAGES_DIRECTORY
        missing = [image for image in images if not (directory / image).is_file()]
        if missing:
            message = f"{directory} lacks {len(missing)} of {len(images)} images, the first is {missing[0]}"
            raise DatasetInvalid(message, file=directory, count=len(missing), image=missing[0])
    return specs


def _recorded_together(rows: Rows) -> Iterator[list[tuple[str, NDArray[np.float32]]]]:
    """Predictions in the pieces that are recorded: when there are enough, or when enough time has
    passed."""
    batch, since = [], time.monotonic()
    for row in rows:
        batch.append(row)
        if len(batch) >= RECORD_IMAGES or time.monotonic() - since >= RECORD_SECONDS:
            yield batch
            batch, since = [], time.monotonic()
    if batch:
        yield batch


def _batches(images: Sequence[str], table: PredictionTable) -> list[Predictions]:
    """The whole table; the arrays are views of it."""
    parts = [slice(start, start + SCORE_IMAGES) for start in range(0, len(images), SCORE_IMAGES)]
    return [Predictions(tuple(images[rows]), table.probabilities[rows]) for rows in parts]


def _check_report(report: Report, benchmark: BenchmarkSpec, table: PredictionTable) -> None:
    """What was scored must be what was predicted."""
    if (report.benchmark_digest, report.predictions_sha256) != (benchmark.digest, table.sha256()):
        found = f"{report.benchmark_digest}, predictions {report.predictions_sha256}"
        expected = f"{benchmark.digest}, predictions {table.sha256()}"
        message = f"scoring reported on benchmark {found}; expected {expected}"
        raise BenchmarkDigestMismatch(
            message, field="benchmark_digest", found=found, expected=expected
        )
