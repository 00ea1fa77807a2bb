"""Runs a leased evaluation: predict, record, score, publish.

The driver keeps no state of its own. It records predictions in the registry as they arrive, so a
worker that dies loses at most one batch and the requests in flight, and the next worker predicts
only the images that are not recorded yet.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random, SystemRandom

import numpy as np
from numpy.typing import NDArray

from cxreval.client import (
    Evaluation,
    Failure,
    Fault,
    InferenceClient,
    Kind,
    Lease,
    Predictions,
    Purpose,
    ScoringClient,
    ScriptRecord,
    WorkerClient,
)
from cxreval.datasets.benchmark import BenchmarkSpec, image_list
from cxreval.datasets.benchmark_file import load_spec
from cxreval.datasets.image_names import images_root
from cxreval.errors import (
    BenchmarkDigestMismatch,
    CxrevalError,
    DatasetInvalid,
    LeaseLost,
    SubmissionFault,
    WorkerError,
)
from cxreval.evaluation.confirmation import confirm
from cxreval.evaluation.conversion import COMPARED_IMAGES, Converter, convert
from cxreval.evaluation.endpoints import EndpointSource
from cxreval.evaluation.provenance import Timing, provenance
from cxreval.evaluation.repeats import check_repeats
from cxreval.evaluation.resume import RETRY_SECONDS, LeaseKeeper, retry_policy
from cxreval.evaluation.scripts import ScriptRunFailed, ScriptRunner, ScriptSource
from cxreval.evaluation.sources import Checkpoint, Rows, Source, Table
from cxreval.files import DISK_FULL, no_space_left
from cxreval.manifest.model import CONVERTED
from cxreval.metrics.predictions import PredictionTable, image_rows
from cxreval.metrics.report import Report
from cxreval.wire import request_id
from cxreval.wire.limits import MAX_FAILURE_CHARACTERS

_log = logging.getLogger(__name__)

RECORD_IMAGES = 64
"""Maximum number of predicted images in one record."""

RECORD_SECONDS = 10.0
"""Maximum age of a prediction before it is recorded; an endpoint may be slow."""

STALL_SECONDS = 300.0
"""Longest time without progress, beyond the retry deadline, before the lease is not renewed."""

SCORE_IMAGES = 1024
"""Number of images in one message to the scoring service."""

PLATFORM_FAILED = "the platform failed, not the submission; the worker's log has the cause"
"""The message that a submitter reads when the platform is at fault."""

Progress = Callable[[Lease, int, int], None]
"""Called with the lease, the number of images done, and their total."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a worker can do beside running ONNX files.

    `converter`: converts PyTorch files to ONNX. `runner`: runs submitters' scripts in isolation.
    """

    converter: Converter | None = None
    runner: ScriptRunner | None = None


ONNX_ONLY = Abilities()


class EvaluationDriver:
    """Runs evaluations.

    Args:
        registry, inference, scoring: clients of the services.
        data: the directory of each benchmark's data set: its list and images, without labels. On
            one without images, only tables of predictions are evaluated.
        worker: name of this worker.
        retry_seconds: how long a service may be unavailable before the evaluation is given back to
            the queue.
        allow_private_endpoints: whether endpoints may be in this worker's own network.
        abilities: what this worker can do beside running ONNX files.
    """

    def __init__(
        self,
        registry: WorkerClient,
        inference: InferenceClient,
        scoring: ScoringClient,
        data: Mapping[str, Path],
        worker: str,
        retry_seconds: float = RETRY_SECONDS,
        allow_private_endpoints: bool = False,
        abilities: Abilities = ONNX_ONLY,
    ) -> None:
        self._registry = registry
        self._inference = inference
        self._scoring = scoring
        self._data = data
        self._worker = worker
        self._retry_seconds = retry_seconds
        self._allow_private_endpoints = allow_private_endpoints
        self._converter, self._runner = abilities.converter, abilities.runner
        self._without_images = without_images(data)

    def run_next(self, progress: Progress) -> Evaluation | None:
        """Runs the next evaluation to its end and returns it; None if the queue is empty.

        A failed evaluation is recorded with its reason and returned as well. An evaluation whose
        lease another worker has taken is returned as the registry has it.

        Raises:
            DatasetInvalid: this worker's data set is damaged; the evaluation is queued again for
                another worker.
            CxrevalError: the registry cannot be asked for work.
        """
        lease = self._registry.lease_evaluation(
            self._worker,
            [name for name in self._data if name not in self._without_images],
            converts=self._converter is not None,
            reproduces=self._runner is not None,
            without_images=self._without_images,
        )
        if lease is None:
            return None
        token = request_id.current.set(lease.evaluation.rpartition("/")[2])
        try:
            policy, stall = retry_policy(self._retry_seconds), self._retry_seconds + STALL_SECONDS
            with LeaseKeeper(self._registry, lease, policy, stall) as keeper:
                return self._settle(lease, keeper, progress)
        finally:
            request_id.current.reset(token)

    def _settle(self, lease: Lease, keeper: LeaseKeeper, progress: Progress) -> Evaluation:
        try:
            return self._evaluate(lease, keeper, progress)
        except LeaseLost:
            return self._lease_lost(lease)
        except ScriptRunFailed as failed:
            return self._fail(lease, failed.error, keeper, failed.record)
        except DatasetInvalid as error:
            self._fail(lease, error, keeper)
            raise  # every other evaluation would fail here too
        except CxrevalError as error:
            return self._fail(lease, error, keeper)
        except Exception as error:  # noqa: BLE001 -- one bad file must not stop the worker
            _log.exception("%s failed with an unexpected exception", lease.evaluation)
            if isinstance(error, OSError) and error.errno in DISK_FULL:
                return self._fail(lease, no_space_left("the worker's files"), keeper)
            unexpected = WorkerError("the worker hit an unexpected exception; see its log")
            return self._fail(lease, unexpected, keeper)

    def _fail(
        self,
        lease: Lease,
        error: CxrevalError,
        keeper: LeaseKeeper,
        record: ScriptRecord | None = None,
    ) -> Evaluation:
        if isinstance(error, SubmissionFault):
            failure = Failure(
                error.reason, error.message[:MAX_FAILURE_CHARACTERS], Fault.SUBMISSION
            )
        else:
            # The message may name addresses and paths of this installation: for operators only.
            _log.warning("%s failed: %s: %s", lease.evaluation, error.reason, error)
            failure = Failure(error.reason, PLATFORM_FAILED, Fault.SYSTEM)
        try:
            return keeper.call(lambda: self._registry.fail_evaluation(lease, failure, record))
        except LeaseLost:
            return self._lease_lost(lease)

    def _lease_lost(self, lease: Lease) -> Evaluation:
        _log.warning("another worker has taken the lease of %s", lease.evaluation)
        return self._registry.get_evaluation(lease.evaluation)

    def _evaluate(self, lease: Lease, keeper: LeaseKeeper, progress: Progress) -> Evaluation:
        timing, benchmark = Timing(), lease.benchmark
        # First, because without labels the predictions could not be scored.
        keeper.call(lambda: self._scoring.check_truth(benchmark))
        every = image_list(benchmark, self._data[benchmark.name])
        keeper.call(lambda: self._registry.record_image_list(benchmark.name, every))
        images = list(lease.images) or every
        source = keeper.call(lambda: self._source(lease, images, keeper, progress))
        confirmed = confirm(self._registry, lease, source, images, keeper)
        order = None
        if lease.purpose is Purpose.REPLAY:
            # In processes that have predicted nothing yet, and in an order of its own.
            keeper.call(source.renew)
            order = SystemRandom().getrandbits(63)
        table = keeper.call(
            lambda: self._predict(lease, source, images, order, keeper, progress, timing)
        )
        ran = dict(confirmed)
        if lease.purpose is Purpose.MEASURE:
            ran |= check_repeats(source, benchmark, images, table, keeper)
        if order is not None:
            ran["order_seed"] = str(order)
        report = self._score(benchmark, images, table, keeper, timing) if images == every else None
        ran |= keeper.call(source.provenance)
        evidence = provenance(lease, ran, timing)
        record = source.record if isinstance(source, ScriptSource) else None
        return keeper.call(
            lambda: self._registry.complete_evaluation(lease, report, evidence, record)
        )

    def _score(
        self,
        benchmark: BenchmarkSpec,
        images: list[str],
        table: PredictionTable,
        keeper: LeaseKeeper,
        timing: Timing,
    ) -> Report:
        """Returns the report of the predictions of all images."""
        batches = _batches(images, table)

        def score() -> Report:
            with timing.scoring():
                return self._scoring.score(benchmark, batches, findings=table.findings)

        report = keeper.call(score)
        _check_report(report, benchmark, table)
        return report

    def _source(
        self, lease: Lease, images: list[str], keeper: LeaseKeeper, progress: Progress
    ) -> Source:
        manifest = lease.submission.manifest
        directory = images_root(self._data[lease.benchmark.name])
        if lease.purpose is Purpose.REPRODUCE or manifest.kind is Kind.SCRIPT:

            def running(rows: int) -> None:
                keeper.check()
                keeper.progressed()
                progress(lease, rows, len(images))

            files = {image: directory / image for image in images}
            return ScriptSource(self._registry, lease, files, self._runner, running)
        if manifest.kind is Kind.PREDICTIONS:
            return Table(self._registry, lease, images)
        if manifest.kind is Kind.ENDPOINT:
            return EndpointSource(lease, directory, allow_private=self._allow_private_endpoints)
        if manifest.format in CONVERTED:
            compared = [directory / image for image in images[:COMPARED_IMAGES]]
            converted = convert(self._registry, lease, self._converter, compared)
            return Checkpoint(
                self._inference,
                lease,
                directory,
                converted.sha256,
                converted.outputs,
                converted.evidence,
                converted.interface,
            )
        return Checkpoint(
            self._inference, lease, directory, manifest.artifact_sha256, manifest.output_names
        )

    def _predict(
        self,
        lease: Lease,
        source: Source,
        images: list[str],
        order: int | None,
        keeper: LeaseKeeper,
        progress: Progress,
        timing: Timing,
    ) -> PredictionTable:
        """Predicts the images that are not recorded yet; returns the table of all of them.

        It starts from the recorded predictions each time, so it can be retried. `order`: seed of
        the order in which they are predicted; None for that of `images`.
        """
        table = PredictionTable(image_rows(images), lease.benchmark.findings, source.findings)
        for recorded in self._registry.read_predictions(lease):
            table.add(recorded.images, recorded.probabilities)
        missing = table.missing()
        if order is not None:
            Random(order).shuffle(missing)
        done = len(images) - len(missing)
        progress(lease, done, len(images))
        if not missing:
            return table
        since = time.monotonic()
        for batch in _recorded_together(source.rows(missing)):
            names = tuple(name for name, _ in batch)
            probabilities = np.stack([row for _, row in batch])
            table.add(names, probabilities)  # names the image of a value that is no probability
            self._registry.append_predictions(lease, Predictions(names, probabilities))
            keeper.progressed()
            done += len(batch)
            timing.predicted += len(batch)
            now = time.monotonic()
            timing.predicting_seconds += now - since
            since = now
            progress(lease, done, len(images))
        return table


def local_benchmarks(data: Mapping[str, Path]) -> dict[str, BenchmarkSpec]:
    """Returns the specification of each data set of a worker.

    A data set without any image file is valid: a worker takes tables of predictions for it.

    Raises:
        DatasetInvalid: a list has another digest than its specification, or some images are
            missing and others are not.
    """
    specs = {name: load_spec(name, directory) for name, directory in data.items()}
    for name, spec in specs.items():
        images, directory = image_list(spec, data[name]), images_root(data[name])
        missing = [image for image in images if not (directory / image).is_file()]
        if 0 < len(missing) < len(images):
            message = (
                f"{directory} lacks {len(missing)} of {len(images)} images, first {missing[0]}; "
                "copy them there, or remove all images to take tables of predictions only"
            )
            raise DatasetInvalid(message, file=directory, count=len(missing), image=missing[0])
    return specs


def without_images(data: Mapping[str, Path]) -> list[str]:
    """Returns the benchmarks whose data sets have no images, as `local_benchmarks` allows.

    Raises:
        DatasetInvalid: a list has another digest than its specification.
    """
    return [
        name
        for name, directory in data.items()
        if not any(
            (images_root(directory) / image).is_file()
            for image in image_list(load_spec(name, directory), directory)
        )
    ]


def _recorded_together(rows: Rows) -> Iterator[list[tuple[str, NDArray[np.float32]]]]:
    """Yields rows in batches of RECORD_IMAGES, or fewer when RECORD_SECONDS have passed."""
    batch, since = [], time.monotonic()
    for row in rows:
        batch.append(row)
        if len(batch) >= RECORD_IMAGES or time.monotonic() - since >= RECORD_SECONDS:
            yield batch
            batch, since = [], time.monotonic()
    if batch:
        yield batch


def _batches(images: Sequence[str], table: PredictionTable) -> list[Predictions]:
    """Returns the whole table in batches; the arrays are views of it."""
    parts = [slice(start, start + SCORE_IMAGES) for start in range(0, len(images), SCORE_IMAGES)]
    return [Predictions(tuple(images[rows]), table.probabilities[rows]) for rows in parts]


def _check_report(report: Report, benchmark: BenchmarkSpec, table: PredictionTable) -> None:
    """Raises `BenchmarkDigestMismatch` unless the report is about these predictions."""
    if (report.benchmark_digest, report.predictions_sha256) != (benchmark.digest, table.sha256()):
        reported = f"{report.benchmark_digest}, predictions {report.predictions_sha256}"
        expected = f"{benchmark.digest}, predictions {table.sha256()}"
        message = f"scoring reported on benchmark {reported}; expected {expected}"
        raise BenchmarkDigestMismatch(
            message, field="benchmark_digest", found=reported, expected=expected
        )
