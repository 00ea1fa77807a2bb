"""Declared preprocessing as a manifest writes it: short forms, presets, mistakes, digests."""

from __future__ import annotations

import json
import random
from datetime import date
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cxreval.api.registry.v1 import submission_pb2 as pb
from cxreval.datasets.benchmark_file import load_spec
from cxreval.errors import CxrevalError
from cxreval.manifest.document import Document, parse_document
from cxreval.manifest.model import Ensemble, Kind, Manifest, SubmittedFile
from cxreval.manifest.template import steps, template
from cxreval.preprocessing import (
    PRESETS,
    Activation,
    Crop,
    CropKind,
    Equalize,
    EqualizeKind,
    Interpolation,
    Layout,
    Library,
    Outputs,
    Preprocessing,
    Resize,
    ResizeTo,
    Square,
    TensorType,
)
from cxreval.wire.codec import Encoder
from services.registry.convert.submissions import checked_manifest
from services.registry.store import records
from tests.support.registry import manifest_message

NIH = load_spec("nih-chestxray14")
TEXT = template(Kind.CHECKPOINT, NIH)
PRESET = "preprocessing: imagenet-224\n"


def read(preprocessing: str, further: str = "") -> Document:
    assert PRESET in TEXT
    text = TEXT.replace(PRESET, f"preprocessing: {preprocessing}\n") + further
    return parse_document(text, "manifest.yaml", date(2026, 11, 30), NIH)


def accepted(preprocessing: str, further: str = "") -> Manifest:
    document = read(preprocessing, further)
    assert document.problems == []
    return document.manifest


def mistakes(preprocessing: str, further: str = "") -> list[tuple[str, str]]:
    """Returns (field without its root, reason) of each problem."""
    return [
        (error.metadata["field"].removeprefix("manifest."), error.reason)
        for error in read(preprocessing, further).problems
    ]


ISSUE = """
  channels: 3                      # 1 or 3
  value_range: [0, 1]
  resize: {to: short-side, size: 256, interpolation: bicubic, antialias: true}
  crop: {kind: center, size: 224}
  equalize: none
  mean: [0.485, 0.456, 0.406]
  std: [0.229, 0.224, 0.225]
  layout: NCHW
  dtype: float32
  tensor: image
outputs: {tensor: probabilities, activation: none}
"""


def test_steps_are_read_as_the_issue_writes_them() -> None:
    manifest = accepted(ISSUE)
    assert manifest.preprocessing == Preprocessing(
        resize=Resize(ResizeTo.SHORT_SIDE, (256,), Interpolation.BICUBIC, antialias=True),
        crop=Crop(CropKind.CENTER, (224,)),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        tensor="image",
    )
    assert manifest.outputs == Outputs("probabilities", Activation.NONE)
    assert manifest.preprocessing_profile == ""


def test_one_field_may_stand_for_its_record_and_a_number_for_a_list() -> None:
    manifest = accepted(
        "{channels: 1, resize: {to: exact, size: 224}, crop: none, equalize: histogram, mean: 0.5,"
        " std: 0.25}",
        "outputs: sigmoid\nfiles: [a.onnx, {name: b.onnx}]\nensemble: mean\n",
    )
    assert manifest.preprocessing == Preprocessing(
        channels=1,
        resize=Resize(ResizeTo.EXACT, (224,)),
        equalize=Equalize(EqualizeKind.HISTOGRAM),
        mean=(0.5,),
        std=(0.25,),
    )
    assert manifest.outputs == Outputs(activation=Activation.SIGMOID)
    assert manifest.files == (SubmittedFile("a.onnx"), SubmittedFile("b.onnx"))
    assert manifest.ensemble is Ensemble.MEAN
    assert accepted("{resize: none}").preprocessing == Preprocessing()


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_same_steps_under_both_names_and_written_out(name: str) -> None:
    by_name = accepted(name)
    text = TEXT.replace(PRESET, f"preprocessing_profile: {name}\n")
    earlier = parse_document(text, "manifest.yaml", date(2026, 11, 30), NIH)
    assert (earlier.manifest, earlier.problems) == (by_name, [])
    assert by_name.declared_preprocessing == PRESETS[name]
    written = accepted("\n" + "\n".join(steps(PRESETS[name])))
    assert written.preprocessing == PRESETS[name]
    assert written.preprocessing.digest == by_name.declared_preprocessing.digest


