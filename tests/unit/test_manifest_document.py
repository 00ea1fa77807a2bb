"""Manifests in YAML: every mistake at once with its field and line; the JSON Schema agrees."""

from __future__ import annotations

import contextlib
import copy
import json
import re
import time
from collections.abc import Iterator
from datetime import date
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cxreval.client import SourceKind, read_manifest
from cxreval.datasets.benchmark_file import load_spec
from cxreval.datasets.nih import FINDINGS
from cxreval.errors import MalformedField
from cxreval.manifest import document
from cxreval.manifest.document import parse_document
from cxreval.manifest.model import ARCHITECTURES, Kind
from cxreval.manifest.schema import schema, schema_text
from cxreval.manifest.template import template
from tests.conftest import REPOSITORY

TODAY = date(2026, 11, 26)
NIH = load_spec("nih-chestxray14")
VALIDATOR = jsonschema.Draft202012Validator(schema())

TEXT = f"""\
kind: checkpoint
format: onnx
model: Model
organisation: no
open_source: true
source_kind: research-paper
contact: somebody@example.org
preprocessing_profile: xrv-224
output_names: {json.dumps(FINDINGS)}
reproduction:
  repository: https://example.org/repository
  commit: 0123456789012345678901234567890123456789
  seed: 7
environment:
  python_version: 3.10
  dependencies:
    - torch==2.13.0
claimed_metrics:
  - metric: auroc
    value: 1
submitted_date: 2025-12-19
"""


def found(text: str) -> list[tuple[str, int, str]]:
    """Returns (field without its root, line, reason) of each problem."""
    read = parse_document(text, "manifest.yaml", TODAY, NIH)
    fields = [(error.metadata["field"], error.reason) for error in read.problems]
    return [
        (field.removeprefix("manifest").lstrip("."), read.line(field), reason)
        for field, reason in fields
    ]


def test_every_field_is_read_as_it_is_written_and_not_as_yaml_would_take_it(tmp_path):
    (tmp_path / "manifest.yaml").write_text(TEXT)
    manifest = read_manifest(tmp_path / "manifest.yaml")
    assert manifest.kind is Kind.CHECKPOINT
    assert manifest.source_kind is SourceKind.RESEARCH_PAPER
    assert manifest.output_names == FINDINGS
    assert manifest.organisation == "no"  # YAML 1.1: False
    assert manifest.submitted_date == "2025-12-19"  # a date
    assert (
        manifest.reproduction.commit == "0123456789012345678901234567890123456789"
    )  # an octal number
    assert manifest.environment.python_version == "3.10"  # 3.1
    assert (manifest.reproduction.seed, manifest.claimed_metrics[0].value) == (7, 1.0)
    assert found(TEXT) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("contact: somebody@example.org\n", "", ("contact", 1, "MISSING_FIELD")),
        ("  seed: 7\n", "", ("reproduction.seed", 10, "MISSING_FIELD")),
        ("seed: 7", f"seed: {2**63}", ("reproduction.seed", 13, "MALFORMED_FIELD")),
        ("seed: 7", 'seed: "7"', ("reproduction.seed", 13, "MALFORMED_FIELD")),
        ("seed: 7", "seed: 0x7", ("reproduction.seed", 13, "MALFORMED_FIELD")),
        ("seed: 7", "seed:", ("reproduction.seed", 13, "MALFORMED_FIELD")),
        ("open_source: true", "open_source: yes", ("open_source", 5, "MALFORMED_FIELD")),
        ("open_source: true\n", "", ("open_source", 1, "MISSING_FIELD")),
        ("research-paper", "hearsay", ("source_kind", 6, "MALFORMED_FIELD")),
        ("kind: checkpoint\n", "", ("kind", 1, "MISSING_FIELD")),
        ("model: Model", "model: null", ("model", 3, "MALFORMED_FIELD")),
        ("model: Model", "model:", ("model", 3, "MISSING_FIELD")),
        ("model: Model", "model: [Model]", ("model", 3, "MALFORMED_FIELD")),
        ("model: Model", "model: Model\nmodel: Other", ("model", 3, "MALFORMED_FIELD")),
        ("- torch==2.13.0", "- {torch: 2.13.0}",
         ("environment.dependencies[0]", 17, "MALFORMED_FIELD")),
        ("  dependencies:\n    - torch==2.13.0", "  dependencies: torch==2.13.0",
         ("environment.dependencies", 16, "MALFORMED_FIELD")),
        ("value: 1\n", "value: .nan\n", ("claimed_metrics[0].value", 20, "MALFORMED_FIELD")),
        ("value: 1\n", "value: 1e999\n", ("claimed_metrics[0].value", 20, "MALFORMED_FIELD")),
        ("2025-12-19", "2025-02-30", ("submitted_date", 21, "MALFORMED_FIELD")),
        ("format: onnx", "format: onnx\n<<: {model: x}", ("<<", 3, "MALFORMED_FIELD")),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(old, new, problem):
    assert old in TEXT
    assert found(TEXT.replace(old, new, 1)) == [problem]


