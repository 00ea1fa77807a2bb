"""The rules of a manifest. All problems are reported at once; no value is corrected."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import date
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

from cxreval.bundle import MAX_FILES
from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.datasets.training_list import LISTED, TrainingData
from cxreval.errors import (
    CommitNotFrozen,
    CxrevalError,
    MalformedField,
    OutputsIncomplete,
    UnknownFinding,
    UnknownMetric,
)
from cxreval.fields import field_error, not_allowed, required, shown
from cxreval.forms import Form
from cxreval.manifest.cases import CASES, Case
from cxreval.manifest.model import UPLOADED, ClaimedMetric, Kind, Manifest, Reproduction
from cxreval.metrics.ranking import latest_day
from cxreval.preprocessing import Preprocessing, preprocessing_problems

ROOT = "manifest"
"""First part of the path of every field."""

# One comparison of two spellings takes up to 0.1 ms, and a caller chooses the names.
_MAX_COMPARED = 4000
_CLOSE = 0.85
"""Ratio of difflib from which two spellings are taken for the same word."""


def expected(record: type[Any], name: str) -> str:
    """Returns what belongs in a field of a record of the manifest, as part of a sentence."""
    field = record.__dataclass_fields__[name]
    hint = typing.get_type_hints(record)[name]
    for kind in (hint, *typing.get_args(hint)):
        if isinstance(kind, type) and issubclass(kind, StrEnum):
            return f"one of {', '.join(kind)}"
    form, about = field.metadata["form"], field.metadata["about"]
    if form and not field.metadata["most"]:
        return str(form.expected)
    return str(about[0].lower() + about[1:].rstrip("."))


_POSITIONS = {field.name: number for number, field in enumerate(dataclasses.fields(Manifest))}


def problems(
    manifest: Manifest,
    today: date,
    benchmark: BenchmarkSpec | None,
    *,
    with_artifact: bool = True,
) -> list[CxrevalError]:
    """Returns all problems of a manifest, in the order of its fields; each error names its field.

    Args:
        manifest: any manifest; required fields may be empty or None.
        today: the current day in UTC; a later date is a problem.
        benchmark: the benchmark of the submission; without one, the rules about its findings and
            metrics are not checked.
        with_artifact: whether kinds with a file must already have its digest.
    """
    errors = list(_record(manifest, ROOT))
    for case in CASES:
        if _applies(case, manifest):
            errors += _case(case, manifest)
    if with_artifact and manifest.kind in UPLOADED:
        errors += _digests(manifest)
    wrong = {error.metadata["field"] for error in errors}
    for field, further in (
        ("preprocessing", _preprocessing(manifest, wrong)),
        ("output_names", _outputs(manifest.output_names, benchmark)),
        ("claimed_metrics", _claims(manifest, benchmark)),
        ("submitted_date", _date(manifest.submitted_date, today)),
        ("files", _files(manifest)),
        ("reproduction", _reproduction(manifest)),
        # Before they are submitted, files need not be listed.
        ("ensemble", _ensemble(manifest) if with_artifact or manifest.files else ()),
        ("training_data", _training(manifest.training_data, with_digest=with_artifact)),
    ):
        if f"{ROOT}.{field}" not in wrong:
            errors += (error for error in further if error.metadata["field"] not in wrong)
    return sorted(errors, key=lambda error: _POSITIONS[_top(error)])


def refusal(problems: Sequence[CxrevalError]) -> CxrevalError:
    """Returns the first problem, with the others in its `also`."""
    first = problems[0]
    first.also = tuple(problems[1:])
    return first


def _top(error: CxrevalError) -> str:
    """Returns the top-level field that an error is about."""
    return error.metadata["field"].removeprefix(f"{ROOT}.").partition(".")[0].partition("[")[0]


def _record(record: Any, path: str) -> Iterator[CxrevalError]:
    """Yields the problems of each field of a dataclass by itself."""
    for field in dataclasses.fields(record):
        name, value, facts = f"{path}.{field.name}", getattr(record, field.name), field.metadata
        if value is None or value in ("", ()):
            if field.default not in (None, "", ()):
                yield required(name, expected(type(record), field.name))
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


def _applies(case: Case, manifest: Manifest) -> bool:
    return all(getattr(manifest, field) in values for field, values in case.when.items()) and all(
        getattr(manifest, field) not in values for field, values in case.unless.items()
    )


def _case(case: Case, manifest: Manifest) -> Iterator[CxrevalError]:
    """Yields the problems of a case: of the manifest's kind, format or architecture."""
    lacking = [field for field in case.required if not getattr(manifest, field)]
    if case.one_of and not any(getattr(manifest, field) for field in case.one_of):
        lacking.append(case.one_of[0])
    for field in lacking:
        yield required(f"{ROOT}.{field}", expected(Manifest, field), case.name)
    for field in case.forbidden:
        if getattr(manifest, field):
            yield not_allowed(f"{ROOT}.{field}", case.name)
    for field, values in case.only.items():
        value = getattr(manifest, field)
        if isinstance(value, Preprocessing):
            value = value.name
        if value and value not in values:
            yield field_error(f"{ROOT}.{field}", value, f"{' or '.join(values)} for {case.name}")


