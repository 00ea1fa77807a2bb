"""Checks of fields: errors say what is wrong and what to do, addresses have one form."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxreval.cli.output import moment
from cxreval.errors import MalformedField, MissingField
from cxreval.fields import (
    check_sha256,
    not_allowed,
    read_time,
    required,
    split_host_port,
    with_port,
)
from cxreval.manifest.document import parse_document
from cxreval.manifest.model import CheckpointFormat, ClaimedMetric, Kind, Manifest, SourceKind
from cxreval.manifest.rules import problems

TODAY = date(2026, 7, 1)
CLAIM = Manifest(
    kind=Kind.CLAIM,
    model="CheXNet",
    organisation="Stanford",
    open_source=True,
    source_kind=SourceKind.RESEARCH_PAPER,
    contact="me@example.org",
    source_url="https://example.org/paper",
    claimed_metrics=(ClaimedMetric("auroc", 0.8),),
)


def test_required_and_not_allowed_fields_say_what_to_do() -> None:
    error = required("manifest.model", "a name", "kind claim")
    assert isinstance(error, MissingField)
    assert error.message == "manifest.model is required for kind claim: a name"
    assert error.metadata == {"field": "manifest.model", "expected": "a name"}
    refused = not_allowed("manifest.format", "kind claim")
    assert isinstance(refused, MalformedField)
    assert refused.message == "manifest.format is not allowed for kind claim; remove it"
    assert set(refused.metadata) == {"field", "value", "expected"}


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (
            replace(CLAIM, format=CheckpointFormat.ONNX),
            "manifest.format is not allowed for kind claim; remove it",
        ),
        (
            replace(CLAIM, model=""),
            "manifest.model is required: a name of 1 to 100 printable characters",
        ),
        (
            replace(CLAIM, kind=None),
            "manifest.kind is required: one of checkpoint, endpoint, predictions, claim, script",
        ),
        (replace(CLAIM, contact=""), "manifest.contact is required: an e-mail address"),
        (
            replace(CLAIM, source_url=""),
            "manifest.source_url is required for kind claim: an address https://...",
        ),
        (
            replace(CLAIM, claimed_metrics=()),
            (
                "manifest.claimed_metrics is required for kind claim: "
                "values of metrics that the submitter claims"
            ),
        ),
    ],
)
def test_problems_of_a_manifest_are_plain_sentences(manifest: Manifest, message: str) -> None:
    assert message in [error.message for error in problems(manifest, TODAY, None)]


def test_a_flag_that_is_missing_in_a_file_is_required() -> None:
    found = parse_document("kind: claim\n", "model.yaml", TODAY, None).problems
    assert "manifest.open_source is required: true or false" in [error.message for error in found]


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("registry:50051", ("registry", 50051)),
        ("my_registry.example.org.:1", ("my_registry.example.org.", 1)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_an_address_is_a_host_and_a_port(address: str, parts: tuple[str, int]) -> None:
    assert split_host_port(address) == parts


@pytest.mark.parametrize(
    "address", ["", "host", "host:", ":1", "host:65536", "host:01", "::1:1", "ho st:1", "a/b:1"]
)
def test_another_form_of_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="is not host:port"):
        split_host_port(address)


@pytest.mark.parametrize(
    ("value", "error"),
    [("", MissingField), ("A" * 64, MalformedField), ("a" * 63, MalformedField)],
)
def test_a_digest_is_64_lower_case_hex_characters(value: str, error: type[Exception]) -> None:
    with pytest.raises(error, match="64 lower-case hex characters"):
        check_sha256("sha256", value)


@pytest.mark.parametrize("listen", ["[::1]:0", "127.0.0.1:0", "localhost:0", "[::]:50051"])
def test_an_address_with_another_port_is_an_address(listen: str) -> None:
    host, _ = split_host_port(listen)
    assert split_host_port(with_port(listen, 25020)) == (host, 25020)


SECOND = datetime(2026, 11, 29, 7, 5, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-29T07:05:30Z", SECOND),
        ("2026-11-29t07:05:30z", SECOND),
        ("2026-11-29 07:05:30Z", SECOND),
        ("2026-11-29T07:05:30", SECOND),
        ("2026-11-29T07:05:30+00:00", SECOND),
        ("2026-11-29T07:05:30-00:00", SECOND),
        ("2026-11-29T09:35:30+02:30", SECOND),
        ("2026-11-29T07:05:30.25Z", SECOND + timedelta(milliseconds=250)),
        ("2026-11-29T07:05:30.123456789Z", SECOND + timedelta(microseconds=123456)),
        ("2026-11-29", datetime(2026, 11, 29, 23, 59, 59, 999999, tzinfo=UTC)),
        ("0001-01-01", datetime(1, 1, 1, 23, 59, 59, 999999, tzinfo=UTC)),
    ],
)
def test_times_of_rfc_3339_and_dates_are_read(text: str, expected: datetime) -> None:
    assert read_time("--as-of", text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2026-11", "2026-02-30", "2026-11-29T07:05", "2026-11-29T24:00:01Z",
     "2026-11-29T07:05:60Z", "20261129T070530Z", "2026-W48-7", "2026-11-29T07:05:30+0000",
     "0001-01-01T00:00:00+05:00", "2026-11-29T07:05:30Z\n", "\u0662026-11-29",
     "2026-11-29T07:05:30,5Z", "1764399930"],
)  # fmt: skip
def test_other_times_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(MalformedField, match=r"--as-of is .* such as 2026-11-29T07:05:30Z"):
        read_time("--as-of", text)


@given(
    st.datetimes(
        datetime(2, 1, 1), datetime(9998, 12, 31),  # noqa: DTZ001 -- hypothesis adds the zone
        timezones=st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m))),
    )
)  # fmt: skip
def test_what_json_and_text_print_is_read_as_the_same_time(time: datetime) -> None:
    assert read_time("--as-of", time.isoformat()) == time
    assert read_time("--as-of", moment(time)) == time.replace(microsecond=0)
