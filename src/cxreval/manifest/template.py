"""The manifest template that `cxreval submission init` writes, with a comment on every field."""

from __future__ import annotations

import dataclasses
import json
import textwrap
import typing
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from types import NoneType
from typing import Any

from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.manifest.cases import CASES
from cxreval.manifest.model import (
    SHORT_FORMS,
    CheckpointFormat,
    ClaimedMetric,
    Kind,
    Manifest,
    SourceKind,
)
from cxreval.preprocessing import PRESETS, Preprocessing

_WIDTH = 100
_HEAD = {
    Kind.CHECKPOINT: "A checkpoint: the platform runs your model.",
    Kind.ENDPOINT: "An endpoint: the platform sends the images to a model on your own server.",
    Kind.PREDICTIONS: "Predictions: the platform scores a table of your model's outputs.",
    Kind.SCRIPT: "A script: the platform runs it from its frozen commit over all images.",
    Kind.CLAIM: "A claim: a published figure, ranked apart from everything that was run or scored.",
}
_EXAMPLES: dict[Kind, dict[str, Any]] = {
    Kind.CLAIM: {
        "source_kind": SourceKind.RESEARCH_PAPER,
        "source_url": "https://example.org/paper",
    },
    Kind.ENDPOINT: {"source_kind": SourceKind.ENDPOINT},
    Kind.PREDICTIONS: {"source_kind": SourceKind.PREDICTIONS},
    Kind.SCRIPT: {"source_kind": SourceKind.SCRIPT},
    Kind.CHECKPOINT: {"source_kind": SourceKind.CHECKPOINT},
}


_NEEDED: dict[Kind, tuple[str, ...]] = {Kind.SCRIPT: ("entry_point",)}
"""Fields of records that are optional, but not for a kind."""

_OWN = (
    "model", "organisation", "contact", "source_url", "endpoint.address", "reproduction.repository",
    "reproduction.commit",
)  # fmt: skip
"""Fields whose template value must be replaced by the submitter."""


def examples_left(manifest: Manifest) -> list[str]:
    """Returns the fields that still have the value of the template."""
    own = _EXAMPLES.get(manifest.kind, {})
    return [
        path
        for path in _OWN
        for value, example in _given(manifest, path)
        if value == own.get(path, example)
    ]


def _given(manifest: Manifest, path: str) -> Iterator[tuple[Any, Any]]:
    """Yields the value and the example of a field; nothing if its record is not given."""
    record, _, name = path.rpartition(".")
    holder = getattr(manifest, record) if record else manifest
    for field in dataclasses.fields(holder) if holder else ():
        if field.name == name:
            yield getattr(holder, name), field.metadata["example"]


EXAMPLE = "# EXAMPLE:"
"""Marks a value that `submission init` could not know; the submitter removes it."""


def marked_examples(text: str) -> list[str]:
    """Returns the fields of a manifest's text that are still marked as examples."""
    lines = text.splitlines()
    fields = []
    for number, line in enumerate(lines):
        if line.startswith(EXAMPLE):
            rest = (later for later in lines[number:] if later and not later.startswith("#"))
            fields.append(next(rest, "").partition(":")[0])
    return fields


def template(
    kind: Kind,
    benchmark: BenchmarkSpec,
    given: Mapping[str, Any] | None = None,
    unsure: Mapping[str, str] | None = None,
) -> str:
    """Returns a valid manifest for a benchmark as commented YAML, with examples as values.

    Args:
        kind: the kind of the submission.
        benchmark: its findings and metric are the examples.
        given: values of fields that are known.
        unsure: fields whose values are marked as examples, with a sentence on what to compare.
    """
    given, unsure = given or {}, unsure or {}
    values = {
        "kind": kind,
        "format": CheckpointFormat.ONNX,
        "output_names": benchmark.findings,
        "claimed_metrics": ClaimedMetric(benchmark.ranking_metric, 0.8, benchmark.findings[-1]),
        **_EXAMPLES[kind],
        **given,
    }
    cases = [
        case
        for case in CASES
        if all(values.get(field) in wanted for field, wanted in case.when.items())
    ]
    required = {field for case in cases for field in (*case.required, *case.one_of)}
    words = {field: allowed for case in cases for field, allowed in case.only.items()}
    left_out = {field for case in cases for field in case.forbidden}
    left_out |= {"artifact_sha256", "preprocessing_profile", "files", "ensemble"}
    left_out -= {"architecture"} if kind is Kind.CHECKPOINT else set()
    lines = [
        f"# {_HEAD[kind]}",
        "# Check it with `cxreval submission check`. To give an optional field, remove its #.",
    ]
    for field, hint in _ordered_fields():
        if field.name not in left_out:
            needed = field.default is dataclasses.MISSING or field.name in required
            example = values.get(field.name, field.metadata["example"])
            named = words.get(field.name) or _words(hint, field)
            needed = needed or field.name in given
            inner = _NEEDED.get(kind, ())
            entry = [*_entry(field, hint, example, needed, named, inner)]
            if field.name in given and dataclasses.is_dataclass(hint):
                about = [line for line in entry if line.startswith("# ")]
                entry = [*about, *_known(field.name, example)]
            if field.name in unsure:
                marked = textwrap.wrap(f"{EXAMPLE[2:]} {unsure[field.name]}", _WIDTH)
                entry = [*(f"# {line}" for line in marked), *entry]
            lines += ["", *entry]
        if field.name == "preprocessing" not in (left_out | given.keys()):
            lines += [
                f"# The presets are {', '.join(PRESETS)}.",
                "# Steps of your own replace the line above:",
                "#preprocessing:",
                *(f"#{line}" for line in steps(field.metadata["example"])),
            ]
    return "\n".join(lines) + "\n"


