"""Confirms the predictions that earlier attempts recorded, before an evaluation resumes from them.

A worker that recorded wrong predictions and then lost its lease would otherwise have them in the
next worker's report. A random sample of each earlier attempt is asked again from the source; if one
prediction differs, all of that attempt are dropped and computed again.

With k of an attempt's n predictions wrong, the sample of s misses all of them with probability
C(n - k, s) / C(n, s), at most (1 - k / n) ** s: 53 % for 1 % of wrong ones, 3.8 % for 5 %, 0.12 %
for 10 %. It costs s images for each earlier attempt: with the repeat sample of 256, one earlier
attempt costs 320 of 25,596 images, 1.25 %.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from random import SystemRandom

import numpy as np
from numpy.typing import NDArray

from cxreval.client import Lease, WorkerClient
from cxreval.evaluation.resume import LeaseKeeper
from cxreval.evaluation.sources import Source, Table

_log = logging.getLogger(__name__)

SAMPLED_IMAGES = 64
"""Number of images of each earlier attempt that are asked again; of a table, all are."""

_random = SystemRandom()  # a worker must not be able to predict which of its rows are asked again

_Recorded = Mapping[str, NDArray[np.float32]]


def confirm(
    registry: WorkerClient,
    lease: Lease,
    source: Source,
    images: Sequence[str],
    keeper: LeaseKeeper,
) -> dict[str, str]:
    """Confirms or drops the predictions of each earlier attempt; returns the provenance of that.

    `keeper` retries transient errors; images that were answered before are not sent again.
    """
    known, recorded = set(images), keeper.call(lambda: _by_attempt(registry, lease))
    samples = {attempt: _sample(rows, source) for attempt, rows in recorded.items()}
    # An earlier version may have recorded images that the benchmark does not have.
    asked = [image for sample in samples.values() for image in sample if image in known]
    _random.shuffle(asked)
    answers = _answers(source, asked, keeper)
    kept, tolerance = 0, keeper.call(source.repeat_tolerance) or 0.0
    for attempt, rows in recorded.items():
        wrong = [one for one in samples[attempt] if not _agrees(one, rows, answers, tolerance)]
        if wrong or not rows.keys() <= known:
            dropped = keeper.call(partial(registry.drop_predictions, lease, attempt))
            _log.warning(
                "%s: dropped %d predictions of attempt %d; %d of %d asked again differ",
                lease.evaluation, dropped, attempt, len(wrong), len(samples[attempt]),
            )  # fmt: skip
        else:
            keeper.call(partial(registry.confirm_predictions, lease, attempt))
            kept += len(rows)
    return {
        "confirmed_sample_images": str(len(asked)),
        "dropped_images": str(lease.images_done - kept),
        "resumed_images": str(kept),
    }


def _answers(source: Source, images: Sequence[str], keeper: LeaseKeeper) -> _Recorded:
    """Returns the source's predictions of the images."""
    answers: dict[str, NDArray[np.float32]] = {}

    def ask() -> None:
        missing = [image for image in images if image not in answers]
        for image, row in source.rows(missing) if missing else ():
            answers[image] = row
            keeper.check()
            keeper.progressed()

    keeper.call(ask)
    return answers


def _by_attempt(registry: WorkerClient, lease: Lease) -> dict[int, dict[str, NDArray[np.float32]]]:
    """Returns the recorded predictions of each earlier attempt."""
    recorded: dict[int, dict[str, NDArray[np.float32]]] = {}
    for batch in registry.read_predictions(lease):
        rows = zip(batch.images, batch.probabilities, batch.attempts, strict=True)
        for image, row, attempt in rows:
            if attempt != lease.attempt:
                recorded.setdefault(attempt, {})[image] = row
    return recorded


def _sample(rows: _Recorded, source: Source) -> list[str]:
    """Returns the images of an attempt to ask again, in random order."""
    size = len(rows) if isinstance(source, Table) else min(len(rows), SAMPLED_IMAGES)
    return _random.sample(list(rows), size)


def _agrees(image: str, rows: _Recorded, answers: _Recorded, tolerance: float) -> bool:
    """Returns whether the source gave the recorded prediction again."""
    answer = answers.get(image)
    if answer is None or answer.shape != rows[image].shape:
        return False
    return bool((np.abs(answer - rows[image]) <= tolerance).all())
