"""A field that is left out of a conversion makes a check fail, whichever field it is."""

from __future__ import annotations

import dataclasses
import gc
import importlib
import typing
from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message_factory import GetMessageClass

from cxreval.audit.chain import AuditEvent
from cxreval.audit.receipts import Receipt
from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.manifest.model import Kind
from cxreval.metrics.finding_comparison import FindingComparison
from cxreval.metrics.ranking import Comparison
from cxreval.metrics.report import Contamination, MetricValue, Report
from cxreval.records import SubmissionState
from cxreval.wire.codec import Decoder, Encoder
from services.registry.domain import access, board
from services.registry.domain import records as domain
from tests.support.records import NOON, sample
from tests.support.registry import small_spec
from tests.unit import test_codec

MODULES = (
    "cxreval.client._messages",
    "cxreval.wire.benchmarks",
    "cxreval.wire.rankings",
    "cxreval.wire.reports",
    "services.registry.convert.admin",
    "services.registry.convert.audit",
    "services.registry.convert.evaluations",
    "services.registry.convert.leaderboard",
    "services.registry.convert.submissions",
)
Codec = Encoder[Any, Any] | Decoder[Any, Any]


def product_codecs() -> list[Codec]:
    """Returns every codec that the product creates at import, also those of nested records."""
    for name in MODULES:
        importlib.import_module(name)
    codecs = [item for item in gc.get_objects() if type(item) in (Encoder, Decoder)]
    return [codec for codec in codecs if not codec.record.__module__.startswith("tests.")]


def title(codec: Codec) -> str:
    return f"{type(codec).__name__} of {codec.record.__name__} and {codec.message.DESCRIPTOR.name}"


# The garbage collector lists objects in another order in each process of a parallel run.
CODECS = sorted(product_codecs(), key=title)


def without(record: type, name: str) -> type:
    """Returns the record type without a field."""
    hints = typing.get_type_hints(record)
    fields = [
        (field.name, hints[field.name])
        for field in dataclasses.fields(record)
        if field.name != name
    ]
    properties = {key: value for key, value in vars(record).items() if isinstance(value, property)}
    return dataclasses.make_dataclass(record.__name__, fields, namespace=properties)


def files(file: FileDescriptor) -> Iterator[FileDescriptor]:
    """Yields the files that a file imports, then the file itself."""
    for other in file.dependencies:
        yield from files(other)
    yield file


def message_without(message: type, name: str) -> type:
    """Returns the message type without a field, in its own descriptor pool."""
    pool, added = descriptor_pool.DescriptorPool(), set()
    for file in files(message.DESCRIPTOR.file):
        if file.name in added:
            continue
        added.add(file.name)
        proto = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(proto)
        if file.name == message.DESCRIPTOR.file.name:
            remove(proto, message.DESCRIPTOR.name, name)
        pool.Add(proto)
    return GetMessageClass(pool.FindMessageTypeByName(message.DESCRIPTOR.full_name))


def remove(file: descriptor_pb2.FileDescriptorProto, message: str, name: str) -> None:
    (proto,) = (item for item in file.message_type if item.name == message)
    for field in list(proto.field):
        if field.name == name:
            proto.field.remove(field)
        elif field.proto3_optional:  # its oneof is removed below, because oneofs are renumbered
            field.proto3_optional = False
    for field in proto.field:
        field.ClearField("oneof_index")
    del proto.oneof_decl[:]


def test_product_has_codecs_for_its_records():
    titles = {title(codec) for codec in CODECS}
    assert len(CODECS) > 40
    for expected in (
        "Encoder of Manifest and Manifest",  # the client's, and in the registry's submissions
        "Decoder of Manifest and Manifest",
        "Encoder of Submission and Submission",
        "Decoder of Submission and Submission",
        "Encoder of Row and LeaderboardEntry",
        "Decoder of LeaderboardEntry and LeaderboardEntry",
        "Encoder of MetricValue and MetricValue",
    ):
        assert expected in titles
    manifests = [codec for codec in CODECS if title(codec).endswith("of Manifest and Manifest")]
    assert len(manifests) == 4


@pytest.mark.parametrize("codec", CODECS, ids=title)
def test_codec_without_a_field_of_its_record_is_an_error(codec):
    for field in dataclasses.fields(codec.record):
        if isinstance(codec, Encoder) and field.name in codec.computed:
            continue  # computed by a function; the mutation tests below check that it is
        with pytest.raises(TypeError, match=rf"field {field.name} |{field.name}$"):
            dataclasses.replace(codec, record=without(codec.record, field.name))


@pytest.mark.parametrize("codec", CODECS, ids=title)
def test_codec_without_a_field_of_its_message_is_an_error(codec):
    for field in codec.message.DESCRIPTOR.fields:
        if isinstance(codec, Decoder) and field.name in codec.computed:
            continue
        with pytest.raises(TypeError, match=rf"field {field.name} |{field.name}$"):
            dataclasses.replace(codec, message=message_without(codec.message, field.name))


# --- mutations ------------------------------------------------------------------------------------