def _digests(manifest: Manifest) -> Iterator[CxrevalError]:
    """Yields an error for each file without its digest."""
    if not manifest.artifact_sha256:
        kind = f"kind {manifest.kind}"
        yield required(f"{ROOT}.artifact_sha256", "the sha256 of the file", kind)
    for index, file in enumerate(manifest.files[:MAX_FILES]):
        if not file.sha256:
            yield required(f"{ROOT}.files[{index}].sha256", "the sha256 of the file")


def _preprocessing(manifest: Manifest, wrong: Collection[str]) -> Iterator[CxrevalError]:
    """Yields contradictions; those between steps only if none of the fields in `wrong` is one."""
    field, steps = f"{ROOT}.preprocessing", manifest.preprocessing
    if steps and manifest.preprocessing_profile:
        rule = "either a preset or steps"
        message = f"{field} and {field}_profile are both given; expected {rule}"
        yield MalformedField(message, field=field, expected=rule)
    elif steps and not any(name.startswith(f"{field}.") for name in wrong):
        yield from preprocessing_problems(steps, field)


def _reproduction(manifest: Manifest) -> Iterator[CxrevalError]:
    """Yields contradictions between the source bundle and what is run from it."""
    field, given = f"{ROOT}.reproduction", manifest.reproduction
    if not given:
        return
    context, is_script = f"kind {manifest.kind}", manifest.kind is Kind.SCRIPT
    if given.bundle_sha256 and (is_script or manifest.kind is Kind.CLAIM):
        yield not_allowed(f"{field}.bundle_sha256", context)
    # `cxreval submit` fills in the digest of the source bundle: an entry point alone announces one.
    if not given.entry_point and (is_script or given.bundle_sha256):
        where = context if is_script else "a source bundle"
        yield required(f"{field}.entry_point", expected(Reproduction, "entry_point"), where)
    for name in ("lock", "wheelhouse_sha256"):
        if getattr(given, name) and not given.entry_point:
            yield not_allowed(f"{field}.{name}", "a reproduction without entry_point")
    if given.entry_point and not given.commit.strip("0"):
        rule = "the commit that the source bundle holds"
        yield field_error(f"{field}.commit", given.commit, rule, CommitNotFrozen)


def _files(manifest: Manifest) -> Iterator[CxrevalError]:
    """Yields an error for each name that an earlier file has, and one if no file is a model."""
    field, seen = f"{ROOT}.files", set()
    for index, file in enumerate(manifest.files):
        name = file.name.lower()  # some file systems do not tell case apart
        if name in seen:
            rule = "names that differ in more than case"
            yield field_error(f"{field}[{index}].name", file.name, rule)
        seen.add(name)
    if manifest.files and not _models(manifest):
        yield field_error(field, "a list without a model", "at least one name that ends in .onnx")


def _ensemble(manifest: Manifest) -> Iterator[CxrevalError]:
    """Yields an error unless exactly the manifests with several models say how they become one."""
    field, models = f"{ROOT}.ensemble", _models(manifest)
    if models > 1 and not manifest.ensemble:
        context = f"files with {models} names that end in .onnx"
        yield required(field, expected(Manifest, "ensemble"), context)
    if models < 2 and manifest.ensemble:
        yield not_allowed(field, "fewer than two files whose names end in .onnx")


