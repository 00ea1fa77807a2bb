"""docs/metrics.md defines exactly the metrics of the registry, in the words of the code."""

import re

import pytest

from cxreval.datasets.labels import AGE_BANDS
from cxreval.datasets.table_limits import MAX_ROWS
from cxreval.metrics import report
from cxreval.metrics.registry import METRICS
from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "metrics.md").read_text(encoding="utf-8")
SECTION = re.compile(r"^### `(?P<name>[^`]+)`\n(?P<text>.*?)(?=^##)", re.MULTILINE | re.DOTALL)
FIELD = re.compile(
    r"^- (?P<key>direction|definition|reference): (?P<text>.*?)(?=^- |\n\n)",
    re.MULTILINE | re.DOTALL,
)


def sections():
    return {section["name"]: section["text"] for section in SECTION.finditer(PAGE)}


def test_page_has_exactly_the_metrics_of_the_registry_in_order():
    assert list(sections()) == list(METRICS)


@pytest.mark.parametrize("name", METRICS)
def test_page_defines_a_metric_as_the_code_does(name):
    fields = {
        field["key"]: " ".join(field["text"].split()) for field in FIELD.finditer(sections()[name])
    }
    metric = METRICS[name]
    assert fields == {
        "direction": metric.direction,
        "definition": metric.definition,
        "reference": metric.reference,
    }


def test_page_has_every_reason_for_an_absent_figure_and_every_training_verdict():
    named = set(re.findall(r"^\| `([A-Z_]+)` \|", PAGE, re.MULTILINE))
    assert named == {
        report.ONE_CLASS_ONLY,
        report.NO_LABELS,
        report.FINDING_UNDEFINED,
        report.REPLICATES_UNDEFINED,
        report.NOT_RESAMPLED,
        report.NOT_COVERED,
        report.NOT_CLAIMED,
        report.NOT_RECORDED,
        report.NO_MEMBERS,
        report.NO_OTHERS,
    } | {*report.TrainingVerdict.__members__}


def test_page_has_the_age_bands():
    rows = re.findall(r"^\| `([0-9]*-[0-9]*)` \| (\d+) to (\d+) \|", PAGE, re.MULTILINE)
    assert {band: (int(low), int(high) + 1) for band, low, high in rows} == AGE_BANDS


def test_page_has_the_maximum_number_of_rows():
    assert f"At most {MAX_ROWS // 1_000_000} million rows" in PAGE