@pytest.mark.parametrize(
    ("preprocessing", "message"),
    [
        ("xrv-1024", "manifest.preprocessing is 'xrv-1024'; expected one of imagenet-224, "),
        ("null", "manifest.preprocessing is 'null'; expected text"),
        ("", "manifest.preprocessing is required for kind checkpoint: a preset by its name"),
        ("{preset: xrv-224, crop: none}", "expected either `preprocessing: NAME` for a preset"),
        ("raw\npreprocessing_profile: raw", "expected only one of preprocessing and preprocessing"),
        ("{}\npreprocessing_profile: raw", "are both given; expected either a preset or steps"),
        ("[xrv-224]", "manifest.preprocessing is 'a list'; expected fields: channels, "),
        ("{crop: middle}", "crop.kind is 'middle'; expected one of none, center, five, ten"),
        ("{resize: {size: big}}", "resize.size[0] is 'big'; expected a whole number"),
    ],
)
def test_a_wrong_preset_or_step_is_refused_where_it_is_written(
    preprocessing: str, message: str
) -> None:
    (error,) = read(preprocessing).problems
    assert message in error.message
    line = read(preprocessing).line(error.metadata["field"])
    assert TEXT.splitlines()[line - 1] == PRESET.rstrip()


def test_every_mistake_of_the_steps_is_found_at_once_with_its_line() -> None:
    document = read(
        "\n  channels: '3'\n  size: 224\n  value_range: [0, .nan]\n  resize:\n    to: short\n"
        "    size: [-1, 1e400]\n  mean: 1e400\n  std: [0, -1]\n  layout: nchw",
        "outputs: {activation: relu}\nfiles: [../a.onnx, b.onnx]\n",
    )
    start = TEXT[: TEXT.index(PRESET)].count("\n") + 1
    found = [
        (error.metadata["field"].removeprefix("manifest."), document.line(error.metadata["field"]))
        for error in document.problems
    ]
    end = TEXT.count("\n") + 10
    assert found == [
        ("ensemble", document.line("manifest")),
        ("preprocessing.channels", start + 1),
        ("preprocessing.size", start + 2),
        ("preprocessing.value_range[1]", start + 3),
        ("preprocessing.resize.to", start + 5),
        ("preprocessing.resize.size[1]", start + 6),
        ("preprocessing.resize.size[0]", start + 6),
        ("preprocessing.mean[0]", start + 7),
        ("preprocessing.std[0]", start + 8),
        ("preprocessing.std[1]", start + 8),
        ("preprocessing.layout", start + 9),
        ("outputs.activation", end),
        ("files[0].name", end + 1),
    ]


