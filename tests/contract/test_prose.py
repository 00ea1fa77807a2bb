"""House style that a program can check: the length of lines."""

import re

import pytest

from tests.conftest import REPOSITORY

MOST = 100
FOLDERS = ("bench", "demo", "deploy", "docs", "protos", "services", "src", "tests")
FILES = [
    *REPOSITORY.glob("*.md"),
    *(
        file
        for folder in FOLDERS
        for pattern in ("*.md", "*.py", "*.proto")
        for file in (REPOSITORY / folder).rglob(pattern)
        if "cxreval/api" not in file.as_posix() and file.name != "grpc_predict_v2.proto"
    ),
]


def prose(text: str) -> str:
    """The text without the code blocks of Markdown, with its line numbers kept."""
    return re.sub(
        r"^```.*?^```", lambda block: "\n" * block[0].count("\n"), text, flags=re.M | re.S
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_lines_have_at_most_100_columns(file):
    text = file.read_text(encoding="utf-8")
    lines = (prose(text) if file.suffix == ".md" else text).splitlines()
    long = [
        number
        for number, line in enumerate(lines, 1)
        if len(line) > MOST and not line.startswith("|") and "https://" not in line
    ]
    assert not long, f"lines of more than {MOST} columns: {long}"
