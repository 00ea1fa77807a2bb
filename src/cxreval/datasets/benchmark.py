"""The specification of a benchmark: images, labels, findings, metrics, scorer and slices.

The specification states every rule of its benchmark, and its digest covers all of them: a benchmark
with one changed rule is another benchmark. A data set is a directory with the images, below
`images/` where there is such a folder, a list of their names, and a label table in the layout that
NIH distributes or that `labels` describes. The specification of NIH ChestX-ray14 is part of this
library; any other data-set directory has its own in `benchmark.toml`.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Any, TypeGuard, cast

from cxreval.datasets.columns import IMAGE, PREDICTION_PREFIX, RESERVED, folded
from cxreval.datasets.dataset_files import MAX_TABLE_BYTES, read_limited
from cxreval.datasets.image_names import IMAGE_PATH, is_image_path
from cxreval.datasets.label_rules import LabelRules, rule_checks, rules_from_fields
from cxreval.errors import DatasetInvalid, UnknownFinding
from cxreval.fields import SHA256, SHA256_FORM, field_error, printable, shown
from cxreval.metrics.registry import METRICS, Direction
from cxreval.metrics.scorers import SCORERS
from cxreval.resource_names import BENCHMARK_ID

SPEC_FILE = "benchmark.toml"
FEWEST_REPLICATES, MOST_REPLICATES = 100, 10_000

MAX_SPEC_BYTES = 1 << 20
"""Maximum size of a `benchmark.toml`."""

MAX_COUNT = 2**31 - 1
"""Maximum number of images or patients."""

DEFAULT_REPLICATES = 2000
"""Number of resamples that new benchmarks get."""

MAX_REPLICATE_BYTES = 4 << 20
"""Maximum size of a report's replicates: half of the largest message that the registry takes."""

MAX_FINDINGS = 200
"""Maximum number of findings of a benchmark."""

MAX_FINDING_CHARACTERS = 64
"""Maximum length of a finding's name."""

SLICES = ("sex", "age", "view")
"""Columns that can split the images; a specification without `slices` has all of them."""

_MAX_DOTS = 1 << 14  # more than all names can have; tomllib takes quadratic time for a key's parts
_OPTIONAL = ("ranking_metric", "slices", "labels", "steps", "ladder")
"""Fields that specifications of earlier versions do not have."""

_FINDINGS_FORM = (
    f"1 to {MAX_FINDINGS} distinct names of at most {MAX_FINDING_CHARACTERS} printable characters "
    "without |; they must differ in more than case and underscores, must not be another column of "
    f"a table, such as {IMAGE!r}, and must not begin with {PREDICTION_PREFIX!r}"
)
_PLAIN_FILE = "a plain file name of 1 to 255 printable characters"


class StepRule(StrEnum):
    """Which rows can be steps of the state of the art: any, or those with clean training data."""

    ANY = "any"
    CLEAN = "clean"


@dataclass(frozen=True, slots=True)
class BenchmarkMetric:
    """A metric that a benchmark's board can rank by, with its direction."""

    id: str
    direction: Direction


