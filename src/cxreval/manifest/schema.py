"""The JSON Schema (2020-12) of a manifest, generated from its fields.

The schema allows every manifest that the rules allow. It also allows what it cannot express: dates
in the future, metrics and findings that the benchmark does not have, files that do not belong
together, steps that contradict each other, and characters that are not printable.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from enum import StrEnum
from types import NoneType
from typing import Any

from cxreval.manifest.cases import CASES, Case
from cxreval.manifest.model import SHORT_FORMS, Manifest
from cxreval.preprocessing import PRESETS, Preprocessing

ADDRESS = "https://github.com/cxreval/cxreval/docs/manifest.schema.json"

_NOTHING: dict[str, Any] = {"enum": ["", []]}
_SOMETHING: dict[str, Any] = {"minLength": 1, "minItems": 1}
_PREPROCESSING = ["preprocessing", "preprocessing_profile"]


def schema() -> dict[str, Any]:
    """Returns the schema."""
    manifest = _record(Manifest)
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": ADDRESS,
        "title": "cxreval manifest",
    }
    both = {"properties": dict.fromkeys(_PREPROCESSING, _SOMETHING), "required": _PREPROCESSING}
    return {**head, **manifest, "allOf": [*map(_case, CASES), {"not": both}]}


def schema_text() -> str:
    """Returns the schema as the text of docs/manifest.schema.json."""
    return json.dumps(schema(), indent=2) + "\n"


def _record(kind: type[Any]) -> dict[str, Any]:
    fields, hints = dataclasses.fields(kind), typing.get_type_hints(kind)
    return {
        "description": " ".join((kind.__doc__ or "").split("\n\n")[0].split()),
        "type": "object",
        "additionalProperties": False,
        "properties": {
            field.name: {"description": field.metadata["about"], **_value(hints[field.name], field)}
            for field in fields
        },
        "required": [field.name for field in fields if field.default is dataclasses.MISSING],
    }


def _value(hint: Any, field: dataclasses.Field[Any]) -> dict[str, Any]:
    form, optional = field.metadata["form"], field.default is not dataclasses.MISSING
    named = [kind for kind in typing.get_args(hint) if kind is not NoneType]
    kind = named[0] if named and NoneType in typing.get_args(hint) else hint
    if typing.get_origin(kind) is tuple:
        items = _nested(named[0]) if dataclasses.is_dataclass(named[0]) else form.schema()
        several = {"type": "array", "maxItems": field.metadata["most"], "items": items}
        return {"anyOf": [items, several]} if named[0] in (int, float) else several
    if dataclasses.is_dataclass(kind):
        return _nested(kind)
    if issubclass(kind, StrEnum):
        return {"enum": list(kind)}
    # An optional text may also be given as an empty text.
    is_text = kind is str and optional
    return {"anyOf": [{"const": ""}, form.schema()]} if is_text else dict(form.schema())


def _nested(kind: Any) -> dict[str, Any]:
    """Returns the schema of a record in a field, also in its short form."""
    record = _record(kind)
    if kind is Preprocessing:
        return {"anyOf": [{"enum": ["", *PRESETS]}, record]}
    if kind in SHORT_FORMS:
        return {"anyOf": [record["properties"][SHORT_FORMS[kind]], record]}
    return record


def _case(case: Case) -> dict[str, Any]:
    then: dict[str, Any] = dict.fromkeys(case.forbidden, _NOTHING)
    then |= dict.fromkeys(case.required, _SOMETHING)
    # Steps of their own may equal a preset.
    then |= {
        field: {"anyOf": [{"enum": ["", *values]}, {"type": "object"}]}
        for field, values in case.only.items()
    }
    when: dict[str, Any] = {field: {"enum": list(values)} for field, values in case.when.items()}
    when |= {field: {"not": {"enum": list(values)}} for field, values in case.unless.items()}
    one_of = [{"properties": {field: _SOMETHING}, "required": [field]} for field in case.one_of]
    return {
        "if": {"properties": when, "required": list(when)},
        "then": {
            "properties": then,
            "required": list(case.required),
            **({"anyOf": one_of} if one_of else {}),
        },
    }
