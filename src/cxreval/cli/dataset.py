"""`cxreval dataset`: generate, describe, verify and register data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cxreval.cli import options, output
from cxreval.datasets import phantom
from cxreval.datasets.benchmark import (
    DEFAULT_REPLICATES,
    SLICES,
    SPEC_FILE,
    BenchmarkSpec,
    image_list,
    list_sha256,
    load_spec,
    parse_spec,
    ranked_by,
    read_list,
    read_spec,
)
from cxreval.datasets.verify import verify as verify_dataset
from cxreval.errors import DatasetInvalid
from cxreval.fields import field_error
from cxreval.files import file_sha256
from cxreval.metrics.scorers import LATEST_SCORER, SCORERS

_RANKABLE = [metric.name for metric in SCORERS[LATEST_SCORER].metrics.values() if metric.rankable]

app = typer.Typer(no_args_is_help=True, help="Generate, describe, verify and register data sets.")

Directory = Annotated[
    Path, typer.Argument(help="data set in NIH's layout", exists=True, file_okay=False)
]


@app.command("phantom")
def draw_phantoms(
    directory: Annotated[Path, typer.Argument(help="directory to write", file_okay=False)],
    patients: Annotated[
        int, typer.Option(help="number of patients; about three images each")
    ] = 1500,
    seed: Annotated[
        int, typer.Option(help="random seed; the same seed gives the same pixels")
    ] = 2017,
    only: Annotated[
        Literal["all", "test", "train_val"], typer.Option(help="split whose images are generated")
    ] = "all",
    json: options.Json = False,
) -> None:
    """Generate the synthetic benchmark: phantoms in NIH's layout, not radiographs of patients."""
    with output.progress_bars() as bars:
        task = bars.add_task("generating phantoms", total=None)
        spec = phantom.generate(
            directory,
            patients=patients,
            seed=seed,
            only=only,
            progress=lambda done, total: bars.update(task, completed=done, total=total),
        )
    _show(spec, f"wrote {directory}: {spec.title}", json)


@app.command("verify")
def verify(
    directory: Directory,
    benchmark: options.SpecName = "",
    json: options.Json = False,
) -> None:
    """Verify a data set's counts, lists and digests.

    Names what is missing or differs, and then exits with status 1.
    """
    spec = load_spec(benchmark, directory)
    with output.progress_bars() as bars:
        task = bars.add_task("images", total=spec.image_count)
        checks = verify_dataset(
            spec, directory, lambda done, total: bars.update(task, completed=done, total=total)
        )
    if json:
        output.print_json({"benchmark": spec.name, "digest": spec.digest, "checks": checks})
    else:
        for check in checks:
            verdict = "FAILED" if check.problems else "ok"
            output.console.print(f"{verdict:6} {check.name:6} {check.summary}")
            for problem in check.problems:
                output.console.print(f"       {problem}", soft_wrap=True)
    if any(check.problems for check in checks):
        raise typer.Exit(1)


@app.command("describe")
def describe(
    directory: Directory,
    name: Annotated[
        str,
        typer.Option(help="identifier of the new benchmark: lower-case letters, digits, hyphens"),
    ],
    title: Annotated[str, typer.Option(help="title on the board")],
    list_file: Annotated[
        str, typer.Option("--list", help="file in the directory that lists the images")
    ],
    labels_file: Annotated[str, typer.Option("--labels", help="label table in the directory")],
    findings: Annotated[
        str, typer.Option(help="findings in the report's order, comma-separated, as in the table")
    ],
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="the images are not radiographs of patients")
    ] = False,
    ranking_metric: Annotated[
        str, typer.Option(help=f"metric that the board ranks by: {', '.join(_RANKABLE)}")
    ] = "auroc",
    json: options.Json = False,
) -> None:
    """Write benchmark.toml: the specification of a benchmark of the images in one list."""
    if ranking_metric not in _RANKABLE:
        raise field_error("ranking_metric", ranking_metric, f"one of {', '.join(_RANKABLE)}")
    images, labels_sha256 = _read_images(directory / list_file), _digest(directory / labels_file)
    spec = BenchmarkSpec(
        name=name,
        title=title,
        synthetic=synthetic,
        list_file=list_file,
        list_sha256=list_sha256(images),
        labels_file=labels_file,
        labels_sha256=labels_sha256,
        image_count=len(images),
        patient_count=len({image.partition("_")[0] for image in images}),
        findings=tuple(finding.strip() for finding in findings.split(",")),
        metrics=ranked_by(ranking_metric),
        ranking_metric=ranking_metric,
        scorer_version=LATEST_SCORER,
        replicates=DEFAULT_REPLICATES,
        slices=SLICES,
    )
    _write(spec, directory / SPEC_FILE)
    _show(spec, f"wrote {directory / SPEC_FILE}", json)


def _read_images(file: Path) -> list[str]:
    """Returns the image names in a list. Raises `DatasetInvalid` if there are none."""
    images = read_list(file)
    if not images:
        raise DatasetInvalid(f"{file} lists no image", file=file)
    return images


def _digest(labels: Path) -> str:
    """Returns the sha256 of a label table. Raises `DatasetInvalid` if it does not exist."""
    if not labels.is_file():
        raise DatasetInvalid(f"the label table {labels} does not exist", file=labels)
    return file_sha256(labels)


def _write(spec: BenchmarkSpec, file: Path) -> None:
    """Writes a specification over an earlier one of the same benchmark.

    Raises:
        DatasetInvalid: the specification is malformed, or the file describes another benchmark.
    """
    parse_spec(spec.to_toml(), "the new specification")
    if file.is_file() and (other := read_spec(file).name) != spec.name:
        message = (
            f"{file} describes {other!r}; put {spec.name!r} into a directory of its own,"
            " with links to the images"
        )
        raise DatasetInvalid(message, file=file, found=other)
    file.write_text(spec.to_toml(), encoding="utf-8")


@app.command("register")
def register(
    context: typer.Context,
    directory: Directory,
    benchmark: options.SpecName = "",
    registry: options.Registry = options.REGISTRY,
    json: options.Json = False,
) -> None:
    """Create the data set's benchmark with its image list in the registry.

    Repeating the command changes nothing.
    """
    spec = load_spec(benchmark, directory)
    images = image_list(spec, directory)
    with options.registry_client(context, registry) as client:
        created = client.create_benchmark(spec)
        client.record_image_list(created.name, images)
    _show(created, f"benchmarks/{created.name}", json)


def _show(spec: BenchmarkSpec, done: str, json: bool) -> None:
    if json:
        output.print_json({"benchmark": spec, "digest": spec.digest})
    else:
        output.console.print(f"{done}, digest {spec.digest}", soft_wrap=True)