def check_every_conversion() -> None:
    """Runs the checks of tests/unit/test_codec.py, each with a record without empty fields."""
    for encode, decode, kind in test_codec.SHARED:
        test_codec.check_round_trip(encode, decode, sample(kind))
    for check, record in (
        (test_codec.test_specification_is_read_as_it_was_sent, sample(BenchmarkSpec, name="small")),
        (test_codec.test_report_is_read_with_its_evidence, sample(Report)),
        (test_codec.test_client_reads_a_stored_submission, submission()),
        (test_codec.test_client_reads_a_stored_event, sample(domain.Event)),
        (test_codec.test_client_reads_a_signed_receipt, sample(Receipt)),
        (test_codec.test_client_reads_a_stored_evaluation, evaluation()),
        (test_codec.test_worker_reads_a_lease_with_submission_and_benchmark, lease()),
        (test_codec.test_client_reads_a_row_of_the_board, row()),
        (test_codec.test_client_reads_a_row_of_the_board, row(rank=None)),
        (test_codec.test_client_reads_a_row_of_the_board, overlapping_row()),
        (test_codec.test_comparison_has_the_names_of_submissions, compared()),
        (test_codec.test_client_reads_a_stored_key, key()),
        (test_codec.test_client_reads_a_stored_rescore, sample(domain.Rescore)),
        (test_codec.test_client_reads_an_audit_link_with_the_same_digest, link()),
    ):  # fmt: skip
        check.hypothesis.inner_test(record)
    test_codec.test_client_reads_a_stored_organisation_and_its_quota.hypothesis.inner_test(
        sample(access.Organisation, id="small"), sample(access.Usage)
    )
    test_codec.test_specification_without_ranking_metric_ranks_by_its_first_metric()
    test_codec.test_evaluation_of_a_registry_without_purposes_measures()


def submission() -> domain.Submission:
    fixed = dict.fromkeys(("id", "evaluation", "superseded_by"), test_codec.ID)
    return sample(domain.Submission, benchmark="small", state=SubmissionState.DISPUTED, **fixed)


def row(**ranked: bool | None) -> board.Row:
    ranked_row = sample(board.RankedRow, kind=Kind.CHECKPOINT)
    ranked_row = dataclasses.replace(
        ranked_row, ranked=dataclasses.replace(ranked_row.ranked, **ranked)
    )
    return sample(board.Row, ranked_row=ranked_row, submission=submission())


def overlapping_row() -> board.Row:
    """Returns a row of the board of all findings, with its score on the clean remainder."""
    score = sample(MetricValue, finding="", value=0.75)
    contamination = sample(Contamination, clean_metrics=(score,))
    found = row(not_counted=True)
    return dataclasses.replace(
        found,
        ranked_row=dataclasses.replace(found.ranked_row, figure=None),
        figures=dataclasses.replace(found.figures, contamination=contamination),
        score=score,
    )


def evaluation() -> domain.Evaluation:
    return sample(domain.Evaluation, benchmark="small", submission=test_codec.ID, id=test_codec.ID)


def lease() -> domain.Lease:
    benchmark = domain.Benchmark(small_spec("small"), NOON)
    return sample(
        domain.Lease, evaluation=evaluation(), submission=submission(), benchmark=benchmark
    )


def compared() -> board.Compared:
    pair = sample(Comparison, first=test_codec.ID, second=test_codec.ID)
    named = {"first": test_codec.ID, "second": test_codec.ID}
    findings = sample(FindingComparison, comparison=pair, **named)
    return board.Compared([pair], {test_codec.ID: (0.25, 0.75)}, 3, (findings,))


def key() -> access.ApiKey:
    return sample(access.ApiKey, id=test_codec.ID[:16], organisation="small")


def link() -> AuditEvent:
    time = NOON.isoformat(timespec="microseconds")
    return sample(AuditEvent, change="lease_expired", state="awaiting_artifact", time=time)


def test_every_conversion_is_correct():
    check_every_conversion()


def fails() -> bool:
    """Returns whether a check of the conversions fails."""
    try:
        check_every_conversion()
    except Exception:  # noqa: BLE001 - an error is as good as a difference
        return True
    return False


@pytest.mark.parametrize("codec", CODECS, ids=title)
def test_conversion_without_a_field_fails_a_check(codec, monkeypatch):
    """Leaves out each converted field, one at a time."""
    values, empty = codec._values, codec.message()
    names = codec._names if isinstance(codec, Encoder) else list(decoded(codec).values())
    check_every_conversion()
    survivors = []
    for index, name in enumerate(names):
        default = None if isinstance(codec, Encoder) else attrgetter(name)(empty)
        with monkeypatch.context() as patch:
            patch.setattr(codec, "_values", with_value(values, index, default))
            survivors += [] if fails() else [name]
    for index, (name, _) in enumerate(codec._computed):
        rest = list(codec._computed)
        rest[index] = (name, lambda _: None)
        with monkeypatch.context() as patch:
            patch.setattr(codec, "_computed", rest)
            survivors += [] if fails() else [name]
    assert survivors == []


def decoded(codec: Decoder[Any, Any]) -> dict[str, str]:
    """Returns the message's field of each converted field of the record."""
    names = [field.name for field in dataclasses.fields(codec.record)]
    return {name: codec.sources.get(name, name) for name in names if name not in codec.computed}


def with_value(values: Any, changed: int, replacement: Any) -> Any:
    """Returns `values` with a replacement at the index `changed` of its result."""
    return lambda source: [
        replacement if index == changed else value for index, value in enumerate(values(source))
    ]


@pytest.mark.parametrize("codec", CODECS, ids=title)
def test_table_without_an_entry_fails_a_check(codec, monkeypatch):
    """The codec cannot be created, or a check of its conversion fails."""
    check_every_conversion()
    survivors = []
    for table in ("sources", "computed", "unsent", "unset", "unread"):
        for entry in getattr(codec, table, ()):
            entries = getattr(codec, table)
            rest = (
                {name: value for name, value in entries.items() if name != entry}
                if isinstance(entries, Mapping)
                else [other for other in entries if other != entry]
            )
            try:
                mutant = dataclasses.replace(codec, **{table: rest})
            except TypeError:
                continue
            with monkeypatch.context() as patch:
                for name, value in vars(mutant).items():
                    patch.setattr(codec, name, value)
                survivors += [] if fails() else [(table, entry)]
    assert survivors == []
