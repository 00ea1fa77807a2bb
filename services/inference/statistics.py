"""Statistics of a model since it was loaded, as the protocol's extension defines them."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field

_SMOOTHING = 0.2


@dataclass(slots=True)
class Duration:
    """A number of events and their total duration in nanoseconds."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        """Counts one event."""
        self.count += 1
        self.ns += ns


@dataclass(slots=True)
class Statistics:
    """Requests and runs of the model.

    `failure` counts requests that failed or were cancelled, `success` all others. The steps of the
    latter are `input` (decoding and preprocessing), `queue`, `run` (each run with images of the
    request) and `output`. `last_run_ms` is in milliseconds since 1970. `image_seconds` is the run
    time per image, smoothed over the last runs; 0 before the first.
    """

    success: Duration = field(default_factory=Duration)
    failure: Duration = field(default_factory=Duration)
    input: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    run: Duration = field(default_factory=Duration)
    output: Duration = field(default_factory=Duration)
    batches: defaultdict[int, Duration] = field(default_factory=lambda: defaultdict(Duration))
    images: int = 0
    last_run_ms: int = 0
    image_seconds: float = 0.0

    def count_run(self, images: int, ns: int) -> None:
        """Counts one run of the model on a batch."""
        self.images += images
        self.batches[images].add(ns)
        self.last_run_ms = time.time_ns() // 1_000_000
        seconds = ns / 1e9 / images
        self.image_seconds += (seconds - self.image_seconds) * (
            _SMOOTHING if self.image_seconds else 1
        )
