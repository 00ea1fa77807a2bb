"""The rules of a manifest. All that is wrong is found at once; nothing is corrected silently."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import Any

from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.errors import (
    CxrevalError,
    MalformedField,
    MissingField,
    OutputsIncomplete,
    UnknownFinding,
    UnknownMetric,
)
from cxreval.fields import field_error
from cxreval.manifest.forms import Form
from cxreval.manifest.model import CASES, UPLOADED, Case, ClaimedMetric, Kind, Manifest
from cxreval.metrics.ranking import latest_day

ROOT = "manifest"
"""What the path of every field begins with."""

_REQUIRED = dataclasses.MISSING


def _phrase(about: str) -> str:
    """A field's description as part of a sentence."""
    return about[0].lower() + about[1:].rstrip(".")


_ABOUT = {field.name: _phrase(field.metadata["about"]) for field in dataclasses.fields(Manifest)}
_PLACES = {name: place for place, name in enumerate(_ABOUT)}


def problems(
    manifest: Manifest,
    today: date,
    benchmark: BenchmarkSpec | None,
    *,
    with_artifact: bool = True,
) -> list[CxrevalError]:
    """Everything that is wrong with a manifest, in the order of its fields; each error names its
    field.

    Args:
        manifest: any; fields that are required may be empty or None.
        today: the day in UTC; no later date is taken.
        benchmark: the benchmark that it is for; None leaves out what only a benchmark can judge,
            its findings and metrics.
        with_artifact: whether the digest of the file, for kinds that come with one, has to be there
            already.
    """
    found = list(_record(manifest, ROOT))
    for case in CASES:
        if all(getattr(manifest, field) in values for field, values in case.when.items()):
            found += _case(case, manifest)
    if with_artifact and manifest.kind in UPLOADED and not manifest.artifact_sha256:
        found.append(
            _missing(
                f"{ROOT}.artifact_sha256",
                f"the sha256 of the file: kind {manifest.kind} comes with one",
            )
        )
    wrong = {error.metadata["field"] for error in found}
    for field, further in (
        ("output_names", _outputs(manifest.output_names, benchmark)),
        ("claimed_metrics", _claims(manifest, benchmark)),
        ("submitted_date", _date(manifest.submitted_date, today)),
    ):
        if f"{ROOT}.{field}" not in wrong:
            found += (error for error in further if error.metadata["field"] not in wrong)
    return sorted(found, key=lambda error: _PLACES[_top(error)])


def refusal(found: Sequence[CxrevalError]) -> CxrevalError:
    """The first problem, which tells the others along."""
    first = found[0]
    first.also = tuple(found[1:])
    return first


def _top(error: CxrevalError) -> str:
    """The manifest's own field that an error is about."""
    return error.metadata["field"].removeprefix(f"{ROOT}.").partition(".")[0].partition("[")[0]


def _missing(field: str, expected: str) -> CxrevalError:
    return MissingField(f"{field} is empty; expected {expected}", field=field, expected=expected)


def _record(record: Any, path: str) -> Iterator[CxrevalError]:
    """What is wrong with the fields of a dataclass, each by itself."""
    for field in dataclasses.fields(record):
        name, value, facts = f"{path}.{field.name}", getattr(record, field.name), field.metadata
        if value is None or value in ("", ()):
            if field.default is _REQUIRED:
                yield _missing(name, _phrase(facts["about"]))
        elif isinstance(value, tuple):
            yield from _list(value, name, facts["form"], facts["most"])
        elif dataclasses.is_dataclass(value):
            yield from _record(value, name)
        else:
            yield from _checked(facts["form"], name, value)


def _list(
    values: tuple[Any, ...], path: str, form: Form | None, most: int
) -> Iterator[CxrevalError]:
    if len(values) > most:
        yield field_error(path, f"a list of {len(values)}", f"at most {most}")
        return
    for index, value in enumerate(values):
        if dataclasses.is_dataclass(value):
            yield from _record(value, f"{path}[{index}]")
        else:
            yield from _checked(form, f"{path}[{index}]", value)


def _checked(form: Form | None, field: str, value: Any) -> Iterator[CxrevalError]:
    if form:
        yield from _caught(form.check, field, value)


