"""Resource names: `benchmarks/{b}`, `benchmarks/{b}/submissions/{s}`, `.../evaluations/{e}`,
`artifacts/{sha256}`, `organisations/{o}`, `organisations/{o}/keys/{k}`.

Parsing is strict: an identifier that reaches a database or a path has only the characters that are
defined here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cxreval.fields import SHA256, field_error

BENCHMARK_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
OPAQUE_ID = re.compile(r"[0-9a-f]{32}")
ID_PREFIX = re.compile(r"[0-9a-f]{4,32}")
KEY_ID = re.compile(r"[0-9a-f]{16}")

ANY_BENCHMARK = "-"
"""Stands for every benchmark, where a list accepts that."""


@dataclass(frozen=True, slots=True)
class BenchmarkName:
    """`benchmarks/{benchmark}`."""

    benchmark: str

    def __str__(self) -> str:
        return f"benchmarks/{self.benchmark}"

    @classmethod
    def parse(cls, name: str, field: str = "name") -> BenchmarkName:
        """Returns the parsed name. Raises `MalformedField`, which names `field`."""
        return cls(*_parse(name, field, "benchmarks/{benchmark}", BENCHMARK_ID))


@dataclass(frozen=True, slots=True)
class SubmissionName:
    """`benchmarks/{benchmark}/submissions/{submission}`."""

    benchmark: str
    submission: str

    def __str__(self) -> str:
        return f"benchmarks/{self.benchmark}/submissions/{self.submission}"

    @classmethod
    def parse(cls, name: str, field: str = "name") -> SubmissionName:
        """Returns the parsed name. Raises `MalformedField`, which names `field`."""
        return cls(
            *_parse(
                name,
                field,
                "benchmarks/{benchmark}/submissions/{submission}",
                BENCHMARK_ID,
                OPAQUE_ID,
            )
        )


@dataclass(frozen=True, slots=True)
class SubmissionPrefix:
    """What names a submission to people: its id or its beginning, and its benchmark, if given.

    `benchmark` is `ANY_BENCHMARK` if it is not given.
    """

    benchmark: str
    submission: str

    @property
    def is_full(self) -> bool:
        """Whether it is a whole resource name."""
        return self.benchmark != ANY_BENCHMARK and bool(OPAQUE_ID.fullmatch(self.submission))

    @classmethod
    def parse(cls, text: str, field: str = "submission") -> SubmissionPrefix:
        """Returns the parsed text. Raises `MalformedField`, which names `field`.

        Accepted are `benchmarks/{benchmark}/submissions/{submission}` and `{submission}` alone,
        each with the id or at least its first four characters.
        """
        benchmark, identifier = ANY_BENCHMARK, text
        if "/" in text:
            pattern = "benchmarks/{benchmark}/submissions/{submission}"
            benchmark, identifier = _parse(text, field, pattern, BENCHMARK_ID, ID_PREFIX)
        if not ID_PREFIX.fullmatch(identifier):
            expected = (
                "the id of a submission, its first 4 or more characters (0-9, a-f), or "
                "benchmarks/{benchmark}/submissions/{submission}"
            )
            raise field_error(field, text, expected)
        return cls(benchmark, identifier)


@dataclass(frozen=True, slots=True)
class EvaluationName:
    """`benchmarks/{benchmark}/submissions/{submission}/evaluations/{evaluation}`."""

    benchmark: str
    submission: str
    evaluation: str

    def __str__(self) -> str:
        submission = SubmissionName(self.benchmark, self.submission)
        return f"{submission}/evaluations/{self.evaluation}"

    @classmethod
    def parse(cls, name: str, field: str = "name") -> EvaluationName:
        """Returns the parsed name. Raises `MalformedField`, which names `field`."""
        pattern = "benchmarks/{benchmark}/submissions/{submission}/evaluations/{evaluation}"
        return cls(*_parse(name, field, pattern, BENCHMARK_ID, OPAQUE_ID, OPAQUE_ID))


@dataclass(frozen=True, slots=True)
class ArtifactName:
    """`artifacts/{sha256}`."""

    sha256: str

    def __str__(self) -> str:
        return f"artifacts/{self.sha256}"

    @classmethod
    def parse(cls, name: str, field: str = "name") -> ArtifactName:
        """Returns the parsed name. Raises `MalformedField`, which names `field`."""
        return cls(*_parse(name, field, "artifacts/{sha256}", SHA256))


@dataclass(frozen=True, slots=True)
class OrganisationName:
    """`organisations/{organisation}`."""

    organisation: str

    def __str__(self) -> str:
        return f"organisations/{self.organisation}"

    @classmethod
    def parse(cls, name: str, field: str = "name") -> OrganisationName:
        """Returns the parsed name. Raises `MalformedField`, which names `field`."""
        return cls(*_parse(name, field, "organisations/{organisation}", BENCHMARK_ID))


@dataclass(frozen=True, slots=True)
class KeyName:
    """`organisations/{organisation}/keys/{key}`."""

    organisation: str
    key: str

    def __str__(self) -> str:
        return f"organisations/{self.organisation}/keys/{self.key}"

    @classmethod
    def parse(cls, name: str, field: str = "name") -> KeyName:
        """Returns the parsed name. Raises `MalformedField`, which names `field`."""
        return cls(
            *_parse(name, field, "organisations/{organisation}/keys/{key}", BENCHMARK_ID, KEY_ID)
        )


def _parse(name: str, field: str, pattern: str, *identifiers: re.Pattern[str]) -> list[str]:
    wanted = pattern.split("/")
    parts = name.split("/", len(wanted))  # a hostile name may have millions of them
    if len(parts) != len(wanted) or parts[::2] != wanted[::2]:
        raise field_error(field, name, pattern)
    for part, identifier in zip(parts[1::2], identifiers, strict=True):
        if not identifier.fullmatch(part):
            expected = f"{pattern} with identifiers matching {identifier.pattern}"
            raise field_error(field, name, expected)
    return parts[1::2]
