"""`cxreval dataset`: generate, describe, verify and register data sets."""

from __future__ import annotations

import csv
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.text import Text

from cxreval.cli import dataset_output, options, output
from cxreval.datasets import phantom
from cxreval.datasets.benchmark import BenchmarkSpec, image_list
from cxreval.datasets.benchmark_file import load_spec
from cxreval.datasets.description import Choices, write
from cxreval.datasets.description import describe as describe_dataset
from cxreval.datasets.label_rules import LabelPolicy
from cxreval.datasets.labels import load_cohort
from cxreval.datasets.verify import ReadImage
from cxreval.datasets.verify import verify as verify_dataset
from cxreval.errors import CxrevalError
from cxreval.fields import field_error
from cxreval.metrics.scorers import LATEST_SCORER, SCORERS

_RANKABLE = [metric.name for metric in SCORERS[LATEST_SCORER].metrics.values() if metric.rankable]
_ROLES = {"filename": "image", "sex": "sex", "age": "age", "view": "view"}

app = typer.Typer(no_args_is_help=True, help="Generate, describe, verify and register data sets.")

Directory = Annotated[
    Path, typer.Argument(help="directory of the data set", exists=True, file_okay=False)
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
    """Verify a data set's counts, lists and digests, its labels as scoring reads them, its images.

    Decodes each image if the extra `images` is installed. Names what is missing, differs or cannot
    be scored, and then exits with status 1.
    """
    spec = load_spec(benchmark, directory)
    with output.progress_bars() as bars:
        task = bars.add_task("images", total=spec.image_count)
        checks = verify_dataset(
            spec,
            directory,
            lambda done, total: bars.update(task, completed=done, total=total),
            _read_image if find_spec("imagecodecs") and find_spec("pydicom") else None,
        )
    if json:
        output.print_json({"benchmark": spec.name, "digest": spec.digest, "checks": checks})
    else:
        dataset_output.print_checks(checks)
    if any(check.problems for check in checks):
        raise typer.Exit(1)


def _read_image(file: Path) -> ReadImage:
    """Returns what decoding an image as inference does finds."""
    from cxreval.imaging.decode import MAX_IMAGE_BYTES, decode  # noqa: PLC0415 -- needs the extra

    try:
        with file.open("rb") as stream:
            pixels = decode(stream.read(MAX_IMAGE_BYTES + 1))
    except OSError as error:
        return ReadImage(f"cannot be read: {error.strerror}")
    except MemoryError:
        return ReadImage("memory does not suffice to decode it")
    except CxrevalError as error:
        return ReadImage(error.message)
    return ReadImage(one_gray=bool((pixels == pixels[:1, :1]).all()))


@app.command("describe")
def describe(
    directory: Directory,
    name: Annotated[
        str,
        typer.Option(
            help="identifier of the new benchmark: lower-case letters, digits, hyphens;"
            " default: the directory's name"
        ),
    ] = "",
    title: Annotated[str, typer.Option(help="title on the board; default: the name")] = "",
    labels: Annotated[
        str, typer.Option(help="label table in the directory; default: its only CSV file")
    ] = "",
    findings: Annotated[
        str, typer.Option(help="findings in the report's order, comma-separated, as in the table")
    ] = "",
    images: Annotated[
        list[str],
        typer.Option(
            help="pattern of the image files, such as 'valid/**/*.jpg'; may be repeated;"
            " default: all PNG, JPEG and DICOM files below images/, or below the directory"
        ),
    ] = [],  # noqa: B006 -- typer copies it
    list_file: Annotated[
        str, typer.Option("--list", help="file in the directory that lists the images instead")
    ] = "",
    subset: Annotated[
        bool, typer.Option("--subset", help="leave out images without a row, and the reverse")
    ] = False,
    column: Annotated[
        list[str],
        typer.Option(help=f"ROLE=COLUMN of the table, for {', '.join(_ROLES)}; may be repeated"),
    ] = [],  # noqa: B006
    patient: Annotated[str | None, typer.Option(help="column that identifies the patient")] = None,
    patient_part: Annotated[
        int | None,
        typer.Option(help="which part of that column between slashes does, counted from 1"),
    ] = None,
    labels_column: Annotated[
        str | None, typer.Option(help="column of findings' names, if they have no columns")
    ] = None,
    separator: Annotated[
        str | None, typer.Option(help="between two names of a cell; '' if each has its own row")
    ] = None,
    positive: Annotated[str | None, typer.Option(help="values for present: 1,Y")] = None,
    negative: Annotated[str | None, typer.Option(help="values for absent: 0,N")] = None,
    uncertain_values: Annotated[
        str | None, typer.Option(help="values for uncertain; default: -1")
    ] = None,
    uncertain: Annotated[
        LabelPolicy | None, typer.Option(help="how uncertain labels are read; default: refuse")
    ] = None,
    blank: Annotated[
        LabelPolicy | None, typer.Option(help="how blank cells are read; default: refuse")
    ] = None,
    reader: Annotated[str | None, typer.Option(help="column of the reader of a row")] = None,
    readers: Annotated[
        str | None,
        typer.Option(help="whose labels count: a reader's name, or majority; default: majority"),
    ] = None,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="the images are not radiographs of patients")
    ] = False,
    ranking_metric: Annotated[
        list[str],
        typer.Option(
            help=f"metric that the board ranks by: {', '.join(_RANKABLE)}; repeated: further"
            " metrics that each report records so that it can be ranked by them"
        ),
    ] = ["auroc"],  # noqa: B006
    json: options.Json = False,
) -> None:
    """Describe images and a label table as a benchmark; writes benchmark.toml.

    What no option says is taken from the table, if only one reading of it fits, and printed.
    """
    for metric in ranking_metric:
        if metric not in _RANKABLE:
            raise field_error("ranking_metric", metric, f"one of {', '.join(_RANKABLE)}")
    rules = {
        "patient": patient,
        "patient_part": patient_part,
        "names": labels_column,
        "separator": separator,
        "positive": _values(positive),
        "negative": _values(negative),
        "uncertain_values": _values(uncertain_values),
        "uncertain": uncertain,
        "blank": blank,
        "reader": reader,
        "readers": readers,
        **_columns(column),
    }
    described = describe_dataset(
        directory,
        Choices(
            name=name,
            title=title,
            synthetic=synthetic,
            labels=labels,
            list_file=list_file,
            patterns=tuple(images),
            subset=subset,
            findings=_values(findings) or (),
            metrics=tuple(dict.fromkeys(ranking_metric)),
            rules={field: value for field, value in rules.items() if value is not None},
        ),
    )
    files = write(described, directory)
    if not json:
        dataset_output.print_description(described)
    _show(described.spec, f"wrote {' and '.join(map(str, files))}", json)


