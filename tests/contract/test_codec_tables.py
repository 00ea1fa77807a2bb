"""No field of a record or a message can be left out of a conversion without a check that fails."""

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
from cxreval.metrics.ranking import Comparison
from cxreval.metrics.report import Report
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
    """Every codec that the product makes at import, those that it plans for nested records too."""
    for name in MODULES:
        importlib.import_module(name)
    found = [one for one in gc.get_objects() if type(one) in (Encoder, Decoder)]
    return [one for one in found if not one.record.__module__.startswith("tests.")]


CODECS = product_codecs()


def title(codec: Codec) -> str:
    return f"{type(codec).__name__} of {codec.record.__name__} and {codec.message.DESCRIPTOR.name}"


def without(record: type, name: str) -> type:
    """The record without a field."""
    hints = typing.get_type_hints(record)
    fields = [
        (field.name, hints[field.name])
        for field in dataclasses.fields(record)
        if field.name != name
    ]
    properties = {key: value for key, value in vars(record).items() if isinstance(value, property)}
    return dataclasses.make_dataclass(record.__name__, fields, namespace=properties)


def files(file: FileDescriptor) -> Iterator[FileDescriptor]:
    """The files that a file imports, then itself."""
    for other in file.dependencies:
        yield from files(other)
    yield file


def message_without(message: type, name: str) -> type:
    """The message type without a field, in a descriptor pool of its own."""
    pool, known = descriptor_pool.DescriptorPool(), set()
    for file in files(message.DESCRIPTOR.file):
        if file.name in known:
            continue
        known.add(file.name)
        proto = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(proto)
        if file.name == message.DESCRIPTOR.file.name:
            remove(proto, message.DESCRIPTOR.name, name)
        pool.Add(proto)
    return GetMessageClass(pool.FindMessageTypeByName(message.DESCRIPTOR.full_name))


def remove(file: descriptor_pb2.FileDescriptorProto, message: str, name: str) -> None:
    (proto,) = (one for one in file.message_type if one.name == message)
    for field in list(proto.field):
        if field.name == name:
            proto.field.remove(field)
        elif field.proto3_optional:  # each has a oneof of its own, which would be numbered anew
            field.proto3_optional = False
    for field in proto.field:
        field.ClearField("oneof_index")
    del proto.oneof_decl[:]


def test_the_product_converts_its_records_with_codecs():
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
def test_a_codec_is_not_made_without_a_field_of_its_record(codec):
    for field in dataclasses.fields(codec.record):
        if isinstance(codec, Encoder) and field.name in codec.computed:
            continue  # its function reads what it wants; the mutations below show that it does
        with pytest.raises(TypeError, match=rf"field {field.name} |{field.name}$"):
            dataclasses.replace(codec, record=without(codec.record, field.name))


@pytest.mark.parametrize("codec", CODECS, ids=title)
def test_a_codec_is_not_made_without_a_field_of_its_message(codec):
    for field in codec.message.DESCRIPTOR.fields:
        if isinstance(codec, Decoder) and field.name in codec.computed:
            continue
        with pytest.raises(TypeError, match=rf"field {field.name} |{field.name}$"):
            dataclasses.replace(codec, message=message_without(codec.message, field.name))


# --- mutations ------------------------------------------------------------------------------------


def check_every_conversion() -> None:
    """The checks of tests/unit/test_codec.py, each with a record that has no empty field."""
    for encode, decode, kind in test_codec.SHARED:
        test_codec.check_arrives(encode, decode, sample(kind))
    for check, record in (
        (test_codec.test_a_specification_arrives_as_it_was_sent,
         sample(BenchmarkSpec, name="small")),
        (test_codec.test_a_report_arrives_with_its_evidence, sample(Report)),
        (test_codec.test_a_submission_is_shown_as_it_is_kept, submission()),
        (test_codec.test_an_event_is_shown_as_it_is_kept, sample(domain.Event)),
        (test_codec.test_a_receipt_arrives_as_it_was_signed, sample(Receipt)),
        (test_codec.test_an_evaluation_is_shown_as_it_is_kept, evaluation()),
        (test_codec.test_a_lease_arrives_with_what_is_to_be_run, lease()),
        (test_codec.test_a_row_of_the_board_is_shown_as_it_is_ranked, row()),
        (test_codec.test_a_comparison_names_the_submissions, compared()),
        (test_codec.test_a_key_is_shown_as_it_is_kept,
         sample(access.ApiKey, id=test_codec.ID[:16], organisation="small")),
        (test_codec.test_a_link_of_the_audit_chain_has_the_same_digest_at_the_reader, link()),
    ):  # fmt: skip
        check.hypothesis.inner_test(record)
    test_codec.test_an_organisation_and_its_quota_are_shown_as_they_are_kept.hypothesis.inner_test(
        sample(access.Organisation, id="small"), sample(access.Usage)
    )
    test_codec.test_a_specification_from_before_ranking_metrics_ranks_by_its_first_metric()


