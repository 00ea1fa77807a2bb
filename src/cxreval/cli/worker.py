"""`cxreval worker`: leases queued evaluations and runs them."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.logging import RichHandler
from rich.progress import Progress, TaskID

from cxreval import sandbox
from cxreval.cli import options, output, script_options
from cxreval.cli.export import PACKAGES
from cxreval.client import (
    Evaluation,
    EvaluationStatus,
    InferenceClient,
    Lease,
    Manifest,
    ScoringClient,
    WorkerClient,
)
from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.errors import CxrevalError, DatasetInvalid, ExtraMissing, SandboxUnavailable
from cxreval.evaluation.conversion import Converter
from cxreval.evaluation.resume import RETRY_SECONDS
from cxreval.extras import require_extra
from cxreval.metrics.report import macro
from cxreval.resource_names import EvaluationName

if TYPE_CHECKING:  # needs the extra
    from cxreval.evaluation.driver import EvaluationDriver

_log = logging.getLogger(__name__)
_NO_PYTORCH = "this worker does not take PyTorch files"

Data = Annotated[
    list[str], typer.Option(help="benchmark and the directory of its data set, NAME=DIRECTORY")
]


def worker(
    context: typer.Context,
    data: Data,
    registry: options.Registry = options.REGISTRY,
    inference: options.Inference = options.INFERENCE,
    scoring: options.Scoring = options.SCORING,
    name: Annotated[str, typer.Option(help="name of this worker; default: host-pid")] = "",
    once: Annotated[bool, typer.Option("--once", help="exit when the queue is empty")] = False,
    poll_seconds: Annotated[
        float, typer.Option(help="seconds between polls of an empty queue")
    ] = 2.0,
    patience_seconds: Annotated[
        float, typer.Option(help="seconds for which an unavailable service is retried")
    ] = RETRY_SECONDS,
    allow_private_endpoints: Annotated[
        bool,
        typer.Option(
            "--allow-private-endpoints", help="also call endpoints with private IP addresses"
        ),
    ] = False,
    scripts: script_options.Directory = None,
    script_isolation: script_options.Kind = script_options.IsolationKind.BUBBLEWRAP,
    script_image: script_options.Image = "",
    script_runtime_class: script_options.RuntimeClass = "",
    script_claim: script_options.Claim = "",
    script_index: script_options.Index = "",
    script_python: script_options.Pythons = [],  # noqa: B006 -- typer's form of no value
    script_memory_mib: script_options.Memory = script_options.MEMORY_MIB,
    script_cpu_seconds: script_options.Cpu = script_options.CPU_SECONDS,
    script_wall_seconds: script_options.Wall = script_options.WALL_SECONDS,
    script_scratch_mib: script_options.Scratch = script_options.SCRATCH_MIB,
    script_cache_gib: script_options.Cache = script_options.CACHE_GIB,
    json: options.Json = False,
) -> None:
    """Run queued evaluations, one at a time.

    For a data set without images, only submitted tables of predictions are evaluated.
    """
    require_extra("worker", "cxreval worker", "imagecodecs", "pydicom", "pyarrow")
    from cxreval.evaluation import driver as evaluation_driver  # noqa: PLC0415 -- needs the extra

    logging.basicConfig(
        level=logging.INFO, format="%(message)s", handlers=[RichHandler(console=output.errors)]
    )
    signal.signal(signal.SIGTERM, _stop)
    runner = (
        scripts
        and script_options.ScriptOptions(
            scripts,
            script_isolation,
            script_image,
            script_runtime_class,
            script_claim,
            script_index,
            tuple(script_python),
            script_memory_mib,
            script_cpu_seconds,
            script_wall_seconds,
            script_scratch_mib,
            script_cache_gib,
        ).runner()
    )
    directories = options.directories(data)
    tls, key = context.obj.tls, context.obj.key
    specs = evaluation_driver.local_benchmarks(directories)
    for benchmark in evaluation_driver.without_images(directories):
        _log.info("%s has no images here: only tables of predictions are taken for it", benchmark)
    with (
        options.opened(context, WorkerClient(registry, tls, key), "registry") as registry_client,
        options.opened(context, InferenceClient(inference, tls), "inference") as inference_client,
        options.opened(context, ScoringClient(scoring, tls), "scoring") as scoring_client,
        output.progress_bars() as bars,
    ):
        driver = evaluation_driver.EvaluationDriver(
            registry_client,
            inference_client,
            scoring_client,
            directories,
            name or f"{socket.gethostname()}-{os.getpid()}",
            patience_seconds,
            allow_private_endpoints,
            evaluation_driver.Abilities(_converter(), runner or None),
        )
        for evaluation in _evaluations(driver, bars, once, poll_seconds):
            _print(evaluation, specs, json)


def _evaluations(
    driver: EvaluationDriver, bars: Progress, once: bool, poll_seconds: float
) -> Iterator[Evaluation]:
    """Runs queued evaluations and yields each at its end; `once`: until the queue is empty."""
    while True:
        evaluation = _run_next(driver, bars, once)
        if evaluation:
            yield evaluation
        elif once:
            return
        else:
            time.sleep(poll_seconds)


def _run_next(driver: EvaluationDriver, bars: Progress, once: bool) -> Evaluation | None:
    """Runs the next evaluation and shows its progress; returns None if there is none to run.

    A failure is logged, unless `once`: after the lease expires, a worker resumes the evaluation.

    Raises:
        DatasetInvalid: this worker's data set is not that of the benchmark.
        CxrevalError: with `once`, the evaluation failed to run.
    """
    tasks: dict[str, TaskID] = {}

    def show(lease: Lease, done: int, total: int) -> None:
        if lease.evaluation not in tasks:
            tasks[lease.evaluation] = bars.add_task(lease.submission.manifest.model, total=total)
        bars.update(tasks[lease.evaluation], completed=done)

    try:
        return driver.run_next(show)
    except DatasetInvalid:
        raise
    except CxrevalError as error:
        if once:
            raise
        _log.warning("%s: %s", error.reason, error)
        return None
    finally:
        for task in tasks.values():
            bars.remove_task(task)


def _converter() -> Converter | None:
    """Returns the converter of PyTorch files, or None if this machine cannot run it."""
    try:
        require_extra("export", "converting them", *PACKAGES)
        sandbox.check()
    except (ExtraMissing, SandboxUnavailable) as error:
        _log.info("%s: %s", _NO_PYTORCH, error)
        return None
    return _convert


def _convert(
    manifest: Manifest, weights: Path, path: Path, images: Sequence[Path]
) -> tuple[tuple[str, ...], dict[str, str]]:
    from cxreval.export.conversion import convert_checkpoint  # noqa: PLC0415 -- needs the extra

    return convert_checkpoint(manifest, weights, path, images)


def _print(evaluation: Evaluation, specs: Mapping[str, BenchmarkSpec], json: bool) -> None:
    if json:
        output.print_json(evaluation)
        return
    if evaluation.status is EvaluationStatus.SUCCEEDED and evaluation.report:
        metric = specs[EvaluationName.parse(evaluation.name).benchmark].ranking_metric
        score = macro(evaluation.report.metrics, metric)
        outcome = f"{output.metric_label(metric)} {output.percent(score.value if score else None)}"
    else:
        outcome = (
            f"{evaluation.failure.reason}: {evaluation.failure.message}"
            if evaluation.failure
            else ""
        )
    output.console.print(f"{evaluation.name} {evaluation.status} {outcome}", soft_wrap=True)


def _stop(number: int, _: FrameType | None) -> NoReturn:
    """Handles SIGTERM: exits at once.

    Recorded results are kept, and after the lease expires another worker resumes the evaluation.
    """
    raise SystemExit(128 + number)
