"""What a benchmark is: a data set, a list of its images, a label version, findings, metrics and a
scorer version.

A benchmark is named by a digest over all of these; change one and it is another benchmark. A data
set is a directory in
the layout NIH distributes: `images/*.png`, the label table, `test_list.txt`, `train_val_list.txt`.
The specification of NIH ChestX-ray14 comes with this library; any other data-set directory holds
its own as `benchmark.toml`.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeGuard

from cxreval.errors import DatasetInvalid
from cxreval.fields import SHA256, SHA256_FORM
from cxreval.resource_names import BENCHMARK_ID

FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
"""The 14 findings of NIH ChestX-ray14, in the order of the CheXNet paper, spelled as in NIH's
table."""

METRICS = {"auroc": "higher"}
"""Metrics a board can rank by and the direction in which each is better; `cxreval.metrics.registry`
has all metrics."""

SCORER_VERSION = "2"
"""Version of the scoring rules; it changes when the same predictions would give another report."""

SPEC_FILE = "benchmark.toml"
IMAGES_DIRECTORY = "images"
FEWEST_REPLICATES, MOST_REPLICATES = 100, 10_000
_PLAIN_FILE = "a plain file name of 1 to 255 printable characters"


@dataclass(frozen=True, slots=True)
class BenchmarkSpec:
    """The specification of a benchmark.

    `list_sha256` is over the sorted image names, each followed by LF; `labels_sha256` over the
    label table's bytes; `replicates` is the number of bootstrap resamples behind each interval.
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
    findings: tuple[str, ...] = FINDINGS
    metrics: tuple[str, ...] = tuple(METRICS)
    scorer_version: str = SCORER_VERSION
    replicates: int = 2000

    @property
    def seed(self) -> int:
        """Seed of the bootstrap, published with the digest it is taken from: its first 64 bits."""
        return int(self.digest[:16], 16)

    @property
    def digest(self) -> str:
        """sha256 over everything that decides a score: all fields but the title and the two file
        names."""
        parts = {
            "name": self.name,
            "synthetic": self.synthetic,
            "list_sha256": self.list_sha256,
            "labels_sha256": self.labels_sha256,
            "image_count": self.image_count,
            "patient_count": self.patient_count,
            "findings": list(self.findings),
            "metrics": [[metric, METRICS[metric]] for metric in self.metrics],
            "scorer_version": self.scorer_version,
            "replicates": self.replicates,
        }
        canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def to_toml(self) -> str:
        """The form `benchmark.toml` has; `load_spec` reads it back to an equal specification."""
        # A JSON string, number, boolean or array of strings is also TOML.
        fields = {field: getattr(self, field) for field in self.__slots__}
        return "".join(
            f"{field} = {json.dumps(value, ensure_ascii=False)}\n"
            for field, value in fields.items()
        )


def load_spec(name: str, directory: Path | None = None) -> BenchmarkSpec:
    """The specification in `directory/benchmark.toml` if there is one, else the one of that name in
    this library.

    Raises:
        DatasetInvalid: there is none, it has missing, unknown or malformed fields, or it bears
            another name.
    """
    file = directory / SPEC_FILE if directory else None
    packaged = resources.files("cxreval.datasets") / "specs" / f"{name}.toml"
    if file and file.is_file():
        spec = parse_spec(_text(file), str(file))
    elif BENCHMARK_ID.fullmatch(name) and packaged.is_file():
        spec = parse_spec(
            packaged.read_text(encoding="utf-8"), f"the packaged specification {name}"
        )
    else:
        where = f"{file} does not exist and " if file else ""
        raise DatasetInvalid(
            f"{where}no specification named {name!r} comes with cxreval", file=file or name
        )
    if spec.name != name:
        raise DatasetInvalid(
            f"{file} specifies {spec.name!r}; expected {name!r}", file=file, expected=name
        )
    return spec


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetInvalid(f"cannot read the specification {file}: {error}", file=file) from None


def parse_spec(text: str, source: str) -> BenchmarkSpec:
    """Reads `BenchmarkSpec.to_toml`. Raises `DatasetInvalid` naming `source` and the field."""
    try:
        fields: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DatasetInvalid(f"{source} is not TOML: {error}", file=source) from None
    try:
        fields |= {key: tuple(value) for key, value in fields.items() if isinstance(value, list)}
        spec = BenchmarkSpec(**fields)
    except TypeError as error:
        raise DatasetInvalid(
            f"{source}: {error}", file=source, expected=", ".join(BenchmarkSpec.__slots__)
        ) from None
    problem = spec_problem(spec)
    if problem:
        field, expected = problem
        message = f"{source}: {field} is {getattr(spec, field)!r}; expected {expected}"
        raise DatasetInvalid(message, file=source, field=field, expected=expected)
    return spec


def spec_problem(spec: BenchmarkSpec) -> tuple[str, str] | None:
    """The first field that is wrong and what was expected of it; None when the specification is
    well-formed."""
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
        (
            "image_count",
            type(spec.image_count) is int and spec.image_count > 0,
            "a positive number",
        ),
        (
            "patient_count",
            type(spec.patient_count) is int and spec.patient_count > 0,
            "a positive number",
        ),
        (
            "findings",
            _are_among(spec.findings, FINDINGS) and len(set(spec.findings)) == len(spec.findings),
            f"distinct findings among {', '.join(FINDINGS)}",
        ),
        ("metrics", _are_among(spec.metrics, METRICS), f"metrics among {', '.join(METRICS)}"),
        (
            "scorer_version",
            spec.scorer_version == SCORER_VERSION,
            f"{SCORER_VERSION!r}, the rules this cxreval has",
        ),
        (
            "replicates",
            type(spec.replicates) is int
            and FEWEST_REPLICATES <= spec.replicates <= MOST_REPLICATES,
            f"{FEWEST_REPLICATES} to {MOST_REPLICATES}",
        ),
    ]
    return next(((field, expected) for field, good, expected in checks if not good), None)


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and bool(SHA256.fullmatch(value))


def _is_plain_file(value: object) -> bool:
    return (
        _is_text(value, 255) and value not in (".", "..") and "/" not in value and "\\" not in value
    )


def _is_text(value: object, longest: int) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= longest and value.isprintable()


def _are_among(values: object, known: Collection[str]) -> bool:
    return (
        isinstance(values, tuple)
        and bool(values)
        and all(isinstance(v, str) and v in known for v in values)
    )


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