def test_every_mistake_is_found_at_once_whether_of_form_or_of_rule():
    text = TEXT.replace("model: Model", "modle: Model").replace("seed: 7", "seed: seven")
    text = text.replace("0123456789012345678901234567890123456789", "main").replace(
        "xrv-224", "xrv-225"
    )
    text = text.replace("open_source: true", "open_source: on")
    assert found(text) == [
        ("model", 1, "MISSING_FIELD"),
        ("modle", 3, "MALFORMED_FIELD"),
        ("open_source", 5, "MALFORMED_FIELD"),
        ("preprocessing_profile", 8, "UNKNOWN_PROFILE"),
        ("reproduction.commit", 12, "COMMIT_NOT_FROZEN"),
        ("reproduction.seed", 13, "MALFORMED_FIELD"),
    ]


def test_every_mistake_in_one_list_is_found_at_once_and_none_twice():
    claims = "claimed_metrics:\n  - {metric: f1, value: 3}\n"
    claims += "  - {metric: auroc, value: x, finding: Lump}\n"
    claims += "  - {metric: auroc, value: 1}\n  - {metric: auroc, value: 1, finding: [Mass]}\n"
    names = json.dumps(["Atelectasys", None, *FINDINGS[2:]])
    text = TEXT.replace("claimed_metrics:\n  - metric: auroc\n    value: 1\n", claims)
    assert found(text.replace(json.dumps(FINDINGS), names)) == [
        ("output_names[1]", 9, "MALFORMED_FIELD"),
        ("output_names[0]", 9, "UNKNOWN_FINDING"),
        ("claimed_metrics[0].value", 19, "MALFORMED_FIELD"),
        ("claimed_metrics[0].metric", 19, "UNKNOWN_METRIC"),
        ("claimed_metrics[1].value", 20, "MALFORMED_FIELD"),
        ("claimed_metrics[1].finding", 20, "UNKNOWN_FINDING"),
        ("claimed_metrics[3].finding", 22, "MALFORMED_FIELD"),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the file is empty"),
        ("model: *anchor", "anchors and aliases"),
        ("a: &a [x, x]\nb: [*a, *a]", "anchors and aliases"),
        ("model: !!python/object:os.system x", "tags"),
        ("--- {}\n--- {}", "a second document"),
        ("model: [", "line 1"),
        ("model: Model\n\tkind: x", "line 2"),
        ("[" * 5000, "more than 8 levels"),
        ("? [a, b]\n: c", "a key is not a word"),
        ("model: \x00", "a character that YAML does not allow"),
    ],
)
def test_a_file_that_is_no_plain_yaml_is_refused_with_its_line(text, says):
    with pytest.raises(MalformedField, match=says):
        parse_document(text, "manifest.yaml", TODAY, NIH)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "large.yaml").write_bytes(b"#" * (document.MAX_BYTES + 1))
    (tmp_path / "latin.yaml").write_bytes(b"model: Mod\xe8le")
    for name in ("large.yaml", "latin.yaml", "absent.yaml", "."):
        with pytest.raises(
            MalformedField, match=f"{tmp_path}/{name}" if name != "." else str(tmp_path)
        ):
            read_manifest(tmp_path / name)


def test_mistakes_of_form_and_of_rule_take_no_longer_together_than_one_after_the_other():
    """The time was once quadratic in the number of mistakes."""

    def seconds(claims, keys):
        text = (
            "claimed_metrics:\n"
            + "- {metric: x, value: 1}\n" * claims
            + "".join(f"k{key}: 1\n" for key in range(keys))
        )
        start = time.process_time()
        assert parse_document(text, "manifest.yaml", TODAY, NIH).problems
        return time.process_time() - start

    assert seconds(1000, 8000) < 3 * (seconds(1000, 1) + seconds(1, 8000))


# --- the template and the schema ------------------------------------------------------------------


@pytest.mark.parametrize("kind", Kind)
def test_the_template_of_each_kind_is_without_fault_and_so_is_all_that_it_comments_out(kind):
    text = template(kind, NIH)
    assert found(text) == []
    VALIDATOR.validate(yaml.safe_load(text))
    whole = re.sub(r"(?m)^( *)#(?! \S)", r"\1", text)
    whole = re.sub(r"(?m)^( *)#(?! \S)", r"\1", whole)  # nested comments
    whole = whole.replace('architecture: "densenet121"', "").replace('    finding: "Hernia"', "")
    # Steps of your own replace the preset.
    twice = [field for field, _, _ in found(whole)]
    assert twice == ["preprocessing"] * (kind in (Kind.CHECKPOINT, Kind.ENDPOINT))
    whole = whole.replace("preprocessing: imagenet-224\n", "")
    assert set(yaml.safe_load(whole)) > set(yaml.safe_load(text))
    assert found(whole) == []


def test_the_published_schema_is_the_one_that_the_fields_give():
    jsonschema.Draft202012Validator.check_schema(schema())
    published = (REPOSITORY / "docs" / "manifest.schema.json").read_text()
    assert published == schema_text(), "run: cxreval submission schema > docs/manifest.schema.json"


