"""The rules of a label table are part of the benchmark: checked, written, sent and digested."""

from dataclasses import fields, replace

import pytest

from cxreval.datasets.benchmark import spec_problem
from cxreval.datasets.benchmark_file import parse_spec, spec_from_fields
from cxreval.datasets.label_rules import LabelPolicy, LabelRules
from cxreval.errors import DatasetInvalid
from cxreval.wire import benchmarks
from services.registry.store.records import spec_json
from tests.support.scoring import describe, small_table

RULES = LabelRules(
    image="Path",
    patient="Path",
    patient_part=3,
    positive=("1", "Y"),
    negative=("0",),
    uncertain_values=("-1",),
    uncertain=LabelPolicy.POSITIVE,
    blank=LabelPolicy.NEGATIVE,
    reader='who "reads"',
    readers="majority",
    sex="Sex",
    age="Alter in Jahren é",
    view="AP/PA",
)
NAMES = LabelRules(image="Path", patient="Patient", names="Labels", separator="|")
OTHERS = {
    "image": "File", "patient": "Patient", "patient_part": 0, "names": "Names",
    "separator": ";", "positive": ("1",), "negative": ("0", "N"), "uncertain_values": ("u",),
    "uncertain": LabelPolicy.IGNORE, "blank": LabelPolicy.IGNORE, "reader": "rad", "readers": "R9",
    "sex": "Gender", "age": "Age", "view": "View",
}  # fmt: skip


@pytest.fixture
def spec(tmp_path):
    labels = small_table(tmp_path, [("00000001_000.png", "Mass")])
    return replace(describe(tmp_path, "small", ["00000001_000.png"], labels), labels=RULES)


@pytest.mark.parametrize("rules", [None, RULES, NAMES])
def test_rules_survive_every_form_of_a_specification(spec, rules):
    stated = replace(spec, labels=rules, slices=() if rules is NAMES else spec.slices)
    assert spec_problem(stated) is None
    assert parse_spec(stated.to_toml(), "benchmark.toml") == stated
    assert benchmarks.spec(benchmarks.spec_message(stated)) == stated
    assert spec_from_fields(spec_json(stated)) == stated
    assert ("labels" in spec_json(stated)) is (rules is not None)


@pytest.mark.parametrize("field", [field.name for field in fields(LabelRules)])
def test_every_rule_is_part_of_the_digest(spec, field):
    changed = replace(spec, labels=replace(RULES, **{field: OTHERS[field]}))
    assert changed.digest != spec.digest != replace(spec, labels=None).digest


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"image": ""}, "image"),
        ({"image": 5}, "image"),
        ({"image": "Sex"}, "image"),
        ({"patient": "x" * 256}, "patient"),
        ({"patient": "a\x1bb"}, "patient"),
        ({"patient_part": -1}, "patient_part"),
        ({"patient_part": True}, "patient_part"),
        ({"patient_part": 101}, "patient_part"),
        ({"separator": "|"}, "separator"),
        ({"names": "Labels"}, "positive"),
        ({"positive": ()}, "positive"),
        ({"negative": ()}, "negative"),
        ({"positive": "1"}, "positive"),
        ({"positive": (1,)}, "positive"),
        ({"positive": ("1", "1.0")}, "positive"),
        ({"positive": ("1", "-1.0")}, "positive"),
        ({"negative": ("y",)}, "positive"),
        ({"negative": ("nan",)}, "negative"),
        ({"negative": (" ",)}, "negative"),
        ({"uncertain_values": ("0.0",)}, "positive"),
        ({"uncertain_values": tuple(map(str, range(2, 60)))}, "uncertain_values"),
        ({"uncertain": "maybe"}, "uncertain"),
        ({"blank": ""}, "blank"),
        ({"reader": ""}, "readers"),
        ({"readers": ""}, "readers"),
        ({"readers": 1}, "readers"),
        ({"sex": ""}, "sex"),
        ({"age": "Sex"}, "image"),
        ({"view": []}, "view"),
    ],
)
def test_a_malformed_rule_is_refused_with_its_field(spec, change, field):
    problem = spec_problem(replace(spec, labels=replace(RULES, **change)))
    assert problem is not None
    assert problem[0] == f"labels.{field}"


@pytest.mark.parametrize("change", [{"uncertain": LabelPolicy.IGNORE}, {"positive": ("1",)},
                                    {"blank": LabelPolicy.POSITIVE}])  # fmt: skip
def test_a_rule_for_cells_contradicts_a_column_of_names(spec, change):
    rules = replace(NAMES, **change)
    problem = spec_problem(replace(spec, labels=rules, slices=()))
    assert problem is not None
    assert problem[0] == f"labels.{next(iter(change))}"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('image = "Path"\n', "", "labels.image is required"),
        ('image = "Path"\n', 'image = "Path"\ncolour = 1\n', "labels.colour is not a field"),
        ('uncertain = "positive"', 'uncertain = "maybe"',
         "labels.uncertain is 'maybe'; expected one of refuse, ignore, positive, negative"),
        ('blank = "negative"', "blank = 1", "labels.blank is '1'"),
        ('positive = ["1", "Y"]', "positive = [[1]]", "labels.positive is '1'"),
        ('positive = ["1", "Y"]', "positive = { a = 1 }", "labels.positive is 'a = 1'"),
        ("patient_part = 3", "patient_part = 1e9", "labels.patient_part is '1000000000.0'"),
    ],
)  # fmt: skip
def test_a_malformed_table_of_rules_is_refused_with_file_and_field(spec, old, new, says):
    text = spec.to_toml()
    assert old in text
    with pytest.raises(DatasetInvalid, match=f"^benchmark.toml: {says}"):
        parse_spec(text.replace(old, new), "benchmark.toml")


@pytest.mark.parametrize("value", ["1", '"a"', "[]", "[{}]", "true", "2017-12-01"])
def test_rules_that_are_no_table_are_refused(spec, value):
    text = replace(spec, labels=None).to_toml()
    with pytest.raises(DatasetInvalid, match=r"^benchmark\.toml: labels is .*; expected a table"):
        parse_spec(f"{text}labels = {value}\n", "benchmark.toml")