@pytest.mark.parametrize(
    ("steps", "field"),
    [
        ("{channels: 3.0}", "channels"),
        ("{channels: -3}", "channels"),
        ("{channels: 99999999999999999999}", "channels"),
        ("{value_range: [[0, 1]]}", "value_range[0]"),
        ("{value_range: ['0', 1]}", "value_range[0]"),
        ("{value_range: [-.inf, 1]}", "value_range[0]"),
        ("{mean: [0, 0, 0, 0]}", "mean"),
        ("{mean: {red: 0}}", "mean"),
        ("{std: [1e-400]}", "std[0]"),
        ("{resize: {to: exact, size: [224, 224, 224]}}", "resize.size"),
        ("{resize: {to: exact, size: [[224, 224]]}}", "resize.size[0]"),
        ("{resize: {to: exact, size: 1e3}}", "resize.size[0]"),
        ("{resize: [exact, 224]}", "resize"),
        ("{resize: {to: exact, size: 224, antialias: 'true'}}", "resize.antialias"),
        ("{crop: {kind: none, kind: ten}}", "crop.kind"),
        ("{crop: {kind: center, size: 0x20}}", "crop.size[0]"),
        ("{equalize: {kind: clahe, clip: .nan}}", "equalize.clip"),
        ("{equalize: {kind: clahe, tiles: 0}}", "equalize.tiles"),
        ("{tensor: null}", "tensor"),
        ("{dtype: float64}", "dtype"),
    ],
)
def test_a_value_without_the_form_of_its_step_is_refused(steps: str, field: str) -> None:
    assert f"preprocessing.{field}" in [name for name, _ in mistakes(steps)]


@pytest.mark.parametrize("names", [10_000, 65])
def test_too_many_files_are_refused_as_one_mistake(names: int) -> None:
    listed = json.dumps([f"{number}.onnx" for number in range(names)])
    assert mistakes("raw", f"files: {listed}\nensemble: mean\n") == [("files", "MALFORMED_FIELD")]


def test_a_stored_manifest_without_added_fields_is_what_earlier_versions_stored() -> None:
    stored = records.to_json(accepted("raw"))
    assert list(stored)[-3:] == ["claimed_metrics", "submitted_date", "artifact_sha256"]
    assert "preprocessing" not in stored


# --- messages ----------------------------------------------------------------------------------

RAW = Encoder(Preprocessing, pb.Preprocessing)(PRESETS["raw"])


def raw(**changes: Any) -> pb.Preprocessing:
    message = pb.Preprocessing()
    message.CopyFrom(RAW)
    message.MergeFrom(pb.Preprocessing(**changes))
    return message


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        (
            {"preprocessing": pb.Preprocessing()},
            ["channels", "value_range", "square", "resize.to", "resize.interpolation",
             "resize.library", "crop.kind", "equalize.kind", "layout", "dtype"],
        ),
        ({"preprocessing": raw(layout=99)}, ["layout"]),
        ({"preprocessing": raw(resize=pb.Resize(to=99, library=-1))},
         ["resize.to", "resize.library"]),
        ({"preprocessing": raw(equalize=pb.Equalize(clip=float("nan"), tiles=-1))},
         ["equalize.clip", "equalize.tiles"]),
        ({"preprocessing": raw(crop=pb.Crop(size=[-1] * 2))}, ["crop.size[0]", "crop.size[1]"]),
        ({"preprocessing": raw(mean=[0.0] * 1_000_000)}, ["mean"]),
        ({"preprocessing": raw(tensor="\x1b[31m")}, ["tensor"]),
        ({"preprocessing": RAW, "preprocessing_profile": "raw"}, [""]),
        ({"preprocessing": RAW, "outputs": pb.Outputs()}, ["outputs.activation"]),
        ({"preprocessing": RAW, "ensemble": 99}, ["ensemble"]),
        ({"preprocessing": RAW, "ensemble": pb.ENSEMBLE_MEAN,
          "files": [pb.SubmittedFile(name="a.onnx", sha256="0" * 64)] * 50_000}, ["files"]),
        ({"preprocessing": RAW, "files": [pb.SubmittedFile(name="../a.onnx")]},
         ["files[0].name", "files[0].sha256"]),
    ],
)  # fmt: skip
def test_a_message_without_the_form_is_refused_with_every_field(
    changes: dict[str, Any], fields: list[str]
) -> None:
    message = manifest_message(b"model", **{"preprocessing_profile": ""} | changes)
    with pytest.raises(CxrevalError) as caught:
        checked_manifest(message, NIH, date(2026, 11, 30))
    errors = [caught.value, *caught.value.also]
    found = [error.metadata["field"].removeprefix("manifest.") for error in errors]
    steps = [f"preprocessing.{field}".rstrip(".") for field in fields]
    assert sorted(found) in (sorted(fields), sorted(steps))