@dataclass(frozen=True, slots=True)
class BenchmarkSpec:
    """The specification of a benchmark: every rule that affects a score, and its file names.

    `list_sha256`: digest of the sorted image names, each followed by LF; `labels_sha256`: digest of
    the label table's bytes. `metrics`: the metrics whose replicates every report records, so that
    the board can rank by them; `ranking_metric`: the one that it ranks by. `replicates`: number of
    bootstrap resamples behind each interval. `slices`: columns of the label table by which the
    images are split, in the report's order. `labels`: how the label table is read; None for a table
    in NIH's layout. `steps`: which rows can be steps of the state of the art; benchmarks from
    before this field have no such rule. `ladder`: an organisation learns the figures of a further
    submission only if it is significantly better than its earlier ones.
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
    labels: LabelRules | None = None
    steps: StepRule = StepRule.ANY
    ladder: bool = False

    @property
    def seed(self) -> int:
        """Seed of the bootstrap: the first 64 bits of the digest."""
        return int(self.digest[:16], 16)

    @property
    def digest(self) -> str:
        """sha256 of all fields except the title and the two file names, as 64 hex characters.

        It depends on the specification alone, not on the metrics and scorers of this version of
        cxreval. `ranking_metric`, `slices`, `labels`, `steps` and `ladder` are left out where they
        have their defaults, so that benchmarks from before these fields keep their digests.
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
        if self.labels is not None:
            parts["labels"] = self.labels.stated()
        parts |= self.board_rules
        canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def board_rules(self) -> dict[str, str | bool]:
        """The rules of the board that differ from those of benchmarks from before such rules."""
        rules: dict[str, str | bool] = {}
        if self.steps is not StepRule.ANY:
            rules["steps"] = self.steps
        if self.ladder:
            rules["ladder"] = True
        return rules

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The names of `metrics`."""
        return tuple(metric.id for metric in self.metrics)

    @property
    def direction(self) -> Direction:
        """Which values of the ranking metric are better."""
        return next(metric.direction for metric in self.metrics if metric.id == self.ranking_metric)

    def covered_by(self, names: Collection[str]) -> tuple[str, ...]:
        """Returns the findings that are among `names`, in the benchmark's order."""
        return tuple(finding for finding in self.findings if finding in names)

    def chosen(self, names: Sequence[str], field: str) -> tuple[str, ...]:
        """Returns the findings that `names` lists, in the benchmark's order.

        Raises:
            MalformedField: a name is listed twice; the error names `field`.
            UnknownFinding: a name is not a finding of the benchmark.
        """
        if len(set(names)) < len(names):
            raise field_error(field, ", ".join(names), "each finding only once")
        for index, name in enumerate(names):
            if name not in self.findings:
                expected = f"one of {', '.join(self.findings)}"
                raise field_error(f"{field}[{index}]", name, expected, UnknownFinding)
        return self.covered_by(names)

    def to_toml(self) -> str:
        """Returns the text of a `benchmark.toml`, which `read_spec` reads back to an equal one."""
        # A JSON string, number, boolean or array of strings is also TOML.
        values = {
            field: json.dumps(getattr(self, field), ensure_ascii=False)
            for field in self.__slots__
            if field not in ("metrics", "labels", "steps", "ladder")
        }
        values |= {field: json.dumps(value) for field, value in self.board_rules.items()}
        directions = (f"{metric.id} = {json.dumps(metric.direction)}" for metric in self.metrics)
        values["metrics"] = f"{{ {', '.join(directions)} }}"
        lines = (f"{field} = {values[field]}\n" for field in self.__slots__ if field in values)
        return "".join(lines) + (self.labels.to_toml() if self.labels else "")


def ranked_by(*names: str) -> tuple[BenchmarkMetric, ...]:
    """Returns the named metrics, with the directions of the metric table, for a specification."""
    return tuple(BenchmarkMetric(name, METRICS[name].direction) for name in names)


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
    if values.get("steps") in {*StepRule}:
        values["steps"] = StepRule(values["steps"])
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


def spec_problem(spec: BenchmarkSpec) -> tuple[str, str] | None:
    """Returns the first malformed field and what was expected there, or None."""
    checks = [*_data_checks(spec), *_rule_checks(spec)]
    return next(((field, expected) for field, good, expected in checks if not good), None)


def _data_checks(spec: BenchmarkSpec) -> list[tuple[str, bool, str]]:
    """Returns each check of images and labels: the field, the result and what is expected."""
    return [
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
        ("image_count", _is_count(spec.image_count), f"1 to {MAX_COUNT}"),
        ("patient_count", _is_count(spec.patient_count), f"1 to {MAX_COUNT}"),
        (
            "findings",
            _are_distinct(spec.findings, 1, MAX_FINDINGS)
            and all(_is_finding(finding) for finding in spec.findings)
            and len({*map(folded, spec.findings)}) == len(spec.findings),
            _FINDINGS_FORM,
        ),
    ]


def _rule_checks(spec: BenchmarkSpec) -> list[tuple[str, bool, str]]:
    """Returns each check of the rules of scoring: the field, the result and what is expected."""
    version = spec.scorer_version
    scorer = SCORERS.get(version) if isinstance(version, str) else None
    metrics = scorer.metrics if scorer else {}
    directions = {name: metric.direction for name, metric in metrics.items() if metric.rankable}
    known = ", ".join(f"{name} ({direction})" for name, direction in directions.items())
    return [
        (
            "scorer_version",
            scorer is not None,
            f"one of {', '.join(SCORERS)}, the scorers of this version of cxreval",
        ),
        (
            "metrics",
            _are_distinct(spec.metric_names, 1, len(directions))
            and all((metric.id, metric.direction) in directions.items() for metric in spec.metrics),
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
            "replicates",
            _fits_into_a_report(spec),
            f"at most {MAX_REPLICATE_BYTES} bytes for all findings and metrics, 8 bytes each",
        ),
        (
            "slices",
            _are_distinct(spec.slices, 0, len(SLICES)) and set(spec.slices) <= set(SLICES),
            f"distinct columns among {', '.join(SLICES)}, or none",
        ),
        ("steps", isinstance(spec.steps, StepRule), f"one of {', '.join(StepRule)}"),
        ("ladder", isinstance(spec.ladder, bool), "true or false"),
        *([] if spec.labels is None else rule_checks(spec.labels, spec.slices)),
    ]


