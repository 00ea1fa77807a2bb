"""Writes a manifest as the YAML document that a submitter would hand in."""

from __future__ import annotations

import dataclasses
from enum import Enum
from typing import Any

import yaml

from cxreval.manifest.model import Manifest

_WIDTH = 100


def write_manifest(manifest: Manifest) -> str:
    """Returns a manifest as YAML without the fields that are not given.

    `parse_document` reads the same manifest from it.
    """
    # A preset's name is read into its own field.
    fields = {name.replace("_profile", ""): value for name, value in _plain(manifest).items()}
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=_WIDTH)


def _plain(value: Any) -> Any:
    """Returns a value in the types of YAML: mappings, lists, strings, numbers and booleans."""
    if dataclasses.is_dataclass(value):
        given = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {name: _plain(item) for name, item in given.items() if item not in (None, "", ())}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.value if isinstance(value, Enum) else value
