"""The JSON Schema (2020-12) of a manifest, generated from its fields.

The schema allows every manifest that the rules allow. It also allows what it cannot express: dates
in the future, incomplete findings, metrics and findings that the benchmark does not have, and
characters that are not printable.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from enum import StrEnum
from types import NoneType
from typing import Any

from cxreval.manifest.model import CASES, Case, Manifest

ADDRESS = "https://github.com/cxreval/cxreval/docs/manifest.schema.json"

_NOTHING: dict[str, Any] = {"enum": ["", []]}
_SOMETHING: dict[str, Any] = {"minLength": 1, "minItems": 1}


def schema() -> dict[str, Any]:
    """Returns the schema."""
    manifest = _record(Manifest)
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": ADDRESS,
        "title": "cxreval manifest",
    }
    return {**head, **manifest, "allOf": [_case(case) for case in CASES]}


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
        if dataclasses.is_dataclass(named[0]):
            items = _record(typing.cast("type[Any]", named[0]))
        else:
            items = form.schema() if form else {"type": "string"}
        return {"type": "array", "maxItems": field.metadata["most"], "items": items}
    if dataclasses.is_dataclass(kind):
        return _record(typing.cast("type[Any]", kind))
    if issubclass(kind, StrEnum):
        return {"enum": list(kind)}
    # An optional text may also be given as an empty text.
    return {"anyOf": [{"const": ""}, form.schema()]} if optional else dict(form.schema())


def _case(case: Case) -> dict[str, Any]:
    then: dict[str, Any] = dict.fromkeys(case.forbidden, _NOTHING)
    then |= dict.fromkeys(case.required, _SOMETHING)
    then |= {field: {"enum": ["", *values]} for field, values in case.only.items()}
    return {
        "if": {
            "properties": {field: {"enum": list(values)} for field, values in case.when.items()},
            "required": list(case.when),
        },
        "then": {"properties": then, "required": list(case.required)},
    }
