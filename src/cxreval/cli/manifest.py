"""`cxreval submission init | check | schema`: manifests before submission, without a server."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cxreval.cli import options, output
from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.datasets.benchmark_file import load_spec, read_spec
from cxreval.errors import CxrevalError, MalformedField
from cxreval.extras import require_extra
from cxreval.manifest.document import Document, read_document
from cxreval.manifest.model import CheckpointFormat, Kind, Manifest
from cxreval.manifest.schema import schema_text
from cxreval.manifest.template import examples_left, marked_examples, template

if TYPE_CHECKING:  # slow to import
    from cxreval.cli.artifact import Examined

EXAMPLE_FILES = ("reproduce.py", "requirements.lock", "README.md")
"""The example that `init --kind script` writes: package data in `reproduction/example`."""

_MOST_COLUMNS = 1000  # of a model's output; more are no findings

Benchmark = Annotated[
    str,
    typer.Option(
        "--benchmark",
        help="name of a packaged benchmark, or a benchmark.toml; default: the only packaged one",
    ),
]


def init(
    file: Annotated[
        Path,
        typer.Argument(
            help="YAML file to write; an existing file is not overwritten", dir_okay=False
        ),
    ],
    kind: Annotated[Kind, typer.Option(help="kind of the submission")] = Kind.CHECKPOINT,
    benchmark: Benchmark = "",
    origin: Annotated[
        Path | None,
        typer.Option(
            "--from", help="checkpoint whose format, input and outputs to fill in", exists=True
        ),
    ] = None,
    from_timm: Annotated[
        str, typer.Option(metavar="NAME", help="model of timm whose preprocessing to fill in")
    ] = "",
    from_preprocessor: Annotated[
        Path | None,
        typer.Option(
            help="preprocessor_config.json of Hugging Face whose preprocessing to fill in",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
) -> None:
    """Write a manifest template with an explanation of every field.

    What a file cannot say is marked as an example, which `submission check` reports. For a script,
    an example script, its lock and a README are written beside the manifest.
    """
    spec = _spec(benchmark)
    given, unsure = _origins(kind, spec, origin, from_timm, from_preprocessor)
    _write_new(file, template(kind, spec, given, unsure))
    if kind is Kind.SCRIPT:
        example = resources.files("cxreval") / "reproduction" / "example"
        for name in EXAMPLE_FILES:
            beside = file.parent / name
            if beside.exists():
                output.console.print(f"kept {beside}, which exists", soft_wrap=True)
            else:
                _write_new(beside, (example / name).read_text("utf-8"))


def _write_new(file: Path, text: str) -> None:
    """Writes a file and prints its name. Raises `MalformedField` if it exists."""
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        expected = "a new file in an existing directory"
        message = f"cannot write {file}: {error.strerror}; expected {expected}"
        raise MalformedField(message, field="file", expected=expected) from None
    output.console.print(f"wrote {file}", soft_wrap=True)


def _origins(
    kind: Kind, spec: BenchmarkSpec, origin: Path | None, timm_name: str, processor: Path | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the fields that are known, and a sentence on each that is only an example."""
    if not (origin or timm_name or processor):
        return {}, {}
    from cxreval.cli import origins  # noqa: PLC0415 -- slow to import

    if kind is not Kind.CHECKPOINT or (timm_name and processor):
        expected = "--kind checkpoint, and one of --from-timm and --from-preprocessor"
        raise MalformedField(
            f"options contradict; expected {expected}", field="from", expected=expected
        )
    given, unsure = origins.from_file(origin) if origin else {}, {}
    columns = given.pop("columns", 0)
    if "preprocessing" in given and not given["preprocessing"].preset:
        unsure["preprocessing"] = (
            "resize, mean and std are not in the file; set those of your training, then remove "
            "this comment."
        )
    if 0 < columns <= _MOST_COLUMNS:
        given["output_names"] = (*spec.findings[:columns], *[""] * (columns - len(spec.findings)))
        unsure["output_names"] = (
            "the file does not say which column is which finding; set your order, then remove "
            "this comment."
        )
    if timm_name or processor:
        steps = origins.from_processor(processor) if processor else origins.from_timm(timm_name)
        stated = given.get("preprocessing", steps)
        given["preprocessing"] = replace(
            steps, layout=stated.layout, dtype=stated.dtype, tensor=stated.tensor
        )
        unsure.pop("preprocessing", None)
    if given.get("format") is CheckpointFormat.PYTORCH_STATE_DICT:
        known = f"timm/{timm_name}" if timm_name else given.get("architecture", "")
        given["architecture"] = known or "densenet121"
        if not known:
            unsure["architecture"] = "set the network of your weights, then remove this comment."
    return given, unsure


