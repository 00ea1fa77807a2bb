"""Every rule of a manifest: what breaks it, under which reason, at which field."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxreval.datasets.benchmark import FINDINGS
from cxreval.errors import (
    CommitNotFrozen,
    CxrevalError,
    MalformedField,
    MissingField,
    OutputsIncomplete,
    UnknownFinding,
    UnknownMetric,
    UnknownProfile,
)
from cxreval.wire.status import to_status
from services.registry import convert
from services.registry.domain.manifest import MAX_DEPENDENCIES, MAX_OUTPUTS, check_manifest
from services.registry.domain.records import ClaimedMetric, Environment, Manifest, Reproduction, SourceKind
from tests.support.registry import COMMIT, manifest_message, small_spec

TODAY = date(2026, 3, 15)
SPEC = small_spec("small")
GOOD = convert.manifest(manifest_message(b"artifact"))
HOW = Reproduction("https://example.org/repository", COMMIT, 7)


def claim(*values: tuple[str, str, float]) -> Manifest:
    return replace(GOOD, claimed_metrics=tuple(ClaimedMetric(*value) for value in values))


def outputs(*names: str) -> Manifest:
    return replace(GOOD, output_names=names)


def dependencies(*names: str) -> Manifest:
    return replace(GOOD, environment=Environment("3.11", names))


BROKEN: list[tuple[Manifest, type[CxrevalError], str]] = [
    (replace(GOOD, model=""), MissingField, "manifest.model"),
    (replace(GOOD, model="m" * 101), MalformedField, "manifest.model"),
    (replace(GOOD, model="two\nlines"), MalformedField, "manifest.model"),
    (replace(GOOD, model=" padded "), MalformedField, "manifest.model"),
    (replace(GOOD, model="right-to-left \u202e override"), MalformedField, "manifest.model"),
    (replace(GOOD, organisation=""), MissingField, "manifest.organisation"),
    (replace(GOOD, organisation="o" * 101), MalformedField, "manifest.organisation"),
    (replace(GOOD, source_url="http://example.org"), MalformedField, "manifest.source_url"),
    (replace(GOOD, contact=""), MissingField, "manifest.contact"),
    (replace(GOOD, contact="somebody"), MalformedField, "manifest.contact"),
    (replace(GOOD, contact="some body@example.org"), MalformedField, "manifest.contact"),
    (replace(GOOD, contact="somebody@localhost"), MalformedField, "manifest.contact"),
    (replace(GOOD, reproduction=Reproduction()), MissingField, "manifest.reproduction.repository"),
    (
        replace(GOOD, reproduction=replace(HOW, repository="git@example.org:repository")),
        MalformedField,
        "manifest.reproduction.repository",
    ),
    (
        replace(GOOD, reproduction=replace(HOW, repository="https://name:password@example.org/")),
        MalformedField,
        "manifest.reproduction.repository",
    ),
    (
        replace(GOOD, reproduction=replace(HOW, repository="https://example.org:port/")),
        MalformedField,
        "manifest.reproduction.repository",
    ),
    (replace(GOOD, reproduction=replace(HOW, commit="")), MissingField, "manifest.reproduction.commit"),
    (replace(GOOD, reproduction=replace(HOW, commit="main")), CommitNotFrozen, "manifest.reproduction.commit"),
    (replace(GOOD, reproduction=replace(HOW, commit="v1.0")), CommitNotFrozen, "manifest.reproduction.commit"),
    (replace(GOOD, reproduction=replace(HOW, commit=COMMIT[:7])), CommitNotFrozen, "manifest.reproduction.commit"),
    (replace(GOOD, reproduction=replace(HOW, commit=COMMIT.upper())), CommitNotFrozen, "manifest.reproduction.commit"),
    (replace(GOOD, reproduction=replace(HOW, commit=f"{COMMIT}\n")), CommitNotFrozen, "manifest.reproduction.commit"),
    (replace(GOOD, reproduction=replace(HOW, script="s" * 1001)), MalformedField, "manifest.reproduction.script"),
    (replace(GOOD, environment=Environment("")), MissingField, "manifest.environment.python_version"),
    (replace(GOOD, environment=Environment("latest")), MalformedField, "manifest.environment.python_version"),
    (dependencies("torch>=2"), MalformedField, "manifest.environment.dependencies[0]"),
    (dependencies("torch==2.13.0", "numpy"), MalformedField, "manifest.environment.dependencies[1]"),
    (dependencies("torch==2.*"), MalformedField, "manifest.environment.dependencies[0]"),
    (dependencies(*["a==1"] * (MAX_DEPENDENCIES + 1)), MalformedField, "manifest.environment.dependencies"),
    (replace(GOOD, preprocessing_profile=""), MissingField, "manifest.preprocessing_profile"),
    (replace(GOOD, preprocessing_profile="xrv-999"), UnknownProfile, "manifest.preprocessing_profile"),
    (outputs(*FINDINGS, "Fracture"), UnknownFinding, "manifest.output_names[14]"),
    (outputs(*FINDINGS[:-1]), OutputsIncomplete, "manifest.output_names"),
    (outputs(*FINDINGS, "Mass"), OutputsIncomplete, "manifest.output_names"),
    (outputs(), OutputsIncomplete, "manifest.output_names"),
    (outputs(*FINDINGS, *[""] * MAX_OUTPUTS), MalformedField, "manifest.output_names"),
    (claim(("accuracy", "", 0.5)), UnknownMetric, "manifest.claimed_metrics[0].metric"),
    (claim(("auroc", "", 0.5), ("auroc", "Fracture", 0.5)), UnknownFinding, "manifest.claimed_metrics[1].finding"),
    (claim(("auroc", "", 84.1)), MalformedField, "manifest.claimed_metrics[0].value"),
    (claim(("auroc", "", float("nan"))), MalformedField, "manifest.claimed_metrics[0].value"),
    (claim(("auroc", "", float("inf"))), MalformedField, "manifest.claimed_metrics[0].value"),
    (claim(("auroc", "Mass", 0.5), ("auroc", "Mass", 0.6)), MalformedField, "manifest.claimed_metrics[1]"),
    (replace(GOOD, artifact_sha256=""), MissingField, "manifest.artifact_sha256"),
    (replace(GOOD, artifact_sha256="A" * 64), MalformedField, "manifest.artifact_sha256"),
    (replace(GOOD, submitted_date="Dec 2025"), MalformedField, "manifest.submitted_date"),
    (replace(GOOD, submitted_date="2025-02-30"), MalformedField, "manifest.submitted_date"),
    (replace(GOOD, submitted_date="2026-03-16"), MalformedField, "manifest.submitted_date"),
    (replace(GOOD, submitted_date="2026-04"), MalformedField, "manifest.submitted_date"),
]


@pytest.mark.parametrize(("manifest", "kind", "field"), BROKEN)
def test_broken_rule_is_named_with_its_field(manifest: Manifest, kind: type[CxrevalError], field: str) -> None:
    with pytest.raises(kind) as caught:
        check_manifest(manifest, SPEC, TODAY)
    assert type(caught.value) is kind
    assert caught.value.metadata["field"] == field
    assert field in caught.value.message
    assert caught.value.metadata["expected"]


@pytest.mark.parametrize(
    "manifest",
    [
        GOOD,
        replace(GOOD, model="Modèle 胸部 X線", source_url="", claimed_metrics=(), submitted_date=""),
        replace(GOOD, submitted_date="2026-03"),
        replace(GOOD, submitted_date=TODAY.isoformat()),
        replace(GOOD, source_kind=SourceKind.MODEL_CARD, environment=Environment("3.12.0rc1")),
        dependencies("torch==2.13.0+cpu", "uvicorn[standard]==0.30", "a==1!2.0.post1", "zope.interface==7.0"),
        outputs("", *reversed(FINDINGS), "", ""),
        claim(("auroc", "", 0.0), ("auroc", "Hernia", 1.0)),
    ],
)
def test_manifest_without_fault_is_accepted(manifest: Manifest) -> None:
    check_manifest(manifest, SPEC, TODAY)


def test_commit_refusal_says_that_branches_move() -> None:
    with pytest.raises(CommitNotFrozen, match="a branch or tag can move"):
        check_manifest(replace(GOOD, reproduction=replace(HOW, commit="main")), SPEC, TODAY)


@pytest.mark.parametrize("spelling", ["Pleural Thickening", "pleural_thickening", "PLEURAL THICKENING"])
def test_other_spelling_of_a_finding_gets_the_right_one_suggested(spelling: str) -> None:
    with pytest.raises(UnknownFinding) as caught:
        check_manifest(outputs(*FINDINGS, spelling), SPEC, TODAY)
    assert caught.value.metadata["expected"] == "'Pleural_Thickening'"


def test_unknown_profile_lists_the_known_ones() -> None:
    with pytest.raises(UnknownProfile, match="imagenet-224, imagenet-224-tencrop, xrv-224, xrv-512"):
        check_manifest(replace(GOOD, preprocessing_profile="xrv-1024"), SPEC, TODAY)


@given(st.lists(st.sampled_from((*FINDINGS, "")), max_size=30))
def test_outputs_are_accepted_exactly_when_each_finding_is_there_once(names: list[str]) -> None:
    complete = all(names.count(finding) == 1 for finding in FINDINGS)
    try:
        check_manifest(outputs(*names), SPEC, TODAY)
    except OutputsIncomplete as error:
        assert not complete
        named = {name for key in ("missing", "repeated") for name in error.metadata.get(key, "").split(", ") if name}
        assert named == {finding for finding in FINDINGS if names.count(finding) != 1}
    else:
        assert complete


@given(st.permutations(FINDINGS), st.integers(0, 14), st.integers(0, 5))
def test_any_order_of_the_findings_with_ignored_columns_is_accepted(names: list[str], at: int, ignored: int) -> None:
    check_manifest(outputs(*names[:at], *[""] * ignored, *names[at:]), SPEC, TODAY)


@given(st.text(max_size=60))
def test_commit_is_accepted_exactly_when_it_is_40_lower_case_hex(commit: str) -> None:
    frozen = len(commit) == 40 and set(commit) <= set("0123456789abcdef")
    manifest = replace(GOOD, reproduction=replace(HOW, commit=commit))
    if frozen:
        check_manifest(manifest, SPEC, TODAY)
    else:
        with pytest.raises((CommitNotFrozen, MissingField)):
            check_manifest(manifest, SPEC, TODAY)


@given(st.dates(date(1990, 1, 1), TODAY + timedelta(days=4000)))
def test_date_is_accepted_exactly_when_it_is_not_in_the_future(submitted: date) -> None:
    manifest = replace(GOOD, submitted_date=submitted.isoformat())
    if submitted <= TODAY:
        check_manifest(manifest, SPEC, TODAY)
    else:
        with pytest.raises(MalformedField):
            check_manifest(manifest, SPEC, TODAY)


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_claim_is_accepted_exactly_when_it_is_a_share(value: float) -> None:
    if 0 <= value <= 1:
        check_manifest(claim(("auroc", "", value)), SPEC, TODAY)
    else:
        with pytest.raises(MalformedField):
            check_manifest(claim(("auroc", "", value)), SPEC, TODAY)


TEXT = st.text(max_size=300) | st.text("abc@./:=-1", max_size=300)


@given(TEXT, TEXT, TEXT, TEXT, TEXT, TEXT)
def test_any_text_is_accepted_or_refused_by_name_with_details_that_fit_into_metadata(
    model: str, url: str, contact: str, commit: str, dependency: str, submitted: str
) -> None:
    manifest = replace(
        GOOD,
        model=model,
        source_url=url,
        contact=contact,
        reproduction=Reproduction(url, commit),
        environment=Environment("3.11", (dependency,)),
        submitted_date=submitted,
    )
    try:
        check_manifest(manifest, SPEC, datetime.now(UTC).date())
    except CxrevalError as error:
        details = to_status(error)[2]
    else:
        details = b""
    assert len(details) < 4000
