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


def yaml_fields(kind):
    """Returns the fields of a dataclass in YAML, with their subfields or enum values."""
    fields = {}
    for name, hint in typing.get_type_hints(kind).items():
        arguments = [item for item in typing.get_args(hint) if item not in (NoneType, Ellipsis)]
        item_type = arguments[0] if arguments else hint
        fields[name] = (
            yaml_fields(item_type)
            if dataclasses.is_dataclass(item_type)
            else set(item_type)
            if issubclass(item_type, StrEnum)
            else None
        )
    return fields


def schema_fields(schema):
    """Returns the fields of an object in JSON Schema, with their subfields or enum values."""
    fields = {}
    for name, value in schema["properties"].items():
        item = value.get("items", value)
        # A record may have a short form, too.
        records = [form for form in (item, *item.get("anyOf", ())) if "properties" in form]
        values = set(item["enum"]) if "enum" in item else None
        fields[name] = schema_fields(records[0]) if records else values
    return fields


def proto_fields(message: Descriptor):
    """Returns the fields of a message, with their subfields or enum values."""
    return {
        field.name: proto_fields(field.message_type)
        if field.message_type
        else spellings(field.enum_type)
        if field.enum_type
        else None
        for field in message.fields
    }


def spellings(enum: EnumDescriptor):
    """Returns the values of an enum as YAML spells them."""
    prefix = enum.values[0].name.removesuffix("UNSPECIFIED")
    names = {value.name.removeprefix(prefix) for value in enum.values[1:]}
    return names if prefix == "LAYOUT_" else {name.lower().replace("_", "-") for name in names}


def test_yaml_json_schema_and_proto_have_the_same_fields_and_subfields():
    fields = yaml_fields(Manifest)
    assert fields["reproduction"].keys() == {
        "repository",
        "commit",
        "seed",
        "script",
        "bundle_sha256",
        "entry_point",
        "lock",
        "wheelhouse_sha256",
    }  # nested fields are compared, too
    schema = json.loads((REPOSITORY / "docs" / "manifest.schema.json").read_text())
    assert schema_fields(schema) == fields
    assert proto_fields(submission_pb2.Manifest.DESCRIPTOR) == fields