def check(
    manifest: Annotated[Path, typer.Argument(help="manifest, a YAML file")],
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="the checkpoint, its files, or the table of predictions",
            exists=True,
        ),
    ] = None,
    benchmark: Benchmark = "",
    image: Annotated[
        list[Path] | None,
        typer.Option(
            help="radiograph to run the model on; repeatable. Default: phantoms",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    preview: Annotated[
        Path | None,
        typer.Option(help="PNG file to write: what the model sees of the first image"),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(help="source bundle of the script", exists=True, dir_okay=False),
    ] = None,
    json: options.Json = False,
) -> None:
    """Check a manifest and the files that it declares, without a server.

    Says what an image goes through, and runs an ONNX or PyTorch model on two images. Of a script,
    the commit, the entry point and the lock in the source bundle are checked. The exit status is 1
    if there is a mistake.
    """
    spec = _spec(benchmark)
    document = read_document(manifest, datetime.now(UTC).date(), spec)
    problems = [_problem(document, error) for error in document.problems]
    examined = _examined(files or [], bundle, document.manifest, spec, image or [])
    problems += map(_file_problem, examined.problems)
    if not document.problems:
        examined.facts |= _preprocessed(document.manifest, image or [], preview)
    left = examples_left(document.manifest) + marked_examples(manifest.read_text("utf-8"))
    if json:
        output.print_json(
            {
                "manifest": document.manifest,
                "artifact": examined.facts,
                "problems": problems,
                "notes": examined.notes,
                "examples_left": left,
            }
        )
    else:
        _print(manifest, examined, problems, left)
    if problems:
        raise typer.Exit(1)


def _examined(
    files: list[Path],
    bundle: Path | None,
    manifest: Manifest,
    spec: BenchmarkSpec,
    images: list[Path],
) -> Examined:
    from cxreval.cli import artifact  # noqa: PLC0415 -- slow to import

    examined = artifact.Examined()
    try:
        if files:
            complete = artifact.completed(files, manifest)
            examined = artifact.examine(complete, manifest, spec, images)
    except CxrevalError as error:
        examined.problems.append(error)
    if bundle:
        artifact.examine_source(bundle, manifest, examined)
    return examined


def _preprocessed(manifest: Manifest, images: list[Path], preview: Path | None) -> dict[str, str]:
    """Returns what an image goes through, and writes the preview.

    Raises:
        MalformedField: there is no preprocessing to preview, or the file cannot be written.
        ExtraMissing: the codecs of images are not installed.
    """
    from cxreval.cli.trial import pictures  # noqa: PLC0415 -- slow to import
    from cxreval.imaging.preprocess import profile_of  # noqa: PLC0415

    steps = manifest.declared_preprocessing
    if steps is None:
        if preview:
            expected = "a manifest with preprocessing"
            message = f"there is nothing to preview; expected {expected}"
            raise MalformedField(message, field="preview", expected=expected)
        return {}
    facts = {"preprocessing": profile_of(steps).description}
    if preview:
        require_extra("images", "writing a preview", "imagecodecs")
        from cxreval.imaging.preview import preview_png  # noqa: PLC0415 -- needs the extra

        shown = pictures(images)[0]
        try:
            preview.write_bytes(preview_png(shown.pixels, steps))
        except OSError as error:
            expected = "a file in an existing directory"
            message = f"cannot write {preview}: {error.strerror}; expected {expected}"
            raise MalformedField(message, field="preview", expected=expected) from None
        facts["preview"] = f"{preview} shows {shown.name} as the model sees it"
    return facts


def schema() -> None:
    """Print the JSON Schema of a manifest, for editors and other programs."""
    typer.echo(schema_text(), nl=False)


def _spec(benchmark: str) -> BenchmarkSpec:
    """The specification in a file, else the packaged one of that name. Raises `DatasetInvalid`."""
    file = Path(benchmark)
    return read_spec(file) if file.suffix.lower() == ".toml" else load_spec(benchmark)


def _problem(document: Document, error: CxrevalError) -> dict[str, Any]:
    field = error.metadata["field"]
    return {
        "field": field,
        "line": document.line(field),
        "reason": error.reason,
        "message": error.message,
    }


def _file_problem(error: CxrevalError) -> dict[str, Any]:
    return {
        "field": error.metadata.get("field", ""),
        "line": None,
        "reason": error.reason,
        "message": error.message,
    }


def _print(
    manifest: Path, examined: Examined, problems: list[dict[str, Any]], left: list[str]
) -> None:
    for problem in problems:
        location = f"{manifest}:{problem['line']}: " if problem["line"] else ""
        _print_line(f"{location}{problem['reason']}: {problem['message']}")
    for name, fact in examined.facts.items():
        _print_line(f"{name}: {fact}")
    for note in examined.notes:
        _print_line(f"note: {note}")
    if left:
        _print_line(f"still the template's example values: {', '.join(left)}")
    count = len(problems)
    _print_line(f"{count} mistake{'s' * (count != 1)}" if count else "no mistake found")


def _print_line(text: str) -> None:
    """Prints a text; a terminal gets it broken between words, a program in one line."""
    output.console.print(text, soft_wrap=not output.console.is_terminal)