def _known(name: str, value: Any) -> Iterator[str]:
    """Yields the lines of a record whose value is known."""
    if not isinstance(value, Preprocessing):
        yield f"{name}: {_flow(value)}"
    elif value.preset and not value.tensor:
        yield f"{name}: {value.preset}"
    else:
        yield f"{name}:"
        yield from steps(value)


def steps(preprocessing: Preprocessing) -> Iterator[str]:
    """Yields the lines of declared preprocessing as YAML, indented, with a comment on each step."""
    for field, hint in _fields(Preprocessing):
        value = getattr(preprocessing, field.name)
        words = {"": _words(hint, field)}
        if dataclasses.is_dataclass(hint):
            kind = typing.cast("type[Any]", hint)
            words = {inner.name: _words(of, inner) for inner, of in _fields(kind)}
        about = field.metadata["about"]
        for name, allowed in words.items():
            about += f" {name or 'One of'}: {', '.join(allowed)}." if allowed else ""
        yield from (f"  # {line}" for line in textwrap.wrap(about, _WIDTH - 4))
        yield f"  {field.name}: {_flow(value)}"


def _flow(value: Any) -> str:
    """Returns a value of declared preprocessing in the shortest form that YAML has for it."""
    if isinstance(value, tuple):
        items = ", ".join(map(_flow, value))
        return items if len(value) == 1 else f"[{items}]"
    if dataclasses.is_dataclass(value):
        kind: type[Any] = type(value)
        if value == kind():
            return _flow(getattr(value, SHORT_FORMS[kind]))
        given = {field.name: getattr(value, field.name) for field in dataclasses.fields(kind)}
        pairs = [f"{name}: {_flow(item)}" for name, item in given.items() if item not in (None, ())]
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, StrEnum):
        return value.value
    return _text(int(value) if isinstance(value, float) and value.is_integer() else value)


def _ordered_fields() -> Iterator[tuple[dataclasses.Field[Any], Any]]:
    """Yields the fields of a manifest, the later ones beside those that they belong to."""
    fields = {field.name: (field, hint) for field, hint in _fields(Manifest)}
    beside = {"preprocessing_profile": "preprocessing", "output_names": "outputs"}
    for name, pair in fields.items():
        if name not in beside.values():
            yield pair
        if name in beside:
            yield fields[beside[name]]


def _fields(kind: type[Any]) -> Iterator[tuple[dataclasses.Field[Any], Any]]:
    """Yields the fields of a dataclass, each with its type or the type of its items."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        named = [of for of in typing.get_args(hints[field.name]) if of not in (NoneType, Ellipsis)]
        yield field, named[0] if named else hints[field.name]


def _words(kind: Any, field: dataclasses.Field[Any]) -> Sequence[str]:
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return tuple(kind)
    words: Sequence[str] = getattr(field.metadata["form"], "words", ())
    return words


def _entry(
    field: dataclasses.Field[Any],
    kind: Any,
    example: Any,
    needed: bool,
    words: Sequence[str] = (),
    inner: Sequence[str] = (),
) -> Iterator[str]:
    """Yields a comment and a field; an optional field is commented out, but for `inner` ones of a
    record."""
    about = field.metadata["about"] + ("" if needed else " Optional.")
    about += f" One of: {', '.join(words)}." if words else ""
    yield from (f"# {line}" for line in textwrap.wrap(about, _WIDTH))
    for line in _value(field, kind, example, inner):
        yield line if needed else f"#{line}"


def _value(
    field: dataclasses.Field[Any], kind: Any, example: Any, inner: Sequence[str]
) -> Iterator[str]:
    if kind is Preprocessing:
        yield f"{field.name}: {example.name}"
    elif dataclasses.is_dataclass(kind):
        yield f"{field.name}:"
        record = typing.cast("type[Any]", kind)
        yield from _item(example) if field.metadata["most"] else _record(record, inner)
    elif isinstance(example, tuple):
        yield f"{field.name}:"
        yield from (f"  - {_text(item)}" for item in example)
    else:
        yield f"{field.name}: {_text(example)}"


def _record(kind: type[Any], inner: Sequence[str]) -> Iterator[str]:
    for field, hint in _fields(kind):
        needed = field.default is dataclasses.MISSING or field.name in inner
        entry = _entry(field, hint, field.metadata["example"], needed)
        yield from (f"  {line}" for line in entry)


def _item(record: Any) -> Iterator[str]:
    """Yields a list of one record; its comments follow the values, as an item needs."""
    for number, (field, _) in enumerate(_fields(type(record))):
        optional = field.default is not dataclasses.MISSING
        about = field.metadata["about"] + " Optional." * optional
        mark = "  - " if number == 0 else "    "
        value = _text(getattr(record, field.name))
        yield f"{mark}{'#' * optional}{field.name}: {value}  # {about}"


def _text(value: Any) -> str:
    """Returns a value as JSON, which is valid YAML."""
    return json.dumps(value)
