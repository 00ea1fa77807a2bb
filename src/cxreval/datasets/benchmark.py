"""The specification of a benchmark: images, labels, findings, metrics, scorer and slices.

A benchmark owns its rules: its specification states all of them, and its digest is over all of
them. Change one and it is another benchmark. A data set is a directory in the layout that NIH
distributes: `images/*.png`, the label table, `test_list.txt`, `train_val_list.txt`. The
specification of NIH ChestX-ray14 comes with this library; any other data-set directory holds its
own as `benchmark.toml`.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeGuard, cast

from cxreval.errors import DatasetInvalid
from cxreval.fields import SHA256, SHA256_FORM
from cxreval.metrics.registry import METRICS, Direction
from cxreval.metrics.scorers import SCORERS
from cxreval.resource_names import BENCHMARK_ID

SPEC_FILE = "benchmark.toml"
IMAGES_DIRECTORY = "images"
FEWEST_REPLICATES, MOST_REPLICATES = 100, 10_000

DEFAULT_REPLICATES = 2000
"""Resamples that new benchmarks are described with."""

MAX_FINDINGS = 200
"""Most findings of a benchmark."""

MAX_FINDING_CHARACTERS = 64
"""Longest name of a finding."""

SLICES = ("sex", "age", "view")
"""What images can be split by, and what benchmarks without a statement are split by."""

_PLAIN_FILE = "a plain file name of 1 to 255 printable characters"


@dataclass(frozen=True, slots=True)
class BenchmarkMetric:
    """A metric that a benchmark's board can rank by, and which of its values are better."""

    id: str
    direction: Direction


@dataclass(frozen=True, slots=True)
class BenchmarkSpec:
    """The specification of a benchmark: everything that decides a score, and the names of its files.

    `list_sha256` is over the sorted image names, each followed by LF; `labels_sha256` over the
    label table's bytes. `metrics`: those whose replicates every report records, so that the board
    can rank by them; `ranking_metric`: the one that it ranks by. `replicates`: number of bootstrap
    resamples behind each interval. `slices`: columns of the label table by which the images are
    split, in the report's order.
    """

    name: str
    title: str
    synthetic: bool
    list_file: str
    list_sha256: str
    labels_file: str
    labels_sha256: str
    image_count: int
    patient_count: int
    findings: tuple[str, ...]
    metrics: tuple[BenchmarkMetric, ...]
    ranking_metric: str
    scorer_version: str
    replicates: int
    slices: tuple[str, ...]

    @property
    def seed(self) -> int:
        """Seed of the bootstrap, published with the digest it is taken from: its first 64 bits."""
        return int(self.digest[:16], 16)

    @property
    def digest(self) -> str:
        """sha256 over everything that decides a score: all fields but the title and the two file
        names.

        It needs no other table: a benchmark has the same digest whatever metrics and scorers this
        version of cxreval has. Ranking metric and slices are left out where they are what every
        benchmark had before they became fields.
        """
        parts = {
            "name": self.name,
            "synthetic": self.synthetic,
            "list_sha256": self.list_sha256,
            "labels_sha256": self.labels_sha256,
            "image_count": self.image_count,
            "patient_count": self.patient_count,
            "findings": self.findings,
            "metrics": [[metric.id, metric.direction] for metric in self.metrics],
            "scorer_version": self.scorer_version,
            "replicates": self.replicates,
        }
        if self.ranking_metric != self.metrics[0].id:
            parts["ranking_metric"] = self.ranking_metric
        if self.slices != SLICES:
            parts["slices"] = self.slices
        canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The names of `metrics`."""
        return tuple(metric.id for metric in self.metrics)

    @property
    def direction(self) -> Direction:
        """Which values of the ranking metric are better."""
        return next(one.direction for one in self.metrics if one.id == self.ranking_metric)

    def to_toml(self) -> str:
        """Returns the form `benchmark.toml` has; `load_spec` reads it back to an equal one."""
        # A JSON string, number, boolean or array of strings is also TOML.
        values = {
            field: json.dumps(getattr(self, field), ensure_ascii=False)
            for field in self.__slots__
            if field != "metrics"
        }
        directions = (f"{metric.id} = {json.dumps(metric.direction)}" for metric in self.metrics)
        values["metrics"] = f"{{ {', '.join(directions)} }}"
        return "".join(f"{field} = {values[field]}\n" for field in self.__slots__)


def ranked_by(*names: str) -> tuple[BenchmarkMetric, ...]:
    """Returns metrics of the registry as `BenchmarkSpec.metrics` has them."""
    return tuple(BenchmarkMetric(name, METRICS[name].direction) for name in names)


def packaged_names() -> list[str]:
    """Returns the names of the specifications that come with this library."""
    files = (resources.files("cxreval.datasets") / "specs").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def load_spec(name: str, directory: Path | None = None) -> BenchmarkSpec:
    """Reads `directory/benchmark.toml` if it exists, else the specification in this library.

    Args:
        name: what the specification must be called; empty for any, which is then the directory's
            own, or the packaged one whose list of images lies in the directory.
        directory: the data set.

    Raises:
        DatasetInvalid: there is none, it has missing, unknown or malformed fields, or it has
            another name.
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
            message = f"{where}no specification {named} comes with cxreval, which has {known}"
            raise DatasetInvalid(message, file=file or name, expected=known)
        (spec,) = packaged
    if name and spec.name != name:
        raise DatasetInvalid(
            f"{file} specifies {spec.name!r}; expected {name!r}", file=file, expected=name
        )
    return spec


