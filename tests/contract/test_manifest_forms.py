"""A manifest has the same fields and enum values in YAML, JSON Schema and the proto message."""

import dataclasses
import json
import typing
from enum import StrEnum
from types import NoneType

from google.protobuf.descriptor import Descriptor, EnumDescriptor

from cxreval.api.registry.v1 import submission_pb2
from cxreval.manifest.model import Manifest
from tests.conftest import REPOSITORY


def of_yaml(kind):
    """Fields that the YAML reader accepts by dataclass, with their subfields or enum values."""
    found = {}
    for name, hint in typing.get_type_hints(kind).items():
        inner = [one for one in typing.get_args(hint) if one not in (NoneType, Ellipsis)]
        of = inner[0] if inner else hint
        found[name] = (
            of_yaml(of)
            if dataclasses.is_dataclass(of)
            else set(of)
            if issubclass(of, StrEnum)
            else None
        )
    return found


def of_schema(schema):
    found = {}
    for name, value in schema["properties"].items():
        of = value.get("items", value)
        # Profiles and the like are enumerated here only; elsewhere they are text.
        enumerated = name in ("kind", "source_kind", "format")
        found[name] = (
            of_schema(of) if "properties" in of else set(of["enum"]) if enumerated else None
        )
    return found


def of_proto(message: Descriptor):
    return {
        field.name: of_proto(field.message_type)
        if field.message_type
        else words(field.enum_type)
        if field.enum_type
        else None
        for field in message.fields
    }


def words(enum: EnumDescriptor):
    prefix = enum.values[0].name.removesuffix("UNSPECIFIED")
    return {value.name.removeprefix(prefix).lower().replace("_", "-") for value in enum.values[1:]}


def test_yaml_json_schema_and_proto_have_the_same_fields_however_deep():
    fields = of_yaml(Manifest)
    assert fields["reproduction"].keys() == {
        "repository",
        "commit",
        "seed",
        "script",
    }  # nested fields are compared, too
    assert (
        of_schema(json.loads((REPOSITORY / "docs" / "manifest.schema.json").read_text())) == fields
    )
    assert of_proto(submission_pb2.Manifest.DESCRIPTOR) == fields