def _caught(check: Callable[..., None], *arguments: Any) -> Iterator[CxrevalError]:
    try:
        check(*arguments)
    except CxrevalError as error:
        yield error


def _case(case: Case, manifest: Manifest) -> Iterator[CxrevalError]:
    """What the kind, the format or the architecture asks for."""
    for field in case.required:
        if not getattr(manifest, field):
            yield _missing(f"{ROOT}.{field}", f"{_ABOUT[field]}; {case.name} needs it")
    for field in case.forbidden:
        if getattr(manifest, field):
            yield field_error(f"{ROOT}.{field}", "given", f"nothing: {case.name} has none")
    for field, values in case.only.items():
        value = getattr(manifest, field)
        if value and value not in values:
            yield field_error(f"{ROOT}.{field}", value, f"{' or '.join(values)} for {case.name}")


def _outputs(names: tuple[str, ...], benchmark: BenchmarkSpec | None) -> Iterator[CxrevalError]:
    """Every finding once; a manifest without names has been judged by its kind."""
    if not names or not benchmark:
        return
    field, findings = f"{ROOT}.output_names", benchmark.findings
    for index, name in enumerate(names):
        if name:
            yield from _finding(f"{field}[{index}]", name, findings)
    counts = Counter(name for name in names if name)
    missing = [finding for finding in findings if not counts[finding]]
    repeated = [finding for finding in findings if counts[finding] > 1]
    if missing or repeated:
        facts = {"missing": ", ".join(missing), "repeated": ", ".join(repeated)}
        text = "; ".join(f"{word}: {found}" for word, found in facts.items() if found)
        expected = "every finding of the benchmark exactly once"
        yield OutputsIncomplete(
            f"{field}: {text}; expected {expected}", field=field, expected=expected, **facts
        )


def _finding(field: str, name: str, findings: Sequence[str]) -> Iterator[CxrevalError]:
    if name in findings:
        return
    spelled = {finding.replace("_", " ").lower(): finding for finding in findings}
    meant = spelled.get(name.replace("_", " ").lower())
    expected = f"{meant!r}" if meant else f"empty, or one of {', '.join(findings)}"
    yield field_error(field, name, expected, UnknownFinding)


def _claims(manifest: Manifest, benchmark: BenchmarkSpec | None) -> Iterator[CxrevalError]:
    seen = set()
    for index, claim in enumerate(manifest.claimed_metrics):
        field = f"{ROOT}.claimed_metrics[{index}]"
        if benchmark:
            yield from _claim(field, claim, benchmark)
        if (claim.metric, claim.finding) in seen:
            yield field_error(
                field,
                f"{claim.metric} {claim.finding}".rstrip(),
                "each metric and finding only once",
            )
        seen.add((claim.metric, claim.finding))
    if not benchmark or manifest.kind is not Kind.CLAIM or not manifest.claimed_metrics:
        return
    if (benchmark.ranking_metric, "") not in seen:
        metric = benchmark.ranking_metric
        expected = f"{metric} without a finding among them: it is what the board ranks by"
        yield _missing(f"{ROOT}.claimed_metrics", expected)


def _claim(field: str, claim: ClaimedMetric, benchmark: BenchmarkSpec) -> Iterator[CxrevalError]:
    if claim.metric not in benchmark.metric_names:
        expected = f"one of {', '.join(benchmark.metric_names)}"
        yield field_error(f"{field}.metric", claim.metric, expected, UnknownMetric)
    if claim.finding:
        yield from _finding(f"{field}.finding", claim.finding, benchmark.findings)


def _date(submitted: str, today: date) -> Iterator[CxrevalError]:
    if not submitted:
        return
    field, expected = (
        f"{ROOT}.submitted_date",
        "a date YYYY-MM-DD or YYYY-MM that is not in the future (UTC)",
    )
    try:
        latest_day(submitted)
    except MalformedField:
        yield field_error(field, submitted, expected)
        return
    # ISO dates sort as text; a month is compared with the current month.
    if submitted > today.isoformat()[: len(submitted)]:
        yield field_error(field, submitted, expected, today=today.isoformat())