def _values(text: str | None) -> tuple[str, ...] | None:
    """Returns the values of a comma-separated option, in which quotes may enclose commas."""
    if text is None:
        return None
    values = next(csv.reader([text], skipinitialspace=True), [])
    return tuple(value.strip() for value in values)


def _columns(given: list[str]) -> dict[str, Any]:
    """Returns the columns of `ROLE=COLUMN` by field of the rules. Raises `MalformedField`."""
    columns = {}
    for item in given:
        role, equals, column = item.partition("=")
        if not equals or role not in _ROLES:
            raise field_error("column", item, f"ROLE=COLUMN, with ROLE one of {', '.join(_ROLES)}")
        columns[_ROLES[role]] = column
    return columns


@app.command("register")
def register(
    context: typer.Context,
    directory: Directory,
    benchmark: options.SpecName = "",
    registry: options.Registry = options.REGISTRY,
    json: options.Json = False,
) -> None:
    """Create the data set's benchmark with its image list in the registry.

    If the label table is there, its labels are checked first, as scoring checks them. Repeating the
    command changes nothing.
    """
    spec = load_spec(benchmark, directory)
    images = image_list(spec, directory)
    if (directory / spec.labels_file).exists():
        load_cohort(spec, directory, images)
    with options.registry_client(context, registry) as client:
        created = client.create_benchmark(spec)
        client.record_image_list(created.name, images)
        retirement = client.retirement(created.name)
    _show(created, f"benchmarks/{created.name}", json)
    if retirement and not json:
        output.console.print(Text(output.retired(retirement)))


def _show(spec: BenchmarkSpec, done: str, json: bool) -> None:
    if json:
        output.print_json({"benchmark": spec, "digest": spec.digest})
    else:
        output.console.print(f"{done}, digest {spec.digest}", soft_wrap=True)
