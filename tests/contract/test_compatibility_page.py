"""docs/compatibility.md lists what the code honours, ignores and refuses, and what tests run."""

from __future__ import annotations

import re

import pytest

from services.inference.parameters import HONOURED, IGNORED, REFUSED
from tests.conftest import REPOSITORY
from tests.support.image_kinds import DICOM, IMAGES, Sample
from tests.support.standard_clients import VERSIONS

PAGE = (REPOSITORY / "docs" / "compatibility.md").read_text(encoding="utf-8")
MEANINGS = ("honoured", "ignored", "refused", "read", "applied")


def rows(section: str) -> list[list[str]]:
    """Returns the cells of the table in a section, without its header."""
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    table = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def test_the_clients_are_those_that_the_tests_install() -> None:
    packages = [package.strip("`") for _, package, _ in rows("Clients")]

    assert packages == [*VERSIONS.values()]


def test_the_parameters_are_those_of_the_service() -> None:
    listed = {
        (place, name.strip("`"), re.split(r"\W", text)[0])
        for name, places, text in rows("Parameters")
        for place in places.split(", ")
    }

    expected = {(place, name, "honoured") for place, names in HONOURED.items() for name in names}
    expected |= {(place, name, "ignored") for place, names in IGNORED.items() for name in names}
    expected |= {("anywhere", name, "refused") for name in REFUSED}
    assert listed == expected


@pytest.mark.parametrize(("section", "samples"), [("Images", IMAGES), ("DICOM", DICOM)])
def test_the_kinds_of_images_are_those_that_the_tests_decode(
    section: str, samples: list[Sample]
) -> None:
    listed = [(kind, outcome) for kind, outcome in rows(section)]

    assert sorted(listed) == sorted({(sample.kind, sample.outcome) for sample in samples})
    assert all(outcome in MEANINGS for _, outcome in listed)


def test_the_version_of_onnxruntime_is_the_one_of_the_tables() -> None:
    constraints = (REPOSITORY / "constraints.txt").read_text()
    major, minor = re.findall(r"^onnxruntime==(\d+)\.(\d+)", constraints, re.MULTILINE)[0]

    assert f"onnxruntime\n{major}.{minor}" in PAGE
