"""A manifest that is written as YAML is read as the same manifest."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxreval.client import ClaimedMetric, Manifest
from cxreval.manifest.document import parse_document
from cxreval.manifest.text import write_manifest
from cxreval.preprocessing import PRESETS, Crop, CropKind, Equalize, EqualizeKind, Resize, ResizeTo
from tests.support.system import claim, endpoint, manifest, predictions

_OWN_STEPS = replace(
    PRESETS["xrv-224"],
    resize=Resize(to=ResizeTo.EXACT, size=(256, 320)),
    crop=Crop(CropKind.CENTER, (224, 224)),
    equalize=Equalize(EqualizeKind.CLAHE, 2.0, 8),
)
_HARD = ("no", "2025-12-19", "3.10", "null", "=cmd()", "a: b # c", "- x", "&a", "*a", "\N{SNOWMAN}")


def _read(text: str) -> Manifest:
    return parse_document(text, "manifest.yaml", date(2100, 1, 1), None).manifest


@pytest.mark.parametrize(
    "whole",
    [
        manifest(),
        replace(manifest(), preprocessing_profile="", preprocessing=PRESETS["imagenet-224"]),
        replace(manifest(), preprocessing_profile="", preprocessing=_OWN_STEPS),
        replace(manifest(), output_names=("", "Hernia", "")),
        claim(),
        replace(claim(), claimed_metrics=(ClaimedMetric("auroc", 1e-05, "Hernia"),) * 2),
        predictions(),
        endpoint("models.example.org:443"),
    ],
)
def test_every_kind_of_manifest_is_read_as_it_was_written(whole: Manifest) -> None:
    assert _read(write_manifest(whole)) == whole


@given(st.sampled_from(_HARD) | st.text(st.characters(exclude_categories=("C", "Z")), min_size=1))
@settings(max_examples=30)
def test_names_that_look_like_yaml_are_read_as_they_were_written(name: str) -> None:
    named = replace(claim(), model=name, organisation=name)
    assert _read(write_manifest(named)) == named