def _training(data: TrainingData | None, *, with_digest: bool) -> Iterator[CxrevalError]:
    """Yields an error unless exactly the uses with a list have its digest and may have a salt."""
    if data is None or not data.uses:
        return
    field, context = f"{ROOT}.training_data", f"uses {data.uses}"
    if data.uses in LISTED:
        if with_digest and not data.list_sha256:
            yield required(f"{field}.list_sha256", "the sha256 of the training list", context)
        return
    for name in ("list_sha256", "salt"):
        if getattr(data, name):
            yield not_allowed(f"{field}.{name}", context)


def _models(manifest: Manifest) -> int:
    return sum(file.name.lower().endswith(".onnx") for file in manifest.files)


def _outputs(names: tuple[str, ...], benchmark: BenchmarkSpec | None) -> Iterator[CxrevalError]:
    """Yields problems unless the names hold a finding and none twice or with a typing error.

    Kinds without names are skipped.
    """
    if not names or not benchmark:
        return
    field, findings = f"{ROOT}.output_names", benchmark.findings
    counts = Counter(names)
    missing = [finding for finding in findings if not counts[finding]]
    meant = _meant([name for name in counts if name and name not in findings], missing)
    for index, name in enumerate(names):
        if name in meant:
            allowed = f"{meant[name]!r}, or '' for a column to ignore"
            yield field_error(f"{field}[{index}]", name, allowed, UnknownFinding)
    repeated = ", ".join(finding for finding in findings if counts[finding] > 1)
    if repeated:
        yield _incomplete(f"has findings repeated: {shown(repeated)}")
    elif len(missing) == len(findings) and not meant:
        yield _incomplete(f"has none of the findings {shown(', '.join(missing))}")


def _incomplete(problem: str) -> OutputsIncomplete:
    field, rule = f"{ROOT}.output_names", "findings of the benchmark, at least one and none twice"
    return OutputsIncomplete(f"{field} {problem}; expected {rule}", field=field, expected=rule)


def _meant(unknown: Sequence[str], missing: Sequence[str]) -> dict[str, str]:
    """Returns the missing finding that each unknown name spells differently.

    It differs in case and separators, or little enough for a typing error. With too many names to
    compare each pair, typing errors are not looked for.
    """
    spelled = {_spelling(finding): finding for finding in missing}
    few = len(unknown) * len(missing) <= _MAX_COMPARED
    meant = {}
    for name in unknown:
        word = _spelling(name)
        close = get_close_matches(word, spelled, 1, _CLOSE) if few else []
        if word in spelled or close:
            meant[name] = spelled[word if word in spelled else close[0]]
    return meant


def _spelling(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).casefold()


def _finding(field: str, name: str, findings: Sequence[str]) -> Iterator[CxrevalError]:
    if name in findings:
        return
    by_spelling = {finding.replace("_", " ").lower(): finding for finding in findings}
    meant = by_spelling.get(name.replace("_", " ").lower())
    allowed = f"{meant!r}" if meant else f"empty, or one of {', '.join(findings)}"
    yield field_error(field, name, allowed, UnknownFinding)


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
        ranking = f"{benchmark.ranking_metric} without a finding, by which the board ranks"
        yield required(f"{ROOT}.claimed_metrics", ranking, "kind claim")


def _claim(field: str, claim: ClaimedMetric, benchmark: BenchmarkSpec) -> Iterator[CxrevalError]:
    if claim.metric not in benchmark.metric_names:
        expected = f"one of {', '.join(benchmark.metric_names)}"
        yield field_error(f"{field}.metric", claim.metric, expected, UnknownMetric)
    if claim.finding:
        yield from _finding(f"{field}.finding", claim.finding, benchmark.findings)


def _date(submitted: str, today: date) -> Iterator[CxrevalError]:
    if not submitted:
        return
    field = f"{ROOT}.submitted_date"
    allowed = "a date YYYY-MM-DD or YYYY-MM that is not in the future (UTC)"
    try:
        latest_day(submitted)
    except MalformedField:
        yield field_error(field, submitted, allowed)
        return
    # ISO dates sort as text; a month is compared with the current month.
    if submitted > today.isoformat()[: len(submitted)]:
        yield field_error(field, submitted, allowed, today=today.isoformat())
