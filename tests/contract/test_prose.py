"""Lines of Markdown and protos have at most 100 columns; ruff checks the lines of Python."""

import re

import pytest

from tests.conftest import REPOSITORY

MAX_COLUMNS = 100
FILES = [
    *REPOSITORY.glob("*.md"),
    *REPOSITORY.glob("docs/**/*.md"),
    *REPOSITORY.glob("protos/cxreval/**/*.proto"),
]
CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_lines_have_at_most_100_columns(file):
    """Tables, URLs and code blocks in Markdown are exempt."""
    text = CODE.sub(lambda block: "\n" * block[0].count("\n"), file.read_text(encoding="utf-8"))
    long = [
        number
        for number, line in enumerate(text.splitlines(), start=1)
        if len(line) > MAX_COLUMNS and not line.startswith("|") and "https://" not in line
    ]
    assert not long, f"lines of more than {MAX_COLUMNS} columns: {long}"
