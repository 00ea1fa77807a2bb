"""docs/compatibility.md lists the forms, names, tools and Python versions that the tests run."""

from __future__ import annotations

import re

import pytest

from cxreval.cli.board_output import CLAIMS_RULE
from cxreval.errors import MalformedField
from cxreval.fields import read_time, split_host_port
from services.chassis import reflection
from tests.conftest import REPOSITORY
from tests.extended.test_installation import PYTHONS
from tests.unit.test_joiners import ALLOWED, REFUSED

PAGE = (REPOSITORY / "docs" / "compatibility.md").read_text(encoding="utf-8")


def rows(section: str) -> list[list[str]]:
    """Returns the cells of the table in a section, without its header."""
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) > 2, section
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def read_as_time(text: str) -> object:
    return read_time("--as-of", text)


@pytest.mark.parametrize(
    ("section", "read"), [("Times", read_as_time), ("Addresses", split_host_port)]
)
def test_each_form_is_read_or_refused_as_the_page_says(section: str, read) -> None:
    for form, example, outcome in rows(section):
        if outcome.startswith("read"):
            assert read(example.strip("`")), form
        else:
            assert outcome == "refused"
            with pytest.raises((MalformedField, ValueError)):
                read(example.strip("`"))


def test_the_kinds_of_names_are_those_of_the_tests() -> None:
    expected = [[kind, "allowed"] for kind in ALLOWED] + [[kind, "refused"] for kind in REFUSED]
    assert rows("Names") == expected


def test_the_versions_of_python_are_those_that_the_wheel_is_installed_on() -> None:
    assert tuple(version for version, _ in rows("Python versions")) == PYTHONS


def test_the_tool_has_the_version_that_is_installed_and_both_protocols_are_named() -> None:
    constraints = (REPOSITORY / "constraints.txt").read_text()
    (pinned,) = re.findall(r"^buf-bin==(\S+)$", constraints, re.MULTILINE)
    assert {tool: version for tool, version, _ in rows("Reflection and tools")}["buf"] == pinned
    assert f"`{reflection.V1}` and `{reflection.V1ALPHA}`" in PAGE


def test_the_page_has_the_rule_of_ties_that_the_board_prints() -> None:
    _, _, rule = CLAIMS_RULE.partition(": ")
    template = REPOSITORY / "services" / "leaderboard" / "templates" / "benchmark.html"
    for text in (PAGE, template.read_text(encoding="utf-8")):
        assert rule.lower() in " ".join(text.split()).lower()
