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
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from cxreval.datasets.columns import IMAGE, PREDICTION_PREFIX, RESERVED, folded
from cxreval.datasets.dataset_files import MAX_TABLE_BYTES, read_limited
from cxreval.datasets.image_names import IMAGE_PATH, is_image_path
from cxreval.datasets.label_rules import LabelRules, rule_checks
from cxreval.errors import DatasetInvalid, UnknownFinding
from cxreval.fields import SHA256, SHA256_FORM, field_error, is_printable
from cxreval.metrics.registry import METRICS, Direction
from cxreval.metrics.scorers import SCORERS
from cxreval.resource_names import BENCHMARK_ID

FEWEST_REPLICATES, MOST_REPLICATES = 100, 10_000

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

REPRODUCTION_TOLERANCE = 1e-4
"""Tolerance of a specification without `reproduction_tolerance`."""

MAX_REPRODUCTION_TOLERANCE = 0.05

SLICES = ("sex", "age", "view")
"""Columns that can split the images; a specification without `slices` has all of them."""

_FINDINGS_FORM = (
    f"1 to {MAX_FINDINGS} distinct names of at most {MAX_FINDING_CHARACTERS} printable characters "
    "without |; they must differ in more than case and underscores, must not be another column of "
    f"a table, such as {IMAGE!r}, and must not begin with {PREDICTION_PREFIX!r}"
)
_PLAIN_FILE = "a plain file name of 1 to 255 printable characters"


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
    in NIH's layout. `reproduction_tolerance`: largest difference of a probability with which a
    reproduction agrees with a row.
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
    reproduction_tolerance: float = REPRODUCTION_TOLERANCE

    @property
    def seed(self) -> int:
        """Seed of the bootstrap: the first 64 bits of the digest."""
        return int(self.digest[:16], 16)

    @property
    def digest(self) -> str:
        """sha256 of all fields except the title and the two file names, as 64 hex characters.

        It depends on the specification alone, not on the metrics and scorers of this version of
        cxreval. `ranking_metric`, `slices`, `labels` and `reproduction_tolerance` are left out
        where they have their defaults, so that benchmarks from before these fields keep their
        digests.
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
        if self.reproduction_tolerance != REPRODUCTION_TOLERANCE:
            parts["reproduction_tolerance"] = self.reproduction_tolerance
        canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

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
        """Returns the text of a `benchmark.toml`, which `read_spec` reads as an equal one."""
        # A JSON string, number, boolean or array of strings is also TOML.
        values = {
            field: json.dumps(getattr(self, field), ensure_ascii=False)
            for field in self.__slots__
            if field not in ("metrics", "labels", "reproduction_tolerance")
        }
        if self.reproduction_tolerance != REPRODUCTION_TOLERANCE:
            values["reproduction_tolerance"] = repr(self.reproduction_tolerance)
        directions = (f"{metric.id} = {json.dumps(metric.direction)}" for metric in self.metrics)
        values["metrics"] = f"{{ {', '.join(directions)} }}"
        lines = (f"{field} = {values[field]}\n" for field in self.__slots__ if field in values)
        return "".join(lines) + (self.labels.to_toml() if self.labels else "")


def ranked_by(*names: str) -> tuple[BenchmarkMetric, ...]:
    """Returns the named metrics, with the directions of the metric table, for a specification."""
    return tuple(BenchmarkMetric(name, METRICS[name].direction) for name in names)


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
        (
            "reproduction_tolerance",
            type(spec.reproduction_tolerance) in (int, float)
            and 0 <= spec.reproduction_tolerance <= MAX_REPRODUCTION_TOLERANCE,
            f"0 to {MAX_REPRODUCTION_TOLERANCE}",
        ),
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
    return isinstance(value, str) and 0 < len(value) <= longest and is_printable(value)


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
