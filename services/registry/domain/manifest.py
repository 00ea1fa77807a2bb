"""The rules of a submission's manifest. The first rule that is broken is raised; nothing is corrected silently."""

from __future__ import annotations

import math
import re
from collections import Counter
from datetime import date

from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.datasets.profiles import PROFILE_NAMES
from cxreval.errors import (
    CommitNotFrozen,
    MalformedField,
    OutputsIncomplete,
    UnknownFinding,
    UnknownMetric,
    UnknownProfile,
)
from cxreval.metrics.ranking import latest_day
from cxreval.resource_names import SHA256
from services.registry.domain.fields import (
    check_email,
    check_https_url,
    check_pattern,
    check_text,
    refused,
    require,
)
from services.registry.domain.records import Environment, Manifest, Reproduction

MAX_NAME_CHARACTERS = 100
MAX_SCRIPT_CHARACTERS = 1000
MAX_DEPENDENCIES = 500
MAX_DEPENDENCY_CHARACTERS = 200
MAX_OUTPUTS = 1000

_COMMIT = re.compile(r"[0-9a-f]{40}")
_PYTHON = re.compile(r"[0-9]{1,2}\.[0-9]{1,3}(\.[0-9]{1,3})?((a|b|rc)[0-9]{1,3})?")
_NAME = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
_DEPENDENCY = re.compile(rf"{_NAME}(\[{_NAME}(,{_NAME})*\])?==[A-Za-z0-9.!+_-]+")


def check_manifest(manifest: Manifest, spec: BenchmarkSpec, today: date) -> None:
    """Checks a manifest for a submission to the benchmark `spec`; `today` is the day in UTC.

    Raises:
        MissingField, MalformedField, CommitNotFrozen, UnknownProfile, UnknownFinding, OutputsIncomplete, UnknownMetric:
            each with the path of the field, such as `manifest.reproduction.commit`.
    """
    check_text("manifest.model", manifest.model, MAX_NAME_CHARACTERS)
    check_text("manifest.organisation", manifest.organisation, MAX_NAME_CHARACTERS)
    check_https_url("manifest.source_url", manifest.source_url, required=False)
    check_email("manifest.contact", manifest.contact)
    _check_reproduction(manifest.reproduction)
    _check_environment(manifest.environment)
    _check_profile(manifest.preprocessing_profile)
    _check_outputs(manifest.output_names, spec)
    _check_claims(manifest, spec)
    check_pattern("manifest.artifact_sha256", manifest.artifact_sha256, SHA256, "64 lower-case hex characters")
    _check_date(manifest.submitted_date, today)


def _check_reproduction(reproduction: Reproduction) -> None:
    check_https_url("manifest.reproduction.repository", reproduction.repository, required=True)
    field, expected = "manifest.reproduction.commit", "40 lower-case hex characters: a branch or tag can move"
    require(field, reproduction.commit, expected)
    if not _COMMIT.fullmatch(reproduction.commit):
        raise refused(field, reproduction.commit, expected, CommitNotFrozen)
    check_text("manifest.reproduction.script", reproduction.script, MAX_SCRIPT_CHARACTERS, required=False)


def _check_environment(environment: Environment) -> None:
    version, dependencies = environment.python_version, environment.dependencies
    check_pattern("manifest.environment.python_version", version, _PYTHON, "a version such as 3.11.7")
    field = "manifest.environment.dependencies"
    if len(dependencies) > MAX_DEPENDENCIES:
        raise refused(field, f"a list of {len(dependencies)}", f"at most {MAX_DEPENDENCIES}")
    for index, dependency in enumerate(dependencies):
        if len(dependency) > MAX_DEPENDENCY_CHARACTERS or not _DEPENDENCY.fullmatch(dependency):
            raise refused(f"{field}[{index}]", dependency, "an exact version such as torch==2.13.0")


def _check_profile(profile: str) -> None:
    field, known = "manifest.preprocessing_profile", f"one of {', '.join(PROFILE_NAMES)}"
    require(field, profile, known)
    if profile not in PROFILE_NAMES:
        raise refused(field, profile, known, UnknownProfile)


def _check_outputs(names: tuple[str, ...], spec: BenchmarkSpec) -> None:
    field = "manifest.output_names"
    if len(names) > MAX_OUTPUTS:
        raise refused(field, f"a list of {len(names)}", f"at most {MAX_OUTPUTS} columns")
    for index, name in enumerate(names):
        if name:
            _check_finding(f"{field}[{index}]", name, spec)
    counts = Counter(name for name in names if name)
    missing = [finding for finding in spec.findings if not counts[finding]]
    repeated = [finding for finding in spec.findings if counts[finding] > 1]
    if missing or repeated:
        facts = {"missing": ", ".join(missing), "repeated": ", ".join(repeated)}
        text = "; ".join(f"{word}: {findings}" for word, findings in facts.items() if findings)
        expected = "every finding of the benchmark exactly once"
        raise OutputsIncomplete(f"{field}: {text}; expected {expected}", field=field, expected=expected, **facts)


def _check_finding(field: str, name: str, spec: BenchmarkSpec) -> None:
    if name in spec.findings:
        return
    spelled = {finding.replace("_", " ").lower(): finding for finding in spec.findings}
    meant = spelled.get(name.replace("_", " ").lower())
    expected = f"{meant!r}" if meant else f"empty, or one of {', '.join(spec.findings)}"
    raise refused(field, name, expected, UnknownFinding)


def _check_claims(manifest: Manifest, spec: BenchmarkSpec) -> None:
    seen = set()
    for index, claim in enumerate(manifest.claimed_metrics):
        field = f"manifest.claimed_metrics[{index}]"
        if claim.metric not in spec.metrics:
            raise refused(f"{field}.metric", claim.metric, f"one of {', '.join(spec.metrics)}", UnknownMetric)
        if claim.finding:
            _check_finding(f"{field}.finding", claim.finding, spec)
        if not (math.isfinite(claim.value) and 0 <= claim.value <= 1):
            raise refused(f"{field}.value", claim.value, "a finite number from 0 to 1")
        if (claim.metric, claim.finding) in seen:
            raise refused(field, f"{claim.metric} {claim.finding}".rstrip(), "each metric and finding only once")
        seen.add((claim.metric, claim.finding))


def _check_date(submitted: str, today: date) -> None:
    if not submitted:
        return
    field, expected = "manifest.submitted_date", "a date YYYY-MM-DD or YYYY-MM that is not in the future (UTC)"
    try:
        latest_day(submitted)
    except MalformedField:
        raise refused(field, submitted, expected) from None
    # ISO dates sort as text; a month is compared with the current month.
    if submitted > today.isoformat()[: len(submitted)]:
        raise refused(field, submitted, expected, today=today.isoformat())