GOOD: dict[str, dict[str, Any]] = {
    "checkpoint": yaml.load(TEXT, yaml.BaseLoader)
    | {"open_source": True, "claimed_metrics": [{"metric": "auroc", "value": 1}]},
    **{
        kind.value: yaml.safe_load(template(kind, NIH))
        for kind in (Kind.ENDPOINT, Kind.PREDICTIONS, Kind.CLAIM)
    },
}
GOOD["checkpoint"]["reproduction"]["seed"] = 7
STEPS = {
    "channels": 3,
    "value_range": [0, 1],
    "resize": {"to": "exact", "size": [256, 256], "library": "opencv"},
    "crop": {"kind": "center", "size": 224},
    "equalize": {"kind": "clahe", "clip": 2.5, "tiles": 8},
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "tensor": "image",
}
GOOD["declared"] = {
    key: value for key, value in GOOD["checkpoint"].items() if key != "preprocessing_profile"
} | {
    "preprocessing": STEPS,
    "outputs": {"tensor": "logits", "activation": "sigmoid"},
    "files": ["a.onnx", {"name": "b.onnx", "sha256": "a" * 64}],
    "ensemble": "mean",
}
GOOD["preset"] = GOOD["declared"] | {"preprocessing": "raw", "outputs": "softmax-positive"}
GOOD["state dict"] = GOOD["checkpoint"] | {
    "format": "pytorch-state-dict",
    "architecture": "resnet50",
    "preprocessing_profile": "imagenet-224",
}


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, item in items:
        if path != ("output_names",) or key < 2:
            yield from _places(item, (*path, key))


PLACES = [(name, path) for name, value in GOOD.items() for path in _places(value)]
TEXTS = st.text("ab1.:/@-=_ \n", max_size=20) | st.sampled_from(
    ["", "main", "a" * 40, "xrv-512", "auroc", "Mass", "host:1", "2025-12", "3.11", "a==1",
     "https://a.b", "a@b.c", "x" * 1001, "claim", "onnx", "endpoint", *ARCHITECTURES]
)  # fmt: skip
VALUES = (
    TEXTS
    | st.integers(-(2**64), 2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
)
VALUES |= (
    st.just([])
    | st.just({})
    | st.lists(TEXTS, max_size=3)
    | st.dictionaries(TEXTS, TEXTS, max_size=3)
)


@given(st.sampled_from(PLACES), VALUES)
def test_errors_name_the_changed_field_or_one_that_depends_on_it(place, value):
    name, path = place
    manifest = mutated(GOOD[name], path, value)
    for field, _, _ in found(json.dumps(manifest)):
        top = field.partition(".")[0].partition("[")[0]
        # Kind, format and architecture determine which other fields are allowed, the files whether
        # there is an ensemble.
        assert (
            top == path[0]
            or path[0] in ("kind", "format", "architecture")
            or (path[0], top) == ("files", "ensemble")
        )


@given(st.sampled_from(PLACES), VALUES)
def test_schema_refuses_nothing_that_the_rules_take_and_all_that_it_can_say(place, value):
    name, path = place
    manifest = mutated(GOOD[name], path, value)
    wrong = found(json.dumps(manifest))
    errors = list(VALIDATOR.iter_errors(manifest))
    if not wrong:
        texts_only = not any(isinstance(item, int | float) and _is_text(path) for item in [value])
        assert not (errors and texts_only), errors
    # A schema accepts 7.0 as an integer.
    elif not errors and not (path[-1] == "seed" and isinstance(value, float)):
        # A schema does not cover dates, complete lists of findings, names of metrics and findings,
        # control characters, steps that contradict each other, and which files an ensemble takes.
        fields = {field.partition("[")[0] for field, _, _ in wrong}
        assert {field for field in fields if not field.startswith("preprocessing.")} <= {
            "submitted_date", "output_names", "claimed_metrics", "source_url",
            "reproduction.repository", "model", "organisation", "contact",
            "reproduction.script", "endpoint.model_name", "files", "ensemble",
        }  # fmt: skip


def _is_text(path: tuple[Any, ...]) -> bool:
    """Whether the field is text, which accepts plain numbers: a schema sees a number there."""
    return path[-1] not in ("open_source", "seed", "value", "tls", "requests_per_second")


@given(st.sampled_from(PLACES))
def test_a_field_that_is_left_out_is_named_where_it_is_needed_by_both(place):
    name, path = place
    manifest = copy.deepcopy(GOOD[name])
    inside = manifest
    for key in path[:-1]:
        inside = inside[key]
    del inside[path[-1]]
    wrong, errors = found(json.dumps(manifest)), list(VALIDATOR.iter_errors(manifest))
    if path[0] not in ("output_names", "files", "ensemble", "preprocessing") and not (
        name == "claim" and path[0] == "claimed_metrics"
    ):
        assert bool(wrong) == bool(errors), (wrong, errors)
    assert not (errors and not wrong)


def mutated(good: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    manifest = copy.deepcopy(good)
    inside = manifest
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = value
    return manifest


@given(st.text(max_size=200) | st.text("&*!{}[]:-?|>\"'#%@` \n\tab", max_size=200))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(MalformedField):
        assert parse_document(text, "manifest.yaml", TODAY, NIH).problems