def _fits_into_a_report(spec: BenchmarkSpec) -> bool:
    """Whether the replicates of a report are small enough; malformed fields fail other checks."""
    if type(spec.replicates) is not int or not isinstance(spec.findings, tuple):
        return True
    values = spec.replicates * (len(spec.findings) + 1) * len(spec.metrics)
    return 8 * values <= MAX_REPLICATE_BYTES


def _is_count(value: object) -> bool:
    """Returns whether a value is a positive integer within the limit; True and False are none."""
    return type(value) is int and 0 < value <= MAX_COUNT


def _are_distinct(values: object, fewest: int, most: int) -> TypeGuard[tuple[str, ...]]:
    """Returns whether a value is a tuple of different strings, of a length within bounds."""
    if not isinstance(values, tuple) or not all(isinstance(value, str) for value in values):
        return False
    return fewest <= len(values) <= most and len(set(values)) == len(values)


def _is_finding(value: object) -> bool:
    """Returns whether a value can be the name of a finding; NIH's table separates names by `|`."""
    if not _is_text(value, MAX_FINDING_CHARACTERS) or "|" in value or value != value.strip():
        return False
    name = folded(value)
    return name not in RESERVED and not name.startswith(folded(PREDICTION_PREFIX))


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and bool(SHA256.fullmatch(value))


def _is_plain_file(value: object) -> bool:
    """Returns whether a value is a file name without a directory."""
    return (
        _is_text(value, 255) and value not in (".", "..") and "/" not in value and "\\" not in value
    )


def _is_text(value: object, longest: int) -> TypeGuard[str]:
    """Returns whether a value is a string of 1 to `longest` printable characters."""
    return isinstance(value, str) and 0 < len(value) <= longest and value.isprintable()


def list_sha256(images: list[str]) -> str:
    """Returns the digest of a list of images: the sha256 of the sorted names, each with LF."""
    return hashlib.sha256("".join(f"{image}\n" for image in sorted(images)).encode()).hexdigest()


def list_problem(spec: BenchmarkSpec, images: list[str]) -> str:
    """Returns how a list of images differs from the benchmark's; empty if it does not."""
    # A name with LF could make another list of the same digest.
    wrong = next((image for image in images if not is_image_path(image)), None)
    if wrong is not None:
        return f"names {wrong[:80]!r}; expected {IMAGE_PATH} for each image"
    digest, different = list_sha256(images), len(set(images))
    if digest == spec.list_sha256 and len(images) == different == spec.image_count:
        return ""
    return (
        f"has {len(images)} images, {different} of them different, with digest {digest}; "
        f"expected {spec.image_count}, {spec.list_sha256}"
    )


def read_list(file: Path) -> list[str]:
    """Returns the image names in a list file, in the file's order.

    Raises:
        DatasetInvalid: the file cannot be read, or a line is not the name of an image.
    """
    content = read_limited(file, "image list", MAX_TABLE_BYTES)
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DatasetInvalid(f"cannot read the image list {file}: {error}", file=file) from None
    images = [line.strip() for line in lines if line.strip()]
    wrong = next((image for image in images if not is_image_path(image)), None)
    if wrong is not None:
        message = (
            f"the image list {file} names {wrong[:80]!r}; expected {IMAGE_PATH} for each image"
        )
        raise DatasetInvalid(message, file=file, image=wrong[:80], expected=IMAGE_PATH)
    return images


def image_list(spec: BenchmarkSpec, directory: Path) -> list[str]:
    """Returns the names of the benchmark's images, sorted, after checking the list's digest.

    Raises:
        DatasetInvalid: the list cannot be read, or is not that of the benchmark.
    """
    file = directory / spec.list_file
    images = sorted(read_list(file))
    if problem := list_problem(spec, images):
        raise DatasetInvalid(f"{file} {problem}", file=file, expected=spec.list_sha256)
    return images