def test_a_message_has_the_same_digest_as_the_steps_that_it_was_made_of() -> None:
    message = manifest_message(b"model", preprocessing_profile="", preprocessing=RAW)
    manifest = checked_manifest(message, NIH, date(2026, 11, 30))
    assert manifest.preprocessing == PRESETS["raw"]


# --- any pipeline -----------------------------------------------------------------------------

SIDES = st.integers(16, 2048)
SIZES = st.tuples(SIDES) | st.tuples(SIDES, SIDES)
NUMBERS = st.floats(-65535, 65535)
PIPELINES = st.builds(
    Preprocessing,
    channels=st.sampled_from((1, 3)),
    value_range=st.tuples(NUMBERS, NUMBERS),
    square=st.sampled_from(Square),
    resize=st.builds(
        Resize,
        st.sampled_from(ResizeTo),
        SIZES | st.just(()),
        st.sampled_from(Interpolation),
        st.booleans(),
        st.sampled_from(Library),
    ),
    crop=st.builds(Crop, st.sampled_from(CropKind), SIZES | st.just(())),
    equalize=st.builds(
        Equalize,
        st.sampled_from(EqualizeKind),
        st.none() | st.floats(0.1, 100),
        st.none() | st.integers(1, 64),
    ),
    mean=st.lists(NUMBERS, max_size=3).map(tuple),
    std=st.lists(st.floats(1e-6, 65535), max_size=3).map(tuple),
    layout=st.sampled_from(Layout),
    dtype=st.sampled_from(TensorType),
    tensor=st.sampled_from(("", "image", "no", "1.0", "~", "null")),
)


def written(chance: random.Random, record: Any) -> dict[str, Any]:
    """Returns a record as plain values, with its fields in any order; some defaults left out."""
    fields = {}
    for name in chance.sample(names := list(record.__dataclass_fields__), len(names)):
        value = getattr(record, name)
        default = record.__dataclass_fields__[name].default
        if value is None or (value == default and chance.random() < 0.5):
            continue
        if hasattr(value, "__dataclass_fields__"):
            fields[name] = written(chance, value)
        elif isinstance(value, tuple):
            short = len(value) == 1 and chance.random() < 0.5
            fields[name] = value[0] if short else list(value)
        else:
            fields[name] = getattr(value, "value", value)
    return fields


@settings(max_examples=50)
@given(st.integers(0, 2**32), PIPELINES)
def test_a_pipeline_is_read_back_from_yaml_in_any_order_and_style(
    seed: int, pipeline: Preprocessing
) -> None:
    chance = random.Random(seed)
    texts = [
        yaml.safe_dump(
            {"preprocessing": written(chance, pipeline)},
            sort_keys=False,
            default_flow_style=flow,
        )
        for flow in (False, True)
    ]
    texts.append("preprocessing:\n" + "\n".join(steps(pipeline)))
    for text in texts:
        document = parse_document(text, "manifest.yaml", date(2026, 11, 30), None)
        read_back = document.manifest.preprocessing
        assert read_back == pipeline
        assert read_back.canonical == pipeline.canonical
        assert read_back.digest == pipeline.digest


@settings(max_examples=50)
@given(PIPELINES)
def test_a_pipeline_is_the_same_after_the_registry_stored_it(pipeline: Preprocessing) -> None:
    manifest = accepted("raw")
    declared = Manifest(
        **{name: getattr(manifest, name) for name in Manifest.__dataclass_fields__}
        | {"preprocessing_profile": "", "preprocessing": pipeline}
    )
    stored = json.loads(json.dumps(records.to_json(declared)))
    assert records.manifest(stored) == declared
    assert records.manifest(stored).preprocessing.digest == pipeline.digest
