"""`cxreval submission init | check | schema`: manifests before submission, without a server."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from cxreval.cli import options, output
from cxreval.datasets.benchmark import BenchmarkSpec, load_spec, read_spec
from cxreval.errors import CxrevalError, MalformedField
from cxreval.manifest.document import Document, read_document
from cxreval.manifest.model import Kind
from cxreval.manifest.schema import schema_text
from cxreval.manifest.template import examples_left, template

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
) -> None:
    """Write a manifest template with an explanation of every field."""
    spec = _spec(benchmark)
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(template(kind, spec))
    except OSError as error:
        expected = "a new file in an existing directory"
        message = f"cannot write {file}: {error.strerror}; expected {expected}"
        raise MalformedField(message, field="file", expected=expected) from None
    output.console.print(f"wrote {file}", soft_wrap=True)


def check(
    manifest: Annotated[Path, typer.Argument(help="manifest, a YAML file")],
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="the checkpoint, its files, or the table of predictions",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    benchmark: Benchmark = "",
    json: options.Json = False,
) -> None:
    """Check a manifest, and the files it declares, without a server.

    The exit status is 1 if there is a mistake.
    """
    from cxreval.cli import artifact  # noqa: PLC0415 -- slow to import

    spec = _spec(benchmark)
    document = read_document(manifest, datetime.now(UTC).date(), spec)
    problems = [_problem(document, error) for error in document.problems]
    facts, found = artifact.examine(files, document, spec) if files else ({}, [])
    problems += map(_file_problem, found)
    left = examples_left(document.manifest)
    if json:
        output.print_json(
            {
                "manifest": document.manifest,
                "artifact": facts,
                "problems": problems,
                "examples_left": left,
            }
        )
    else:
        _print(manifest, facts, problems, left)
    if problems:
        raise typer.Exit(1)


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
    manifest: Path, facts: dict[str, str], problems: list[dict[str, Any]], left: list[str]
) -> None:
    for problem in problems:
        location = f"{manifest}:{problem['line']}: " if problem["line"] else ""
        _print_line(f"{location}{problem['reason']}: {problem['message']}")
    for name, fact in facts.items():
        _print_line(f"{name}: {fact}")
    if left:
        _print_line(f"still the template's example values: {', '.join(left)}")
    count = len(problems)
    _print_line(f"{count} mistake{'s' * (count != 1)}" if count else "no mistake found")


def _print_line(text: str) -> None:
    output.console.print(text, soft_wrap=True)