def _packaged(name: str) -> BenchmarkSpec:
    file = resources.files("cxreval.datasets") / "specs" / f"{name}.toml"
    return parse_spec(file.read_text(encoding="utf-8"), f"the packaged specification {name}")


def read_spec(file: Path) -> BenchmarkSpec:
    """Reads a `benchmark.toml`. Raises `DatasetInvalid`."""
    try:
        return parse_spec(file.read_text(encoding="utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetInvalid(f"cannot read the specification {file}: {error}", file=file) from None


def parse_spec(text: str, source: str) -> BenchmarkSpec:
    """Reads `BenchmarkSpec.to_toml`. Raises `DatasetInvalid` naming `source` and the field."""
    try:
        fields: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DatasetInvalid(f"{source} is not TOML: {error}", file=source) from None
    try:
        spec = spec_from_fields(fields)
    except TypeError as error:
        expected = ", ".join(BenchmarkSpec.__slots__)
        raise DatasetInvalid(f"{source}: {error}", file=source, expected=expected) from None
    problem = spec_problem(spec)
    if problem:
        field, expected = problem
        message = f"{source}: {field} is {fields.get(field)!r}; expected {expected}"
        raise DatasetInvalid(message, file=source, field=field, expected=expected)
    return spec


def spec_from_fields(fields: Mapping[str, Any]) -> BenchmarkSpec:
    """Returns the specification that TOML or a stored JSON object describes, unchecked.

    Takes what earlier versions wrote, too: metrics as a list of names, no `ranking_metric` (the
    first metric) and no `slices` (all of `SLICES`).

    Raises:
        TypeError: a field is missing or unknown.
    """
    values = {
        key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()
    }
    metrics = tuple(_metric(item) for item in _items(values.get("metrics", ())))
    implied = {"ranking_metric": metrics[0].id if metrics else "", "slices": SLICES}
    return BenchmarkSpec(**implied | values | {"metrics": metrics})


def _items(metrics: Any) -> Sequence[Any]:
    if isinstance(metrics, Mapping):
        return [{"id": name, "direction": direction} for name, direction in metrics.items()]
    return metrics if isinstance(metrics, tuple) else ()


def _metric(item: Any) -> BenchmarkMetric:
    """A metric as it was read; one that is malformed is left for `spec_problem` to find."""
    if isinstance(item, Mapping):
        name, direction = str(item.get("id")), item.get("direction")
    else:
        name = str(item)
        direction = METRICS[name].direction if name in METRICS else None
    known = direction in {*Direction}
    return BenchmarkMetric(name, Direction(str(direction)) if known else cast("Any", direction))


def spec_problem(spec: BenchmarkSpec) -> tuple[str, str] | None:
    """Returns the first field that is wrong and what was expected of it, or None."""
    scorer = SCORERS.get(spec.scorer_version)
    metrics = scorer.metrics if scorer else {}
    directions = {name: metric.direction for name, metric in metrics.items() if metric.rankable}
    known = ", ".join(f"{name} ({direction})" for name, direction in directions.items())
    checks: list[tuple[str, bool, str]] = [
        (
            "name",
            isinstance(spec.name, str) and bool(BENCHMARK_ID.fullmatch(spec.name)),
            BENCHMARK_ID.pattern,
        ),
        ("title", _is_text(spec.title, 200), "1 to 200 printable characters"),
        ("synthetic", isinstance(spec.synthetic, bool), "true or false"),
        ("list_file", _is_plain_file(spec.list_file), _PLAIN_FILE),
        ("list_sha256", _is_sha256(spec.list_sha256), SHA256_FORM),
        ("labels_file", _is_plain_file(spec.labels_file), _PLAIN_FILE),
        ("labels_sha256", _is_sha256(spec.labels_sha256), SHA256_FORM),
        ("image_count", _is_count(spec.image_count), "a positive number"),
        ("patient_count", _is_count(spec.patient_count), "a positive number"),
        (
            "findings",
            _are_distinct(spec.findings, 1, MAX_FINDINGS)
            and all(_is_finding(finding) for finding in spec.findings),
            f"1 to {MAX_FINDINGS} distinct names of at most {MAX_FINDING_CHARACTERS} characters",
        ),
        (
            "scorer_version",
            scorer is not None,
            f"one of {', '.join(SCORERS)}, the scorers that this cxreval has",
        ),
        (
            "metrics",
            _are_distinct(spec.metric_names, 1, len(directions))
            and all((one.id, one.direction) in directions.items() for one in spec.metrics),
            f"distinct metrics among {known}, each with its direction",
        ),
        (
            "ranking_metric",
            spec.ranking_metric in spec.metric_names,
            f"one of the benchmark's metrics, {', '.join(spec.metric_names)}",
        ),
        (
            "replicates",
            type(spec.replicates) is int
            and FEWEST_REPLICATES <= spec.replicates <= MOST_REPLICATES,
            f"{FEWEST_REPLICATES} to {MOST_REPLICATES}",
        ),
        (
            "slices",
            _are_distinct(spec.slices, 0, len(SLICES)) and set(spec.slices) <= set(SLICES),
            f"distinct columns among {', '.join(SLICES)}, or none",
        ),
    ]
    return next(((field, expected) for field, good, expected in checks if not good), None)


def _is_count(value: object) -> bool:
    return type(value) is int and value > 0


def _are_distinct(values: object, fewest: int, most: int) -> TypeGuard[tuple[str, ...]]:
    if not isinstance(values, tuple) or not all(isinstance(value, str) for value in values):
        return False
    return fewest <= len(values) <= most and len(set(values)) == len(values)


def _is_finding(value: object) -> bool:
    return _is_text(value, MAX_FINDING_CHARACTERS) and "|" not in value and value == value.strip()


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and bool(SHA256.fullmatch(value))


def _is_plain_file(value: object) -> bool:
    return (
        _is_text(value, 255) and value not in (".", "..") and "/" not in value and "\\" not in value
    )


def _is_text(value: object, longest: int) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= longest and value.isprintable()


def list_sha256(images: list[str]) -> str:
    """Digest of a list of images: sha256 over the sorted names, each followed by LF."""
    return hashlib.sha256("".join(f"{image}\n" for image in sorted(images)).encode()).hexdigest()


def read_list(file: Path) -> list[str]:
    """The image names in a list file, in the file's order.

    Raises:
        DatasetInvalid: it cannot be read, or names something that is not in the directory of
            images.
    """
    try:
        images = file.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetInvalid(f"cannot read the image list {file}: {error}", file=file) from None
    wrong = next((image for image in images if not _is_plain_file(image)), None)
    if wrong is not None:
        message = (
            f"the image list {file} names {wrong[:80]!r}; expected {_PLAIN_FILE} for each image"
        )
        raise DatasetInvalid(message, file=file, image=wrong[:80], expected=_PLAIN_FILE)
    return images


def image_list(spec: BenchmarkSpec, directory: Path) -> list[str]:
    """The benchmark's images, sorted, after the digest was checked.

    Raises:
        DatasetInvalid: the list cannot be read or is not the benchmark's.
    """
    file = directory / spec.list_file
    images = sorted(read_list(file))
    found = list_sha256(images)
    if found != spec.list_sha256:
        message = f"{file} lists {len(images)} images with digest {found}; expected {spec.image_count}, {spec.list_sha256}"
        raise DatasetInvalid(message, file=file, found=found, expected=spec.list_sha256)
    if not len(images) == len(set(images)) == spec.image_count:
        message = f"{file} lists {len(images)} images, {len(set(images))} of them different; expected {spec.image_count}"
        raise DatasetInvalid(message, file=file, expected=str(spec.image_count))
    return images
