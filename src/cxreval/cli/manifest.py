"""`cxreval submission init | check | schema`: a manifest before it is handed in, without a
server."""

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
        help="a benchmark that comes with cxreval, or a benchmark.toml; without it, the only one "
        "that comes with cxreval",
    ),
]


def init(
    file: Annotated[
        Path,
        typer.Argument(help="YAML file to write; one that exists is left as it is", dir_okay=False),
    ],
    kind: Annotated[Kind, typer.Option(help="what is to be handed in")] = Kind.CHECKPOINT,
    benchmark: Benchmark = "",
) -> None:
    """Write a manifest to fill in, with every field explained."""
    spec = _spec(benchmark)
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(template(kind, spec))
    except OSError as error:
        expected = "a file that does not exist, in a directory that does"
        message = f"cannot write {file}: {error.strerror}; expected {expected}"
        raise MalformedField(message, field="file", expected=expected) from None
    output.console.print(f"wrote {file}", soft_wrap=True)


def check(
    manifest: Annotated[Path, typer.Argument(help="manifest, a YAML file")],
    file: Annotated[
        Path | None,
        typer.Argument(
            help="the checkpoint or the table of predictions", exists=True, dir_okay=False
        ),
    ] = None,
    benchmark: Benchmark = "",
    json: options.Json = False,
) -> None:
    """Find everything that is wrong with a manifest, and with its file as far as it can be known
    without a server.

    The exit status is 1 when something is wrong.
    """
    from cxreval.cli import artifact  # noqa: PLC0415 -- readers of models and tables, which no other command waits for

    spec = _spec(benchmark)
    document = read_document(manifest, datetime.now(UTC).date(), spec)
    facts = artifact.facts(file) if file else {}
    wrong = [_problem(document, error) for error in document.problems]
    if file:
        wrong += [_about_file(error) for error in artifact.problems(file, facts, document, spec)]
    left = examples_left(document.manifest)
    if json:
        output.print_json(
            {
                "manifest": document.manifest,
                "artifact": facts,
                "problems": wrong,
                "examples_left": left,
            }
        )
    else:
        _print(manifest, facts, wrong, left)
    if wrong:
        raise typer.Exit(1)


def schema() -> None:
    """Print the JSON Schema of a manifest, for editors and other programs."""
    typer.echo(schema_text(), nl=False)


def _spec(benchmark: str) -> BenchmarkSpec:
    """The specification in a file, else the packaged one of that name. Raises `DatasetInvalid`."""
    file = Path(benchmark)
    return read_spec(file) if file.suffix == ".toml" else load_spec(benchmark)


def _problem(document: Document, error: CxrevalError) -> dict[str, Any]:
    field = error.metadata["field"]
    return {
        "field": field,
        "line": document.line(field),
        "reason": error.reason,
        "message": error.message,
    }


def _about_file(error: CxrevalError) -> dict[str, Any]:
    return {
        "field": error.metadata.get("field", ""),
        "line": None,
        "reason": error.reason,
        "message": error.message,
    }


def _print(
    manifest: Path, facts: dict[str, str], wrong: list[dict[str, Any]], left: list[str]
) -> None:
    for problem in wrong:
        place = f"{manifest}:{problem['line']}: " if problem["line"] else ""
        _say(f"{place}{problem['reason']}: {problem['message']}")
    for name, fact in facts.items():
        _say(f"{name}: {fact}")
    if left:
        _say(f"still the examples of the template: {', '.join(left)}")
    _say(f"{len(wrong)} mistake{'s' * (len(wrong) != 1)}" if wrong else "no mistake found")


def _say(text: str) -> None:
    output.console.print(text, soft_wrap=True)