def submission() -> domain.Submission:
    fixed = dict.fromkeys(("id", "evaluation", "superseded_by"), test_codec.ID)
    return sample(domain.Submission, benchmark="small", state=SubmissionState.DISPUTED, **fixed)


def row() -> board.Row:
    ranked_row = sample(board.RankedRow, kind=Kind.CHECKPOINT)
    return sample(board.Row, ranked_row=ranked_row, submission=submission())


def evaluation() -> domain.Evaluation:
    return sample(domain.Evaluation, benchmark="small", submission=test_codec.ID, id=test_codec.ID)


def lease() -> domain.Lease:
    benchmark = domain.Benchmark(small_spec("small"), NOON)
    return sample(
        domain.Lease, evaluation=evaluation(), submission=submission(), benchmark=benchmark
    )


def compared() -> board.Compared:
    pair = sample(Comparison, first=test_codec.ID, second=test_codec.ID)
    return board.Compared([pair], {test_codec.ID: (0.25, 0.75)}, 3)


def link() -> AuditEvent:
    time = NOON.isoformat(timespec="microseconds")
    return sample(AuditEvent, change="lease_expired", state="awaiting_artifact", time=time)


def test_every_conversion_is_right():
    check_every_conversion()


def fails() -> bool:
    try:
        check_every_conversion()
    except Exception:  # noqa: BLE001 - an error is as good as a difference
        return True
    return False


@pytest.mark.parametrize("codec", CODECS, ids=title)
def test_a_field_that_is_left_out_of_a_conversion_fails_a_check(codec, monkeypatch):
    """Leaves out each converted field, one at a time, as a forgotten line would."""
    values, empty = codec._values, codec.message()
    names = codec._names if isinstance(codec, Encoder) else list(decoded(codec).values())
    check_every_conversion()
    survivors = []
    for index, name in enumerate(names):
        nothing = None if isinstance(codec, Encoder) else attrgetter(name)(empty)
        with monkeypatch.context() as patch:
            patch.setattr(codec, "_values", left_out(values, index, nothing))
            survivors += [] if fails() else [name]
    for index, (name, _) in enumerate(codec._computed):
        rest = list(codec._computed)
        rest[index] = (name, lambda _: None)
        with monkeypatch.context() as patch:
            patch.setattr(codec, "_computed", rest)
            survivors += [] if fails() else [name]
    assert survivors == []


def decoded(codec: Decoder[Any, Any]) -> dict[str, str]:
    names = [field.name for field in dataclasses.fields(codec.record)]
    return {name: codec.sources.get(name, name) for name in names if name not in codec.computed}


def left_out(values: Any, index: int, nothing: Any) -> Any:
    return lambda source: [
        nothing if place == index else value for place, value in enumerate(values(source))
    ]


@pytest.mark.parametrize("codec", CODECS, ids=title)
def test_an_entry_that_is_removed_from_a_table_fails_a_check(codec, monkeypatch):
    """The codec is not made at all, or what it converts is wrong."""
    check_every_conversion()
    survivors = []
    for table in ("sources", "computed", "unsent", "unset", "unread"):
        for entry in getattr(codec, table, ()):
            old = getattr(codec, table)
            rest = (
                {name: value for name, value in old.items() if name != entry}
                if isinstance(old, Mapping)
                else [one for one in old if one != entry]
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
