"""The template that `cxreval submission init` writes: a manifest of a kind with every field
explained."""

from __future__ import annotations

import dataclasses
import json
import textwrap
import typing
from collections.abc import Iterator, Sequence
from enum import StrEnum
from types import NoneType
from typing import Any

from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.manifest.model import (
    CASES,
    CheckpointFormat,
    ClaimedMetric,
    Kind,
    Manifest,
    SourceKind,
)

_WIDTH = 100
_HEAD = {
    Kind.CHECKPOINT: "A checkpoint: a model that is run here.",
    Kind.ENDPOINT: "An endpoint: a model on your own server, which is sent the images.",
    Kind.PREDICTIONS: "Predictions: a table that your model gave, which is scored here.",
    Kind.CLAIM: "A claim: a published figure. It is ranked apart from everything that was run or scored.",
}
_EXAMPLES: dict[Kind, dict[str, Any]] = {
    Kind.CLAIM: {
        "source_kind": SourceKind.RESEARCH_PAPER,
        "source_url": "https://example.org/paper",
    },
    Kind.ENDPOINT: {"source_kind": SourceKind.ENDPOINT},
    Kind.PREDICTIONS: {"source_kind": SourceKind.PREDICTIONS},
    Kind.CHECKPOINT: {"source_kind": SourceKind.CHECKPOINT},
}


_OWN = (
    "model", "organisation", "contact", "source_url", "endpoint.address", "reproduction.repository",
    "reproduction.commit",
)  # fmt: skip
"""Fields that are nobody's but the submitter's: an example in one of them was forgotten."""


def examples_left(manifest: Manifest) -> list[str]:
    """Fields that still have the example of the template."""
    own = _EXAMPLES.get(manifest.kind, {})
    return [
        path
        for path in _OWN
        for value, example in _given(manifest, path)
        if value == own.get(path, example)
    ]


def _given(manifest: Manifest, path: str) -> Iterator[tuple[Any, Any]]:
    """The value and the example of a field; nothing when what it stands in is not given."""
    record, _, name = path.rpartition(".")
    holder = getattr(manifest, record) if record else manifest
    for field in dataclasses.fields(holder) if holder else ():
        if field.name == name:
            yield getattr(holder, name), field.metadata["example"]


def template(kind: Kind, benchmark: BenchmarkSpec) -> str:
    """Returns a manifest for a benchmark as commented YAML.

    It is without fault, but its values are examples.
    """
    values = {
        "kind": kind,
        "format": CheckpointFormat.ONNX,
        "output_names": benchmark.findings,
        "claimed_metrics": ClaimedMetric(benchmark.ranking_metric, 0.8, benchmark.findings[-1]),
        **_EXAMPLES[kind],
    }
    cases = [
        case
        for case in CASES
        if all(values.get(field) in wanted for field, wanted in case.when.items())
    ]
    required = {field for case in cases for field in case.required}
    words = {field: of_it for case in cases for field, of_it in case.only.items()}
    left_out = {field for case in cases for field in case.forbidden} | {"artifact_sha256"}
    left_out -= {"architecture"} if kind is Kind.CHECKPOINT else set()
    lines = [
        f"# {_HEAD[kind]}",
        "# Check it with `cxreval submission check`. Take the # off a field that you want to give.",
    ]
    for field, hint in _fields(Manifest):
        if field.name not in left_out:
            needed = field.default is dataclasses.MISSING or field.name in required
            example = values.get(field.name, field.metadata["example"])
            lines += [
                "",
                *_entry(field, hint, example, needed, words.get(field.name) or _words(hint, field)),
            ]
    return "\n".join(lines) + "\n"


def _fields(kind: type[Any]) -> Iterator[tuple[dataclasses.Field[Any], Any]]:
    """The fields of a dataclass, each with its type, or that of its items."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        named = [of for of in typing.get_args(hints[field.name]) if of not in (NoneType, Ellipsis)]
        yield field, named[0] if named else hints[field.name]


def _words(kind: Any, field: dataclasses.Field[Any]) -> Sequence[str]:
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return tuple(kind)
    found: Sequence[str] = getattr(field.metadata["form"], "words", ())
    return found


def _entry(
    field: dataclasses.Field[Any], kind: Any, example: Any, needed: bool, words: Sequence[str] = ()
) -> Iterator[str]:
    """A comment and a field. One that may be left out is commented out, with no space behind its
    `#`, or two."""
    about = field.metadata["about"] + ("" if needed else " Optional.")
    about += f" One of: {', '.join(words)}." if words else ""
    yield from (f"# {line}" for line in textwrap.wrap(about, _WIDTH))
    for line in _value(field, kind, example):
        yield line if needed else f"#{line}"


def _value(field: dataclasses.Field[Any], kind: Any, example: Any) -> Iterator[str]:
    if dataclasses.is_dataclass(kind):
        yield f"{field.name}:"
        record = typing.cast("type[Any]", kind)
        yield from _item(example) if field.metadata["most"] else _record(record)
    elif isinstance(example, tuple):
        yield f"{field.name}:"
        yield from (f"  - {_text(item)}" for item in example)
    else:
        yield f"{field.name}: {_text(example)}"


def _record(kind: type[Any]) -> Iterator[str]:
    for field, hint in _fields(kind):
        entry = _entry(field, hint, field.metadata["example"], field.default is dataclasses.MISSING)
        yield from (f"  {line}" for line in entry)


def _item(record: Any) -> Iterator[str]:
    """A list with one record. Its comments stand behind the values: an item cannot begin with
    one."""
    for place, (field, _) in enumerate(_fields(type(record))):
        optional = field.default is not dataclasses.MISSING
        about = field.metadata["about"] + " Optional." * optional
        mark = "  - " if place == 0 else "    "
        value = _text(getattr(record, field.name))
        yield f"{mark}{'#' * optional}{field.name}: {value}  # {about}"


def _text(value: Any) -> str:
    """A JSON scalar is a YAML scalar."""
    return json.dumps(value)
