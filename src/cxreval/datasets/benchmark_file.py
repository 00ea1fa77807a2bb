"""Reads specifications of benchmarks: this library's, and the `benchmark.toml` of a data set."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, cast

from cxreval.datasets.benchmark import SLICES, BenchmarkMetric, BenchmarkSpec, spec_problem
from cxreval.datasets.dataset_files import read_limited
from cxreval.datasets.label_rules import LabelRules, rules_from_fields
from cxreval.errors import DatasetInvalid
from cxreval.fields import field_error, printable, shown
from cxreval.metrics.registry import METRICS, Direction

SPEC_FILE = "benchmark.toml"

MAX_SPEC_BYTES = 1 << 20
"""Maximum size of a `benchmark.toml`."""

_MAX_DOTS = 1 << 14  # more than all names can have; tomllib takes quadratic time for a key's parts
_OPTIONAL = ("ranking_metric", "slices", "labels", "reproduction_tolerance")
"""Fields that specifications of earlier versions do not have."""


def packaged_names() -> list[str]:
    """Returns the names of the specifications that are part of this library, sorted."""
    files = (resources.files("cxreval.datasets") / "specs").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def load_spec(name: str, directory: Path | None = None) -> BenchmarkSpec:
    """Reads `directory/benchmark.toml` if it exists, else a specification of this library.

    Args:
        name: the name that the specification must have. If it is empty, the directory's own
            specification is read, or the one of this library whose image list the directory has.
        directory: the data set.

    Raises:
        DatasetInvalid: there is no such specification, it has missing, unknown or malformed
            fields, or its name is another one.
    """
    file = directory / SPEC_FILE if directory else None
    if file and file.is_file():
        spec = read_spec(file)
    else:
        packaged = [_packaged(known) for known in packaged_names() if name in ("", known)]
        if directory and not name:
            packaged = [spec for spec in packaged if (directory / spec.list_file).is_file()]
        if len(packaged) != 1:
            where = f"{file} does not exist and " if file else ""
            named = f"named {name!r}" if name else "for it"
            known = ", ".join(packaged_names())
            message = f"{where}no specification {named} comes with cxreval; expected {known}"
            raise DatasetInvalid(message, file=file or name, expected=known)
        (spec,) = packaged
    if name and spec.name != name:
        raise DatasetInvalid(
            f"{file} specifies {spec.name!r}; expected {name!r}", file=file, expected=name
        )
    return spec


def _packaged(name: str) -> BenchmarkSpec:
    """Returns a specification of this library."""
    file = resources.files("cxreval.datasets") / "specs" / f"{name}.toml"
    return parse_spec(file.read_text(encoding="utf-8"), f"the packaged specification {name}")


def read_spec(file: Path) -> BenchmarkSpec:
    """Returns the specification in a `benchmark.toml`. Raises `DatasetInvalid`."""
    content = read_limited(file, "specification", MAX_SPEC_BYTES)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DatasetInvalid(f"cannot read the specification {file}: {error}", file=file) from None
    return parse_spec(text, str(file))


def parse_spec(text: str, source: str) -> BenchmarkSpec:
    """Returns the specification in a TOML text.

    Raises:
        DatasetInvalid: it is malformed; the message names `source` and the field.
    """
    if text.count(".") > _MAX_DOTS:
        expected = f"at most {_MAX_DOTS} dots"
        message = f"{source} has {text.count('.')} dots; expected {expected}"
        raise DatasetInvalid(message, file=source, expected=expected)
    try:
        fields: dict[str, Any] = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # tomllib lets errors of int() pass, for example
        raise DatasetInvalid(f"{source} is not TOML: {error}", file=source) from None
    _check_names(fields, source)
    spec = spec_from_fields(fields)
    problem = spec_problem(spec)
    if problem:
        field, expected = problem
        outer, _, inner = field.partition(".")
        value = fields.get(outer, "")
        wrong = field_error(field, field_text(value.get(inner, "") if inner else value), expected)
        raise DatasetInvalid(f"{source}: {wrong}", **{**wrong.metadata, "file": source})
    return spec


def _check_names(fields: Mapping[str, Any], source: str) -> None:
    """Raises `DatasetInvalid` for a field that is missing or unknown."""
    names = {name: name not in _OPTIONAL for name in BenchmarkSpec.__slots__}
    given = {*fields}
    if isinstance(labels := fields.get("labels"), Mapping):
        required = {name: name in ("image", "patient") for name in LabelRules.__slots__}
        names |= {f"labels.{name}": needed for name, needed in required.items()}
        given |= {f"labels.{name}" for name in labels}
    for name, needed in names.items():
        if needed and name not in given:
            raise DatasetInvalid(f"{source}: {name} is required", file=source, field=name)
    for name in [*fields, *sorted(given)]:
        if name not in names:
            field, expected = printable(shown(name)), f"one of {', '.join(names)}"
            message = f"{source}: {field} is not a field; expected {expected}"
            raise DatasetInvalid(message, file=source, field=field, expected=expected)


def field_text(value: object) -> str:
    """Returns the value of a field as an error shows it, for example `auroc = higher`."""
    try:
        if isinstance(value, BenchmarkMetric):
            return f"{value.id} = {value.direction}"
        if isinstance(value, Mapping):
            return ", ".join(f"{key} = {field_text(item)}" for key, item in value.items())
        if isinstance(value, list | tuple):
            return ", ".join(map(field_text, value))
        return str(value).lower() if isinstance(value, bool) else str(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, or nested tables
        return "a value too long to show"


def spec_from_fields(fields: Mapping[str, Any]) -> BenchmarkSpec:
    """Returns the specification with the fields of a TOML document or JSON object, unchecked.

    It reads the forms of earlier versions too: `metrics` as a list of names, no `ranking_metric`
    (it is the first metric), no `slices` (they are `SLICES`) and no `labels`.

    Raises:
        TypeError: a field is missing or unknown.
    """
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()
    }
    metrics = tuple(_metric(item) for item in _items(values.get("metrics", ())))
    implied = {"ranking_metric": metrics[0].id if metrics else "", "slices": SLICES}
    if isinstance(labels := values.get("labels"), Mapping):
        values["labels"] = rules_from_fields(labels)
    return BenchmarkSpec(**implied | values | {"metrics": metrics})


def _items(metrics: Any) -> Sequence[Any]:
    """Returns the metrics of a specification, one item each, from a table or a list."""
    if isinstance(metrics, Mapping):
        return [{"id": name, "direction": direction} for name, direction in metrics.items()]
    return metrics if isinstance(metrics, tuple) else ()


def _metric(item: Any) -> BenchmarkMetric:
    """Returns a metric of a specification, unchecked; `spec_problem` finds a malformed one."""
    if isinstance(item, Mapping) and item.keys() == {"id", "direction"}:
        name, direction = item["id"], item["direction"]
    else:
        name = item
        direction = METRICS[name].direction if isinstance(name, str) and name in METRICS else None
    if isinstance(direction, str) and direction in {*Direction}:
        direction = Direction(direction)
    return BenchmarkMetric(name if isinstance(name, str) else "", cast("Any", direction))
